//! What a process elsewhere must know to become workers of a run: one line of JSON.
//!
//! It holds the run's secret, so it goes through pipes and files of mode 0600 only, never
//! through a command line or an environment.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::link::Endpoint;
use crate::host_name::host_name;

/// An invitation to a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// The run's mark, the same in all of its processes' arguments.
    pub run: String,
    /// Where the server is, and how to be let in.
    pub endpoint: Endpoint,
    /// A shorter way for processes on the server's own machine.
    pub local: Option<LocalSocket>,
    /// Registered name of the task.
    pub task: String,
    /// The text of the run's `config.toml`.
    pub config: String,
    /// Files that the task's options name.
    pub files: Vec<FileRef>,
    /// Workers of the process; none for the machine's cores.
    pub slots: Option<usize>,
}

/// The server's socket in the file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSocket {
    /// What tells the server's machine, as it runs now, from all others.
    machine: String,
    socket: PathBuf,
}

impl LocalSocket {
    /// This machine's socket at this path; none where machines cannot be told apart.
    pub fn here(socket: PathBuf) -> Option<Self> {
        let machine = machine()?;
        Some(Self { machine, socket })
    }

    /// The address, on the server's machine and nowhere else.
    pub fn address(&self) -> Option<String> {
        let local = machine().as_ref() == Some(&self.machine) && self.socket.exists();
        local.then(|| format!("unix:{}", self.socket.display()))
    }
}

/// The kernel's mark, which it makes anew whenever it starts.
fn machine() -> Option<String> {
    let mark = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(mark.trim().to_owned())
}

/// A file that a worker needs, and those that have to lie beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// What the options call it.
    pub named: PathBuf,
    /// The file.
    pub file: Content,
    /// Those beside it.
    pub beside: Vec<Content>,
}

/// A file and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Where it lies on the server's machine, from the root.
    pub path: PathBuf,
    /// SHA-256 of its contents, in hexadecimal digits.
    pub sha256: String,
}

impl Invitation {
    /// The line.
    ///
    /// # Panics
    /// When a path is not UTF-8.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("plain data becomes JSON")
    }

    /// Reads the line.
    ///
    /// # Errors
    /// When it is no invitation.
    pub fn from_line(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }

    /// The way to the server from this machine: a shorter one where it is the server's own.
    pub fn endpoint_here(&self) -> Endpoint {
        let mut endpoint = self.endpoint.clone();
        if let Some(address) = self.local.as_ref().and_then(LocalSocket::address) {
            endpoint.address = address;
            endpoint.identity = None;
        }
        if endpoint.host.is_empty() {
            endpoint.host = host_name();
        }
        endpoint
    }

    /// Writes it into a file that only its owner can read.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let _ = fs::remove_file(&temporary);
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        writeln!(file, "{}", self.to_line())?;
        fs::rename(&temporary, path)
    }
}
