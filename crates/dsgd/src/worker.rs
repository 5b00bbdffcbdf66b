//! A worker: pull, compute, push, until there is nothing more to do.
//!
//! It is the same wherever it runs; what differs is its [`Link`] to the server. A panic in
//! the task's code ends the worker, after its message has been pushed as the failure of
//! the batch: it never ends the run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crate::core::{LeaseId, Report, Work};
use crate::params::{Gradient, Params};
use crate::task::{Batch, Stats, Task, TaskResult};

/// What a worker has been given to do.
pub struct Assignment {
    /// Under which lease.
    pub lease: LeaseId,
    /// What it is.
    pub work: Work,
    /// The parameters to compute from.
    pub params: Arc<Params>,
    /// A buffer for the gradient; none for validation.
    pub gradient: Option<Box<Gradient>>,
}

/// What came of an assignment.
pub enum Outcome {
    /// A gradient.
    Gradient {
        /// Under which lease.
        lease: LeaseId,
        /// What was found out with it.
        report: Report,
        /// The gradient itself.
        gradient: Box<Gradient>,
    },
    /// Loss of a validation batch.
    Evaluated {
        /// Under which lease.
        lease: LeaseId,
        /// Sums over the batch.
        stats: Stats,
    },
    /// The task's code returned an error.
    Failed {
        /// Under which lease.
        lease: LeaseId,
        /// The error.
        reason: String,
    },
    /// The task's code panicked: the last thing that a worker says, nothing comes back.
    Panicked {
        /// Under which lease.
        lease: LeaseId,
        /// The panic's message.
        reason: String,
    },
}

/// A worker's connection to the server.
pub trait Link {
    /// Hands over what came of the last assignment and waits for the next one; none when the
    /// run is over.
    fn exchange(&mut self, outcome: Option<Outcome>) -> Option<Assignment>;
}

/// Works until the run is over.
///
/// # Errors
/// The message of a panic in the task's code.
pub fn work<T: Task>(
    task: &T,
    threads: usize,
    seed: u64,
    link: &mut impl Link,
) -> Result<(), String> {
    let mut scratch = caught(|| Ok(task.scratch(threads)))
        .map_err(|Failure { reason, .. }| format!("could not set itself up: {reason}"))?;
    let mut outcome = None;
    let mut waiting_since = Instant::now();
    while let Some(assignment) = link.exchange(outcome.take()) {
        let wait_secs = waiting_since.elapsed().as_secs_f64();
        let lease = assignment.lease;
        let result = match assignment.work {
            Work::Train { epoch, batch } => {
                let batch = Batch {
                    index: batch,
                    epoch,
                    seed: batch_seed(seed, epoch, batch),
                };
                gradient_of(task, batch, assignment, wait_secs, &mut scratch)
            }
            Work::Validate { batch } => {
                let stats = caught(|| task.evaluate(batch, &assignment.params, &mut scratch));
                stats.map(|stats| Outcome::Evaluated { lease, stats })
            }
        };
        waiting_since = Instant::now();
        match result {
            Ok(done) => outcome = Some(done),
            Err(Failure { reason, panicked }) if panicked => {
                let reason = format!("panicked: {reason}");
                let words = reason.clone();
                link.exchange(Some(Outcome::Panicked { lease, reason }));
                return Err(words);
            }
            Err(Failure { reason, .. }) => outcome = Some(Outcome::Failed { lease, reason }),
        }
    }
    Ok(())
}

fn gradient_of<T: Task>(
    task: &T,
    batch: Batch,
    assignment: Assignment,
    wait_secs: f64,
    scratch: &mut T::Scratch,
) -> Result<Outcome, Failure> {
    let Assignment {
        lease,
        params,
        gradient,
        ..
    } = assignment;
    let mut gradient = gradient.unwrap_or_else(|| Box::new(Gradient::new(params.layout().clone())));
    let started = Instant::now();
    gradient.clear();
    let stats = caught(|| task.gradient(batch, &params, scratch, &mut gradient))?;
    // Given back before the push, so that the server may write where this worker has read.
    drop(params);
    let report = Report {
        stats,
        grad_norm: gradient.sum_of_squares().sqrt(),
        compute_secs: started.elapsed().as_secs_f64(),
        wait_secs,
    };
    Ok(Outcome::Gradient {
        lease,
        report,
        gradient,
    })
}

/// A seed that depends on the run, the epoch and the batch alone: `SplitMix64` (Steele et al. 2014).
pub fn batch_seed(seed: u64, epoch: u32, batch: usize) -> u64 {
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let golden = 0x9e37_79b9_7f4a_7c15u64;
    let epoch = mix(seed.wrapping_add(golden.wrapping_mul(u64::from(epoch))));
    mix(epoch.wrapping_add(golden.wrapping_mul(batch as u64 + 1)))
}

struct Failure {
    reason: String,
    panicked: bool,
}

/// Runs the task's code; a panic becomes an error with its message.
fn caught<R>(code: impl FnOnce() -> TaskResult<R>) -> Result<R, Failure> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => Err(Failure {
            reason: error.to_string(),
            panicked: false,
        }),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Err(Failure {
                reason: text.unwrap_or_else(|| "no message".to_owned()),
                panicked: true,
            })
        }
    }
}
