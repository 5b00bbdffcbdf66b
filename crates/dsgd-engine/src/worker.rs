//! A worker: pull, compute, push, until there is nothing more to do.
//!
//! It is the same wherever it runs; what differs is its [`Link`] to the server. A panic in
//! the task's code ends the worker, and so does what it has lost to compute with
//! ([`Lost`](dsgd_core::task::Lost)), after that has been pushed as the failure of the batch: it never ends the run.

mod buffers;
mod failure;
mod own_steps;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use tracing::debug;

use crate::mutex::lock;
use crate::own_state::OwnState;
use crate::store::Differences;
use dsgd_core::codec::Codecs;
use dsgd_core::core::{LeaseId, Report};
use dsgd_core::event::Cost;
use dsgd_core::model::{Compute, Model, Seat};
use dsgd_core::params::{Gradient, Layout, Params, Snapshot};
use dsgd_core::task::{Batch, Stats};

pub use buffers::Buffers;
use failure::{Failure, catch_panics};
use own_steps::OwnSteps;
pub use own_steps::{OwnRound, OwnStep, StepRule};

/// What a worker has been given to do.
pub struct Assignment {
    /// Under which lease.
    pub lease: LeaseId,
    /// What it is.
    pub job: Job,
    /// The parameters to compute from.
    pub params: Snapshot,
    /// How what comes of it travels, and the parameters that were sent for it.
    pub codecs: Codecs,
    /// What makes them from those that a worker elsewhere has, where differences travel.
    pub differences: Option<Differences>,
    /// What another worker's own optimizer keeps, for one that has none yet (`--mode local`).
    pub others_state: Option<Arc<OwnState>>,
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
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// One gradient of these training batches, the mean over their examples; they are several only with `--round`.
    Train(Vec<Batch>),
    /// These steps, one after the other, and in the end the *delta*: where they lead to less where they began. It is
    /// pushed as a gradient is (`--mode local`).
    Steps(OwnRound),
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
        /// What the worker's own optimizer keeps, where that was asked for.
        state: Option<OwnState>,
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
    /// The task's code panicked, or has lost what it computes with: the last thing that a worker says, nothing comes
    /// back.
    Panicked {
        /// Under which lease.
        lease: LeaseId,
        /// The panic's message, or what is lost.
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

    /// What another worker's optimizer kept when the last assignment was made, for one that begins to take steps of
    /// its own; none where nobody has told.
    fn others_state(&mut self) -> Result<Option<Arc<OwnState>>, Self::Error>;
}

/// Why a worker ended before the run did.
#[derive(Debug, PartialEq)]
pub enum Broken<E> {
    /// The task's code panicked, or has lost what it computes with; in these words.
    Panicked(String),
    /// The link broke.
    Link(E),
}

/// Where batches are computed, one at a time: what the task keeps for a worker between them.
pub struct ComputeSlot<'a> {
    model: &'a dyn Model,
    seat: Seat,
    rule: StepRule,
    tools: Mutex<Tools<'a>>,
    /// Whether its rounds overlap, once that is known.
    overlaps: OnceLock<bool>,
}

/// What is used for one batch after the other.
struct Tools<'a> {
    compute: Box<dyn Compute + 'a>,
    /// Made with the first steps that a worker takes by itself; they outlive its session.
    own: Option<OwnSteps>,
    /// A gradient that is added to another's.
    part: Option<Gradient>,
}

impl<'a> ComputeSlot<'a> {
    /// One for a worker of that seat, which takes steps by this rule if it is to take any by itself.
    ///
    /// # Errors
    /// What the model's own code said, or the message of its panic.
    pub fn new(model: &'a dyn Model, seat: Seat, rule: StepRule) -> Result<Self, String> {
        match catch_panics(|| model.compute(seat)) {
            Ok(compute) => Ok(Self {
                model,
                seat,
                rule,
                tools: Mutex::new(Tools {
                    compute,
                    own: None,
                    part: None,
                }),
                overlaps: OnceLock::new(),
            }),
            Err(Failure { reason, .. }) => Err(format!("could not set itself up: {reason}")),
        }
    }

    /// Fills zeros with the model's initial parameters; says whether it could.
    pub fn initial(&self, seed: u64, params: &mut Params) -> bool {
        catch_panics(|| self.model.init(seed, params)).is_ok()
    }

    /// Waits until it is known whether a second worker is of use here: with rounds that overlap it is, and not any more
    /// once the first one has ended.
    pub fn wants_second(&self) -> bool {
        *self.overlaps.wait()
    }

    /// What is to be dropped when the first worker has ended, also by a panic: nobody waits any more then.
    pub fn first_works(&self) -> FirstWorks<'_> {
        FirstWorks(&self.overlaps)
    }

    /// Clears up after a panic, and after a link that broke.
    pub fn renew(&self) {
        if let Ok(compute) = catch_panics(|| self.model.compute(self.seat)) {
            let mut tools = self.occupy();
            tools.compute = compute;
            if let Some(own) = &mut tools.own {
                own.forget_last();
            }
        }
    }

    /// Panics are caught where the compute slot is in use, so nobody leaves it locked.
    fn occupy(&self) -> MutexGuard<'_, Tools<'a>> {
        lock(&self.tools)
    }
}

/// The first worker of a compute slot works.
pub struct FirstWorks<'a>(&'a OnceLock<bool>);

impl Drop for FirstWorks<'_> {
    fn drop(&mut self) {
        // What was known before stays so.
        let _ = self.0.set(false);
    }
}

/// Works until the run is over.
///
/// Two workers may share a compute slot (`--prefetch`): one moves parameters and gradients while the
/// other computes.
pub fn work<L: Link>(slot: &ComputeSlot<'_>, link: &mut L) -> Result<(), Broken<L::Error>> {
    let mut outcome = None;
    let mut spare = None;
    let mut waiting_since = Instant::now();
    while let Some(assignment) = link.exchange(outcome.take()).map_err(Broken::Link)? {
        let (lease, params) = (assignment.lease, assignment.params);
        let mut tools = slot.occupy();
        if let Job::Steps(OwnRound { overlaps: true, .. }) = assignment.job {
            let _ = slot.overlaps.set(true);
        }
        if let Job::Steps(_) = assignment.job
            && tools.own.is_none()
        {
            let others = link.others_state().map_err(Broken::Link)?;
            tools.own = Some(slot.own_steps(params.layout(), others.as_deref()));
        }
        debug!(lease, job = ?assignment.job, version = params.version, "computes");
        let transfer = assignment.transfer;
        let away = waiting_since.elapsed().as_secs_f64();
        let cost = Cost {
            compute_secs: 0.0,
            pull_secs: transfer.pull_secs,
            push_secs: transfer.push_secs,
            wait_secs: (away - transfer.pull_secs - transfer.push_secs).max(0.0),
            bytes: 0,
            catches_up: false,
        };
        let started = Instant::now();
        let result = if let Job::Validate(batch) = assignment.job {
            let stats = catch_panics(|| tools.compute.evaluate(batch, &params));
            stats.map(|stats| Outcome::Evaluated { lease, stats })
        } else {
            let mut gradient = spare.take().unwrap_or_else(|| link.buffer());
            let computed = slot.train(&mut tools, lease, &assignment.job, &params, &mut gradient);
            // Given back before the push, so that the server may write where this worker has read.
            drop(params);
            let state = match (&assignment.job, &tools.own) {
                (Job::Steps(round), Some(own)) if round.tell_state => Some(own.state()),
                _ => None,
            };
            match computed {
                Ok(stats) => Ok(Outcome::Gradient {
                    lease,
                    report: Report {
                        stats,
                        grad_norm: gradient.sum_of_squares().sqrt(),
                        cost: Cost {
                            compute_secs: started.elapsed().as_secs_f64(),
                            ..cost
                        },
                    },
                    gradient,
                    state,
                }),
                Err(failure) => {
                    spare = Some(gradient);
                    Err(failure)
                }
            }
        };
        drop(tools);
        waiting_since = Instant::now();
        debug!(lease, well = result.is_ok(), "has computed");
        match result {
            Ok(done) => outcome = Some(done),
            Err(Failure { reason, is_end }) if is_end => {
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

impl ComputeSlot<'_> {
    /// Steps of its own, with an optimizer that goes on from what others' keep.
    fn own_steps(&self, layout: &Arc<Layout>, others: Option<&OwnState>) -> OwnSteps {
        let mut own = OwnSteps::new(self.rule, layout, self.seat.threads);
        if let Some(others) = others {
            let begun = own.begin_with(others);
            debug!(
                steps = others.steps,
                ?begun,
                "begins with another worker's state"
            );
        }
        own
    }

    /// Makes `into` what is to be pushed: a gradient, or a delta.
    fn train(
        &self,
        tools: &mut Tools<'_>,
        lease: LeaseId,
        job: &Job,
        params: &Snapshot,
        into: &mut Gradient,
    ) -> Result<Stats, Failure> {
        match job {
            Job::Train(round) => tools.gradient(round, params, into),
            Job::Steps(round) => {
                let fresh = || self.own_steps(params.layout(), None);
                let own = tools.own.get_or_insert_with(fresh);
                own.take(&mut *tools.compute, (lease, round), params, into)
            }
            Job::Validate(batch) => panic!("validation batch {batch} has no gradient"),
        }
    }
}

impl Tools<'_> {
    /// The mean gradient of a round, over the examples of its batches. From the second batch on it needs another
    /// buffer, which is kept.
    fn gradient(
        &mut self,
        round: &[Batch],
        params: &Snapshot,
        gradient: &mut Gradient,
    ) -> Result<Stats, Failure> {
        let compute = &mut self.compute;
        gradient.clear();
        let mut stats = catch_panics(|| compute.gradient(round[0], params, gradient))?;
        for &batch in &round[1..] {
            let fresh = || Gradient::new(Arc::clone(gradient.layout()));
            let part = self.part.get_or_insert_with(fresh);
            part.clear();
            let more = catch_panics(|| compute.gradient(batch, params, part))?;
            let before = stats.examples as f64;
            stats.add(&more);
            let all = stats.examples.max(1) as f64;
            gradient.scale((before / all) as f32);
            gradient.add(part, (more.examples as f64 / all) as f32);
        }
        Ok(stats)
    }
}

/// A seed that depends on the run, the epoch and the batch alone: `SplitMix64` (Steele et al. 2014).
pub fn batch_seed(seed: u64, epoch: u32, batch: usize) -> u64 {
    let epoch = mix(seed.wrapping_add(GOLDEN.wrapping_mul(u64::from(epoch))));
    mix(epoch.wrapping_add(GOLDEN.wrapping_mul(batch as u64 + 1)))
}

/// What `SplitMix64` adds for each number: 2⁶⁴ divided by the golden ratio.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// `SplitMix64`'s finaliser: neighbours become numbers that have nothing in common.
pub fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
