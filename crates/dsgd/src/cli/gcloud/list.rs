//! The host list that a group is written to. Its first line says whose it is; a list with
//! another first line is somebody else's and stays as it is.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};

use super::lines::Line;
use super::machines::Machine;
use super::options::{Group, Login};
use dsgd_engine::hosts::Host;

/// What the first line begins with.
const MARK: &str = "# Written by dsgd hosts gcloud";

/// The machines as hosts.
///
/// # Errors
/// Names a machine without an address.
pub(super) fn hosts(machines: &[Machine], login: &Login) -> anyhow::Result<Vec<Host>> {
    if machines.is_empty() {
        bail!("the group has no machine");
    }
    let host = |machine: &Machine| match machine.address(login.internal_ip) {
        Some(address) => Ok(Host {
            user: Some(login.username.clone()),
            name: address.to_string(),
            port: Some(login.ssh_port).filter(|port| *port != 22),
            slots: None,
            python: None,
        }),
        None if login.internal_ip => bail!("{} has no internal address", machine.name),
        None => bail!(
            "{} has no external address; with internal ones only, pass --internal-ip",
            machine.name
        ),
    };
    machines.iter().map(host).collect()
}

/// Whether the group may be written there.
///
/// # Errors
/// If it is somebody else's list.
pub(super) fn check(group: &Group, force: bool) -> anyhow::Result<()> {
    let path = &group.hosts;
    match first_line(path).with_context(|| format!("cannot read {}", path.display()))? {
        Some(first) if !force && first != mark(group) => {
            let whose = match first.strip_prefix(MARK) {
                Some(other) => format!("is the list of another one{other}"),
                None => "is not a list of ours".to_owned(),
            };
            bail!(
                "{} {whose}, and is not written over; pass --hosts FILE for another list, or --force",
                path.display()
            )
        }
        _ => Ok(()),
    }
}

/// Writes the list, whole or not at all.
pub(super) fn write(group: &Group, hosts: &[Host], undo: &Line, force: bool) -> anyhow::Result<()> {
    check(group, force)?;
    let head = format!(
        "{}\n# Delete the machines, and this list, by: {undo}",
        mark(group)
    );
    let lines = hosts.iter().map(Host::to_string);
    let lines: Vec<_> = std::iter::once(head).chain(lines).collect();
    let text = lines.join("\n") + "\n";
    let path = &group.hosts;
    put(path, &text).with_context(|| format!("cannot write {}", path.display()))
}

/// Removes the list if it is this group's: its addresses will be other people's.
pub(super) fn remove(group: &Group) -> anyhow::Result<bool> {
    let path = &group.hosts;
    let ours = first_line(path).ok().flatten() == Some(mark(group));
    if ours {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(ours)
}

fn mark(group: &Group) -> String {
    let project = group.project.as_ref();
    let project = project.map_or(String::new(), |project| format!(" of {project}"));
    format!("{MARK}: group {} in {}{project}", group.name, group.zone)
}

fn first_line(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    // As any file: what the user's umask allows.
    builder.permissions(Permissions::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
