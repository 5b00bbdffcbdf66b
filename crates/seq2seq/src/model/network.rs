//! The stacks of a model, how they are wired, and the gradients of their weights.

use dsgd::{Layout, TensorId};

use super::cell::Cell;
use super::projection::Projection;
use super::spec::{LayerType, ModelSpec, ModelType};
use super::stack::Stack;
use crate::kernels::GROUP;
use crate::kernels::transpose::groups;

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
    pub(super) uses: Vec<Option<Use>>,
}

/// Which weight of which cell a tensor is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) stack: usize,
    pub(super) layer: usize,
    pub(super) cell: usize,
    pub(super) recurrent: bool,
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

    pub(super) fn cell(&self, of: Use) -> &Cell {
        &self.stacks[of.stack].layers[of.layer][of.cell]
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
