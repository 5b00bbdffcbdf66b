//! The folder of a run, made or found again, and held by whoever trains it.
//!
//! Two servers in one folder would mix their checkpoints and events. So a server locks a file in
//! it, which the system undoes however the server ends, and writes there who it is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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
/// Socket in a run's folder for workers of the server's own machine, while there is a port for others.
pub const SOCKET: &str = "socket";
/// File in a run's folder with what its page was served with.
pub const DASHBOARD: &str = "dashboard.json";
/// File in a run's folder with what its server and workers know each other by.
pub const SECRETS: &str = "secrets.json";

/// File in a run's folder with the number of the process that trains it, locked by it.
const HOLDER: &str = "server.pid";

/// A server that was killed holds its lock until the system has cleared up after it.
const CLEARING_UP: Duration = Duration::from_secs(2);

/// More runs of one task than this in one folder are somebody's mistake.
const MOST_RUNS: u32 = 100_000;

/// What is written in the folder of a run before it begins.
const BEFORE_IT_BEGINS: [&str; 2] = [HOLDER, SECRETS];

/// What was made for a run, to be taken away when it does not begin.
#[derive(Debug)]
struct Made {
    /// Folders that were not there: this one and those that it lies in, innermost first.
    folders: Vec<PathBuf>,
    /// Files in it that were not there.
    files: Vec<PathBuf>,
}

/// The folder of a run, which no other process trains as long as this is there.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    made: Arc<Made>,
    begun: Arc<AtomicBool>,
    /// None where the file system knows no locks.
    _held: Option<Arc<File>>,
}

/// The process of this machine that trains the run in this folder now.
pub fn holder(path: &Path) -> Option<u32> {
    let file = path.join(HOLDER);
    let Err(TryLockError::WouldBlock) = File::open(&file).ok()?.try_lock_shared() else {
        return None;
    };
    let text = fs::read_to_string(&file).ok()?;
    let pid = text.split_whitespace().next()?.parse().ok()?;
    // The folder may be shared with a machine where that number is another process's.
    (text == mark_of(pid)).then_some(pid)
}

/// A process as nobody else is: its number, and when it began, as far as the system says.
fn mark_of(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything, begins the third field; the 22nd is meant.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let began = fields.and_then(|fields| fields.split_whitespace().nth(19));
    format!("{pid} {}\n", began.unwrap_or("-"))
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
        let made = create(path)?;
        Self::hold(path, made)
    }

    /// The folder of a run that was started before.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.join(CONFIG).is_file() {
            return Err(Error::Options(format!(
                "{} is not a run: it has no {CONFIG}",
                path.display()
            )));
        }
        Self::hold(path, Vec::new())
    }

    /// A folder that cannot be written, or that another process writes in, is found now, not when
    /// the first checkpoint is due.
    fn hold(path: &Path, folders: Vec<PathBuf>) -> Result<Self, Error> {
        let files = BEFORE_IT_BEGINS.iter().map(|name| path.join(name));
        let files = files.filter(|file| !file.exists()).collect();
        let made = Made { folders, files };
        let held = Self::lock(path).inspect_err(|_| made.take_away())?;
        Ok(Self {
            path: path.to_owned(),
            made: Arc::new(made),
            begun: Arc::default(),
            _held: held.map(Arc::new),
        })
    }

    fn lock(path: &Path) -> Result<Option<File>, Error> {
        let cannot = |source| Error::File {
            what: "cannot write in",
            path: path.to_owned(),
            cause: source,
            hint: "pass a --run-dir that you may write in",
        };
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).write(true);
        let mut file = options.open(path.join(HOLDER)).map_err(cannot)?;
        let started = Instant::now();
        let locked = loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if started.elapsed() < CLEARING_UP => {
                    thread::sleep(Duration::from_millis(20));
                }
                locked => break locked,
            }
        };
        if let Err(TryLockError::WouldBlock) = locked {
            let by = holder(path).map_or("on another machine".to_owned(), |pid| {
                format!("by process {pid}")
            });
            return Err(Error::Options(format!(
                "{} is being trained {by}: wait for its end, or stop it by Ctrl-C",
                path.display()
            )));
        }
        let write = file.set_len(0);
        let mark = mark_of(std::process::id());
        let write = write.and_then(|()| file.write_all(mark.as_bytes()));
        write.map_err(cannot)?;
        Ok(locked.is_ok().then_some(file))
    }

    fn create_numbered(parent: &Path, task: &str) -> Result<Self, Error> {
        let mut made = create(parent)?;
        for number in 1..MOST_RUNS {
            let path = parent.join(format!("{task}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => {
                    made.insert(0, path.clone());
                    return Self::hold(&path, made);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => {
                    remove(&made);
                    return Err(cannot_create(&path, e));
                }
            }
        }
        Err(Error::Options(format!(
            "{} holds {MOST_RUNS} runs: remove some, or pass --run-dir",
            parent.display()
        )))
    }

    /// The run begins, and is what this text says: from now on the folder stays as it is.
    pub fn begin(&self, config: &str) -> Result<(), Error> {
        self.write(CONFIG, config)?;
        self.begun.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Removes what was made for a run, unless it has begun: all else stays as it was.
    pub fn abandon(self) {
        if !self.begun.load(Ordering::Relaxed) {
            self.made.take_away();
        }
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
                cause: source,
                hint: "free space, or pass a --run-dir that you may write in",
            })
    }
}

impl Made {
    /// What cannot be removed is no worse than the error that is about to be told.
    fn take_away(&self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        remove(&self.folders);
    }
}

/// Removes folders, unless somebody has put something in them.
fn remove(folders: &[PathBuf]) {
    for folder in folders {
        let _ = fs::remove_dir(folder);
    }
}

/// Makes the folder and those that it lies in; returns those that were not there, innermost first.
fn create(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let made = path.ancestors().take_while(missing);
    let made: Vec<_> = made.map(Path::to_owned).collect();
    match fs::create_dir_all(path) {
        Ok(()) => Ok(made),
        Err(error) => {
            remove(&made);
            Err(cannot_create(path, error))
        }
    }
}

fn cannot_create(path: &Path, source: io::Error) -> Error {
    Error::File {
        what: "cannot create folder",
        path: path.to_owned(),
        cause: source,
        hint: "pass a --run-dir that you may write in",
    }
}
