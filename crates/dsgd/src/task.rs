//! What a model needs to be trained by a program: options, and how it is loaded.

use dsgd_core::model::Model;
use dsgd_core::params::Params;
use dsgd_core::task::TaskResult;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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

/// A [`Model`] that a program can train: how it is loaded from options. `examples/linear.rs` is a complete
/// program.
pub trait Task: Model + Sized + 'static {
    /// One line about it for `--help`.
    const ABOUT: &'static str = "";

    /// How names of files end that stand for this task on the command line, such as `.py`.
    const FILE_ENDING: Option<&'static str> = None;

    /// The option, with a value `NAME=VALUE`, that takes those which neither this program nor
    /// [`Options`](Task::Options) know: `--hidden 256` is `--set hidden=256` where it is `set`.
    const OTHER_OPTIONS: Option<&'static str> = None;

    /// Options of its own, shown in `--help` under the task's heading and kept in the run under
    /// the names of their fields (so do not rename them, for serde or for clap). Each file that
    /// [`load`](Task::load) or [`init`](Model::init) reads is a [`DataFile`](crate::DataFile), so
    /// that workers elsewhere get a copy; folders do not travel.
    type Options: clap::Args + Serialize + DeserializeOwned + Clone + Send + Sync;

    /// Loads the data and fixes the model's shape. `seed` is the run's.
    fn load(options: &Self::Options, seed: u64) -> TaskResult<Self>;

    /// What its runs are called, where not as the task.
    fn run_name(&self) -> Option<&str> {
        None
    }

    /// Loads it for workers on other machines, from what [`options_elsewhere`](Task::options_elsewhere) has made of the
    /// options.
    fn load_elsewhere(options: &Self::Options, seed: u64) -> TaskResult<Self> {
        Self::load(options, seed)
    }

    /// The options for workers on other machines: these, and what loading has found out that they need, such as
    /// further files.
    fn options_elsewhere(&self, options: &Self::Options) -> TaskResult<Self::Options> {
        Ok(options.clone())
    }

    /// Options of `dsgd train` for which this task knows a better default, as typed on the command
    /// line; whatever the user says wins.
    fn defaults(options: &Self::Options) -> Vec<String> {
        let _ = options;
        Vec::new()
    }

    /// How many workers a host of so many cores and GPUs gets, where nothing is said: one a core.
    fn workers_on(cores: usize, gpus: usize) -> usize {
        let _ = gpus;
        cores
    }

    /// Subcommands that the task adds to the program.
    fn commands() -> Vec<TaskCommand> {
        Vec::new()
    }

    /// Figures that `dsgd eval` shows beside the metrics, such as BLEU: name and value.
    fn report(&self, params: &Params, threads: usize) -> TaskResult<Vec<(String, String)>> {
        let _ = (params, threads);
        Ok(Vec::new())
    }

    /// Lines to print when a run is done, such as the command to try the model with. `checkpoint`
    /// is the file that was saved last.
    fn next_steps(&self, program: &str, checkpoint: &str) -> Vec<String> {
        let _ = (program, checkpoint);
        Vec::new()
    }
}
