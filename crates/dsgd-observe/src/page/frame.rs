//! What a reader is sent: all of a board at first, then what is new to him.
//!
//! A [`Cursor`] remembers what its reader has; it asks the board when the reader is ready for more,
//! and not before, so the reader always gets the latest state. Tables are sent by columns, with
//! numbers as short as they may be: 256 busy workers are some 30 kB.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use super::library::View;
use crate::board::{Board, Bucket, Counts, EpochRow, Happening, Moment, Presence, WorkerRow};
use dsgd_core::metric::Metric;
use dsgd_core::mode::Mode;
use dsgd_core::task::{Stats, used};

/// What a reader has of a board.
#[derive(Default)]
pub(super) struct Cursor {
    lives: u32,
    stride: u64,
    buckets: usize,
    done: usize,
    happened: u64,
    moments: u64,
    rows: BTreeMap<String, Mark>,
}

/// What tells a worker's row from what it was before.
#[derive(Clone, Copy, PartialEq)]
struct Mark {
    state: Presence,
    joins: u32,
    refused: u64,
    batches: u64,
}

/// What a reader is sent.
#[derive(Serialize)]
pub(super) struct Frame<'a> {
    /// What the reader had before is to be forgotten.
    whole: bool,
    head: Head<'a>,
    series: Columns,
    done: Epochs<'a>,
    workers: Workers<'a>,
    happenings: Vec<&'a Happening>,
    moments: Moments<'a>,
}

/// Figures of a run.
#[derive(Serialize)]
struct Head<'a> {
    task: &'a str,
    about: &'a [String],
    parameters: usize,
    workers_wanted: usize,
    mode: Mode,
    unix_secs: f64,
    lives: u32,
    secs: f64,
    epoch: u32,
    epochs: u32,
    batches: usize,
    counted: usize,
    steps: u64,
    live: usize,
    remaining_secs: Option<f64>,
    slowest: Option<String>,
    learning_rate: Option<f32>,
    grad_norm: Option<f64>,
    /// Seconds in which steps were made.
    stepping_secs: f64,
    /// What it is judged by.
    metrics: &'a [Metric],
    /// Sums over this epoch so far.
    train: Option<Stats>,
    counts: Counts,
    /// What its speeds count.
    unit: &'a str,
    bytes: u64,
    staleness: f64,
    saved: &'a Option<String>,
    outcome: &'a Option<String>,
    /// Seconds since the run last said something.
    idle_secs: f64,
    /// Bytes of its file that were read, and that it has.
    read: u64,
    size: u64,
    /// Lines of it that are no events, and why no more can be read.
    broken: u64,
    error: &'a Option<String>,
}

/// Curves, from the bucket of that number on.
#[derive(Default, Serialize)]
struct Columns {
    from: usize,
    step: Vec<u64>,
    secs: Vec<f64>,
    epochs: Vec<f32>,
    loss: Vec<f32>,
    count: Vec<u64>,
    /// Sums of metrics, as many of them as any step has.
    sums: Vec<Vec<f32>>,
    /// What speeds count.
    items: Vec<u64>,
    lowest: Vec<f32>,
    highest: Vec<f32>,
    grad_norm: Vec<f32>,
    learning_rate: Vec<f32>,
    staleness: Vec<f32>,
}

/// Epochs that are done, from the one of that number on.
#[derive(Serialize)]
struct Epochs<'a> {
    from: usize,
    rows: &'a [EpochRow],
}

/// Workers whose rows have changed.
#[derive(Default, Serialize)]
struct Workers<'a> {
    name: Vec<&'a str>,
    state: Vec<Presence>,
    reason: Vec<Option<&'a str>>,
    since_secs: Vec<f64>,
    last_secs: Vec<Option<f64>>,
    joins: Vec<u32>,
    losses: Vec<u32>,
    refused: Vec<u64>,
    batches: Vec<u64>,
    rate: Vec<f32>,
    compute_secs: Vec<f32>,
    pull_secs: Vec<f32>,
    push_secs: Vec<f32>,
    wait_secs: Vec<f32>,
    bytes: Vec<u64>,
    staleness: Vec<f32>,
}

/// Gradients that were applied since the last frame, as far as they are still known.
#[derive(Default, Serialize)]
struct Moments<'a> {
    worker: Vec<&'a str>,
    step: Vec<u64>,
    secs: Vec<f64>,
    wait_secs: Vec<f32>,
    pull_secs: Vec<f32>,
    compute_secs: Vec<f32>,
    push_secs: Vec<f32>,
}

impl Cursor {
    /// What is new of a run, as JSON.
    pub(super) fn next(&mut self, view: &View) -> String {
        let frame = self.frame(view);
        // Numbers that are not finite become null; nothing else can be wrong with it.
        serde_json::to_string(&frame).unwrap_or_default()
    }

    fn frame<'a>(&mut self, view: &'a View) -> Frame<'a> {
        let board = &view.board;
        // A new life of the run may undo steps, and rows with them.
        let whole = self.lives == 0 || self.lives != board.lives;
        if whole {
            *self = Self::default();
            self.lives = board.lives;
        }
        Frame {
            whole,
            head: head(view),
            series: self.series(board),
            done: self.done(board),
            workers: self.workers(board),
            happenings: {
                let new = board.happened - self.happened;
                self.happened = board.happened;
                last(board.happenings.iter(), new)
            },
            moments: {
                let new = board.totals.gradients - self.moments;
                self.moments = board.totals.gradients;
                moments(&last(board.moments.iter(), new))
            },
        }
    }

    fn series(&mut self, board: &Board) -> Columns {
        let buckets = &board.series.buckets;
        // The last one may have grown since; with another stride all are others.
        let from = if board.series.stride == self.stride {
            self.buckets.saturating_sub(1).min(buckets.len())
        } else {
            0
        };
        (self.stride, self.buckets) = (board.series.stride, buckets.len());
        let mut columns = Columns {
            from,
            ..Columns::default()
        };
        let sums = buckets.iter().map(|bucket| used(&bucket.stats.sums).len());
        columns.sums = vec![Vec::new(); sums.max().unwrap_or(0)];
        for bucket in &buckets[from..] {
            columns.add(
                bucket,
                board.items(bucket.stats.units, bucket.stats.examples),
            );
        }
        columns
    }

    fn done<'a>(&mut self, board: &'a Board) -> Epochs<'a> {
        // When there are too many of them, every other one goes.
        let from = if board.done.len() >= self.done {
            self.done
        } else {
            0
        };
        self.done = board.done.len();
        Epochs {
            from,
            rows: &board.done[from..],
        }
    }

    fn workers<'a>(&mut self, board: &'a Board) -> Workers<'a> {
        let mut workers = Workers::default();
        for (name, row) in &board.workers {
            let mark = Mark {
                state: row.state,
                joins: row.joins,
                refused: row.refused,
                batches: row.totals.batches,
            };
            match self.rows.get_mut(name) {
                Some(known) if *known == mark => {}
                Some(known) => {
                    *known = mark;
                    workers.add(name, row);
                }
                None => {
                    self.rows.insert(name.clone(), mark);
                    workers.add(name, row);
                }
            }
        }
        workers
    }
}

fn head(view: &View) -> Head<'_> {
    let board = &view.board;
    let last = board.last.as_ref();
    Head {
        task: &board.task,
        about: &board.about,
        parameters: board.parameters,
        workers_wanted: board.workers_wanted,
        mode: board.mode,
        unix_secs: board.unix_secs,
        lives: board.lives,
        secs: millis(board.secs),
        epoch: board.epoch,
        epochs: board.epochs,
        batches: board.batches,
        counted: board.counted,
        steps: board.steps,
        live: board.live_count(),
        remaining_secs: board.remaining_secs().map(millis),
        slowest: board.slowest().map(|slowest| slowest.to_string()),
        learning_rate: last.map(|step| step.learning_rate),
        grad_norm: last.map(|step| step.grad_norm),
        stepping_secs: millis(board.stepping_secs),
        metrics: &board.metrics,
        train: last.map(|step| step.epoch_stats),
        counts: board.counts,
        unit: board.unit(),
        staleness: board.totals.mean_staleness(),
        bytes: board.totals.bytes,
        saved: &board.saved,
        outcome: &board.outcome,
        idle_secs: millis(view.idle_secs()),
        read: view.read,
        size: view.size,
        broken: view.broken,
        error: &view.error,
    }
}

impl Columns {
    fn add(&mut self, bucket: &Bucket, items: u64) {
        self.step.push(bucket.step);
        self.secs.push(millis(bucket.secs));
        self.epochs.push(bucket.epochs as f32);
        self.loss.push(bucket.stats.loss as f32);
        self.count.push(bucket.stats.count);
        for (column, sum) in self.sums.iter_mut().zip(bucket.stats.sums) {
            column.push(sum as f32);
        }
        self.items.push(items);
        self.lowest.push(bucket.lowest as f32);
        self.highest.push(bucket.highest as f32);
        self.grad_norm.push(bucket.grad_norm as f32);
        self.learning_rate.push(bucket.learning_rate as f32);
        self.staleness.push(bucket.staleness as f32);
    }
}

impl<'a> Workers<'a> {
    fn add(&mut self, name: &'a str, row: &'a WorkerRow) {
        self.name.push(name);
        self.state.push(row.state);
        self.reason.push(row.reason.as_deref());
        self.since_secs.push(millis(row.since_secs));
        self.last_secs.push(row.last_secs.map(millis));
        self.joins.push(row.joins);
        self.losses.push(row.losses);
        self.refused.push(row.refused);
        self.batches.push(row.totals.batches);
        self.rate.push(row.rate as f32);
        self.compute_secs.push(row.totals.compute_secs as f32);
        self.pull_secs.push(row.totals.pull_secs as f32);
        self.push_secs.push(row.totals.push_secs as f32);
        self.wait_secs.push(row.totals.wait_secs as f32);
        self.bytes.push(row.totals.bytes);
        self.staleness.push(row.totals.mean_staleness() as f32);
    }
}

fn moments<'a>(new: &[&'a Moment]) -> Moments<'a> {
    let mut moments = Moments::default();
    for moment in new {
        moments.worker.push(&moment.worker);
        moments.step.push(moment.step);
        moments.secs.push(millis(moment.secs));
        moments.wait_secs.push(moment.wait_secs as f32);
        moments.pull_secs.push(moment.pull_secs as f32);
        moments.compute_secs.push(moment.compute_secs as f32);
        moments.push_secs.push(moment.push_secs as f32);
    }
    moments
}

/// The last `new` of them, or as many as there are.
fn last<T>(all: impl ExactSizeIterator<Item = T>, new: u64) -> Vec<T> {
    let known = all.len() - (new.min(all.len() as u64) as usize);
    all.skip(known).collect()
}

/// Without digits that nobody reads.
fn millis(secs: f64) -> f64 {
    (secs * 1e3).round() / 1e3
}
