//! The board as Prometheus reads it: text format 0.0.4, base units, a series a worker.
//!
//! Workers are told apart by name, `HOST/SLOT`, and come back under the same one: their number does
//! not grow with a run's length.

use std::fmt::{Display, Write};

use super::library::View;
use crate::observe::board::{State, WorkerRow};

/// What the text is, for the header.
pub(super) const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric's name, kind and meaning.
type Metric<'a> = (&'a str, &'a str, &'a str);

/// What of a worker's row is a metric.
const OF_A_WORKER: [(Metric<'static>, fn(&WorkerRow) -> f64); 9] = [
    (("worker_up", "gauge", "1 while the worker works."), |row| {
        f64::from(u8::from(row.state == State::Working))
    }),
    (
        (
            "worker_items_per_second",
            "gauge",
            "Tokens a second over its last gradients; rows where a task counts no tokens.",
        ),
        |row| row.rate,
    ),
    (
        (
            "worker_gradients_total",
            "counter",
            "Gradients of it that were applied.",
        ),
        |row| row.totals.batches as f64,
    ),
    (
        (
            "worker_gradients_refused_total",
            "counter",
            "Gradients of it that were refused.",
        ),
        |row| row.refused as f64,
    ),
    (
        (
            "worker_tokens_total",
            "counter",
            "Tokens of its gradients, with padding.",
        ),
        |row| row.totals.tokens as f64,
    ),
    (
        (
            "worker_bytes_total",
            "counter",
            "Bytes of tensors that travelled for it, both ways.",
        ),
        |row| row.totals.bytes as f64,
    ),
    (
        (
            "worker_staleness_total",
            "counter",
            "Staleness of its gradients, summed.",
        ),
        |row| row.totals.staleness as f64,
    ),
    (
        ("worker_joins_total", "counter", "How often it joined."),
        |row| f64::from(row.joins),
    ),
    (
        ("worker_losses_total", "counter", "How often it was lost."),
        |row| f64::from(row.losses),
    ),
];

/// All that is known, as text.
pub(super) fn text(run: &str, view: &View) -> String {
    let mut page = Text(String::new());
    page.run(run, view);
    page.workers(view);
    page.0
}

struct Text(String);

impl Text {
    fn run(&mut self, run: &str, view: &View) {
        let board = &view.board;
        let mode = format!("{:?}", board.mode).to_lowercase();
        self.head(("run_info", "gauge", "What is trained, and how."));
        let labels = [("run", run), ("task", &board.task), ("mode", &mode)];
        self.value("run_info", &labels, 1);
        let counts = board.counts;
        let last = board.last.as_ref();
        let valid = board.done.last().and_then(|row| row.validation);
        let all: [(Metric<'_>, Option<f64>); 23] = [
            (
                ("run_ended", "gauge", "1 when the run is over."),
                Some(f64::from(u8::from(board.outcome.is_some()))),
            ),
            (
                (
                    "run_silent_seconds",
                    "gauge",
                    "Seconds since the run last said something.",
                ),
                Some(view.idle_secs()),
            ),
            (
                (
                    "training_seconds_total",
                    "counter",
                    "Seconds of training, over all restarts.",
                ),
                Some(board.secs),
            ),
            (
                (
                    "remaining_seconds",
                    "gauge",
                    "Seconds until the last epoch is done, at the speed of this one.",
                ),
                board.remaining_secs(),
            ),
            (
                ("steps_total", "counter", "Updates of the parameters."),
                Some(board.steps as f64),
            ),
            (
                ("epoch", "gauge", "1-based epoch that is under way."),
                Some(f64::from(board.epoch)),
            ),
            (
                ("epochs", "gauge", "Number of the last epoch."),
                Some(f64::from(board.epochs)),
            ),
            (
                ("epoch_batches", "gauge", "Batches of an epoch."),
                Some(board.batches as f64),
            ),
            (
                (
                    "epoch_batches_counted",
                    "gauge",
                    "Batches of this epoch that are done.",
                ),
                Some(board.counted as f64),
            ),
            (
                (
                    "train_loss",
                    "gauge",
                    "Mean loss of an item, over this epoch so far.",
                ),
                last.map(|step| step.epoch_stats.mean_loss()),
            ),
            (
                (
                    "train_perplexity",
                    "gauge",
                    "Perplexity over this epoch so far.",
                ),
                last.map(|step| step.epoch_stats.perplexity()),
            ),
            (
                (
                    "validation_loss",
                    "gauge",
                    "Mean loss of an item, after the last epoch.",
                ),
                valid.map(|stats| stats.mean_loss()),
            ),
            (
                (
                    "validation_perplexity",
                    "gauge",
                    "Perplexity after the last epoch.",
                ),
                valid.map(|stats| stats.perplexity()),
            ),
            (
                ("learning_rate", "gauge", "Learning rate of the last step."),
                last.map(|step| f64::from(step.learning_rate)),
            ),
            (
                (
                    "gradient_norm",
                    "gauge",
                    "Norm of the last gradient before clipping.",
                ),
                last.map(|step| step.grad_norm),
            ),
            (
                ("gradients_total", "counter", "Gradients that were applied."),
                Some(board.totals.batches as f64),
            ),
            (
                ("tokens_total", "counter", "Tokens of these, with padding."),
                Some(board.totals.tokens as f64),
            ),
            (
                ("examples_total", "counter", "Examples of these."),
                Some(board.totals.examples as f64),
            ),
            (
                (
                    "bytes_total",
                    "counter",
                    "Bytes of tensors that travelled, both ways.",
                ),
                Some(board.totals.bytes as f64),
            ),
            (
                (
                    "staleness_total",
                    "counter",
                    "Staleness of the gradients, summed.",
                ),
                Some(board.totals.staleness as f64),
            ),
            (
                ("workers_live", "gauge", "Workers that work."),
                Some(board.live() as f64),
            ),
            (
                ("workers_wanted", "gauge", "Workers that were asked for."),
                Some(board.workers_wanted as f64),
            ),
            (
                ("workers_lost_total", "counter", "Workers that were lost."),
                Some(counts.lost as f64),
            ),
        ];
        let events = [
            (
                (
                    "gradients_refused_total",
                    "counter",
                    "Gradients that were refused.",
                ),
                counts.refused,
            ),
            (
                (
                    "batches_freed_total",
                    "counter",
                    "Batches that went to another worker.",
                ),
                counts.freed,
            ),
            (
                (
                    "batches_left_out_total",
                    "counter",
                    "Batches that were left out of their epochs.",
                ),
                counts.left_out,
            ),
            (
                (
                    "checkpoints_total",
                    "counter",
                    "Checkpoints that were written.",
                ),
                counts.saved,
            ),
            (("warnings_total", "counter", "Warnings."), counts.warnings),
        ];
        let events = events.map(|(metric, count)| (metric, Some(count as f64)));
        for (metric, value) in all.into_iter().chain(events) {
            if let Some(value) = value {
                self.head(metric);
                self.value(metric.0, &[], value);
            }
        }
    }

    fn workers(&mut self, view: &View) {
        let workers = &view.board.workers;
        for (metric, of) in OF_A_WORKER {
            self.head(metric);
            for (name, row) in workers {
                self.value(metric.0, &labels(name), of(row));
            }
        }
        let seconds = "worker_seconds_total";
        self.head((
            seconds,
            "counter",
            "Seconds that its gradients took, by what for.",
        ));
        for (name, row) in workers {
            let [worker, host] = labels(name);
            let totals = &row.totals;
            for (phase, secs) in [
                ("compute", totals.compute_secs),
                ("pull", totals.pull_secs),
                ("push", totals.push_secs),
                ("wait", totals.wait_secs),
            ] {
                self.value(seconds, &[worker, host, ("phase", phase)], secs);
            }
        }
    }

    fn head(&mut self, (name, kind, help): Metric<'_>) {
        // Writing to a string cannot fail, here and below.
        let _ = write!(
            self.0,
            "# HELP dsgd_{name} {help}\n# TYPE dsgd_{name} {kind}\n"
        );
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "dsgd_{name}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let text = text.replace('\\', r"\\").replace('"', "\\\"");
            let text = text.replace('\n', r"\n");
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}

fn labels(name: &str) -> [(&str, &str); 2] {
    let host = name.rsplit_once('/').map_or(name, |(host, _)| host);
    [("worker", name), ("host", host)]
}
