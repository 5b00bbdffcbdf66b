//! Which batch next: every batch of an epoch in its place, and the leases on them.
//!
//! A position is a place in the epoch's order; the order is a permutation of the batches
//! that depends on seed and epoch alone. A batch whose lease has run out is not taken from
//! its worker: it is *offered*, and changes hands only when somebody else is free. So the
//! last worker of a run, however slow, still gets on.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::lease::Lease;
use super::{LeaseId, Progress, Report, Rules, Work, WorkerId};
use crate::mode::Mode;

/// Batches of one epoch, or of one validation.
#[derive(Debug)]
pub(super) struct Ledger {
    /// 1-based epoch; none when these are validation batches.
    epoch: Option<u32>,
    /// Batch at each position.
    order: Vec<usize>,
    places: Vec<Place>,
    leases: BTreeMap<LeaseId, Lease>,
    /// Every position before this one is counted, left out or taken.
    cursor: usize,
    /// Number of positions that are counted or left out.
    closed: usize,
    /// Positions of the synchronous step that is being made; none when each batch is a step.
    group: Option<Vec<usize>>,
    /// Batches that the step was to have; fewer were left, or some were left out meanwhile.
    group_size: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    state: BatchState,
    /// How often its lease has run out: each time the next lease is twice as long.
    overdue: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum BatchState {
    #[default]
    Free,
    Leased(LeaseId),
    Counted,
    LeftOut,
}

impl Place {
    /// How many times as long as the first one the next lease is.
    fn doubled(&self) -> u32 {
        2u32.pow(self.overdue.min(10))
    }
}

impl Ledger {
    /// The training batches of the epoch at which `progress` stands.
    pub(super) fn training(rules: &Rules, progress: &Progress) -> Self {
        let mut order: Vec<usize> = (0..rules.batches).collect();
        let mut random =
            ChaCha8Rng::seed_from_u64(rules.seed.wrapping_add(u64::from(progress.epoch) << 32));
        order.shuffle(&mut random);
        let mut ledger = Self::new(Some(progress.epoch), order);
        let closed = [
            (&progress.counted, BatchState::Counted),
            (&progress.left_out, BatchState::LeftOut),
        ];
        for (batches, state) in closed {
            let batches: std::collections::BTreeSet<_> = batches.iter().copied().collect();
            for position in 0..ledger.order.len() {
                if batches.contains(&ledger.order[position]) {
                    ledger.close(position, state);
                }
            }
        }
        ledger.group = (rules.mode == Mode::Sync).then(Vec::new);
        ledger
    }

    /// The validation batches, in order.
    pub(super) fn validation(batches: usize) -> Self {
        Self::new(None, (0..batches).collect())
    }

    fn new(epoch: Option<u32>, order: Vec<usize>) -> Self {
        Self {
            epoch,
            places: vec![Place::default(); order.len()],
            order,
            leases: BTreeMap::new(),
            cursor: 0,
            closed: 0,
            group: None,
            group_size: 0,
        }
    }

    /// Opens the next synchronous step with the first `size` batches that are left, if none is open; whether
    /// it has opened one.
    pub(super) fn open_group(&mut self, size: usize) -> bool {
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

    /// Whether the step that is being made has all batches that a step has.
    pub(super) fn is_group_whole(&self) -> bool {
        self.group().len() == self.group_size
    }

    /// Positions of the step that is being made, in batch order.
    pub(super) fn group(&self) -> &[usize] {
        self.group.as_deref().unwrap_or_default()
    }

    /// The first position that is free and suits.
    pub(super) fn first_free(&self, suits: impl Fn(usize) -> bool) -> Option<usize> {
        let free = |p: &usize| self.places[*p].state == BatchState::Free && suits(*p);
        match &self.group {
            Some(group) => group.iter().copied().find(free),
            None => (self.cursor..self.places.len()).find(free),
        }
    }

    /// The position whose lease has run out first.
    pub(super) fn first_offered(&self) -> Option<usize> {
        let offered = |lease: &Lease| Some((lease.offered_since()?, lease.position));
        let first = self.leases.values().filter_map(offered);
        first.min_by_key(|(since, _)| *since).map(|(_, p)| p)
    }

    /// Gives a position that is free or offered to a worker; returns the lease, and its holder, that this one
    /// replaces.
    pub(super) fn lease(
        &mut self,
        id: LeaseId,
        worker: WorkerId,
        position: usize,
        version: u64,
        now: Duration,
        length: Duration,
    ) -> Option<(LeaseId, WorkerId)> {
        let place = &mut self.places[position];
        let superseded = match place.state {
            BatchState::Free => None,
            BatchState::Leased(old) => {
                let lease = self.leases.remove(&old).expect("a place knows its lease");
                assert!(lease.offered_since().is_some(), "{lease:?} is not offered");
                Some((old, lease.worker))
            }
            closed => panic!("position {position} is {closed:?}"),
        };
        place.state = BatchState::Leased(id);
        let length = length * place.doubled();
        self.leases
            .insert(id, Lease::new(worker, position, version, now, length));
        self.advance();
        superseded
    }

    /// A lease that holds.
    ///
    /// # Panics
    /// When it does not.
    pub(super) fn get(&self, lease: LeaseId) -> &Lease {
        self.leases.get(&lease).expect("the lease holds")
    }

    /// The lease lasts until then, and is not offered any more: it is seen to get on.
    pub(super) fn extend(&mut self, lease: LeaseId, until: Duration) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.extend(until);
        }
    }

    /// The gradient of this lease has come: the lease does not run out any more, and stays until counted.
    pub(super) fn hold(&mut self, lease: LeaseId, report: Report) {
        let lease = self.leases.get_mut(&lease).expect("pushed under a lease");
        lease.hold(report);
    }

    /// Leases of the group whose gradients are in hand, in batch order.
    pub(super) fn held(&self) -> Vec<LeaseId> {
        let leased = self.group().iter().filter_map(|&p| self.lease_at(p));
        leased
            .filter(|id| !self.leases[id].is_computing())
            .collect()
    }

    /// The batch of this lease is counted, once and for all.
    pub(super) fn count(&mut self, lease: LeaseId) -> Lease {
        let lease = self.leases.remove(&lease).expect("counted under a lease");
        self.close(lease.position, BatchState::Counted);
        lease
    }

    /// Takes the lease away; its batch is free again.
    pub(super) fn free(&mut self, lease: LeaseId) -> Lease {
        let lease = self.leases.remove(&lease).expect("only a lease is freed");
        assert!(lease.is_computing(), "the gradient of {lease:?} is in hand");
        self.places[lease.position].state = BatchState::Free;
        self.cursor = self.cursor.min(lease.position);
        lease
    }

    /// Ends the synchronous step: what was not counted is free for the next one. Returns who still computes.
    pub(super) fn close_group(&mut self) -> Vec<(LeaseId, WorkerId)> {
        let group = std::mem::take(self.group.get_or_insert_default());
        let leased: Vec<_> = group.iter().filter_map(|&p| self.lease_at(p)).collect();
        let freed = leased.into_iter().map(|id| (id, self.free(id).worker));
        freed.collect()
    }

    fn lease_at(&self, position: usize) -> Option<LeaseId> {
        match self.places[position].state {
            BatchState::Leased(lease) => Some(lease),
            _ => None,
        }
    }

    /// The batch is left out of this epoch.
    pub(super) fn leave_out(&mut self, position: usize) {
        if let Some(group) = &mut self.group {
            group.retain(|&p| p != position);
        }
        self.close(position, BatchState::LeftOut);
    }

    /// Marks leases that have run out by `now` as offered; returns batch and worker of each, and
    /// whether it was for impatience. With `impatience`, none lasts longer than that.
    pub(super) fn offer_overdue(
        &mut self,
        now: Duration,
        impatience: Option<Duration>,
    ) -> Vec<(usize, WorkerId, bool)> {
        let mut offered = Vec::new();
        for lease in self.leases.values_mut() {
            let place = &mut self.places[lease.position];
            let most = impatience.map(|patience| patience * place.doubled());
            if lease.end(most).is_some_and(|end| end <= now) {
                place.overdue += 1;
                let batch = self.order[lease.position];
                offered.push((batch, lease.worker, lease.offer(now)));
            }
        }
        offered
    }

    /// When the first lease that is not yet offered runs out.
    pub(super) fn first_deadline(&self, impatience: Option<Duration>) -> Option<Duration> {
        let end = |lease: &Lease| {
            let place = &self.places[lease.position];
            lease.end(impatience.map(|patience| patience * place.doubled()))
        };
        self.leases.values().filter_map(end).min()
    }

    /// Whether this worker computes under this lease.
    pub(super) fn computes(&self, worker: WorkerId, lease: LeaseId) -> bool {
        let lease = self.leases.get(&lease);
        lease.is_some_and(|lease| lease.worker == worker && lease.is_computing())
    }

    /// The lease under which a worker computes.
    pub(super) fn lease_of(&self, worker: WorkerId) -> Option<LeaseId> {
        let mut leases = self.leases.iter();
        let found = leases.find(|(_, lease)| lease.worker == worker && lease.is_computing());
        found.map(|(&id, _)| id)
    }

    /// Number of leases, those with the gradient in hand as well.
    pub(super) fn taken(&self) -> usize {
        self.leases.len()
    }

    /// Number of workers that compute under a lease.
    pub(super) fn workers_busy(&self) -> usize {
        let leases = self.leases.values();
        leases.filter(|lease| lease.is_computing()).count()
    }

    /// Whether every batch is counted or left out.
    pub(super) fn is_complete(&self) -> bool {
        self.closed == self.places.len()
    }

    /// What a lease on this position is for.
    pub(super) fn work(&self, position: usize) -> Work {
        let batch = self.order[position];
        match self.epoch {
            Some(epoch) => Work::Train { epoch, batch },
            None => Work::Validate { batch },
        }
    }

    /// The batch at a position.
    pub(super) fn batch(&self, position: usize) -> usize {
        self.order[position]
    }

    /// Counted batches, ascending.
    pub(super) fn counted(&self) -> Vec<usize> {
        self.in_state(BatchState::Counted)
    }

    /// Batches left out, ascending.
    pub(super) fn left_out(&self) -> Vec<usize> {
        self.in_state(BatchState::LeftOut)
    }

    /// Number of positions that are counted or left out.
    pub(super) fn closed(&self) -> usize {
        self.closed
    }

    fn in_state(&self, state: BatchState) -> Vec<usize> {
        let places = self.places.iter().zip(&self.order);
        let mut batches: Vec<_> = places
            .filter(|(place, _)| place.state == state)
            .map(|(_, &b)| b)
            .collect();
        batches.sort_unstable();
        batches
    }

    fn close(&mut self, position: usize, state: BatchState) {
        let before = std::mem::replace(&mut self.places[position].state, state);
        let open = matches!(before, BatchState::Free | BatchState::Leased(_));
        assert!(open, "position {position} was {before:?}");
        self.closed += 1;
        self.advance();
    }

    fn advance(&mut self) {
        while self
            .places
            .get(self.cursor)
            .is_some_and(|p| p.state != BatchState::Free)
        {
            self.cursor += 1;
        }
    }

    /// Panics where it contradicts itself.
    pub(super) fn assert_sound(&self) {
        for (id, lease) in &self.leases {
            let state = self.places[lease.position].state;
            assert_eq!(state, BatchState::Leased(*id), "the place of {lease:?}");
            let mut others = self.leases.iter().filter(|(other, _)| *other != id);
            let twice = others.any(|(_, o)| o.worker == lease.worker && o.is_computing());
            assert!(!lease.is_computing() || !twice, "two leases: {self:?}");
        }
        let leased = |place: &&Place| matches!(place.state, BatchState::Leased(_));
        let leased = self.places.iter().filter(leased).count();
        assert_eq!(
            leased,
            self.leases.len(),
            "a lease for each place: {self:?}"
        );
        let closed =
            |place: &&Place| matches!(place.state, BatchState::Counted | BatchState::LeftOut);
        let closed = self.places.iter().filter(closed).count();
        assert_eq!(closed, self.closed, "places that are closed: {self:?}");
    }
}

/// In a line, for people who follow a story.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} closed", self.closed, self.places.len())?;
        for (id, lease) in &self.leases {
            let batch = self.order[lease.position];
            write!(f, ", lease {id} on batch {batch} {lease}")?;
        }
        Ok(())
    }
}
