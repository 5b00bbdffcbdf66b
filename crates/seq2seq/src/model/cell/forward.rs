//! A cell's way forward: the input's product over all steps, then step by step.

use std::ops::Range;

use dsgd::Params;

use super::{Cell, CellKind, Span, Track, pair, room, zeroed};
use crate::kernels::gates::{GruForward, GruReset, LstmForward, RnnForward};
use crate::kernels::product::{Product, Size, Start, panels, straight};
use crate::kernels::transpose::{groups, to_transposed};
use crate::kernels::{GROUP, Isa};

impl Cell {
    /// Reads `input`, panels [steps][input], starting from the state `initial` or from zero.
    pub(crate) fn forward(
        &self,
        isa: Isa,
        params: &Params,
        span: Span,
        input: &[f32],
        initial: Option<(&[f32], &[f32])>,
        track: &mut Track,
    ) {
        let state = span.groups * self.hidden * GROUP;
        let places = (span.steps + 1) * state;
        room(&mut track.hidden, places);
        let lstm = matches!(self.kind, CellKind::Lstm { .. });
        if lstm {
            room(&mut track.cell, places);
            room(&mut track.squashed, span.steps * state);
        }
        if self.kind == CellKind::Gru {
            room(&mut track.reset_hidden, span.steps * state);
        }
        let first = self.first_slot(span) * state..(self.first_slot(span) + 1) * state;
        for (places, of) in [(&mut track.hidden, 0), (&mut track.cell, 1)]
            .into_iter()
            .take(if lstm { 2 } else { 1 })
        {
            match initial {
                Some(state) => places[first.clone()].copy_from_slice([state.0, state.1][of]),
                None => places[first.clone()].fill(0.0),
            }
        }
        self.project_input(isa, params, span, input, track);
        for t in self.order(span) {
            self.step(isa, params, span, t, track);
        }
    }

    /// Transposes what the weights' gradients need.
    pub(crate) fn transpose(&self, span: Span, track: &mut Track) {
        let (steps, width) = (span.steps, span.width());
        let features = groups(self.hidden) * GROUP;
        let places = (steps + 1) * width;
        let transposed = room(&mut track.hidden_transposed, features * places);
        to_transposed(
            &track.hidden[..places * self.hidden],
            self.hidden,
            transposed,
            places,
            0,
        );
        if self.kind == CellKind::Gru {
            let columns = span.columns();
            let transposed = room(&mut track.reset_transposed, features * columns);
            to_transposed(
                &track.reset_hidden[..columns * self.hidden],
                self.hidden,
                transposed,
                columns,
                0,
            );
        }
    }

    /// `gates = W_ih·x + biases` for all steps.
    fn project_input(
        &self,
        isa: Isa,
        params: &Params,
        span: Span,
        input: &[f32],
        track: &mut Track,
    ) {
        let bias = zeroed(&mut track.bias, self.rows());
        for &id in &self.biases {
            bias.iter_mut()
                .zip(params.get(id))
                .for_each(|(sum, b)| *sum += b);
        }
        let gates = room(&mut track.gates, span.columns() * self.rows());
        let Some(weight) = self.weight_ih else {
            for (gate, x) in gates
                .chunks_exact_mut(GROUP)
                .zip(input.chunks_exact(GROUP))
                .enumerate()
                .map(|(row, (gate, x))| {
                    let bias = bias[row % self.hidden];
                    (gate, x.iter().map(move |x| x + bias))
                })
            {
                gate.iter_mut().zip(x).for_each(|(gate, x)| *gate = x);
            }
            return;
        };
        Product {
            size: Size {
                rows: self.rows(),
                columns: span.columns(),
                depth: self.input,
            },
            a: params.get(weight),
            left: straight(self.input, self.input),
            b: input,
            right: panels(self.input),
            c: gates,
            out: panels(self.rows()),
            start: Start::Bias(bias),
        }
        .run(isa);
    }

    fn step(&self, isa: Isa, params: &Params, span: Span, t: usize, track: &mut Track) {
        let n = self.hidden * GROUP;
        let state = span.groups * n;
        let (before, after) = self.places(t);
        let (hidden_before, hidden) = pair(&mut track.hidden, before, after, state);
        let rows = self.rows();
        let gates = &mut track.gates[t * span.width() * rows..(t + 1) * span.width() * rows];
        // The candidate of a GRU waits for r·h.
        let at_once = if self.kind == CellKind::Gru {
            2 * self.hidden
        } else {
            rows
        };
        self.recur(isa, params, span, 0..at_once, hidden_before, gates);
        match self.kind {
            CellKind::Lstm { .. } => {
                let (cell_before, cell) = pair(&mut track.cell, before, after, state);
                for g in 0..span.groups {
                    let part = g * n..(g + 1) * n;
                    let squashed = t * state + g * n;
                    isa.run(LstmForward {
                        gates: &mut gates[4 * g * n..4 * (g + 1) * n],
                        peephole: self.peephole.map(|id| params.get(id)),
                        cell_before: &cell_before[part.clone()],
                        cell: &mut cell[part.clone()],
                        squashed: &mut track.squashed[squashed..squashed + n],
                        hidden: &mut hidden[part],
                    });
                }
            }
            CellKind::Gru => {
                let reset_hidden = &mut track.reset_hidden[t * state..(t + 1) * state];
                for g in 0..span.groups {
                    let part = g * n..(g + 1) * n;
                    isa.run(GruReset {
                        gates: &mut gates[3 * g * n..3 * (g + 1) * n],
                        hidden_before: &hidden_before[part.clone()],
                        reset_hidden: &mut reset_hidden[part],
                    });
                }
                self.recur(isa, params, span, at_once..rows, reset_hidden, gates);
                for g in 0..span.groups {
                    let part = g * n..(g + 1) * n;
                    isa.run(GruForward {
                        gates: &mut gates[3 * g * n..3 * (g + 1) * n],
                        hidden_before: &hidden_before[part.clone()],
                        hidden: &mut hidden[part],
                    });
                }
            }
            CellKind::Rnn => isa.run(RnnForward {
                gate: gates,
                hidden,
            }),
        }
    }

    /// `gates[rows] += W_hh[rows]·state` for one step.
    fn recur(
        &self,
        isa: Isa,
        params: &Params,
        span: Span,
        rows: Range<usize>,
        state: &[f32],
        gates: &mut [f32],
    ) {
        Product {
            size: Size {
                rows: rows.len(),
                columns: span.width(),
                depth: self.hidden,
            },
            a: &params.get(self.weight_hh)[rows.start * self.hidden..],
            left: straight(self.hidden, self.hidden),
            b: state,
            right: panels(self.hidden),
            c: &mut gates[rows.start * GROUP..],
            out: panels(self.rows()),
            start: Start::Add,
        }
        .run(isa);
    }
}
