//! The terminal: a live picture below the lines, or lines alone where there is no terminal.

use std::io::IsTerminal;

use crate::board::Board;
use crate::live::Live;
use crate::meter::Meter;
use crate::output::say;
use crate::words::{line, step_line};
use dsgd_core::event::{Event, Observer, Record};

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings and the end.
    Quiet,
    /// What a person wants to follow.
    Normal,
    /// Each worker that joins in the beginning, too.
    Verbose,
}

/// Lines of figures come no more often than this.
pub(super) const LINE_EVERY_SECS: f64 = 1.0;

/// Says on standard output what happens. With a picture below it on standard error where both are a
/// terminal and nobody wants it `plain`, else with a line of figures now and then.
pub fn terminal(verbosity: Verbosity, plain: bool, print_every: usize) -> Observer {
    let mut meter = Meter::default();
    let is_terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    if is_terminal && !plain && verbosity > Verbosity::Quiet {
        let (mut board, mut live) = (Board::default(), Live::new());
        return Box::new(move |record| {
            meter.see(record);
            board.see(record);
            let text = words(record, &meter, verbosity);
            let urgent = text.is_some();
            if let Some(text) = text {
                live.above(|| say(&text));
            }
            match record.event {
                Event::RunFinished { .. } => live.take_away(),
                _ => live.show(&board, urgent),
            }
        });
    }
    let mut last_line = f64::NEG_INFINITY;
    Box::new(move |record| {
        meter.see(record);
        if let Some(text) = words(record, &meter, verbosity) {
            say(&text);
        }
        if let Event::Step(step) = &record.event
            && verbosity > Verbosity::Quiet
            && step.version.is_multiple_of(print_every as u64)
            && record.at_secs >= last_line + LINE_EVERY_SECS
        {
            last_line = record.at_secs;
            say(step_line(record.at_secs, step, &meter));
        }
    })
}

pub(super) fn words(record: &Record, meter: &Meter, verbosity: Verbosity) -> Option<String> {
    let important = matches!(
        record.event,
        Event::Warning { .. }
            | Event::WorkerLost { .. }
            | Event::BatchLeftOut { .. }
            | Event::RunFinished { .. }
    );
    match (&record.event, verbosity) {
        (_, Verbosity::Quiet) if !important => None,
        // All of them join in the beginning; who comes later is news.
        (Event::WorkerJoined { .. }, Verbosity::Normal) if !meter.has_stepped() => None,
        // One or more a step, as it was wished; the log has them.
        (Event::SetAside { .. }, Verbosity::Normal) => None,
        // Why is the error that the program ends with.
        (Event::RunFinished { outcome, steps }, _) => {
            let how = outcome.split_once(" (").map_or(&**outcome, |(how, _)| how);
            Some(format!("Run {how} after {steps} steps"))
        }
        _ => line(record, meter),
    }
}
