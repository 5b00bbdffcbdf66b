//! What the core needs to know of a run, and of its batches.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::codec::Codec;
use crate::metric::Metric;
use crate::mode::Mode;

/// Whose deltas a step is made of, in local mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// Each as it arrives.
    OnArrival,
    /// Those of all workers, which wait for it.
    Rounds,
    /// One of each compute slot at least; while they wait, the slots' other workers take the next steps.
    Overlapping,
}

/// How many steps of their own workers take in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pacing {
    /// All of them as many.
    Even,
    /// Slower ones fewer.
    ByPace,
    /// As many as pay, by measurement; slower ones fewer.
    Planned,
}

/// What the core needs to know of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Training batches of an epoch.
    pub batches: usize,
    /// Validation batches; may be 0.
    pub validation_batches: usize,
    /// Seed of the batches' order.
    pub seed: u64,
    /// First and last epoch, 1-based.
    pub epochs: (u32, u32),
    /// How gradients become steps.
    pub mode: Mode,
    /// Workers asked for; in sync mode a step has at least a round of each.
    pub workers: usize,
    /// Most batches of a round; at least 1.
    pub round: usize,
    /// Parts of a batch, each of which has a lease of its own; at least 1, and more only in split mode.
    pub parts: usize,
    /// In local mode: whose deltas a step is made of.
    pub merge: Merge,
    /// In local mode: how many steps a worker takes in a round.
    pub pacing: Pacing,
    /// Codecs to choose from where that is planned: the finest first; at least one then.
    pub codecs: Vec<Codec>,
    /// Who computes what matters, because workers keep something from round to round: rounds are dealt out by names.
    pub by_name: bool,
    /// Gradients of a synchronous step that are not waited for.
    pub backup_workers: usize,
    /// Refuse gradients staler than this.
    pub max_staleness: Option<u64>,
    /// Divide the learning rate by 1 + staleness.
    pub staleness_lr: bool,
    /// What the run is judged by.
    pub metric: Metric,
    /// One worker until the training metric is better than this.
    pub wait: Option<f64>,
    /// How long a worker may keep a batch before it is offered to another.
    pub lease: Duration,
    /// How long a worker that gives signs of life may be silent before it is lost.
    pub dead_after: Option<Duration>,
    /// How long to wait for a worker when none is left; none where nobody can come.
    pub give_up_after: Option<Duration>,
    /// Save after every so many epochs; 0 for only at the end.
    pub save_every: u32,
    /// Save when this much time has passed within an epoch.
    pub save_after: Option<Duration>,
}

impl Rules {
    /// One epoch of so many batches without any bound, for so many workers.
    pub fn new(mode: Mode, workers: usize, batches: usize, validation_batches: usize) -> Self {
        Self {
            batches,
            validation_batches,
            seed: 0,
            epochs: (1, 1),
            mode,
            workers,
            round: 1,
            parts: 1,
            merge: Merge::OnArrival,
            pacing: Pacing::Even,
            codecs: Vec::new(),
            by_name: false,
            backup_workers: 0,
            max_staleness: None,
            staleness_lr: false,
            metric: Metric::loss(),
            wait: None,
            lease: Duration::MAX,
            dead_after: None,
            give_up_after: None,
            save_every: 1,
            save_after: None,
        }
    }

    /// Batches of one step, unless more workers than were asked for are there.
    pub fn group(&self) -> usize {
        match self.mode {
            Mode::Split => 1,
            _ if self.in_groups() => self.workers.max(1) * self.round,
            _ => self.round,
        }
    }

    /// Whether a step is made of several leases, which are waited for, and not of each push.
    pub fn in_groups(&self) -> bool {
        match self.mode {
            Mode::Async => false,
            Mode::Sync | Mode::Split => true,
            Mode::Local => self.merge == Merge::Rounds,
        }
    }

    /// The same, where a plan may want it otherwise.
    pub(super) fn begins_groups(&self, plan: Option<Plan>) -> bool {
        self.in_groups() && !plan.is_some_and(|plan| plan.overlaps)
    }

    /// Whether workers go on while what they have pushed waits for others.
    pub(super) fn overlaps(&self) -> bool {
        self.mode == Mode::Local && self.merge == Merge::Overlapping
    }

    /// Steps of an epoch along the schedule of the learning rate; in local mode they are the workers' own.
    pub fn steps_per_epoch(&self) -> u64 {
        match self.mode {
            Mode::Local => self.batches as u64,
            _ => self.batches.div_ceil(self.group()) as u64,
        }
    }
}
