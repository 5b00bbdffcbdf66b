//! How long a step takes: gradient, then whatever update the caller has, on a random batch.

use std::sync::Arc;
use std::time::Instant;

use dsgd::{Gradient, Params};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use super::{Error, Model, ModelSpec, Workspace};
use crate::batch::SentenceBatch;
use crate::kernels::Compute;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The model.
    pub spec: ModelSpec,
    /// How to compute.
    pub compute: Compute,
    /// Sentences of the batch.
    pub rows: usize,
    /// Words of each source.
    pub source_len: usize,
    /// Words of each target.
    pub target_len: usize,
    /// Steps that are not counted, first.
    pub warmup: usize,
    /// Steps that are.
    pub steps: usize,
}

/// What was measured: medians over the steps.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BenchReport {
    /// Seconds of forward and backward pass.
    pub gradient_s: f64,
    /// Seconds of the caller's update.
    pub update_s: f64,
    /// Seconds of the whole step.
    pub step_s: f64,
    /// The fastest whole step.
    pub fastest_step_s: f64,
    /// Source and target tokens a second of the whole step.
    pub tokens_per_s: f64,
}

/// A batch of random words without padding.
pub fn random_batch(
    spec: &ModelSpec,
    rows: usize,
    source_len: usize,
    target_len: usize,
    seed: u64,
) -> SentenceBatch {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // The four special words stay out, where there are others.
    let mut words = |count: usize, size: usize| -> Vec<u32> {
        let (first, range) = if size > 4 { (5, size - 4) } else { (2, 3) };
        (0..count)
            .map(|_| first + random.next_u32() % range as u32)
            .collect()
    };
    SentenceBatch {
        rows,
        first_row: 0,
        source_len,
        target_len,
        sources: (0..spec.utterances())
            .map(|_| words(rows * source_len, spec.source_size))
            .collect(),
        target: words(rows * target_len, spec.target_size),
        gold: words(rows * target_len, spec.target_size),
    }
}

/// Times steps; `update` may change the parameters, and the gradient is cleared after it.
pub fn bench_step(
    options: &BenchOptions,
    mut update: impl FnMut(&mut Params, &mut Gradient),
) -> Result<BenchReport, Error> {
    let model = Model::new(options.spec.clone())?;
    let mut params = Params::zeros(Arc::new(model.layout()));
    model.init(1, 0.1, &mut params);
    let BenchOptions {
        spec,
        rows,
        source_len,
        target_len,
        ..
    } = options;
    let batch = random_batch(spec, *rows, *source_len, *target_len, 2);
    let mut workspace = Workspace::new(options.compute)?;
    let mut gradient = Gradient::new(params.layout().clone());
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for step in 0..options.warmup + options.steps.max(1) {
        let start = Instant::now();
        gradient.clear();
        model.gradient(&params, &batch, step as u64, &mut workspace, &mut gradient)?;
        let middle = start.elapsed().as_secs_f64();
        update(&mut params, &mut gradient);
        let whole = start.elapsed().as_secs_f64();
        if step >= options.warmup {
            for (times, time) in times.iter_mut().zip([middle, whole - middle, whole]) {
                times.push(time);
            }
        }
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    let [gradient_s, update_s, step_s] = times.each_ref().map(|times| times[times.len() / 2]);
    let tokens = rows * (source_len * spec.utterances() + target_len);
    Ok(BenchReport {
        gradient_s,
        update_s,
        step_s,
        fastest_step_s: times[2][0],
        tokens_per_s: tokens as f64 / step_s,
    })
}
