//! How the learning rate changes over a run.
//!
//! A pure function of the step and of how validation went. What it remembers is small,
//! made of whole numbers and one value of the metric, and is kept in checkpoints.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::metric::{Better, Metric};

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// Multiplied by `lr-decay` after each epoch, from the first one on whose validation
    /// metric got worse, and from `start-decay-at` on at the latest.
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
    /// `Decay`: 1-based epoch after which it begins whatever the metric.
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
    /// Validation metric of the last epoch that had a finite one.
    #[serde(alias = "last_perplexity")]
    pub last: Option<f64>,
}

/// Why the rate has just been decayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decayed {
    /// The validation metric is worse than the epoch before.
    Worsened {
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

impl Decayed {
    /// In words, given what the run is judged by.
    pub fn words(&self, metric: &Metric) -> String {
        match self {
            Self::Worsened { from, to } => {
                let went = match metric.better {
                    Better::Lower => "rose",
                    Better::Higher => "fell",
                };
                let [from, to] = [from, to].map(|value| metric.words(*value));
                format!("validation {} {went} from {from} to {to}", metric.name)
            }
            Self::EpochReached(epoch) => format!("epoch {epoch} is where decay begins"),
            Self::Begun => "decay has begun in an earlier epoch".to_owned(),
        }
    }
}

/// The learning rate of a run.
///
/// ```
/// use dsgd_core::metric::{Better, Metric};
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
/// assert_eq!(schedule.end_epoch(1, Some(90.0), Better::Higher), None);
/// let why = schedule.end_epoch(2, Some(85.0), Better::Higher).unwrap();
/// let words = why.words(&Metric::accuracy());
/// assert_eq!(words, "validation accuracy fell from 90.00 % to 85.00 %");
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

    /// Remembers the last value in another metric's terms, where there are any.
    pub(crate) fn translate(&mut self, other: impl Fn(f64) -> Option<f64>) {
        self.state.last = self.state.last.and_then(other);
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

    /// Takes note that the 1-based `epoch` has ended with that value of the validation metric, if there
    /// was one, and says whether and why the rate is lower from now on. A value that is not finite
    /// counts as worse.
    pub fn end_epoch(&mut self, epoch: u32, value: Option<f64>, better: Better) -> Option<Decayed> {
        let last = self.state.last;
        let finite = value.filter(|value| value.is_finite());
        self.state.last = finite.or(last);
        if self.options.kind != LrSchedule::Decay {
            return None;
        }
        let worsened = match (last, value) {
            (Some(from), Some(to)) if better.beats(from, to) || !to.is_finite() => Some((from, to)),
            (None, Some(to)) if !to.is_finite() => Some((f64::NAN, to)),
            _ => None,
        };
        let why = if let Some((from, to)) = worsened {
            Decayed::Worsened { from, to }
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
    fn rates(schedule: &mut Schedule, values: &[Option<f64>]) -> Vec<f32> {
        let epochs = values.iter().zip(1..);
        epochs
            .map(|(&value, epoch)| {
                schedule.end_epoch(epoch, value, Better::Lower);
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
    fn decay_begins_when_the_metric_gets_worse_and_goes_on() {
        let mut decay = schedule(LrSchedule::Decay, 0);
        assert_eq!(decay.end_epoch(1, Some(90.0), Better::Lower), None);
        let (from, to) = (90.0, 91.0);
        let worsened = Decayed::Worsened { from, to };
        assert_eq!(
            decay.end_epoch(2, Some(91.0), Better::Lower),
            Some(worsened)
        );
        assert_eq!(
            decay.end_epoch(3, Some(60.0), Better::Lower),
            Some(Decayed::Begun)
        );
        assert_eq!(decay.learning_rate(0), 0.25);
    }

    #[test]
    fn an_equal_value_is_no_worse_and_an_infinite_one_is() {
        let mut decay = schedule(LrSchedule::Decay, 0);
        let found = rates(&mut decay, &[Some(9.0), Some(9.0), Some(f64::INFINITY)]);
        assert_eq!(found, [1.0, 1.0, 0.5]);
        assert_eq!(decay.state().last, Some(9.0));
        let mut diverged = schedule(LrSchedule::Decay, 0);
        assert!(
            diverged
                .end_epoch(1, Some(f64::NAN), Better::Lower)
                .is_some()
        );
    }

    #[test]
    fn where_higher_is_better_a_fall_is_worse() {
        let mut decay = schedule(LrSchedule::Decay, 0);
        assert_eq!(decay.end_epoch(1, Some(90.0), Better::Higher), None);
        assert_eq!(decay.end_epoch(2, Some(91.0), Better::Higher), None);
        let (from, to) = (91.0, 90.0);
        let worsened = Decayed::Worsened { from, to };
        assert_eq!(
            decay.end_epoch(3, Some(90.0), Better::Higher),
            Some(worsened)
        );
    }

    #[test]
    fn what_version_0_1_remembered_is_read() {
        let kept = r#"{"decays":1,"decaying":true,"last_perplexity":9.5}"#;
        let state: ScheduleState = serde_json::from_str(kept).unwrap();
        assert_eq!(state.last, Some(9.5));
    }

    #[test]
    fn a_resumed_schedule_goes_on_as_if_nothing_had_been() {
        let mut whole = schedule(LrSchedule::Decay, 0);
        whole.end_epoch(1, Some(0.1 + 0.2), Better::Lower);
        let kept = serde_json::to_string(&whole.state()).unwrap();
        let state = serde_json::from_str(&kept).unwrap();
        let mut resumed = Schedule::new(whole.options, state);
        assert_eq!(resumed, whole);
        assert_eq!(
            resumed.end_epoch(2, Some(0.4), Better::Lower),
            whole.end_epoch(2, Some(0.4), Better::Lower)
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
        assert_eq!(cosine.end_epoch(9, Some(1.0), Better::Lower), None);
    }
}
