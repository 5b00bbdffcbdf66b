//! what a server costs when its workers only sleep.
//!
//! For each number of workers there is a server in a process of its own, so that its processor
//! time and its memory are its own; all its workers are in another, and speak to it through a
//! socket as workers do that come through ssh.

use std::fs;
use std::io::{self, BufRead, Write};
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::load::{Sleeper, SleeperOptions};
use dsgd_core::core::{Core, Progress};
use dsgd_core::event::{Event, Record};
use dsgd_core::mode::Mode;
use dsgd_core::model::Model;
use dsgd_core::optim::Schedule;
use dsgd_core::params::Params;
use dsgd_engine::config::{RunConfig, cores};
use dsgd_engine::launch::process::{self, WorkerProcess};
use dsgd_engine::server::{Message, Server};
use dsgd_engine::store::{InMemory, Updater, Versions};
use dsgd_engine::wire::credentials::Token;
use dsgd_engine::wire::link::Endpoint;
use dsgd_engine::wire::listen::{Listener, serve};
use dsgd_engine::wire::service::{Service, Terms};
use dsgd_engine::worker::Buffers;
use dsgd_observe::output::say;

/// From when all workers are there until it is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// Ticks of processor time in a second: a constant of Linux towards its programs.
const TICKS: f64 = 100.0;

/// What to measure.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// Numbers of workers
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,8,32,64",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4096))]
    workers: Vec<usize>,
    /// Seconds for each of them
    #[arg(long, value_name = "SECS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    #[command(flatten)]
    sleeper: SleeperOptions,
    /// This process is the server
    #[arg(long, hide = true)]
    serve: bool,
    /// This process is the workers
    #[arg(long, hide = true)]
    work: bool,
}

/// What the workers' process is told.
#[derive(Serialize, Deserialize)]
struct LoadSpec {
    endpoint: Endpoint,
    slots: usize,
    sleeper: SleeperOptions,
}

pub(crate) fn run(args: &ServerArgs) -> anyhow::Result<()> {
    if args.work {
        return work();
    }
    if args.serve {
        return args.workers.iter().try_for_each(|&n| measure(n, args));
    }
    say(format_args!(
        "{} parameters, {} ms a batch, {} s each",
        args.sleeper.parameters, args.sleeper.compute_ms, args.seconds
    ));
    say("workers  updates/s  of what they ask for  cores busy  ms of a core/update  peak memory");
    for workers in &args.workers {
        let mut server = this_program()?;
        server.args(["--serve", "--workers", &workers.to_string()]);
        server.args(["--seconds", &args.seconds.to_string()]);
        server.args(["--parameters", &args.sleeper.parameters.to_string()]);
        server.args(["--compute-ms", &args.sleeper.compute_ms.to_string()]);
        if !server.status()?.success() {
            bail!("the server of {workers} workers failed");
        }
    }
    Ok(())
}

fn this_program() -> io::Result<Program> {
    let mut program = Program::new(std::env::current_exe()?);
    program.arg("server");
    Ok(program)
}

/// What the server's process has done so far.
struct Sight {
    at: Instant,
    steps: u64,
    cpu_secs: f64,
}

/// A server and its workers, for some time, and a line about it.
fn measure(workers: usize, args: &ServerArgs) -> anyhow::Result<()> {
    let (messages, inbox) = channel();
    let mut server = server(workers, &args.sleeper)?;
    let folder = tempfile::tempdir()?;
    let runtime = Runtime::new()?;
    let socket = folder.path().join("listener");
    let endpoint = Endpoint {
        address: format!("unix:{}", socket.display()),
        identity: None,
        token: Token::fresh(),
        host: "bench".to_owned(),
    };
    let service = Service::new(Terms {
        state_vectors: 0,
        token: endpoint.token.clone(),
        layout: Arc::clone(server.layout()),
        initial: None,
        dead_after: Duration::from_secs(60),
        buffers: server.buffers().clone(),
        messages: messages.clone(),
        numbers: server.numbers(),
        over: server.over(),
    });
    let context = runtime.enter();
    runtime.spawn(serve(Listener::unix(&socket)?, service)?);
    drop(context);
    let (here, steps) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let counts = (Arc::clone(&here), Arc::clone(&steps));
    server.observe(Box::new(move |record: &Record| {
        if matches!(record.event, Event::WorkerJoined { .. }) {
            counts.0.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(record.event, Event::Step(_)) {
            counts.1.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let mut process = hire(&LoadSpec {
        endpoint,
        slots: workers,
        sleeper: args.sleeper.clone(),
    })?;
    let secs = args.seconds;
    let watch = thread::spawn(move || {
        while here.load(Ordering::Relaxed) < workers {
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(WARM_UP);
        let look = || sight(&steps);
        let before = look();
        thread::sleep(Duration::from_secs(secs));
        (before, look(), stop(&messages))
    });
    server.run(&inbox);
    let Ok((before, after, ())) = watch.join() else {
        bail!("nobody watched");
    };
    process.wait()?;
    print_row(workers, args, &before?, &after?);
    Ok(())
}

fn print_row(workers: usize, args: &ServerArgs, before: &Sight, after: &Sight) {
    let secs = (after.at - before.at).as_secs_f64();
    let steps = (after.steps - before.steps) as f64;
    let cpu_secs = after.cpu_secs - before.cpu_secs;
    let asked = workers as f64 * 1e3 / args.sleeper.compute_ms as f64;
    let peak = peak_memory().map_or_else(|| "unknown".to_owned(), |mib| format!("{mib} MiB"));
    say(format_args!(
        "{workers:>7}  {:>9.1}  {:>19.2}  {:>10.2}  {:>19.2}  {peak:>11}",
        steps / secs,
        steps / secs / asked,
        cpu_secs / secs,
        cpu_secs * 1e3 / steps.max(1.0),
    ));
}

/// A server as a run has it, without a folder.
fn server(workers: usize, sleeper: &SleeperOptions) -> anyhow::Result<Server> {
    let config = RunConfig {
        mode: Some(Mode::Async),
        ..RunConfig::default()
    };
    let model = Sleeper::new(sleeper);
    let layout = Arc::clone(&model.manifest().layout);
    let mut params = Params::zeros(Arc::clone(&layout));
    let init = model.init(0, &mut params);
    init.map_err(|error| anyhow!(error))?;
    let updater = Updater::new(config.optimizer, config.hyper, layout);
    let updater = updater.with_threads(cores());
    let mut rules = config.rules(workers, model.manifest().batches, 0);
    rules.dead_after = Some(Duration::from_secs(60));
    let progress = Progress::start(1);
    let schedule = Schedule::new(config.schedule(&rules), progress.schedule);
    let buffers = Buffers::new(&model.manifest().layout, workers);
    let store = InMemory::new(Versions::new(updater, params), buffers.clone(), cores());
    Ok(Server::new(
        Core::new(rules, schedule, progress),
        Box::new(store),
        buffers,
        workers,
        config.step_of_the_server(),
        config.print_every,
        None,
    ))
}

/// Starts the workers' process.
fn hire(spec: &LoadSpec) -> anyhow::Result<Child> {
    let mut program = this_program()?;
    let mut process = program.arg("--work").stdin(Stdio::piped()).spawn()?;
    let line = serde_json::to_string(spec)?;
    let mut stdin = process.stdin.take().context("a pipe")?;
    writeln!(stdin, "{line}")?;
    Ok(process)
}

/// The workers' process.
fn work() -> anyhow::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let spec: LoadSpec = serde_json::from_str(&line)?;
    let model = Sleeper::new(&spec.sleeper);
    let process = WorkerProcess {
        seed: 0,
        endpoint: spec.endpoint,
        slots: spec.slots,
        threads: 1,
        rule: RunConfig::default().step_rule(),
        prefetch: false,
        orphan_after: Duration::from_secs(5),
        leaving: Arc::default(),
        reached: Arc::default(),
    };
    Ok(process::run(&model, &process)?)
}

fn stop(messages: &Sender<Message>) {
    // A server that has ended by itself reads no more.
    let _ = messages.send(Message::Interrupt);
}

fn sight(steps: &AtomicU64) -> anyhow::Result<Sight> {
    let stat = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    // After the program's name, which may have anything in it: state is the first field.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|t| t.parse::<f64>().ok()).sum();
    Ok(Sight {
        at: Instant::now(),
        steps: steps.load(Ordering::Relaxed),
        cpu_secs: ticks / TICKS,
    })
}

/// The most memory that this process has held, in MiB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}
