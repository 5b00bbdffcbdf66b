//! Hosts: what a host list says.

use std::path::Path;

/// A machine that is reached by ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Who logs in there; ssh's own choice without it.
    pub user: Option<String>,
    /// Name, address or alias of the ssh configuration; IPv6 without brackets.
    pub name: String,
    /// The port of its sshd; ssh's own choice without it.
    pub port: Option<u16>,
    /// Room for so many workers.
    pub slots: Option<usize>,
}

/// Why a host list could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HostsError(String);

/// The hosts of a file.
pub fn read_file(path: &Path) -> Result<Vec<Host>, HostsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| HostsError(format!("cannot read {}: {e}", path.display())))?;
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    let lines = lines.map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(parse).collect())
}

/// The hosts of a list on the command line, such as `h1:4,h2`.
pub fn parse_list(text: &str) -> Result<Vec<Host>, HostsError> {
    Ok(text.split(',').map(parse).collect())
}

fn parse(text: &str) -> Host {
    let (user, name) = match text.split_once('@') {
        Some((user, name)) => (Some(user.to_owned()), name),
        None => (None, text),
    };
    let (name, slots) = match name.split_once(':') {
        Some((name, slots)) => (name, slots.parse().ok()),
        None => (name, None),
    };
    Host {
        user,
        name: name.to_owned(),
        port: None,
        slots,
    }
}
