//! What happens as `tracing` events, for whoever collects logs: a line of JSON each.

use tracing::{Dispatch, Level, event};
use tracing_subscriber::fmt::format::FmtSpan;

use crate::meter::Meter;
use crate::output::Output;
use crate::terminal::{LINE_EVERY_SECS, Verbosity, words};
use crate::words::step_line;
use dsgd_core::event::{Event, Observer, Record};

/// Says on standard output what happens, a JSON object a line: time, level, and as fields the words,
/// the seconds of the run, the kind of event, and for a step its figures.
pub fn json_terminal(verbosity: Verbosity, print_every: usize) -> Observer {
    let lines = tracing_subscriber::fmt()
        .json()
        .with_span_events(FmtSpan::NONE)
        .with_target(false)
        .with_current_span(false)
        .with_span_list(false)
        .log_internal_errors(false)
        .with_writer(|| Output)
        .finish();
    let lines = Dispatch::new(lines);
    let mut meter = Meter::default();
    let mut last_line = f64::NEG_INFINITY;
    Box::new(move |record| {
        meter.see(record);
        tracing::dispatcher::with_default(&lines, || {
            if let Some(words) = words(record, &meter, verbosity) {
                say(record, &words);
            }
            if let Event::Step(step) = &record.event
                && verbosity > Verbosity::Quiet
                && step.version.is_multiple_of(print_every as u64)
                && record.at_secs >= last_line + LINE_EVERY_SECS
            {
                last_line = record.at_secs;
                let metric = meter.metric();
                let (unit, units_per_s) = meter.rate(record.at_secs);
                event!(
                    Level::INFO,
                    at_secs = record.at_secs,
                    event = "step",
                    step = step.version,
                    epoch = step.epoch,
                    counted = step.counted,
                    batches = step.batches,
                    loss = step.epoch_stats.mean_loss(),
                    metric = metric.name,
                    value = metric.value(&step.epoch_stats),
                    grad_norm = step.grad_norm,
                    learning_rate = f64::from(step.learning_rate),
                    unit,
                    units_per_s,
                    staleness = meter.mean_staleness(),
                    workers = step.live,
                    "{}",
                    step_line(record.at_secs, step, &meter)
                );
            }
        });
    })
}

fn say(record: &Record, words: &str) {
    let at_secs = record.at_secs;
    let kind = record.event.kind();
    match &record.event {
        Event::WorkerLost { name, reason, .. } => {
            event!(
                Level::WARN,
                at_secs,
                event = kind,
                worker = name,
                reason,
                "{words}"
            );
        }
        Event::Warning { .. } | Event::BatchLeftOut { .. } => {
            event!(Level::WARN, at_secs, event = kind, "{words}");
        }
        Event::HostAdded { host, .. }
        | Event::HostDropped { host }
        | Event::HostSaid { host, .. } => {
            event!(Level::INFO, at_secs, event = kind, host, "{words}");
        }
        _ => event!(Level::INFO, at_secs, event = kind, "{words}"),
    }
}
