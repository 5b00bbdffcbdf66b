//! One recurrent layer in one direction: its tensors, its way forward and its way back.
//!
//! The products of a step are fused over the gates, and the input's part of them over all
//! steps. A [`Track`] keeps what the way back needs. Slots of `hidden` and `cell` are in the
//! order of time also where the layer reads backwards: the state before step t lies in place
//! t, the one after it in place t + 1, and the other way round when reading backwards.

mod backward;
mod forward;

use dsgd::{Layout, TensorId};

use crate::kernels::GROUP;

/// The family of formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellKind {
    Lstm { peephole: bool },
    Gru,
    Rnn,
}

/// A layer in one direction.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) kind: CellKind,
    pub(crate) input: usize,
    pub(crate) hidden: usize,
    /// Whether it reads from the last step to the first.
    pub(crate) reverse: bool,
    /// Absent where the input is taken as it is.
    pub(crate) weight_ih: Option<TensorId>,
    pub(crate) weight_hh: TensorId,
    /// One or two biases, both added.
    pub(crate) biases: Vec<TensorId>,
    pub(crate) peephole: Option<TensorId>,
}

/// The size of a sequence: its steps, and groups of 16 sentences.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) steps: usize,
    pub(crate) groups: usize,
}

impl Span {
    /// Columns of one step.
    pub(crate) fn width(self) -> usize {
        self.groups * GROUP
    }

    /// Columns of all steps.
    pub(crate) fn columns(self) -> usize {
        self.steps * self.width()
    }
}

/// What a cell keeps of one sequence. All panels, except where the name says transposed.
#[derive(Debug, Default)]
pub(crate) struct Track {
    /// [steps][gates]: before activation, after it, or the gradient of the former.
    pub(crate) gates: Vec<f32>,
    pub(crate) cell: Vec<f32>,
    squashed: Vec<f32>,
    pub(crate) hidden: Vec<f32>,
    pub(crate) hidden_transposed: Vec<f32>,
    reset_hidden: Vec<f32>,
    pub(crate) reset_transposed: Vec<f32>,
    /// Gradients of the state before the step that was last gone back over.
    pub(crate) d_hidden: Vec<f32>,
    pub(crate) d_cell: Vec<f32>,
    d_reset_hidden: Vec<f32>,
    /// Gradients of biases and peepholes, lane by lane.
    pub(crate) sums: Vec<f32>,
    bias: Vec<f32>,
}

/// Makes room for `len` values and hands them out as they are.
pub(crate) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Makes room for `len` values, all zero.
pub(crate) fn zeroed(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    let values = room(buffer, len);
    values.fill(0.0);
    values
}

impl Cell {
    /// Declares the tensors under `prefix`, such as `encoder.rnn.0`.
    pub(crate) fn declare(
        layout: &mut Layout,
        prefix: &str,
        kind: CellKind,
        [input, hidden]: [usize; 2],
        reverse: bool,
    ) -> Self {
        let rows = kind.gates() * hidden;
        let mut dense =
            |name: &str, shape: &[usize]| layout.dense(format!("{prefix}.{name}"), shape);
        let (weight_ih, weight_hh, biases);
        if kind == CellKind::Rnn {
            let project = input != hidden;
            weight_ih = project.then(|| dense("weight_ih", &[rows, input]));
            let bias_ih = project.then(|| dense("bias_ih", &[rows]));
            weight_hh = dense("weight_hh", &[rows, hidden]);
            biases = bias_ih
                .into_iter()
                .chain([dense("bias_hh", &[rows])])
                .collect();
        } else {
            weight_ih = Some(dense("weight_ih", &[rows, input]));
            weight_hh = dense("weight_hh", &[rows, hidden]);
            biases = vec![dense("bias", &[rows])];
        }
        let peephole =
            (kind == CellKind::Lstm { peephole: true }).then(|| dense("peephole", &[3, hidden]));
        Self {
            kind,
            input,
            hidden,
            reverse,
            weight_ih,
            weight_hh,
            biases,
            peephole,
        }
    }

    /// Rows of all gates together.
    pub(crate) fn rows(&self) -> usize {
        self.kind.gates() * self.hidden
    }

    /// Numbers that are kept of one column: the input twice, the gates, and the state in four forms.
    pub(crate) fn track_floats(&self) -> u64 {
        let (input, hidden) = (self.input as u64, self.hidden as u64);
        let of_states = hidden.saturating_mul(self.kind.gates() as u64 + 4);
        input.saturating_mul(2).saturating_add(of_states)
    }

    /// The places of the states before and after step t.
    pub(crate) fn places(&self, t: usize) -> (usize, usize) {
        if self.reverse { (t + 1, t) } else { (t, t + 1) }
    }

    /// The place of the state before the first step that is read.
    fn first_slot(&self, span: Span) -> usize {
        if self.reverse { span.steps } else { 0 }
    }

    /// The place of the state after the last step that is read.
    pub(crate) fn last_place(&self, span: Span) -> usize {
        span.steps - self.first_slot(span)
    }

    fn order(&self, span: Span) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let (steps, reverse) = (span.steps, self.reverse);
        (0..steps).map(move |t| if reverse { steps - 1 - t } else { t })
    }
}

impl CellKind {
    fn gates(self) -> usize {
        match self {
            CellKind::Lstm { .. } => 4,
            CellKind::Gru => 3,
            CellKind::Rnn => 1,
        }
    }
}

/// Two different places of a buffer, the second to be written.
fn pair(buffer: &mut [f32], read: usize, write: usize, len: usize) -> (&[f32], &mut [f32]) {
    if read < write {
        let (low, high) = buffer.split_at_mut(write * len);
        (&low[read * len..(read + 1) * len], &mut high[..len])
    } else {
        let (low, high) = buffer.split_at_mut(read * len);
        (&high[..len], &mut low[write * len..(write + 1) * len])
    }
}
