//! Random stories: whatever happens to the workers, the accounts stay right.
//!
//! Each seed makes a run with rules of its own and lets its workers join, compute at their
//! own speed, die, be late, fail and push nonsense, of absurd weight or loss where the sizes of
//! batches are known. What must hold: every batch is counted exactly once in each epoch (or named
//! as left out), versions rise one by one, no batch is under two leases, nothing absurd is counted,
//! and while a worker lives the run comes to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dsgd_core::codec::Codec;
use dsgd_core::core::{
    Action, Core, End, LeaseId, Merge, Message, Pacing, Progress, Report, Rules, Work, WorkerId,
};
use dsgd_core::event::{Cost, Event};
use dsgd_core::mode::Mode;
use dsgd_core::optim::{LrSchedule, Schedule, ScheduleOptions, ScheduleState};
use dsgd_core::task::{BatchSize, Stats};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SEEDS: u64 = 10_000;
const MOST_ROUNDS: usize = 20_000;

#[test]
fn whatever_happens_each_batch_is_counted_once() {
    let mut seen = Seen::default();
    // A longer run: SEEDS=100000 cargo test -p dsgd-core random
    let more = std::env::var("SEEDS")
        .ok()
        .and_then(|more| more.parse().ok());
    for seed in 0..more.unwrap_or(SEEDS) {
        World::new(seed).run(&mut seen);
    }
    // The stories are worth something only if all of this has happened.
    assert!(seen.applied > SEEDS, "{seen:?}");
    for count in [
        seen.refused,
        seen.lost,
        seen.late,
        seen.left_out,
        seen.resumed,
        seen.validated,
        seen.rested,
        seen.absurd,
        seen.rounds,
        seen.shared,
    ] {
        assert!(count > 100, "{seen:?}");
    }
    assert!(seen.overlapped > 100, "{seen:?}");
}

#[derive(Debug, Default)]
struct Seen {
    applied: u64,
    refused: u64,
    lost: u64,
    late: u64,
    left_out: u64,
    resumed: u64,
    validated: u64,
    rested: u64,
    absurd: u64,
    /// Steps with several batches under one lease.
    rounds: u64,
    /// Steps from several parts of a batch.
    shared: u64,
    /// Plans with which workers compute while they exchange.
    overlapped: u64,
}

struct World {
    random: ChaCha8Rng,
    rules: Rules,
    core: Core,
    /// Whether it is known how large batches are.
    sized: bool,
    now: Duration,
    next_worker: WorkerId,
    /// What each living worker computes, until when.
    busy: BTreeMap<WorkerId, (LeaseId, Work, Duration)>,
    idle: BTreeSet<WorkerId>,
    /// What each lease was for that was ever given.
    given: BTreeMap<LeaseId, (WorkerId, Work)>,
    /// Leases that still hold, by what they are for.
    holders: BTreeMap<Key, LeaseId>,
    /// Batches that were offered to others since their lease had run out.
    offered: BTreeSet<usize>,
    counted: BTreeSet<usize>,
    left_out: BTreeSet<usize>,
    version: u64,
    epoch: u32,
    saved: Option<(Progress, BTreeSet<usize>)>,
    over: Option<End>,
    /// Workers that get no more work until they have joined anew.
    resting: BTreeSet<WorkerId>,
    names: BTreeMap<String, WorkerId>,
    /// How likely a push is nonsense, a worker dies, is slow.
    trouble: (f64, f64, f64),
    longest_push: f64,
    /// Whether workers go on while what they have pushed waits.
    overlaps: bool,
    /// Whether two workers share a slot.
    twins: bool,
}

fn schedule(state: ScheduleState) -> Schedule {
    let options = ScheduleOptions {
        kind: LrSchedule::Constant,
        learning_rate: 0.1,
        warmup_steps: 0,
        lr_decay: 0.5,
        start_decay_at: 9,
        total_steps: 0,
    };
    Schedule::new(options, state)
}

fn core(rules: &Rules, sized: bool, progress: Progress) -> Core {
    let core = Core::new(rules.clone(), schedule(progress.schedule), progress);
    let size = |examples| BatchSize {
        examples,
        count: examples,
    };
    let sizes = |batches, examples| vec![size(examples); if sized { batches } else { 0 }];
    core.with_sizes(
        sizes(rules.batches, rules.parts as u64),
        sizes(rules.validation_batches, 1),
    )
}

/// Figures that no batch has.
fn absurd(random: &mut ChaCha8Rng, mut stats: Stats) -> Stats {
    match random.random_range(0..8) {
        0 => stats.examples = 1 << 40,
        1 => stats.count = 1 << 40,
        2 => stats.loss = f64::NAN,
        3 => stats.loss = -1e6,
        4 => stats.loss = 1.7e308,
        5 => stats.sums[0] = f64::INFINITY,
        6 => stats.sums[7] = -1e100,
        _ => stats.count = 0,
    }
    stats
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let workers = random.random_range(1..6);
        let modes = [Mode::Async, Mode::Sync, Mode::Split, Mode::Local];
        let mode = modes[random.random_range(0..4)];
        let split = mode == Mode::Split;
        let rules = Rules {
            round: if split {
                1
            } else {
                [1, 1, 2, 3][random.random_range(0..4)]
            },
            parts: if split { random.random_range(1..5) } else { 1 },
            backup_workers: if split || mode == Mode::Local {
                0
            } else {
                random.random_range(0..workers)
            },
            merge: [Merge::OnArrival, Merge::Rounds, Merge::Overlapping][random.random_range(0..3)],
            by_name: random.random_bool(0.5),
            pacing: [Pacing::Even, Pacing::ByPace, Pacing::Planned][random.random_range(0..3)],
            codecs: vec![Codec::Int8, Codec::Int4],
            max_staleness: random.random_bool(0.3).then(|| random.random_range(0..4)),
            wait: random.random_bool(0.2).then_some(1.1),
            lease: Duration::from_secs(20),
            epochs: (1, random.random_range(1..4)),
            save_after: Some(Duration::from_secs(30)),
            dead_after: random.random_bool(0.3).then_some(Duration::from_secs(60)),
            seed,
            ..Rules::new(
                mode,
                workers,
                random.random_range(1..20),
                random.random_range(0..4),
            )
        };
        let progress = Progress::start(1);
        let sized = random.random_bool(0.5);
        let core = core(&rules, sized, progress);
        let rare = |random: &mut ChaCha8Rng| f64::from(random.random_range(0..4)) * 0.04;
        let trouble = (rare(&mut random), rare(&mut random), rare(&mut random));
        let longest_push = [1.0, 12.0][random.random_range(0..2)];
        let twins = random.random_bool(0.5);
        Self {
            random,
            rules,
            core,
            sized,
            now: Duration::ZERO,
            next_worker: 0,
            busy: BTreeMap::new(),
            idle: BTreeSet::new(),
            given: BTreeMap::new(),
            holders: BTreeMap::new(),
            offered: BTreeSet::new(),
            counted: BTreeSet::new(),
            left_out: BTreeSet::new(),
            version: 0,
            epoch: 1,
            saved: None,
            over: None,
            resting: BTreeSet::new(),
            names: BTreeMap::new(),
            trouble,
            longest_push,
            overlaps: false,
            twins,
        }
    }

    fn run(&mut self, seen: &mut Seen) {
        let actions = self.core.start(self.now);
        self.follow(actions, seen);
        for _ in 0..MOST_ROUNDS {
            if self.over.is_some() {
                break;
            }
            self.something_happens(seen);
        }
        match &self.over {
            Some(End::Done) => assert_eq!(self.epoch, self.rules.epochs.1 + 1),
            Some(End::Diverged(reason)) => assert!(reason.contains("infinite"), "{reason}"),
            Some(End::Failed(reason)) => {
                // Few batches may all have bad luck.
                let nothing_ever = self.version == 0 && reason.contains("the same error");
                let few = self.rules.batches <= 3 && reason.contains("could be computed");
                assert!(nothing_ever || few, "{reason}");
            }
            other => panic!("no end, {other:?}: {:?} {:?}", self.rules, self.core),
        }
    }

    fn something_happens(&mut self, seen: &mut Seen) {
        let alive = self.busy.len() + self.idle.len();
        let (_, dies, _) = self.trouble;
        let resting = self.resting.iter().find(|w| self.idle.contains(w)).copied();
        if let Some(worker) = resting
            && self.random.random_bool(0.2)
        {
            // It joins anew, under another number.
            self.resting.remove(&worker);
            self.idle.remove(&worker);
            let reason = "it rests".to_owned();
            self.say(worker, Message::Lost { reason }, seen);
        } else if alive < self.rules.workers && self.random.random_bool(0.5) {
            let worker = self.next_worker;
            self.next_worker += 1;
            self.idle.insert(worker);
            let name = if self.twins && worker % 2 == 1 {
                format!("w{}+", worker - 1)
            } else {
                format!("w{worker}")
            };
            self.say(worker, Message::Join { name, pulses: true }, seen);
        } else if alive > 0 && self.random.random_bool(dies / 4.0) {
            let all: Vec<_> = self.busy.keys().chain(&self.idle).copied().collect();
            let worker = all[self.random.random_range(0..all.len())];
            self.busy.remove(&worker);
            self.idle.remove(&worker);
            seen.lost += 1;
            let reason = "killed".to_owned();
            self.say(worker, Message::Lost { reason }, seen);
        } else if alive > 0 && self.random.random_bool(0.05) {
            let all: Vec<_> = self.busy.keys().chain(&self.idle).copied().collect();
            let worker = all[self.random.random_range(0..all.len())];
            let transfers = self.random.random_bool(0.5);
            self.say(worker, Message::Alive { transfers }, seen);
        } else if self.random.random_bool(0.002) && self.saved.is_some() {
            self.begin_again(seen);
        } else if let Some(worker) = self.next_done() {
            self.done(worker, seen);
        } else {
            self.now += Duration::from_secs(1);
        }
        let actions = self.core.tick(self.now);
        self.follow(actions, seen);
        self.core.assert_sound();
    }

    /// The server is killed and goes on from its last checkpoint.
    fn begin_again(&mut self, seen: &mut Seen) {
        let Some((progress, counted)) = self.saved.clone() else {
            return;
        };
        seen.resumed += 1;
        self.rules.workers = self.random.random_range(1..6);
        self.rules.backup_workers = 0;
        if self.rules.mode == Mode::Split {
            self.rules.parts = self.random.random_range(1..5);
        }
        self.version = progress.version;
        self.epoch = progress.epoch;
        self.overlaps = progress.plan.is_some_and(|plan| plan.overlaps);
        self.left_out = progress.left_out.iter().copied().collect();
        self.counted = counted;
        self.busy.clear();
        self.idle.clear();
        self.holders.clear();
        self.given.clear();
        self.resting.clear();
        self.core = core(&self.rules, self.sized, progress);
        let actions = self.core.start(self.now);
        self.follow(actions, seen);
    }

    fn next_done(&mut self) -> Option<WorkerId> {
        let (&worker, &(_, _, until)) = self.busy.iter().min_by_key(|(_, (_, _, until))| *until)?;
        let next = until.max(self.now);
        // Time passes in small pieces, so that leases run out on the way.
        self.now = next.min(self.now + Duration::from_secs(5));
        (self.now >= until).then_some(worker)
    }

    fn done(&mut self, worker: WorkerId, seen: &mut Seen) {
        let Some((lease, work, _)) = self.busy.remove(&worker) else {
            return;
        };
        self.idle.insert(worker);
        let (nonsense, _, _) = self.trouble;
        let batches = keys(&work).len() as u64;
        let mut stats = Stats {
            loss: batches as f64 * self.random.random_range(0.1..2.0),
            count: batches,
            examples: batches,
            ..Stats::default()
        };
        if self.sized && self.random.random_bool(nonsense) {
            stats = absurd(&mut self.random, stats);
            seen.absurd += 1;
        }
        if matches!(work, Work::Validate { .. }) {
            self.holders.retain(|_, held| *held != lease);
        }
        let message = match work {
            _ if self.random.random_bool(nonsense / 2.0) => {
                self.holders.retain(|_, held| *held != lease);
                let reason = "bad luck".to_owned();
                Message::Failed { lease, reason }
            }
            Work::Validate { .. } => Message::Evaluated { lease, stats },
            Work::Train(_) => {
                let broken = self.random.random_bool(nonsense);
                let grad_norm = if broken { f64::NAN } else { 1.0 };
                let cost = Cost {
                    compute_secs: self.random.random_range(0.0..10.0),
                    push_secs: self.random.random_range(0.0..self.longest_push),
                    ..Cost::default()
                };
                let report = Report {
                    stats,
                    grad_norm,
                    cost,
                };
                Message::Push { lease, report }
            }
        };
        self.say(worker, message, seen);
    }

    fn say(&mut self, worker: WorkerId, message: Message, seen: &mut Seen) {
        let actions = self.core.handle(self.now, worker, message);
        self.follow(actions, seen);
        self.core.assert_sound();
    }

    fn follow(&mut self, actions: Vec<Action>, seen: &mut Seen) {
        for action in actions {
            match action {
                Action::Grant {
                    worker,
                    lease,
                    work,
                } => self.granted(worker, lease, work, seen),
                Action::Travel { codec } => assert!(self.rules.codecs.contains(&codec)),
                Action::Apply {
                    leases,
                    step,
                    share,
                } => {
                    seen.applied += 1;
                    let most = if self.overlaps || self.rules.merge == Merge::Overlapping {
                        2.0
                    } else {
                        1.0
                    };
                    assert!(share > 0.0 && share <= most, "a share of {share}");
                    self.version += 1;
                    assert_eq!(step.version, self.version, "versions rise one by one");
                    for part in &step.parts {
                        assert_likely(&part.stats, part.batches.len() as u64);
                        seen.rounds += u64::from(part.batches.len() > 1);
                    }
                    for (number, lease) in leases.iter().enumerate() {
                        let (_, Work::Train(round)) = &self.given[lease] else {
                            panic!("a validation batch was applied");
                        };
                        assert_eq!(round.epoch, self.epoch, "a batch of another epoch");
                        let local = self.rules.mode == Mode::Local;
                        let rates = if local { round.batches.len() } else { 0 };
                        assert_eq!(round.rates.len(), rates, "one for each step of its own");
                        for &batch in &round.batches {
                            let first = self.counted.insert(batch);
                            let another = number > 0 && !round.part.is_whole();
                            assert_ne!(first, another, "batch {batch} is counted twice");
                            self.holders.remove(&(true, batch, round.part.number));
                        }
                        if !round.part.is_whole() {
                            assert_eq!(round.part.number, number, "parts in their order");
                            assert_eq!(leases.len(), self.rules.parts, "all of them");
                            seen.shared += 1;
                        }
                    }
                    if self.rules.in_groups() && !self.overlaps {
                        // Whoever the step was made without has lost its lease.
                        self.holders.retain(|(train, _, _), _| !train);
                    }
                    assert_eq!(step.counted, self.counted.len() + self.left_out.len());
                }
                Action::Discard { lease } => {
                    seen.refused += 1;
                    self.holders.retain(|_, held| *held != lease);
                }
                Action::Save { .. } => {
                    let progress = self.core.progress();
                    let counted: BTreeSet<_> = progress.counted.iter().copied().collect();
                    assert_eq!(progress.version, self.version);
                    self.saved = Some((progress, counted));
                }
                Action::Dismiss { worker } => {
                    self.busy.remove(&worker);
                    self.idle.remove(&worker);
                }
                Action::Observe(event) => self.check_event(&event, seen),
                Action::Finish(outcome) => self.over = Some(outcome),
            }
        }
    }

    fn granted(&mut self, worker: WorkerId, lease: LeaseId, work: Work, seen: &mut Seen) {
        assert!(self.idle.remove(&worker), "worker {worker} is not idle");
        assert!(!self.resting.contains(&worker), "worker {worker} rests");
        for key @ (train, batch, _) in keys(&work) {
            if self.holders.insert(key, lease).is_some() {
                seen.late += 1;
                let offered = self.offered.contains(&batch);
                assert!(offered, "batch {batch} is under two leases");
            }
            let counted = train && self.counted.contains(&batch);
            assert!(!counted, "batch {batch} is counted already");
            // Other parts of it may have been offered, too.
            if self.rules.parts == 1 {
                self.offered.remove(&batch);
            }
        }
        self.given.insert(lease, (worker, work.clone()));
        let (_, _, slow) = self.trouble;
        let secs = if self.random.random_bool(slow) {
            self.random.random_range(15..100)
        } else {
            self.random.random_range(1..10)
        };
        let until = self.now + Duration::from_secs(secs);
        self.busy.insert(worker, (lease, work, until));
    }

    fn check_event(&mut self, event: &Event, seen: &mut Seen) {
        match event {
            Event::BatchFreed { batch, .. } => {
                self.offered.insert(*batch);
            }
            Event::BatchLeftOut { batch, .. } => {
                seen.left_out += 1;
                self.left_out.insert(*batch);
            }
            Event::Plan { message, .. } if message.contains("while they compute") => {
                seen.overlapped += 1;
                self.overlaps = true;
            }
            Event::WorkerJoined { worker, name } => {
                self.names.insert(name.clone(), *worker);
            }
            Event::Warning { message } if message.contains("until it joins anew") => {
                let name = message.split(' ').next().unwrap();
                self.resting.insert(self.names[name]);
                seen.rested += 1;
            }
            Event::WorkerLost { worker, .. } => {
                self.resting.remove(worker);
                self.holders
                    .retain(|_, lease| self.given[lease].0 != *worker);
            }
            Event::EpochFinished {
                epoch, validation, ..
            } => {
                assert_eq!(*epoch, self.epoch);
                let all = self.counted.len() + self.left_out.len();
                assert!(all >= self.rules.batches, "an epoch ended early");
                seen.validated += u64::from(validation.is_some());
                if let Some(validation) = validation {
                    assert_likely(validation, self.rules.validation_batches as u64);
                }
                self.counted.clear();
                self.left_out.clear();
                self.holders.clear();
                self.epoch += 1;
            }
            _ => {}
        }
    }
}

/// Sums over so many batches at most are what such batches have.
fn assert_likely(stats: &Stats, most: u64) {
    assert!((1..=most).contains(&stats.examples), "{stats:?}");
    assert_eq!(stats.count, stats.examples, "{stats:?}");
    let most = 2.0 * stats.count as f64;
    assert!((0.0..=most).contains(&stats.loss), "{stats:?}");
    assert!(stats.sums.iter().all(|&sum| sum == 0.0), "{stats:?}");
}

/// Whether it is of training, the batch, and the part of it.
type Key = (bool, usize, usize);

fn keys(work: &Work) -> Vec<Key> {
    match work {
        Work::Train(round) => {
            let key = |&batch| (true, batch, round.part.number);
            round.batches.iter().map(key).collect()
        }
        Work::Validate { batch } => vec![(false, *batch, 0)],
    }
}
