//! The server's state machine: messages and time in, actions and their reasons out.
//!
//! It owns no parameter, socket, thread or clock. It knows workers by number, batches by
//! number, and decides eight things, each in a file of its own: who is alive (`roster`),
//! which batch next (`ledger`, and at an epoch's end `tail`), apply or not (`decide`), what a report
//! may say (`belief`), whose fault a failure is (`verdict`), whether training still learns
//! (`divergence`), when an epoch turns (`epoch`), what to save (`save`). What it is to go by is in `rules`.
//! [`Core::handle`] takes what a worker says and [`Core::tick`] takes time; both return
//! what is to be done, in order. Whoever carries the actions out holds the parameters,
//! and keeps each pushed gradient under its lease until an action applies or refuses it.
//!
//! What it leaves out: it trusts a gradient's norm (the server has computed it), and it does not
//! know how long an action takes.

mod belief;
mod deal;
mod decide;
mod divergence;
mod epoch;
mod failures;
mod lease;
mod ledger;
mod losses;
mod message;
mod overlap;
mod pace;
mod plan;
mod progress;
mod promise;
mod roster;
mod rules;
mod save;
mod tail;
mod verdict;
mod waiting;

use std::fmt;
use std::time::Duration;

use crate::event::Event;
use crate::optim::Schedule;
use crate::task::{BatchSize, Stats};

use belief::Belief;
use failures::FailedBatches;
use lease::LeaseTime;
use ledger::Ledger;
use losses::Losses;
pub use message::{Action, End, LeaseId, Message, Report, Round, Work, WorkerId};
pub use progress::{Plan, Progress};
use promise::Planner;
pub use promise::{Pace, Promise, most_steps};
use roster::Roster;
pub use rules::{Merge, Pacing, Rules};

/// The state machine.
#[derive(Debug)]
pub struct Core {
    rules: Rules,
    schedule: Schedule,
    progress: Progress,
    roster: Roster,
    phase: Phase,
    /// Of the call that is under way.
    now: Duration,
    next_lease: LeaseId,
    last_save: Duration,
    /// What a lease takes lately, once that is known.
    pace: Option<LeaseTime>,
    /// Since when there is no worker.
    alone_since: Option<Duration>,
    saved_version: u64,
    /// Version at which this core began.
    first_version: u64,
    /// Version from which on a worker is to tell its optimizer's state.
    state_due: u64,
    /// When the first worker came.
    first_joined: Option<Duration>,
    /// The most workers that a synchronous step counts on.
    room: usize,
    /// Batches of the synchronous step that was opened last.
    step_batches: usize,
    planner: Planner,
    belief: Belief,
    failures: FailedBatches,
    losses: Losses,
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
    pub fn new(rules: Rules, mut schedule: Schedule, mut progress: Progress) -> Self {
        progress.judge_by(&rules.metric, &mut schedule);
        let ledger = Ledger::training(&rules, &progress);
        let computed = progress.version > 0;
        Self {
            saved_version: progress.version,
            first_version: progress.version,
            state_due: progress.version,
            first_joined: None,
            room: rules.workers,
            step_batches: rules.group(),
            rules,
            schedule,
            progress,
            roster: Roster::default(),
            phase: Phase::Training(ledger),
            now: Duration::ZERO,
            next_lease: 1,
            last_save: Duration::ZERO,
            pace: None,
            alone_since: None,
            planner: Planner::default(),
            belief: Belief::default(),
            failures: FailedBatches::new(computed),
            losses: Losses::default(),
            over: false,
        }
    }

    /// What the task knows of its training and validation batches, by number: reports that say otherwise are
    /// refused. Empty where it knows nothing.
    #[must_use]
    pub fn with_sizes(mut self, training: Vec<BatchSize>, validation: Vec<BatchSize>) -> Self {
        self.belief = Belief::of(training, validation);
        self
    }

    /// The first thing to call: says where the run stands and opens the epoch.
    pub fn start(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        self.now = now;
        self.last_save = now;
        self.alone_since = Some(now);
        if self.progress.epoch > self.rules.epochs.1 {
            self.over = true;
            return vec![Action::Finish(End::Done)];
        }
        self.begin_plan(&mut actions);
        actions.push(Action::Observe(self.epoch_started()));
        self.advance(&mut actions);
        actions
    }

    /// A worker said something at `now`.
    pub fn handle(&mut self, now: Duration, worker: WorkerId, message: Message) -> Vec<Action> {
        let mut actions = Vec::new();
        self.at(now);
        match message {
            Message::Join { name, pulses } => {
                let name = self.roster.join(now, worker, &name, pulses);
                self.failures.joined(&name);
                self.alone_since = None;
                self.first_joined.get_or_insert(now);
                actions.push(Action::Observe(Event::WorkerJoined { worker, name }));
            }
            Message::Alive { transfers } => {
                self.roster.touch(now, worker);
                if transfers && let Some(lease) = self.ledger().lease_of(worker) {
                    let until = now + self.rules.lease;
                    self.ledger_mut().extend(lease, until);
                }
            }
            Message::Push { lease, report } => {
                self.roster.touch(now, worker);
                self.pushed(worker, lease, &report, &mut actions);
            }
            Message::Evaluated { lease, stats } => {
                self.roster.touch(now, worker);
                self.evaluated(worker, lease, stats, &mut actions);
            }
            Message::Failed { lease, reason } => {
                self.roster.touch(now, worker);
                self.failed(worker, lease, &reason, &mut actions);
            }
            Message::Panicked { lease, reason } => {
                self.panicked(worker, lease, &reason, &mut actions);
            }
            Message::Lost { reason } => self.lost(worker, &reason, &mut actions),
        }
        self.notice_solitude(&mut actions);
        self.settle(&mut actions);
        actions
    }

    /// Time has come to `now`: silent workers, late batches, a checkpoint that is due, nobody left.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        self.at(now);
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
        self.notice_solitude(&mut actions);
        if self.patience_ends().is_some_and(|end| end <= now) {
            let reason = match self.roster.live_count() {
                0 => "no worker is left, and none came (--give-up-after)",
                _ => "every worker that is left rests, and none came (--give-up-after)",
            };
            self.stop(End::Failed(reason.to_owned()), reason, &mut actions);
        }
        self.settle(&mut actions);
        self.save_if_due(&mut actions);
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
        let gathering = self.gathering_ends();
        let all = [silence, overdue, save, self.patience_ends(), gathering];
        all.into_iter().flatten().min()
    }

    /// So many workers may be there at a time: a synchronous step grows with those who come, up to that.
    /// A host's workers that come back before their loss is noticed are no more than there is room for.
    pub fn make_room(&mut self, workers: usize) {
        self.room = workers;
    }

    /// Whoever carries the actions out was away until `now`: that its workers were silent
    /// meanwhile is not held against them.
    pub fn excuse(&mut self, now: Duration) {
        self.roster.excuse(now);
        self.alone_since = self.alone_since.map(|_| now);
    }

    /// Someone wants the run to stop: save and finish.
    pub fn interrupt(&mut self, now: Duration, reason: &str) -> Vec<Action> {
        self.stop_at(now, End::Interrupted, reason)
    }

    /// There is nobody left to work, and nobody will come: save and fail.
    pub fn abandon(&mut self, now: Duration, reason: &str) -> Vec<Action> {
        self.stop_at(now, End::Failed(reason.to_owned()), reason)
    }

    fn stop_at(&mut self, now: Duration, end: End, reason: &str) -> Vec<Action> {
        let mut actions = Vec::new();
        self.at(now);
        self.stop(end, reason, &mut actions);
        actions
    }

    /// What a checkpoint must hold for [`Core::new`] to go on from here.
    pub fn progress(&self) -> Progress {
        let mut progress = self.progress.clone();
        if let Phase::Training(ledger) = &self.phase {
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
    pub fn live_count(&self) -> usize {
        self.roster.live_count()
    }

    /// Number of workers that get work: those that live and do not rest.
    pub fn working(&self) -> usize {
        self.roster.working()
    }

    /// Panics where what it knows contradicts itself, whatever workers say. For tests: it takes time in
    /// proportion to the epoch's batches.
    pub fn assert_sound(&self) {
        let ledger = self.ledger();
        ledger.assert_sound();
        for worker in self.roster.numbers() {
            let leased = ledger.lease_of(worker).is_some();
            assert_eq!(self.roster.is_busy(worker), leased, "{worker}: {self:?}");
        }
        let computing = ledger.workers_busy();
        assert!(
            computing <= self.roster.live_count(),
            "lost, and leased: {self:?}"
        );
        if self.overlaps() {
            assert!(
                self.over || !self.all_slots_have_pushed(),
                "all have pushed, and no step was made: {self:?}"
            );
        } else if !self.in_groups() {
            assert_eq!(ledger.taken(), computing, "pushed, not applied: {self:?}");
        } else if matches!(self.phase, Phase::Training(_)) && !self.over {
            assert!(!ledger.group().is_empty(), "no step is open: {self:?}");
        }
    }

    /// The seed of everything random.
    pub fn seed(&self) -> u64 {
        self.rules.seed
    }

    /// Time never goes back.
    fn at(&mut self, now: Duration) {
        assert!(now >= self.now, "{now:?} is before {:?}", self.now);
        self.now = now;
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

/// In a line, for people who follow a story.
impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Training(_) => "epoch",
            Phase::Validating(..) => "validation of epoch",
        };
        let Progress { epoch, version, .. } = self.progress;
        let (ledger, roster) = (self.ledger(), &self.roster);
        write!(f, "version {version}, {phase} {epoch}: {ledger}; {roster}")
    }
}
