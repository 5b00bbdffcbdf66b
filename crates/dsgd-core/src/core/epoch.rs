//! When an epoch turns: training batches, then validation's, then the next epoch.

use super::ledger::Ledger;
use super::{Action, Core, End, Phase};
use crate::event::Event;
use crate::task::Stats;

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
    pub(super) fn advance(&mut self, actions: &mut Vec<Action>) {
        self.open_group(actions);
        if let Phase::Training(_) = &self.phase {
            // A batch that was left out may have been all that its step waited for.
            self.step_if_group_is_full(actions);
            self.step_if_all_slots_have_pushed(actions);
        }
        self.open_group(actions);
        if let Phase::Training(ledger) = &mut self.phase {
            if !ledger.is_complete() {
                return;
            }
            self.progress.left_out = ledger.left_out();
            self.measure_plan(actions);
            if self.progress.left_out.len() == self.rules.batches {
                self.fail_for_nothing_learned(actions);
                return;
            }
            let batches = self.rules.validation_batches;
            self.failures.forget_batches();
            self.phase = Phase::Validating(Ledger::validation(batches), vec![None; batches]);
        }
        if !self.over && self.ledger().is_complete() {
            self.close_epoch(actions);
        }
    }

    /// Every batch of the epoch was left out. The next one would end the same way.
    fn fail_for_nothing_learned(&mut self, actions: &mut Vec<Action>) {
        let why = self.failures.last().unwrap_or("before");
        let reason = format!(
            "no batch of epoch {} could be computed; the last one failed: {why}",
            self.progress.epoch
        );
        self.stop(End::Failed(reason.clone()), &reason, actions);
    }

    /// Validation is done: the schedule moves on, a checkpoint is written, the next epoch opens.
    fn close_epoch(&mut self, actions: &mut Vec<Action>) {
        let Phase::Validating(ledger, results) = &mut self.phase else {
            panic!("an epoch is closed before its validation");
        };
        let mut sum = Stats::default();
        results.iter().flatten().for_each(|stats| sum.add(stats));
        let validation = (!ledger.counted().is_empty()).then_some(sum);
        let results = std::mem::take(results);
        let epoch = self.progress.epoch;
        let metric = self.rules.metric.clone();
        let validated = validation.map(|stats| metric.value(&stats));
        let value = validated.unwrap_or_else(|| self.training_metric());
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
        let earlier = self.progress.best;
        let best =
            value.is_finite() && earlier.is_none_or(|earlier| metric.better.beats(value, earlier));
        if best {
            self.progress.best = Some(value);
        }
        if let Some(why) = self.schedule.end_epoch(epoch, validated, metric.better) {
            let steps = self.steps_before(self.rules.batches);
            let learning_rate = self.schedule.learning_rate(steps);
            let reason = why.words(&metric);
            actions.push(Action::Observe(Event::RateDecayed {
                learning_rate,
                reason,
            }));
        }
        self.failures.forget_batches();
        self.progress = self.progress.next_epoch();
        self.phase = Phase::Training(Ledger::training(&self.rules, &self.progress));
        let (first, last) = self.rules.epochs;
        let due = |every: u32| every > 0 && (epoch + 1 - first).is_multiple_of(every);
        if epoch == last || due(self.rules.save_every) {
            let reason = format!("epoch {epoch} is done");
            self.save(epoch, value, best, reason, actions);
        }
        if epoch >= last {
            self.over = true;
            actions.push(Action::Finish(End::Done));
            return;
        }
        actions.push(Action::Observe(self.epoch_started()));
        if self.overlaps() {
            self.planner.since = Some((self.now, self.ledger().closed()));
        }
        // Else nobody had work before the next message, or a tick.
        self.open_group(actions);
    }
}
