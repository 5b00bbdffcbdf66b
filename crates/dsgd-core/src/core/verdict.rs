//! Whose fault a failure is: the batch's, its worker's, or that of all there is.
//!
//! A batch that fails goes to a worker that has not failed it yet. It is left out of its epoch once
//! different workers have failed it, or all that work, and it was tried three times at least. A worker
//! that fails batches which others then compute, and computes none itself, rests: it gets no more work
//! until it joins anew. When nobody has computed anything yet and all fail different batches with the
//! same error, no batch can be computed, and the run ends with that error.
//!
//! Workers are distinguished by their names: one that was lost and joins anew is still the same.

use super::failures::{ALIKE, FAILED_ALONE};
use super::{Action, Core, End, LeaseId, WorkerId};
use crate::event::Event;

/// A batch is tried this often before it is left out, by as many workers if there are so many.
const TRIES: usize = 3;

impl Core {
    /// What this worker is to compute next: a round of what it has not failed, else what all others have failed
    /// too, else what another has had for too long. What was in a round that failed is computed alone, so
    /// that it is known which batch it was.
    pub(super) fn next_for(&self, worker: WorkerId) -> Vec<usize> {
        let Some(name) = self.roster.name(worker) else {
            return Vec::new();
        };
        let (ledger, round) = (self.ledger(), self.round_of(worker));
        let fresh = |position| !self.failures.has_failed(name, position);
        let trusted = |position| !self.failures.is_suspect(position);
        let first = ledger.first_free(1, fresh);
        match first[..] {
            [position] if trusted(position) => ledger.first_free(round, trusted),
            [_, ..] => first,
            [] => {
                let hopeless = ledger.first_free(1, |position| self.all_failed(position));
                if hopeless.is_empty() {
                    // The other worker of its slot would only compute it later.
                    let slot = self.roster.slot(worker);
                    ledger.first_offered(|holder| self.roster.slot(holder) != slot)
                } else {
                    hopeless
                }
            }
        }
    }

    fn all_failed(&self, position: usize) -> bool {
        let mut able = self.roster.able();
        able.all(|name| self.failures.has_failed(name, position))
    }

    /// A batch of this worker came to nothing: it is free for others, or left out, or the run is over.
    pub(super) fn batch_failed(
        &mut self,
        worker: WorkerId,
        lease: LeaseId,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        let lease = self.ledger_mut().free(lease);
        let name = self.roster.name(worker).unwrap_or_default().to_owned();
        let [position] = lease.positions[..] else {
            self.round_failed(&name, &lease.positions, reason, actions);
            return;
        };
        let batch = self.ledger().batch(position);
        self.failures.fail(&name, position, batch, reason);
        let failures = &self.failures.batches[&position];
        let (times, by) = (failures.times, failures.by.len());
        if self.failures.is_everywhere(reason, self.roster.able()) {
            let reason = format!(
                "no batch can be computed: {ALIKE} different ones failed with the same error, and none \
                 succeeded: {reason}"
            );
            self.stop(End::Failed(reason.clone()), &reason, actions);
            return;
        }
        if by >= TRIES || (times >= TRIES && self.all_failed(position)) {
            self.leave_out(position, batch, actions);
            let who = match by {
                1 => format!("on {name}"),
                _ => format!("on {by} workers"),
            };
            let reason = format!("failed {times} times {who}, last: {reason}");
            actions.push(Action::Observe(Event::BatchLeftOut { batch, reason }));
            return;
        }
        let reason = format!("{name} failed: {reason}");
        actions.push(Action::Observe(Event::BatchFreed { batch, reason }));
    }

    /// The batch at this position is left out of this epoch, also what others compute or have computed of it.
    fn leave_out(&mut self, position: usize, batch: usize, actions: &mut Vec<Action>) {
        for (lease, ended) in self.ledger_mut().leave_out(position) {
            if ended.is_computing() {
                let reason = format!("batch {batch} was left out");
                self.roster.revoke(ended.worker, lease, reason);
            } else {
                actions.push(Action::Discard { lease });
            }
        }
    }

    /// One of these batches came to nothing, and it is not known which: each is computed alone now.
    fn round_failed(
        &mut self,
        name: &str,
        positions: &[usize],
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        self.failures.suspect(positions);
        let reason = format!("{name} failed one of {} batches: {reason}", positions.len());
        for batch in self.ledger().batches(positions) {
            let reason = reason.clone();
            actions.push(Action::Observe(Event::BatchFreed { batch, reason }));
        }
    }

    /// A worker has computed the batch at this position: whoever failed it is in doubt.
    pub(super) fn computed(
        &mut self,
        worker: WorkerId,
        position: usize,
        actions: &mut Vec<Action>,
    ) {
        let name = self.roster.name(worker).unwrap_or_default();
        for (name, reason) in self.failures.computed(name, position) {
            if self.roster.rest(&name) {
                let message = format!(
                    "{name} gets no more work until it joins anew: it failed {FAILED_ALONE} batches \
                     that others computed, the last with: {reason}"
                );
                actions.push(Action::Observe(Event::Warning { message }));
            }
        }
    }
}
