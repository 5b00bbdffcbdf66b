//! Gradients, and what is new in parameters, in a codec's bytes; and what the codec has left out of them.
//!
//! What is left out of one gradient goes with the next (error feedback): a [`Residual`] keeps it, at the worker.
//! Parameters need none: the server encodes how its own differ from those that workers have
//! ([`PublicCopy`](crate::store::PublicCopy)), in which what was left out before is contained.

use std::sync::Arc;

use bytes::Bytes;

use dsgd_core::codec::Codec;
use dsgd_core::params::{Gradient, Layout, TensorGradient};

/// Tensors in a codec's bytes.
#[derive(Debug)]
pub struct Coded {
    /// Which codec.
    pub codec: Codec,
    /// In the order of the layout.
    pub tensors: Vec<CodedTensor>,
}

/// A tensor in a codec's bytes.
#[derive(Clone, Debug)]
pub enum CodedTensor {
    /// Nothing of it.
    Nothing,
    /// All of it.
    Whole(Bytes),
    /// Rows of a table.
    Rows {
        /// Which: little-endian u32.
        indices: Bytes,
        /// Their values; each row begins a block.
        values: Bytes,
    },
}

impl Coded {
    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        let bytes = |tensor: &CodedTensor| match tensor {
            CodedTensor::Nothing => 0,
            CodedTensor::Whole(values) => values.len(),
            CodedTensor::Rows { indices, values } => indices.len() + values.len(),
        };
        self.tensors.iter().map(bytes).sum()
    }
}

/// What was left out of what a worker has pushed so far.
#[derive(Debug)]
pub struct Residual(Gradient);

impl Residual {
    /// Nothing.
    pub fn new(layout: &Arc<Layout>) -> Self {
        Self(Gradient::new(Arc::clone(layout)))
    }

    /// Encodes a gradient with what was left out before, and keeps what is left out now. Rows that the gradient does
    /// not touch keep theirs. Of a block that is not finite nothing is kept.
    pub fn encode(&mut self, codec: Codec, gradient: &Gradient) -> Coded {
        let tensors = self.0.tensors_mut().iter_mut().zip(gradient.tensors());
        let tensors = tensors.map(|pair| match pair {
            (TensorGradient::Dense(left), TensorGradient::Dense(values)) => {
                let mut encoder = Encoder::new(codec, codec.bytes(values.len()));
                feed_back(&mut encoder, values, left);
                CodedTensor::Whole(encoder.into_bytes())
            }
            (TensorGradient::Rows(left), TensorGradient::Rows(rows)) => {
                let size = rows.len() * codec.bytes(rows.width());
                let mut encoder = Encoder::new(codec, size);
                for (row, values) in rows.iter() {
                    feed_back(&mut encoder, values, left.row(row));
                }
                CodedTensor::Rows {
                    indices: bytemuck::cast_slice(rows.indices()).to_vec().into(),
                    values: encoder.into_bytes(),
                }
            }
            _ => unreachable!("a residual has the gradient's layout"),
        });
        Coded {
            codec,
            tensors: tensors.collect(),
        }
    }
}

fn feed_back(encoder: &mut Encoder, values: &[f32], left: &mut [f32]) {
    for (values, left) in values.chunks(BLOCK).zip(left.chunks_mut(BLOCK)) {
        let wanted = values.iter().zip(&*left).map(|(value, left)| value + left);
        let (wanted, decoded) = encoder.add(wanted);
        for ((left, wanted), decoded) in left.iter_mut().zip(wanted).zip(decoded) {
            let lost = wanted - decoded;
            *left = if lost.is_finite() { lost } else { 0.0 };
        }
    }
}

/// Elements that are encoded while they are in the first-level cache: whole blocks of every codec.
pub const BLOCK: usize = 4096;

/// Encodes a tensor, and says what whoever decodes it will read.
pub struct Encoder {
    codec: Codec,
    bytes: Vec<u8>,
    wanted: Vec<f32>,
    decoded: Vec<f32>,
}

impl Encoder {
    /// One for so many bytes.
    pub fn new(codec: Codec, bytes: usize) -> Self {
        Self {
            codec,
            bytes: Vec::with_capacity(bytes),
            wanted: Vec::with_capacity(BLOCK),
            decoded: Vec::with_capacity(BLOCK),
        }
    }

    /// Adds elements, of which the first begins a block: [`BLOCK`] of them at most. Returns them, and what will be read.
    pub fn add(&mut self, wanted: impl Iterator<Item = f32>) -> (&[f32], &[f32]) {
        self.wanted.clear();
        self.wanted.extend(wanted);
        let start = self.bytes.len();
        self.codec.encode(&self.wanted, &mut self.bytes);
        self.decoded.resize(self.wanted.len(), 0.0);
        self.codec.decode(&self.bytes[start..], &mut self.decoded);
        (&self.wanted, &self.decoded)
    }

    /// All bytes.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsgd_core::params::TensorId;

    const TABLE: TensorId = TensorId(1);
    const WEIGHT: TensorId = TensorId(0);

    fn layout() -> Arc<Layout> {
        let mut layout = Layout::new();
        layout.dense("weight", &[300]);
        layout.rows("table", 5, 70);
        Arc::new(layout)
    }

    fn decoded(coded: &Coded, layout: &Arc<Layout>) -> Gradient {
        let mut gradient = Gradient::new(Arc::clone(layout));
        for (tensor, into) in coded.tensors.iter().zip(gradient.tensors_mut()) {
            match (tensor, into) {
                (CodedTensor::Whole(bytes), TensorGradient::Dense(into)) => {
                    coded.codec.decode(bytes, into);
                }
                (CodedTensor::Rows { indices, values }, TensorGradient::Rows(into)) => {
                    let row_bytes = coded.codec.bytes(into.width());
                    let rows = indices.as_chunks().0.iter().zip(values.chunks(row_bytes));
                    for (row, values) in rows {
                        let row = u32::from_le_bytes(*row) as usize;
                        coded.codec.decode(values, into.row(row));
                    }
                }
                _ => panic!("a tensor of another kind"),
            }
        }
        gradient
    }

    /// However coarse, all of a gradient arrives in the end, but for what was left out last.
    #[test]
    fn what_is_left_out_comes_with_the_next() {
        let layout = layout();
        for codec in [Codec::Bf16, Codec::Int8, Codec::Int4] {
            let mut residual = Residual::new(&layout);
            let mut gradient = Gradient::new(Arc::clone(&layout));
            for (at, value) in gradient.dense(WEIGHT).iter_mut().enumerate() {
                *value = (at as f32).sin();
            }
            gradient.row(TABLE, 3).fill(0.013);
            gradient.row(TABLE, 3)[0] = 1.0;
            let mut sum = Gradient::new(Arc::clone(&layout));
            let times = 1000;
            for _ in 0..times {
                sum.add(&decoded(&residual.encode(codec, &gradient), &layout), 1.0);
            }
            let mean = |sum: f32| sum / times as f32;
            let arrived = mean(sum.row(TABLE, 3)[5]);
            assert!((arrived - 0.013).abs() < 2e-4, "{codec:?} {arrived}");
            for (sum, wanted) in sum.dense(WEIGHT).iter().zip(gradient.dense(WEIGHT)) {
                assert!((mean(*sum) - *wanted).abs() < 2e-4, "{codec:?}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_arrives_as_such_and_is_not_kept() {
        let layout = layout();
        let mut residual = Residual::new(&layout);
        let mut gradient = Gradient::new(Arc::clone(&layout));
        gradient.dense(WEIGHT)[7] = f32::NAN;
        let sent = decoded(&residual.encode(Codec::Int8, &gradient), &layout);
        assert!(!sent.sum_of_squares().is_finite());
        gradient.dense(WEIGHT)[7] = 0.0;
        let sent = decoded(&residual.encode(Codec::Int8, &gradient), &layout);
        assert!(sent.sum_of_squares() < 1e-30);
    }

    /// Rows that are not touched wait with what they have left.
    #[test]
    fn rows_keep_what_they_have_left_until_they_are_touched() {
        let layout = layout();
        let mut residual = Residual::new(&layout);
        let mut gradient = Gradient::new(Arc::clone(&layout));
        gradient.row(TABLE, 1)[0] = 1.0;
        gradient.row(TABLE, 1)[1] = 0.001;
        let _ = residual.encode(Codec::Int4, &gradient);
        gradient.clear();
        gradient.row(TABLE, 2)[0] = 1.0;
        let mut sent = decoded(&residual.encode(Codec::Int4, &gradient), &layout);
        assert_eq!(sent.tensors_mut()[1].as_rows().indices(), [2]);
        gradient.clear();
        gradient.row(TABLE, 1);
        let mut sent = decoded(&residual.encode(Codec::Int4, &gradient), &layout);
        let arrived = sent.row(TABLE, 1)[1];
        assert!((arrived - 0.001).abs() < 1e-4, "{arrived}");
    }
}
