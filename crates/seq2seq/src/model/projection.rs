//! The output layer, softmax, loss and all their gradients, without ever holding the logits
//! of a batch.
//!
//! The kept positions (those with a wanted word) are handled in chunks of [`CHUNK`] columns.
//! For a chunk the vocabulary passes by in blocks of [`WORDS`], each thread having a part of
//! it: a block's logits are computed, turned into exponentials in place and used at once for
//! the gradient of the hidden state, all in the second-level cache. What the sum over the
//! whole vocabulary later says about a column is one factor, applied to the small side of
//! each product: `dW = E·(f·h)ᵀ`, `dh = f·(Wᵀ·E)`. The wanted words are subtracted apart.
//!
//! What remains of a chunk until its end are the exponentials, words by columns, for dW.

use std::ops::Range;

use dsgd::{Gradient, Params, TensorId};

use crate::kernels::dispatch::each;
use crate::kernels::product::{
    Grouped, Product, Size, Start, over_columns, panels, rows, straight, transposed,
};
use crate::kernels::softmax::{Exponentials, Largest, ROOM, WeightedSums};
use crate::kernels::turn::{add_row, groups, to_panels, to_turned};
use crate::kernels::{GROUP, Isa};

use super::cell::room;

/// Columns of a chunk at most. More of them mean that weights and their gradient pass from
/// memory less often, and longer sums; but the exponentials take 4 bytes a word and column.
const CHUNK: usize = 256;

/// Words of a block, a multiple of the tallest tile.
const WORDS: usize = 252;

/// The output layer's tensors and sizes.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    pub(crate) weight: TensorId,
    pub(crate) bias: TensorId,
    pub(crate) hidden: usize,
    pub(crate) words: usize,
}

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

/// Buffers of the projection.
#[derive(Debug, Default)]
pub(crate) struct ProjectionSpace {
    /// The chunk's hidden states, turned and in panels.
    turned: Vec<f32>,
    panels: Vec<f32>,
    d_turned: Vec<f32>,
    parts: Vec<Part>,
}

/// One thread's share of the vocabulary, and what it computes of a chunk.
#[derive(Debug, Default)]
struct Part {
    words: Range<usize>,
    /// [block][panel][word][16]
    exponentials: Vec<f32>,
    /// One a column, in panels.
    reference: Vec<[f32; GROUP]>,
    sums: Vec<f64>,
    gold_logits: Vec<f32>,
    factors: Vec<f32>,
    /// Panels [hidden], before the factors.
    d_hidden: Vec<f32>,
    /// The hidden states times the factors, turned.
    scaled: Vec<f32>,
}

/// What all parts read of a chunk.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    isa: Isa,
    weight: &'a [f32],
    bias: &'a [f32],
    hidden: usize,
    kept: &'a [Kept],
    turned: &'a [f32],
    panels: &'a [f32],
    /// Whether gradients are wanted, and then 1 / rows of the batch.
    share: Option<f32>,
}

/// Where the hidden states come from and their gradient goes: the decoder's, turned.
pub(crate) struct Top<'a> {
    pub(crate) hidden: &'a [f32],
    /// Columns of that buffer, of which the first `skip` are the initial state.
    pub(crate) columns: usize,
    pub(crate) skip: usize,
    /// Turned, `columns - skip` columns; all zero on entry.
    pub(crate) d_hidden: &'a mut [f32],
}

impl Projection {
    /// Adds each sentence's negative log-likelihood to `nll`, and with a gradient the batch's
    /// mean over so many rows to it and to `tops`.
    #[expect(
        clippy::too_many_arguments,
        reason = "all of the forward and backward pass"
    )]
    pub(crate) fn run(
        &self,
        isa: Isa,
        threads: usize,
        params: &Params,
        kept: &[Kept],
        tops: &mut [Top<'_>],
        nll: &mut [f64],
        mut gradient: Option<&mut Gradient>,
        space: &mut ProjectionSpace,
    ) {
        let share = gradient.is_some().then(|| 1.0 / nll.len() as f32);
        self.split(threads, &mut space.parts);
        let chunks = kept.len().div_ceil(CHUNK).max(1);
        let size = (kept.len().div_ceil(chunks).next_multiple_of(2 * GROUP)).max(1);
        for kept in kept.chunks(size) {
            self.gather(kept, tops, space);
            let chunk = Chunk {
                isa,
                weight: params.get(self.weight),
                bias: params.get(self.bias),
                hidden: self.hidden,
                kept,
                turned: &space.turned,
                panels: &space.panels,
                share,
            };
            each(&mut space.parts, |part| part.forward(chunk));
            join(&mut space.parts, kept, share, nll);
            if let Some(gradient) = gradient.as_deref_mut() {
                self.backward(chunk, &mut space.parts, gradient);
                self.scatter(chunk, &mut space.parts, &mut space.d_turned, tops);
            }
        }
    }

    /// Contiguous shares of the vocabulary, whole blocks each as far as possible.
    fn split(&self, threads: usize, parts: &mut Vec<Part>) {
        let threads = threads.clamp(1, self.words);
        parts.resize_with(threads, Part::default);
        for (i, part) in parts.iter_mut().enumerate() {
            part.words = self.words * i / threads..self.words * (i + 1) / threads;
        }
    }

    /// Copies the chunk's columns together.
    fn gather(&self, kept: &[Kept], tops: &[Top<'_>], space: &mut ProjectionSpace) {
        let columns = groups(kept.len()) * GROUP;
        let features = groups(self.hidden);
        space.turned.clear();
        space.turned.resize(features * columns * GROUP, 0.0);
        for (i, kept) in kept.iter().enumerate() {
            let top = &tops[kept.shard];
            for f in 0..features {
                let from = (f * top.columns + top.skip + kept.column) * GROUP;
                let to = (f * columns + i) * GROUP;
                space.turned[to..to + GROUP].copy_from_slice(&top.hidden[from..from + GROUP]);
            }
        }
        space.panels.resize(columns * self.hidden, 0.0);
        to_panels(&space.turned, self.hidden, &mut space.panels, columns, 0);
    }

    /// The gradients of weight and bias.
    fn backward(&self, chunk: Chunk<'_>, parts: &mut [Part], gradient: &mut Gradient) {
        let ids = [self.weight.0, self.bias.0];
        let [weight, bias] = gradient
            .parts_mut()
            .get_disjoint_mut(ids)
            .expect("weight and bias are two tensors of the layout");
        let (mut weight, mut bias) = (weight.as_dense(), bias.as_dense());
        let jobs: Vec<_> = parts
            .iter_mut()
            .map(|part| {
                let words = part.words.len();
                let d_weight = weight.split_off_mut(..words * self.hidden);
                let d_bias = bias.split_off_mut(..words);
                (part, d_weight.expect("a part"), d_bias.expect("a part"))
            })
            .collect();
        each(jobs, |(part, weight, bias)| {
            part.backward(chunk, weight, bias)
        });
    }

    /// The gradient of the hidden states, put where they came from.
    fn scatter(
        &self,
        chunk: Chunk<'_>,
        parts: &mut [Part],
        d_turned: &mut Vec<f32>,
        tops: &mut [Top<'_>],
    ) {
        let columns = groups(chunk.kept.len()) * GROUP;
        let features = groups(self.hidden);
        let (first, others) = parts.split_first_mut().expect("there is at least one part");
        for (group, panel) in first
            .d_hidden
            .chunks_exact_mut(self.hidden * GROUP)
            .enumerate()
        {
            let factors = |part: &Part| -> [f32; GROUP] {
                std::array::from_fn(|lane| part.factors[group * GROUP + lane])
            };
            let mine: [f32; GROUP] =
                std::array::from_fn(|lane| first.factors[group * GROUP + lane]);
            for row in panel.chunks_exact_mut(GROUP) {
                row.iter_mut()
                    .zip(mine)
                    .for_each(|(d, factor)| *d *= factor);
            }
            for part in &*others {
                let theirs = factors(part);
                let from = &part.d_hidden[group * self.hidden * GROUP..];
                for (to, from) in panel.chunks_exact_mut(GROUP).zip(from.chunks_exact(GROUP)) {
                    for lane in 0..GROUP {
                        to[lane] += theirs[lane] * from[lane];
                    }
                }
            }
        }
        let d_turned = room(d_turned, features * columns * GROUP);
        to_turned(&first.d_hidden, self.hidden, d_turned, columns, 0);
        let share = chunk.share.unwrap_or(0.0);
        for (i, kept) in chunk.kept.iter().enumerate() {
            let wanted = &chunk.weight[kept.gold * self.hidden..(kept.gold + 1) * self.hidden];
            let top = &mut tops[kept.shard];
            for (f, wanted) in wanted.chunks(GROUP).enumerate() {
                let from = &d_turned[(f * columns + i) * GROUP..];
                let to = (f * (top.columns - top.skip) + kept.column) * GROUP;
                let to = &mut top.d_hidden[to..to + wanted.len()];
                for ((to, from), wanted) in to.iter_mut().zip(from).zip(wanted) {
                    *to = from - share * wanted;
                }
            }
        }
    }
}

/// From the parts' sums to the loss of each position and the factors of each part.
fn join(parts: &mut [Part], kept: &[Kept], share: Option<f32>, nll: &mut [f64]) {
    for part in &mut *parts {
        part.factors.clear();
        part.factors.resize(groups(kept.len()) * GROUP, 0.0);
    }
    for (i, kept) in kept.iter().enumerate() {
        let reference = |part: &Part| f64::from(part.reference[i / GROUP][i % GROUP]);
        let most = parts
            .iter()
            .map(reference)
            .fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = parts
            .iter()
            .map(|part| part.sums[i] * (reference(part) - most).exp())
            .sum();
        let owner = parts.iter().find(|part| part.words.contains(&kept.gold));
        let gold = owner.map_or(f64::NAN, |part| f64::from(part.gold_logits[i]));
        nll[kept.row] += sum.ln() + most - gold;
        if let Some(share) = share {
            for part in &mut *parts {
                let relative = (f64::from(part.reference[i / GROUP][i % GROUP]) - most).exp();
                part.factors[i] = (relative / sum * f64::from(share)) as f32;
            }
        }
    }
}

impl Part {
    /// The blocks of this part, and the place of each in `exponentials`.
    fn blocks(&self, columns: usize) -> impl Iterator<Item = (Range<usize>, usize)> + use<> {
        let words = self.words.clone();
        words.clone().step_by(WORDS).map(move |first| {
            let block = first..words.end.min(first + WORDS);
            (block, (first - words.start) * columns)
        })
    }

    /// Exponentials, their sums, and the gradient of the hidden states before the factors.
    fn forward(&mut self, chunk: Chunk<'_>) {
        let columns = groups(chunk.kept.len()) * GROUP;
        self.reference.clear();
        self.reference
            .resize(columns / GROUP, [f32::NEG_INFINITY; GROUP]);
        self.sums.clear();
        self.sums.resize(columns, 0.0);
        self.gold_logits.resize(columns, 0.0);
        self.d_hidden.resize(columns * chunk.hidden, 0.0);
        let keep = chunk.share.is_some();
        let words = if keep { self.words.len() } else { WORDS };
        room(&mut self.exponentials, words * columns);
        for (block, place) in self.blocks(columns) {
            let place = if keep { place } else { 0 };
            let first = block.start == self.words.start;
            self.logits(chunk, &block, place, columns);
            self.softmax(chunk, &block, place, columns);
            if keep {
                Product {
                    size: Size {
                        rows: chunk.hidden,
                        columns,
                        depth: block.len(),
                    },
                    a: &chunk.weight[block.start * chunk.hidden..block.end * chunk.hidden],
                    left: transposed(chunk.hidden, block.len()),
                    b: &self.exponentials[place..place + block.len() * columns],
                    right: panels(block.len()),
                    c: &mut self.d_hidden,
                    out: panels(chunk.hidden),
                    start: if first { Start::Zero } else { Start::Add },
                }
                .run(chunk.isa);
            }
        }
    }

    fn logits(&mut self, chunk: Chunk<'_>, block: &Range<usize>, place: usize, columns: usize) {
        Product {
            size: Size {
                rows: block.len(),
                columns,
                depth: chunk.hidden,
            },
            a: &chunk.weight[block.start * chunk.hidden..block.end * chunk.hidden],
            left: straight(chunk.hidden, chunk.hidden),
            b: chunk.panels,
            right: panels(chunk.hidden),
            c: &mut self.exponentials[place..place + block.len() * columns],
            out: panels(block.len()),
            start: Start::Bias(&chunk.bias[block.clone()]),
        }
        .run(chunk.isa);
        for (i, kept) in chunk.kept.iter().enumerate() {
            if block.contains(&kept.gold) {
                let panel = i / GROUP * block.len() + kept.gold - block.start;
                self.gold_logits[i] = self.exponentials[place + panel * GROUP + i % GROUP];
            }
        }
    }

    fn softmax(&mut self, chunk: Chunk<'_>, block: &Range<usize>, place: usize, columns: usize) {
        let first = block.start == self.words.start;
        let panel = block.len() * GROUP;
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
            let panel = &mut self.exponentials[place + group * block.len() * GROUP..];
            for row in panel.chunks_exact_mut(GROUP).take(block.len()) {
                row[lane] *= factor;
            }
        }
    }

    /// Adds the gradients of this part's weights and biases.
    fn backward(&mut self, chunk: Chunk<'_>, d_weight: &mut [f32], d_bias: &mut [f32]) {
        let columns = groups(chunk.kept.len()) * GROUP;
        let hidden = chunk.hidden;
        self.scaled.resize(chunk.turned.len(), 0.0);
        let scaled = self.scaled.chunks_exact_mut(GROUP);
        for (i, (to, from)) in scaled.zip(chunk.turned.chunks_exact(GROUP)).enumerate() {
            let factor = self.factors[i % columns];
            to.iter_mut()
                .zip(from)
                .for_each(|(to, from)| *to = factor * from);
        }
        for (block, place) in self.blocks(columns) {
            let here = block.start - self.words.start..block.end - self.words.start;
            let values = &self.exponentials[place..place + block.len() * columns];
            isa_product(chunk, values, &self.scaled, columns, {
                &mut d_weight[here.start * hidden..here.end * hidden]
            });
            let (factors, to) = (&self.factors[..], &mut d_bias[here]);
            chunk.isa.run(WeightedSums {
                values,
                factors,
                to,
            });
        }
        let share = chunk.share.unwrap_or(0.0);
        for (i, kept) in chunk.kept.iter().enumerate() {
            if self.words.contains(&kept.gold) {
                let word = kept.gold - self.words.start;
                d_bias[word] -= share;
                let row = &mut d_weight[word * hidden..(word + 1) * hidden];
                add_row(chunk.turned, columns, i, -share, row);
            }
        }
    }
}

/// `d_weight += E·scaledᵀ` for one block.
fn isa_product(
    chunk: Chunk<'_>,
    values: &[f32],
    scaled: &[f32],
    columns: usize,
    d_weight: &mut [f32],
) {
    let words = values.len() / columns;
    Product {
        size: Size {
            rows: words,
            columns: chunk.hidden,
            depth: columns,
        },
        a: values,
        left: over_columns(words),
        b: scaled,
        right: Grouped {
            row: GROUP,
            group: columns * GROUP,
        },
        c: d_weight,
        out: rows(chunk.hidden),
        start: Start::Add,
    }
    .run(chunk.isa);
}
