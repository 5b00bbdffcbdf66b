//! The batches of the synchronous step that is being made.

use super::{BatchState, Ledger};
use crate::core::{LeaseId, WorkerId};
use crate::task::Stats;

impl Ledger {
    /// From now on nothing waits for a whole step: of the one before all has ended.
    pub(in crate::core) fn end_groups(&mut self) {
        let open = self.group.take().unwrap_or_default();
        assert!(open.is_empty(), "a step is being made of {open:?}");
    }

    /// Opens the next synchronous step with the first `batches` that are left, if none is open; whether
    /// it has opened one.
    pub(in crate::core) fn open_group(&mut self, batches: usize) -> bool {
        let size = batches.saturating_mul(self.parts);
        if let Some(group) = &mut self.group
            && group.is_empty()
        {
            let left = (self.cursor..self.places.len())
                .filter(|&p| self.places[p].state == BatchState::Free);
            *group = left.take(size).collect();
            self.group_size = size;
            return !group.is_empty();
        }
        false
    }

    /// Whether the next step is to be opened, and there is something left for it.
    pub(in crate::core) fn wants_group(&self) -> bool {
        self.group.as_ref().is_some_and(Vec::is_empty) && !self.is_complete()
    }

    /// Whether the step that is being made has all batches that a step has.
    pub(in crate::core) fn is_group_whole(&self) -> bool {
        self.group().len() == self.group_size
    }

    /// Positions of the step that is being made, in batch order.
    pub(in crate::core) fn group(&self) -> &[usize] {
        self.group.as_deref().unwrap_or_default()
    }

    /// Leases of the group whose gradients are in hand, in the order of their first batches.
    pub(in crate::core) fn held(&self) -> Vec<LeaseId> {
        let leases = self.leases_of_group();
        leases.filter(|id| self.is_in_hand(*id)).collect()
    }

    /// Number of positions of the group whose gradients are in hand.
    pub(in crate::core) fn positions_held(&self) -> usize {
        let leased = self.group().iter().filter_map(|&p| self.lease_at(p));
        leased.filter(|id| self.is_in_hand(*id)).count()
    }

    /// All leases whose gradients are in hand, in the order of their first batches.
    pub(in crate::core) fn in_hand(&self) -> Vec<LeaseId> {
        let mut held: Vec<_> = self.leases.keys().copied().collect();
        held.retain(|id| self.is_in_hand(*id));
        held.sort_by_key(|id| self.leases[id].positions[0]);
        held
    }

    /// Who holds each lease, and whether it computes.
    pub(in crate::core) fn holders(&self) -> impl Iterator<Item = (WorkerId, bool)> {
        let leases = self.leases.values();
        leases.map(|lease| (lease.worker, lease.is_computing()))
    }

    fn is_in_hand(&self, lease: LeaseId) -> bool {
        !self.leases[&lease].is_computing()
    }

    /// Sums over the other parts of the batch at this position whose gradients are in hand, and whether those are
    /// all of them.
    pub(in crate::core) fn other_parts(&self, position: usize) -> (Stats, bool) {
        let first = position / self.parts * self.parts;
        let (mut stats, mut all) = (Stats::default(), true);
        for other in (first..first + self.parts).filter(|&other| other != position) {
            match self.lease_at(other).filter(|id| self.is_in_hand(*id)) {
                Some(lease) => stats.add(&self.leases[&lease].report().stats),
                None => all = false,
            }
        }
        (stats, all)
    }

    /// Ends the synchronous step: what was not counted is free for the next one. Returns who still computes.
    pub(in crate::core) fn close_group(&mut self) -> Vec<(LeaseId, WorkerId)> {
        let leased: Vec<_> = self.leases_of_group().collect();
        let freed = leased.into_iter().map(|id| (id, self.free(id).worker));
        let freed = freed.collect();
        self.group.get_or_insert_default().clear();
        freed
    }

    /// Leases on batches of the group, each once: at its first batch.
    fn leases_of_group(&self) -> impl Iterator<Item = LeaseId> {
        self.group().iter().filter_map(|&position| {
            let lease = self.lease_at(position)?;
            (self.leases[&lease].positions[0] == position).then_some(lease)
        })
    }
}
