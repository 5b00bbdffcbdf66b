//! The last batches of an epoch, and leases that have run out.
//!
//! When nothing is left to give out, those who are free wait for the last batches. One whose worker
//! is slow, asleep or cut off would hold everybody up until its loss is noticed. So then a lease runs
//! out once its batch has taken several times as long as batches usually do: it is offered, and
//! whoever is free computes it anew. Each time it is given more time, so that a batch which is
//! itself long gets done. In sync mode every step has such an end; there all wait, for a host that
//! is always slower would never get a gradient in.

use std::time::Duration;

use super::lease::LeaseTime;
use super::{Action, Core, Report};
use crate::event::Event;

/// So many times as long as usual is too long.
const TOO_LONG: f64 = 3.0;

/// The share of the last lease in what is usual.
const LAST: f64 = 0.1;

impl Core {
    /// What a lease takes, without the waiting for it: each batch, and the exchange once.
    pub(super) fn note_pace(&mut self, report: &Report, batches: usize) {
        let cost = report.cost;
        let batch = cost.compute_secs / batches as f64;
        let exchange = cost.pull_secs + cost.push_secs;
        let (last, before) = match self.pace {
            Some(before) => (LAST, before),
            None => (1.0, LeaseTime::default()),
        };
        let lately = |before: f64, now: f64| before + last * (now - before);
        self.pace = Some(LeaseTime {
            batch_secs: lately(before.batch_secs, batch),
            exchange_secs: lately(before.exchange_secs, exchange),
        });
    }

    /// How long the last batches may take while others wait for them.
    fn impatience(&self) -> Option<LeaseTime> {
        let usual = self.pace.filter(|usual| usual.batch_secs > 0.0)?;
        let waiting = self.roster.idle();
        let may_work = self.ledger().workers_busy() < self.allowed_workers();
        if self.in_groups()
            || waiting.is_empty()
            || !may_work
            || waiting
                .iter()
                .any(|&worker| !self.next_for(worker).is_empty())
        {
            return None;
        }
        Some(LeaseTime {
            batch_secs: TOO_LONG * usual.batch_secs,
            exchange_secs: TOO_LONG * usual.exchange_secs,
        })
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
