//! The ledger held against itself, and shown.

use std::fmt;

use super::{BatchState, Ledger, Place};

impl Ledger {
    /// Panics where it contradicts itself.
    pub(in crate::core) fn assert_sound(&self) {
        for (id, lease) in &self.leases {
            for &position in &lease.positions {
                let state = self.places[position].state;
                assert_eq!(state, BatchState::Leased(*id), "a place of {lease:?}");
            }
            let mut others = self.leases.iter().filter(|(other, _)| *other != id);
            let twice = others.any(|(_, o)| o.worker == lease.worker && o.is_computing());
            assert!(!lease.is_computing() || !twice, "two leases: {self:?}");
        }
        let leased = |place: &&Place| matches!(place.state, BatchState::Leased(_));
        let leased = self.places.iter().filter(leased).count();
        let positions = self.leases.values().map(|lease| lease.positions.len());
        let positions: usize = positions.sum();
        assert_eq!(leased, positions, "a lease for each place: {self:?}");
        let closed =
            |place: &&Place| matches!(place.state, BatchState::Counted | BatchState::LeftOut);
        let closed = self.places.iter().filter(closed).count();
        assert_eq!(closed, self.closed, "places that are closed: {self:?}");
        for parts in self.places.chunks(self.parts) {
            let counted = |place: &Place| place.state == BatchState::Counted;
            let alike = parts.iter().all(|p| counted(p) == counted(&parts[0]));
            assert!(alike, "a batch is counted as a whole: {self:?}");
        }
    }
}

/// In a line, for people who follow a story.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batches = self.places.len() / self.parts;
        write!(f, "{}/{batches} closed", self.closed())?;
        for (id, lease) in &self.leases {
            let batches = self.batches(&lease.positions);
            let batches: Vec<_> = batches.iter().map(ToString::to_string).collect();
            write!(f, ", lease {id} on batch {}", batches.join("+"))?;
            let part = self.part(lease.positions[0]);
            if !part.is_whole() {
                write!(f, " part {}", part.number)?;
            }
            write!(f, " {lease}")?;
        }
        Ok(())
    }
}
