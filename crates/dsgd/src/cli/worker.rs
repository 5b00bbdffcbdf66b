//! `dsgd worker`: workers of a run whose server is elsewhere.

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::{files, layers, log, memory, signals};
use crate::cli::call::{Call, complain};
use crate::data;
use crate::task::Task;
use dsgd_core::text::causes;
use dsgd_engine::Error;
use dsgd_engine::config::{RunConfig, cores};
use dsgd_engine::launch::process::{self, ProcessError, WorkerProcess};
use dsgd_engine::launch::trouble::CANNOT_WORK;
use dsgd_engine::wire::invitation::Invitation;
use dsgd_engine::wire::link::Endpoint;
use dsgd_observe::output::say;

/// Bytes of an invitation: its largest part is a list of files.
const MOST_INVITATION: u64 = 4 << 20;

/// Options of `dsgd worker`.
#[derive(Debug, Args)]
struct WorkerArgs {
    #[arg(
        long,
        value_name = "URL",
        help = "Where the server is, such as https://h0:7077 [default: where the invitation says]"
    )]
    join: Option<String>,
    /// Number of workers [default: the machine's cores]
    #[arg(short = 'n', long, value_name = "N",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4096))]
    workers: Option<usize>,
    /// Kernel threads of each worker [default: cores / workers, at least 1]
    #[arg(long, value_name = "N",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
    /// Say on standard error what goes on inside: LEVEL, or PART=LEVEL, separated by commas, such as debug,wire=trace
    #[arg(long, value_name = "FILTER", value_parser = log::filter)]
    log: Option<String>,
    /// End when standard input ends
    #[arg(long, hide = true)]
    tethered: bool,
    /// Load the task, and end
    #[arg(long, hide = true)]
    rehearse: bool,
    /// Mark of the run, for whoever looks at this process
    #[arg(long, hide = true)]
    run: Option<String>,
}

pub(super) fn command() -> Command {
    WorkerArgs::augment_args(Command::new("worker"))
        .about("Work for a run whose server is on another machine")
        .long_about(
            "Work for a run whose server is on another machine. The invitation is read from \
             standard input; a server that was started with --listen prints the whole command.",
        )
}

/// Reads the invitation: what to work for is said there.
pub(super) fn invitation() -> anyhow::Result<Invitation> {
    let missing = || {
        anyhow!(
            "an invitation is missing on standard input; a server that was started with --listen \
             prints the command that passes it"
        )
    };
    // A terminal's lines are too short for one.
    if io::stdin().is_terminal() {
        return Err(missing());
    }
    let mut line = Vec::new();
    let mut stdin = io::stdin().lock().take(MOST_INVITATION);
    // Byte by byte: what comes after the line is for others.
    let mut byte = [0];
    while stdin.read(&mut byte).context("standard input")? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    if line.is_empty() {
        return Err(missing());
    }
    let line = String::from_utf8_lossy(&line);
    Invitation::from_line(&line).map_err(|error| {
        anyhow!(
            "this is no invitation: {error}; pass the file `invitation` of the run's folder, as \
             the server's own line does"
        )
    })
}

/// Whether it would end the same when it was started again.
fn is_permanent(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<ProcessError>() {
        // A task that does not load, files that are not there, an invitation that makes no sense.
        None | Some(ProcessError::Panics { .. }) => true,
        Some(ProcessError::Link(link)) => !link.is_retryable(),
        Some(ProcessError::System(_) | ProcessError::Orphaned { .. }) => false,
    }
}

/// Lets a launcher know, by the exit status, whether starting this again may help.
pub(super) fn end(matches: &ArgMatches, worked: anyhow::Result<()>) -> anyhow::Result<()> {
    if let Err(error) = &worked
        && matches.get_flag("tethered")
        && is_permanent(error)
    {
        complain(format_args!("error: {}", causes(&**error)));
        std::process::exit(CANNOT_WORK);
    }
    worked
}

pub(super) fn work<T: Task>(call: &Call<'_>, invitation: &Invitation) -> anyhow::Result<()> {
    let args = WorkerArgs::from_arg_matches(call.matches)?;
    if let Some(filter) = &args.log {
        log::to_stderr(filter)?;
    }
    if args.tethered {
        thread::Builder::new().spawn(end_with_stdin)?;
    }
    if args.rehearse {
        return load::<T>(call, invitation).map(drop);
    }
    let leaving = Arc::new(AtomicBool::new(false));
    let reached = Arc::new(AtomicBool::new(false));
    let tethered = args.tethered;
    signals::set_on_signal(Arc::clone(&leaving), Arc::clone(&reached), move |status| {
        if tethered {
            // It leaves as it was told to.
            return 0;
        }
        complain("Left before it had joined");
        status
    })?;
    let endpoint = endpoint(&args, invitation)?;
    let (mut config, task) = load::<T>(call, invitation)?;
    config.settle(task.manifest())?;
    let slots = args.workers.or(invitation.slots).unwrap_or_else(cores);
    let threads = args.threads.or(config.threads);
    let threads = threads.unwrap_or_else(|| (cores() / slots).max(1));
    let sizes = memory::Sizes::of_workers(
        &config,
        &task.manifest().layout,
        task.compute_bytes(threads),
    );
    if let Some(warning) = sizes.check(slots)? {
        complain(format_args!("Warning: {warning}"));
    }
    let process = WorkerProcess {
        endpoint,
        slots,
        threads,
        seed: config.seed,
        rule: config.step_rule(),
        prefetch: config.elsewhere.prefetch,
        orphan_after: Duration::from_secs_f64(config.elsewhere.orphan_after),
        leaving,
        reached,
    };
    if args.tethered {
        return Ok(process::run(&task, &process)?);
    }
    let workers = if slots == 1 { "worker" } else { "workers" };
    let address = &process.endpoint.address;
    say(format_args!(
        "{slots} {workers} for the run at {address}; Ctrl-C leaves it"
    ));
    process::run(&task, &process)?;
    let told_to = process.leaving.load(Ordering::Relaxed);
    say(if told_to {
        "Left the run"
    } else {
        "The run is over"
    });
    Ok(())
}

/// The run's options, and the task with the files that were sent here.
fn load<T: Task>(call: &Call<'_>, invitation: &Invitation) -> anyhow::Result<(RunConfig, T)> {
    let copies = files::unpack(&invitation.files)?;
    let (config, options) = data::with_copies(copies, || options::<T>(&invitation.config))?;
    let task = T::load_elsewhere(&options, config.seed).map_err(|cause| Error::Task {
        task: call.task.to_owned(),
        cause,
    })?;
    Ok((config, task))
}

/// The way to the server: as it was typed, else a shorter one on its own machine, else as the invitation says.
/// What is wrong with it is said before anything is loaded.
fn endpoint(args: &WorkerArgs, invitation: &Invitation) -> anyhow::Result<Endpoint> {
    let mut endpoint = invitation.endpoint_here();
    if let Some(url) = &args.join {
        endpoint.address.clone_from(url);
        endpoint.identity.clone_from(&invitation.endpoint.identity);
    }
    endpoint.check()?;
    Ok(endpoint)
}

/// The launcher holds the other end: whatever becomes of it, nobody waits for us then.
fn end_with_stdin() {
    let mut rest = [0; 64];
    while io::stdin().read(&mut rest).is_ok_and(|read| read > 0) {}
    std::process::exit(0);
}

/// The run's options and the task's.
fn options<T: Task>(text: &str) -> anyhow::Result<(RunConfig, T::Options)> {
    let file = layers::parse(text, Path::new("the server's configuration"))?;
    let config = layers::merge(&layers::nothing_typed::<RunConfig>(), &file.run, None)?;
    let nothing_typed = layers::nothing_typed::<T::Options>();
    Ok((config, layers::merge(&nothing_typed, &file.options, None)?))
}
