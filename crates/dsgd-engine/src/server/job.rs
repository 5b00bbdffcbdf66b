//! From what the core wants computed to what a worker is given to do.

use crate::worker::{Job, OwnRound, OwnStep, batch_seed};
use dsgd_core::core::{Round, Work};
use dsgd_core::task::Batch;

/// What a worker is to do, in a run of that seed.
pub(super) fn of(work: Work, seed: u64) -> Job {
    let Round {
        epoch,
        batches,
        part,
        rates,
        open,
    } = match work {
        Work::Train(round) => round,
        Work::Validate { batch } => return Job::Validate(batch),
    };
    let batch = |index| Batch {
        index,
        epoch,
        seed: batch_seed(seed, epoch, index),
        part,
    };
    let batches = batches.into_iter().map(batch);
    if rates.is_empty() {
        return Job::Train(batches.collect());
    }
    let step = |(batch, learning_rate)| OwnStep {
        batch,
        learning_rate,
    };
    Job::Steps(OwnRound {
        steps: batches.zip(rates).map(step).collect(),
        open,
    })
}
