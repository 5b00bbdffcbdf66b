//! From what the core wants computed to what a worker is given to do.

use super::Server;
use crate::worker::{self, Job, OwnRound, OwnStep, batch_seed};
use dsgd_core::core::{LeaseId, Round, Work, WorkerId};
use dsgd_core::task::Batch;

impl Server {
    /// Gives a worker what the core wants it to do, with the parameters as they are now.
    pub(super) fn grant(&mut self, worker: WorkerId, lease: LeaseId, work: Work) {
        let job = of(work, self.core.seed());
        // A worker whose inbox is closed is about to be reported lost; its lease goes then.
        let Some(inbox) = self.inboxes.get_mut(&worker) else {
            return;
        };
        let (params, differences) = if inbox.copies {
            self.store.snapshot_for_copy(inbox.given)
        } else {
            (self.store.snapshot(), None)
        };
        inbox.given = Some(params.version);
        let _ = inbox.sender.send(worker::Assignment {
            lease,
            job,
            params,
            codecs: self.codecs,
            differences,
            others_state: self.own_state.clone(),
            transfer: worker::TransferTimes::default(),
        });
    }
}

/// What a worker is to do, in a run of that seed.
fn of(work: Work, seed: u64) -> Job {
    let Round {
        epoch,
        batches,
        part,
        rates,
        open,
        overlaps,
        tell_state,
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
        overlaps,
        tell_state,
    })
}
