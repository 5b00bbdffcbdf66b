//! A worker's row: what it did, what became of it, and what it spent its time with.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use dsgd_core::event::Contribution;
use dsgd_core::task::Stats;
use dsgd_core::task::UNITS;

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Workers that were lost.
    pub lost: u64,
    /// Gradients that were refused.
    pub refused: u64,
    /// Gradients that were set aside, as the run's options want it.
    pub set_aside: u64,
    /// Batches that were given to another worker.
    pub freed: u64,
    /// Batches that were left out of their epochs.
    pub left_out: u64,
    /// Checkpoints.
    pub saved: u64,
    /// Warnings.
    pub warnings: u64,
    /// Steps that were made and lost when the server went: those after the checkpoint.
    pub undone: u64,
}

/// Gradients over which the speed of a worker now is measured.
const RECENT: usize = 20;

/// What a worker is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It has joined and is not lost.
    #[default]
    Working,
    /// It is gone; the row says why.
    Lost,
    /// The run is over.
    Dismissed,
}

/// Sums over gradients that were applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Gradients.
    pub gradients: u64,
    /// Batches that they are of.
    pub batches: u64,
    /// Rows of their batches.
    pub examples: u64,
    /// What the task counts of them.
    pub units: [u64; UNITS],
    /// Seconds of computing.
    pub compute_secs: f64,
    /// Seconds in which parameters arrived.
    pub pull_secs: f64,
    /// Seconds of pushing.
    pub push_secs: f64,
    /// Seconds of waiting.
    pub wait_secs: f64,
    /// Bytes of tensors, both ways.
    pub bytes: u64,
    /// Summed staleness.
    pub staleness: u64,
}

impl Totals {
    pub(super) fn add(&mut self, part: &Contribution, staleness: u64) {
        self.gradients += 1;
        self.batches += part.batches.len() as u64;
        self.examples += part.stats.examples;
        add_units(&mut self.units, part.stats.units);
        self.compute_secs += part.cost.compute_secs;
        self.pull_secs += part.cost.pull_secs;
        self.push_secs += part.cost.push_secs;
        self.wait_secs += part.cost.wait_secs;
        self.bytes += part.cost.bytes;
        self.staleness += staleness;
    }

    /// Sums over several.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Totals>) -> Self {
        let mut sum = Self::default();
        for one in all {
            sum.gradients += one.gradients;
            sum.batches += one.batches;
            sum.examples += one.examples;
            add_units(&mut sum.units, one.units);
            sum.compute_secs += one.compute_secs;
            sum.pull_secs += one.pull_secs;
            sum.push_secs += one.push_secs;
            sum.wait_secs += one.wait_secs;
            sum.bytes += one.bytes;
            sum.staleness += one.staleness;
        }
        sum
    }

    /// Seconds from one push to the next, summed.
    pub fn busy_secs(&self) -> f64 {
        self.compute_secs + self.pull_secs + self.push_secs + self.wait_secs
    }

    /// Shares of the time: computing, pulling, pushing, waiting.
    pub fn shares(&self) -> [f64; 4] {
        let all = self.busy_secs().max(1e-9);
        let parts = [
            self.compute_secs,
            self.pull_secs,
            self.push_secs,
            self.wait_secs,
        ];
        parts.map(|part| part / all)
    }

    /// Mean staleness.
    pub fn mean_staleness(&self) -> f64 {
        self.staleness as f64 / self.gradients.max(1) as f64
    }
}

fn add_units(units: &mut [u64; UNITS], more: [u64; UNITS]) {
    for (unit, more) in units.iter_mut().zip(more) {
        *unit = unit.saturating_add(more);
    }
}

/// What is known of a worker. Who comes back under the same name is the same row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorkerRow {
    /// The number that it has now, or had last.
    pub number: u32,
    /// What it is at.
    pub state: Presence,
    /// Why it is lost, or was when it was the last time.
    pub reason: Option<String>,
    /// Seconds of training at which its state began.
    pub since_secs: f64,
    /// Seconds of training at which its last gradient was applied.
    pub last_secs: Option<f64>,
    /// How often it joined.
    pub joins: u32,
    /// How often it was lost.
    pub losses: u32,
    /// Gradients of it that were refused.
    pub refused: u64,
    /// What was applied of it.
    #[serde(flatten)]
    pub totals: Totals,
    /// What the task counts, or examples, a second over its last gradients.
    pub rate: f64,
    #[serde(skip)]
    recent: VecDeque<(f64, u64)>,
}

impl WorkerRow {
    pub(super) fn joined(&mut self, number: u32, secs: f64) {
        self.number = number;
        self.state = Presence::Working;
        self.since_secs = secs;
        self.joins += 1;
        self.recent.clear();
    }

    pub(super) fn lost(&mut self, reason: &str, secs: f64) {
        if self.state == Presence::Working {
            self.state = Presence::Lost;
            self.reason = Some(reason.to_owned());
            self.since_secs = secs;
            self.losses += 1;
            self.rate = 0.0;
        }
    }

    pub(super) fn dismissed(&mut self, secs: f64) {
        if self.state == Presence::Working {
            self.state = Presence::Dismissed;
            self.since_secs = secs;
        }
    }

    /// A gradient of it was applied, of a batch with so many of what its speed is of.
    pub(super) fn add_gradient(
        &mut self,
        part: &Contribution,
        staleness: u64,
        secs: f64,
        items: u64,
    ) {
        self.totals.add(part, staleness);
        self.last_secs = Some(secs);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((secs, items));
        // The first one's time is where the others' begins.
        if let (Some((from, first)), Some((to, _))) = (self.recent.front(), self.recent.back()) {
            let all: u64 = self.recent.iter().map(|(_, items)| items).sum();
            self.rate = (all - first) as f64 / (to - from).max(1e-9);
        }
        if self.recent.len() < 2 {
            self.rate = 0.0;
        }
    }
}

/// An epoch that is done.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// 1-based epoch.
    pub epoch: u32,
    /// Seconds of training until its end.
    pub secs: f64,
    /// Updates until its end.
    pub step: u64,
    /// Sums over its training batches.
    pub train: Stats,
    /// Sums over the validation batches, when there are any.
    pub validation: Option<Stats>,
    /// Learning rate of its last step.
    pub learning_rate: f32,
    /// Mean staleness of its steps.
    pub staleness: f64,
}
