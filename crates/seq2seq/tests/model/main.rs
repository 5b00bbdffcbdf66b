//! The model against itself, without any file: what must agree, and how it behaves.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

mod agreement;
mod behaviour;

use std::sync::Arc;

use dsgd::{Gradient, Params, TensorGradient};
use seq2seq::batch::{PAD, SentenceBatch};
use seq2seq::kernels::{Compute, Precision, Simd};
use seq2seq::model::bench::random_batch;
use seq2seq::model::{LayerType, Loss, Model, ModelSpec, ModelType, Workspace};

const LAYER_TYPES: [LayerType; 5] = [
    LayerType::Lstm,
    LayerType::Fast,
    LayerType::Gru,
    LayerType::Rnn,
    LayerType::Bi,
];

fn spec(layer_type: LayerType, model_type: ModelType) -> ModelSpec {
    ModelSpec {
        layer_type,
        model_type,
        layers: 2,
        word_vec_size: 7,
        hidden_size: 9,
        source_size: 40,
        target_size: 50,
        utter_context: 3,
        dropout: 0.0,
    }
}

fn compute(threads: usize, simd: Simd) -> Compute {
    Compute {
        threads,
        simd,
        precision: Precision::F32,
    }
}

/// Random words, with the end of every other row of the target padded.
fn batch(spec: &ModelSpec, rows: usize) -> SentenceBatch {
    let mut batch = random_batch(spec, rows, 5, 6, 7);
    for row in (0..rows).step_by(2) {
        for t in 3..6 {
            batch.gold[row * 6 + t] = PAD;
            batch.target[row * 6 + t] = PAD;
        }
    }
    batch
}

fn params(model: &Model, size: f32) -> Params {
    let mut params = Params::zeros(Arc::new(model.layout()));
    model.init(3, size, &mut params);
    params
}

fn gradient(
    model: &Model,
    params: &Params,
    batch: &SentenceBatch,
    how: Compute,
    seed: u64,
) -> (Loss, Vec<f32>) {
    let mut gradient = Gradient::new(params.layout().clone());
    let mut workspace = Workspace::new(how).unwrap();
    let loss = model
        .gradient(params, batch, seed, &mut workspace, &mut gradient)
        .unwrap();
    let mut flat = vec![0.0; params.layout().len()];
    for (tensor, part) in params.layout().tensors().iter().zip(gradient.tensors()) {
        match part {
            TensorGradient::Dense(values) => flat[tensor.range.clone()].copy_from_slice(values),
            TensorGradient::Rows(rows) => {
                for (row, values) in rows.iter() {
                    let at = tensor.range.start + row * values.len();
                    flat[at..at + values.len()].copy_from_slice(values);
                }
            }
        }
    }
    (loss, flat)
}

/// The largest difference in units of the largest element.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let most = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    a.iter()
        .zip(b)
        .fold(0.0f32, |m, (a, b)| m.max((a - b).abs()))
        / most
}
