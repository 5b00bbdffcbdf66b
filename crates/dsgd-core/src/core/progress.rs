//! How far a run has come.

use serde::{Deserialize, Serialize};

use crate::codec::Codec;
use crate::metric::Metric;
use crate::optim::{Schedule, ScheduleState};
use crate::task::Stats;

/// How a run's workers work together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Steps of the fastest worker between two exchanges.
    pub steps: usize,
    /// How deltas and parameters travel.
    pub codec: Codec,
    /// Whether workers go on while what they have pushed waits for others: from then on for good.
    #[serde(default)]
    pub overlaps: bool,
}

/// How far a run has come: all that the core needs to go on from a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 1-based epoch that is under way, or one more than the last when all are done.
    pub epoch: u32,
    /// Steps of the parameters so far.
    pub version: u64,
    /// Batches of the epoch that are counted.
    pub counted: Vec<usize>,
    /// Batches of the epoch that are left out of it.
    pub left_out: Vec<usize>,
    /// Sums over the epoch's counted batches.
    pub stats: Stats,
    /// Steps of the epoch.
    pub epoch_steps: u64,
    /// Summed staleness of the epoch's steps.
    pub staleness: u64,
    /// Gradients refused in the epoch.
    pub refused: u64,
    /// Gradients of the epoch that were set aside by the rules.
    #[serde(default)]
    pub set_aside: u64,
    /// Reports of the epoch that were refused for their figures, such as those that are not finite.
    pub not_finite: u64,
    /// Learning rate of the last step.
    pub learning_rate: f32,
    /// Whether `--wait` is over.
    pub ramped_up: bool,
    /// Best value of the metric after an epoch so far.
    pub best: Option<f64>,
    /// Name of the metric that this and the schedule's last value are of; version 0.1 had one for all tasks.
    #[serde(default = "metric_before")]
    pub metric: String,
    /// Median loss of an item with the first parameters: what a model has that was never trained.
    #[serde(default)]
    pub first_loss: Option<f64>,
    /// How workers work together, where that is planned.
    #[serde(default)]
    pub plan: Option<Plan>,
    /// State of the learning-rate schedule.
    pub schedule: ScheduleState,
}

impl Progress {
    /// Nothing done yet.
    pub fn start(epoch: u32) -> Self {
        Self {
            epoch,
            version: 0,
            counted: Vec::new(),
            left_out: Vec::new(),
            stats: Stats::default(),
            epoch_steps: 0,
            staleness: 0,
            refused: 0,
            set_aside: 0,
            not_finite: 0,
            learning_rate: 0.0,
            ramped_up: false,
            best: None,
            metric: String::new(),
            first_loss: None,
            plan: None,
            schedule: ScheduleState::default(),
        }
    }

    /// The beginning of the epoch after this one.
    pub(super) fn next_epoch(&self) -> Self {
        Self {
            version: self.version,
            learning_rate: self.learning_rate,
            ramped_up: self.ramped_up,
            best: self.best,
            metric: self.metric.clone(),
            first_loss: self.first_loss,
            plan: self.plan,
            schedule: self.schedule,
            ..Self::start(self.epoch + 1)
        }
    }

    /// Goes by this metric from now on. Where the values of one that it went by before say nothing of it,
    /// they are forgotten.
    pub(super) fn judge_by(&mut self, metric: &Metric, schedule: &mut Schedule) {
        if self.metric == metric.name {
            return;
        }
        let before = std::mem::replace(&mut self.metric, metric.name.clone());
        let translated = |value| metric.from_other(&before, value);
        self.best = self.best.and_then(translated);
        schedule.translate(translated);
    }
}

fn metric_before() -> String {
    Metric::perplexity().name
}
