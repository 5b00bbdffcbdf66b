//! What a plan promises, from what rounds took each worker.

use std::time::Duration;

use super::Plan;
use crate::codec::Codec;

/// Waiting that is no reason for more steps: a share of the time.
const WAITING: f64 = 0.1;

/// So many steps in the finer codec are better than fewer in the coarser one.
const FINE_STEPS: usize = 4;

/// Where workers would wait for more than this share of the time, they go on while they exchange, if that makes the run so
/// much faster: it costs some of what a step is worth.
const WAITING_MUCH: f64 = 0.3;
const MUCH_FASTER: f64 = 1.25;

/// Who is slower than the fastest by less than this takes as many steps.
const ALIKE: f64 = 1.3;

/// The most steps, and exchanges that an epoch has at least.
pub(super) const MOST_STEPS: usize = 64;
const EXCHANGES: usize = 8;

/// What rounds take a worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Seconds of computing a batch of usual size.
    pub batch_secs: f64,
    /// Seconds of moving a delta, and parameters after it.
    pub transfer_secs: f64,
}

/// So many steps that an epoch of so many batches has a few exchanges.
pub fn most_steps(batches: usize, workers: usize) -> usize {
    (batches / (EXCHANGES * workers.max(1))).clamp(1, MOST_STEPS)
}

/// Steps that a worker has the time for until the fastest one has done `most`, and its exchange.
pub(super) fn steps_at(own: Pace, fastest: Pace, most: usize) -> usize {
    if own.batch_secs <= ALIKE * fastest.batch_secs {
        return most;
    }
    let time = most as f64 * fastest.batch_secs + fastest.transfer_secs;
    let steps = ((time - own.transfer_secs) / own.batch_secs).round();
    steps.clamp(1.0, most as f64) as usize
}

/// What a plan promises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promise {
    /// Which plan.
    pub plan: Plan,
    /// Batches a second, by those of the fastest worker alone.
    pub speedup: f64,
    /// Share of the workers' time that they wait for exchanges.
    pub waiting: f64,
}

/// The plan, and how it does.
#[derive(Debug, Default)]
pub(super) struct Planner {
    /// What was promised when it was made; none for one that was resumed with.
    pub(super) speedup: Option<f64>,
    /// Exchanges for which another one was better.
    pub(super) worse: u32,
    /// When the epoch's first batch was given out under it, and how many were counted then.
    pub(super) since: Option<(Duration, usize)>,
}

impl Promise {
    /// What a plan promises workers whose rounds take this with it: at least one.
    ///
    /// # Panics
    /// When there is no worker.
    pub fn of(plan: Plan, paces: &[Pace]) -> Self {
        let fastest = paces
            .iter()
            .min_by(|a, b| a.batch_secs.total_cmp(&b.batch_secs));
        let fastest = *fastest.expect("somebody works");
        let (mut round_secs, mut batches, mut computing) = (0.0f64, 0, 0.0);
        for pace in paces {
            let steps = steps_at(*pace, fastest, plan.steps);
            let own = steps as f64 * pace.batch_secs;
            let both = if plan.overlaps {
                own.max(pace.transfer_secs)
            } else {
                own + pace.transfer_secs
            };
            round_secs = round_secs.max(both);
            batches += steps;
            computing += own;
        }
        Self {
            plan,
            speedup: batches as f64 / round_secs * fastest.batch_secs,
            waiting: 1.0 - computing / (round_secs * paces.len() as f64),
        }
    }

    /// The mildest with which little is waited, or the fastest. `paces` says what rounds take with a plan.
    ///
    /// # Panics
    /// When there is no codec, no step or no worker.
    pub fn best(
        codecs: &[Codec],
        most_steps: usize,
        paces: impl Fn(Plan) -> Vec<Pace> + Copy,
    ) -> Self {
        let (fine, coarse) = (codecs[0], codecs[codecs.len() - 1]);
        let few = (1..=FINE_STEPS.min(most_steps)).map(|steps| (steps, fine));
        let many = || (1..=most_steps).map(|steps| (steps, coarse));
        let promise = |overlaps| {
            move |(steps, codec)| {
                let plan = Plan {
                    steps,
                    codec,
                    overlaps,
                };
                Self::of(plan, &paces(plan))
            }
        };
        let waits = Self::mildest(few.chain(many()).map(promise(false)));
        if waits.waiting <= WAITING_MUCH {
            return waits;
        }
        let overlaps = Self::mildest(many().map(promise(true)));
        if overlaps.speedup > MUCH_FASTER * waits.speedup {
            overlaps
        } else {
            waits
        }
    }

    fn mildest(promises: impl Iterator<Item = Self>) -> Self {
        let mut fastest: Option<Self> = None;
        for promise in promises {
            if promise.waiting <= WAITING {
                return promise;
            }
            if fastest.is_none_or(|before| promise.speedup > before.speedup) {
                fastest = Some(promise);
            }
        }
        fastest.expect("a step at least")
    }
}
