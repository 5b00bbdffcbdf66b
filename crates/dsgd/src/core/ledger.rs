//! Which batch next: every batch of an epoch in its place, and the leases on them.
//!
//! A position is a place in the epoch's order; the order is a permutation of the batches
//! that depends on seed and epoch alone. A batch whose lease has run out is not taken from
//! its worker: it is *offered*, and changes hands only when somebody else is free. So the
//! last worker of a run, however slow, still gets on.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{LeaseId, Progress, Rules, Work, WorkerId};
use crate::config::Mode;

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
    state: State,
    /// How often its lease has run out: each time the next lease is twice as long.
    overdue: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Free,
    Leased(LeaseId),
    /// Its gradient is here and waits for the others of the step.
    Held(LeaseId),
    Counted,
    LeftOut,
}

/// A batch that a worker has been given.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) worker: WorkerId,
    pub(super) position: usize,
    /// Version of the parameters that it was computed from.
    pub(super) version: u64,
    since: Duration,
    deadline: Duration,
    offered: bool,
}

impl Place {
    /// How many times as long as the first one the next lease is.
    fn doubled(&self) -> u32 {
        2u32.pow(self.overdue.min(10))
    }
}

/// When a lease on that place runs out, unless it is offered already or its gradient is in hand.
fn end(
    id: LeaseId,
    lease: &Lease,
    place: &Place,
    impatience: Option<Duration>,
) -> Option<Duration> {
    if lease.offered || place.state != State::Leased(id) {
        return None;
    }
    let impatient = impatience.map(|patience| lease.since + patience * place.doubled());
    Some(impatient.map_or(lease.deadline, |end| end.min(lease.deadline)))
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
            (&progress.counted, State::Counted),
            (&progress.left_out, State::LeftOut),
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
            let left =
                (self.cursor..self.places.len()).filter(|&p| self.places[p].state == State::Free);
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
        let free = |p: &usize| self.places[*p].state == State::Free && suits(*p);
        match &self.group {
            Some(group) => group.iter().copied().find(free),
            None => (self.cursor..self.places.len()).find(free),
        }
    }

    /// The position whose lease has run out first.
    pub(super) fn first_offered(&self) -> Option<usize> {
        let offered = self.leases.values().filter(|lease| lease.offered);
        offered
            .min_by_key(|lease| lease.deadline)
            .map(|l| l.position)
    }

    /// Gives a position to a worker; returns the lease, and its holder, that this one replaces.
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
            State::Leased(old) => self.leases.remove(&old).map(|lease| (old, lease.worker)),
            _ => None,
        };
        place.state = State::Leased(id);
        let length = length * place.doubled();
        self.leases.insert(
            id,
            Lease {
                worker,
                position,
                version,
                since: now,
                deadline: now + length,
                offered: false,
            },
        );
        self.advance();
        superseded
    }

    /// A lease that still holds.
    pub(super) fn get(&self, lease: LeaseId) -> Option<&Lease> {
        self.leases.get(&lease)
    }

    /// The lease lasts until then, and is not offered any more: it is seen to get on.
    pub(super) fn extend(&mut self, lease: LeaseId, deadline: Duration) {
        if let Some(held) = self.leases.get_mut(&lease)
            && self.places[held.position].state == State::Leased(lease)
        {
            held.deadline = held.deadline.max(deadline);
            held.offered = false;
        }
    }

    /// Ends a lease whose gradient is in hand; it stays with its position until counted.
    pub(super) fn hold(&mut self, lease: LeaseId) {
        if let Some(Lease { position, .. }) = self.leases.get_mut(&lease) {
            self.places[*position].state = State::Held(lease);
        }
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.offered = false;
            lease.deadline = Duration::MAX;
        }
    }

    /// Leases of the group whose gradients are in hand, in batch order.
    pub(super) fn held(&self) -> Vec<LeaseId> {
        let held = |&p: &usize| match self.places[p].state {
            State::Held(lease) => Some(lease),
            _ => None,
        };
        self.group().iter().filter_map(held).collect()
    }

    /// The batch of this lease is counted, once and for all.
    pub(super) fn count(&mut self, lease: LeaseId) {
        if let Some(lease) = self.leases.remove(&lease) {
            self.close(lease.position, State::Counted);
        }
    }

    /// Takes the lease away; its batch is free again.
    pub(super) fn free(&mut self, lease: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&lease)?;
        self.places[lease.position].state = State::Free;
        self.cursor = self.cursor.min(lease.position);
        Some(lease)
    }

    /// Ends the synchronous step: what was not counted is free for the next one. Returns who still computes.
    pub(super) fn close_group(&mut self) -> Vec<(LeaseId, WorkerId)> {
        let group = std::mem::take(self.group.get_or_insert_default());
        let leased = group.iter().filter_map(|&p| match self.places[p].state {
            State::Leased(lease) => Some(lease),
            _ => None,
        });
        let leased: Vec<_> = leased.collect();
        leased
            .into_iter()
            .filter_map(|id| self.free(id).map(|lease| (id, lease.worker)))
            .collect()
    }

    /// The batch is left out of this epoch.
    pub(super) fn leave_out(&mut self, position: usize) {
        if let Some(group) = &mut self.group {
            group.retain(|&p| p != position);
        }
        self.close(position, State::LeftOut);
    }

    /// Marks leases that have run out by `now` as offered; returns batch and worker of each, and
    /// whether it was for impatience. With `impatience`, none lasts longer than that.
    pub(super) fn offer_overdue(
        &mut self,
        now: Duration,
        impatience: Option<Duration>,
    ) -> Vec<(usize, WorkerId, bool)> {
        let mut offered = Vec::new();
        for (&id, lease) in &mut self.leases {
            let place = &mut self.places[lease.position];
            if end(id, lease, place, impatience).is_some_and(|end| end <= now) {
                lease.offered = true;
                place.overdue += 1;
                let batch = self.order[lease.position];
                offered.push((batch, lease.worker, lease.deadline > now));
            }
        }
        offered
    }

    /// When the first lease that is not yet offered runs out.
    pub(super) fn first_deadline(&self, impatience: Option<Duration>) -> Option<Duration> {
        let end = |(&id, lease): (&LeaseId, &Lease)| {
            end(id, lease, &self.places[lease.position], impatience)
        };
        self.leases.iter().filter_map(end).min()
    }

    /// Leases of a worker that is gone, but for those whose gradient is in hand.
    pub(super) fn leases_of(&self, worker: WorkerId) -> Vec<LeaseId> {
        let of_worker = |(&id, lease): (&LeaseId, &Lease)| {
            let leased = self.places[lease.position].state == State::Leased(id);
            (lease.worker == worker && leased).then_some(id)
        };
        self.leases.iter().filter_map(of_worker).collect()
    }

    /// Number of workers that compute under a lease.
    pub(super) fn workers_busy(&self) -> usize {
        let computing = |(&id, lease): (&LeaseId, &Lease)| {
            self.places[lease.position].state == State::Leased(id)
        };
        self.leases.iter().filter(|&entry| computing(entry)).count()
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
        self.in_state(State::Counted)
    }

    /// Batches left out, ascending.
    pub(super) fn left_out(&self) -> Vec<usize> {
        self.in_state(State::LeftOut)
    }

    /// Number of positions that are counted or left out.
    pub(super) fn closed(&self) -> usize {
        self.closed
    }

    /// Batches that are with a worker: worker and batch.
    pub(super) fn outstanding(&self) -> Vec<(WorkerId, usize)> {
        let lease = |lease: &Lease| (lease.worker, self.order[lease.position]);
        self.leases.values().map(lease).collect()
    }

    fn in_state(&self, state: State) -> Vec<usize> {
        let places = self.places.iter().zip(&self.order);
        let mut batches: Vec<_> = places
            .filter(|(place, _)| place.state == state)
            .map(|(_, &b)| b)
            .collect();
        batches.sort_unstable();
        batches
    }

    fn close(&mut self, position: usize, state: State) {
        self.places[position].state = state;
        self.closed += 1;
        self.advance();
    }

    fn advance(&mut self) {
        while self
            .places
            .get(self.cursor)
            .is_some_and(|p| p.state != State::Free)
        {
            self.cursor += 1;
        }
    }
}
