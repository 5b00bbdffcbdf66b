//! A round of batches that a worker has been given, from its grant until they are counted or free again.

use std::fmt;
use std::time::Duration;

use super::{Report, WorkerId};

/// Batches that a worker has been given.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) worker: WorkerId,
    /// Where they are in the epoch's order; at least one.
    pub(super) positions: Vec<usize>,
    /// Version of the parameters that they are computed from.
    pub(super) version: u64,
    stage: Stage,
}

/// How far it is with a lease.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The worker computes.
    Computing {
        since: Duration,
        deadline: Duration,
        /// Whoever is free may have the batch.
        offered: bool,
    },
    /// The gradient is here and waits for its step.
    InHand(Report),
}

impl Lease {
    /// A worker begins at `since`, and has `length` before others may have the batches.
    pub(super) fn new(
        worker: WorkerId,
        positions: Vec<usize>,
        version: u64,
        since: Duration,
        length: Duration,
    ) -> Self {
        Self {
            worker,
            positions,
            version,
            stage: Stage::Computing {
                since,
                deadline: since + length,
                offered: false,
            },
        }
    }

    /// What came with the gradient that is in hand.
    ///
    /// # Panics
    /// When it is still computed.
    pub(super) fn report(&self) -> &Report {
        match &self.stage {
            Stage::InHand(report) => report,
            Stage::Computing { .. } => panic!("the gradient of {self:?} is not here"),
        }
    }

    pub(super) fn is_computing(&self) -> bool {
        matches!(self.stage, Stage::Computing { .. })
    }

    /// When it ran out, if others may have the batch.
    pub(super) fn offered_since(&self) -> Option<Duration> {
        match self.stage {
            Stage::Computing {
                offered: true,
                deadline,
                ..
            } => Some(deadline),
            _ => None,
        }
    }

    /// When it runs out, unless it has or its gradient is in hand; it lasts no longer than `most`.
    pub(super) fn end(&self, most: Option<Duration>) -> Option<Duration> {
        match self.stage {
            Stage::Computing {
                since,
                deadline,
                offered: false,
            } => Some(most.map_or(deadline, |most| deadline.min(since + most))),
            _ => None,
        }
    }

    /// It lasts until then, and is not offered any more; one whose gradient is in hand lasts anyway.
    pub(super) fn extend(&mut self, until: Duration) {
        if let Stage::Computing {
            deadline, offered, ..
        } = &mut self.stage
        {
            *deadline = until.max(*deadline);
            *offered = false;
        }
    }

    /// Others may have the batch; whether that is before it has run out, at `now`.
    ///
    /// # Panics
    /// When its gradient is in hand.
    pub(super) fn offer(&mut self, now: Duration) -> bool {
        match &mut self.stage {
            Stage::Computing {
                deadline, offered, ..
            } => {
                *offered = true;
                *deadline > now
            }
            Stage::InHand(_) => panic!("{self:?} does not run out"),
        }
    }

    /// Its gradient has come; returns when it was given.
    ///
    /// # Panics
    /// When it has come before.
    pub(super) fn hold(&mut self, report: Report) -> Duration {
        let Stage::Computing { since, .. } = self.stage else {
            panic!("{self:?} is pushed twice");
        };
        self.stage = Stage::InHand(report);
        since
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Computing { offered: false, .. } => "with",
            Stage::Computing { offered: true, .. } => "offered by",
            Stage::InHand(_) => "in hand from",
        };
        write!(f, "{stage} {}", self.worker)
    }
}

/// What is shorter is not worth computing anything twice.
const LEAST: Duration = Duration::from_secs(1);

/// What a lease takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeaseTime {
    /// Seconds for each of its batches.
    pub(super) batch_secs: f64,
    /// Seconds for parameters and what comes of it on their way.
    pub(super) exchange_secs: f64,
}

impl LeaseTime {
    /// With so many batches.
    pub(super) fn with(self, batches: usize) -> Duration {
        // A year is as good as for ever.
        let secs = (self.batch_secs * batches as f64 + self.exchange_secs).min(3e7);
        Duration::from_secs_f64(secs).max(LEAST)
    }
}
