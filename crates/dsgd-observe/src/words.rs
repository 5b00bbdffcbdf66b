//! Events in words: the same line stands in the terminal and in the log.

use std::fmt::Write as _;

use crate::meter::Meter;
use dsgd_core::event::{Event, Record, Step};
use dsgd_core::metric::{Metric, Value};

/// The line for an event; none for what only files want to know.
pub(super) fn line(record: &Record, meter: &Meter) -> Option<String> {
    Some(match &record.event {
        Event::RunStarted {
            task,
            parameters,
            workers,
            mode,
            about,
            resumed_at,
            ..
        } => {
            let mut lines = vec![format!("Task {task}: {}", about.join("\n  "))];
            lines.push(format!("Number of parameters: {parameters}"));
            let plural = if *workers == 1 { "" } else { "s" };
            let mode = format!("{mode:?}").to_lowercase();
            lines.push(match resumed_at {
                Some(step) => {
                    format!("Going on at step {step} with {workers} worker{plural}, {mode}")
                }
                None => format!("Starting {workers} worker{plural}, {mode}"),
            });
            lines.join("\n")
        }
        Event::WorkerJoined { worker, name } => {
            format!("Worker {name} has joined, as number {worker}")
        }
        Event::Step(_) => return None,
        Event::WorkerLost { name, reason, .. } => format!("Worker {name} is lost: {reason}"),
        Event::EpochStarted {
            epoch,
            batches,
            counted,
        } => match counted {
            0 => format!("Epoch {epoch}: {batches} batches"),
            _ => format!("Epoch {epoch}: {batches} batches, {counted} of them done before"),
        },
        Event::Refused {
            worker,
            batch,
            reason,
        } => match batch {
            Some(batch) => format!("Refused batch {batch} of worker {worker}: {reason}"),
            None => format!("Refused a gradient of worker {worker}: {reason}"),
        },
        Event::SetAside {
            worker,
            batch,
            reason,
        } => match batch {
            Some(batch) => format!("Set aside batch {batch} of worker {worker}: {reason}"),
            None => format!("Set aside a gradient of worker {worker}: {reason}"),
        },
        Event::BatchFreed { batch, reason } => {
            format!("Batch {batch} goes to another worker: {reason}")
        }
        Event::BatchLeftOut { batch, reason } => {
            format!("Batch {batch} is left out of this epoch: {reason}")
        }
        Event::RampUp { value } => {
            let (name, value) = (&meter.metric().name, meter.metric().words(*value));
            format!("Training {name} is {value}: every worker gets work now (--wait)")
        }
        Event::RateDecayed {
            learning_rate,
            reason,
        } => format!("Learning rate is {learning_rate} from now on: {reason}"),
        Event::EpochFinished { .. } => epoch_line(record, meter)?,
        Event::Saved { file, reason, secs } => format!("Saved {file} ({reason}; {secs:.1} s)"),
        Event::HostAdded { host, workers } => {
            let plural = if *workers == 1 { "" } else { "s" };
            format!("Host {host} is added to the run, with room for {workers} worker{plural}")
        }
        Event::HostDropped { host } => format!("Host {host} is dropped from the run"),
        Event::HostSaid { host, line } => format!("{host}: {line}"),
        Event::Plan { message, .. } | Event::Notice { message } => message.clone(),
        Event::Warning { message } => format!("Warning: {message}"),
        Event::RunFinished { outcome, steps } => format!("Run {outcome} after {steps} steps"),
    })
}

/// How the epoch went.
fn epoch_line(record: &Record, meter: &Meter) -> Option<String> {
    let Event::EpochFinished {
        epoch,
        train,
        validation,
        refused,
        set_aside,
        left_out,
        staleness,
        ..
    } = &record.event
    else {
        return None;
    };
    let metric = meter.metric();
    let figure = |stats| format!("{} {}", metric.short(), metric.words(metric.value(stats)));
    let mut line = format!("Epoch {epoch} is done: train {}", figure(train));
    if let Some(validation) = validation {
        let _ = write!(line, ", valid {}", figure(validation));
    }
    if *staleness > 0.0 {
        let _ = write!(line, ", mean staleness {staleness:.2}");
    }
    if *refused > 0 {
        let _ = write!(line, ", {refused} gradients refused");
    }
    if *set_aside > 0 {
        let _ = write!(line, ", {set_aside} gradients set aside");
    }
    if *left_out > 0 {
        let _ = write!(line, ", {left_out} batches left out");
    }
    if let Some(speed) = meter.trained {
        let _ = write!(line, ", {}", meter.words(speed));
    }
    Some(line)
}

/// One step's figures, much as the ancestor printed them.
pub(super) fn step_line(at_secs: f64, step: &Step, meter: &Meter) -> String {
    format!(
        "Epoch {}, batch {}/{}: {}",
        step.epoch,
        step.counted,
        step.batches,
        step_figures(at_secs, step, meter)
    )
}

/// What stands behind the bar.
pub(super) fn step_figures(at_secs: f64, step: &Step, meter: &Meter) -> String {
    let stats = &step.epoch_stats;
    let speed = meter.speed(at_secs, step.counted);
    let params = step.param_norm.or(meter.param_norm);
    let params = params.map_or(String::new(), |norm| format!("|param| {norm:.2}, "));
    let rate = meter.words(speed);
    let metric = meter.metric();
    let judged = match metric.value {
        // It stands there already.
        Value::Loss => String::new(),
        _ => format!("{} {}, ", metric.short(), metric.words(metric.value(stats))),
    };
    let plural = if step.live == 1 { "" } else { "s" };
    format!(
        "loss {}, {judged}{params}|grad| {:.2}, lr {:.3e}, {rate}, {} worker{plural}, \
         staleness {:.1}, epoch ETA {}",
        Metric::loss().number(stats.mean_loss()),
        step.grad_norm,
        step.learning_rate,
        step.live,
        meter.mean_staleness(),
        duration(meter.remaining_secs(at_secs, step)),
    )
}

/// `1h 02m`, `3m 07s`, `12s`.
pub fn duration(secs: f64) -> String {
    let secs = secs.clamp(0.0, 1e9) as u64;
    match (secs / 3600, secs / 60 % 60, secs % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s:02}s"),
        (h, m, _) => format!("{h}h {m:02}m"),
    }
}
