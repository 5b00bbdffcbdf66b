//! Files to several hosts at once, with a bar for each.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinSet;

use super::object::{Object, Presence};
use super::said::size;
use super::{Remote, SshError};

/// A host's bar.
const BAR: &str = "{prefix:>12} {wide_bar} {bytes:>10} of {total_bytes:<10} {bytes_per_sec:>12}";

/// Sends each host what it lacks of its objects. The results are in the hosts' order; one host's
/// trouble does not hold up the others. `quiet` shows nothing; where standard error is no terminal,
/// a line says what was sent.
pub async fn send_all(jobs: Vec<(Remote, Vec<Object>)>, quiet: bool) -> Vec<Result<(), SshError>> {
    let terminal = io::stderr().is_terminal();
    let bars = MultiProgress::with_draw_target(if terminal && !quiet {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    });
    let mut results: Vec<_> = jobs.iter().map(|_| None).collect();
    let names: Vec<_> = jobs.iter().map(|(r, _)| r.name().to_owned()).collect();
    let mut tasks = JoinSet::new();
    for (number, (remote, objects)) in jobs.into_iter().enumerate() {
        let bars = bars.clone();
        tasks.spawn(async move {
            let started = Instant::now();
            let sent = send_to(&remote, &objects, &bars).await;
            if let (Ok(bytes @ 1..), false, false) = (&sent, quiet, terminal) {
                let secs = started.elapsed().as_secs_f64();
                let (name, bytes) = (remote.name(), size(*bytes));
                let _ = writeln!(io::stderr(), "{name}: {bytes} sent in {secs:.1} s");
            }
            (number, sent.map(|_| ()))
        });
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

/// Returns how many bytes had to be sent.
async fn send_to(
    remote: &Remote,
    objects: &[Object],
    bars: &MultiProgress,
) -> Result<u64, SshError> {
    let there = remote.missing(objects).await?;
    let lacking: Vec<_> = objects.iter().zip(there).collect();
    let lacks = |(object, presence): &(&Object, Presence)| match presence {
        Presence::Whole => 0,
        Presence::Part(part) => object.bytes.saturating_sub(*part),
        Presence::Missing => object.bytes,
    };
    let sent: u64 = lacking.iter().map(lacks).sum();
    let lacking = lacking
        .into_iter()
        .filter(|(_, presence)| *presence != Presence::Whole);
    let lacking: Vec<_> = lacking.map(|(object, _)| object).collect();
    if lacking.is_empty() {
        return Ok(0);
    }
    let total = lacking.iter().map(|object| object.bytes).sum();
    let style = ProgressStyle::with_template(BAR).unwrap_or(ProgressStyle::default_bar());
    let bar = bars.add(ProgressBar::new(total).with_style(style));
    bar.set_prefix(remote.name().to_owned());
    let bar = Arc::new(bar);
    let mut done = 0;
    for object in lacking {
        let shown = Arc::clone(&bar);
        remote
            .send(object, move |bytes| shown.set_position(done + bytes))
            .await?;
        done += object.bytes;
    }
    bar.finish();
    Ok(sent)
}
