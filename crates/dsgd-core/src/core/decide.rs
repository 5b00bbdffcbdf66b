//! Apply or not: what becomes of a gradient, and why.

use super::{Action, Core, LeaseId, Merge, Pacing, Phase, Report, WorkerId};
use crate::event::{Contribution, Event, Step};
use crate::mode::Mode;
use crate::task::Stats;

impl Core {
    pub(super) fn pushed(
        &mut self,
        worker: WorkerId,
        lease: LeaseId,
        report: &Report,
        actions: &mut Vec<Action>,
    ) {
        let training = matches!(self.phase, Phase::Training(_));
        if !training || !self.holds(worker, lease) || self.over {
            self.refuse_late(worker, lease, actions);
            return;
        }
        self.roster.free(worker);
        if let Err(reason) = self.check_report(lease, report) {
            actions.push(Action::Discard { lease });
            self.refuse_report(worker, lease, &reason, actions);
            return;
        }
        let staleness = self.staleness(lease);
        if let Some(max) = self.rules.max_staleness
            && self.rules.mode == Mode::Async
            && staleness > max
        {
            let reason = format!("{staleness} versions old, more than --max-staleness {max}");
            self.set_aside(worker, lease, reason, actions);
            return;
        }
        self.note_taken();
        let positions = self.positions_of(lease);
        let batches = positions.len();
        self.note_pace(report, batches);
        for position in positions {
            self.computed(worker, position, actions);
        }
        let since = self.ledger_mut().hold(lease, *report);
        self.roster
            .note_work(worker, report, batches, self.now.saturating_sub(since));
        if self.in_groups() {
            self.step_if_group_is_full(actions);
        } else if self.overlaps() {
            self.step_if_all_slots_have_pushed(actions);
        } else {
            self.step(vec![lease], actions);
        }
    }

    pub(super) fn evaluated(
        &mut self,
        worker: WorkerId,
        lease: LeaseId,
        stats: Stats,
        actions: &mut Vec<Action>,
    ) {
        if !matches!(self.phase, Phase::Validating(..)) || !self.holds(worker, lease) {
            // Nothing is lost by a result that comes too late: another worker's is as good.
            self.release(worker);
            return;
        }
        self.roster.free(worker);
        let position = self.positions_of(lease)[0];
        let batch = self.ledger().batch(position);
        let believed = self.belief.check(false, &[batch], &stats);
        if let Err(reason) = believed.and_then(|()| self.check_height(&stats)) {
            self.refuse_report(worker, lease, &reason, actions);
            return;
        }
        self.computed(worker, position, actions);
        if let Phase::Validating(ledger, results) = &mut self.phase {
            results[position] = Some(stats);
            ledger.count(lease);
        }
    }

    /// The task's code returned an error.
    pub(super) fn failed(
        &mut self,
        worker: WorkerId,
        lease: LeaseId,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        if self.holds(worker, lease) {
            self.batch_failed(worker, lease, reason, actions);
        }
        self.release(worker);
    }

    /// A panic is the batch's fault and the worker's end. Both at once, so that nothing is given
    /// to a worker that is about to be gone.
    pub(super) fn panicked(
        &mut self,
        worker: WorkerId,
        lease: LeaseId,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        if self.holds(worker, lease) {
            self.batch_failed(worker, lease, reason, actions);
        }
        self.lost(worker, reason, actions);
    }

    /// A worker is gone. That is not its batch's fault: the batch is simply free again.
    pub(super) fn lost(&mut self, worker: WorkerId, reason: &str, actions: &mut Vec<Action>) {
        let Some(name) = self.roster.leave(worker) else {
            return;
        };
        let reason = reason.to_owned();
        let why = format!("{name} is lost: {reason}");
        actions.push(Action::Dismiss { worker });
        actions.push(Action::Observe(Event::WorkerLost {
            worker,
            name,
            reason,
        }));
        // A gradient of it that is in hand is as good as any other.
        if let Some(lease) = self.ledger().lease_of(worker) {
            let lease = self.ledger_mut().free(lease);
            for batch in self.ledger().batches(&lease.positions) {
                let reason = why.clone();
                actions.push(Action::Observe(Event::BatchFreed { batch, reason }));
            }
        }
    }

    pub(super) fn step_if_group_is_full(&mut self, actions: &mut Vec<Action>) {
        let (group, held) = (self.ledger().group().len(), self.ledger().positions_held());
        let backup = if self.ledger().is_group_whole() {
            let backup = self.rules.backup_workers * self.rules.round;
            backup.min(group.saturating_sub(1))
        } else {
            0
        };
        if group > 0 && held >= group - backup {
            self.step(self.ledger().held(), actions);
        }
    }

    /// Batches of the next step: a round for each worker that was asked for, or that is there where more have
    /// room; one round while `--wait` holds the others back.
    pub(super) fn group_size(&self) -> usize {
        let working = self.roster.working();
        let size = match self.rules.mode {
            Mode::Local if self.rules.pacing == Pacing::Planned => {
                let first = self.progress.version == self.first_version;
                let expected = if first { self.rules.workers } else { 1 };
                self.steps_of_all().max(expected * self.steps())
            }
            Mode::Local if working == self.rules.workers => self.steps_of_all().max(1),
            Mode::Sync | Mode::Local => {
                let there = working.min(self.room) * self.rules.round;
                there.max(self.rules.group())
            }
            Mode::Async | Mode::Split => self.rules.group(),
        };
        let allowed = self.allowed_workers().saturating_mul(self.rules.round);
        size.min(allowed)
    }

    /// Opens the next synchronous step, and says when it has another size than the one before.
    pub(super) fn open_group(&mut self, actions: &mut Vec<Action>) {
        if matches!(&self.phase, Phase::Training(ledger) if ledger.wants_group()) {
            self.replan(actions);
        }
        let size = self.group_size();
        let Phase::Training(ledger) = &mut self.phase else {
            return;
        };
        if !ledger.open_group(size) || size == self.step_batches {
            return;
        }
        let message = format!(
            "From now on a step has {size} batches: {} workers are there, and -n asked for {}",
            self.roster.working(),
            self.rules.workers
        );
        // What `--wait` and a plan do has an event of its own.
        if self.progress.plan.is_none() && self.step_batches.max(size) > self.rules.group() {
            actions.push(Action::Observe(Event::Notice { message }));
        }
        self.step_batches = size;
    }

    pub(super) fn step(&mut self, leases: Vec<LeaseId>, actions: &mut Vec<Action>) {
        let mut step = Step {
            epoch: self.progress.epoch,
            batches: self.rules.batches,
            live: self.roster.live_count(),
            ..Step::default()
        };
        let (mut counted, mut last) = (Vec::new(), 0);
        for &lease in &leases {
            step.staleness = step.staleness.max(self.staleness(lease));
            let taken = self.ledger_mut().count(lease);
            last = taken.positions.iter().copied().fold(last, usize::max);
            let report = taken.report();
            // Of one gradient it is the step's; of several the server finds out the mean's.
            step.grad_norm = report.grad_norm;
            counted.push((taken.version, report.stats));
            step.parts.push(Contribution {
                worker: taken.worker,
                batches: self.ledger().batches(&taken.positions),
                part: self.ledger().part(taken.positions[0]),
                stats: report.stats,
                cost: report.cost,
            });
        }
        if self.in_groups() {
            for (lease, worker) in self.ledger_mut().close_group() {
                let reason = "the step was made without it (--backup-workers)".to_owned();
                self.roster.overtake(worker, lease, reason);
            }
        }
        step.learning_rate = self.schedule.learning_rate(self.steps_before(last));
        if self.rules.staleness_lr && self.rules.mode == Mode::Async {
            step.learning_rate /= 1.0 + step.staleness as f32;
        }
        let progress = &mut self.progress;
        progress.version += 1;
        progress.epoch_steps += 1;
        progress.staleness += step.staleness;
        progress.stats.add(&step.stats());
        progress.learning_rate = step.learning_rate;
        step.version = progress.version;
        step.epoch_stats = progress.stats;
        step.counted = self.ledger().closed();
        if self.rules.mode == Mode::Split {
            counted = vec![(counted[0].0, step.stats())];
        }
        let share = match self.rules.mode {
            Mode::Local if self.rules.merge == Merge::OnArrival => {
                self.roster.share(step.parts[0].worker)
            }
            Mode::Local if self.overlaps() => self.rounds_in(&step.parts),
            _ => 1.0,
        };
        actions.push(Action::Apply {
            leases,
            step,
            share,
        });
        for (version, stats) in counted {
            self.note_loss(version, &stats, actions);
        }
        self.ramp_up(actions);
    }

    /// Steps along the schedule before the one with the batch at this position: updates, or in local mode steps of
    /// the workers' own, which are batches.
    pub(super) fn steps_before(&self, position: usize) -> u64 {
        match self.rules.mode {
            Mode::Local => {
                let epochs = self.progress.epoch.saturating_sub(self.rules.epochs.0);
                u64::from(epochs) * self.rules.batches as u64 + position as u64
            }
            _ => self.progress.version,
        }
    }

    fn ramp_up(&mut self, actions: &mut Vec<Action>) {
        let value = self.training_metric();
        if let Some(wait) = self.rules.wait
            && !self.progress.ramped_up
            && self.rules.metric.better.beats(value, wait)
        {
            self.progress.ramped_up = true;
            actions.push(Action::Observe(Event::RampUp { value }));
        }
    }

    /// The metric over the epoch's batches so far.
    pub(super) fn training_metric(&self) -> f64 {
        self.rules.metric.value(&self.progress.stats)
    }

    /// Whether this worker computes under this lease.
    fn holds(&self, worker: WorkerId, lease: LeaseId) -> bool {
        self.roster.knows(worker) && self.ledger().computes(worker, lease)
    }

    /// The worker reports on a lease that it does not hold. It wants work, unless it computes under another.
    fn release(&mut self, worker: WorkerId) {
        if self.ledger().lease_of(worker).is_none() {
            self.roster.free(worker);
        }
    }

    /// Of a lease that holds.
    fn positions_of(&self, lease: LeaseId) -> Vec<usize> {
        self.ledger().get(lease).positions.clone()
    }

    /// The batch of a lease that holds, where it has only one.
    fn only_batch_of(&self, lease: LeaseId) -> Option<usize> {
        match self.ledger().get(lease).positions[..] {
            [position] => Some(self.ledger().batch(position)),
            _ => None,
        }
    }

    /// Of a lease that holds.
    fn staleness(&self, lease: LeaseId) -> u64 {
        self.progress.version - self.ledger().get(lease).version
    }

    /// The batch of this lease is someone else's now, or nobody's.
    fn refuse_late(&mut self, worker: WorkerId, lease: LeaseId, actions: &mut Vec<Action>) {
        let (by_rule, reason) = if self.over {
            (false, "the run is over".to_owned())
        } else {
            self.roster.why_revoked(worker, lease)
        };
        self.release(worker);
        actions.push(Action::Discard { lease });
        if by_rule {
            self.progress.set_aside += 1;
            actions.push(Action::Observe(Event::SetAside {
                worker,
                batch: None,
                reason,
            }));
            return;
        }
        self.progress.refused += 1;
        actions.push(Action::Observe(Event::Refused {
            worker,
            batch: None,
            reason,
        }));
    }

    /// The rules want no more of this gradient; its batch is free again.
    fn set_aside(
        &mut self,
        worker: WorkerId,
        lease: LeaseId,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        let batch = self.only_batch_of(lease);
        self.ledger_mut().free(lease);
        self.progress.set_aside += 1;
        actions.push(Action::Discard { lease });
        actions.push(Action::Observe(Event::SetAside {
            worker,
            batch,
            reason,
        }));
    }

    /// Whether a training report can be true; if not, why, in words.
    fn check_report(&mut self, lease: LeaseId, report: &Report) -> Result<(), String> {
        if !report.grad_norm.is_finite() && report.stats.loss.is_finite() {
            return Err("its gradient is not finite".to_owned());
        }
        let positions = self.positions_of(lease);
        let batches = self.ledger().batches(&positions);
        if self.ledger().part(positions[0]).is_whole() {
            self.belief.check(true, &batches, &report.stats)?;
        } else {
            let (others, complete) = self.ledger().other_parts(positions[0]);
            self.belief
                .check_part(batches[0], &report.stats, &others, complete)?;
        }
        self.check_height(&report.stats)
    }

    /// The figures of this report are not believed: its batch has failed.
    fn refuse_report(
        &mut self,
        worker: WorkerId,
        lease: LeaseId,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        let batch = self.only_batch_of(lease);
        self.progress.refused += 1;
        self.progress.not_finite += 1;
        actions.push(Action::Observe(Event::Refused {
            worker,
            batch,
            reason: reason.to_owned(),
        }));
        self.batch_failed(worker, lease, reason, actions);
        self.note_refused(worker, actions);
    }
}
