//! The checkpoints of a run: which are kept, which is the best, which one to go on from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fingerprint::{Fingerprint, differences};
use crate::checkpoint::{self, Checkpoint, CheckpointError};
use crate::error::Error;
use crate::store::Contents;
use dsgd_core::core::Progress;
use dsgd_core::metric::Metric;
use dsgd_core::params::{Layout, Params};

/// Writes a checkpoint: the names it is to have, what it holds, where the run stands.
/// Returns the file's name, or in words why there is none.
pub type Saver = Box<dyn FnMut(&SaveRequest<'_>) -> Result<String, String>>;

/// What a [`Saver`] is to save.
pub struct SaveRequest<'a> {
    /// 1-based epoch for the name.
    pub epoch: u32,
    /// Value of the metric for the name.
    pub value: f64,
    /// Whether it is the best so far.
    pub best: bool,
    /// Parameters and optimizer.
    pub contents: Contents<'a>,
    /// Where the core stands.
    pub progress: &'a Progress,
}

/// What a checkpoint of a run records besides tensors.
#[derive(Debug, Serialize, Deserialize)]
struct RunState {
    /// How far the run has come.
    progress: Progress,
    /// File of the checkpoint with the best validation metric so far.
    best: Option<String>,
    /// What its steps were made from.
    #[serde(default, alias = "identity")]
    fingerprint: Fingerprint,
    /// Steps of the worker whose own optimizer the state is (`--mode local`).
    #[serde(default)]
    own_steps: Option<u64>,
}

/// Writes a run's checkpoints and removes those that are not to be kept.
pub struct Retention {
    /// The run's folder.
    pub folder: PathBuf,
    /// Start of the files' names.
    pub prefix: String,
    /// What names them, by its value.
    pub metric: Metric,
    /// How many to keep, besides the best.
    pub keep: usize,
    /// What the weights carry.
    pub metadata: BTreeMap<String, String>,
    /// What its steps are made from.
    pub fingerprint: Fingerprint,
    /// File of the best one so far.
    pub best: Option<String>,
}

impl Retention {
    /// Itself, as whoever decides on saving calls it.
    pub fn into_saver(mut self) -> Saver {
        Box::new(move |request| self.save(request).map_err(|error| error.to_string()))
    }

    /// Writes `PREFIX_epochE_VALUE.safetensors`, without a value that is not finite, and its state, and
    /// returns the path.
    ///
    /// # Errors
    /// When it could not be written; earlier ones are untouched then.
    pub fn save(&mut self, request: &SaveRequest<'_>) -> Result<String, CheckpointError> {
        let stem = self.stem(request);
        let best = if request.best {
            Some(format!("{stem}.safetensors"))
        } else {
            self.best.clone()
        };
        let state = RunState {
            progress: request.progress.clone(),
            best: best.clone(),
            fingerprint: self.fingerprint.clone(),
            own_steps: request.contents.own_steps,
        };
        let checkpoint = Checkpoint {
            version: request.contents.version,
            params: request.contents.params,
            optimizer: &request.contents.state,
            metadata: &self.metadata,
            state: &state,
        };
        let path = checkpoint::save(&self.folder, &stem, &checkpoint)?;
        checkpoint::remove_twins(&self.folder, &path)?;
        self.best = best;
        let best = self.best.as_ref().map(|name| self.folder.join(name));
        checkpoint::prune(&self.folder, &self.prefix, self.keep, best.as_deref())?;
        Ok(path.display().to_string())
    }

    /// The name says how good it is. A checkpoint never takes the name of an earlier one, which
    /// a crash would then leave neither of.
    fn stem(&self, request: &SaveRequest<'_>) -> String {
        let (prefix, epoch) = (&self.prefix, request.epoch);
        if !request.value.is_finite() {
            return format!("{prefix}_epoch{epoch}_step{}", request.contents.version);
        }
        let value = self.metric.number(request.value);
        let stem = format!("{prefix}_epoch{epoch}_{value}");
        if self.folder.join(format!("{stem}.safetensors")).exists() {
            return format!("{stem}_step{}", request.contents.version);
        }
        stem
    }
}

/// A run that can go on.
pub struct Resumed {
    /// Steps of the parameters so far.
    pub version: u64,
    /// Its parameters.
    pub params: Params,
    /// What the optimizer keeps: vectors by name, each in the order of the layout.
    pub optimizer: Vec<(String, Vec<f32>)>,
    /// Steps of the worker whose own optimizer that is, where it is a worker's (`--mode local`).
    pub own_steps: Option<u64>,
    /// How far it has come.
    pub progress: Progress,
    /// File of its best checkpoint.
    pub best: Option<String>,
    /// What was wrong with newer checkpoints.
    pub warnings: Vec<String>,
}

/// Reads the newest checkpoint of a run that is whole.
///
/// # Errors
/// When there is none, it was made from something else than `fingerprint`, or it is of another model.
pub fn resume(
    folder: &Path,
    layout: &Arc<Layout>,
    fingerprint: &Fingerprint,
) -> Result<Resumed, Error> {
    // Before weights are read: other data often make another model, which is the lesser reason.
    let found = checkpoint::list(folder)?.found;
    let then = found.iter().find_map(|found| fingerprint_of(&found.path));
    let differences = differences(&then.unwrap_or_default(), fingerprint);
    if !differences.is_empty() {
        return Err(Error::Options(format!(
            "{} cannot go on from something else than it was made from:\n  {}\nPut that back, or start a new \
             run from its weights, by --train-from {}",
            folder.display(),
            differences.join("\n  "),
            best(folder).unwrap_or_else(|| folder.to_owned()).display()
        )));
    }
    let newest = checkpoint::load_newest::<RunState>(folder, layout)?;
    let warnings = newest.skipped.iter().map(ToString::to_string).collect();
    let Some(resumed) = newest.resumed else {
        let damaged: Vec<_> = newest.skipped.iter().map(ToString::to_string).collect();
        let folder = folder.display();
        return Err(Error::Options(match damaged.first() {
            None => format!(
                "{folder} has no checkpoint: its run ended before the first one; start a new run, \
                 with --config {folder}/{} for the same options",
                super::CONFIG
            ),
            Some(why) => format!("no checkpoint in {folder} can be read: {why}"),
        }));
    };
    Ok(Resumed {
        version: resumed.version,
        params: resumed.weights.params,
        optimizer: resumed.optimizer,
        own_steps: resumed.state.own_steps,
        progress: resumed.state.progress,
        best: resumed.state.best,
        warnings,
    })
}

/// The checkpoint with the best validation metric; the newest where none is known.
pub fn best(folder: &Path) -> Option<PathBuf> {
    let newest = checkpoint::list(folder).ok()?.found.into_iter().next()?;
    let state = checkpoint::load_state::<RunState>(&newest.path).ok();
    let best = state.and_then(|state| state.best);
    let best = best.map(|name| folder.join(name)).filter(|p| p.is_file());
    Some(best.unwrap_or(newest.path))
}

/// What a checkpoint was made from, where that can be read.
pub fn fingerprint_of(weights: &Path) -> Option<Fingerprint> {
    let state = checkpoint::load_state::<RunState>(weights).ok()?;
    Some(state.fingerprint)
}

/// The checkpoint that is meant by a run's folder or a file, and the folder of its run.
///
/// # Errors
/// When there is none.
pub fn find(wanted: &Path) -> Result<(PathBuf, PathBuf), Error> {
    if wanted.is_dir() {
        return match best(wanted) {
            Some(file) => Ok((file, wanted.to_owned())),
            None => Err(Error::Options(format!(
                "{} holds no checkpoint",
                wanted.display()
            ))),
        };
    }
    if !wanted.is_file() {
        return Err(Error::Options(format!(
            "{} does not exist: give a run's folder or a .safetensors file",
            wanted.display()
        )));
    }
    let folder = wanted.parent().unwrap_or(Path::new("."));
    Ok((wanted.to_owned(), folder.to_owned()))
}
