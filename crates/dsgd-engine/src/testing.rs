//! What a model promises, put to the test: for its own tests.

use std::sync::Arc;

use dsgd_core::model::{Compute, Model, Seat};
use dsgd_core::optim::batch_share;
use dsgd_core::params::{Gradient, Params, Snapshot};
use dsgd_core::task::{Batch, Part, Stats, TaskResult};

use crate::worker::batch_seed;

/// Batches that are looked at: the first ones and the last one.
const BATCHES: usize = 4;

/// How far the parts' sum may be from the batch, as a share of it: what rounding makes of sums in `f32`.
const TOLERANCE: f64 = 1e-5;

/// Checks that a model's batches can be cut as its manifest says (`most_parts`): the mean gradients of the parts,
/// weighted by their examples, are the batch's, and so are the sums of what they report.
///
/// ```
/// # use dsgd_core::model::{Compute, Manifest, Model, Seat};
/// # use dsgd_core::params::{Gradient, Layout, Snapshot, TensorId};
/// # use dsgd_core::task::{Batch, Stats, TaskResult};
/// /// The mean of the numbers of a batch of ten.
/// struct Mean(Manifest);
///
/// impl Model for Mean {
/// #   fn manifest(&self) -> &Manifest {
/// #       &self.0
/// #   }
///     fn compute(&self, _: Seat) -> TaskResult<Box<dyn Compute + '_>> {
///         Ok(Box::new(|batch: Batch, params: &Snapshot, into: &mut Gradient| {
///             let (rows, p, mut loss) = (batch.part.rows(10, 1), params.flat()[0], 0.0);
///             for row in rows.clone() {
///                 let error = p - (10 * batch.index + row) as f32;
///                 into.dense(TensorId(0))[0] += 2.0 * error / rows.len() as f32;
///                 loss += f64::from(error * error);
///             }
///             Ok(Stats::of_examples(loss, rows.len() as u64))
///         }))
///     }
/// }
///
/// let layout: Layout = [("p", [1])].into_iter().collect();
/// let manifest = Manifest { most_parts: 10, ..Manifest::new(layout, 5) };
/// dsgd_engine::testing::parts_agree(&Mean(manifest)).unwrap();
/// ```
///
/// # Errors
/// The first batch that differs from its parts, in what and how far; or what the model's own code said.
pub fn parts_agree(model: &dyn Model) -> TaskResult<()> {
    let manifest = model.manifest();
    let mut params = Params::zeros(Arc::clone(&manifest.layout));
    model.init(1, &mut params)?;
    let params = Snapshot::new(0, Arc::new(params));
    let seat = Seat {
        slot: 0,
        slots: 1,
        threads: 1,
    };
    let mut compute = model.compute(seat)?;
    let first = 0..manifest.batches.min(BATCHES);
    let last = manifest.batches.saturating_sub(1).max(first.end);
    for index in first.chain(last..manifest.batches) {
        let (whole, stats) = cut(&mut *compute, &params, index, 1)?;
        for of in 2..=manifest.most_parts {
            let (parts, sum) = cut(&mut *compute, &params, index, of)?;
            compare(&whole, &stats, parts, &sum)
                .map_err(|what| format!("batch {index} in {of} parts: {what}"))?;
        }
    }
    Ok(())
}

/// The gradient of a batch from so many parts, and what they report together.
fn cut(
    compute: &mut dyn Compute,
    params: &Snapshot,
    index: usize,
    of: usize,
) -> TaskResult<(Gradient, Stats)> {
    let mut parts = Vec::new();
    let mut sum = Stats::default();
    for number in 0..of {
        let batch = Batch {
            index,
            epoch: 1,
            seed: batch_seed(1, 1, index),
            part: Part { number, of },
        };
        let mut gradient = Gradient::new(Arc::clone(params.layout()));
        let stats = compute.gradient(batch, params, &mut gradient)?;
        sum.add(&stats);
        parts.push((gradient, stats.examples));
    }
    let mut mean = Gradient::new(Arc::clone(params.layout()));
    for (gradient, examples) in &parts {
        mean.add(gradient, batch_share(*examples, sum.examples));
    }
    Ok((mean, sum))
}

fn compare(whole: &Gradient, stats: &Stats, parts: Gradient, sum: &Stats) -> Result<(), String> {
    let counts = |stats: &Stats| (stats.examples, stats.count, stats.units);
    if counts(sum) != counts(stats) {
        return Err(format!(
            "they have {:?} examples, items and units, and the batch {:?}",
            counts(sum),
            counts(stats)
        ));
    }
    let sums = |stats: &Stats| std::iter::once(stats.loss).chain(stats.sums);
    for (sum, whole) in sums(sum).zip(sums(stats)) {
        if (sum - whole).abs() > TOLERANCE * whole.abs() {
            return Err(format!("a sum of theirs is {sum}, and the batch's {whole}"));
        }
    }
    let norm = whole.sum_of_squares().sqrt();
    let mut difference = parts;
    difference.add(whole, -1.0);
    let off = difference.sum_of_squares().sqrt();
    if off > TOLERANCE * norm {
        let share = off / norm;
        return Err(format!(
            "their gradient is off by {share:.1e} of the batch's norm"
        ));
    }
    Ok(())
}
