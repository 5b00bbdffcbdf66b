//! The board as Prometheus reads it: text format 0.0.4, base units, a series a worker.
//!
//! Workers are told apart by name, `HOST/SLOT`, and come back under the same one: their number does
//! not grow with a run's length.

use std::fmt::{Display, Write};

use super::library::View;
use crate::board::{Board, Presence, WorkerRow};
use dsgd_core::metric::key;
use dsgd_core::task::Stats;

/// What the text is, for the header.
pub(super) const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric's name, its meaning, and its value, which is NaN where it is not known. What ends in
/// `_total` is a counter.
type Metric<T> = (&'static str, &'static str, fn(&T) -> f64);

const OF_A_RUN: &[Metric<Board>] = &[
    ("run_ended", "1 when the run is over.", |b| {
        flag(b.outcome.is_some())
    }),
    (
        "training_seconds_total",
        "Seconds of training, over all restarts.",
        |b| b.secs,
    ),
    (
        "remaining_seconds",
        "Seconds until the last epoch is done, at the speed of this one.",
        |b| known(b.remaining_secs()),
    ),
    ("steps_total", "Updates of the parameters.", |b| {
        b.steps as f64
    }),
    ("epoch", "1-based epoch that is under way.", |b| {
        b.epoch.into()
    }),
    ("epochs", "Number of the last epoch.", |b| b.epochs.into()),
    ("epoch_batches", "Batches of an epoch.", |b| {
        b.batches as f64
    }),
    (
        "epoch_batches_counted",
        "Batches of this epoch that are done.",
        |b| b.counted as f64,
    ),
    (
        "train_loss",
        "Mean loss of an item, over this epoch so far.",
        |b| known(train(b).map(Stats::mean_loss)),
    ),
    (
        "validation_loss",
        "Mean loss of an item, after the last epoch.",
        |b| known(validation(b).map(Stats::mean_loss)),
    ),
    ("learning_rate", "Learning rate of the last step.", |b| {
        known(b.last.as_ref().map(|s| s.learning_rate.into()))
    }),
    (
        "gradient_norm",
        "Norm of the last gradient before clipping.",
        |b| known(b.last.as_ref().map(|s| s.grad_norm)),
    ),
    ("gradients_total", "Gradients that were applied.", |b| {
        b.totals.gradients as f64
    }),
    ("examples_total", "Examples of these.", |b| {
        b.totals.examples as f64
    }),
    (
        "bytes_total",
        "Bytes of tensors that travelled, both ways.",
        |b| b.totals.bytes as f64,
    ),
    (
        "staleness_total",
        "Staleness of the gradients, summed.",
        |b| b.totals.staleness as f64,
    ),
    ("workers_live", "Workers that work.", |b| {
        b.live_count() as f64
    }),
    ("workers_wanted", "Workers that were asked for.", |b| {
        b.workers_wanted as f64
    }),
    ("workers_lost_total", "Workers that were lost.", |b| {
        b.counts.lost as f64
    }),
    (
        "gradients_refused_total",
        "Gradients that were refused.",
        |b| b.counts.refused as f64,
    ),
    (
        "gradients_set_aside_total",
        "Gradients that were set aside, as the run's options want it.",
        |b| b.counts.set_aside as f64,
    ),
    (
        "batches_freed_total",
        "Batches that went to another worker.",
        |b| b.counts.freed as f64,
    ),
    (
        "batches_left_out_total",
        "Batches that were left out of their epochs.",
        |b| b.counts.left_out as f64,
    ),
    ("checkpoints_total", "Checkpoints that were written.", |b| {
        b.counts.saved as f64
    }),
    ("warnings_total", "Warnings.", |b| b.counts.warnings as f64),
];

const OF_A_WORKER: &[Metric<WorkerRow>] = &[
    ("worker_up", "1 while the worker works.", |w| {
        flag(w.state == Presence::Working)
    }),
    (
        "worker_items_per_second",
        "What the task counts, or examples, a second over its last gradients.",
        |w| w.rate,
    ),
    (
        "worker_gradients_total",
        "Gradients of it that were applied.",
        |w| w.totals.gradients as f64,
    ),
    (
        "worker_gradients_refused_total",
        "Gradients of it that were refused.",
        |w| w.refused as f64,
    ),
    (
        "worker_bytes_total",
        "Bytes of tensors that travelled for it, both ways.",
        |w| w.totals.bytes as f64,
    ),
    (
        "worker_staleness_total",
        "Staleness of its gradients, summed.",
        |w| w.totals.staleness as f64,
    ),
    ("worker_joins_total", "How often it joined.", |w| {
        w.joins.into()
    }),
    ("worker_losses_total", "How often it was lost.", |w| {
        w.losses.into()
    }),
];

/// Seconds of a worker by what they went into, under one name.
const PHASES: &[Metric<WorkerRow>] = &[
    ("compute", "", |w| w.totals.compute_secs),
    ("pull", "", |w| w.totals.pull_secs),
    ("push", "", |w| w.totals.push_secs),
    ("wait", "", |w| w.totals.wait_secs),
];

fn flag(is_it: bool) -> f64 {
    u8::from(is_it).into()
}

fn known(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}

fn train(board: &Board) -> Option<&Stats> {
    board.last.as_ref().map(|step| &step.epoch_stats)
}

fn validation(board: &Board) -> Option<&Stats> {
    board.done.last()?.validation.as_ref()
}

/// All that is known, as text.
pub(super) fn text(run: &str, view: &View) -> String {
    let board = &view.board;
    let mut text = Text(String::new());
    text.head("run_info", "What is trained, and how.");
    let mode = format!("{:?}", board.mode).to_lowercase();
    let labels = [("run", run), ("task", &board.task), ("mode", &mode)];
    text.value("run_info", &labels, 1);
    text.head(
        "run_silent_seconds",
        "Seconds since the run last said something.",
    );
    text.value("run_silent_seconds", &[], view.idle_secs());
    for (name, help, value) in OF_A_RUN {
        let value = value(board);
        if !value.is_nan() {
            text.head(name, help);
            text.value(name, &[], value);
        }
    }
    judged(board, &mut text);
    for (name, help, value) in OF_A_WORKER {
        text.head(name, help);
        for (worker, row) in &board.workers {
            text.value(name, &of_worker(worker), value(row));
        }
    }
    counted(board, &mut text);
    let seconds = "worker_seconds_total";
    text.head(seconds, "Seconds that its gradients took, by what for.");
    for (worker, row) in &board.workers {
        let [worker, host] = of_worker(worker);
        for (phase, _, secs) in PHASES {
            text.value(seconds, &[worker, host, ("phase", phase)], secs(row));
        }
    }
    text.0
}

/// The task's own metrics, as far as they are known; shares in base units, from 0 to 1.
fn judged(board: &Board, text: &mut Text) {
    for metric in &board.metrics {
        let of = [("train", train(board)), ("validation", validation(board))];
        for (what, stats) in of {
            let ending = if metric.unit == "%" { "_ratio" } else { "" };
            let name = format!("{what}_{}{ending}", metric.key());
            let value = known(stats.map(|stats| metric.value(stats))) / metric.scale();
            if !value.is_nan() && !text.has(&name) {
                let when = match what {
                    "train" => "over this epoch so far",
                    _ => "after the last epoch",
                };
                text.head(&name, &format!("The metric {}, {when}.", metric.name));
                text.value(&name, &[], value);
            }
        }
    }
}

/// What the task counts, of the run and of each worker.
fn counted(board: &Board, text: &mut Text) {
    let Some(unit) = board.units.name() else {
        return;
    };
    let name = format!("{}_total", key(unit));
    if !text.has(&name) {
        text.head(&name, &format!("Number of {unit} in these."));
        text.value(&name, &[], board.units.count(board.totals.units));
    }
    let name = format!("worker_{name}");
    if !text.has(&name) {
        text.head(&name, &format!("Number of {unit} in its gradients."));
        for (worker, row) in &board.workers {
            let number = board.units.count(row.totals.units);
            text.value(&name, &of_worker(worker), number);
        }
    }
}

fn of_worker(name: &str) -> [(&str, &str); 2] {
    let host = name.rsplit_once('/').map_or(name, |(host, _)| host);
    [("worker", name), ("host", host)]
}

struct Text(String);

impl Text {
    /// Whether there is one of this name already: the task does not know ours.
    fn has(&self, name: &str) -> bool {
        self.0.contains(&format!("# TYPE dsgd_{name} "))
    }

    fn head(&mut self, name: &str, help: &str) {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        let (help, kind) = (
            format!("# HELP dsgd_{name} {help}"),
            format!("# TYPE dsgd_{name} {kind}"),
        );
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.0, "{help}\n{kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let label = |(label, text): &(&str, &str)| {
            let text = text.replace('\\', r"\\").replace('"', "\\\"");
            format!("{label}=\"{}\"", text.replace('\n', r"\n"))
        };
        let labels: Vec<_> = labels.iter().map(label).collect();
        let labels = match &labels[..] {
            [] => String::new(),
            some => format!("{{{}}}", some.join(",")),
        };
        let _ = writeln!(self.0, "dsgd_{name}{labels} {value}");
    }
}
