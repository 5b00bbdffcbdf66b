//! A cell's way back: gradients of the gates step by step, then of the input.

use std::ops::Range;

use dsgd::Params;

use super::{Cell, CellKind, Span, Track, room, zeroed};
use crate::kernels::gates::{GruBackward, GruResetBackward, LstmBackward, RnnBackward};
use crate::kernels::product::{Product, Size, Start, panels, transposed};
use crate::kernels::{GROUP, Isa};

impl Cell {
    /// Goes back over the sequence: `d_output`, panels [steps][hidden], is the gradient of the
    /// outputs, `d_last_cell` that of the last cell. Leaves gradients in `gates`, `sums`, and
    /// `d_hidden` and `d_cell` for the initial state.
    pub(crate) fn backward(
        &self,
        isa: Isa,
        params: &Params,
        span: Span,
        d_output: &[f32],
        d_last_cell: Option<&[f32]>,
        track: &mut Track,
    ) {
        let state = span.groups * self.hidden * GROUP;
        zeroed(&mut track.d_hidden, state);
        let d_cell = zeroed(&mut track.d_cell, state);
        if let Some(last) = d_last_cell {
            d_cell.copy_from_slice(last);
        }
        let sums = self.rows()
            + if self.peephole.is_some() {
                3 * self.hidden
            } else {
                0
            };
        zeroed(&mut track.sums, sums * GROUP);
        room(&mut track.d_reset_hidden, state);
        for t in self.order(span).rev() {
            let d_output = &d_output[t * state..(t + 1) * state];
            self.step_back(isa, params, span, t, d_output, track);
        }
    }

    fn step_back(
        &self,
        isa: Isa,
        params: &Params,
        span: Span,
        t: usize,
        d_output: &[f32],
        track: &mut Track,
    ) {
        let n = self.hidden * GROUP;
        let state = span.groups * n;
        let rows = self.rows();
        let (before, after) = self.places(t);
        let gates = &mut track.gates[t * span.width() * rows..(t + 1) * span.width() * rows];
        let per_group = rows * GROUP;
        let sums = &mut track.sums[..];
        for g in 0..span.groups {
            let part = g * n..(g + 1) * n;
            let place = |of: usize| of * state + g * n..of * state + (g + 1) * n;
            let gates = &mut gates[g * per_group..(g + 1) * per_group];
            match self.kind {
                CellKind::Lstm { .. } => isa.run(LstmBackward {
                    gates,
                    peephole: self.peephole.map(|id| params.get(id)),
                    cell_before: &track.cell[place(before)],
                    cell: &track.cell[place(after)],
                    squashed: &track.squashed[place(t)],
                    d_hidden: [&d_output[part.clone()], &track.d_hidden[part.clone()]],
                    d_cell: &mut track.d_cell[part],
                    sums: &mut sums[..if self.peephole.is_some() {
                        7 * n
                    } else {
                        4 * n
                    }],
                }),
                CellKind::Gru => isa.run(GruBackward {
                    gates,
                    hidden_before: &track.hidden[place(before)],
                    d_above: &d_output[part.clone()],
                    d_hidden: &mut track.d_hidden[part],
                    sums: &mut sums[..3 * n],
                }),
                CellKind::Rnn => isa.run(RnnBackward {
                    gate: gates,
                    hidden: &track.hidden[place(after)],
                    d_hidden: [&d_output[part.clone()], &track.d_hidden[part]],
                    sums: &mut sums[..n],
                }),
            }
        }
        let d_hidden = &mut track.d_hidden[..state];
        if self.kind != CellKind::Gru {
            self.recur_back(isa, params, span, 0..rows, gates, d_hidden, Start::Zero);
            return;
        }
        let d_reset_hidden = &mut track.d_reset_hidden[..state];
        let candidate = 2 * self.hidden..rows;
        self.recur_back(
            isa,
            params,
            span,
            candidate,
            gates,
            d_reset_hidden,
            Start::Zero,
        );
        for g in 0..span.groups {
            let part = g * n..(g + 1) * n;
            isa.run(GruResetBackward {
                reset: &mut gates[g * per_group..g * per_group + n],
                hidden_before: &track.hidden[before * state + g * n..before * state + (g + 1) * n],
                d_reset_hidden: &d_reset_hidden[part.clone()],
                d_hidden: &mut d_hidden[part],
                sums: &mut sums[..n],
            });
        }
        self.recur_back(
            isa,
            params,
            span,
            0..2 * self.hidden,
            gates,
            d_hidden,
            Start::Add,
        );
    }

    /// `d_state (+)= W_hh[rows]ᵀ·d_gates[rows]` for one step.
    #[expect(clippy::too_many_arguments, reason = "the operands of one product")]
    fn recur_back(
        &self,
        isa: Isa,
        params: &Params,
        span: Span,
        rows: Range<usize>,
        gates: &[f32],
        d_state: &mut [f32],
        start: Start<'_>,
    ) {
        Product {
            size: Size {
                rows: self.hidden,
                columns: span.width(),
                depth: rows.len(),
            },
            a: &params.get(self.weight_hh)[rows.start * self.hidden..],
            left: transposed(self.hidden, rows.len()),
            b: &gates[rows.start * GROUP..],
            right: panels(self.rows()),
            c: d_state,
            out: panels(self.hidden),
            start,
        }
        .run(isa);
    }

    /// `d_input (+)= W_ihᵀ·d_gates` for all steps.
    pub(crate) fn input_back(
        &self,
        isa: Isa,
        params: &Params,
        span: Span,
        track: &Track,
        d_input: &mut [f32],
        add: bool,
    ) {
        let gates = &track.gates[..span.columns() * self.rows()];
        let Some(weight) = self.weight_ih else {
            if add {
                d_input.iter_mut().zip(gates).for_each(|(d, g)| *d += g);
            } else {
                d_input.copy_from_slice(gates);
            }
            return;
        };
        Product {
            size: Size {
                rows: self.input,
                columns: span.columns(),
                depth: self.rows(),
            },
            a: params.get(weight),
            left: transposed(self.input, self.rows()),
            b: gates,
            right: panels(self.rows()),
            c: d_input,
            out: panels(self.input),
            start: if add { Start::Add } else { Start::Zero },
        }
        .run(isa);
    }
}
