//! Epochs that are done, and which was best.

use std::cmp::Ordering;

use super::Board;
use super::rows::EpochRow;
use dsgd_core::event::Event;

/// Epochs that are kept; when there are more, every other one goes.
const MOST_EPOCHS: usize = 2048;

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
        if self.best.is_none_or(|best| self.order(&row, &best).is_lt()) {
            self.best = Some(row);
        }
    }

    /// Epochs that ended after that step did not happen.
    pub(super) fn epochs_cut_after(&mut self, step: u64) {
        self.done.retain(|row| row.step <= step);
        let best = self.done.iter().min_by(|a, b| self.order(a, b));
        self.best = best.copied();
    }

    /// The better one first.
    fn order(&self, a: &EpochRow, b: &EpochRow) -> Ordering {
        let metric = self.metric();
        metric.better.order(a.linear(metric), b.linear(metric))
    }
}
