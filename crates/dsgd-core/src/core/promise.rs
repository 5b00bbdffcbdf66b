//! What a plan promises, from what rounds took each worker.

use std::time::Duration;

use super::Plan;
use super::roster::Pace;
use crate::codec::Codec;

/// Waiting that is no reason for more steps: a share of the time.
const WAITING: f64 = 0.1;

/// So many steps in the finer codec are better than fewer in the coarser one.
const FINE_STEPS: usize = 4;

/// Who is slower than the fastest by less than this takes as many steps.
const ALIKE: f64 = 1.3;

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
pub(super) struct Promise {
    pub(super) plan: Plan,
    /// Batches a second, by those of the fastest worker alone.
    pub(super) speedup: f64,
    /// Share of the workers' time.
    pub(super) waiting: f64,
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

/// Bytes of an element.
pub(super) fn size(codec: Codec) -> f64 {
    codec.bytes(codec.block()) as f64 / codec.block() as f64
}

impl Promise {
    pub(super) fn of(plan: Plan, now: Codec, paces: &[Pace]) -> Self {
        let scale = size(plan.codec) / size(now);
        let scaled = |pace: &Pace| Pace {
            transfer_secs: pace.transfer_secs * scale,
            ..*pace
        };
        let paces: Vec<_> = paces.iter().map(scaled).collect();
        let fastest = paces
            .iter()
            .min_by(|a, b| a.batch_secs.total_cmp(&b.batch_secs));
        let fastest = *fastest.expect("somebody works");
        let (mut round_secs, mut batches, mut computing) = (0.0f64, 0, 0.0);
        for pace in &paces {
            let steps = steps_at(*pace, fastest, plan.steps);
            let own = steps as f64 * pace.batch_secs;
            round_secs = round_secs.max(own + pace.transfer_secs);
            batches += steps;
            computing += own;
        }
        Self {
            plan,
            speedup: batches as f64 / round_secs * fastest.batch_secs,
            waiting: 1.0 - computing / (round_secs * paces.len() as f64),
        }
    }

    /// The mildest with which little is waited, or the fastest.
    pub(super) fn best(codecs: &[Codec], most_steps: usize, now: Codec, paces: &[Pace]) -> Self {
        let (fine, coarse) = (codecs[0], codecs[codecs.len() - 1]);
        let few = (1..=FINE_STEPS.min(most_steps)).map(|steps| (steps, fine));
        let many = (1..=most_steps).map(|steps| (steps, coarse));
        let promises = few.chain(many).map(|(steps, codec)| {
            let plan = Plan { steps, codec };
            Self::of(plan, now, paces)
        });
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
