//! Positions with a wanted word, a chunk at a time.

use crate::kernels::{Isa, Precision};

/// Words of a block, a multiple of the tallest tile.
pub(super) const WORDS: usize = 252;

/// A position with a wanted word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Whose columns it is among.
    pub(crate) shard: usize,
    /// Its column there, steps times width.
    pub(crate) column: usize,
    /// Its sentence.
    pub(crate) row: usize,
    /// The wanted word, from 0.
    pub(crate) gold: usize,
}

/// What all parts read of a chunk.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) isa: Isa,
    pub(super) precision: Precision,
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) hidden: usize,
    pub(super) kept: &'a [Kept],
    pub(super) transposed: &'a [f32],
    pub(super) panels: &'a [f32],
    /// Whether gradients are wanted, and then 1 / rows of the batch.
    pub(super) share: Option<f32>,
}
