//! `dsgd plan`: what a run on hosts would be like, without training.
//!
//! It takes the options of `train`. A few batches are computed here, and bytes are sent to each host and go nowhere;
//! the rest is the arithmetic by which `--mode auto` decides.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Command;

use super::call::Call;
use super::hosts::{Failed, each, look, looked_by, runtime};
use super::train;
use crate::task::Task;
use dsgd_core::codec::Codec;
use dsgd_core::core::{Pace, Plan, Promise, most_steps};
use dsgd_core::model::{Model, Seat};
use dsgd_core::params::{Gradient, Kind, Params, Snapshot, TensorGradient};
use dsgd_core::task::{Batch, Part};
use dsgd_engine::config::PLANNED;
use dsgd_engine::hosts::spread;
use dsgd_engine::ssh::{Control, Remote};
use dsgd_engine::worker::batch_seed;
use dsgd_observe::figures::{bytes, secs, whole};
use dsgd_observe::output::say;

/// Batches that are computed, unless they take longer than that.
const BATCHES: usize = 8;
const LONGEST_SECS: f64 = 20.0;

/// Rows that are touched grow as this power of the steps, beyond those that were measured: between 0.77 and 0.83 on wmt-demo's text
/// (Heaps' law).
const HEAPS: f64 = 0.8;

pub(super) fn command() -> Command {
    train::command()
        .name("plan")
        .about("Say what a run on hosts would be like, without training: options as for train")
}

pub(super) fn plan<T: Task>(call: &Call<'_>) -> anyhow::Result<()> {
    let (mut config, options) = train::options_of::<T>(call)?;
    config.check()?;
    let host_options = config.elsewhere.host_options.clone();
    if !config.elsewhere.uses_ssh() {
        bail!("a plan is for hosts: pass --remote, --hosts FILE or -H h1,h2, as for train");
    }
    let task = train::load::<T>(call, &options, config.seed)?;
    config.settle(task.manifest())?;
    let list = host_options.hosts(config.workers)?;
    let control = Arc::new(Control::new()?);
    let deadline = looked_by();
    let looking = move |remote: Remote| async move { look(&remote, deadline).await };
    let looked = runtime()?.block_on(each(&host_options, &control, looking))?;
    let (mut ways, mut slots) = (Vec::new(), Vec::new());
    let mut failed = Failed::default();
    for ((name, looked), host) in looked.into_iter().zip(list) {
        let (facts, speed) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                failed.add(&name, &error);
                continue;
            }
        };
        let round_trip = facts.round_trip.as_secs_f64();
        say(format_args!(
            "{name}: {}/s there, round trip {:.1} ms",
            bytes(speed as u64),
            1e3 * round_trip
        ));
        slots.push(
            host.slots
                .unwrap_or_else(|| T::workers_on(facts.cores, facts.gpus)),
        );
        ways.push((speed, round_trip));
    }
    if ways.is_empty() {
        return failed.end();
    }
    let workers = spread(&slots, config.workers)?;
    let threads = config.threads.unwrap_or(1);
    let sample =
        Sample::take(&task, threads, config.seed).with_context(|| format!("task {}", call.task))?;
    let manifest = task.manifest();
    say(format_args!(
        "A batch took {} here ({} measured, --threads {threads}); hosts are supposed to be as fast. {} batches an epoch, {} \
         parameters.",
        secs(sample.batch_secs),
        sample.measured,
        whole(manifest.batches),
        whole(manifest.layout.len()),
    ));
    let all = workers.iter().sum();
    let paces = |plan: Plan| {
        let exchange = sample.exchange(plan, all);
        let each = |(&(speed, round_trip), &workers): (&(f64, f64), &usize)| Pace {
            batch_secs: sample.batch_secs,
            // All of a host's workers go through one login.
            transfer_secs: exchange * workers as f64 / speed + 2.0 * round_trip,
        };
        let each_host = ways.iter().zip(&workers);
        let each_host = each_host.flat_map(|host| vec![each(host); *host.1]);
        each_host.collect::<Vec<_>>()
    };
    let most = most_steps(manifest.batches, all);
    let codecs = config
        .elsewhere
        .codec
        .map_or(PLANNED.to_vec(), |codec| vec![codec]);
    let best = Promise::best(&codecs, most, paces);
    table((&sample, all), most, best, manifest.batches, paces);
    failed.end()
}

/// A line for each plan, the best one marked.
fn table(
    (sample, workers): (&Sample, usize),
    most: usize,
    best: Promise,
    batches: usize,
    paces: impl Fn(Plan) -> Vec<Pace>,
) {
    let plan = |steps: usize, codec, overlaps| Plan {
        steps: steps.min(most),
        codec,
        overlaps,
    };
    let mut plans = vec![
        plan(1, Codec::None, false),
        plan(1, Codec::Int8, false),
        plan(4, Codec::Int8, false),
        plan(4, Codec::Int4, false),
        plan(8, Codec::Int4, false),
        plan(most, Codec::Int4, false),
        plan(most, Codec::Int4, true),
        best.plan,
    ];
    plans.sort_by_key(|plan| (plan.overlaps, plan.steps, plan.codec.id()));
    plans.dedup();
    say("   steps  codec   an exchange          waiting   epoch     × one host's worker alone");
    for plan in plans {
        let paces = paces(plan);
        let promise = Promise::of(plan, &paces);
        let exchange = paces.iter().map(|pace| pace.transfer_secs);
        let exchange = exchange.fold(0.0, f64::max);
        let epoch = batches as f64 * sample.batch_secs / promise.speedup;
        say(format_args!(
            "{} {:>5}  {:<5} {:>8} {:>9}     {:>4.0} %  {:>8}   {:.2}{}",
            if plan == best.plan { "*" } else { " " },
            plan.steps,
            plan.codec.name(),
            bytes(sample.exchange(plan, workers) as u64),
            secs(exchange),
            100.0 * promise.waiting,
            secs(epoch),
            promise.speedup,
            if plan.overlaps {
                ", exchanging while they compute (--prefetch)"
            } else {
                ""
            },
        ));
    }
    let Plan {
        steps,
        codec,
        overlaps,
    } = best.plan;
    let prefetch = if overlaps { "--prefetch " } else { "" };
    say(format_args!(
        "* is what --mode auto, the default, would come to: --mode local {prefetch}--local-steps {steps} --codec {}",
        codec.name()
    ));
    if best.speedup < 1.0 {
        say("None of them is as fast as one worker on this machine: -n 1");
    }
}

/// What a few batches took, and touched.
struct Sample {
    batch_secs: f64,
    measured: usize,
    /// Elements of dense tensors, each by itself.
    dense: Vec<usize>,
    /// For each table: rows that the batches have touched together, all of them, and a row's elements.
    tables: Vec<(usize, usize, usize)>,
}

impl Sample {
    /// Batches from all over the data.
    fn take(model: &dyn Model, threads: usize, seed: u64) -> anyhow::Result<Self> {
        let manifest = model.manifest();
        let layout = &manifest.layout;
        let failed = |cause| anyhow::anyhow!("a batch could not be computed: {cause}");
        let mut params = Params::zeros(Arc::clone(layout));
        model.init(seed, &mut params).map_err(failed)?;
        let params = Snapshot::new(0, Arc::new(params));
        let seat = Seat {
            slot: 0,
            slots: 1,
            threads,
        };
        let mut compute = model.compute(seat).map_err(failed)?;
        let mut gradient = Gradient::new(Arc::clone(layout));
        let number = BATCHES.min(manifest.batches);
        let started = Instant::now();
        let mut times = Vec::new();
        let done = (0..number).try_for_each(|at| {
            let index = at * manifest.batches / number;
            let batch = Batch {
                index,
                epoch: 1,
                seed: batch_seed(seed, 1, index),
                part: Part::WHOLE,
            };
            let begun = Instant::now();
            if let Err(cause) = compute.gradient(batch, &params, &mut gradient) {
                return ControlFlow::Break(Err(failed(cause)));
            }
            times.push(begun.elapsed().as_secs_f64());
            if started.elapsed().as_secs_f64() < LONGEST_SECS {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(Ok(()))
            }
        });
        if let ControlFlow::Break(Err(error)) = done {
            return Err(error);
        }
        let dense = layout
            .tensors()
            .iter()
            .filter(|tensor| tensor.kind == Kind::Dense);
        let tables = layout.tensors().iter().zip(gradient.tensors());
        let tables = tables.filter_map(|(tensor, part)| match part {
            TensorGradient::Rows(rows) => Some((rows.len(), tensor.shape[0], rows.width())),
            TensorGradient::Dense(_) => None,
        });
        Ok(Self {
            batch_secs: times.iter().sum::<f64>() / times.len().max(1) as f64,
            measured: times.len(),
            dense: dense.map(|tensor| tensor.range.len()).collect(),
            tables: tables.collect(),
        })
    }

    /// Bytes of a worker's exchange: its delta, and what is new in the parameters once those of all workers are in them.
    fn exchange(&self, plan: Plan, workers: usize) -> f64 {
        let news = |steps| self.bytes(steps, plan.codec);
        news(plan.steps) + news(workers * plan.steps)
    }

    /// Bytes of what so many steps change.
    fn bytes(&self, steps: usize, codec: Codec) -> f64 {
        let dense: usize = self
            .dense
            .iter()
            .map(|&elements| codec.bytes(elements))
            .sum();
        let times = (steps as f64 / self.measured.max(1) as f64).powf(HEAPS);
        let tables = self.tables.iter().map(|&(touched, all, width)| {
            let rows = (touched as f64 * times).min(all as f64);
            rows * (size_of::<u32>() + codec.bytes(width)) as f64
        });
        dense as f64 + tables.sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_steps_touch_more_rows_and_never_more_than_there_are() {
        let sample = Sample {
            batch_secs: 1.0,
            measured: 8,
            dense: vec![1000],
            tables: vec![(80, 200, 10)],
        };
        let bytes = |steps, codec| sample.bytes(steps, codec);
        assert!((bytes(8, Codec::None) - (4000.0 + 80.0 * 44.0)).abs() < 1e-6);
        assert!((bytes(16, Codec::None) - (4000.0 + 80.0 * 2f64.powf(0.8) * 44.0)).abs() < 1e-6);
        assert!((bytes(800, Codec::None) - (4000.0 + 200.0 * 44.0)).abs() < 1e-6);
        assert!((bytes(8, Codec::Int8) - (1016.0 + 80.0 * 18.0)).abs() < 1e-6);
        let plan = Plan {
            steps: 8,
            codec: Codec::None,
            overlaps: false,
        };
        let both = bytes(8, Codec::None) + bytes(16, Codec::None);
        assert!((sample.exchange(plan, 2) - both).abs() < 1e-6);
    }
}
