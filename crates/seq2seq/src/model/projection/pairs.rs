//! The projection's three products in bfloat16: its operands in pairs, packed block by block.
//!
//! A product takes pairs along its depth, so each operand of two products is packed twice:
//! the weights along the hidden units and along the words, the exponentials along the words
//! and along the columns. Only the last is kept until the end of a chunk, at half the size of
//! floats; everything else is packed into a buffer of one block that stays in the cache.

use crate::kernels::GROUP;
use crate::kernels::pairs::{Across, Down, Pair, WeightedPairSums};
use crate::kernels::product::{
    Grouped, Left, Product, Size, Start, panels, rows, straight, transposed,
};
use crate::kernels::transpose::groups;

use super::chunk::{Chunk, WORDS};

/// Pairs of 16 columns.
const HALF: usize = GROUP / 2;

/// Packed operands.
#[derive(Debug, Default)]
pub(super) struct PairBuffers {
    /// Of the chunk: panels [hidden / 2].
    panels: Vec<Pair>,
    /// Of a block: [words][hidden / 2], and [words / 2][hidden].
    weight: Vec<Pair>,
    weight_down: Vec<Pair>,
    /// Of a block: panels [words / 2].
    exponentials_down: Vec<Pair>,
    /// Of all words of the part: [block][panel][word][8].
    exponentials: Vec<Pair>,
    /// The hidden states times the factors: [hidden group][columns / 2][16].
    scaled: Vec<Pair>,
}

fn room(buffer: &mut Vec<Pair>, len: usize) -> &mut [Pair] {
    if buffer.len() < len {
        buffer.resize(len, Pair::default());
    }
    &mut buffer[..len]
}

impl PairBuffers {
    /// Packs the chunk's hidden states and makes room for the exponentials of so many words.
    pub(super) fn begin(&mut self, chunk: Chunk<'_>, words: usize, columns: usize) {
        let hidden = chunk.hidden;
        let to = room(&mut self.panels, hidden.div_ceil(2) * columns);
        chunk.isa.run(Down {
            from: chunk.panels,
            rows: hidden,
            width: GROUP,
            to,
        });
        room(&mut self.exponentials, words * columns / 2);
        room(&mut self.exponentials_down, WORDS.div_ceil(2) * columns);
    }

    /// `logits = W·h + bias` for one block.
    pub(super) fn logits(
        &mut self,
        chunk: Chunk<'_>,
        weight: &[f32],
        bias: &[f32],
        logits: &mut [f32],
        columns: usize,
    ) {
        let (words, depth) = (bias.len(), chunk.hidden.div_ceil(2));
        let to = room(&mut self.weight, words * depth);
        chunk.isa.run(Across {
            from: weight,
            width: chunk.hidden,
            to,
        });
        Product {
            size: Size {
                rows: words,
                columns,
                depth,
            },
            a: &self.weight,
            left: straight(depth, depth),
            b: &self.panels,
            right: panels(depth),
            c: logits,
            out: panels(words),
            start: Start::Bias(bias),
        }
        .run(chunk.isa);
        if chunk.share.is_some() {
            let to = room(&mut self.weight_down, words.div_ceil(2) * chunk.hidden);
            chunk.isa.run(Down {
                from: weight,
                rows: words,
                width: chunk.hidden,
                to,
            });
        }
    }

    /// Packs a block of exponentials, `place` being where its floats would lie.
    pub(super) fn keep(&mut self, chunk: Chunk<'_>, from: &[f32], place: usize, words: usize) {
        let to = &mut self.exponentials[place / 2..][..from.len() / 2];
        chunk.isa.run(Across {
            from,
            width: GROUP,
            to,
        });
        let to = &mut self.exponentials_down[..];
        chunk.isa.run(Down {
            from,
            rows: words,
            width: GROUP,
            to,
        });
    }

    /// `d_hidden (+)= Wᵀ·E` for the block packed last.
    pub(super) fn d_hidden(
        &self,
        chunk: Chunk<'_>,
        words: usize,
        columns: usize,
        d_hidden: &mut [f32],
        start: Start<'_>,
    ) {
        let depth = words.div_ceil(2);
        Product {
            size: Size {
                rows: chunk.hidden,
                columns,
                depth,
            },
            a: &self.weight_down,
            left: transposed(chunk.hidden, depth),
            b: &self.exponentials_down,
            right: panels(depth),
            c: d_hidden,
            out: panels(chunk.hidden),
            start,
        }
        .run(chunk.isa);
    }

    /// Scales one column of a block that was packed before.
    pub(super) fn scale(&mut self, place: usize, words: usize, column: usize, factor: f32) {
        let (group, lane) = (column / GROUP, column % GROUP);
        let panel = &mut self.exponentials[place / 2 + group * words * HALF..];
        for row in panel.chunks_exact_mut(HALF).take(words) {
            let pair = &mut row[lane / 2];
            *pair = match lane % 2 {
                0 => Pair::new(pair.first() * factor, pair.second()),
                _ => Pair::new(pair.first(), pair.second() * factor),
            };
        }
    }

    /// Packs the hidden states times the factors.
    pub(super) fn scaled(&mut self, chunk: Chunk<'_>, from: &[f32], columns: usize) {
        let to = room(&mut self.scaled, groups(chunk.hidden) * GROUP * columns / 2);
        chunk.isa.run(Down {
            from,
            rows: columns,
            width: GROUP,
            to,
        });
    }

    /// Adds the gradients of weights and biases of one block.
    pub(super) fn backward(
        &self,
        chunk: Chunk<'_>,
        place: usize,
        columns: usize,
        factors: &[f32],
        d_weight: &mut [f32],
        d_bias: &mut [f32],
    ) {
        let words = d_bias.len();
        let values = &self.exponentials[place / 2..][..words * columns / 2];
        chunk.isa.run(WeightedPairSums {
            values,
            factors,
            to: d_bias,
        });
        Product {
            size: Size {
                rows: words,
                columns: chunk.hidden,
                depth: columns / 2,
            },
            a: values,
            left: Left {
                row: HALF,
                step: 1,
                segment: HALF,
                jump: words * HALF,
            },
            b: &self.scaled,
            right: Grouped {
                row: GROUP,
                group: columns / 2 * GROUP,
            },
            c: d_weight,
            out: rows(chunk.hidden),
            start: Start::Add,
        }
        .run(chunk.isa);
    }
}
