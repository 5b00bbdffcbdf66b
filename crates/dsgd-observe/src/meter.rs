//! Speed and remaining time, from the events of an epoch.

use dsgd_core::event::{Event, Record, Step};
use dsgd_core::metric::{self, Metric, Units};
use dsgd_core::task::{Stats, UNITS};

/// What has been seen of the epoch so far.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// What the run is judged by, and what it counts.
    metrics: Vec<Metric>,
    units: Units,
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

/// What was done a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Speed {
    /// What the task counts.
    pub(super) units: [f64; UNITS],
    pub(super) batches: f64,
}

impl Meter {
    pub(super) fn see(&mut self, record: &Record) {
        match &record.event {
            Event::RunStarted { metrics, units, .. } => {
                self.metrics.clone_from(metrics);
                self.units.clone_from(units);
            }
            Event::EpochStarted { counted, .. } => {
                *self = Self {
                    metrics: std::mem::take(&mut self.metrics),
                    units: std::mem::take(&mut self.units),
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

    /// What the run goes by.
    pub(super) fn metric(&self) -> &Metric {
        metric::first(&self.metrics)
    }

    /// What is counted for short, and how many there were a second; examples where a task counts nothing else.
    pub(super) fn rate(&self, at_secs: f64) -> (&str, f64) {
        let secs = (at_secs - self.epoch_started_secs).max(1e-6);
        let (name, number) = self.units.shown(self.seen.units, self.seen.examples);
        (name, number as f64 / secs)
    }

    /// A speed in words: of what the task counts, or batches where it counts nothing.
    pub(super) fn words(&self, speed: Speed) -> String {
        match self.units.count(self.seen.units) {
            0 => format!("{:.1} batches/s", speed.batches),
            _ => self.units.speeds(speed.units),
        }
    }

    /// Whether this process has seen a step.
    pub(super) fn has_stepped(&self) -> bool {
        self.stepped
    }

    /// Means since the epoch was taken up.
    pub(super) fn speed(&self, at_secs: f64, counted: usize) -> Speed {
        let secs = (at_secs - self.epoch_started_secs).max(1e-6);
        Speed {
            units: self.seen.units.map(|unit| unit as f64 / secs),
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
