//! Who is alive.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::promise::Pace;
use super::{LeaseId, Report, WorkerId};

/// The workers that have joined and are not lost.
#[derive(Debug, Default)]
pub(super) struct Roster {
    workers: BTreeMap<WorkerId, Worker>,
    /// Items and batches of all that was computed: batches differ in size, and so in what they take.
    computed: (u64, u64),
}

#[derive(Debug)]
struct Worker {
    name: String,
    /// None for one that gives no signs of life: a thread of the server's process.
    last_seen: Option<Duration>,
    state: WorkerState,
    /// Why it gets no work, if it does not.
    rests: Option<Rest>,
    /// Examples a second, lately; none before its first push.
    examples_per_sec: Option<f64>,
    took: Option<Took>,
    /// Pushes that this is known from.
    pushes: u32,
}

/// The share of the last round in what is known of a worker.
const LAST: f64 = 0.3;

/// What a worker's last rounds took it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Took {
    /// Seconds of computing an item.
    item_secs: f64,
    /// Seconds of moving parameters and a delta.
    transfer_secs: f64,
}

impl Worker {
    fn touch(&mut self, now: Duration) {
        self.last_seen = self.last_seen.map(|_| now);
    }

    /// Its compute slot: two workers that share one have names that differ in what follows a `+` (`h1/0`, `h1/0+`).
    fn slot(&self) -> &str {
        let end = self.name.find(['+', '#']);
        &self.name[..end.unwrap_or(self.name.len())]
    }
}

/// Why a worker gets no work.
#[derive(Debug, PartialEq)]
enum Rest {
    /// It failed what others have computed.
    Failed,
    /// The others are as fast without it.
    LeftOut,
}

#[derive(Debug, PartialEq)]
enum WorkerState {
    /// Wants work.
    Idle,
    /// Has a lease.
    Busy,
    /// Still computes for a lease that it no longer has, for this reason.
    Revoked(LeaseId, String),
    /// As before, because the rules did not wait for it.
    Overtaken(LeaseId, String),
}

impl Roster {
    /// Takes a worker in; returns its name, which no other live worker has: `vm/0`, else `vm/0#2`.
    pub(super) fn join(
        &mut self,
        now: Duration,
        worker: WorkerId,
        wanted: &str,
        pulses: bool,
    ) -> String {
        let taken = |name: &String| self.workers.values().any(|w| w.name == *name);
        let numbered = (2u32..).map(|number| format!("{wanted}#{number}"));
        let name = std::iter::once(wanted.to_owned()).chain(numbered);
        let name = name.into_iter().find(|name| !taken(name));
        let name = name.expect("there are more numbers than workers");
        self.workers.insert(
            worker,
            Worker {
                name: name.clone(),
                last_seen: pulses.then_some(now),
                state: WorkerState::Idle,
                rests: None,
                examples_per_sec: None,
                took: None,
                pushes: 0,
            },
        );
        name
    }

    /// The compute slot of a worker, or of one that was lost its number.
    pub(super) fn slot(&self, worker: WorkerId) -> Result<&str, WorkerId> {
        self.workers.get(&worker).map(Worker::slot).ok_or(worker)
    }

    pub(super) fn name(&self, worker: WorkerId) -> Option<&str> {
        self.workers.get(&worker).map(|w| w.name.as_str())
    }

    /// The worker of that name gets no more work; whether it got any before.
    pub(super) fn rest(&mut self, name: &str) -> bool {
        let worker = self.workers.values_mut().find(|w| w.name == name);
        worker.is_some_and(|worker| worker.rests.replace(Rest::Failed).is_none())
    }

    /// The worker of that name gets no more work, as long as there are others.
    pub(super) fn leave_out(&mut self, name: &str) {
        if let Some(worker) = self.workers.values_mut().find(|w| w.name == name) {
            worker.rests.get_or_insert(Rest::LeftOut);
        }
    }

    /// Who was left out gets work again.
    pub(super) fn take_in(&mut self) {
        for worker in self.workers.values_mut() {
            if worker.rests == Some(Rest::LeftOut) {
                worker.rests = None;
            }
        }
    }

    /// Names of the workers that get work. One that has had its lease for too long is not among them:
    /// nothing is to wait for it.
    pub(super) fn able(&self) -> impl Iterator<Item = &str> {
        let able = |w: &&Worker| w.rests.is_none() && !matches!(w.state, WorkerState::Revoked(..));
        self.workers.values().filter(able).map(|w| w.name.as_str())
    }

    /// Live workers that do not rest.
    fn at_work(&self) -> impl Iterator<Item = &Worker> {
        self.workers
            .values()
            .filter(|worker| worker.rests.is_none())
    }

    /// Number of live workers that do not rest.
    pub(super) fn working(&self) -> usize {
        self.at_work().count()
    }

    pub(super) fn touch(&mut self, now: Duration, worker: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.touch(now);
        }
    }

    /// Every worker counts as having given a sign of life at `now`.
    pub(super) fn excuse(&mut self, now: Duration) {
        for worker in self.workers.values_mut() {
            worker.touch(now);
        }
    }

    pub(super) fn knows(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// Removes a worker and returns its name, if it was there.
    pub(super) fn leave(&mut self, worker: WorkerId) -> Option<String> {
        self.workers.remove(&worker).map(|w| w.name)
    }

    /// It has computed so many batches since it was given them.
    pub(super) fn note_work(
        &mut self,
        worker: WorkerId,
        report: &Report,
        batches: usize,
        took: Duration,
    ) {
        let Some(worker) = self.workers.get_mut(&worker) else {
            return;
        };
        // The mean of the first few.
        let last = LAST.max(1.0 / f64::from(worker.pushes + 1));
        let lately = |before: Option<f64>, now: f64| {
            let before = before.unwrap_or(now);
            before + last * (now - before)
        };
        let speed = report.stats.examples.max(1) as f64 / took.as_secs_f64().max(1e-6);
        worker.examples_per_sec = Some(lately(worker.examples_per_sec, speed));
        let (cost, stats) = (report.cost, report.stats);
        let items = stats.count.max(stats.examples).max(1);
        self.computed = (self.computed.0 + items, self.computed.1 + batches as u64);
        let item_secs = cost.compute_secs.max(1e-6) / items as f64;
        let before = worker.took;
        // What is pulled first is everything, or nothing: what it will be is as large as what is pushed.
        let transfer_secs = if worker.pushes == 0 || cost.catches_up {
            2.0 * cost.push_secs
        } else {
            cost.pull_secs + cost.push_secs
        };
        let transfer_before = before.filter(|_| worker.pushes > 1);
        worker.pushes = worker.pushes.saturating_add(1);
        worker.took = Some(Took {
            item_secs: lately(before.map(|took| took.item_secs), item_secs),
            transfer_secs: lately(
                transfer_before.map(|took| took.transfer_secs),
                transfer_secs,
            ),
        });
    }

    fn pace_of(&self, worker: &Worker) -> Option<Pace> {
        let Took {
            item_secs,
            transfer_secs,
        } = worker.took?;
        let (items, batches) = self.computed;
        Some(Pace {
            batch_secs: item_secs * items as f64 / batches.max(1) as f64,
            transfer_secs,
        })
    }

    /// Exchanges take so many times as long from now on.
    pub(super) fn scale_transfers(&mut self, times: f64) {
        for took in self.workers.values_mut().filter_map(|w| w.took.as_mut()) {
            took.transfer_secs *= times;
        }
    }

    /// Name and pace of the worker whose exchange and batch take longest, of those that get work.
    pub(super) fn slowest(&self) -> Option<(&str, Pace)> {
        let known = self
            .at_work()
            .filter_map(|worker| Some((worker.name.as_str(), self.pace_of(worker)?)));
        let takes = |pace: &Pace| pace.batch_secs + pace.transfer_secs;
        known.max_by(|(_, a), (_, b)| takes(a).total_cmp(&takes(b)))
    }

    /// What rounds take the compute slots whose workers get work; not known where none has pushed yet.
    pub(super) fn paces(&self) -> impl Iterator<Item = Option<Pace>> {
        let mut slots: BTreeMap<&str, Option<Pace>> = BTreeMap::new();
        for worker in self.at_work() {
            // Two of one name, told apart by a number, may be two machines.
            let name = worker.name.split('+').next().unwrap_or_default();
            let pace = slots.entry(name).or_default();
            *pace = pace.or_else(|| self.pace_of(worker));
        }
        slots.into_values()
    }

    /// Compute slots whose workers get work.
    pub(super) fn slots(&self) -> usize {
        self.paces().count()
    }

    /// What rounds take this worker, if that is known.
    pub(super) fn pace(&self, worker: WorkerId) -> Option<Pace> {
        self.pace_of(self.workers.get(&worker)?)
    }

    /// What rounds take the one that computes fastest.
    pub(super) fn fastest(&self) -> Option<Pace> {
        let known = self.paces().flatten();
        known.min_by(|a, b| a.batch_secs.total_cmp(&b.batch_secs))
    }

    /// The share of all work that the compute slot of this worker does. Slots from which nothing has come yet are
    /// supposed to be as fast as the others.
    pub(super) fn share(&self, worker: WorkerId) -> f32 {
        let mut slots: BTreeMap<&str, f64> = BTreeMap::new();
        for worker in self.at_work() {
            *slots.entry(worker.slot()).or_default() += worker.examples_per_sec.unwrap_or_default();
        }
        let own = self.workers.get(&worker).map(Worker::slot);
        let own = own.and_then(|own| slots.get(own).copied());
        let known = slots.values().filter(|&&pace| pace > 0.0).count();
        let all: f64 = slots.values().sum();
        let all = all * slots.len() as f64 / known.max(1) as f64;
        match own {
            Some(own) if own > 0.0 => (own / all) as f32,
            _ => 1.0 / slots.len().max(1) as f32,
        }
    }

    /// The worker, which wanted work, has a lease now.
    pub(super) fn busy(&mut self, worker: WorkerId) {
        let was = self.set(worker, WorkerState::Busy);
        assert_eq!(
            was,
            Some(WorkerState::Idle),
            "worker {worker} wanted no work"
        );
    }

    /// Whether the worker has a lease.
    pub(super) fn is_busy(&self, worker: WorkerId) -> bool {
        let worker = self.workers.get(&worker);
        worker.is_some_and(|worker| worker.state == WorkerState::Busy)
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = WorkerId> {
        self.workers.keys().copied()
    }

    /// The worker is done with whatever it had.
    pub(super) fn free(&mut self, worker: WorkerId) {
        self.set(worker, WorkerState::Idle);
    }

    /// The worker keeps computing, but its lease is gone.
    pub(super) fn revoke(&mut self, worker: WorkerId, lease: LeaseId, reason: String) {
        let was = self.set(worker, WorkerState::Revoked(lease, reason));
        assert_eq!(was, Some(WorkerState::Busy), "worker {worker} had no lease");
    }

    /// The worker keeps computing, but the rules did not wait for it.
    pub(super) fn overtake(&mut self, worker: WorkerId, lease: LeaseId, reason: String) {
        let was = self.set(worker, WorkerState::Overtaken(lease, reason));
        assert_eq!(was, Some(WorkerState::Busy), "worker {worker} had no lease");
    }

    /// Why the lease that the worker reports on is not its own any more, and whether the rules want it so.
    pub(super) fn why_revoked(&self, worker: WorkerId, lease: LeaseId) -> (bool, String) {
        match self.workers.get(&worker).map(|w| &w.state) {
            None => (false, "the worker had been given up for lost".to_owned()),
            Some(WorkerState::Revoked(old, reason)) if *old == lease => (false, reason.clone()),
            Some(WorkerState::Overtaken(old, reason)) if *old == lease => (true, reason.clone()),
            Some(_) => (false, format!("lease {lease} is not this worker's")),
        }
    }

    pub(super) fn idle(&self) -> Vec<WorkerId> {
        let idle = |(&id, w): (&WorkerId, &Worker)| {
            (w.state == WorkerState::Idle && w.rests.is_none()).then_some(id)
        };
        self.workers.iter().filter_map(idle).collect()
    }

    pub(super) fn live_count(&self) -> usize {
        self.workers.len()
    }

    /// Workers whose last sign of life is `silence` ago or earlier.
    pub(super) fn silent(&self, now: Duration, silence: Duration) -> Vec<WorkerId> {
        let silent = |w: &Worker| w.last_seen.is_some_and(|seen| seen + silence <= now);
        self.workers
            .iter()
            .filter(|(_, w)| silent(w))
            .map(|(&id, _)| id)
            .collect()
    }

    /// When the first worker will have been silent for too long.
    pub(super) fn first_silence(&self, silence: Duration) -> Option<Duration> {
        let ends = |w: &Worker| Some(w.last_seen? + silence);
        self.workers.values().filter_map(ends).min()
    }

    /// Returns what it was; nothing for one that is lost.
    fn set(&mut self, worker: WorkerId, state: WorkerState) -> Option<WorkerState> {
        let worker = self.workers.get_mut(&worker)?;
        Some(std::mem::replace(&mut worker.state, state))
    }
}

/// In a line, for people who follow a story.
impl fmt::Display for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for (number, worker) in &self.workers {
            let state = match worker.state {
                WorkerState::Idle if worker.rests.is_some() => "rests",
                WorkerState::Idle => "idle",
                WorkerState::Busy => "busy",
                WorkerState::Revoked(..) => "revoked",
                WorkerState::Overtaken(..) => "overtaken",
            };
            write!(f, "{before}{number} {state}")?;
            before = ", ";
        }
        if self.workers.is_empty() {
            write!(f, "no worker")?;
        }
        Ok(())
    }
}
