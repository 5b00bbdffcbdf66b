//! What a run's events say of how it copes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::fault::Fault;
use dsgd_core::event::Event;
use dsgd_engine::run::EVENTS;
use dsgd_observe::follow::Follow;

/// A run, followed through its `events.jsonl`.
pub(super) struct Watch {
    events: Follow,
    started: Instant,
    /// Version when this began.
    first_version: Option<u64>,
    /// What happened since, and when it was seen.
    seen: Vec<(Instant, News)>,
    /// The run's steps, without those that a killed server took with it.
    steps: Vec<Counted>,
    /// Batches left out of the epochs that are done.
    done: BTreeMap<u32, u64>,
}

struct Counted {
    version: u64,
    epoch: u32,
    batches_of_epoch: usize,
    batches: Vec<usize>,
}

/// What is said of a fault.
enum News {
    Update,
    /// A worker of that name.
    Lost(String),
    /// A worker of that name.
    Joined(String),
    Freed,
    /// The server is back, and so many updates are lost.
    Restarted(u64),
    Finished,
}

impl Watch {
    /// From the run's beginning: accounts need all of it.
    pub(super) fn new(folder: &Path) -> Self {
        let mut watch = Self {
            events: Follow::new(&folder.join(EVENTS)),
            started: Instant::now(),
            first_version: None,
            seen: Vec::new(),
            steps: Vec::new(),
            done: BTreeMap::new(),
        };
        watch.look();
        watch.seen.clear();
        watch.first_version = Some(watch.version());
        watch
    }

    /// Reads what is new.
    pub(super) fn look(&mut self) {
        let (now, mut new) = (Instant::now(), Vec::new());
        while self
            .events
            .next(|record| new.push(record.event))
            .unwrap_or(false)
        {}
        for event in new {
            self.note(now, event);
        }
    }

    fn note(&mut self, now: Instant, event: Event) {
        let news = match event {
            Event::Step(step) => {
                self.steps.push(Counted {
                    version: step.version,
                    epoch: step.epoch,
                    batches_of_epoch: step.batches,
                    batches: step
                        .parts
                        .iter()
                        .flat_map(|part| part.batches.clone())
                        .collect(),
                });
                News::Update
            }
            Event::WorkerLost { name, .. } => News::Lost(name),
            Event::WorkerJoined { name, .. } => News::Joined(name),
            Event::BatchFreed { .. } => News::Freed,
            Event::RunStarted { resumed_at, .. } => {
                let from = resumed_at.unwrap_or(0);
                let lost = self.version().saturating_sub(from);
                self.steps.retain(|step| step.version <= from);
                News::Restarted(lost)
            }
            Event::EpochStarted { epoch, .. } => {
                // After a restart, epochs may come again.
                self.done.retain(|&done, _| done < epoch);
                return;
            }
            Event::EpochFinished {
                epoch, left_out, ..
            } => {
                self.done.insert(epoch, left_out);
                return;
            }
            Event::RunFinished { .. } => News::Finished,
            _ => return,
        };
        self.seen.push((now, news));
    }

    fn version(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.version)
    }

    /// Updates that were seen since this began, also those that were lost again.
    pub(super) fn updates(&self) -> usize {
        let updates = self.seen.iter().filter(|(_, n)| matches!(n, News::Update));
        updates.count()
    }

    /// Whether the run has ended since this began.
    pub(super) fn finished(&self) -> bool {
        let last = self.seen.iter().rev();
        last.take(5).any(|(_, n)| matches!(n, News::Finished))
    }

    pub(super) fn secs(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.started).as_secs_f64()
    }

    /// Whether there was an update since.
    pub(super) fn is_over_it(&self, fault: &Fault) -> bool {
        let since = self.since(fault);
        since.into_iter().any(|(_, n)| matches!(n, News::Update))
    }

    fn since(&self, fault: &Fault) -> Vec<(f64, &News)> {
        let since = self.seen.iter().filter(|(at, _)| *at >= fault.at);
        let secs = |at: &Instant| at.saturating_duration_since(fault.at).as_secs_f64();
        since.map(|(at, news)| (secs(at), news)).collect()
    }

    /// What became of a fault until now, in words.
    pub(super) fn coped(&self, fault: &Fault) -> String {
        let since = self.since(fault);
        let first =
            |is: &dyn Fn(&News) -> bool| since.iter().find(|(_, n)| is(n)).map(|(at, _)| *at);
        let mine = |name: &str| {
            let host = fault.host.as_deref();
            host.is_some_and(|host| name.strip_prefix(host).is_some_and(|n| n.starts_with('/')))
        };
        let count = |is: fn(&News) -> bool| since.iter().filter(|(_, n)| is(n)).count();
        let mut words = Vec::new();
        let restarted = since.iter().find_map(|(at, news)| match news {
            News::Restarted(lost) => Some((*at, *lost)),
            _ => None,
        });
        let lost = first(&|n| matches!(n, News::Lost(name) if mine(name)));
        match (restarted, lost) {
            (Some((at, lost)), _) => words.push(format!(
                "the server was back after {at:.1} s, {lost} updates were lost with it"
            )),
            (None, Some(at)) => words.push(format!("noticed after {at:.1} s")),
            (None, None) => words.push("nobody was lost so far".to_owned()),
        }
        // Of a killed server, updates may be read that it made before.
        let next = match restarted {
            Some((back, _)) => since
                .iter()
                .find(|(at, n)| *at >= back && matches!(n, News::Update))
                .map(|(at, _)| *at),
            None => first(&|n| matches!(n, News::Update)),
        };
        words.push(match next {
            Some(at) => format!("next update after {at:.1} s"),
            None => "NO UPDATE SINCE".to_owned(),
        });
        if restarted.is_none() && lost.is_some() {
            words.push(
                match first(&|n| matches!(n, News::Joined(name) if mine(name))) {
                    Some(at) => format!("workers back after {at:.1} s"),
                    None => "its workers are not back yet".to_owned(),
                },
            );
        }
        let freed = count(|n| matches!(n, News::Freed));
        if freed > 0 {
            let plural = if freed == 1 { "" } else { "es" };
            words.push(format!("{freed} batch{plural} computed again"));
        }
        words.join(", ")
    }

    /// Updates, and the longest time without any.
    pub(super) fn summary(&self) -> String {
        let made = self
            .version()
            .saturating_sub(self.first_version.unwrap_or(0));
        let mut last = self.started;
        let mut longest = 0f64;
        for (at, news) in &self.seen {
            if matches!(news, News::Update) {
                let gap = at.saturating_duration_since(last);
                longest = longest.max(gap.as_secs_f64());
                last = *at;
            }
        }
        let rate = made as f64 / self.secs(last).max(1e-3);
        format!(
            "{made} updates in that time ({rate:.1}/s), never longer than {longest:.1} s without one"
        )
    }

    /// What is wrong with the run's accounts, over all that it has done; nothing if all is well.
    pub(super) fn accounts(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut epochs: BTreeMap<u32, (usize, BTreeMap<usize, u32>)> = BTreeMap::new();
        for step in &self.steps {
            let (batches, counts) = epochs.entry(step.epoch).or_default();
            *batches = step.batches_of_epoch;
            for &batch in &step.batches {
                *counts.entry(batch).or_default() += 1;
            }
        }
        for pair in self.steps.windows(2) {
            if pair[1].version != pair[0].version + 1 {
                let (a, b) = (pair[0].version, pair[1].version);
                wrong.push(format!("after update {a} came update {b}"));
            }
        }
        for (epoch, (batches, counts)) in epochs {
            for (batch, times) in counts.iter().filter(|(_, times)| **times > 1) {
                wrong.push(format!(
                    "batch {batch} of epoch {epoch} was counted {times} times"
                ));
            }
            let left_out = self.done.get(&epoch).map(|&left_out| left_out as usize);
            if let Some(left_out) = left_out
                && counts.len() + left_out != batches
            {
                let counted = counts.len();
                wrong.push(format!(
                    "epoch {epoch} is done with {counted} of {batches} batches counted, {left_out} \
                     left out"
                ));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsgd_core::event::{Contribution, Step};
    use dsgd_core::metric::Units;
    use dsgd_core::mode::Mode;
    use dsgd_core::task::Stats;

    fn step(version: u64, epoch: u32, batch: usize) -> Event {
        let part = Contribution {
            batches: vec![batch],
            ..Contribution::default()
        };
        Event::Step(Step {
            version,
            epoch,
            batches: 2,
            parts: vec![part],
            ..Step::default()
        })
    }

    fn restart(resumed_at: u64) -> Event {
        Event::RunStarted {
            epochs: 1,
            unix_secs: 0.0,
            task: String::new(),
            parameters: 0,
            workers: 1,
            mode: Mode::Async,
            about: Vec::new(),
            metrics: Vec::new(),
            units: Units::default(),
            resumed_at: Some(resumed_at),
        }
    }

    fn done(epoch: u32) -> Event {
        Event::EpochFinished {
            epoch,
            train: Stats::default(),
            validation: None,
            learning_rate: 0.0,
            refused: 0,
            set_aside: 0,
            left_out: 0,
            staleness: 0.0,
        }
    }

    fn accounts(events: Vec<Event>) -> String {
        let mut watch = Watch::new(Path::new("/nowhere"));
        for event in events {
            watch.note(Instant::now(), event);
        }
        watch.accounts().join("; ")
    }

    #[test]
    fn accounts_hold_when_each_batch_is_counted_once() {
        let whole = vec![step(1, 1, 1), step(2, 1, 0), done(1), step(3, 2, 0)];
        assert_eq!(accounts(whole), "");
        // A batch that a killed server took with it is counted anew.
        let again = vec![
            step(1, 1, 1),
            step(2, 1, 0),
            restart(1),
            step(2, 1, 0),
            done(1),
        ];
        assert_eq!(accounts(again), "");
    }

    #[test]
    fn accounts_that_do_not_hold_are_reported() {
        let twice = accounts(vec![step(1, 1, 1), step(2, 1, 1)]);
        assert_eq!(twice, "batch 1 of epoch 1 was counted 2 times");
        let few = accounts(vec![step(1, 1, 1), done(1), step(2, 2, 1)]);
        assert_eq!(
            few,
            "epoch 1 is done with 1 of 2 batches counted, 0 left out"
        );
        let gap = accounts(vec![step(1, 1, 1), step(3, 1, 0)]);
        assert_eq!(gap, "after update 1 came update 3");
    }
}
