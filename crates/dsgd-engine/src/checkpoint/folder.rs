//! The checkpoints of a run: which there are, which is the newest, which may go.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::error::{self, CheckpointError};
use super::file::{Reader, TEMPORARY};

pub(super) const EXTENSION: &str = "safetensors";
const STATE_EXTENSION: &str = "state.safetensors";

/// A checkpoint that can be resumed, as far as its headers show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Number of steps taken.
    pub version: u64,
    /// The file with its weights.
    pub path: PathBuf,
}

/// The checkpoints of a folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that can be resumed, newest first: by their version, whatever the clock said.
    pub found: Vec<Found>,
    /// Why others, of which not even the header can be read, cannot.
    pub damaged: Vec<CheckpointError>,
}

/// Lists the checkpoints of a folder; one that does not exist has none.
pub fn list(dir: &Path) -> Result<Listing, CheckpointError> {
    let mut listing = Listing::default();
    for state in files(dir)? {
        let Some(path) = weights_path(&state).filter(|path| path.exists()) else {
            continue;
        };
        match Reader::open(&state).and_then(|reader| reader.version()) {
            Ok(version) => listing.found.push(Found { version, path }),
            Err(error) => listing.damaged.push(error),
        }
    }
    let found = &mut listing.found;
    found.sort_by(|a, b| b.version.cmp(&a.version).then_with(|| b.path.cmp(&a.path)));
    Ok(listing)
}

/// Removes the checkpoints whose names begin with `prefix`, but for the newest `keep_last` (at
/// least one) and the one at `keep`, such as the best so far. To be called after a save that went well.
/// What crashes have left of unfinished ones goes too; damaged ones stay to be looked at.
/// Returns the weights removed.
pub fn prune(
    dir: &Path,
    prefix: &str,
    keep_last: usize,
    keep: Option<&Path>,
) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut found = list(dir)?.found;
    found.retain(|found| name(&found.path).starts_with(prefix));
    let kept_name = keep.map(name);
    let old = found.into_iter().skip(keep_last.max(1));
    let old = old.filter(|found| Some(name(&found.path)) != kept_name);
    let mut removed = Vec::new();
    for Found { path, .. } in old {
        // A state without weights is no checkpoint; weights without a state would stay for good.
        remove(&path)?;
        remove(&state_path(&path))?;
        removed.push(path);
    }
    for path in files(dir)? {
        let hidden = name(&path).strip_prefix('.');
        let unfinished = hidden.is_some_and(|n| n.starts_with(prefix) && n.ends_with(TEMPORARY));
        let orphan = name(&path).starts_with(prefix)
            && weights_path(&path).is_some_and(|weights| !weights.exists());
        if unfinished || orphan {
            remove(&path)?;
        }
    }
    Ok(removed)
}

/// Removes other checkpoints of the version that has just been saved: they hold the same weights,
/// and know less of how the run went on. The newest is then the one that was saved last.
pub fn remove_twins(dir: &Path, saved: &Path) -> Result<(), CheckpointError> {
    let found = list(dir)?.found;
    let version = found.iter().find(|f| f.path == saved).map(|f| f.version);
    let twins = found.iter().filter(|f| Some(f.version) == version);
    for twin in twins.filter(|twin| twin.path != saved) {
        remove(&twin.path)?;
        remove(&state_path(&twin.path))?;
    }
    Ok(())
}

/// The newest checkpoint, for an error message: no error of its own.
pub(super) fn newest_path(dir: &Path) -> Option<PathBuf> {
    list(dir).ok()?.found.into_iter().next().map(|f| f.path)
}

/// All that lies in a folder.
fn files(dir: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let paths = |entries: fs::ReadDir| entries.map(|entry| Ok(entry?.path())).collect();
    match fs::read_dir(dir).and_then(paths) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|cause| CheckpointError::Read {
            path: dir.to_path_buf(),
            cause,
        }),
    }
}

/// Where the state lies that belongs to these weights.
pub(super) fn state_path(weights: &Path) -> PathBuf {
    weights.with_extension(STATE_EXTENSION)
}

/// Where the weights lie that belong to this file, if it is a state.
fn weights_path(state: &Path) -> Option<PathBuf> {
    let stem = name(state).strip_suffix(STATE_EXTENSION)?;
    Some(state.with_file_name(format!("{stem}{EXTENSION}")))
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

fn remove(path: &Path) -> Result<(), CheckpointError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(failed(path, cause)),
        _ => Ok(()),
    }
}

fn failed(path: &Path, cause: io::Error) -> CheckpointError {
    let previous = path.parent().and_then(newest_path);
    error::write_failed(path.to_path_buf(), cause, previous)
}
