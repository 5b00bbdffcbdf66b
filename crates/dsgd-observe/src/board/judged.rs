//! What a run is judged by, and what its speeds count.

use super::Board;
use super::rows::EpochRow;
use dsgd_core::metric::{self, Metric};
use dsgd_core::task::UNITS;

impl Board {
    /// What the run goes by.
    pub fn metric(&self) -> &Metric {
        metric::first(&self.metrics)
    }

    /// What its speeds count, such as `tokens`.
    pub fn unit(&self) -> &str {
        self.units.shown(self.totals.units, 0).0
    }

    /// How many of what [`unit`](Self::unit) says are in sums over some of its gradients, given how many
    /// there are of what the task counts, and how many examples.
    pub fn items(&self, units: [u64; UNITS], examples: u64) -> u64 {
        match self.units.count(self.totals.units) {
            0 => examples,
            _ => self.units.count(units),
        }
    }
}

impl EpochRow {
    /// The metric over what was not trained on, where there is any.
    pub fn value(&self, metric: &Metric) -> f64 {
        metric.value(&self.validation.unwrap_or(self.train))
    }

    /// The same on an axis whose steps mean the same everywhere.
    pub fn linear(&self, metric: &Metric) -> f64 {
        metric.linear(&self.validation.unwrap_or(self.train))
    }
}
