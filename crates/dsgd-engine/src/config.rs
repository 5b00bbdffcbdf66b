//! One struct for everything about a run that is not the task's own.
//!
//! The same struct is the flags of `dsgd train`, the `[run]` table of a run's
//! `config.toml`, what workers are told and what a checkpoint records. There is one
//! default and one help text for each, here.

mod check;
mod elsewhere;
mod values;

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use serde::{Deserialize, Serialize};

pub use elsewhere::{CLIENT_LIST, Elsewhere, HostOptions, WHERE};
pub use values::positive;
use values::{defaults, finite, mode_or_auto};

use crate::server::ServerStep;
use crate::worker::StepRule;
use dsgd_core::codec::{Codec, Codecs};
use dsgd_core::core::{Merge, Pacing, Rules};
use dsgd_core::mode::Mode;
use dsgd_core::optim::{Hyper, LrSchedule, OptimizerKind, ScheduleOptions};

/// Options of a run.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(default)]
#[command(next_help_heading = "Workers")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag that is typed"
)]
pub struct RunConfig {
    /// Number of workers [default: 4; on hosts: every slot]; 0 for those only who join (--listen)
    #[arg(short = 'n', long, alias = "n-proc", value_name = "N",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=4096))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Kernel threads of each worker; another number rounds otherwise [default: its machine's
    /// cores / workers there, at least 1]
    #[arg(long, value_name = "N",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// How gradients become steps: split (the workers share each batch), async, sync, local (several steps between
    /// exchanges), or auto: on hosts local, as many steps and in which codec by measurement; else split,
    /// where a batch can be cut for as many workers, or async
    #[arg(long, value_name = "MODE", value_parser = mode_or_auto(), default_value = "auto",
          hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: std::option::Option<Mode>,
    /// Whether steps between exchanges, and the codec, are chosen by measurement: settled with the mode
    #[arg(skip)]
    #[serde(skip)]
    pub planned: bool,
    /// split: parts of a batch; another number rounds otherwise [default: one a worker, as far as a batch can be cut]
    #[arg(long, value_name = "P",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4096))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<usize>,
    /// local: steps that each worker takes by itself between two exchanges [default: with --mode auto by measurement, else
    /// 8; fewer in short epochs and for slower workers]
    #[arg(long, value_name = "H",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=65536))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_steps: Option<usize>,
    /// local: a step waits for the deltas of all workers, and with --local-steps the bytes are the same every time; =false
    /// applies each as it arrives
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = true, default_missing_value = "true", hide_possible_values = true)]
    pub together: bool,
    /// local: how many times the workers' mean delta is added [default: 1]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outer_rate: Option<f64>,
    /// async: refuse gradients older than this many versions
    #[arg(long, value_name = "VERSIONS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_staleness: Option<u64>,
    /// async: divide the learning rate by 1 + staleness (Zhang et al. 2016); with adagrad that hurt two workers and helped four
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", hide_possible_values = true,
          hide_default_value = true)]
    pub staleness_lr: bool,
    /// sync: make each step without the K slowest workers (Chen et al. 2016)
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub backup_workers: usize,
    /// Batches that a worker computes from the same parameters, and pushes as one gradient
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=65536))]
    pub round: usize,
    /// One worker until the training metric, such as the loss, is better than this
    #[arg(long, value_name = "VALUE", value_parser = finite, allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<f64>,
    /// Seconds after which a batch is offered to another worker; a round has as many times that as batches
    #[arg(long, value_name = "SECS", default_value_t = 300.0, value_parser = positive)]
    pub lease_timeout: f64,

    #[command(flatten, next_help_heading = "Hosts")]
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub elsewhere: Elsewhere,

    /// Number of the last epoch
    #[arg(
        long,
        alias = "num-epochs",
        value_name = "N",
        default_value_t = 10,
        help_heading = "Training",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub epochs: u32,
    /// Number of the first epoch
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Training",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub start_epoch: u32,
    /// Seed of everything random
    #[arg(
        long,
        value_name = "SEED",
        default_value_t = 3435,
        help_heading = "Training"
    )]
    pub seed: u64,
    /// Start anew from the weights of this checkpoint
    #[arg(long, value_name = "FILE", help_heading = "Training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_from: Option<PathBuf>,

    /// Update rule: sgd, momentum, nesterov, adagrad, adam or adamw
    #[arg(
        long,
        value_enum,
        default_value = "adagrad",
        hide_possible_values = true,
        help_heading = "Optimizer"
    )]
    pub optimizer: OptimizerKind,
    /// Learning rate
    #[arg(
        long,
        alias = "lr",
        value_name = "RATE",
        default_value_t = 0.01,
        help_heading = "Optimizer"
    )]
    pub learning_rate: f32,
    /// How the learning rate goes on: decay, cosine or constant
    #[arg(
        long,
        value_enum,
        default_value = "decay",
        hide_possible_values = true,
        help_heading = "Optimizer"
    )]
    pub lr_schedule: LrSchedule,
    /// decay: factor after each epoch, once the validation metric got worse or --start-decay-at is reached
    #[arg(
        long,
        value_name = "FACTOR",
        default_value_t = 0.5,
        help_heading = "Optimizer"
    )]
    pub lr_decay: f32,
    /// decay: epoch after which the learning rate falls in any case
    #[arg(
        long,
        value_name = "EPOCH",
        default_value_t = 9,
        help_heading = "Optimizer"
    )]
    pub start_decay_at: u32,
    /// Steps over which the learning rate rises from 0
    #[arg(
        long,
        value_name = "STEPS",
        default_value_t = 0,
        help_heading = "Optimizer"
    )]
    pub warmup_steps: u64,
    /// Scale gradients down to this norm; 0 for never
    #[arg(
        long,
        value_name = "NORM",
        default_value_t = 5.0,
        help_heading = "Optimizer"
    )]
    pub max_grad_norm: f32,
    #[command(flatten, next_help_heading = "Optimizer")]
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub hyper: Hyper,

    /// Start of the checkpoints' names [default: the task's name]
    #[arg(
        long,
        alias = "savefile",
        value_name = "NAME",
        help_heading = "Run and checkpoints"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_file: Option<String>,
    /// Save after every N-th epoch; 0 for only at the end
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Run and checkpoints"
    )]
    pub save_every: u32,
    /// Save every so many minutes within an epoch; 0 for never
    #[arg(
        long,
        value_name = "MINUTES",
        default_value_t = 10.0,
        help_heading = "Run and checkpoints"
    )]
    pub save_minutes: f64,
    /// Keep the last N checkpoints, and the best
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Run and checkpoints",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub keep: usize,

    /// Show every N-th batch, at most once a second
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Output",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub print_every: usize,
    /// Write figures for TensorBoard into the run's folder; =false for none
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = true, default_missing_value = "true", hide_possible_values = true,
          help_heading = "Output")]
    pub tensorboard: bool,
}

impl Default for RunConfig {
    /// What `dsgd train` without options means.
    fn default() -> Self {
        defaults()
    }
}

impl RunConfig {
    /// How gradients become steps, once that is [settled](Self::settle).
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or_default()
    }

    /// The rules that follow from these options and the task's sizes.
    pub fn rules(&self, workers: usize, batches: usize, validation_batches: usize) -> Rules {
        let minutes = self.save_minutes;
        Rules {
            seed: self.seed,
            epochs: (self.start_epoch, self.epochs),
            round: match self.mode() {
                // Eight exchanges an epoch at least.
                Mode::Local => self
                    .local_steps
                    .unwrap_or_else(|| (batches / (8 * workers.max(1))).clamp(1, LOCAL_STEPS)),
                _ => self.round,
            },
            pacing: match self.local_steps {
                Some(_) => Pacing::Even,
                None if self.planned && self.together && !self.elsewhere.prefetch => {
                    Pacing::Planned
                }
                None => Pacing::ByPace,
            },
            codecs: match self.elsewhere.codec {
                Some(codec) => vec![codec],
                None => PLANNED.to_vec(),
            },
            parts: self.parts.unwrap_or(1),
            merge: match (self.together, self.elsewhere.prefetch) {
                (true, false) => Merge::Rounds,
                (true, true) => Merge::Overlapping,
                (false, _) => Merge::OnArrival,
            },
            by_name: self.steps_wait_for_all() && self.workers_remember(),
            backup_workers: self.backup_workers,
            max_staleness: self.max_staleness,
            staleness_lr: self.staleness_lr,
            wait: self.wait,
            lease: Duration::from_secs_f64(self.lease_timeout),
            save_every: self.save_every,
            save_after: (minutes > 0.0).then(|| Duration::from_secs_f64(minutes * 60.0)),
            ..Rules::new(self.mode(), workers, batches, validation_batches)
        }
    }

    /// How the learning rate falls in a run under these rules.
    pub fn schedule(&self, rules: &Rules) -> ScheduleOptions {
        ScheduleOptions {
            kind: self.lr_schedule,
            learning_rate: self.learning_rate,
            warmup_steps: self.warmup_steps,
            lr_decay: self.lr_decay,
            start_decay_at: self.start_decay_at,
            total_steps: rules.steps_per_epoch() * u64::from(rules.epochs.1 + 1 - rules.epochs.0),
        }
    }

    /// Whether workers are in other processes.
    pub fn is_elsewhere(&self) -> bool {
        self.elsewhere.uses_ssh() || self.elsewhere.listen.is_some()
    }

    /// Whether a step is made of what several workers have pushed.
    fn steps_wait_for_all(&self) -> bool {
        match self.mode() {
            Mode::Async => false,
            Mode::Local => self.together,
            Mode::Sync | Mode::Split => true,
        }
    }

    /// Whether workers keep something from round to round: their optimizers' state, or what a codec has left out.
    fn workers_remember(&self) -> bool {
        self.mode() == Mode::Local || self.codecs().push != Codec::None
    }

    /// How values travel between the server and workers elsewhere.
    pub fn codecs(&self) -> Codecs {
        let unsaid = if self.planned {
            PLANNED[0]
        } else {
            Codec::None
        };
        let push = self.elsewhere.codec.unwrap_or(unsaid);
        // Where a step is made of every push there are as many differences as pushes, and each worker needs all.
        let pull = if push.has_blocks() && self.mode() == Mode::Async {
            Codec::Bf16
        } else {
            push
        };
        Codecs { push, pull }
    }

    /// How workers take steps by themselves.
    pub fn step_rule(&self) -> StepRule {
        StepRule {
            optimizer: self.optimizer,
            hyper: self.hyper,
            max_grad_norm: self.max_grad_norm,
            overlaps: self.elsewhere.prefetch,
        }
    }

    /// What the server does with what workers push.
    pub fn step_of_the_server(&self) -> ServerStep {
        match self.mode() {
            Mode::Local => ServerStep::Delta {
                outer_rate: self.outer_rate.unwrap_or(1.0) as f32,
            },
            _ => ServerStep::Gradient {
                max_norm: self.max_grad_norm,
            },
        }
    }

    /// Kernel threads of a local worker.
    pub fn threads_of_a_worker(&self) -> usize {
        // With parts their number decides: the bytes do not depend on who computes them.
        let workers = self.parts.or(self.workers).unwrap_or(LOCAL_WORKERS);
        let share = || (cores() / workers.max(1)).max(1);
        self.threads.unwrap_or_else(share)
    }

    /// Threads that make a step: while it is made, a local worker's own are idle, or all workers' where it is made of
    /// what each of them has pushed; with workers elsewhere all of this machine's are.
    pub fn threads_of_the_server(&self) -> usize {
        if self.elsewhere.uses_ssh() || self.workers == Some(0) {
            return cores();
        }
        let workers = match self.mode() {
            Mode::Async => 1,
            Mode::Sync | Mode::Split | Mode::Local => self.workers.unwrap_or(LOCAL_WORKERS),
        };
        (workers * self.threads_of_a_worker()).min(cores().max(self.threads_of_a_worker()))
    }
}

/// Codecs to choose from: the finer one first.
pub const PLANNED: [Codec; 2] = [Codec::Int8, Codec::Int4];

/// Steps between two exchanges, where nothing is said.
const LOCAL_STEPS: usize = 8;

/// Workers where nothing is said and all are of this machine.
pub const LOCAL_WORKERS: usize = 4;

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}
