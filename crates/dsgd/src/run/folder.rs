//! The folder of a run, made or found again.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// File in a run's folder with everything that it was started with.
pub const CONFIG: &str = "config.toml";
/// File in a run's folder with its events, a JSON record a line.
pub const EVENTS: &str = "events.jsonl";
/// File in a run's folder with what was said.
pub const LOG: &str = "log.txt";
/// Folder in a run's folder with what its hosts' programs said, a file a host.
pub const HOST_LOGS: &str = "hosts";
/// Folder in a run's folder with its figures for `TensorBoard`.
pub const TENSORBOARD: &str = "tensorboard";
/// File in a run's folder that lets another machine join.
pub const INVITATION: &str = "invitation";
/// File in a run's folder with what its page was served with.
pub const DASHBOARD: &str = "dashboard.json";
/// File in a run's folder with what its server and workers know each other by.
pub const SECRETS: &str = "secrets.json";

/// More runs of one task than this in one folder are somebody's mistake.
const MOST_RUNS: u32 = 100_000;

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder: that one, which must not hold a run, or `runs/TASK-N` with the
    /// first N that is free.
    pub fn create(wanted: Option<&Path>, task: &str) -> Result<Self, Error> {
        let Some(path) = wanted else {
            return Self::create_numbered(Path::new("runs"), task);
        };
        if path.join(CONFIG).exists() {
            return Err(Error::Options(format!(
                "{} holds a run already: go on with it by --resume {}, or pass another --run-dir",
                path.display(),
                path.display()
            )));
        }
        fs::create_dir_all(path).map_err(|e| cannot_create(path, e))?;
        let folder = Self {
            path: path.to_owned(),
        };
        folder.try_writing()?;
        Ok(folder)
    }

    /// The folder of a run that was started before.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = Self {
            path: path.to_owned(),
        };
        let config = folder.file(CONFIG);
        if !config.is_file() {
            return Err(Error::Options(format!(
                "{} is not a run: it has no {CONFIG}",
                path.display()
            )));
        }
        folder.try_writing()?;
        Ok(folder)
    }

    fn create_numbered(parent: &Path, task: &str) -> Result<Self, Error> {
        fs::create_dir_all(parent).map_err(|e| cannot_create(parent, e))?;
        for number in 1..MOST_RUNS {
            let path = parent.join(format!("{task}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(cannot_create(&path, e)),
            }
        }
        Err(Error::Options(format!(
            "{} holds {MOST_RUNS} runs: remove some, or pass --run-dir",
            parent.display()
        )))
    }

    /// A folder that cannot be written is found now, not when the first checkpoint is due.
    fn try_writing(&self) -> Result<(), Error> {
        let probe = self.file(".writable");
        fs::write(&probe, b"")
            .and_then(|()| fs::remove_file(&probe))
            .map_err(|source| Error::File {
                what: "cannot write in",
                path: self.path.clone(),
                source,
                hint: "pass a --run-dir that you may write in",
            })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file whole or not at all.
    pub fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        self.write_with_mode(name, text, 0o666)
    }

    /// Writes a file that only its owner can read.
    pub fn write_secret(&self, name: &str, text: &str) -> Result<(), Error> {
        self.write_with_mode(name, text, 0o600)
    }

    fn write_with_mode(&self, name: &str, text: &str, mode: u32) -> Result<(), Error> {
        let path = self.file(name);
        let temporary = self.file(&format!(".{name}.tmp"));
        // What another left there may have another mode.
        let _ = fs::remove_file(&temporary);
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|source| Error::File {
                what: "cannot write",
                path,
                source,
                hint: "free space, or pass a --run-dir that you may write in",
            })
    }
}

fn cannot_create(path: &Path, source: io::Error) -> Error {
    Error::File {
        what: "cannot create folder",
        path: path.to_owned(),
        source,
        hint: "pass a --run-dir that you may write in",
    }
}
