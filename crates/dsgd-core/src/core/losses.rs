//! What was seen of losses lately.

use std::collections::BTreeSet;

/// What was seen of losses lately.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Losses of an item, of batches that were computed from the first parameters.
    pub(super) first: Vec<f64>,
    pub(super) window: Share,
    /// Windows in a row that were mostly absurd.
    pub(super) windows: u32,
    pub(super) epoch: Share,
    /// Reports refused since the last one that was taken, and the workers that they came from.
    pub(super) refused: u32,
    pub(super) refused_by: BTreeSet<String>,
}

/// How many batches of those counted are absurd.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pub(super) batches: u32,
    pub(super) absurd: u32,
}

impl Share {
    pub(super) fn add(&mut self, absurd: bool) {
        self.batches += 1;
        self.absurd += u32::from(absurd);
    }

    pub(super) fn is_most(self) -> bool {
        self.absurd * 2 > self.batches
    }
}
