//! A worker: pull, compute, push, until there is nothing more to do.
//!
//! It is the same wherever it runs; what differs is its [`Link`] to the server. A panic in
//! the task's code ends the worker, after its message has been pushed as the failure of
//! the batch: it never ends the run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tracing::debug;

use crate::mutex::lock;
use dsgd_core::core::{LeaseId, Report};
use dsgd_core::event::Cost;
use dsgd_core::model::{Compute, Model, Seat};
use dsgd_core::params::{Gradient, Layout, Snapshot};
use dsgd_core::task::{Batch, Stats, TaskResult};
use dsgd_core::text::causes;

/// What a worker has been given to do.
pub struct Assignment {
    /// Under which lease.
    pub lease: LeaseId,
    /// What it is.
    pub job: Job,
    /// The parameters to compute from.
    pub params: Snapshot,
    /// What it took to bring this here, and what was pushed before away.
    pub transfer: TransferTimes,
}

/// Seconds on the way between two computations; none where memory is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TransferTimes {
    /// Seconds in which the parameters arrived.
    pub pull_secs: f64,
    /// Seconds of the push before.
    pub push_secs: f64,
}

/// What is to be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// One gradient of these training batches, the mean over their examples; they are several only with `--round`.
    Train(Vec<Batch>),
    /// The loss of this validation batch.
    Validate(usize),
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
    /// Why the connection is of no use any more.
    type Error;

    /// Hands over what came of the last assignment and waits for the next one; none when the
    /// run is over.
    fn exchange(&mut self, outcome: Option<Outcome>) -> Result<Option<Assignment>, Self::Error>;

    /// A buffer for the next gradient; it goes with the outcome.
    fn buffer(&mut self) -> Box<Gradient>;
}

/// Gradients that nobody uses for now: made once, taken and given back for ever.
///
/// Whoever computes or receives a gradient takes one and the server gives it back after the
/// step. They meet here and nowhere else, for as long as it takes to move a pointer: hence a lock.
#[derive(Clone)]
pub struct Buffers {
    layout: Arc<Layout>,
    // They go to workers and back as they are: a box is what is sent.
    #[allow(clippy::vec_box)]
    free: Arc<Mutex<Vec<Box<Gradient>>>>,
}

impl Buffers {
    /// So many of them; the system gives them memory only when they are first used.
    pub fn new(layout: &Arc<Layout>, count: usize) -> Self {
        let free = (0..count).map(|_| Box::new(Gradient::new(Arc::clone(layout))));
        Self {
            layout: Arc::clone(layout),
            free: Arc::new(Mutex::new(free.collect())),
        }
    }

    /// The one that was used last, or a fresh one when all are in use.
    pub fn take(&self) -> Box<Gradient> {
        let free = self.lock().pop();
        free.unwrap_or_else(|| Box::new(Gradient::new(Arc::clone(&self.layout))))
    }

    /// Gives one back.
    pub fn give(&self, gradient: Box<Gradient>) {
        self.lock().push(gradient);
    }

    #[allow(clippy::vec_box)]
    fn lock(&self) -> MutexGuard<'_, Vec<Box<Gradient>>> {
        // Nothing can go wrong half-way through a push or a pop.
        lock(&self.free)
    }
}

/// Why a worker ended before the run did.
#[derive(Debug, PartialEq)]
pub enum Broken<E> {
    /// The task's code panicked, with this message.
    Panicked(String),
    /// The link broke.
    Link(E),
}

/// Where batches are computed, one at a time: what the task keeps for a worker between them.
pub struct ComputeSlot<'a> {
    model: &'a dyn Model,
    seat: Seat,
    compute: Mutex<Box<dyn Compute + 'a>>,
}

impl<'a> ComputeSlot<'a> {
    /// One for a worker of that seat.
    ///
    /// # Errors
    /// What the model's own code said, or the message of its panic.
    pub fn new(model: &'a dyn Model, seat: Seat) -> Result<Self, String> {
        match catch_panics(|| model.compute(seat)) {
            Ok(compute) => Ok(Self {
                model,
                seat,
                compute: Mutex::new(compute),
            }),
            Err(Failure { reason, .. }) => Err(format!("could not set itself up: {reason}")),
        }
    }

    /// Clears up after a panic.
    pub fn renew(&self) {
        if let Ok(compute) = catch_panics(|| self.model.compute(self.seat)) {
            *self.occupy() = compute;
        }
    }

    /// Panics are caught where the compute slot is in use, so nobody leaves it locked.
    fn occupy(&self) -> MutexGuard<'_, Box<dyn Compute + 'a>> {
        lock(&self.compute)
    }
}

/// Works until the run is over.
///
/// Two workers may share a compute slot (`--prefetch`): one moves parameters and gradients while the
/// other computes.
pub fn work<L: Link>(slot: &ComputeSlot<'_>, link: &mut L) -> Result<(), Broken<L::Error>> {
    let mut outcome = None;
    let mut spare = None;
    let mut part = None;
    let mut waiting_since = Instant::now();
    while let Some(assignment) = link.exchange(outcome.take()).map_err(Broken::Link)? {
        let (lease, params) = (assignment.lease, assignment.params);
        let mut compute = slot.occupy();
        debug!(lease, job = ?assignment.job, version = params.version, "computes");
        let transfer = assignment.transfer;
        let away = waiting_since.elapsed().as_secs_f64();
        let cost = Cost {
            compute_secs: 0.0,
            pull_secs: transfer.pull_secs,
            push_secs: transfer.push_secs,
            wait_secs: (away - transfer.pull_secs - transfer.push_secs).max(0.0),
            bytes: 0,
        };
        let result = match assignment.job {
            Job::Train(round) => {
                let mut gradient = spare.take().unwrap_or_else(|| link.buffer());
                let into = (&mut *gradient, &mut part);
                match gradient_of(&mut **compute, &round, params, cost, into) {
                    Ok(report) => Ok(Outcome::Gradient {
                        lease,
                        report,
                        gradient,
                    }),
                    Err(failure) => {
                        spare = Some(gradient);
                        Err(failure)
                    }
                }
            }
            Job::Validate(batch) => {
                let stats = catch_panics(|| compute.evaluate(batch, &params));
                stats.map(|stats| Outcome::Evaluated { lease, stats })
            }
        };
        drop(compute);
        waiting_since = Instant::now();
        debug!(lease, well = result.is_ok(), "has computed");
        match result {
            Ok(done) => outcome = Some(done),
            Err(Failure { reason, panicked }) if panicked => {
                let reason = format!("panicked: {reason}");
                let words = reason.clone();
                let last = link.exchange(Some(Outcome::Panicked { lease, reason }));
                last.map_err(Broken::Link)?;
                return Err(Broken::Panicked(words));
            }
            Err(Failure { reason, .. }) => outcome = Some(Outcome::Failed { lease, reason }),
        }
    }
    Ok(())
}

/// The mean gradient of a round, over the examples of its batches. From the second batch on it needs another
/// buffer, which is kept.
fn gradient_of(
    compute: &mut dyn Compute,
    round: &[Batch],
    params: Snapshot,
    cost: Cost,
    (gradient, part): (&mut Gradient, &mut Option<Gradient>),
) -> Result<Report, Failure> {
    let started = Instant::now();
    gradient.clear();
    let mut stats = catch_panics(|| compute.gradient(round[0], &params, gradient))?;
    for &batch in &round[1..] {
        let part = part.get_or_insert_with(|| Gradient::new(Arc::clone(gradient.layout())));
        part.clear();
        let more = catch_panics(|| compute.gradient(batch, &params, part))?;
        let before = stats.examples as f64;
        stats.add(&more);
        let all = stats.examples.max(1) as f64;
        gradient.scale((before / all) as f32);
        gradient.add(part, (more.examples as f64 / all) as f32);
    }
    // Given back before the push, so that the server may write where this worker has read.
    drop(params);
    Ok(Report {
        stats,
        grad_norm: gradient.sum_of_squares().sqrt(),
        cost: Cost {
            compute_secs: started.elapsed().as_secs_f64(),
            ..cost
        },
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
fn catch_panics<R>(code: impl FnOnce() -> TaskResult<R>) -> Result<R, Failure> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => Err(Failure {
            reason: causes(&*error),
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
