//! Everything that can be observed of a run, as one enum.
//!
//! Events are made by the core (what it decided and why) and by the server (what it did).
//! Consumers are functions from an event to their own output: the crate `dsgd-observe`.

use serde::{Deserialize, Deserializer, Serialize};

use crate::codec::Codec;
use crate::metric::{Metric, Units};
use crate::mode::Mode;
use crate::task::{Part, Stats};

/// One line of a run's `events.jsonl`: an event and when it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since the run (or its resumption) started.
    pub at_secs: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// An observer: called with each record in order, on the server's thread, which it must not hold up.
pub type Observer = Box<dyn FnMut(&Record) + Send>;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The server is up; workers are about to join.
    RunStarted {
        /// Seconds since 1970.
        unix_secs: f64,
        /// Registered name of the task.
        task: String,
        /// Number of parameters.
        parameters: usize,
        /// Workers asked for.
        workers: usize,
        /// How gradients become steps.
        mode: Mode,
        /// Number of the last epoch.
        epochs: u32,
        /// The task's own lines about model and data.
        about: Vec<String>,
        /// What it is judged by; checkpoints, the learning rate and `--wait` go by the first one.
        #[serde(default = "metrics_before")]
        metrics: Vec<Metric>,
        /// What its batches count besides examples.
        #[serde(default = "units_before")]
        units: Units,
        /// Steps done before, when this is a resumption.
        resumed_at: Option<u64>,
    },
    /// A worker asks for work for the first time.
    WorkerJoined {
        /// Its number.
        worker: u32,
        /// Its name, such as `local/2`.
        name: String,
    },
    /// A worker is gone.
    WorkerLost {
        /// Its number.
        worker: u32,
        /// Its name.
        name: String,
        /// Why, in words; for a panic its message.
        reason: String,
    },
    /// The first batch of an epoch is about to be given out.
    EpochStarted {
        /// 1-based epoch.
        epoch: u32,
        /// Batches of the epoch.
        batches: usize,
        /// Batches of it that are counted already (after a resumption).
        counted: usize,
    },
    /// The parameters were updated once.
    Step(Step),
    /// A gradient was not applied.
    Refused {
        /// Who pushed it.
        worker: u32,
        /// Of which batch, when it was this worker's.
        batch: Option<usize>,
        /// Why, in words.
        reason: String,
    },
    /// A gradient was not applied because the run's options want it so (`--backup-workers`,
    /// `--max-staleness`): no fault.
    SetAside {
        /// Who pushed it.
        worker: u32,
        /// Of which batch, when it was this worker's.
        batch: Option<usize>,
        /// Why, in words.
        reason: String,
    },
    /// A batch is free to be given to another worker.
    BatchFreed {
        /// Which batch.
        batch: usize,
        /// Why, in words.
        reason: String,
    },
    /// A batch failed again and again and is left out of this epoch.
    BatchLeftOut {
        /// Which batch.
        batch: usize,
        /// Why, in words.
        reason: String,
    },
    /// The training metric is good enough: from now on every worker gets work (`--wait`).
    RampUp {
        /// Training metric of this epoch so far.
        #[serde(alias = "perplexity")]
        value: f64,
    },
    /// How workers work together from now on, or at the end of an epoch what became of that (`--mode auto`).
    Plan {
        /// Steps of the fastest worker between two exchanges.
        steps: usize,
        /// How deltas and parameters travel.
        codec: Codec,
        /// Workers that get work.
        workers: usize,
        /// Batches a second, by those of the fastest worker alone: as predicted.
        predicted: f64,
        /// Share of their time that workers wait for exchanges: as predicted.
        waiting: f64,
        /// The first of the two as it was, at the end of an epoch.
        measured: Option<f64>,
        /// All that in words.
        message: String,
    },
    /// The learning rate is lower from now on.
    RateDecayed {
        /// What it is now.
        learning_rate: f32,
        /// Why, in words.
        reason: String,
    },
    /// All batches of an epoch are counted and its validation is done.
    EpochFinished {
        /// 1-based epoch.
        epoch: u32,
        /// Sums over its training batches.
        train: Stats,
        /// Sums over the validation batches, when there are any.
        validation: Option<Stats>,
        /// Learning rate of its last step.
        learning_rate: f32,
        /// Gradients refused in it.
        refused: u64,
        /// Gradients set aside in it, as the run's options want it.
        #[serde(default)]
        set_aside: u64,
        /// Batches left out of it.
        left_out: u64,
        /// Mean staleness of its steps.
        staleness: f64,
    },
    /// A checkpoint is on disk.
    Saved {
        /// Its file.
        file: String,
        /// Why now.
        reason: String,
        /// Seconds that it took.
        secs: f64,
    },
    /// A host takes part in the run under way.
    HostAdded {
        /// Its name.
        host: String,
        /// Workers that it has room for.
        workers: usize,
    },
    /// A host takes no part any more, because it stands no longer in the run's list.
    HostDropped {
        /// Its name.
        host: String,
    },
    /// A host's worker process wrote a line.
    HostSaid {
        /// The host's name.
        host: String,
        /// The line.
        line: String,
    },
    /// Something that the user may want to know.
    Notice {
        /// In words.
        message: String,
    },
    /// Something that the user should know and that stops nothing.
    Warning {
        /// In words.
        message: String,
    },
    /// The run is over.
    RunFinished {
        /// How, in words.
        outcome: String,
        /// Steps of the parameters in all.
        steps: u64,
    },
}

/// One update of the parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// 1-based epoch.
    pub epoch: u32,
    /// Version of the parameters after the step: number of steps so far.
    pub version: u64,
    /// Batches of this epoch counted so far.
    pub counted: usize,
    /// Batches of this epoch.
    pub batches: usize,
    /// What it is made of: one gradient, or in sync mode several in batch order.
    pub parts: Vec<Contribution>,
    /// Sums over the epoch's batches so far.
    pub epoch_stats: Stats,
    /// Learning rate of the step.
    pub learning_rate: f32,
    /// Versions between pull and push; with several gradients that of the stalest.
    pub staleness: u64,
    /// Norm of the gradient before clipping; in local mode of the mean delta.
    pub grad_norm: f64,
    /// Norm of all parameters, every `--print-every` batches.
    pub param_norm: Option<f64>,
    /// Live workers.
    pub live: usize,
}

/// A gradient that went into a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// Who computed it.
    pub worker: u32,
    /// Of which batches.
    #[serde(alias = "batch", deserialize_with = "one_or_many")]
    pub batches: Vec<usize>,
    /// Which part of each of them.
    #[serde(default, skip_serializing_if = "Part::is_whole")]
    pub part: Part,
    /// Sums over the batches.
    pub stats: Stats,
    /// What it took.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What a gradient took its worker, from one push to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds of computing.
    pub compute_secs: f64,
    /// Seconds in which the parameters arrived; 0 where memory is shared.
    pub pull_secs: f64,
    /// Seconds in which it arrived at the server; 0 where memory is shared.
    pub push_secs: f64,
    /// Seconds of waiting for work, or for the compute slot that two workers share.
    pub wait_secs: f64,
    /// Bytes of tensors that travelled for it, both ways.
    pub bytes: u64,
    /// Whether more was pulled for it than a worker pulls that takes part: parameters from nothing, or what these were short of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub catches_up: bool,
}

/// Batches of a contribution; version 0.1 wrote the number of the only one.
pub fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<usize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(usize),
        Many(Vec<usize>),
    }
    Ok(match Written::deserialize(from)? {
        Written::One(batch) => vec![batch],
        Written::Many(batches) => batches,
    })
}

/// The metric of every run of version 0.1, which did not say.
fn metrics_before() -> Vec<Metric> {
    vec![Metric::perplexity()]
}

/// What a run of version 0.1 counted, if it counted anything.
fn units_before() -> Units {
    ["source tokens", "target tokens"].into()
}

impl Event {
    /// The name that the event has in `events.jsonl`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run_started",
            Self::WorkerJoined { .. } => "worker_joined",
            Self::WorkerLost { .. } => "worker_lost",
            Self::EpochStarted { .. } => "epoch_started",
            Self::Step(_) => "step",
            Self::Refused { .. } => "refused",
            Self::SetAside { .. } => "set_aside",
            Self::BatchFreed { .. } => "batch_freed",
            Self::BatchLeftOut { .. } => "batch_left_out",
            Self::RampUp { .. } => "ramp_up",
            Self::Plan { .. } => "plan",
            Self::RateDecayed { .. } => "rate_decayed",
            Self::EpochFinished { .. } => "epoch_finished",
            Self::Saved { .. } => "saved",
            Self::HostAdded { .. } => "host_added",
            Self::HostDropped { .. } => "host_dropped",
            Self::HostSaid { .. } => "host_said",
            Self::Notice { .. } => "notice",
            Self::Warning { .. } => "warning",
            Self::RunFinished { .. } => "run_finished",
        }
    }
}

impl Step {
    /// Sums over the step's batches.
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        self.parts.iter().for_each(|part| sum.add(&part.stats));
        sum
    }
}
