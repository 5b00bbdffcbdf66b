//! Epochs that are done, and which was best.

use serde::{Deserialize, Serialize};

use super::Board;
use dsgd_core::event::Event;
use dsgd_core::task::Stats;

/// Epochs that are kept; when there are more, every other one goes.
const MOST_EPOCHS: usize = 2048;

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

impl EpochRow {
    /// Mean loss of what was not trained on, where there is any.
    pub fn loss(&self) -> f64 {
        self.validation.unwrap_or(self.train).mean_loss()
    }
}

impl Board {
    pub(super) fn epoch_finished(&mut self, event: &Event) {
        let Event::EpochFinished {
            epoch,
            train,
            validation,
            learning_rate,
            staleness,
            ..
        } = event
        else {
            return;
        };
        if self.done.len() >= MOST_EPOCHS {
            let mut number = 0;
            self.done.retain(|_| {
                number += 1;
                number % 2 == 0
            });
        }
        let row = EpochRow {
            epoch: *epoch,
            secs: self.secs,
            step: self.steps,
            train: *train,
            validation: *validation,
            learning_rate: *learning_rate,
            staleness: *staleness,
        };
        self.done.push(row);
        if self
            .best
            .is_none_or(|best| row.loss().total_cmp(&best.loss()).is_lt())
        {
            self.best = Some(row);
        }
    }

    /// Epochs that ended after that step did not happen.
    pub(super) fn epochs_cut_after(&mut self, step: u64) {
        self.done.retain(|row| row.step <= step);
        let best = |a: &EpochRow, b: &EpochRow| a.loss().total_cmp(&b.loss());
        self.best = self.done.iter().copied().min_by(best);
    }
}
