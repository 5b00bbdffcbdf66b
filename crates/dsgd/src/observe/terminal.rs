//! The terminal: a bar for each epoch, or plain lines where there is none.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Observer;
use super::meter::Meter;
use super::words::{line, step_figures, step_line};
use crate::event::{Event, Record};

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings and the end.
    Quiet,
    /// What a person wants to follow.
    Normal,
    /// Each worker that joins, too.
    Verbose,
}

/// Plain lines come no more often than this.
const LINE_EVERY_SECS: f64 = 1.0;

/// Shows a run on standard output, or with a bar on standard error where that is a terminal.
pub fn terminal(verbosity: Verbosity, print_every: usize) -> Observer {
    let mut meter = Meter::default();
    let mut bar = std::io::stderr().is_terminal().then(hidden_bar);
    let mut last_line = f64::NEG_INFINITY;
    Box::new(move |record| {
        meter.see(record);
        if let Some(text) = words(record, &meter, verbosity) {
            match &bar {
                Some(bar) => bar.suspend(|| say(&text)),
                None => say(&text),
            }
        }
        if verbosity == Verbosity::Quiet {
            return;
        }
        if let Some(bar) = &mut bar {
            draw(bar, record, &meter);
        } else if let Event::Step(step) = &record.event
            && step.version.is_multiple_of(print_every as u64)
            && record.at_secs >= last_line + LINE_EVERY_SECS
        {
            last_line = record.at_secs;
            say(&step_line(record.at_secs, step, &meter));
        }
    })
}

fn words(record: &Record, meter: &Meter, verbosity: Verbosity) -> Option<String> {
    let important = matches!(
        record.event,
        Event::Warning { .. }
            | Event::WorkerLost { .. }
            | Event::BatchLeftOut { .. }
            | Event::RunFinished { .. }
    );
    match (&record.event, verbosity) {
        (Event::WorkerJoined { worker, name }, Verbosity::Verbose) => {
            Some(format!("Worker {worker} ({name}) has joined"))
        }
        (_, Verbosity::Quiet) if !important => None,
        _ => line(record, meter),
    }
}

/// A reader that has gone away does not end the run.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn hidden_bar() -> ProgressBar {
    ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
}

fn draw(bar: &mut ProgressBar, record: &Record, meter: &Meter) {
    match &record.event {
        Event::EpochStarted {
            epoch,
            batches,
            counted,
        } => {
            *bar = ProgressBar::new(*batches as u64);
            bar.set_style(
                ProgressStyle::with_template("{prefix} {bar:20} {pos}/{len} {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_prefix(format!("Epoch {epoch}"));
            bar.set_position(*counted as u64);
        }
        Event::Step(step) => {
            bar.set_message(step_figures(record.at_secs, step, meter));
            bar.set_position(step.counted as u64);
        }
        Event::EpochFinished { .. } | Event::RunFinished { .. } => bar.finish_and_clear(),
        _ => {}
    }
}
