//! Steps of all workers' deltas for which none of them waits.
//!
//! Each compute slot has two workers (`--prefetch`): one computes while what the other has pushed waits for the other
//! slots, is merged and comes back. A step is made when every slot that computes has pushed something since the last
//! one, of all that was pushed. A slot is one delta ahead at most.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Core, Phase, WorkerId};
use crate::event::Contribution;

/// Leases of a slot: of what it has pushed, and of what it computes.
const MOST_LEASES: usize = 2;

impl Core {
    /// Whether workers go on while what they have pushed waits for others.
    pub(super) fn overlaps(&self) -> bool {
        let planned = self.progress.plan.is_some_and(|plan| plan.overlaps);
        planned || self.rules.overlaps()
    }

    /// Whether a step is made of several leases, which are waited for, and not of each push.
    pub(super) fn in_groups(&self) -> bool {
        self.rules.begins_groups(self.progress.plan)
    }

    /// Whether this worker's slot has as many leases as it may have.
    pub(super) fn is_ahead(&self, worker: WorkerId) -> bool {
        let slot = self.roster.slot(worker);
        let leases = self.ledger().holders();
        let own = leases.filter(|(holder, _)| self.roster.slot(*holder) == slot);
        own.count() >= MOST_LEASES
    }

    /// Whether there is something to make a step of, and no slot computes of which there is nothing.
    pub(super) fn all_slots_have_pushed(&self) -> bool {
        if !matches!(self.phase, Phase::Training(_)) {
            return false;
        }
        let slots = |computing: bool| {
            let holders = self.ledger().holders();
            let those = holders.filter(move |(_, computes)| *computes == computing);
            those.map(|(holder, _)| self.roster.slot(holder))
        };
        let pushed: BTreeSet<_> = slots(false).collect();
        !pushed.is_empty() && slots(true).all(|slot| pushed.contains(&slot))
    }

    /// What the mean of a step's deltas is worth: as many times what a slot does in a round as there are rounds of a slot
    /// in it, which is one unless a slot was ahead.
    pub(super) fn rounds_in(&self, parts: &[Contribution]) -> f32 {
        let mut of_slots: BTreeMap<_, u64> = BTreeMap::new();
        for part in parts {
            let largest = of_slots.entry(self.roster.slot(part.worker)).or_default();
            *largest = part.stats.examples.max(*largest);
        }
        let all: u64 = parts.iter().map(|part| part.stats.examples).sum();
        let one_of_each: u64 = of_slots.values().sum();
        all.max(1) as f32 / one_of_each.max(1) as f32
    }

    pub(super) fn step_if_all_slots_have_pushed(&mut self, actions: &mut Vec<Action>) {
        if self.overlaps() && self.all_slots_have_pushed() {
            self.step(self.ledger().in_hand(), actions);
        }
    }
}
