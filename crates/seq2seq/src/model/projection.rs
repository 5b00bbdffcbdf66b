//! The output layer, softmax, loss and all their gradients, without ever holding the logits
//! of a batch.
//!
//! The kept positions (those with a wanted word) are handled in chunks of [`CHUNK`] columns.
//! For a chunk the vocabulary passes by in blocks of
//! [`chunk::WORDS`], each thread having a part of
//! it: a block's logits are computed, turned into exponentials in place and used at once for
//! the gradient of the hidden state, all in the second-level cache. What the sum over the
//! whole vocabulary later says about a column is one factor, applied to the small side of
//! each product: `dW = E·(f·h)ᵀ`, `dh = f·(Wᵀ·E)`. The wanted words are subtracted apart.
//!
//! What remains of a chunk until its end are the exponentials, words by columns, for dW.

mod chunk;
mod pairs;
mod share;

use dsgd::{Gradient, Params, TensorId};

use crate::kernels::dispatch::each;
use crate::kernels::transpose::{groups, to_panels, to_transposed};
use crate::kernels::{GROUP, Isa, Precision};

use super::cell::room;
use chunk::Chunk;
pub(crate) use chunk::Kept;
use share::VocabularyShare;

/// Columns of a chunk at most. More of them mean that weights and their gradient pass from
/// memory less often, and longer sums; but the exponentials take 4 bytes a word and column.
const CHUNK: usize = 256;

/// The output layer's tensors and sizes.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    pub(crate) weight: TensorId,
    pub(crate) bias: TensorId,
    pub(crate) hidden: usize,
    pub(crate) words: usize,
}

/// Buffers of the projection.
#[derive(Debug, Default)]
pub(crate) struct ProjectionSpace {
    /// The chunk's hidden states, transposed and in panels.
    transposed: Vec<f32>,
    panels: Vec<f32>,
    d_transposed: Vec<f32>,
    parts: Vec<VocabularyShare>,
}

/// Where the hidden states come from and their gradient goes: the decoder's, transposed.
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
        precision: Precision,
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
                precision,
                weight: params.get(self.weight),
                bias: params.get(self.bias),
                hidden: self.hidden,
                kept,
                transposed: &space.transposed,
                panels: &space.panels,
                share,
            };
            each(&mut space.parts, |part| part.forward(chunk));
            join(&mut space.parts, kept, share, nll);
            if let Some(gradient) = gradient.as_deref_mut() {
                self.backward(chunk, &mut space.parts, gradient);
                self.scatter(chunk, &mut space.parts, &mut space.d_transposed, tops);
            }
        }
    }

    /// Contiguous shares of the vocabulary, whole blocks each as far as possible.
    fn split(&self, threads: usize, parts: &mut Vec<VocabularyShare>) {
        let threads = threads.clamp(1, self.words);
        parts.resize_with(threads, VocabularyShare::default);
        for (i, part) in parts.iter_mut().enumerate() {
            part.words = self.words * i / threads..self.words * (i + 1) / threads;
        }
    }

    /// Copies the chunk's columns together.
    fn gather(&self, kept: &[Kept], tops: &[Top<'_>], space: &mut ProjectionSpace) {
        let columns = groups(kept.len()) * GROUP;
        let features = groups(self.hidden);
        space.transposed.clear();
        space.transposed.resize(features * columns * GROUP, 0.0);
        for (i, kept) in kept.iter().enumerate() {
            let top = &tops[kept.shard];
            for f in 0..features {
                let from = (f * top.columns + top.skip + kept.column) * GROUP;
                let to = (f * columns + i) * GROUP;
                space.transposed[to..to + GROUP].copy_from_slice(&top.hidden[from..from + GROUP]);
            }
        }
        space.panels.resize(columns * self.hidden, 0.0);
        to_panels(
            &space.transposed,
            self.hidden,
            &mut space.panels,
            columns,
            0,
        );
    }

    /// The gradients of weight and bias.
    fn backward(&self, chunk: Chunk<'_>, parts: &mut [VocabularyShare], gradient: &mut Gradient) {
        let ids = [self.weight.0, self.bias.0];
        let [weight, bias] = gradient
            .tensors_mut()
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
            part.backward(chunk, weight, bias);
        });
    }

    /// The gradient of the hidden states, put where they came from.
    fn scatter(
        &self,
        chunk: Chunk<'_>,
        parts: &mut [VocabularyShare],
        d_transposed: &mut Vec<f32>,
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
            let factors = |part: &VocabularyShare| -> [f32; GROUP] {
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
        let d_transposed = room(d_transposed, features * columns * GROUP);
        to_transposed(&first.d_hidden, self.hidden, d_transposed, columns, 0);
        let share = chunk.share.unwrap_or(0.0);
        for (i, kept) in chunk.kept.iter().enumerate() {
            let wanted = &chunk.weight[kept.gold * self.hidden..(kept.gold + 1) * self.hidden];
            let top = &mut tops[kept.shard];
            for (f, wanted) in wanted.chunks(GROUP).enumerate() {
                let from = &d_transposed[(f * columns + i) * GROUP..];
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
fn join(parts: &mut [VocabularyShare], kept: &[Kept], share: Option<f32>, nll: &mut [f64]) {
    for part in &mut *parts {
        part.factors.clear();
        part.factors.resize(groups(kept.len()) * GROUP, 0.0);
    }
    for (i, kept) in kept.iter().enumerate() {
        let reference = |part: &VocabularyShare| f64::from(part.reference[i / GROUP][i % GROUP]);
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
