//! Layers on top of each other, with dropout between them.

use dsgd::{Layout, Params};

use super::cell::{Cell, CellKind, Span, Track, room};
use super::dropout::Dropout;
use super::spec::LayerType;
use crate::kernels::transpose::{groups, to_transposed};
use crate::kernels::{GROUP, Isa};

/// Layers, bottom first; each of one cell, or of one a direction whose outputs are summed.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    pub(crate) layers: Vec<Vec<Cell>>,
}

/// What a stack keeps of one sequence.
#[derive(Debug, Default)]
pub(crate) struct StackTrack {
    pub(crate) layers: Vec<LayerTrack>,
}

/// What a layer keeps of one sequence.
#[derive(Debug, Default)]
pub(crate) struct LayerTrack {
    /// Panels [steps][input].
    pub(crate) input: Vec<f32>,
    /// The same, transposed.
    pub(crate) input_transposed: Vec<f32>,
    /// One a cell.
    pub(crate) cells: Vec<Track>,
}

/// Hidden and cell state of one layer, panels [hidden].
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) hidden: Vec<f32>,
    pub(crate) cell: Vec<f32>,
}

/// Two buffers that gradients flow through from layer to layer.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) here: Vec<f32>,
    next: Vec<f32>,
}

/// What every pass over a stack needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) isa: Isa,
    pub(crate) params: &'a Params,
    pub(crate) dropout: Option<Dropout>,
}

impl Stack {
    /// Declares layers under `prefix`, such as `encoder`: `encoder.rnn.0.weight_ih` and so on.
    pub(crate) fn declare(
        layout: &mut Layout,
        prefix: &str,
        kind: LayerType,
        layers: usize,
        [input, hidden]: [usize; 2],
    ) -> Self {
        let layer = |l: usize| {
            let name = format!("{prefix}.rnn.{l}");
            let sizes = [if l == 0 { input } else { hidden }, hidden];
            let plain = CellKind::Lstm { peephole: false };
            match kind {
                LayerType::Lstm => {
                    vec![Cell::declare(
                        layout,
                        &name,
                        CellKind::Lstm { peephole: true },
                        sizes,
                        false,
                    )]
                }
                LayerType::Fast => vec![Cell::declare(layout, &name, plain, sizes, false)],
                LayerType::Gru => vec![Cell::declare(layout, &name, CellKind::Gru, sizes, false)],
                LayerType::Rnn => vec![Cell::declare(layout, &name, CellKind::Rnn, sizes, false)],
                LayerType::Bi => [("forward", false), ("backward", true)]
                    .map(|(way, reverse)| {
                        Cell::declare(layout, &format!("{name}.{way}"), plain, sizes, reverse)
                    })
                    .into(),
            }
        };
        Self {
            layers: (0..layers).map(layer).collect(),
        }
    }

    fn top(&self) -> &[Cell] {
        self.layers.last().expect("a stack has at least one layer")
    }

    /// The buffer for the input of the bottom layer, panels [steps][input], to be filled.
    pub(crate) fn input<'a>(&self, span: Span, track: &'a mut StackTrack) -> &'a mut [f32] {
        track
            .layers
            .resize_with(self.layers.len(), LayerTrack::default);
        room(
            &mut track.layers[0].input,
            span.columns() * self.layers[0][0].input,
        )
    }

    /// Reads the input that was filled in; layer l starts from `initial[l]`, or from zero.
    pub(crate) fn forward(
        &self,
        pass: Pass<'_>,
        span: Span,
        initial: &[State],
        track: &mut StackTrack,
    ) {
        for (l, layer) in self.layers.iter().enumerate() {
            let (below, here) = track.layers.split_at_mut(l);
            let here = &mut here[0];
            let len = span.columns() * layer[0].input;
            if let Some(below) = below.last() {
                let input = room(&mut here.input, len);
                copy_output(&self.layers[l - 1], span, below, input);
                if let Some(dropout) = pass.dropout {
                    dropout.layer(l).apply(input, span, layer[0].input);
                }
            }
            here.cells.resize_with(layer.len(), Track::default);
            let initial = initial.get(l).map(|s| (&s.hidden[..], &s.cell[..]));
            for (cell, track) in layer.iter().zip(&mut here.cells) {
                cell.forward(
                    pass.isa,
                    pass.params,
                    span,
                    &here.input[..len],
                    initial,
                    track,
                );
            }
        }
    }

    /// Transposes what the weights' gradients need; before [`Stack::backward`].
    pub(crate) fn transpose(&self, span: Span, track: &mut StackTrack) {
        for (layer, track) in self.layers.iter().zip(&mut track.layers) {
            let (features, columns) = (layer[0].input, span.columns());
            let transposed = room(
                &mut track.input_transposed,
                groups(features) * GROUP * columns,
            );
            to_transposed(
                &track.input[..features * columns],
                features,
                transposed,
                columns,
                0,
            );
            for (cell, track) in layer.iter().zip(&mut track.cells) {
                cell.transpose(span, track);
            }
        }
    }

    /// The top layer's output of the last step, panels [hidden].
    pub(crate) fn last_output(&self, span: Span, track: &StackTrack, to: &mut [f32]) {
        let top = self.top();
        let tracks = &track.layers[self.layers.len() - 1].cells;
        let len = span.width() * top[0].hidden;
        to.fill(0.0);
        for (cell, track) in top.iter().zip(tracks) {
            let place = cell.places(span.steps - 1).1;
            let hidden = &track.hidden[place * len..(place + 1) * len];
            to.iter_mut().zip(hidden).for_each(|(sum, h)| *sum += h);
        }
    }

    /// The state from which a decoder starts: the last output, and the last cell of the
    /// direction that is read last.
    pub(crate) fn last_state(&self, span: Span, track: &StackTrack, to: &mut State) {
        let len = span.width() * self.top()[0].hidden;
        self.last_output(span, track, sized(&mut to.hidden, len));
        let tracks = &track.layers[self.layers.len() - 1].cells;
        let cell = sized(&mut to.cell, len);
        if let (Some(last), Some(track)) = (self.top().last(), tracks.last())
            && matches!(last.kind, CellKind::Lstm { .. })
        {
            let place = last.last_place(span);
            cell.copy_from_slice(&track.cell[place * len..(place + 1) * len]);
        }
    }

    /// The state of each layer after the last step, for layers of one direction.
    pub(crate) fn states(&self, span: Span, track: &StackTrack) -> Vec<State> {
        let state = |(layer, track): (&Vec<Cell>, &LayerTrack)| {
            let (cell, track) = (&layer[0], &track.cells[0]);
            let len = span.width() * cell.hidden;
            let place = cell.last_place(span) * len;
            let lstm = matches!(cell.kind, CellKind::Lstm { .. });
            State {
                hidden: track.hidden[place..place + len].to_vec(),
                cell: if lstm {
                    track.cell[place..place + len].to_vec()
                } else {
                    vec![0.0; len]
                },
            }
        };
        self.layers.iter().zip(&track.layers).map(state).collect()
    }

    /// Goes back. On entry `flow.here` holds the gradient of the top outputs, panels
    /// [steps][hidden]; on return, where `input_wanted`, that of the bottom layer's input.
    pub(crate) fn backward(
        &self,
        pass: Pass<'_>,
        span: Span,
        d_last_cell: Option<&[f32]>,
        input_wanted: bool,
        track: &mut StackTrack,
        flow: &mut Flow,
    ) {
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let tracks = &mut track.layers[l].cells;
            let d_output = &flow.here[..span.columns() * layer[0].hidden];
            let top = l + 1 == self.layers.len();
            for (i, (cell, track)) in layer.iter().zip(tracks.iter_mut()).enumerate() {
                let d_cell = d_last_cell.filter(|_| top && i + 1 == layer.len());
                cell.backward(pass.isa, pass.params, span, d_output, d_cell, track);
            }
            if l == 0 && !input_wanted {
                return;
            }
            let d_input = room(&mut flow.next, span.columns() * layer[0].input);
            for (i, (cell, track)) in layer.iter().zip(tracks.iter()).enumerate() {
                cell.input_back(pass.isa, pass.params, span, track, d_input, i > 0);
            }
            if let (Some(dropout), true) = (pass.dropout, l > 0) {
                dropout.layer(l).apply(d_input, span, layer[0].input);
            }
            std::mem::swap(&mut flow.here, &mut flow.next);
        }
    }
}

/// Makes a buffer exactly `len` long.
pub(crate) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

/// A layer's outputs of all steps, panels [steps][hidden].
fn copy_output(layer: &[Cell], span: Span, track: &LayerTrack, to: &mut [f32]) {
    for (i, (cell, track)) in layer.iter().zip(&track.cells).enumerate() {
        let start = cell.places(0).1 * span.width() * cell.hidden;
        let hidden = &track.hidden[start..start + to.len()];
        if i == 0 {
            to.copy_from_slice(hidden);
        } else {
            to.iter_mut().zip(hidden).for_each(|(sum, h)| *sum += h);
        }
    }
}
