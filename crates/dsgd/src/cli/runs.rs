//! `dsgd runs`: the runs of a folder in a table, or some of them side by side.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::layers;
use super::report::plain;
use crate::cli::call::complain;
use dsgd_core::metric::Metric;
use dsgd_engine::run::CONFIG;
use dsgd_observe::board::EpochRow;
use dsgd_observe::duration;
use dsgd_observe::figures::{value, whole};
use dsgd_observe::output::say;
use dsgd_observe::past::{Past, is_run};
use dsgd_observe::plot::shortened;
use dsgd_observe::report::{Table, faults, last_epoch, speed};

/// Where runs lie when nothing else is said.
const FOLDER: &str = "runs";

/// Columns of a terminal.
const WIDTH: usize = 100;

/// Letters of a name in the table of all runs.
const NAME: usize = 24;

/// A narrower column shows no value.
const LEAST_COLUMN: usize = 12;

#[derive(Debug, Args)]
struct RunsArgs {
    /// A folder of runs, to list them [default: runs], or runs, to compare them
    #[arg(value_name = "FOLDER|RUN")]
    paths: Vec<PathBuf>,
}

pub(super) fn command() -> Command {
    RunsArgs::augment_args(Command::new("runs"))
        .about("List the runs of a folder, or compare some of them")
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = RunsArgs::from_arg_matches(matches)?;
    match &args.paths[..] {
        [] => list(Path::new(FOLDER)),
        [folder] if !is_run(folder) => list(folder),
        runs => {
            let read = runs.iter().map(|run| Past::read(run));
            compare(&read.collect::<Result<Vec<_>, _>>()?);
            Ok(())
        }
    }
}

fn list(folder: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| {
        let folder = folder.display();
        format!("cannot read {folder}; give a folder with runs in it, or runs")
    })?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<_> = paths.filter(|path| is_run(path)).collect();
    paths.sort_by_cached_key(|path| natural(&path.to_string_lossy()));
    let mut runs = Vec::new();
    for path in paths {
        match Past::read(&path) {
            Ok(past) => runs.push(past),
            Err(error) => complain(format_args!("Left out: {error}")),
        }
    }
    if runs.is_empty() {
        bail!(
            "{} holds no run; the folder of a run has a {CONFIG}",
            folder.display()
        );
    }
    let common = common_metric(&runs);
    let best = match common {
        Some(metric) => format!("best {}", metric.short()),
        None => "best".to_owned(),
    };
    let mut table = Table::new(&[
        "run", "task", "state", "epochs", "steps", &best, "speed", "workers", "time", "faults",
    ]);
    for past in &runs {
        table.row(row(past, common.is_none()));
    }
    table.plain().iter().for_each(say);
    Ok(())
}

/// What all of them are judged by, if it is the same.
fn common_metric(runs: &[Past]) -> Option<&Metric> {
    let mut metrics = runs.iter().map(|past| past.board.metric());
    let first = metrics.next()?;
    metrics.all(|metric| metric == first).then_some(first)
}

/// A run's line; it says what the run is judged by where that is not the same for all.
fn row(past: &Past, named: bool) -> [String; 10] {
    let board = &past.board;
    let mut best = best(past);
    if named && !best.is_empty() {
        best = format!("{} {best}", board.metric().short());
    }
    [
        shortened(&past.name(), NAME),
        shortened(&board.task, 10),
        shortened(&past.state.to_string(), 11),
        format!("{}/{}", last_epoch(board), board.epochs),
        whole(board.steps),
        best,
        short_speed(past),
        workers(past),
        duration(board.secs),
        whole(faults(board)),
    ]
}

/// `12,345 tokens/s` as `12,345 t/s`.
fn short_speed(past: &Past) -> String {
    let speed = speed(&past.board).unwrap_or_default();
    speed
        .replace("tokens/s", "t/s")
        .replace("examples/s", "ex/s")
}

fn best(past: &Past) -> String {
    let best = past.board.best;
    best.map_or_else(String::new, |row| figure(past, &row))
}

/// The metric of validation, or of training, which is said.
fn figure(past: &Past, row: &EpochRow) -> String {
    let metric = past.board.metric();
    let figure = value(metric, row.value(metric));
    match row.validation {
        Some(_) => figure,
        None => format!("{figure} (train)"),
    }
}

fn workers(past: &Past) -> String {
    let mode = format!("{:?}", past.board.mode).to_lowercase();
    format!("{} {mode}", past.board.workers_had())
}

/// Runs beside each other, as many as fit.
fn compare(runs: &[Past]) {
    let settings: Vec<_> = runs.iter().map(|past| settings(&past.folder)).collect();
    let names: BTreeSet<&String> = settings.iter().flatten().map(|(name, _)| name).collect();
    let value = |of: &[(String, String)], name: &str| {
        let found = of.iter().find(|(other, _)| other == name);
        found.map_or_else(|| "–".to_owned(), |(_, value)| value.clone())
    };
    let differing = names.into_iter().filter(|name| {
        let mut values = settings.iter().map(|of| value(of, name));
        let first = values.next();
        values.any(|value| Some(value) != first)
    });
    let differing: Vec<_> = differing.collect();
    let common = common_metric(runs);
    let rows: Vec<_> = ROWS.iter().filter_map(|row| named(row, common)).collect();
    let figures = rows.iter().map(|(name, _)| name.len());
    let first = figures.chain(differing.iter().map(|name| name.len())).max();
    let first = first.unwrap_or(0);
    let room = WIDTH - first;
    let at_once = (room / (LEAST_COLUMN + 2)).clamp(1, runs.len().max(1));
    let width = (room / at_once - 2).min(36);
    for (runs, settings) in runs.chunks(at_once).zip(settings.chunks(at_once)) {
        let mut table = Table {
            words: true,
            ..Table::default()
        };
        table.head.push("run".to_owned());
        let heads = runs.iter().map(|past| shortened(&past.name(), width));
        table.head.extend(heads);
        for (name, figure) in &rows {
            let figures = runs.iter().map(|past| shortened(&figure(past), width));
            table.row(std::iter::once(name.clone()).chain(figures));
        }
        for name in &differing {
            let values = settings.iter().map(|of| shortened(&value(of, name), width));
            table.row(std::iter::once((*name).clone()).chain(values));
        }
        table.plain().iter().for_each(say);
        say("");
    }
    if runs.len() > 1 {
        say(match differing.len() {
            0 => "Their options are the same.".to_owned(),
            number => format!("The last {number} lines are the options that differ."),
        });
    }
}

/// A figure of a run.
type Figure = fn(&Past) -> String;

/// A row and its name; what the runs are judged by has one of its own where it is not the same for all.
fn named((name, figure): &(&str, Figure), common: Option<&Metric>) -> Option<(String, Figure)> {
    let name = match (common, *name) {
        (Some(_), "metric") => return None,
        (Some(metric), name) => name.replace("METRIC", &metric.name),
        (None, name) => name.trim_end_matches(" METRIC").to_owned(),
    };
    Some((name, *figure))
}

/// What is compared.
const ROWS: [(&str, Figure); 14] = [
    ("task", |past| past.board.task.clone()),
    ("state", |past| past.state.to_string()),
    ("epochs", |past| {
        format!("{} of {}", last_epoch(&past.board), past.board.epochs)
    }),
    ("steps", |past| whole(past.board.steps)),
    ("metric", |past| past.board.metric().name.clone()),
    ("best METRIC", best),
    ("last METRIC", |past| {
        let last = past.board.done.last();
        last.map_or_else(String::new, |row| figure(past, row))
    }),
    ("last train METRIC", |past| {
        let metric = past.board.metric();
        let last = past.board.done.last();
        last.map_or_else(String::new, |row| value(metric, metric.value(&row.train)))
    }),
    ("speed", short_speed),
    ("workers", workers),
    ("mean staleness", |past| {
        format!("{:.2}", past.board.totals.mean_staleness())
    }),
    ("waiting", |past| {
        let [.., waiting] = past.board.totals.shares();
        format!("{:.1} %", 100.0 * waiting)
    }),
    ("time of training", |past| duration(past.board.secs)),
    ("faults", |past| whole(faults(&past.board))),
];

/// Everything in a run's `config.toml`, as options are typed.
fn settings(folder: &Path) -> Vec<(String, String)> {
    let file = layers::read(&folder.join(CONFIG)).unwrap_or_default();
    let all = file.run.iter().chain(&file.options);
    let typed = |(name, value): (&String, &toml::Value)| {
        (format!("--{}", name.replace('_', "-")), plain(value))
    };
    all.map(typed).collect()
}

/// A key by which `run-10` comes after `run-9`.
fn natural(name: &str) -> Vec<(bool, u64, String)> {
    let mut parts: Vec<(bool, u64, String)> = Vec::new();
    for c in name.chars() {
        let digit = c.is_ascii_digit();
        match parts.last_mut() {
            Some((is_number, _, text)) if *is_number == digit => text.push(c),
            _ => parts.push((digit, 0, c.to_string())),
        }
    }
    for (is_number, number, text) in &mut parts {
        if *is_number {
            *number = text.parse().unwrap_or(u64::MAX);
        }
    }
    parts
}
