//! What a run begins with: initial parameters, a checkpoint's, or those of a run that goes on.

use std::sync::Arc;

use dsgd_core::core::Progress;
use dsgd_core::mode::Mode;
use dsgd_core::model::Model;
use dsgd_core::params::{Layout, Params};

use crate::checkpoint;
use crate::config::RunConfig;
use crate::error::Error;
use crate::own_state::OwnState;
use crate::run::{self, Fingerprint, RunFolder};
use crate::store::{Updater, Versions};

/// What a run begins with.
pub struct Start {
    pub(super) versions: Versions,
    /// What workers' own optimizers keep (`--mode local`).
    pub(super) own_state: Option<OwnState>,
    pub(super) progress: Progress,
    /// File name of the best checkpoint so far.
    pub(super) best: Option<String>,
    pub(super) resumed: bool,
    /// Whether these are the model's initial parameters, and nothing else.
    pub(super) initial: bool,
    /// What is to be said of the weights.
    pub(super) notes: Vec<String>,
}

impl Start {
    /// Initial parameters, or those of `--train-from`.
    ///
    /// # Errors
    /// When the model cannot make them, or the checkpoint is another model's.
    pub fn new(name: &str, model: &dyn Model, config: &RunConfig) -> Result<Self, Error> {
        let updater = updater(model, config);
        let (params, notes) = weights(name, model, config)?;
        Ok(Self {
            versions: Versions::new(updater, params),
            own_state: None,
            progress: Progress::start(config.start_epoch),
            best: None,
            resumed: false,
            initial: config.train_from.is_none(),
            notes,
        })
    }

    /// The newest checkpoint of a run that is whole; and what was wrong with newer ones.
    ///
    /// # Errors
    /// When there is none, the run is finished, it was made from something else than `fingerprint`, or it is of another model or
    /// optimizer.
    pub fn resume(
        folder: &RunFolder,
        model: &dyn Model,
        config: &RunConfig,
        fingerprint: &Fingerprint,
    ) -> Result<(Self, Vec<String>), Error> {
        let layout = &model.manifest().layout;
        let mut last = run::resume(folder.path(), layout, fingerprint)?;
        if last.progress.epoch > config.epochs {
            return Err(Error::Options(format!(
                "{} is finished: all {} epochs are done; pass --epochs with more of them to go on",
                folder.path().display(),
                config.epochs
            )));
        }
        let mut updater = updater(model, config);
        let (mut own_state, mut notes) = (None, Vec::new());
        if config.mode() == Mode::Local {
            updater.restore(last.version, Vec::new())?;
            own_state = own_state_of(config, layout, &mut last)?;
            if own_state.is_none() && !config.step_rule().state_names().is_empty() {
                notes.push(FRESH_STATE.to_owned());
            }
        } else {
            updater.restore(last.version, last.optimizer)?;
        }
        let start = Self {
            versions: Versions::new(updater, last.params),
            own_state,
            progress: last.progress,
            best: last.best,
            resumed: true,
            initial: false,
            notes,
        };
        Ok((start, last.warnings))
    }

    /// Whether a run goes on.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }
}

/// What is to be said of a checkpoint that was made before a worker told its state.
const FRESH_STATE: &str = "--mode local: the checkpoint has no optimizer state: the workers' optimizers begin with a fresh one";

/// What a checkpoint has for the workers' own optimizers: none where it has nothing.
fn own_state_of(
    config: &RunConfig,
    layout: &Arc<Layout>,
    last: &mut run::Resumed,
) -> Result<Option<OwnState>, Error> {
    if last.optimizer.is_empty() {
        return Ok(None);
    }
    // What a checkpoint of another mode holds is one optimizer's, after as many steps.
    let steps = last.own_steps.unwrap_or(last.version);
    let mut updater = Updater::new(config.optimizer, config.hyper, Arc::clone(layout));
    updater.restore(steps, std::mem::take(&mut last.optimizer))?;
    Ok(Some(OwnState::of(&updater)))
}

fn updater(model: &dyn Model, config: &RunConfig) -> Updater {
    let layout = Arc::clone(&model.manifest().layout);
    let updater = match config.mode() {
        // What it adds are deltas; optimizers are the workers' own.
        Mode::Local => Updater::of_deltas(layout),
        _ => Updater::new(config.optimizer, config.hyper, layout),
    };
    updater.with_threads(config.threads_of_the_server())
}

/// The weights that a new run begins with, and what is to be said of them.
fn weights(
    name: &str,
    model: &dyn Model,
    config: &RunConfig,
) -> Result<(Params, Vec<String>), Error> {
    let manifest = model.manifest();
    let words = match &config.train_from {
        Some(file) => checkpoint::compare_words(file, &manifest.metadata, &manifest.word_rows)?,
        None => checkpoint::Compared::default(),
    };
    let unsaid = words.unsaid.iter().map(|name| {
        format!("{name}: the checkpoint does not say its words; rows are taken in their order")
    });
    let carried = words.other.iter().map(checkpoint::OtherWords::carried);
    let said = unsaid.chain(carried).collect();
    if let Some(file) = &config.train_from
        && words.other.is_empty()
    {
        return Ok((
            checkpoint::load_weights(file, &manifest.layout)?.params,
            said,
        ));
    }
    let mut params = Params::zeros(Arc::clone(&manifest.layout));
    let initial = model.init(config.seed, &mut params);
    initial.map_err(|cause| Error::Task {
        task: name.to_owned(),
        cause,
    })?;
    if let Some(file) = &config.train_from {
        checkpoint::carry_over(file, &words.other, &mut params)?;
    }
    Ok((params, said))
}
