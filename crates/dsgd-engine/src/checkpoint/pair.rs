//! A checkpoint's two files, written and read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use tracing::debug;

use super::error::{self, CheckpointError};
use super::file::{CHECKSUM, Contents, Reader, VERSION, publish, sync_folder};
use super::folder::{EXTENSION, list, newest_path, state_path};
use dsgd_core::params::{Layout, Params};

/// Metadata keys of the library's own begin with this; the others are the caller's.
const OWN: &str = "dsgd.";
/// In the state: the checksum of the weights that it belongs to.
const WEIGHTS: &str = "dsgd.weights";
/// In the state: names of the optimizer's vectors, separated by commas.
const OPTIMIZER: &str = "dsgd.slots";
/// In the state: the caller's own, as JSON.
const STATE: &str = "state";

/// What a checkpoint is made of.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint<'a, S> {
    /// Number of steps taken: of two checkpoints the one with more is the newer.
    pub version: u64,
    /// The weights.
    pub params: &'a Params,
    /// The optimizer's vectors, each as long as the parameters.
    pub optimizer: &'a [(&'a str, &'a [f32])],
    /// What the weights must carry to be of use alone, such as vocabularies.
    pub metadata: &'a BTreeMap<String, String>,
    /// What going on needs besides: epoch, counters, seeds, leases, ...
    pub state: &'a S,
}

/// The weights of a checkpoint.
#[derive(Debug)]
pub struct Weights {
    /// Their values.
    pub params: Params,
    /// What they carry besides, without the library's own keys.
    pub metadata: BTreeMap<String, String>,
}

/// A whole checkpoint.
#[derive(Debug)]
pub struct Resumed<S> {
    /// The file with its weights.
    pub path: PathBuf,
    /// Number of steps taken.
    pub version: u64,
    /// The weights and what they carry.
    pub weights: Weights,
    /// The optimizer's vectors by name, each in the order of the layout.
    pub optimizer: Vec<(String, Vec<f32>)>,
    /// The caller's own state.
    pub state: S,
}

/// Writes a checkpoint into `dir` and returns the path of its weights, `DIR/STEM.safetensors`.
///
/// It replaces one of that stem; until both files have their names, a crash then leaves neither,
/// so a run gives each checkpoint a stem of its own and [`prune`](super::prune)s the old ones.
///
/// # Errors
/// `DiskFull`, `Forbidden`, `Write`: nothing has changed in the folder. `NotFinite`: the
/// parameters are not worth keeping. `Encode`: the state has no JSON form.
///
/// # Panics
/// When an optimizer vector's length is not the number of parameters, or `stem` ends in `.state`.
pub fn save<S: Serialize>(
    dir: &Path,
    stem: &str,
    checkpoint: &Checkpoint<'_, S>,
) -> Result<PathBuf, CheckpointError> {
    let taken = Path::new(stem).extension().is_some_and(|e| e == "state");
    assert!(
        !taken,
        "{stem} is where another checkpoint's state would lie"
    );
    let path = dir.join(format!("{stem}.{EXTENSION}"));
    let flat = checkpoint.params.flat();
    let layout = checkpoint.params.layout();
    error::check_finite(&path, layout, flat)?;
    let state = serde_json::to_string(checkpoint.state).map_err(|e| CheckpointError::Encode {
        path: path.clone(),
        reason: e.to_string(),
    })?;

    let version = checkpoint.version.to_string();
    let mut weights = Contents::default();
    for (key, value) in checkpoint.metadata {
        weights.metadata.insert(key.clone(), value.clone());
    }
    weights.metadata.insert(VERSION.into(), version.clone());
    weights.add(layout, "", flat);
    let weights_checksum = weights.seal();

    let names: Vec<&str> = checkpoint.optimizer.iter().map(|(name, _)| *name).collect();
    let mut resume = Contents::default();
    resume.metadata.extend([
        (VERSION.into(), version),
        (WEIGHTS.into(), weights_checksum),
        (OPTIMIZER.into(), names.join(",")),
        (STATE.into(), state),
    ]);
    for (name, values) in checkpoint.optimizer {
        assert_eq!(
            values.len(),
            flat.len(),
            "length of optimizer vector {name}"
        );
        resume.add(layout, &format!("{name}."), values);
    }
    resume.seal();

    let state_path = state_path(&path);
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |cause| error::write_failed(path, cause, newest_path(dir))
    };
    let state_file = resume.write(dir, stem).map_err(failed(&state_path))?;
    let weights_file = weights.write(dir, stem).map_err(failed(&path))?;
    publish(state_file, &state_path).map_err(failed(&state_path))?;
    publish(weights_file, &path).map_err(failed(&path))?;
    sync_folder(dir).map_err(failed(&path))?;
    debug!(path = %path.display(), "a checkpoint is whole");
    Ok(path)
}

/// Reads the weights of a checkpoint, or of any `safetensors` file of the same model.
pub fn load_weights(path: &Path, layout: &Arc<Layout>) -> Result<Weights, CheckpointError> {
    read_weights(Reader::open(path)?, layout)
}

/// What a checkpoint's weights carry besides, without reading them or knowing their layout.
pub fn load_metadata(path: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    let mut metadata = Reader::open(path)?.metadata;
    metadata.retain(|key, _| !key.starts_with(OWN));
    Ok(metadata)
}

/// The caller's own state of a checkpoint, given the path of its weights.
pub fn load_state<S: DeserializeOwned>(path: &Path) -> Result<S, CheckpointError> {
    let path = state_path(path);
    let reader = Reader::open(&path)?;
    serde_json::from_str(reader.text(STATE)?).map_err(|e| CheckpointError::State {
        reason: e.to_string(),
        path,
    })
}

/// Reads a whole checkpoint, given the path of its weights.
pub fn load<S: DeserializeOwned>(
    path: &Path,
    layout: &Arc<Layout>,
) -> Result<Resumed<S>, CheckpointError> {
    let weights = Reader::open(path)?;
    let state_path = state_path(path);
    let mut resume = match Reader::open(&state_path) {
        Err(CheckpointError::Missing { .. }) => {
            return Err(CheckpointError::NoState {
                path: path.to_path_buf(),
                state: state_path,
            });
        }
        other => other?,
    };
    let (of_state, of_weights) = (resume.text(WEIGHTS)?, weights.text(CHECKSUM)?);
    let version = resume.version()?;
    if of_state != of_weights || version != weights.version()? {
        return Err(CheckpointError::Torn {
            weights: path.to_path_buf(),
            state: state_path,
        });
    }
    let weights = read_weights(weights, layout)?;
    let optimizer = read_optimizer(&mut resume, layout)?;
    let state = serde_json::from_str(resume.text(STATE)?).map_err(|e| CheckpointError::State {
        path: state_path,
        reason: e.to_string(),
    })?;
    Ok(Resumed {
        path: path.to_path_buf(),
        version,
        weights,
        optimizer,
        state,
    })
}

fn read_weights(mut reader: Reader, layout: &Arc<Layout>) -> Result<Weights, CheckpointError> {
    reader.expect(layout, &[""])?;
    let mut params = Params::zeros(layout.clone());
    reader.read(layout, "", params.flat_mut())?;
    reader.verify()?;
    error::check_finite(&reader.path, layout, params.flat())?;
    let mut metadata = reader.metadata;
    metadata.retain(|key, _| !key.starts_with(OWN));
    Ok(Weights { params, metadata })
}

fn read_optimizer(
    reader: &mut Reader,
    layout: &Layout,
) -> Result<Vec<(String, Vec<f32>)>, CheckpointError> {
    let names = reader.text(OPTIMIZER)?.split(',').filter(|n| !n.is_empty());
    let names: Vec<String> = names.map(String::from).collect();
    let prefixes: Vec<String> = names.iter().map(|name| format!("{name}.")).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    // Before anything is allocated: every vector is there, once and with its shapes.
    reader.expect(layout, &prefixes)?;
    let mut optimizer = Vec::with_capacity(names.len());
    for (name, prefix) in names.into_iter().zip(prefixes) {
        let mut values = vec![0.0; layout.len()];
        reader.read(layout, prefix, &mut values)?;
        optimizer.push((name, values));
    }
    reader.verify()?;
    Ok(optimizer)
}

/// The newest checkpoint that could be loaded.
#[derive(Debug)]
pub struct Newest<S> {
    /// The checkpoint; `None` when there is none at all.
    pub resumed: Option<Resumed<S>>,
    /// What is wrong with newer ones, and with those whose age cannot be told.
    pub skipped: Vec<CheckpointError>,
}

/// Loads the newest checkpoint that is whole.
///
/// # Errors
/// When the newest whole one is of another model or program: an older one would be too.
pub fn load_newest<S: DeserializeOwned>(
    dir: &Path,
    layout: &Arc<Layout>,
) -> Result<Newest<S>, CheckpointError> {
    let listing = list(dir)?;
    let mut skipped = listing.damaged;
    for found in listing.found {
        match load(&found.path, layout) {
            Ok(resumed) => {
                return Ok(Newest {
                    resumed: Some(resumed),
                    skipped,
                });
            }
            Err(error) if error.is_damage() => skipped.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(Newest {
        resumed: None,
        skipped,
    })
}
