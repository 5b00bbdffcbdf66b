//! what looking on costs a step.
//!
//! The server's own loop is run with a worker that computes nothing, in pairs: once with nobody
//! looking on, once with everybody that a run has. The difference is what a step pays for being
//! written down. It is measured twice, as time and as the processors' time, which counts the
//! observers' own threads, too.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Args;

use crate::median::median;
use dsgd_core::event::Observer;
use dsgd_core::model::{Compute, Manifest, Model, Seat};
use dsgd_core::params::{Gradient, Layout, Snapshot};
use dsgd_core::task::{Batch, Stats, TaskResult};
use dsgd_engine::config::RunConfig;
use dsgd_engine::run::{EVENTS, LOG, TENSORBOARD};
use dsgd_engine::training::Training;
use dsgd_observe::output::say;
use dsgd_observe::{detached, json_lines, tensorboard, text_log};

#[derive(Debug, Args)]
pub(crate) struct ObserveArgs {
    /// Pairs of runs
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Steps of each run
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..))]
    steps: u32,
    /// Milliseconds of the step that the cost is to be compared with: a small one
    #[arg(long, value_name = "MS", default_value_t = 10.0)]
    step_ms: f64,
}

pub(crate) fn run(args: &ObserveArgs) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("no temporary folder to be had")?;
    let mut pairs = Vec::new();
    let mut each = vec![Vec::new(); Looker::ALL.len()];
    for _ in 0..args.pairs {
        let alone = measure(args.steps, folder.path(), &[])?;
        let observed = measure(args.steps, folder.path(), &Looker::ALL)?;
        for (looker, costs) in Looker::ALL.iter().zip(&mut each) {
            let one = measure(args.steps, folder.path(), &[*looker])?;
            costs.push(one.secs - alone.secs);
        }
        pairs.push((alone, observed));
    }
    let a_step = |secs: Vec<f64>| 1e6 * median(secs) / f64::from(args.steps);
    let micros = |of: fn(&(Spent, Spent)) -> f64| a_step(pairs.iter().map(of).collect());
    let alone = micros(|(alone, _)| alone.secs);
    let observed = micros(|(_, observed)| observed.secs);
    let more = micros(|(alone, observed)| observed.secs - alone.secs);
    let more_cpu = micros(|(alone, observed)| observed.cpu_secs - alone.cpu_secs);
    say(format_args!(
        "{} pairs of {} steps, medians: {alone:.1} µs a step with no observer, {observed:.1} µs with all",
        args.pairs, args.steps
    ));
    let share = |micros: f64| micros / (1e3 * args.step_ms) * 100.0;
    say(format_args!(
        "looking on costs {more:.1} µs a step ({more_cpu:.1} µs of processor time): {:.3} % ({:.3} %) of a step \
         of {} ms",
        share(more),
        share(more_cpu),
        args.step_ms
    ));
    for (looker, costs) in Looker::ALL.iter().zip(each) {
        let micros = a_step(costs);
        say(format_args!(
            "  {:<12} alone {micros:5.1} µs",
            looker.name()
        ));
    }
    let log = std::fs::metadata(folder.path().join(EVENTS))?.len();
    // With all of them, and alone.
    let steps = 2 * u64::from(args.pairs) * u64::from(args.steps);
    say(format_args!("{} bytes of {EVENTS} a step", log / steps));
    Ok(())
}

/// Who looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looker {
    Events,
    Log,
    TensorBoard,
    Terminal,
}

impl Looker {
    const ALL: [Self; 4] = [Self::Events, Self::Log, Self::TensorBoard, Self::Terminal];

    fn name(self) -> &'static str {
        match self {
            Self::Events => EVENTS,
            Self::Log => LOG,
            Self::TensorBoard => TENSORBOARD,
            Self::Terminal => "terminal",
        }
    }

    fn observer(self, folder: &Path, config: &RunConfig) -> std::io::Result<Observer> {
        match self {
            Self::Events => json_lines(&folder.join(EVENTS)),
            Self::Log => text_log(&folder.join(LOG), config.print_every),
            Self::TensorBoard => {
                let figures = tensorboard(&folder.join(TENSORBOARD), "")?;
                detached(TENSORBOARD, figures)
            }
            // Its thread, without a terminal.
            Self::Terminal => detached("terminal", Box::new(|_| {})),
        }
    }
}

/// What a run took.
struct Spent {
    secs: f64,
    cpu_secs: f64,
}

/// A run of that many steps, looked on by these, who write into that folder.
fn measure(steps: u32, folder: &Path, lookers: &[Looker]) -> anyhow::Result<Spent> {
    let config = RunConfig {
        workers: Some(1),
        threads: Some(1),
        epochs: 1,
        ..RunConfig::default()
    };
    let layout: Layout = [("weights", [8])].into_iter().collect();
    let model = Arc::new(Nothing(Manifest::new(layout, steps as usize)));
    let mut run = Training::new(model, config.clone()).begin()?;
    let (started, cpu) = (Instant::now(), cpu_secs()?);
    for looker in lookers {
        run.observe(looker.observer(folder, &config)?);
    }
    run.run()?;
    Ok(Spent {
        secs: started.elapsed().as_secs_f64(),
        cpu_secs: cpu_secs()? - cpu,
    })
}

/// Seconds that processors have spent on this process so far.
fn cpu_secs() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name, which may hold anything, ends with the last bracket; after it the 12th and 13th.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks = fields.split_whitespace().skip(11);
    let mut next = || -> anyhow::Result<f64> {
        let field = ticks.next().ok_or_else(|| anyhow!("/proc/self/stat"))?;
        Ok(field.parse()?)
    };
    let ticks = next()? + next()?;
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// A model that costs nothing.
struct Nothing(Manifest);

impl Model for Nothing {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    fn compute(&self, _seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        Ok(Box::new(|_: Batch, _: &Snapshot, _: &mut Gradient| {
            Ok(Stats {
                units: [1600, 1600],
                ..Stats::of_examples(100.0, 64)
            })
        }))
    }
}
