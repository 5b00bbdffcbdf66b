//! A run read back from its folder: finished, interrupted, or still going on.
//!
//! Its board is put together from `events.jsonl` a line at a time, so a log of any length takes the
//! same memory. A line that is not whole (the run was killed, or is writing it right now) is left
//! out and counted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::board::Board;
use crate::follow::Follow;
use dsgd_core::event::Record;
use dsgd_engine::Error;
use dsgd_engine::run::{CONFIG, EVENTS};

/// A log without an end that nobody has written to for so long is that of a run that was killed.
const STILL: Duration = Duration::from_secs(60);

/// A run as its folder tells it.
#[derive(Clone, Debug)]
pub struct Past {
    /// Its folder.
    pub folder: PathBuf,
    /// What is known of it.
    pub board: Board,
    /// What it is at.
    pub state: PastState,
    /// Lines that were no records.
    pub unread: u64,
}

/// What a run is at, as far as its folder tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PastState {
    /// It has said how it ended.
    Ended(String),
    /// It has not, and its log is fresh.
    Running,
    /// It has not, and its log is not: killed, or its machine went.
    BrokenOff,
}

impl std::fmt::Display for PastState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ended(how) => how,
            Self::Running => "running",
            Self::BrokenOff => "broken off",
        })
    }
}

impl Past {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// When it is no run's, or has no events.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let file = folder.join(EVENTS);
        if !file.is_file() {
            let folder = folder.display();
            return Err(Error::Options(format!(
                "{folder} is not a run: it has no {EVENTS}; give the folder of a run, such as runs/words-1"
            )));
        }
        let mut board = Board::default();
        let unread = replay(&file, |record| board.see(record)).map_err(|source| Error::File {
            what: "cannot read",
            path: file.clone(),
            cause: source,
            hint: "look at its rights, or copy the run to where you may read it",
        })?;
        if board.lives == 0 {
            return Err(Error::Options(format!(
                "{}: no run has started in it{}",
                file.display(),
                match unread {
                    0 => "; it is empty".to_owned(),
                    lines => format!("; {lines} lines of it are no records"),
                }
            )));
        }
        let state = match &board.outcome {
            Some(outcome) => PastState::Ended(outcome.clone()),
            None if is_fresh(&file) => PastState::Running,
            None => PastState::BrokenOff,
        };
        Ok(Self {
            folder: folder.to_owned(),
            board,
            state,
            unread,
        })
    }

    /// The name of its folder.
    pub fn name(&self) -> String {
        name(&self.folder)
    }
}

/// Whether that is the folder of a run.
pub fn is_run(folder: &Path) -> bool {
    folder.join(CONFIG).is_file() || folder.join(EVENTS).is_file()
}

/// The last part of a folder's path, also of `.` and `runs/..`.
pub fn name(folder: &Path) -> String {
    let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let last = whole.file_name().unwrap_or(whole.as_os_str());
    last.to_string_lossy().into_owned()
}

/// Shows every record of a file in order; returns how many lines are none.
fn replay(file: &Path, mut see: impl FnMut(&Record)) -> io::Result<u64> {
    let mut follow = Follow::new(file);
    while follow.next(|record| see(&record))? {}
    Ok(follow.broken)
}

fn is_fresh(file: &Path) -> bool {
    let written = fs::metadata(file).and_then(|file| file.modified());
    let age = written.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    age.is_ok_and(|age| age < STILL)
}
