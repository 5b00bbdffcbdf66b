//! Files to several hosts at once, and how far they are.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};
use tracing::debug;

use super::object::{Object, Presence};
use super::size::size;
use super::{Remote, SshError};

/// A host's bar.
const BAR: &str =
    "{prefix:>12} {wide_bar} {bytes:>10} of {total_bytes:<10} {bytes_per_sec:>12} {eta:>4} left";

/// Where there is no bar, a line this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Where the progress of a transfer is written.
#[derive(Clone)]
pub enum TransferLog {
    /// Nowhere.
    Off,
    /// To standard error: bars where it is a terminal, else lines.
    Stderr,
    /// As lines, to this function.
    Lines(Arc<dyn Fn(String) + Send + Sync>),
}

/// Sends each host what it lacks of its objects. The results are in the hosts' order; one host's
/// trouble does not hold up the others.
pub async fn send_all(
    jobs: Vec<(Remote, Vec<Object>)>,
    log: TransferLog,
) -> Vec<Result<(), SshError>> {
    let (bars, log) = match log {
        TransferLog::Stderr if io::stderr().is_terminal() => {
            (ProgressDrawTarget::stderr(), TransferLog::Off)
        }
        other => (ProgressDrawTarget::hidden(), other),
    };
    let bars = MultiProgress::with_draw_target(bars);
    let mut results: Vec<_> = jobs.iter().map(|_| None).collect();
    let names: Vec<_> = jobs.iter().map(|(r, _)| r.name().to_owned()).collect();
    let mut tasks = JoinSet::new();
    for (number, (remote, objects)) in jobs.into_iter().enumerate() {
        let (bars, log) = (bars.clone(), log.clone());
        tasks.spawn(async move { (number, send_to(&remote, &objects, &bars, &log).await) });
    }
    while let Some(ended) = tasks.join_next().await {
        // A task that panicked has no result; it is put in below.
        if let Ok((number, result)) = ended {
            results[number] = Some(result);
        }
    }
    let panicked = |host| SshError::Other {
        host,
        said: "sending broke off".to_owned(),
    };
    let results = results.into_iter().zip(names);
    results
        .map(|(result, name)| result.unwrap_or_else(|| Err(panicked(name))))
        .collect()
}

async fn send_to(
    remote: &Remote,
    objects: &[Object],
    bars: &MultiProgress,
    log: &TransferLog,
) -> Result<(), SshError> {
    let there = remote.missing(objects).await?;
    let lacking = objects.iter().zip(there);
    let lacking = lacking.filter(|(_, presence)| *presence != Presence::Whole);
    let (mut total, mut before) = (0, 0);
    let mut lacks = Vec::new();
    for (object, presence) in lacking {
        if let Presence::Part(part) = presence {
            before += part.min(object.bytes);
        }
        total += object.bytes;
        lacks.push(object);
    }
    if lacks.is_empty() {
        return Ok(());
    }
    let style = ProgressStyle::with_template(BAR).unwrap_or(ProgressStyle::default_bar());
    let bar = bars.add(ProgressBar::new(total).with_style(style));
    bar.set_prefix(remote.name().to_owned());
    let started = Instant::now();
    let mut wire_bytes = 0;
    let sending = async {
        let mut done = 0;
        for object in lacks {
            let shown = bar.clone();
            let progress = move |bytes| shown.set_position(done + bytes);
            debug!(host = remote.name(), bytes = object.bytes, "sends a file");
            wire_bytes += remote.send(object, progress).await?;
            done += object.bytes;
        }
        Ok(())
    };
    let lines = async {
        let mut ticks = interval_at(started + LINE_EVERY, LINE_EVERY);
        loop {
            let secs = (ticks.tick().await - started).as_secs_f64();
            let there = (bar.position(), total);
            log.line(|| format!("{}: {}", remote.name(), how_far(before, there, secs)));
        }
    };
    tokio::select! {
        sent = sending => sent?,
        () = lines => {}
    }
    bar.finish();
    let (all, secs) = (size(total - before), started.elapsed().as_secs_f64());
    let wire = size(wire_bytes);
    let name = remote.name();
    log.line(|| format!("{name}: {all} sent in {secs:.1} s, packed to {wire}"));
    Ok(())
}

impl TransferLog {
    fn line(&self, line: impl FnOnce() -> String) {
        match self {
            Self::Off => {}
            // A closed standard error stops nothing.
            Self::Stderr => drop(writeln!(io::stderr(), "{}", line())),
            Self::Lines(to) => to(line()),
        }
    }
}

/// How much has arrived after some seconds, at what pace, and when it will be all. What was there before
/// was not sent at any pace.
fn how_far(before: u64, (there, total): (u64, u64), secs: f64) -> String {
    let arrived = there.saturating_sub(before) as f64;
    let so_far = format!("{} of {} there", size(there), size(total));
    if arrived < 1.0 {
        return format!("{so_far}, nothing new in {secs:.0} s");
    }
    let pace = arrived / secs.max(1e-3);
    let left = total.saturating_sub(there) as f64 / pace;
    format!("{so_far}, {}/s, {left:.0} s left", size(pace as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_is_reported_with_the_pace_and_the_time_that_is_left() {
        assert_eq!(
            how_far(0, (5_000_000, 21_000_000), 10.0),
            "5.0 MB of 21 MB there, 500 kB/s, 32 s left"
        );
        assert_eq!(
            how_far(4_000_000, (5_000_000, 21_000_000), 10.0),
            "5.0 MB of 21 MB there, 100 kB/s, 160 s left"
        );
        assert_eq!(
            how_far(0, (0, 21_000), 10.0),
            "0 bytes of 21 kB there, nothing new in 10 s"
        );
    }
}
