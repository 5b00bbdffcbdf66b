//! The server's mind: messages and time in, actions and their reasons out.
//!
//! It owns no parameter, socket, thread or clock. It knows workers by number, batches by
//! number, and decides four things, each in a file of its own: who is alive (`roster`),
//! which batch next (`ledger`, and at an epoch's end `tail`), apply or not (`decide`), what to
//! save (`save`).
//! [`Core::handle`] takes what a worker says and [`Core::tick`] takes time; both return
//! what is to be done, in order. Whoever carries the actions out holds the parameters,
//! and keeps each pushed gradient under its lease until an action applies or refuses it.
//!
//! What it leaves out: it trusts the numbers that a push reports (the server has computed
//! or checked them), and it does not know how long an action takes.

mod decide;
mod ledger;
mod message;
mod roster;
mod save;
mod tail;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Mode, RunConfig};
use crate::event::Event;
use crate::optim::Schedule;
use crate::task::Stats;

use ledger::Ledger;
pub use message::{Action, LeaseId, Message, Outcome, Report, Work, WorkerId};
use roster::Roster;
pub use save::Progress;

/// What the core needs to know of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Training batches of an epoch.
    pub batches: usize,
    /// Validation batches; may be 0.
    pub validation_batches: usize,
    /// Seed of the batches' order.
    pub seed: u64,
    /// First and last epoch, 1-based.
    pub epochs: (u32, u32),
    /// How gradients become steps.
    pub mode: Mode,
    /// Workers asked for; in sync mode a step has at least so many batches.
    pub workers: usize,
    /// Gradients of a synchronous step that are not waited for.
    pub backup_workers: usize,
    /// Refuse gradients staler than this.
    pub max_staleness: Option<u64>,
    /// Divide the learning rate by 1 + staleness.
    pub staleness_lr: bool,
    /// One worker until training perplexity is below this.
    pub wait: Option<f64>,
    /// How long a worker may keep a batch before it is offered to another.
    pub lease: Duration,
    /// How long a worker that gives signs of life may be silent before it is lost.
    pub dead_after: Option<Duration>,
    /// How long to wait for a worker when none is left; none where nobody can come.
    pub give_up_after: Option<Duration>,
    /// Save after every so many epochs; 0 for only at the end.
    pub save_every: u32,
    /// Save when this much time has passed within an epoch.
    pub save_after: Option<Duration>,
}

impl Rules {
    /// The rules that follow from a run's options and the task's sizes.
    pub fn new(
        config: &RunConfig,
        workers: usize,
        batches: usize,
        validation_batches: usize,
    ) -> Self {
        let minutes = config.save_minutes;
        Self {
            batches,
            validation_batches,
            seed: config.seed,
            epochs: (config.start_epoch, config.epochs),
            mode: config.mode,
            workers,
            backup_workers: config.backup_workers,
            max_staleness: config.max_staleness,
            staleness_lr: config.staleness_lr,
            wait: config.wait,
            lease: Duration::from_secs_f64(config.lease_timeout),
            dead_after: None,
            give_up_after: None,
            save_every: config.save_every,
            save_after: (minutes > 0.0).then(|| Duration::from_secs_f64(minutes * 60.0)),
        }
    }

    /// Batches of one step, unless more workers than were asked for are there.
    pub fn group(&self) -> usize {
        match self.mode {
            Mode::Async => 1,
            Mode::Sync => self.workers.max(1),
        }
    }
}

/// The state machine.
#[derive(Debug)]
pub struct Core {
    rules: Rules,
    schedule: Schedule,
    progress: Progress,
    roster: Roster,
    phase: Phase,
    /// What came with the gradients that are in hand and not yet applied.
    reports: BTreeMap<LeaseId, (WorkerId, Report)>,
    next_lease: LeaseId,
    last_save: Duration,
    /// How long a batch takes lately; 0 when it is not known.
    pace_secs: f64,
    /// Since when there is no worker.
    alone_since: Option<Duration>,
    saved_version: u64,
    /// Refusals for gradients that are not finite, since the last step.
    not_finite_in_a_row: u32,
    /// The most workers that a synchronous step counts on.
    room: usize,
    /// Batches of the synchronous step that was opened last.
    step_batches: usize,
    /// Why the last batch failed, in words.
    last_failure: Option<String>,
    over: bool,
}

/// What the batches that are given out now are for.
#[derive(Debug)]
enum Phase {
    Training(Ledger),
    Validating(Ledger, Vec<Option<Stats>>),
}

impl Core {
    /// A core at the given progress: that of a checkpoint, or [`Progress::start`].
    pub fn new(rules: Rules, schedule: Schedule, progress: Progress) -> Self {
        let ledger = Ledger::training(&rules, &progress);
        Self {
            saved_version: progress.version,
            room: rules.workers,
            step_batches: rules.group(),
            rules,
            schedule,
            progress,
            roster: Roster::default(),
            phase: Phase::Training(ledger),
            reports: BTreeMap::new(),
            next_lease: 1,
            last_save: Duration::ZERO,
            pace_secs: 0.0,
            alone_since: None,
            not_finite_in_a_row: 0,
            last_failure: None,
            over: false,
        }
    }

    /// The first thing to call: says where the run stands and opens the epoch.
    pub fn start(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        self.last_save = now;
        self.alone_since = Some(now);
        if self.progress.epoch > self.rules.epochs.1 {
            self.over = true;
            return vec![Action::Finish(Outcome::Done)];
        }
        actions.push(Action::Observe(self.epoch_started()));
        self.advance(now, &mut actions);
        actions
    }

    /// A worker said something at `now`.
    pub fn handle(&mut self, now: Duration, worker: WorkerId, message: Message) -> Vec<Action> {
        let mut actions = Vec::new();
        match message {
            Message::Join { name, pulses } => {
                self.roster.join(now, worker, name.clone(), pulses);
                self.alone_since = None;
                actions.push(Action::Observe(Event::WorkerJoined { worker, name }));
            }
            Message::Alive { transfers } => {
                self.roster.seen(now, worker);
                if transfers && let Some(lease) = self.roster.lease_of(worker) {
                    let deadline = now + self.rules.lease;
                    self.ledger_mut().extend(lease, deadline);
                }
            }
            Message::Push { lease, report } => {
                self.roster.seen(now, worker);
                self.pushed(worker, lease, &report, &mut actions);
            }
            Message::Evaluated { lease, stats } => {
                self.roster.seen(now, worker);
                self.evaluated(worker, lease, stats);
            }
            Message::Failed { lease, reason } => {
                self.roster.seen(now, worker);
                self.failed(worker, lease, &reason, &mut actions);
            }
            Message::Panicked { lease, reason } => {
                self.panicked(worker, lease, &reason, &mut actions);
            }
            Message::Lost { reason } => self.lost(worker, &reason, &mut actions),
        }
        self.notice_solitude(now, &mut actions);
        self.settle(now, &mut actions);
        actions
    }

    /// Time has come to `now`: silent workers, late batches, a checkpoint that is due, nobody left.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(silence) = self.rules.dead_after {
            for worker in self.roster.silent(now, silence) {
                let reason = format!(
                    "not heard of for {} s; its host or the network to it is down, or it is \
                     overloaded (--dead-after)",
                    silence.as_secs_f64()
                );
                self.lost(worker, &reason, &mut actions);
            }
        }
        self.notice_solitude(now, &mut actions);
        self.save_if_due(now, &mut actions);
        if self.patience_ends().is_some_and(|end| end <= now) {
            actions.extend(self.abandon("no worker is left, and none came (--give-up-after)"));
        }
        self.settle(now, &mut actions);
        actions
    }

    /// When [`Core::tick`] has something to do next, if nothing happens before.
    pub fn next_tick(&self) -> Option<Duration> {
        let silence = self
            .rules
            .dead_after
            .and_then(|d| self.roster.first_silence(d));
        let overdue = self.first_overdue();
        let save = self.rules.save_after.map(|after| self.last_save + after);
        [silence, overdue, save, self.patience_ends()]
            .into_iter()
            .flatten()
            .min()
    }

    /// So many workers may be there at a time: a synchronous step grows with those who come, up to that.
    /// A host's workers that come back before their loss is noticed are no more than there is room for.
    pub fn make_room(&mut self, workers: usize) {
        self.room = workers;
    }

    /// Whoever carries the actions out was away until `now`: what it has not heard of its workers
    /// meanwhile is not held against them.
    pub fn excuse(&mut self, now: Duration) {
        self.roster.excuse(now);
        self.alone_since = self.alone_since.map(|_| now);
    }

    /// Someone wants the run to stop: save and finish.
    pub fn interrupt(&mut self, reason: &str) -> Vec<Action> {
        self.stop(Outcome::Interrupted, reason)
    }

    /// There is nobody left to work, and nobody will come: save and fail.
    pub fn abandon(&mut self, reason: &str) -> Vec<Action> {
        self.stop(Outcome::Failed(reason.to_owned()), reason)
    }

    /// What a checkpoint must hold for [`Core::new`] to go on from here.
    pub fn progress(&self) -> Progress {
        let mut progress = self.progress.clone();
        if let Phase::Training(ledger) = &self.phase {
            progress.leases = ledger.outstanding();
            progress.left_out = ledger.left_out();
            progress.counted = ledger.counted();
        } else {
            let all = 0..self.rules.batches;
            progress.counted = all.filter(|b| !progress.left_out.contains(b)).collect();
        }
        progress.schedule = self.schedule.state();
        progress
    }

    /// Version of the parameters: number of steps so far.
    pub fn version(&self) -> u64 {
        self.progress.version
    }

    /// Number of workers that have joined and are not lost.
    pub fn live(&self) -> usize {
        self.roster.live()
    }

    /// The seed of everything random.
    pub fn seed(&self) -> u64 {
        self.rules.seed
    }

    /// Says so when the last worker has gone and others may come.
    fn notice_solitude(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.roster.live() > 0 || self.alone_since.is_some() || self.over {
            return;
        }
        self.alone_since = Some(now);
        if let Some(patience) = self.rules.give_up_after {
            let message = format!(
                "no worker is left; waiting for one for {} s (--give-up-after)",
                patience.as_secs_f64()
            );
            actions.push(Action::Observe(Event::Warning { message }));
        }
    }

    fn patience_ends(&self) -> Option<Duration> {
        Some(self.alone_since? + self.rules.give_up_after?)
    }

    /// Work for everyone who has none, as far as there is any.
    fn settle(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.over {
            return;
        }
        self.advance(now, actions);
        self.offer_overdue(now, actions);
        let allowed = self.allowed_workers();
        for worker in self.roster.idle() {
            if self.over || self.ledger().workers_busy() >= allowed {
                return;
            }
            let Some(position) = self.ledger().next_free() else {
                return;
            };
            let lease = self.next_lease;
            self.next_lease += 1;
            let (version, deadline) = (self.progress.version, self.rules.lease);
            let superseded = self
                .ledger_mut()
                .lease(lease, worker, position, version, now, deadline);
            if let Some((old, holder)) = superseded {
                self.roster.revoke(
                    holder,
                    old,
                    format!("its batch was given to worker {worker}"),
                );
            }
            self.roster.busy(worker, lease);
            let work = self.ledger().work(position);
            actions.push(Action::Grant {
                worker,
                lease,
                work,
            });
        }
    }

    /// Workers that may have work at the same time (`--wait`).
    fn allowed_workers(&self) -> usize {
        if self.rules.wait.is_some() && !self.progress.ramped_up {
            1
        } else {
            usize::MAX
        }
    }

    fn ledger(&self) -> &Ledger {
        match &self.phase {
            Phase::Training(ledger) | Phase::Validating(ledger, _) => ledger,
        }
    }

    fn ledger_mut(&mut self) -> &mut Ledger {
        match &mut self.phase {
            Phase::Training(ledger) | Phase::Validating(ledger, _) => ledger,
        }
    }
}
