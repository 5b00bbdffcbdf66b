//! What can go wrong between here and a host, each in words that end with what to do.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::size::size;

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
    #[error(
        "{host}: no command gets through: a start-up file of its login shell (~/.bashrc, ~/.zshenv, ~/.tcshrc or config.fish) starts another program; let the file begin with `case $- in *i*) ;; *) return ;; esac`, or start that program from ~/.bash_profile"
    )]
    Startup { host: String },
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
        "{host}: its sshd forwards no Unix sockets ({said}): set `AllowStreamLocalForwarding yes` and `AllowTcpForwarding yes` in its /etc/ssh/sshd_config, and take `restrict` and `no-port-forwarding` away from the key in its ~/.ssh/authorized_keys; or let workers come through a port of this machine: --listen 0.0.0.0:7077"
    )]
    Forward { host: String, said: String },
    #[error(
        "{host}: its sshd lets one login do one thing at a time only: set `MaxSessions 10` in its /etc/ssh/sshd_config"
    )]
    Sessions { host: String },
    #[error(
        "{host}: the cache {folder} cannot be written there ({said}): set XDG_CACHE_HOME to a folder that can, at the top of its ~/.bashrc"
    )]
    NotWritable {
        host: String,
        folder: String,
        said: String,
    },
    #[error(
        "{host}: programs in {folder} cannot be run, its disk is mounted noexec: set XDG_CACHE_HOME to a folder on another disk at the top of its ~/.bashrc"
    )]
    NoExec { host: String, folder: String },
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
            | Self::Startup { .. }
            | Self::DiskFull { .. }
            | Self::Corrupt { .. }
            | Self::Forward { .. }
            | Self::Sessions { .. }
            | Self::NotWritable { .. }
            | Self::NoExec { .. }
            | Self::OpenSocket { .. }
            | Self::NoProgram { .. }
            | Self::WrongArch { .. }
            | Self::WrongLibc { .. }
            | Self::WrongOs { .. }
            | Self::NotElf { .. }
            | Self::Escape { .. } => true,
            // Not for want of descriptors, memory or processes.
            Self::Local { source, .. } => matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ),
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
