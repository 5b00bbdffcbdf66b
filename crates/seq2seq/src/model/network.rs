//! The stacks of a model, how they are wired, and the gradients of their weights.

use dsgd::{Gradient, Layout, TensorId};

use super::cell::{Cell, Kind};
use super::projection::Projection;
use super::shard::Shard;
use super::spec::{LayerType, ModelSpec, ModelType};
use super::stack::Stack;
use crate::batch::SentenceBatch;
use crate::kernels::dispatch::each;
use crate::kernels::product::{Grouped, Product, Size, Start, over_columns, rows};
use crate::kernels::turn::groups;
use crate::kernels::{GROUP, Isa};

/// Tensors that are not trained: no gradient of them is produced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// The encoder's word vectors.
    pub source_embedding: bool,
    /// The decoder's word vectors.
    pub target_embedding: bool,
}

/// The wiring. Stacks stand in one list: the utterances' (one for `red`), the context's
/// (`hred` only), the decoder's.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) source: TensorId,
    pub(crate) target: TensorId,
    pub(crate) stacks: Vec<Stack>,
    pub(crate) utterances: usize,
    pub(crate) projection: Projection,
    pub(crate) embedding: usize,
    pub(crate) hidden: usize,
    pub(crate) frozen: Frozen,
    /// For each tensor of the layout the product that is its gradient, where it is one.
    uses: Vec<Option<Use>>,
}

/// Which weight of which cell a tensor is.
#[derive(Clone, Copy, Debug)]
struct Use {
    stack: usize,
    layer: usize,
    cell: usize,
    recurrent: bool,
}

/// Some rows of one weight's gradient.
struct Piece<'a> {
    of: Use,
    first_row: usize,
    out: &'a mut [f32],
}

impl Network {
    pub(crate) fn declare(layout: &mut Layout, spec: &ModelSpec) -> Self {
        let (embedding, hidden) = (spec.word_vec_size, spec.hidden_size);
        let stack = |layout: &mut Layout, prefix: &str, kind, input| {
            Stack::declare(layout, prefix, kind, spec.layers, [input, hidden])
        };
        let kind = spec.layer_type;
        let source = layout.rows("encoder.embedding.weight", spec.source_size, embedding);
        let mut stacks = match spec.model_type {
            ModelType::Red => vec![stack(layout, "encoder", kind, embedding)],
            ModelType::Hred => {
                let name = |u: usize| format!("encoder.utterance.{u}");
                let mut all: Vec<_> = (0..spec.utter_context)
                    .map(|u| stack(layout, &name(u), kind, embedding))
                    .collect();
                all.push(stack(layout, "encoder.context", kind, hidden));
                all
            }
        };
        let target = layout.rows("decoder.embedding.weight", spec.target_size, embedding);
        let kind = if kind == LayerType::Bi {
            LayerType::Fast
        } else {
            kind
        };
        stacks.push(stack(layout, "decoder", kind, embedding));
        let projection = Projection {
            weight: layout.dense("output.weight", &[spec.target_size, hidden]),
            bias: layout.dense("output.bias", &[spec.target_size]),
            hidden,
            words: spec.target_size,
        };
        let uses = uses(layout, &stacks);
        let (utterances, frozen) = (spec.utterances(), Frozen::default());
        Self {
            source,
            target,
            stacks,
            utterances,
            projection,
            embedding,
            hidden,
            frozen,
            uses,
        }
    }

    /// The decoder's place among the stacks.
    pub(crate) fn decoder(&self) -> usize {
        self.stacks.len() - 1
    }

    /// Numbers that the stacks keep of a batch until they have gone back over it.
    pub(crate) fn track_floats(&self, rows: usize, [source, target]: [usize; 2]) -> u64 {
        let of = |(at, stack): (usize, &Stack)| {
            let steps = match at {
                decoder if decoder == self.decoder() => target,
                context if Some(context) == self.context() => self.utterances,
                _ => source,
            };
            let columns = groups(rows) * GROUP * steps;
            let cells = stack.layers.iter().flatten().map(Cell::track_floats);
            cells
                .fold(0u64, u64::saturating_add)
                .saturating_mul(columns as u64)
        };
        let stacks = self.stacks.iter().enumerate().map(of);
        stacks.fold(0, u64::saturating_add)
    }

    /// The context's, where there is one.
    pub(crate) fn context(&self) -> Option<usize> {
        (self.stacks.len() == self.utterances + 2).then_some(self.utterances)
    }

    /// Adds the gradients of all weights, biases and peepholes of the stacks.
    pub(crate) fn add_weights(
        &self,
        isa: Isa,
        threads: usize,
        batch: &SentenceBatch,
        shards: &[Shard],
        gradient: &mut Gradient,
    ) {
        let mut jobs: Vec<Vec<Piece<'_>>> = Vec::new();
        jobs.resize_with(threads, Vec::new);
        for (part, of) in gradient.parts_mut().iter_mut().zip(&self.uses) {
            let Some(of) = *of else { continue };
            let cell = self.cell(of);
            let width = if of.recurrent {
                cell.hidden
            } else {
                cell.input
            };
            let share = cell.rows().div_ceil(threads).next_multiple_of(12) * width;
            for (i, out) in part.as_dense().chunks_mut(share).enumerate() {
                jobs[i].push(Piece {
                    of,
                    first_row: i * share / width,
                    out,
                });
            }
        }
        each(jobs, |pieces| {
            for piece in pieces {
                self.add_piece(isa, batch, shards, piece);
            }
        });
        for (number, stack) in self.stacks.iter().enumerate() {
            for (l, layer) in stack.layers.iter().enumerate() {
                for (c, cell) in layer.iter().enumerate() {
                    for shard in shards {
                        let sums = &shard.stacks[number].layers[l].cells[c].sums;
                        add_sums(cell, sums, gradient);
                    }
                }
            }
        }
    }

    fn cell(&self, of: Use) -> &Cell {
        &self.stacks[of.stack].layers[of.layer][of.cell]
    }

    /// Σ over all columns of the gates' gradients times what the weight was multiplied with.
    fn add_piece(&self, isa: Isa, batch: &SentenceBatch, shards: &[Shard], piece: Piece<'_>) {
        let Piece { of, first_row, out } = piece;
        let cell = self.cell(of);
        let width = if of.recurrent {
            cell.hidden
        } else {
            cell.input
        };
        let last_row = first_row + out.len() / width;
        // The candidate of a GRU was multiplied with r·h, the other gates with h.
        let edge = match cell.kind {
            Kind::Gru if of.recurrent => (2 * cell.hidden).clamp(first_row, last_row),
            _ => last_row,
        };
        for shard in shards {
            let span = shard.span(self, batch, of.stack);
            let layer = &shard.stacks[of.stack].layers[of.layer];
            let track = &layer.cells[of.cell];
            let columns = span.columns();
            let slots = columns + span.width();
            let before = cell.slots(0).0 * span.width();
            let (straight, straight_columns) = if of.recurrent {
                (&track.hidden_turned[before * GROUP..], slots)
            } else {
                (&layer.input_turned[..], columns)
            };
            let parts = [
                (first_row..edge, straight, straight_columns),
                (edge..last_row, &track.reset_turned[..], columns),
            ];
            for (range, right, right_columns) in parts {
                if range.is_empty() {
                    continue;
                }
                Product {
                    size: Size {
                        rows: range.len(),
                        columns: width,
                        depth: columns,
                    },
                    a: &track.gates[range.start * GROUP..],
                    left: over_columns(cell.rows()),
                    b: right,
                    right: Grouped {
                        row: GROUP,
                        group: right_columns * GROUP,
                    },
                    c: &mut out[(range.start - first_row) * width..],
                    out: rows(width),
                    start: Start::Add,
                }
                .run(isa);
            }
        }
    }
}

/// Adds the lanes of biases and peepholes up.
fn add_sums(cell: &Cell, sums: &[f32], gradient: &mut Gradient) {
    let (biases, peepholes) = sums.split_at(cell.rows() * GROUP);
    let mut add = |id: TensorId, sums: &[f32]| {
        let to = gradient.dense(id);
        for (to, lanes) in to.iter_mut().zip(sums.chunks_exact(GROUP)) {
            *to += lanes.iter().sum::<f32>();
        }
    };
    for &bias in &cell.biases {
        add(bias, biases);
    }
    if let Some(peephole) = cell.peephole {
        add(peephole, peepholes);
    }
}

fn uses(layout: &Layout, stacks: &[Stack]) -> Vec<Option<Use>> {
    let mut uses = vec![None; layout.tensors().len()];
    for (stack, layers) in stacks.iter().enumerate() {
        for (layer, cells) in layers.layers.iter().enumerate() {
            for (number, cell) in cells.iter().enumerate() {
                let of = |recurrent| Use {
                    stack,
                    layer,
                    cell: number,
                    recurrent,
                };
                uses[cell.weight_hh.0] = Some(of(true));
                if let Some(weight_ih) = cell.weight_ih {
                    uses[weight_ih.0] = Some(of(false));
                }
            }
        }
    }
    uses
}
