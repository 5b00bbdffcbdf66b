//! Which batch next: every batch of an epoch in its place, and the leases on them.
//!
//! A position is a place in the epoch's order; the order is a permutation of the batches
//! that depends on seed and epoch alone. A batch whose lease has run out is not taken from
//! its worker: it is *offered*, and changes hands only when somebody else is free. So the
//! last worker of a run, however slow, still gets on.
//!
//! In split mode each part of a batch has a position of its own, one after the other, and a step is all parts of
//! one batch: so a batch is counted, or left out, as a whole.

mod check;
mod group;

use std::collections::BTreeMap;
use std::time::Duration;

use super::lease::{Lease, LeaseTime};
use super::{LeaseId, Progress, Report, Round, Rules, Work, WorkerId};
use crate::task::{Part, epoch_order};

/// Batches of one epoch, or of one validation.
#[derive(Debug)]
pub(super) struct Ledger {
    /// 1-based epoch; none when these are validation batches.
    epoch: Option<u32>,
    /// Batch at each position.
    order: Vec<usize>,
    /// Positions of each batch.
    parts: usize,
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
        let order = epoch_order(rules.seed, progress.epoch, rules.batches);
        let parts = order
            .iter()
            .flat_map(|&b| std::iter::repeat_n(b, rules.parts));
        let mut ledger = Self {
            parts: rules.parts,
            ..Self::new(Some(progress.epoch), parts.collect())
        };
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
        ledger.group = rules.begins_groups(progress.plan).then(Vec::new);
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
            parts: 1,
            leases: BTreeMap::new(),
            cursor: 0,
            closed: 0,
            group: None,
            group_size: 0,
        }
    }

    /// The first `most` positions that are free and suit.
    pub(super) fn first_free(&self, most: usize, suits: impl Fn(usize) -> bool) -> Vec<usize> {
        let free = |p: &usize| self.places[*p].state == BatchState::Free && suits(*p);
        if let Some(group) = &self.group {
            return group.iter().copied().filter(free).take(most).collect();
        }
        let all = self.cursor..self.places.len();
        all.filter(free).take(most).collect()
    }

    /// Whether anybody could be given anything: who waits for a step to be made need not be asked one by one.
    pub(super) fn has_work(&self) -> bool {
        !self.first_free(1, |_| true).is_empty() || !self.first_offered(|_| true).is_empty()
    }

    /// The positions whose lease has run out first, of these holders; none where none has.
    pub(super) fn first_offered(&self, of: impl Fn(WorkerId) -> bool) -> Vec<usize> {
        let offered = |lease: &Lease| Some((lease.offered_since()?, lease.positions.clone()));
        let first = self.leases.values().filter(|lease| of(lease.worker));
        let first = first.filter_map(offered);
        let first = first.min_by_key(|(since, _)| *since);
        first.map(|(_, positions)| positions).unwrap_or_default()
    }

    /// Gives positions that are free, or all those of a lease that is offered, to a worker; returns the lease,
    /// and its holder, that this one replaces.
    pub(super) fn lease(
        &mut self,
        id: LeaseId,
        worker: WorkerId,
        positions: Vec<usize>,
        version: u64,
        now: Duration,
        length: Duration,
    ) -> Option<(LeaseId, WorkerId)> {
        let superseded = self.lease_at(positions[0]).map(|old| {
            let lease = self.leases.remove(&old).expect("a place knows its lease");
            assert!(lease.offered_since().is_some(), "{lease:?} is not offered");
            assert_eq!(lease.positions, positions, "a round changes hands whole");
            (old, lease.worker)
        });
        for &position in &positions {
            let place = &mut self.places[position];
            let before = std::mem::replace(&mut place.state, BatchState::Leased(id));
            let open = match superseded {
                Some((old, _)) => before == BatchState::Leased(old),
                None => before == BatchState::Free,
            };
            assert!(open, "position {position} was {before:?}");
        }
        let times = self.doubled(&positions) * positions.len() as u32;
        let length = length.saturating_mul(times);
        self.leases
            .insert(id, Lease::new(worker, positions, version, now, length));
        self.advance();
        superseded
    }

    /// How many times as long as the first one a lease of these is.
    fn doubled(&self, positions: &[usize]) -> u32 {
        let doubled = positions.iter().map(|&p| self.places[p].doubled());
        doubled.max().unwrap_or(1)
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

    /// The gradient of this lease has come: the lease does not run out any more, and stays until counted. Returns
    /// when it was given.
    pub(super) fn hold(&mut self, lease: LeaseId, report: Report) -> Duration {
        let lease = self.leases.get_mut(&lease).expect("pushed under a lease");
        lease.hold(report)
    }

    /// The batches of this lease are counted, once and for all.
    pub(super) fn count(&mut self, lease: LeaseId) -> Lease {
        let lease = self.leases.remove(&lease).expect("counted under a lease");
        for &position in &lease.positions {
            self.close(position, BatchState::Counted);
        }
        lease
    }

    /// Takes the lease away; its batches are free again.
    pub(super) fn free(&mut self, lease: LeaseId) -> Lease {
        let lease = self.leases.remove(&lease).expect("only a lease is freed");
        assert!(lease.is_computing(), "the gradient of {lease:?} is in hand");
        for &position in &lease.positions {
            self.places[position].state = BatchState::Free;
            self.cursor = self.cursor.min(position);
        }
        lease
    }

    fn lease_at(&self, position: usize) -> Option<LeaseId> {
        match self.places[position].state {
            BatchState::Leased(lease) => Some(lease),
            _ => None,
        }
    }

    /// The batch at this position is left out of this epoch, with all its parts; returns the leases of others,
    /// which hold no more.
    pub(super) fn leave_out(&mut self, position: usize) -> Vec<(LeaseId, Lease)> {
        let first = position / self.parts * self.parts;
        let positions = first..first + self.parts;
        let leases: Vec<_> = positions.clone().filter_map(|p| self.lease_at(p)).collect();
        let ended = |id| {
            (
                id,
                self.leases.remove(&id).expect("a place knows its lease"),
            )
        };
        let ended = leases.into_iter().map(ended).collect();
        if let Some(group) = &mut self.group {
            group.retain(|p| !positions.contains(p));
        }
        for position in positions {
            self.close(position, BatchState::LeftOut);
        }
        ended
    }

    /// Marks leases that have run out by `now` as offered; returns each of their batches with its worker, and
    /// whether it was for impatience. With `impatience`, none lasts longer than that.
    pub(super) fn offer_overdue(
        &mut self,
        now: Duration,
        impatience: Option<LeaseTime>,
    ) -> Vec<(usize, WorkerId, bool)> {
        let mut offered = Vec::new();
        let overdue = |lease: &Lease| self.end(lease, impatience).is_some_and(|end| end <= now);
        let overdue = self.leases.iter().filter(|(_, lease)| overdue(lease));
        let overdue: Vec<LeaseId> = overdue.map(|(&id, _)| id).collect();
        for id in overdue {
            let lease = self.leases.get_mut(&id).expect("found just now");
            let early = lease.offer(now);
            for &position in &lease.positions {
                self.places[position].overdue += 1;
                offered.push((self.order[position], lease.worker, early));
            }
        }
        offered
    }

    /// When the first lease that is not yet offered runs out.
    pub(super) fn first_deadline(&self, impatience: Option<LeaseTime>) -> Option<Duration> {
        let leases = self.leases.values();
        leases.filter_map(|lease| self.end(lease, impatience)).min()
    }

    /// When a lease runs out, unless it has.
    fn end(&self, lease: &Lease, impatience: Option<LeaseTime>) -> Option<Duration> {
        let times = self.doubled(&lease.positions);
        let time = impatience.map(|patience| patience.with(lease.positions.len()));
        lease.end(time.map(|time| time * times))
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

    /// All leases.
    pub(super) fn open(&self) -> impl Iterator<Item = LeaseId> {
        self.leases.keys().copied()
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

    /// What a lease on these positions is for.
    pub(super) fn work(&self, positions: &[usize]) -> Work {
        let (batches, part) = (self.batches(positions), self.part(positions[0]));
        match self.epoch {
            Some(epoch) => Work::Train(Round {
                epoch,
                batches,
                part,
                ..Round::default()
            }),
            None => Work::Validate { batch: batches[0] },
        }
    }

    /// The batches at these positions.
    pub(super) fn batches(&self, positions: &[usize]) -> Vec<usize> {
        positions
            .iter()
            .map(|&position| self.order[position])
            .collect()
    }

    /// The batch at a position.
    pub(super) fn batch(&self, position: usize) -> usize {
        self.order[position]
    }

    /// The part of its batch at a position.
    pub(super) fn part(&self, position: usize) -> Part {
        Part {
            number: position % self.parts,
            of: self.parts,
        }
    }

    /// Counted batches, ascending.
    pub(super) fn counted(&self) -> Vec<usize> {
        self.in_state(BatchState::Counted)
    }

    /// Batches left out, ascending.
    pub(super) fn left_out(&self) -> Vec<usize> {
        self.in_state(BatchState::LeftOut)
    }

    /// Number of batches that are counted or left out.
    pub(super) fn closed(&self) -> usize {
        self.closed / self.parts
    }

    fn in_state(&self, state: BatchState) -> Vec<usize> {
        let places = self.places.iter().zip(&self.order);
        let mut batches: Vec<_> = places
            .filter(|(place, _)| place.state == state)
            .map(|(_, &b)| b)
            .collect();
        batches.sort_unstable();
        batches.dedup();
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
}
