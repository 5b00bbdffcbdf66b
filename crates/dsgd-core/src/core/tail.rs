//! The last batches of an epoch, and leases that have run out.
//!
//! When nothing is left to give out, those who are free wait for the last batches. One whose worker
//! is slow, asleep or cut off would hold everybody up until its loss is noticed. So then a lease runs
//! out once its batch has taken several times as long as batches usually do: it is offered, and
//! whoever is free computes it anew. Each time it is given more time, so that a batch which is
//! itself long gets done. In sync mode every step has such an end; there all wait, for a host that
//! is always slower would never get a gradient in.

use std::time::Duration;

use super::{Action, Core, Report};
use crate::event::Event;

/// So many times as long as usual is too long.
const TOO_LONG: f64 = 3.0;

/// What is shorter is not worth computing anything twice.
const LEAST: Duration = Duration::from_secs(1);

/// The share of the last batch in what is usual.
const LAST: f64 = 0.1;

impl Core {
    /// How long a batch takes, without the waiting for it.
    pub(super) fn note_pace(&mut self, report: &Report, batches: usize) {
        let cost = report.cost;
        let secs = (cost.compute_secs + cost.pull_secs + cost.push_secs) / batches as f64;
        let usual = self.pace_secs;
        self.pace_secs = if usual > 0.0 {
            usual + LAST * (secs - usual)
        } else {
            secs
        };
    }

    /// How long the last batches may take while others wait for them.
    fn impatience(&self) -> Option<Duration> {
        let waiting = self.roster.idle();
        let may_work = self.ledger().workers_busy() < self.allowed_workers();
        if self.rules.in_groups()
            || self.pace_secs == 0.0
            || waiting.is_empty()
            || !may_work
            || waiting
                .iter()
                .any(|&worker| !self.next_for(worker).is_empty())
        {
            return None;
        }
        // A year is as good as for ever.
        let secs = (TOO_LONG * self.pace_secs).min(3e7);
        Some(Duration::from_secs_f64(secs).max(LEAST))
    }

    /// When the first lease runs out.
    pub(super) fn first_overdue(&self) -> Option<Duration> {
        self.ledger().first_deadline(self.impatience())
    }

    /// Batches that have been out for too long are offered to whoever is free.
    pub(super) fn offer_overdue(&mut self, actions: &mut Vec<Action>) {
        let (now, impatience) = (self.now, self.impatience());
        for (batch, worker, early) in self.ledger_mut().offer_overdue(now, impatience) {
            let reason = if early {
                format!("worker {worker} takes long, and others wait for the end of the epoch")
            } else {
                format!("worker {worker} has had it for longer than its lease")
            };
            actions.push(Action::Observe(Event::BatchFreed { batch, reason }));
        }
    }
}
