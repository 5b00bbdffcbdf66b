//! What is known of a run, put together from its events: the same for a screen, a page and a report.
//!
//! It is a pure function of the records that it has seen, so a finished run is read from its file as
//! a running one is followed. However long a run is and however often its workers come and go, a
//! board stays small: curves are means over ever more steps ([`Series`]), a worker that comes back
//! is the row that it was, and of what happened only the last is kept, with counts of the rest.

mod epochs;
mod happening;
mod judged;
mod rows;
mod series;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use dsgd_core::event::{Event, Record, Step};
use dsgd_core::metric::{self, Metric, Units};
use dsgd_core::mode::Mode;

pub use happening::{Happening, HappeningKind};
pub use rows::{Counts, EpochRow, Presence, Totals, WorkerRow};
pub use series::{Bucket, Series};
pub use verdict::{HostRow, Slowest};

/// Happenings that are kept.
const MOST_HAPPENINGS: usize = 400;

/// Gradients whose parts are kept one by one, for a picture of the last steps.
const MOST_MOMENTS: usize = 400;

/// What is known of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Board {
    /// Registered name of the task.
    pub task: String,
    /// The task's and the hosts' lines about themselves.
    pub about: Vec<String>,
    /// What it is judged by: by the first one, and the others are shown.
    pub metrics: Vec<Metric>,
    /// What its batches count besides examples.
    pub units: Units,
    /// Number of parameters.
    pub parameters: usize,
    /// Workers asked for; none where those work who join.
    pub workers_wanted: usize,
    /// The most workers that there were at a step.
    pub most_live: usize,
    /// How gradients become steps.
    pub mode: Mode,
    /// Seconds since 1970 at which the run first started.
    pub unix_secs: f64,
    /// How often a server took the run up: 1, and one more for each restart or resumption.
    pub lives: u32,
    /// Seconds of training so far, over all lives, without the time between them.
    pub secs: f64,
    /// Seconds of it between the beginning of an epoch and its last step: without validation.
    pub stepping_secs: f64,
    /// 1-based epoch that is under way, and the last one.
    pub epoch: u32,
    /// Number of the last epoch.
    pub epochs: u32,
    /// Batches of an epoch.
    pub batches: usize,
    /// Batches of this epoch that are counted.
    pub counted: usize,
    /// Updates of the parameters so far.
    pub steps: u64,
    /// The last step.
    pub last: Option<Step>,
    /// Curves.
    pub series: Series,
    /// Epochs that are done.
    pub done: Vec<EpochRow>,
    /// The one of them whose validation metric is best; its training metric where there is no validation.
    pub best: Option<EpochRow>,
    /// Workers by name.
    pub workers: BTreeMap<String, WorkerRow>,
    /// The last happenings, oldest first.
    pub happenings: VecDeque<Happening>,
    /// Happenings in all, with those that are not kept.
    pub happened: u64,
    /// The last gradients, oldest first.
    pub moments: VecDeque<Moment>,
    /// How many of each kind happened.
    pub counts: Counts,
    /// Sums over all gradients that were applied.
    pub totals: Totals,
    /// How workers work together, where that is planned.
    pub plan: Option<String>,
    /// What became of that in the last epoch.
    pub plan_measured: Option<String>,
    /// The checkpoint that was written last.
    pub saved: Option<String>,
    /// How the run ended, when it has.
    pub outcome: Option<String>,
    /// Names by number, of workers that live.
    #[serde(skip)]
    names: BTreeMap<u32, String>,
    /// Seconds of earlier lives.
    #[serde(skip)]
    before_secs: f64,
    /// Seconds at which this epoch was taken up, and how much of it was done then.
    epoch_from: (f64, usize),
    /// Seconds at which the step before was made, or its epoch was taken up.
    #[serde(skip)]
    stepped_at: f64,
}

/// A gradient's way, ending when its step was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Seconds of training at which the step was made.
    pub secs: f64,
    /// Which step.
    pub step: u64,
    /// Who computed it.
    pub worker: String,
    /// Seconds of waiting for work, of pulling, computing and (for the one before) pushing.
    pub wait_secs: f64,
    /// Seconds in which the parameters arrived.
    pub pull_secs: f64,
    /// Seconds of computing.
    pub compute_secs: f64,
    /// Seconds of pushing the gradient before.
    pub push_secs: f64,
}

impl Board {
    /// Takes the next record in.
    pub fn see(&mut self, record: &Record) {
        self.secs = self.secs.max(self.before_secs + record.at_secs);
        match &record.event {
            Event::RunStarted { .. } => self.started(&record.event),
            Event::WorkerJoined { worker, name } => {
                self.names.insert(*worker, name.clone());
                let row = self.workers.entry(name.clone()).or_default();
                row.joined(*worker, self.secs);
                self.happened(HappeningKind::Joined, Some(name), "joined");
            }
            Event::WorkerLost {
                worker,
                name,
                reason,
            } => {
                self.names.remove(worker);
                self.lost(*worker, name, reason);
            }
            Event::HostAdded { host, workers } => {
                let words = format!("{host} is added, with room for {workers}");
                self.happened(HappeningKind::Hosts, None, &words);
            }
            Event::HostDropped { host } => {
                let secs = self.secs;
                let is_there = |name: &str| name.rsplit_once('/').is_some_and(|(of, _)| of == host);
                let rows = self.workers.iter_mut().filter(|(name, _)| is_there(name));
                rows.for_each(|(_, row)| row.dismissed(secs));
                self.happened(HappeningKind::Hosts, None, &format!("{host} is dropped"));
            }
            Event::EpochStarted {
                epoch,
                batches,
                counted,
            } => {
                (self.epoch, self.batches, self.counted) = (*epoch, *batches, *counted);
                self.epoch_from = (self.secs, *counted);
                self.stepped_at = self.secs;
            }
            Event::Step(step) => self.stepped(step),
            Event::Refused { worker, reason, .. } => {
                self.counts.refused += 1;
                let name = self.names.get(worker).cloned();
                if let Some(row) = name.as_ref().and_then(|name| self.workers.get_mut(name)) {
                    row.refused += 1;
                }
                self.happened(HappeningKind::Refused, name.as_ref(), reason);
            }
            Event::SetAside { .. } => self.counts.set_aside += 1,
            Event::BatchFreed { batch, reason } => {
                self.counts.freed += 1;
                let words = format!("batch {batch} goes to another worker: {reason}");
                self.happened(HappeningKind::Freed, None, &words);
            }
            Event::BatchLeftOut { batch, reason } => {
                self.counts.left_out += 1;
                let words = format!("batch {batch} is left out: {reason}");
                self.happened(HappeningKind::LeftOut, None, &words);
            }
            Event::EpochFinished { .. } => self.epoch_finished(&record.event),
            Event::Saved { file, .. } => {
                self.counts.saved += 1;
                self.saved = Some(file.clone());
                self.happened(HappeningKind::Saved, None, file);
            }
            Event::Warning { message } => {
                self.counts.warnings += 1;
                self.happened(HappeningKind::Warning, None, message);
            }
            Event::RunFinished { outcome, .. } => {
                self.outcome = Some(outcome.clone());
                let secs = self.secs;
                let rows = self.workers.values_mut();
                rows.for_each(|row| row.dismissed(secs));
            }
            Event::Plan {
                measured, message, ..
            } => {
                let kept = match measured {
                    None => &mut self.plan,
                    Some(_) => &mut self.plan_measured,
                };
                *kept = Some(message.clone());
                self.happened(HappeningKind::Plan, None, message);
            }
            Event::RampUp { .. }
            | Event::RateDecayed { .. }
            | Event::HostSaid { .. }
            | Event::Notice { .. } => {}
        }
    }

    fn lost(&mut self, worker: u32, name: &String, reason: &str) {
        let secs = self.secs;
        // One that has come back under another number is not meant.
        let row = self
            .workers
            .get_mut(name)
            .filter(|row| row.number == worker);
        // One that was let go has left, which is no fault.
        if row
            .as_ref()
            .is_some_and(|row| row.state == Presence::Dismissed)
        {
            return;
        }
        if let Some(row) = row {
            row.lost(reason, secs);
        }
        self.counts.lost += 1;
        self.happened(HappeningKind::Lost, Some(name), reason);
    }

    /// Workers that have joined and are not lost.
    pub fn live_count(&self) -> usize {
        let live = |row: &&WorkerRow| row.state == Presence::Working;
        self.workers.values().filter(live).count()
    }

    /// Workers that the run was made with: those asked for, or the most who joined.
    pub fn workers_had(&self) -> usize {
        match self.workers_wanted {
            0 => self.most_live,
            wanted => wanted,
        }
    }

    /// Seconds until the last batch of the last epoch, at the speed of this epoch so far.
    pub fn remaining_secs(&self) -> Option<f64> {
        let (from_secs, from) = self.epoch_from;
        let counted = self.counted.checked_sub(from).filter(|&n| n > 0)?;
        let secs = (self.secs - from_secs) / counted as f64;
        let epochs = self.epochs.saturating_sub(self.epoch) as usize;
        let left = epochs * self.batches + self.batches.saturating_sub(self.counted);
        (self.outcome.is_none()).then_some(secs * left as f64)
    }

    fn started(&mut self, event: &Event) {
        let Event::RunStarted {
            unix_secs,
            task,
            parameters,
            workers,
            mode,
            epochs,
            about,
            metrics,
            units,
            resumed_at,
        } = event
        else {
            return;
        };
        self.lives += 1;
        if metrics.first() != self.metrics.first() {
            self.series.measure(metric::first(metrics));
        }
        self.metrics.clone_from(metrics);
        self.units.clone_from(units);
        if self.lives == 1 {
            self.unix_secs = *unix_secs;
        } else {
            self.before_secs = self.secs;
            let at = resumed_at.unwrap_or(0);
            self.counts.undone += self.steps.saturating_sub(at);
            self.steps = at;
            self.series.cut_after(at);
            self.epochs_cut_after(at);
            let secs = self.secs;
            let rows = self.workers.values_mut();
            rows.for_each(|row| row.lost("the server went", secs));
            self.names.clear();
            let words = match at {
                0 => "the run was started again from its beginning".to_owned(),
                at => format!("the run went on from step {at}"),
            };
            self.happened(HappeningKind::Resumed, None, &words);
        }
        self.outcome = None;
        self.task.clone_from(task);
        self.about.clone_from(about);
        self.parameters = *parameters;
        self.workers_wanted = *workers;
        self.mode = *mode;
        self.epochs = *epochs;
    }

    fn stepped(&mut self, step: &Step) {
        self.steps = step.version;
        self.epoch = step.epoch;
        self.batches = step.batches;
        self.counted = step.counted;
        self.most_live = self.most_live.max(step.live);
        self.stepping_secs += self.secs - self.stepped_at;
        self.stepped_at = self.secs;
        self.series
            .add(self.secs, step, metric::first(&self.metrics));
        for part in &step.parts {
            let name = self.names.get(&part.worker);
            let name = name.map_or_else(|| format!("worker {}", part.worker), String::clone);
            self.totals.add(part, step.staleness);
            if let Some(row) = self.workers.get_mut(&name) {
                let (_, items) = self.units.shown(part.stats.units, part.stats.examples);
                row.add_gradient(part, step.staleness, self.secs, items);
            }
            push_bounded(
                &mut self.moments,
                MOST_MOMENTS,
                Moment {
                    secs: self.secs,
                    step: step.version,
                    worker: name,
                    wait_secs: part.cost.wait_secs,
                    pull_secs: part.cost.pull_secs,
                    compute_secs: part.cost.compute_secs,
                    push_secs: part.cost.push_secs,
                },
            );
        }
        self.last = Some(step.clone());
    }

    fn happened(&mut self, kind: HappeningKind, worker: Option<&String>, words: &str) {
        let happening = Happening {
            secs: self.secs,
            kind,
            worker: worker.cloned(),
            words: words.to_owned(),
        };
        self.happened += 1;
        push_bounded(&mut self.happenings, MOST_HAPPENINGS, happening);
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, most: usize, item: T) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}
