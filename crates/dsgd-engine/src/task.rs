//! The user's extension point: a model and its data behind one trait.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use dsgd_core::core::Sizes;
use dsgd_core::params::{Gradient, Layout, Params};
use dsgd_core::task::{Batch, BatchSize, Stats, TaskResult, WordRows};

/// [`Task::Options`] of a task that has none.
#[derive(Clone, Copy, Debug, Default, clap::Args, Serialize, Deserialize)]
pub struct NoOptions {}

/// A subcommand that a task adds to the program.
pub struct TaskCommand {
    /// Its name, help and arguments.
    pub command: clap::Command,
    /// What it does. An [`std::io::Error`] of the kind `BrokenPipe` ends the program without a word: whoever
    /// read its output has seen enough.
    pub run: fn(&clap::ArgMatches) -> TaskResult<()>,
}

/// A model with its data: all that dsgd needs to train it.
///
/// The task itself is loaded once a process and shared by its workers; what a worker
/// needs for itself, buffers above all, is its [`Scratch`](Task::Scratch).
/// `examples/linear.rs` is a complete program.
pub trait Task: Sized + Send + Sync + 'static {
    /// One line about it for `--help`.
    const ABOUT: &'static str = "";

    /// Options of its own, shown in `--help` under the task's heading and kept in the run under
    /// the names of their fields (so do not rename them, for serde or for clap). Each file that
    /// [`load`](Task::load) or [`init`](Task::init) reads is a `dsgd::DataFile`, so
    /// that workers elsewhere get a copy; folders do not travel.
    type Options: clap::Args + Serialize + DeserializeOwned + Clone + Send + Sync;

    /// What each worker keeps for itself between batches.
    type Scratch: Send;

    /// Loads the data and fixes the model's shape. `seed` is the run's.
    fn load(options: &Self::Options, seed: u64) -> TaskResult<Self>;

    /// Options of `dsgd train` for which this task knows a better default, as typed on the command
    /// line; whatever the user says wins.
    fn defaults(options: &Self::Options) -> Vec<String> {
        let _ = options;
        Vec::new()
    }

    /// Subcommands that the task adds to the program.
    fn commands() -> Vec<TaskCommand> {
        Vec::new()
    }

    /// The model's tensors.
    fn layout(&self) -> Layout;

    /// Writes the initial values; the same seed gives the same values.
    fn init(&self, seed: u64, params: &mut Params) -> TaskResult<()>;

    /// Number of training batches in an epoch.
    fn batches(&self) -> usize;

    /// Number of validation batches; 0 when there is no validation set.
    fn validation_batches(&self) -> usize {
        0
    }

    /// How large that training batch is, where the task knows it beforehand: a worker's report that
    /// says otherwise is refused. Otherwise reports are held against each other.
    fn batch_size(&self, batch: usize) -> Option<BatchSize> {
        let _ = batch;
        None
    }

    /// As [`batch_size`](Task::batch_size), of a validation batch.
    fn validation_batch_size(&self, batch: usize) -> Option<BatchSize> {
        let _ = batch;
        None
    }

    /// Buffers for one worker that may use that many kernel threads.
    fn scratch(&self, threads: usize) -> Self::Scratch;

    /// Bytes that [`scratch`](Task::scratch) grows to, as far as they are known beforehand: a run that
    /// this machine has not the memory for is refused with figures, instead of being killed.
    fn scratch_bytes(&self, threads: usize) -> u64 {
        let _ = threads;
        0
    }

    /// Adds the gradient of the batch's mean loss per example to `gradient`, which is zero on entry.
    fn gradient(
        &self,
        batch: Batch,
        params: &Params,
        scratch: &mut Self::Scratch,
        gradient: &mut Gradient,
    ) -> TaskResult<Stats>;

    /// Loss of one validation batch, without dropout.
    fn evaluate(
        &self,
        batch: usize,
        params: &Params,
        scratch: &mut Self::Scratch,
    ) -> TaskResult<Stats> {
        let _ = (batch, params, scratch);
        Ok(Stats::default())
    }

    /// Figures that `dsgd eval` shows beside the loss, such as BLEU: name and value.
    fn report(
        &self,
        params: &Params,
        scratch: &mut Self::Scratch,
    ) -> TaskResult<Vec<(String, String)>> {
        let _ = (params, scratch);
        Ok(Vec::new())
    }

    /// Lines to print when a run is done, such as the command to try the model with. `checkpoint`
    /// is the file that was saved last.
    fn next_steps(&self, program: &str, checkpoint: &str) -> Vec<String> {
        let _ = (program, checkpoint);
        Vec::new()
    }

    /// Lines about model and data, printed when a run starts.
    fn describe(&self) -> Vec<String> {
        Vec::new()
    }

    /// What a checkpoint must carry besides tensors to be of use alone, such as vocabularies.
    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Vocabularies by whose words rows of the model are told apart: a checkpoint with other words is
    /// carried over by word (`--train-from`) or refused (`dsgd eval`), not taken as it lies.
    fn word_rows(&self) -> Vec<WordRows> {
        Vec::new()
    }
}

/// What this task knows of its batches beforehand.
pub fn sizes<T: Task>(task: &T) -> Sizes {
    let training = 0..task.batches();
    let validation = 0..task.validation_batches();
    Sizes::new(
        training.map(|batch| task.batch_size(batch)).collect(),
        validation
            .map(|batch| task.validation_batch_size(batch))
            .collect(),
    )
}
