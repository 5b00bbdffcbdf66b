//! `dsgd hosts check`: a doctor. Every problem is said with its remedy.
//!
//! Where looking shows none, it does what a run does before its workers begin: it writes the program into
//! the cache, lays the way back, and starts the program. With options of `train` it sends the files that
//! they name, too, and lets the program load the task there.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, timeout_at};

use super::each::{Failed, each, runtime};
use crate::cli::files::Payload;
use dsgd_engine::config::HostOptions;
use dsgd_engine::launch::trouble::Trouble;
use dsgd_engine::ssh::{
    Binaries, Control, Facts, Object, Remote, SshError, Stream, TransferLog, send_all, size,
};
use dsgd_observe::output::say;

/// Logging in and looking around, also on a slow connection that loses much; then it is over, even
/// where nobody answers.
const LOOKING: Duration = Duration::from_secs(60);
/// Loading the largest data that somebody trains on.
const LOADING: Duration = Duration::from_secs(600);
/// Less is taken by a program and a little data.
const LEAST_DISK: u64 = 500 << 20;
const LEAST_MEMORY: u64 = 200 << 20;
/// Logs of several machines do not fit together any more.
const MOST_CLOCK_SECS: f64 = 5.0;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    hosts: HostOptions,
    /// Say whether a host helps with a model of so many parameters
    #[arg(long, value_name = "N", conflicts_with = "model_mb")]
    parameters: Option<u64>,
    /// The same, for a model of so many megabytes
    #[arg(long, value_name = "MB")]
    model_mb: Option<u64>,
    /// Seconds that a worker computes for one step
    #[arg(long, value_name = "SECS")]
    step_secs: Option<f64>,
    /// Options of `dsgd train` for a run: its files are sent, and its task is loaded there
    #[arg(last = true, value_name = "OPTIONS OF TRAIN")]
    train: Vec<OsString>,
}

impl CheckArgs {
    fn model_bytes(&self) -> Option<u64> {
        let parameters = self.parameters.map(|n| n.saturating_mul(4));
        parameters.or(self.model_mb.map(|mb| mb.saturating_mul(1_000_000)))
    }
}

/// When looking around has to have come to an end.
pub(crate) fn looked_by() -> Instant {
    Instant::now() + LOOKING
}

pub(super) fn check(args: &CheckArgs, payload: Option<Payload>) -> anyhow::Result<()> {
    let payload = Arc::new(payload);
    let binaries = args.hosts.binaries()?;
    let control = Arc::new(Control::new()?);
    let deadline = looked_by();
    let model = args.model_bytes();
    let act = {
        let (control, binaries) = (Arc::clone(&control), binaries.clone());
        move |remote: Remote| {
            let (control, binaries) = (Arc::clone(&control), binaries.clone());
            let payload = Arc::clone(&payload);
            async move {
                let (facts, speed) = look(&remote, deadline).await?;
                let mut problems = problems(remote.name(), &facts, &binaries, model);
                if problems.is_empty() {
                    let tried = rehearse(
                        &remote,
                        &facts,
                        &control,
                        &binaries,
                        payload.as_ref().as_ref(),
                    )
                    .await;
                    problems.extend(tried.err().map(|trouble| trouble.to_string()));
                }
                Ok((facts, speed, problems))
            }
        }
    };
    let looked = runtime()?.block_on(each(&args.hosts, &control, act))?;
    let mut failed = Failed::default();
    for (host, result) in looked {
        let (facts, speed, problems) = match result {
            Ok(looked) => looked,
            Err(error) => {
                failed.add(&host, &error);
                continue;
            }
        };
        say(format_args!("{host}: {}", about(&facts)));
        say(format_args!("    {}", way(&facts, speed)));
        if let Some(bytes) = model {
            say(format_args!("    {}", helps(bytes, speed, args.step_secs)));
        }
        if problems.is_empty() {
            say("    ready");
            continue;
        }
        for problem in problems {
            say(format_args!("    Problem: {problem}"));
        }
        failed.0.push(host);
    }
    failed.end()
}

/// What a run does on a host before its workers begin.
async fn rehearse(
    remote: &Remote,
    facts: &Facts,
    control: &Control,
    binaries: &Binaries,
    payload: Option<&Payload>,
) -> Result<(), Trouble> {
    let program = binaries.choose(remote.name(), facts)?;
    // A run does several things at once in a login.
    let _held = remote.run("sleep 20").await?;
    let mut objects = vec![program.clone()];
    objects.extend(payload.iter().flat_map(|payload| payload.objects.clone()));
    let job = (remote.clone(), objects);
    let sent = send_all(vec![job], TransferLog::Stderr).await;
    sent.into_iter().collect::<Result<(), _>>()?;
    // A forward needs no listener here.
    remote.forward(&control.file("check")).await?;
    let introduction = last_line_of(remote, &program, &["--version"], "").await?;
    same_version(remote.name(), &introduction)?;
    if let Some(payload) = payload {
        let line = payload.rehearsal().to_line();
        last_line_of(
            remote,
            &program,
            &["worker", "--tethered", "--rehearse"],
            &line,
        )
        .await?;
    }
    Ok(())
}

/// The last line of a program that ends well, and soon, but for what it has to load.
async fn last_line_of(
    remote: &Remote,
    program: &Object,
    args: &[&str],
    first: &str,
) -> Result<String, Trouble> {
    let ends = Instant::now() + LOADING;
    let mut running = remote.start(program, args, first).await?;
    let (mut out, mut err) = (None, None);
    let listening = async {
        while let Some((stream, line)) = running.line().await {
            match stream {
                Stream::Out => out = Some(line),
                Stream::Err => err = Some(line),
            }
        }
    };
    if timeout_at(ends, listening).await.is_err() {
        return Err(Trouble::Ssh(SshError::TimedOut {
            host: remote.name().to_owned(),
            what: "loading the task",
            secs: LOADING.as_secs(),
        }));
    }
    match Trouble::of(remote.name(), running.wait().await, err) {
        Trouble::Left { .. } => Ok(out.unwrap_or_default()),
        trouble => Err(trouble),
    }
}

/// Whether a program that introduces itself so is of this one's version.
fn same_version(host: &str, introduction: &str) -> Result<(), Trouble> {
    const OURS: &str = env!("CARGO_PKG_VERSION");
    if introduction.split_whitespace().next_back() == Some(OURS) {
        return Ok(());
    }
    Err(Trouble::CannotWork {
        host: host.to_owned(),
        said: format!(
            "the program there is {introduction:?}, this one has version {OURS}: pass one of the same \
             version to --binary"
        ),
    })
}

/// What a host is like, and how many bytes a second get there.
pub(crate) async fn look(remote: &Remote, deadline: Instant) -> Result<(Facts, f64), SshError> {
    let looking = async { Ok((remote.facts().await?, remote.speed().await?)) };
    timeout_at(deadline, looking).await.unwrap_or_else(|_| {
        Err(SshError::TimedOut {
            host: remote.name().to_owned(),
            what: "looking around",
            secs: LOOKING.as_secs(),
        })
    })
}

fn about(facts: &Facts) -> String {
    let Facts { arch, libc, .. } = facts;
    let computes = facts.computes();
    format!(
        "{arch}, {libc}, {computes}, {} of {} memory and {} of disk free",
        size(facts.available_bytes),
        size(facts.memory_bytes),
        size(facts.free_bytes)
    )
}

fn way(facts: &Facts, bytes_per_s: f64) -> String {
    let speed = size(bytes_per_s as u64);
    let millis = facts.round_trip.as_secs_f64() * 1e3;
    let clock = facts.clock_ahead_secs;
    format!("{speed}/s there, round trip {millis:.1} ms, clock {clock:+.1} s")
}

/// Whether a worker there does much beside waiting for the network: each step pulls the parameters
/// and pushes a gradient of the same size.
fn helps(model_bytes: u64, bytes_per_s: f64, step_secs: Option<f64>) -> String {
    let moving_secs = 2.0 * model_bytes as f64 / bytes_per_s.max(1.0);
    let model = size(model_bytes);
    let moves = format!("pull and push of {model} take {moving_secs:.1} s");
    let Some(step_secs) = step_secs else {
        return format!("{moves}: it helps where a step computes longer than that");
    };
    let computing = step_secs / (step_secs + moving_secs);
    let words = match computing {
        most if most >= 0.75 => "it helps",
        half if half >= 0.4 => "it helps, though a faster network would help more",
        _ => "it hardly helps: larger batches, or a faster network, would change that",
    };
    let percent = 100.0 * computing;
    format!(
        "{moves}, a step {step_secs:.1} s: it would compute {percent:.0} % of the time; {words}"
    )
}

fn problems(host: &str, facts: &Facts, binaries: &Binaries, model: Option<u64>) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = binaries.check(host, facts) {
        problems.push(error.to_string());
    }
    if facts.free_bytes < LEAST_DISK {
        problems.push(format!(
            "{} are free in {}: free space, or set XDG_CACHE_HOME to another disk at the top of \
             its ~/.bashrc",
            size(facts.free_bytes),
            facts.cache
        ));
    }
    // Parameters, gradient, and what is on its way.
    let needed = LEAST_MEMORY + model.unwrap_or(0).saturating_mul(3);
    if facts.available_bytes < needed {
        problems.push(format!(
            "{} of memory are free, a worker needs {}: end other programs there, or leave it out",
            size(facts.available_bytes),
            size(needed)
        ));
    }
    if facts.clock_ahead_secs.abs() > MOST_CLOCK_SECS {
        problems.push(format!(
            "its clock is {:.0} s off, so logs do not fit together: switch on its time \
             synchronisation (timedatectl set-ntp true)",
            facts.clock_ahead_secs
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_helps_when_it_computes_most_of_the_time() {
        // 100 MB both ways at 100 MB/s: 2 s.
        let words = |step| helps(100_000_000, 1e8, step);
        assert_eq!(
            words(None),
            "pull and push of 100 MB take 2.0 s: it helps where a step computes longer than that"
        );
        assert!(words(Some(8.0)).ends_with("it would compute 80 % of the time; it helps"));
        assert!(words(Some(2.0)).contains("50 % of the time; it helps, though"));
        assert!(words(Some(0.1)).contains("it hardly helps"));
    }
}
