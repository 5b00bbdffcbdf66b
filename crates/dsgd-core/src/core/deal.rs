//! Who gets work, and which.

use super::{Action, Core};

impl Core {
    /// Work for everyone who has none, as far as there is any.
    pub(super) fn settle(&mut self, actions: &mut Vec<Action>) {
        if self.over {
            return;
        }
        self.advance(actions);
        self.offer_overdue(actions);
        self.deal_out(actions);
        // Who was waited for may have lost its lease to another.
        if self.overlaps() && !self.over && self.all_slots_have_pushed() {
            self.settle(actions);
        }
    }

    fn deal_out(&mut self, actions: &mut Vec<Action>) {
        let allowed = self.allowed_workers();
        if self.gathering_ends().is_some() {
            return;
        }
        for worker in self.in_turn() {
            let ledger = self.ledger();
            if self.over || ledger.workers_busy() >= allowed || !ledger.has_work() {
                return;
            }
            if self.overlaps() && self.is_ahead(worker) {
                continue;
            }
            // What it has failed is for others, as long as there are any.
            let positions = self.next_for(worker);
            if positions.is_empty() {
                continue;
            }
            let mut work = self.work(&positions);
            self.ask_for_state(&mut work);
            let lease = self.next_lease;
            self.next_lease += 1;
            let (now, version, length) = (self.now, self.progress.version, self.rules.lease);
            let superseded = self
                .ledger_mut()
                .lease(lease, worker, positions, version, now, length);
            if let Some((old, holder)) = superseded {
                let reason = format!("its batch was given to worker {worker}");
                self.roster.revoke(holder, old, reason);
            }
            self.roster.busy(worker);
            actions.push(Action::Grant {
                worker,
                lease,
                work,
            });
        }
    }

    /// Workers that may have work at the same time (`--wait`).
    pub(super) fn allowed_workers(&self) -> usize {
        if self.rules.wait.is_some() && !self.progress.ramped_up {
            1
        } else {
            usize::MAX
        }
    }
}
