//! How the learning rate changes over a run.
//!
//! A pure function of the step and of how validation went. What it remembers is small,
//! made of whole numbers and one perplexity, and is kept in checkpoints.

use std::f64::consts::PI;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// Multiplied by `lr-decay` after each epoch, from the first one on whose validation
    /// perplexity rose, and from `start-decay-at` on at the latest.
    #[default]
    Decay,
    /// Half a cosine wave down to zero at the last step (Loshchilov & Hutter 2017).
    Cosine,
    /// It does not.
    Constant,
}

/// What a schedule is made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleOptions {
    /// How it falls.
    pub kind: LrSchedule,
    /// The rate that it falls from.
    pub learning_rate: f32,
    /// Steps over which the rate first rises in a straight line; 0 for none.
    pub warmup_steps: u64,
    /// `Decay`: factor after an epoch.
    pub lr_decay: f32,
    /// `Decay`: 1-based epoch after which it begins whatever the perplexity.
    pub start_decay_at: u32,
    /// `Cosine`: steps of the whole run, warm-up included.
    pub total_steps: u64,
}

/// What a schedule remembers from epoch to epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// How often the rate has been multiplied by `lr_decay`.
    pub decays: u32,
    /// Whether decay has begun; it then goes on every epoch.
    pub decaying: bool,
    /// Validation perplexity of the last epoch that had a finite one.
    pub last_perplexity: Option<f64>,
}

/// Why the rate has just been decayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decayed {
    /// Validation perplexity is worse than the epoch before.
    PerplexityRose {
        /// The epoch before.
        from: f64,
        /// This epoch.
        to: f64,
    },
    /// The epoch `start_decay_at` has been reached.
    EpochReached(u32),
    /// It began in an earlier epoch.
    Begun,
}

impl fmt::Display for Decayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerplexityRose { from, to } => {
                write!(f, "validation perplexity rose from {from:.2} to {to:.2}")
            }
            Self::EpochReached(epoch) => write!(f, "epoch {epoch} is where decay begins"),
            Self::Begun => write!(f, "decay has begun in an earlier epoch"),
        }
    }
}

/// The learning rate of a run.
///
/// ```
/// use dsgd_core::optim::{LrSchedule, Schedule, ScheduleOptions, ScheduleState};
///
/// let options = ScheduleOptions {
///     kind: LrSchedule::Decay,
///     learning_rate: 0.1,
///     warmup_steps: 0,
///     lr_decay: 0.5,
///     start_decay_at: 10,
///     total_steps: 0,
/// };
/// let mut schedule = Schedule::new(options, ScheduleState::default());
/// assert_eq!(schedule.end_epoch(1, Some(90.0)), None);
/// let why = schedule.end_epoch(2, Some(95.0)).unwrap();
/// assert_eq!(why.to_string(), "validation perplexity rose from 90.00 to 95.00");
/// assert_eq!(schedule.learning_rate(1000), 0.05);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    options: ScheduleOptions,
    state: ScheduleState,
}

impl Schedule {
    /// A schedule that remembers `state`; the default is that of a new run.
    pub fn new(options: ScheduleOptions, state: ScheduleState) -> Self {
        Self { options, state }
    }

    /// What it remembers.
    pub fn state(&self) -> ScheduleState {
        self.state
    }

    /// The rate of the step that follows `version` earlier ones. With a warm-up of w steps the
    /// first is taken at 1/w of the rate, the w-th at all of it.
    pub fn learning_rate(&self, version: u64) -> f32 {
        let warmup = self.options.warmup_steps;
        let risen = if version < warmup {
            (version + 1) as f64 / warmup as f64
        } else {
            1.0
        };
        (f64::from(self.options.learning_rate) * risen * self.fallen(version)) as f32
    }

    /// What is left of the rate.
    fn fallen(&self, version: u64) -> f64 {
        let options = &self.options;
        match options.kind {
            LrSchedule::Constant => 1.0,
            LrSchedule::Decay => f64::from(options.lr_decay).powf(f64::from(self.state.decays)),
            LrSchedule::Cosine => {
                // A run that ends before its warm-up never falls.
                let Some(done) = version.checked_sub(options.warmup_steps) else {
                    return 1.0;
                };
                let all = options.total_steps.saturating_sub(options.warmup_steps);
                if done >= all {
                    return 0.0;
                }
                0.5 * (1.0 + (PI * done as f64 / all as f64).cos())
            }
        }
    }

    /// Takes note that the 1-based `epoch` has ended with that validation perplexity, if there
    /// was one, and says whether and why the rate is lower from now on. A perplexity that
    /// is not finite counts as risen.
    pub fn end_epoch(&mut self, epoch: u32, perplexity: Option<f64>) -> Option<Decayed> {
        let last = self.state.last_perplexity;
        let finite = perplexity.filter(|p| p.is_finite());
        self.state.last_perplexity = finite.or(last);
        if self.options.kind != LrSchedule::Decay {
            return None;
        }
        let rose = match (last, perplexity) {
            (Some(from), Some(to)) if to > from || !to.is_finite() => Some((from, to)),
            (None, Some(to)) if !to.is_finite() => Some((f64::NAN, to)),
            _ => None,
        };
        let why = if let Some((from, to)) = rose {
            Decayed::PerplexityRose { from, to }
        } else if self.state.decaying {
            Decayed::Begun
        } else if epoch >= self.options.start_decay_at {
            Decayed::EpochReached(epoch)
        } else {
            return None;
        };
        self.state.decaying = true;
        self.state.decays += 1;
        Some(why)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact results are what is tested")]
mod tests {
    use super::*;

    fn schedule(kind: LrSchedule, warmup_steps: u64) -> Schedule {
        let options = ScheduleOptions {
            kind,
            learning_rate: 1.0,
            warmup_steps,
            lr_decay: 0.5,
            start_decay_at: 4,
            total_steps: 110,
        };
        Schedule::new(options, ScheduleState::default())
    }

    /// The rate after each epoch.
    fn rates(schedule: &mut Schedule, perplexities: &[Option<f64>]) -> Vec<f32> {
        let epochs = perplexities.iter().zip(1..);
        epochs
            .map(|(&perplexity, epoch)| {
                schedule.end_epoch(epoch, perplexity);
                schedule.learning_rate(1000)
            })
            .collect()
    }

    #[test]
    fn decay_begins_at_its_epoch_and_goes_on() {
        let falling = [90.0, 80.0, 70.0, 60.0, 50.0].map(Some);
        let found = rates(&mut schedule(LrSchedule::Decay, 0), &falling);
        assert_eq!(found, [1.0, 1.0, 1.0, 0.5, 0.25]);
        let unknown = rates(&mut schedule(LrSchedule::Decay, 0), &[None; 5]);
        assert_eq!(unknown, found);
    }

    #[test]
    fn decay_begins_when_perplexity_rises_and_goes_on() {
        let mut decay = schedule(LrSchedule::Decay, 0);
        assert_eq!(decay.end_epoch(1, Some(90.0)), None);
        let (from, to) = (90.0, 91.0);
        let rose = Decayed::PerplexityRose { from, to };
        assert_eq!(decay.end_epoch(2, Some(91.0)), Some(rose));
        assert_eq!(decay.end_epoch(3, Some(60.0)), Some(Decayed::Begun));
        assert_eq!(decay.learning_rate(0), 0.25);
    }

    #[test]
    fn an_equal_perplexity_has_not_risen_and_an_infinite_one_has() {
        let mut decay = schedule(LrSchedule::Decay, 0);
        let found = rates(&mut decay, &[Some(9.0), Some(9.0), Some(f64::INFINITY)]);
        assert_eq!(found, [1.0, 1.0, 0.5]);
        assert_eq!(decay.state().last_perplexity, Some(9.0));
        let mut diverged = schedule(LrSchedule::Decay, 0);
        assert!(diverged.end_epoch(1, Some(f64::NAN)).is_some());
    }

    #[test]
    fn a_resumed_schedule_goes_on_as_if_nothing_had_been() {
        let mut whole = schedule(LrSchedule::Decay, 0);
        whole.end_epoch(1, Some(0.1 + 0.2));
        let kept = serde_json::to_string(&whole.state()).unwrap();
        let state = serde_json::from_str(&kept).unwrap();
        let mut resumed = Schedule::new(whole.options, state);
        assert_eq!(resumed, whole);
        assert_eq!(
            resumed.end_epoch(2, Some(0.4)),
            whole.end_epoch(2, Some(0.4))
        );
    }

    #[test]
    fn warm_up_rises_in_a_straight_line() {
        let constant = schedule(LrSchedule::Constant, 10);
        assert_eq!(constant.learning_rate(0), 0.1);
        assert_eq!(constant.learning_rate(4), 0.5);
        assert_eq!(constant.learning_rate(9), 1.0);
        assert_eq!(constant.learning_rate(1_000_000), 1.0);
    }

    #[test]
    fn a_run_that_is_shorter_than_its_warm_up_rises_all_the_time() {
        let short = schedule(LrSchedule::Cosine, 200);
        assert!((short.learning_rate(0) - 1.0 / 200.0).abs() < 1e-6);
        assert!((short.learning_rate(109) - 110.0 / 200.0).abs() < 1e-6);
    }

    /// cos 0 = 1, cos π/3 = ½, cos π/2 = 0, cos π = -1, after 10 steps of warm-up.
    #[test]
    fn cosine_falls_to_zero_at_the_last_step() {
        let mut cosine = schedule(LrSchedule::Cosine, 10);
        assert_eq!(cosine.learning_rate(10), 1.0);
        assert!((cosine.learning_rate(10 + 33) - 0.75).abs() < 0.01);
        assert!((cosine.learning_rate(10 + 50) - 0.5).abs() < 1e-6);
        assert_eq!(cosine.learning_rate(110), 0.0);
        assert_eq!(cosine.learning_rate(u64::MAX), 0.0);
        assert_eq!(cosine.end_epoch(9, Some(1.0)), None);
    }
}
