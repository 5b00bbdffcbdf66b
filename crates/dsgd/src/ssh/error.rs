//! What can go wrong between here and a host, each in words that end with what to do.
//!
//! ssh has one exit status for everything, so what happened is read from what it said.

use std::path::{Path, PathBuf};

/// Why something did not work out on a host.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The words of each variant say what its fields are.
pub enum SshError {
    #[error("there is no ssh on this machine: install the OpenSSH client (openssh-client)")]
    NoClient,
    #[error(
        "{host}: the name {name} does not resolve: correct it in the host list, or give it a HostName in ~/.ssh/config"
    )]
    Resolve { host: String, name: String },
    #[error(
        "{host}: no way there ({said}): is the machine on, its address right, and no firewall between?"
    )]
    Unreachable { host: String, said: String },
    #[error(
        "{host}: no answer for {secs} s while {what}: is the machine overloaded, or something else behind that address?"
    )]
    TimedOut {
        host: String,
        what: &'static str,
        secs: u64,
    },
    #[error(
        "{host}: connection refused: start sshd there (systemctl start ssh), or give the right port"
    )]
    Refused { host: String },
    #[error(
        "{host}: login refused ({said}): let your key in with `dsgd keygen --authorize {host}`, or name another user with --username"
    )]
    Denied { host: String, said: String },
    #[error(
        "{host}: its host key has CHANGED. Either the machine was set up anew, or somebody stands in between. Once you know why, forget the old key with `ssh-keygen -R {name}{file}`"
    )]
    KeyChanged {
        host: String,
        name: String,
        file: String,
    },
    #[error(
        "{host}: its host key is not known, and your ssh configuration lets in known ones only: log in once by hand with `ssh {host}`, or add the key to known_hosts"
    )]
    KeyUnknown { host: String },
    #[error("{host}: the connection was lost ({said})")]
    Lost { host: String, said: String },
    #[error("{host}: ssh failed ({said}): try `ssh {host} true` by hand")]
    Other { host: String, said: String },
    #[error(
        "{host}: the login runs no command there ({said}): give the user a login shell, such as /bin/sh"
    )]
    Shell { host: String, said: String },
    #[error("{host}: {what} failed there: {said}")]
    Command {
        host: String,
        what: &'static str,
        said: String,
    },
    #[error("{host}: what came back from {what} makes no sense: {said}")]
    Answer {
        host: String,
        what: &'static str,
        said: String,
    },
    #[error("{host}: {} are missing in {folder}: free space, or set XDG_CACHE_HOME to another disk at the top of its ~/.bashrc", size(*missing))]
    DiskFull {
        host: String,
        missing: u64,
        folder: String,
    },
    #[error(
        "{host}: nothing went through for {secs} s while sending {file}: look at the network, then try again; it goes on where it stopped"
    )]
    Stalled {
        host: String,
        file: String,
        secs: u64,
    },
    #[error(
        "{host}: {file} did not arrive as it was read: was it changed meanwhile? Otherwise look after that machine's disk and memory"
    )]
    Corrupt { host: String, file: String },
    #[error(
        "{host}: its sshd forwards no Unix sockets ({said}): set `AllowStreamLocalForwarding yes` and `AllowTcpForwarding yes` in its /etc/ssh/sshd_config"
    )]
    Forward { host: String, said: String },
    #[error(
        "{host}: the socket {path} is open to others (mode {mode}): remove StreamLocalBindMask from its /etc/ssh/sshd_config"
    )]
    OpenSocket {
        host: String,
        path: String,
        mode: String,
    },
    #[error(
        "{host} is {arch}: build the program for it with `cargo zigbuild --release --target {arch}-unknown-linux-gnu.2.17`, or pass --binary {arch}=FILE"
    )]
    NoProgram { host: String, arch: String },
    #[error(
        "{host} is {arch}, {file} is for {machine}: build it with `cargo zigbuild --release --target {arch}-unknown-linux-gnu.2.17`, or pass --binary {arch}=FILE"
    )]
    WrongArch {
        host: String,
        arch: String,
        file: String,
        machine: String,
    },
    #[error(
        "{host} has {has}, {file} needs {needs}: build it with `cargo zigbuild --release --target {arch}-unknown-linux-{wanted}`, and pass --binary {arch}=FILE"
    )]
    WrongLibc {
        host: String,
        arch: String,
        has: Box<str>,
        file: Box<str>,
        needs: Box<str>,
        wanted: &'static str,
    },
    #[error("{host} runs {os}: workers need Linux")]
    WrongOs { host: String, os: String },
    #[error("{file} is no program for Linux ({reason}): pass another file to --binary")]
    NotElf { file: String, reason: &'static str },
    #[error("{what} {path}: {source}", path = path.display())]
    Local {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{host}: {count} of our processes run there: end them first with `dsgd hosts stop`")]
    Busy { host: String, count: usize },
    #[error(
        "{host}: it sent a file named {path:?}, which would lie outside the folder: it was not written, and that host is not to be trusted"
    )]
    Escape { host: String, path: String },
}

impl SshError {
    /// Whether it stays so until a person does something about it.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NoClient
            | Self::Resolve { .. }
            | Self::Denied { .. }
            | Self::KeyChanged { .. }
            | Self::KeyUnknown { .. }
            | Self::Shell { .. }
            | Self::DiskFull { .. }
            | Self::Corrupt { .. }
            | Self::Forward { .. }
            | Self::OpenSocket { .. }
            | Self::NoProgram { .. }
            | Self::WrongArch { .. }
            | Self::WrongLibc { .. }
            | Self::WrongOs { .. }
            | Self::NotElf { .. }
            | Self::Local { .. }
            | Self::Escape { .. } => true,
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Refused { .. }
            | Self::Lost { .. }
            | Self::Other { .. }
            | Self::Command { .. }
            | Self::Answer { .. }
            | Self::Stalled { .. }
            | Self::Busy { .. } => false,
        }
    }

    pub(super) fn local(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Local {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// What ssh said when no connection came about, as an error. `known_as` is the host's name in
/// `known_hosts`.
pub(super) fn interpret(host: &str, known_as: &str, log: &str) -> SshError {
    let host = host.to_owned();
    let said = said(log);
    let has = |words: &[&str]| words.iter().any(|word| log.contains(word));
    if let Some((_, rest)) = log.split_once("Could not resolve hostname ") {
        let name = said_line(rest.split(':').next().unwrap_or(&host));
        return SshError::Resolve { host, name };
    }
    if has(&[
        "HOST IDENTIFICATION HAS CHANGED",
        "differs from the key for",
    ]) {
        return SshError::KeyChanged {
            host,
            name: known_as.to_owned(),
            file: offending_file(log),
        };
    }
    if has(&["Host key verification failed", "host key is known for"]) {
        return SshError::KeyUnknown { host };
    }
    if has(&["Permission denied (", "Too many authentication failures"]) {
        return SshError::Denied { host, said };
    }
    if has(&["Connection refused"]) {
        return SshError::Refused { host };
    }
    let unreachable = [
        "timed out",
        "No route to host",
        "Network is unreachable",
        "Host is down",
    ];
    if has(&unreachable) {
        return SshError::Unreachable { host, said };
    }
    if has(&[
        "closed by",
        "reset by peer",
        "Broken pipe",
        "not responding",
    ]) {
        return SshError::Lost { host, said };
    }
    SshError::Other { host, said }
}

/// The `-f FILE` for ssh-keygen, where ssh named a file that is not the usual one.
fn offending_file(log: &str) -> String {
    let Some((_, rest)) = log.split_once("Offending ") else {
        return String::new();
    };
    let line = rest.lines().next().unwrap_or_default();
    let file = line.split_once(" key in ").map(|(_, file)| file);
    let file = file.and_then(|file| file.rsplit_once(':'));
    match file {
        Some((file, _)) if !file.ends_with("/.ssh/known_hosts") => {
            format!(" -f {}", said_line(file))
        }
        _ => String::new(),
    }
}

/// The end of what a stranger said, in one short line that does nothing to a terminal.
pub(super) fn said(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let telling = |line: &&str| !line.is_empty() && !line.starts_with("Warning: Permanently added");
    let lines: Vec<_> = lines.filter(telling).collect();
    let last = lines[lines.len().saturating_sub(2)..].join("; ");
    match said_line(&last) {
        nothing if nothing.is_empty() => "it said nothing".to_owned(),
        said => said,
    }
}

/// A stranger's text, cut, without control characters.
pub(super) fn said_line(text: &str) -> String {
    const MOST: usize = 300;
    let visible = text.chars().filter(|c| !c.is_control());
    visible.take(MOST).collect::<String>().trim().to_owned()
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match value {
        small if small < 9.95 => format!("{small:.1} {}", UNITS[unit]),
        large => format!("{large:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_said_is_told_apart() {
        type Is = fn(&SshError) -> bool;
        let kinds: [(&str, Is); 7] = [
            (
                "ssh: Could not resolve hostname nn: Name or service not known",
                |e| matches!(e, SshError::Resolve { name, .. } if name == "nn"),
            ),
            ("ssh: connect to host h port 22: Connection refused", |e| {
                matches!(e, SshError::Refused { .. })
            }),
            (
                "ssh: connect to host h port 22: Connection timed out",
                |e| matches!(e, SshError::Unreachable { .. }),
            ),
            ("root@h: Permission denied (publickey).", |e| {
                matches!(e, SshError::Denied { .. })
            }),
            (
                "No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.",
                |e| matches!(e, SshError::KeyUnknown { .. }),
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nOffending ED25519 key in /a/k:3\nHost key verification failed.",
                |e| matches!(e, SshError::KeyChanged { file, .. } if file == " -f /a/k"),
            ),
            (
                "kex_exchange_identification: Connection closed by remote host",
                |e| matches!(e, SshError::Lost { .. }),
            ),
        ];
        for (log, is) in kinds {
            let error = interpret("h", "h", log);
            assert!(is(&error), "{log}: {error:?}");
        }
    }

    #[test]
    fn a_strangers_words_do_nothing_to_a_terminal() {
        assert_eq!(said("a\n\u{1b}[2Jevil\u{7}\n"), "a; [2Jevil");
        assert_eq!(said("\n \n"), "it said nothing");
        assert!(said(&"x".repeat(5000)).len() <= 300);
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1_500), "1.5 kB");
        assert_eq!(size(12_000_000), "12 MB");
        assert_eq!(size(999_900_000), "1.0 GB");
    }
}
