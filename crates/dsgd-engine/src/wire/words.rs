//! Between the schema's types and the library's.
//!
//! What comes from outside is checked here, as far as a single word can be wrong.

use std::sync::Arc;

use bytes::Bytes;

use super::proto;
use super::proto::assignment::Work;
use crate::coded::CodedTensor;
use crate::store::Difference;
use crate::worker::{Job, OwnRound, OwnStep};
use dsgd_core::codec::Codecs;
use dsgd_core::core::LeaseId;
use dsgd_core::params::{Fresh, Kind, Layout, Rule, Snapshot, Tensor};
use dsgd_core::task::{Batch, Part, Stats, used};
use dsgd_core::text;

/// A count above this is no count: sums of them must fit.
const MOST_COUNT: u64 = 1 << 40;

/// A layout.
pub(super) fn tensors(layout: &Layout) -> Vec<proto::Tensor> {
    let tensor = |tensor: &Tensor| proto::Tensor {
        name: tensor.name.clone(),
        shape: tensor.shape.iter().map(|&d| d as u64).collect(),
        rows: tensor.kind == Kind::Rows,
        rate: match tensor.rule {
            // As most clients say it: not at all.
            Rule::Trained { rate, .. } if rate.to_bits() != 1f32.to_bits() => Some(rate),
            _ => None,
        },
        without_decay: matches!(tensor.rule, Rule::Trained { decays: false, .. }),
        added: tensor.rule == Rule::Added,
    };
    layout.tensors().iter().map(tensor).collect()
}

/// Something to do, with these parameters, or what makes them from those of an earlier version.
pub(super) fn assignment(
    lease: LeaseId,
    job: &Job,
    params: &Snapshot,
    base: Option<u64>,
    differences: &[Arc<Difference>],
    codecs: Codecs,
) -> proto::Assignment {
    let work = match job {
        Job::Train(round) => Work::Train(train(round)),
        Job::Steps(OwnRound {
            steps,
            open,
            overlaps,
            tell_state,
        }) => {
            let batches: Vec<_> = steps.iter().map(|step| step.batch).collect();
            Work::Steps(proto::Steps {
                train: Some(train(&batches)),
                rates: steps.iter().map(|step| step.learning_rate).collect(),
                open: open.clone(),
                overlaps: *overlaps,
                tell_state: *tell_state,
            })
        }
        Job::Validate(batch) => Work::Validate(proto::Validate {
            batch: *batch as u64,
        }),
    };
    let new = |tensor: &CodedTensor| match tensor {
        CodedTensor::Nothing => 0,
        CodedTensor::Rows { .. } => 1,
        CodedTensor::Whole(_) => 2,
    };
    let differences = differences.iter().map(|one| proto::Difference {
        fresh: one.coded.tensors.iter().map(new).collect(),
        codec: one.coded.codec.id(),
    });
    proto::Assignment {
        lease,
        work: Some(work),
        version: params.version,
        base,
        fresh: fresh(params),
        codec: codecs.push.id(),
        params_codec: codecs.pull.id(),
        differences: differences.collect(),
    }
}

/// What is new in each tensor, a byte each; nothing where that is not known.
pub(super) fn fresh(params: &Snapshot) -> Bytes {
    let fresh = |fresh: &Fresh| match fresh {
        Fresh::Same => 0,
        Fresh::Rows(_) => 1,
        Fresh::Whole => 2,
    };
    let tensors = params.since.iter().flat_map(|since| &since.tensors);
    tensors.map(fresh).collect()
}

fn train(round: &[Batch]) -> proto::Train {
    let first = round.first();
    let part = first.map(|batch| batch.part).unwrap_or_default();
    proto::Train {
        epoch: first.map_or(0, |batch| batch.epoch),
        batches: round.iter().map(|batch| batch.index as u64).collect(),
        seeds: round.iter().map(|batch| batch.seed).collect(),
        part: part.number as u32,
        parts: part.of as u32,
    }
}

/// What an assignment says that there is to do.
pub(super) fn job(work: Option<Work>) -> Result<Job, &'static str> {
    match work {
        Some(Work::Train(train)) => round(&train).map(Job::Train),
        Some(Work::Steps(steps)) => {
            let batches = round(&steps.train.unwrap_or_default())?;
            if steps.rates.len() != batches.len() {
                return Err("steps with a learning rate too many, or too few");
            }
            if steps.rates.iter().any(|rate| !rate.is_finite()) {
                return Err("a learning rate that is not finite");
            }
            let step = |(batch, learning_rate)| OwnStep {
                batch,
                learning_rate,
            };
            Ok(Job::Steps(OwnRound {
                steps: batches.into_iter().zip(steps.rates).map(step).collect(),
                open: steps.open,
                overlaps: steps.overlaps,
                tell_state: steps.tell_state,
            }))
        }
        Some(Work::Validate(validate)) => Ok(Job::Validate(validate.batch as usize)),
        None => Err("an assignment without work"),
    }
}

/// The batches of a round.
fn round(train: &proto::Train) -> Result<Vec<Batch>, &'static str> {
    if train.batches.is_empty() {
        return Err("a round of no batches");
    }
    if train.batches.len() != train.seeds.len() {
        return Err("a round with a seed too many, or too few");
    }
    let part = Part {
        number: train.part as usize,
        of: train.parts.max(1) as usize,
    };
    if part.number >= part.of {
        return Err("a part beyond the last one");
    }
    let batch = |(index, &seed): (&u64, _)| Batch {
        index: *index as usize,
        epoch: train.epoch,
        seed,
        part,
    };
    Ok(train.batches.iter().zip(&train.seeds).map(batch).collect())
}

/// Sums over a batch.
pub(super) fn stats(stats: Stats) -> proto::Stats {
    let counted = stats.units.iter().rposition(|&unit| unit > 0);
    proto::Stats {
        loss: stats.loss,
        count: stats.count,
        examples: stats.examples,
        units: stats.units[..counted.map_or(0, |last| last + 1)].to_vec(),
        sums: used(&stats.sums).to_vec(),
    }
}

/// Sums over a batch as a worker reports them; whether they can be true is decided later.
pub(super) fn read_stats(stats: Option<&proto::Stats>) -> Result<Stats, &'static str> {
    let Some(told) = stats else {
        return Err("no stats");
    };
    let mut stats = Stats {
        loss: told.loss,
        count: told.count,
        examples: told.examples,
        ..Stats::default()
    };
    let units = stats.units.get_mut(..told.units.len());
    units
        .ok_or("more than 2 units")?
        .copy_from_slice(&told.units);
    let sums = stats.sums.get_mut(..told.sums.len());
    sums.ok_or("more than 8 sums")?.copy_from_slice(&told.sums);
    let [first, second] = stats.units;
    if [stats.count, stats.examples, first, second]
        .iter()
        .any(|&count| count > MOST_COUNT)
    {
        return Err("a count above 2^40");
    }
    Ok(stats)
}

/// Seconds that make sense; others are none.
pub(super) fn secs(secs: f64) -> f64 {
    if secs.is_finite() {
        secs.clamp(0.0, 1e9)
    } else {
        0.0
    }
}

/// A line that a peer says: the first `most` bytes of its text, whole characters, fit to be shown.
pub(super) fn cut(mut text: String, most: usize) -> String {
    text = text::line(&text);
    let end = (0..=most.min(text.len())).rfind(|&at| text.is_char_boundary(at));
    text.truncate(end.unwrap_or(0));
    text
}
