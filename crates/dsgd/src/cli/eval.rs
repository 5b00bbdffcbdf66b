//! `dsgd eval`: loss and the task's own figures of a checkpoint.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, Command, FromArgMatches};

use super::fingerprint::fingerprint;
use super::layers;
use crate::cli::call::{Call, complain};
use crate::task::Task;
use dsgd_core::metric::Value;
use dsgd_core::model::Seat;
use dsgd_core::params::Snapshot;
use dsgd_core::task::Stats;
use dsgd_engine::Error;
use dsgd_engine::checkpoint;
use dsgd_engine::config::RunConfig;
use dsgd_engine::run::{self, CONFIG, differences};
use dsgd_observe::output::say;

#[derive(Debug, Args)]
struct EvalArgs {
    /// A run's folder, for its best checkpoint, or a checkpoint's file
    checkpoint: PathBuf,
    /// Kernel threads
    #[arg(long, value_name = "N", default_value_t = std::thread::available_parallelism().map_or(1, std::num::NonZero::get))]
    threads: usize,
}

pub(super) fn command() -> Command {
    EvalArgs::augment_args(Command::new("eval"))
        .about("Evaluate a checkpoint on the validation data")
}

pub(super) fn eval<T: Task>(call: &Call<'_>) -> anyhow::Result<()> {
    let args = EvalArgs::from_arg_matches(call.matches)?;
    let (file, run) = run::find(&args.checkpoint)?;
    // The run's own options, so that its data are found again.
    let config = run.join(CONFIG);
    let config = if config.is_file() {
        layers::read(&config)?
    } else {
        layers::ConfigFile::default()
    };
    let options: T::Options = layers::merge(call.matches, &config.options, None)?;
    let seed = config.run.get("seed").and_then(toml::Value::as_integer);
    let task = |cause| Error::Task {
        task: call.task.to_owned(),
        cause,
    };
    let seed = seed.unwrap_or(3435) as u64;
    let model = T::load(&options, seed).map_err(task)?;
    let words = checkpoint::compare_words(
        &file,
        &model.manifest().metadata,
        &model.manifest().word_rows,
    )?;
    if let Some(other) = words.other.first() {
        bail!(
            "{} was trained on other words than these data have: {other}; evaluate it on data that were prepared \
             with its own vocabularies",
            file.display()
        );
    }
    let config = RunConfig {
        seed,
        ..RunConfig::default()
    };
    let mut now = fingerprint(&model, &options, &config)?;
    let typed = layers::typed::<T::Options>(call.matches);
    now.retain(|name, _| !typed.contains(&name.trim_start_matches("--").replace('-', "_")));
    let then = run::fingerprint_of(&file).unwrap_or_default();
    for difference in differences(&then, &now) {
        complain(format_args!("Note: not as it was trained: {difference}"));
    }
    let params = checkpoint::load_weights(&file, &model.manifest().layout)?.params;
    let params = Snapshot::new(0, Arc::new(params));
    let seat = Seat {
        slot: 0,
        slots: 1,
        threads: args.threads,
    };
    let mut compute = model.compute(seat).map_err(task)?;
    let mut sum = Stats::default();
    for batch in 0..model.manifest().validation_batches {
        sum.add(&compute.evaluate(batch, &params).map_err(task)?);
    }
    drop(compute);
    say(file.display());
    say(format_args!("loss        {:.4}", sum.mean_loss()));
    let metrics = model.manifest().metrics.iter();
    // The loss stands there already, and what is of nothing is not known.
    for metric in metrics.filter(|metric| metric.value != Value::Loss) {
        let value = metric.value(&sum);
        if !value.is_nan() {
            let line = format!("{:<11} {value:.4} {}", metric.name, metric.unit);
            say(line.trim_end());
        }
    }
    for (name, value) in model.report(&params, args.threads).map_err(task)? {
        say(format_args!("{name:<11} {value}"));
    }
    Ok(())
}
