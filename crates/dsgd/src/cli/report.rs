//! The report of a run: written when it ends, and again by `dsgd report`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command, FromArgMatches};
use serde_json::Value;
use toml::Table;

use super::layers;
use crate::cli::call::{Call, complain, program};
use crate::task::Task;
use dsgd_core::text::shell_word;
use dsgd_engine::Error;
use dsgd_engine::config::RunConfig;
use dsgd_engine::run::{self, CONFIG, RunFolder};
use dsgd_observe::output::say;
use dsgd_observe::past::Past;
use dsgd_observe::report::Facts;

/// Files of a report in a run's folder.
const FILES: [&str; 2] = ["report.md", "report.html"];

#[derive(Debug, Args)]
struct ReportArgs {
    /// Folder of a run: one that is going on, too
    run: PathBuf,
}

pub(super) fn command() -> Command {
    ReportArgs::augment_args(Command::new("report"))
        .about("Write report.md and report.html of a run: results, curves, hosts, faults")
}

/// `dsgd report RUN`.
pub(super) fn report<T: Task>(call: &Call<'_>) -> anyhow::Result<()> {
    let args = ReportArgs::from_arg_matches(call.matches)?;
    let past = Past::read(&args.run)?;
    // Without its data there are fewer commands to propose.
    let config = layers::read(&args.run.join(CONFIG)).unwrap_or_default();
    let options: Option<T::Options> = layers::of_file(&config.options);
    let seed = config.run.get("seed").and_then(toml::Value::as_integer);
    let task = options.and_then(|options| T::load(&options, seed.unwrap_or(0) as u64).ok());
    let facts = facts::<T>(&past, task.as_ref());
    for line in facts.short() {
        say(line);
    }
    for file in write(&args.run, &facts)? {
        say(file.display());
    }
    Ok(())
}

/// The report at the end of a run; trouble with it is a warning.
pub(super) fn at_the_end<T: Task>(task: &T, folder: &RunFolder, quiet: bool) {
    let past = match Past::read(folder.path()) {
        Ok(past) => past,
        Err(error) => return complain(format_args!("Warning: there is no report: {error}")),
    };
    let facts = facts(&past, Some(task));
    let written = write(folder.path(), &facts);
    if !quiet {
        facts.short().iter().for_each(say);
        if written.is_ok() {
            let [_, page] = FILES;
            say(format_args!("Report: {}", folder.file(page).display()));
        }
    }
    if let Err(error) = written {
        complain(format_args!("Warning: {error}"));
    }
}

fn write(folder: &Path, facts: &Facts<'_>) -> Result<[PathBuf; 2], Error> {
    let files = FILES.map(|name| folder.join(name));
    let texts = [facts.markdown(), facts.html()];
    for (file, text) in files.iter().zip(texts) {
        fs::write(file, text).map_err(|source| Error::File {
            what: "cannot write",
            path: file.clone(),
            cause: source,
            hint: "free space, or write it later by dsgd report",
        })?;
    }
    Ok(files)
}

fn facts<'a, T: Task>(past: &'a Past, task: Option<&T>) -> Facts<'a> {
    Facts {
        past,
        options: changed::<T>(&past.folder).unwrap_or_default(),
        commands: commands(past, task),
    }
}

/// Options of the run that are not what they would be if nothing were said.
fn changed<T: Task>(folder: &Path) -> Option<Vec<(String, String)>> {
    let file = layers::read(&folder.join(CONFIG)).ok()?;
    let options: T::Options = layers::of_file(&file.options)?;
    let words = T::defaults(&options);
    let usual_run = serde_json::to_value(layers::untyped::<RunConfig>(words)?).ok()?;
    let usual_options = layers::untyped::<T::Options>(Vec::new());
    let usual_options = serde_json::to_value(usual_options).ok()?;
    let mut changed = Vec::new();
    for (table, usual) in [(&file.run, usual_run), (&file.options, usual_options)] {
        changed.extend(differences(table, &usual));
    }
    Some(changed)
}

fn differences<'a>(
    table: &'a Table,
    usual: &'a Value,
) -> impl Iterator<Item = (String, String)> + 'a {
    let differ = |name: &str, value: &toml::Value| {
        let usual = usual.get(name).unwrap_or(&Value::Null);
        match (value.as_float(), usual.as_f64()) {
            // What was a single-precision number is written with as many digits in both.
            (Some(a), Some(b)) => (a - b).abs() > 1e-6 * a.abs().max(b.abs()),
            _ => serde_json::to_value(value).ok().as_ref() != Some(usual),
        }
    };
    let changed = table
        .iter()
        .filter(move |(name, value)| differ(name, value));
    changed.map(|(name, value)| (format!("--{}", name.replace('_', "-")), plain(value)))
}

/// A value as one types it.
pub(super) fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What can be done with the run.
fn commands<T: Task>(past: &Past, task: Option<&T>) -> Vec<String> {
    let (program, folder) = (program(), shell_word(&past.folder));
    let mut commands = Vec::new();
    if let Some(best) = run::best(&past.folder) {
        let best = shell_word(&best);
        let own = task.map(|task| task.next_steps(&program, &best));
        let own = own.unwrap_or_default();
        if !own.iter().any(|line| line.contains(" eval ")) {
            commands.push(format!("{program} eval {folder}"));
        }
        commands.extend(own);
        let board = &past.board;
        let done = board
            .done
            .last()
            .is_some_and(|row| row.epoch >= board.epochs);
        let more = if done {
            format!(" --epochs {}", u64::from(board.epochs) + 10)
        } else {
            String::new()
        };
        commands.push(format!("{program} train --resume {folder}{more}"));
    }
    commands.push(format!("{program} train --config {folder}/{CONFIG}"));
    commands.push(format!("{program} plot {folder}"));
    if past.folder.join(run::TENSORBOARD).is_dir() {
        commands.push(format!(
            "tensorboard --logdir {folder}/{}",
            run::TENSORBOARD
        ));
    }
    commands
}
