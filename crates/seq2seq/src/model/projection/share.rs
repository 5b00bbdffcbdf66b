//! One thread's share of the vocabulary: logits, exponentials and the products with them.

use std::ops::Range;

use crate::kernels::product::{
    Grouped, Product, Size, Start, over_columns, panels, rows, straight, transposed,
};
use crate::kernels::softmax::{Exponentials, Largest, ROOM, WeightedSums};
use crate::kernels::transpose::{add_row, groups};
use crate::kernels::{GROUP, Precision};

use super::super::cell::room;
use super::chunk::{Chunk, WORDS};
use super::pairs::PairBuffers;

/// One thread's share of the vocabulary, and what it computes of a chunk.
#[derive(Debug, Default)]
pub(super) struct VocabularyShare {
    pub(super) words: Range<usize>,
    /// [block][panel][word][16]; of one block only where nothing or pairs are kept.
    exponentials: Vec<f32>,
    /// One a column, in panels.
    pub(super) reference: Vec<[f32; GROUP]>,
    pub(super) sums: Vec<f64>,
    pub(super) gold_logits: Vec<f32>,
    pub(super) factors: Vec<f32>,
    /// Panels [hidden], before the factors.
    pub(super) d_hidden: Vec<f32>,
    /// The hidden states times the factors, transposed.
    scaled: Vec<f32>,
    pairs: PairBuffers,
}

impl VocabularyShare {
    /// The blocks of this part, and the place of each in `exponentials`.
    fn blocks(&self, columns: usize) -> impl Iterator<Item = (Range<usize>, usize)> + use<> {
        let words = self.words.clone();
        words.clone().step_by(WORDS).map(move |first| {
            let block = first..words.end.min(first + WORDS);
            (block, (first - words.start) * columns)
        })
    }

    /// Exponentials, their sums, and the gradient of the hidden states before the factors.
    pub(super) fn forward(&mut self, chunk: Chunk<'_>) {
        let columns = groups(chunk.kept.len()) * GROUP;
        self.reference.clear();
        self.reference
            .resize(columns / GROUP, [f32::NEG_INFINITY; GROUP]);
        self.sums.clear();
        self.sums.resize(columns, 0.0);
        self.gold_logits.resize(columns, 0.0);
        self.d_hidden.resize(columns * chunk.hidden, 0.0);
        let pairs = chunk.precision == Precision::Bf16;
        let kept = chunk.share.is_some();
        let words = if kept && !pairs {
            self.words.len()
        } else {
            WORDS
        };
        room(&mut self.exponentials, words * columns);
        if pairs {
            self.pairs
                .begin(chunk, if kept { self.words.len() } else { 0 }, columns);
        }
        for (block, place) in self.blocks(columns) {
            let start = if block.start == self.words.start {
                Start::Zero
            } else {
                Start::Add
            };
            let here = if kept && !pairs { place } else { 0 };
            let weight = &chunk.weight[block.start * chunk.hidden..block.end * chunk.hidden];
            let bias = &chunk.bias[block.clone()];
            let logits = &mut self.exponentials[here..here + block.len() * columns];
            if pairs {
                self.pairs.logits(chunk, weight, bias, logits, columns);
            } else {
                Product {
                    size: Size {
                        rows: block.len(),
                        columns,
                        depth: chunk.hidden,
                    },
                    a: weight,
                    left: straight(chunk.hidden, chunk.hidden),
                    b: chunk.panels,
                    right: panels(chunk.hidden),
                    c: logits,
                    out: panels(block.len()),
                    start: Start::Bias(bias),
                }
                .run(chunk.isa);
            }
            self.softmax(chunk, &block, here, columns);
            let exponentials = &self.exponentials[here..here + block.len() * columns];
            match (kept, pairs) {
                (false, _) => {}
                (true, true) => {
                    self.pairs.keep(chunk, exponentials, place, block.len());
                    self.pairs
                        .d_hidden(chunk, block.len(), columns, &mut self.d_hidden, start);
                }
                (true, false) => Product {
                    size: Size {
                        rows: chunk.hidden,
                        columns,
                        depth: block.len(),
                    },
                    a: weight,
                    left: transposed(chunk.hidden, block.len()),
                    b: exponentials,
                    right: panels(block.len()),
                    c: &mut self.d_hidden,
                    out: panels(chunk.hidden),
                    start,
                }
                .run(chunk.isa),
            }
        }
    }

    /// Keeps the wanted words' logits, then turns a block into exponentials and adds them up.
    fn softmax(&mut self, chunk: Chunk<'_>, block: &Range<usize>, place: usize, columns: usize) {
        let first = block.start == self.words.start;
        let panel = block.len() * GROUP;
        for (i, kept) in chunk.kept.iter().enumerate() {
            if block.contains(&kept.gold) {
                let row = i / GROUP * block.len() + kept.gold - block.start;
                self.gold_logits[i] = self.exponentials[place + row * GROUP + i % GROUP];
            }
        }
        for group in 0..columns / GROUP {
            let at = place + group * panel;
            let mut most = self.reference[group];
            let logits = &self.exponentials[at..at + panel];
            chunk.isa.run(Largest {
                logits,
                most: &mut most,
            });
            if first {
                self.reference[group] = most;
            } else {
                for (lane, &most) in most.iter().enumerate() {
                    if most > self.reference[group][lane] + ROOM {
                        self.lower(chunk, group * GROUP + lane, most, block, columns);
                    }
                }
            }
            let sums = chunk.isa.run(Exponentials {
                logits: &mut self.exponentials[at..at + panel],
                reference: &self.reference[group],
            });
            let totals = &mut self.sums[group * GROUP..(group + 1) * GROUP];
            totals
                .iter_mut()
                .zip(sums)
                .for_each(|(total, sum)| *total += f64::from(sum));
        }
    }

    /// Makes `most` the reference of one column, and scales down what was computed before `now`.
    fn lower(
        &mut self,
        chunk: Chunk<'_>,
        column: usize,
        most: f32,
        now: &Range<usize>,
        columns: usize,
    ) {
        let (group, lane) = (column / GROUP, column % GROUP);
        let factor = (self.reference[group][lane] - most).exp();
        self.reference[group][lane] = most;
        self.sums[column] *= f64::from(factor);
        if chunk.share.is_none() {
            return;
        }
        let d_hidden = &mut self.d_hidden[group * chunk.hidden * GROUP..];
        for row in d_hidden.chunks_exact_mut(GROUP).take(chunk.hidden) {
            row[lane] *= factor;
        }
        for (block, place) in self
            .blocks(columns)
            .take_while(|(block, _)| block.start < now.start)
        {
            if chunk.precision == Precision::Bf16 {
                self.pairs.scale(place, block.len(), column, factor);
                continue;
            }
            let panel = &mut self.exponentials[place + group * block.len() * GROUP..];
            for row in panel.chunks_exact_mut(GROUP).take(block.len()) {
                row[lane] *= factor;
            }
        }
    }

    /// Adds the gradients of this part's weights and biases.
    pub(super) fn backward(&mut self, chunk: Chunk<'_>, d_weight: &mut [f32], d_bias: &mut [f32]) {
        let columns = groups(chunk.kept.len()) * GROUP;
        let hidden = chunk.hidden;
        self.scaled.resize(chunk.transposed.len(), 0.0);
        let scaled = self.scaled.chunks_exact_mut(GROUP);
        for (i, (to, from)) in scaled.zip(chunk.transposed.chunks_exact(GROUP)).enumerate() {
            let factor = self.factors[i % columns];
            to.iter_mut()
                .zip(from)
                .for_each(|(to, from)| *to = factor * from);
        }
        if chunk.precision == Precision::Bf16 {
            self.pairs.scaled(chunk, &self.scaled, columns);
        }
        for (block, place) in self.blocks(columns) {
            let here = block.start - self.words.start..block.end - self.words.start;
            let (factors, to) = (&self.factors[..], &mut d_bias[here.clone()]);
            let d_weight = &mut d_weight[here.start * hidden..here.end * hidden];
            if chunk.precision == Precision::Bf16 {
                self.pairs
                    .backward(chunk, place, columns, factors, d_weight, to);
                continue;
            }
            let values = &self.exponentials[place..place + block.len() * columns];
            chunk.isa.run(WeightedSums {
                values,
                factors,
                to,
            });
            Product {
                size: Size {
                    rows: block.len(),
                    columns: hidden,
                    depth: columns,
                },
                a: values,
                left: over_columns(block.len()),
                b: &self.scaled,
                right: Grouped {
                    row: GROUP,
                    group: columns * GROUP,
                },
                c: d_weight,
                out: rows(hidden),
                start: Start::Add,
            }
            .run(chunk.isa);
        }
        let share = chunk.share.unwrap_or(0.0);
        for (i, kept) in chunk.kept.iter().enumerate() {
            if self.words.contains(&kept.gold) {
                let word = kept.gold - self.words.start;
                d_bias[word] -= share;
                let row = &mut d_weight[word * hidden..(word + 1) * hidden];
                add_row(chunk.transposed, columns, i, -share, row);
            }
        }
    }
}
