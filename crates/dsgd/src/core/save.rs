//! What to save, and when: the ends of epochs, and how far a run has come.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::{Action, Core, Outcome, Phase, WorkerId};
use crate::event::Event;
use crate::optim::ScheduleState;
use crate::task::Stats;

/// How far a run has come: all that the core needs to go on from a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 1-based epoch that is under way, or one more than the last when all are done.
    pub epoch: u32,
    /// Steps of the parameters so far.
    pub version: u64,
    /// Batches of the epoch that are counted.
    pub counted: Vec<usize>,
    /// Batches of the epoch that are left out of it.
    pub left_out: Vec<usize>,
    /// Who had which batch: for people; these batches are given out again.
    pub leases: Vec<(WorkerId, usize)>,
    /// Sums over the epoch's counted batches.
    pub stats: Stats,
    /// Steps of the epoch.
    pub epoch_steps: u64,
    /// Summed staleness of the epoch's steps.
    pub staleness: u64,
    /// Gradients refused in the epoch.
    pub refused: u64,
    /// Gradients of the epoch that were set aside by the rules.
    #[serde(default)]
    pub set_aside: u64,
    /// Reports of the epoch that were refused for their figures, such as those that are not finite.
    pub not_finite: u64,
    /// Learning rate of the last step.
    pub learning_rate: f32,
    /// Whether `--wait` is over.
    pub ramped_up: bool,
    /// Lowest validation perplexity so far.
    pub best: Option<f64>,
    /// Median loss of an item with the first parameters: what a model has that was never trained.
    #[serde(default)]
    pub first_loss: Option<f64>,
    /// State of the learning-rate schedule.
    pub schedule: ScheduleState,
}

impl Progress {
    /// Nothing done yet.
    pub fn start(epoch: u32) -> Self {
        Self {
            epoch,
            version: 0,
            counted: Vec::new(),
            left_out: Vec::new(),
            leases: Vec::new(),
            stats: Stats::default(),
            epoch_steps: 0,
            staleness: 0,
            refused: 0,
            set_aside: 0,
            not_finite: 0,
            learning_rate: 0.0,
            ramped_up: false,
            best: None,
            first_loss: None,
            schedule: ScheduleState::default(),
        }
    }

    /// The beginning of the epoch after this one.
    fn next_epoch(&self) -> Self {
        Self {
            version: self.version,
            learning_rate: self.learning_rate,
            ramped_up: self.ramped_up,
            best: self.best,
            first_loss: self.first_loss,
            schedule: self.schedule,
            ..Self::start(self.epoch + 1)
        }
    }
}

impl Core {
    pub(super) fn epoch_started(&self) -> Event {
        Event::EpochStarted {
            epoch: self.progress.epoch,
            batches: self.rules.batches,
            counted: self.ledger().closed(),
        }
    }

    /// Moves on as far as it goes: the next synchronous step, the validation once all batches
    /// are counted, the next epoch once that is done.
    pub(super) fn advance(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.open_group(actions);
        if let Phase::Training(_) = &self.phase {
            // A batch that was left out may have been all that its step waited for.
            self.step_if_group_is_full(actions);
        }
        self.open_group(actions);
        if let Phase::Training(ledger) = &mut self.phase {
            if !ledger.is_complete() {
                return;
            }
            self.progress.left_out = ledger.left_out();
            if self.progress.left_out.len() == self.rules.batches {
                self.fail_for_nothing_learned(actions);
                return;
            }
            let batches = self.rules.validation_batches;
            self.verdict.forget_batches();
            self.phase = Phase::Validating(Ledger::validation(batches), vec![None; batches]);
        }
        if !self.over && self.ledger().is_complete() {
            self.close_epoch(now, actions);
        }
    }

    /// Every batch of the epoch was left out. The next one would end the same way.
    fn fail_for_nothing_learned(&mut self, actions: &mut Vec<Action>) {
        let why = self.verdict.last().unwrap_or("before");
        let reason = format!(
            "no batch of epoch {} could be computed; the last one failed: {why}",
            self.progress.epoch
        );
        actions.extend(self.stop(Outcome::Failed(reason.clone()), &reason));
    }

    /// Validation is done: the schedule moves on, a checkpoint is written, the next epoch opens.
    fn close_epoch(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Phase::Validating(ledger, results) = &mut self.phase else {
            return;
        };
        let mut sum = Stats::default();
        results.iter().flatten().for_each(|stats| sum.add(stats));
        let validated = ledger.counted().len();
        let validation = (validated > 0).then_some(sum);
        let results = std::mem::take(results);
        let epoch = self.progress.epoch;
        let perplexity = validation.unwrap_or(self.progress.stats).perplexity();
        actions.push(Action::Observe(Event::EpochFinished {
            epoch,
            train: self.progress.stats,
            validation,
            learning_rate: self.progress.learning_rate,
            refused: self.progress.refused,
            set_aside: self.progress.set_aside,
            left_out: self.progress.left_out.len() as u64,
            staleness: self.progress.staleness as f64 / self.progress.epoch_steps.max(1) as f64,
        }));
        if let Some(why) = self.verdict_of_epoch(&results) {
            let message = why.clone();
            actions.push(Action::Observe(Event::Warning { message }));
            self.end_diverged(&why, actions);
            return;
        }
        // What is not finite is no result: once NaN were the best, it would be so for ever.
        let best =
            perplexity.is_finite() && self.progress.best.is_none_or(|best| perplexity < best);
        if best {
            self.progress.best = Some(perplexity);
        }
        if let Some(why) = self
            .schedule
            .end_epoch(epoch, validation.map(|v| v.perplexity()))
        {
            let learning_rate = self.schedule.learning_rate(self.progress.version);
            let reason = why.to_string();
            actions.push(Action::Observe(Event::RateDecayed {
                learning_rate,
                reason,
            }));
        }
        self.verdict.forget_batches();
        self.progress = self.progress.next_epoch();
        self.phase = Phase::Training(Ledger::training(&self.rules, &self.progress));
        let (first, last) = self.rules.epochs;
        let due = |every: u32| every > 0 && (epoch + 1 - first).is_multiple_of(every);
        if epoch == last || due(self.rules.save_every) {
            let reason = format!("epoch {epoch} is done");
            self.save(now, epoch, perplexity, best, reason, actions);
        }
        if epoch >= last {
            self.over = true;
            actions.push(Action::Finish(Outcome::Done));
            return;
        }
        actions.push(Action::Observe(self.epoch_started()));
    }

    /// A checkpoint within an epoch, when `--save-minutes` have passed.
    pub(super) fn save_if_due(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Some(after) = self.rules.save_after else {
            return;
        };
        if self.over || now < self.last_save + after {
            return;
        }
        self.last_save = now;
        if self.progress.version > self.saved_version {
            let minutes = after.as_secs_f64() / 60.0;
            let (epoch, perplexity) = (self.progress.epoch, self.progress.stats.perplexity());
            let reason = format!("{minutes} minutes have passed");
            self.save(now, epoch, perplexity, false, reason, actions);
        }
    }

    pub(super) fn stop(&mut self, outcome: Outcome, reason: &str) -> Vec<Action> {
        if self.over {
            return Vec::new();
        }
        self.over = true;
        let mut actions = Vec::new();
        if self.progress.version > self.saved_version {
            let (epoch, perplexity) = (self.progress.epoch, self.progress.stats.perplexity());
            let now = self.last_save;
            self.save(
                now,
                epoch,
                perplexity,
                false,
                reason.to_owned(),
                &mut actions,
            );
        }
        actions.push(Action::Finish(outcome));
        actions
    }

    fn save(
        &mut self,
        now: Duration,
        epoch: u32,
        perplexity: f64,
        best: bool,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        self.last_save = now;
        self.saved_version = self.progress.version;
        actions.push(Action::Save {
            epoch,
            perplexity,
            best,
            reason,
        });
    }
}
