//! What shards found out of the stacks' weights, added up.

use dsgd::{Gradient, TensorId};

use super::cell::{Cell, CellKind};
use super::network::{Network, Use};
use super::shard::Shard;
use crate::batch::SentenceBatch;
use crate::kernels::dispatch::each;
use crate::kernels::product::{Grouped, Product, Size, Start, over_columns, rows};
use crate::kernels::{GROUP, Isa};

/// Some rows of one weight's gradient.
struct Piece<'a> {
    of: Use,
    first_row: usize,
    out: &'a mut [f32],
}

impl Network {
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
        for (part, of) in gradient.tensors_mut().iter_mut().zip(&self.uses) {
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
            CellKind::Gru if of.recurrent => (2 * cell.hidden).clamp(first_row, last_row),
            _ => last_row,
        };
        for shard in shards {
            let span = shard.span(self, batch, of.stack);
            let layer = &shard.stacks[of.stack].layers[of.layer];
            let track = &layer.cells[of.cell];
            let columns = span.columns();
            let places = columns + span.width();
            let before = cell.places(0).0 * span.width();
            let (straight, straight_columns) = if of.recurrent {
                (&track.hidden_transposed[before * GROUP..], places)
            } else {
                (&layer.input_transposed[..], columns)
            };
            let parts = [
                (first_row..edge, straight, straight_columns),
                (edge..last_row, &track.reset_transposed[..], columns),
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
