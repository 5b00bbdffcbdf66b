//! Speed and remaining time, from the events of an epoch.

use dsgd_core::event::{Event, Record, Step};
use dsgd_core::task::Stats;

/// What has been seen of the epoch so far.
#[derive(Debug, Default)]
pub(super) struct Meter {
    epoch_started_secs: f64,
    /// Batches that were counted before this process took the epoch up.
    counted_before: usize,
    seen: Stats,
    staleness: u64,
    steps: u64,
    stepped: bool,
    /// The norm of all parameters that was measured last.
    pub(super) param_norm: Option<f64>,
    /// Speed from the epoch's start to its last step.
    pub(super) trained: Option<Speed>,
}

/// Tokens a second, counted as the ancestor counted them: with padding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Speed {
    pub(super) total: f64,
    pub(super) source: f64,
    pub(super) target: f64,
    pub(super) batches: f64,
}

impl Meter {
    pub(super) fn see(&mut self, record: &Record) {
        match &record.event {
            Event::EpochStarted { counted, .. } => {
                *self = Self {
                    epoch_started_secs: record.at_secs,
                    counted_before: *counted,
                    param_norm: self.param_norm,
                    stepped: self.stepped,
                    ..Self::default()
                };
            }
            Event::Step(step) => {
                self.seen.add(&step.stats());
                self.staleness += step.staleness;
                self.steps += 1;
                self.stepped = true;
                self.param_norm = step.param_norm.or(self.param_norm);
                self.trained = Some(self.speed(record.at_secs, step.counted));
            }
            _ => {}
        }
    }

    /// Whether this process has seen a step.
    pub(super) fn has_stepped(&self) -> bool {
        self.stepped
    }

    /// Means since the epoch was taken up.
    pub(super) fn speed(&self, at_secs: f64, counted: usize) -> Speed {
        let secs = (at_secs - self.epoch_started_secs).max(1e-6);
        let (source, target) = (
            self.seen.source_tokens as f64,
            self.seen.target_tokens as f64,
        );
        Speed {
            total: (source + target) / secs,
            source: source / secs,
            target: target / secs,
            batches: counted.saturating_sub(self.counted_before) as f64 / secs,
        }
    }

    /// Seconds until the epoch's last batch, at the speed so far.
    pub(super) fn remaining_secs(&self, at_secs: f64, step: &Step) -> f64 {
        let left = step.batches.saturating_sub(step.counted) as f64;
        left / self.speed(at_secs, step.counted).batches.max(1e-9)
    }

    pub(super) fn mean_staleness(&self) -> f64 {
        self.staleness as f64 / self.steps.max(1) as f64
    }
}
