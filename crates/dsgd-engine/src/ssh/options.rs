//! Options for ssh beyond the user's own configuration, and what that configuration says.
//!
//! `ssh -G` is asked what would hold for a host, because some of our wishes depend on it: a key of
//! ours is tried *after* the user's own (`-i` alone would replace the usual ones), and host keys are
//! checked as strictly as the user wants, but never less than `accept-new`.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::SshError;
use super::stderr::last_words;
use crate::hosts::Host;

/// The key that `dsgd keygen` makes, below the home folder.
const OWN_KEY: &str = ".ssh/dist-sgd-sshkey";

/// How to log in. The user's own ssh configuration holds for everything else.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who logs in where the host list does not say.
    pub username: Option<String>,
    /// Another file instead of `~/.ssh/config`.
    pub config_file: Option<PathBuf>,
    /// A key that is tried after the user's own.
    pub identity: Option<PathBuf>,
}

impl Default for Options {
    /// No wishes, and the key of `dsgd keygen` where there is one.
    fn default() -> Self {
        let own = std::env::home_dir().map(|home| home.join(OWN_KEY));
        Self {
            username: None,
            config_file: None,
            identity: own.filter(|file| file.is_file()),
        }
    }
}

/// What holds for one host.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Effective {
    /// Only known host keys are let in.
    strict: bool,
    identities: Vec<String>,
    /// The host's name in `known_hosts`.
    pub(super) known_as: String,
}

impl Options {
    /// The words that say which host, and with which configuration.
    pub(super) fn destination(&self, host: &Host) -> Vec<String> {
        let mut words = Vec::new();
        let mut option = |name: &str, value: Option<String>| {
            words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        };
        let file = self.config_file.as_ref();
        option("-F", file.map(|file| file.display().to_string()));
        option("-l", host.user.clone().or_else(|| self.username.clone()));
        option("-p", host.port.map(|port| port.to_string()));
        words.extend(["--".to_owned(), host.name.clone()]);
        words
    }

    /// Asks ssh what holds for a host.
    pub(super) async fn effective(&self, host: &Host) -> Result<Effective, SshError> {
        let mut ssh = Command::new("ssh");
        ssh.arg("-G").args(self.destination(host));
        ssh.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = ssh.output().await.map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => SshError::NoClient,
            _ => SshError::local("cannot start", Path::new("ssh"), source),
        })?;
        if !output.status.success() {
            return Err(SshError::Other {
                host: host.name.clone(),
                said: last_words(&String::from_utf8_lossy(&output.stderr)),
            });
        }
        Ok(parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// The words of our wishes.
    pub(super) fn wishes(&self, effective: &Effective) -> Vec<String> {
        let check = if effective.strict {
            "yes"
        } else {
            "accept-new"
        };
        let mut wishes = vec![
            "BatchMode=yes".to_owned(),
            // Also for the greeting and the exchange of keys.
            "ConnectTimeout=10".to_owned(),
            // A cut cable is noticed after three unanswered questions: less than 8 s.
            "ServerAliveInterval=2".to_owned(),
            "ServerAliveCountMax=3".to_owned(),
            "ControlPersist=no".to_owned(),
            // The user's port forwards are for the user's own logins.
            "ClearAllForwardings=yes".to_owned(),
            "PermitLocalCommand=no".to_owned(),
            "LogLevel=INFO".to_owned(),
            format!("StrictHostKeyChecking={check}"),
        ];
        if let Some(own) = &self.identity {
            let own = own.display().to_string();
            let identities = effective.identities.iter().chain([&own]);
            wishes.extend(identities.map(|file| format!("IdentityFile=\"{file}\"")));
        }
        let words = wishes.into_iter().flat_map(|wish| ["-o".to_owned(), wish]);
        words.collect()
    }
}

fn parse(text: &str) -> Effective {
    let mut effective = Effective::default();
    let (mut name, mut port, mut alias) = ("", "22", "");
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("stricthostkeychecking", value)) => {
                effective.strict = matches!(value, "yes" | "true");
            }
            Some(("identityfile", file)) if file != "none" => {
                effective.identities.push(file.to_owned());
            }
            Some(("hostname", value)) => name = value,
            Some(("port", value)) => port = value,
            Some(("hostkeyalias", value)) => alias = value,
            _ => {}
        }
    }
    effective.known_as = match (alias, port) {
        ("", "22") => name.to_owned(),
        ("", port) => format!("'[{name}]:{port}'"),
        (alias, _) => alias.to_owned(),
    };
    effective
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checking(of_user: &str) -> String {
        let text = format!("hostname h\nstricthostkeychecking {of_user}\n");
        let wishes = Options::default().wishes(&parse(&text));
        let check = wishes.iter().find(|w| w.starts_with("Strict")).unwrap();
        check.clone()
    }

    #[test]
    fn host_keys_are_checked_at_least_as_the_user_wants() {
        for yes in ["true", "yes"] {
            assert_eq!(checking(yes), "StrictHostKeyChecking=yes");
        }
        for less in ["ask", "accept-new", "no", "off", "false"] {
            assert_eq!(checking(less), "StrictHostKeyChecking=accept-new");
        }
    }

    #[test]
    fn our_key_is_tried_after_the_users() {
        let options = Options {
            identity: Some("/k".into()),
            ..Options::default()
        };
        let wishes = options.wishes(&parse("identityfile ~/.ssh/id_rsa\nidentityfile none\n"));
        let files = wishes.iter().filter(|w| w.starts_with("IdentityFile"));
        let files: Vec<_> = files.collect();
        assert_eq!(
            files,
            ["IdentityFile=\"~/.ssh/id_rsa\"", "IdentityFile=\"/k\""]
        );
    }

    #[test]
    fn known_hosts_has_names_of_its_own() {
        let known_as = |text| parse(text).known_as;
        assert_eq!(known_as("hostname 10.0.0.1\nport 22\n"), "10.0.0.1");
        assert_eq!(known_as("hostname h\nport 2222\n"), "'[h]:2222'");
        assert_eq!(known_as("hostname h\nport 2222\nhostkeyalias a\n"), "a");
    }
}
