//! `dsgd plot`: pictures of runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::call::complain;
use dsgd_core::metric::{self, Metric};
use dsgd_observe::output::say;
use dsgd_observe::plot::{Format, Source, What, draw, metrics};

/// Folder for pictures, where nothing else is said.
const FOLDER: &str = "plots";

#[derive(Debug, Args)]
struct PlotArgs {
    /// Folders of runs; logs of lua-lua, too
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder for the pictures, or the file of a single one [default: plots in the run's folder, or beside several runs]
    #[arg(long, short, value_name = "DIR|FILE")]
    out: Option<PathBuf>,
    /// How to write them: png, svg or both
    #[arg(
        long,
        value_name = "FORMATS",
        value_delimiter = ',',
        default_value = "png,svg",
        hide_possible_values = true
    )]
    format: Vec<Format>,
    /// Which pictures: time, epochs, workers, speedup [default: all that the runs tell of]
    #[arg(
        long,
        value_name = "PICTURES",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    picture: Vec<What>,
}

pub(super) fn command() -> Command {
    PlotArgs::augment_args(Command::new("plot"))
        .about("Draw metrics, speed and staleness of runs; several in one picture")
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = PlotArgs::from_arg_matches(matches)?;
    let (mut sources, mut runs) = (Vec::new(), Vec::new());
    for run in &args.runs {
        match Source::read(run) {
            // Of `runs/*`, what can be drawn is drawn.
            Err(error) if args.runs.len() > 1 => complain(format_args!("Left out: {error}")),
            read => {
                sources.push(read?);
                runs.push(run);
            }
        }
    }
    if sources.is_empty() {
        bail!("there is nothing to draw");
    }
    distinguish(&mut sources, &runs);
    if let Some(file) = &args.out
        && let Some(format) = format_of(file)
    {
        return one(&args, &sources, file, format);
    }
    let folder = args.out.clone().unwrap_or_else(|| beside(&args.runs));
    let wanted = if args.picture.is_empty() {
        &What::ALL[..]
    } else {
        &args.picture
    };
    let metrics = metrics(&sources);
    let mut written = 0;
    for &what in wanted {
        // Of what is no curve there is one, whatever the metric.
        let number = if what.is_curve() { metrics.len() } else { 1 };
        for metric in metrics.iter().take(number) {
            written += draw_all(&args, &sources, &folder, what, metric)?;
        }
    }
    if written == 0 {
        bail!("there is nothing to draw");
    }
    Ok(())
}

/// A picture in all formats; how many files there are of it.
fn draw_all(
    args: &PlotArgs,
    sources: &[Source],
    folder: &Path,
    what: What,
    metric: &Metric,
) -> anyhow::Result<usize> {
    let stem = what.file_stem(metric);
    for &format in &args.format {
        let Some(picture) = draw(what, metric, sources, format)? else {
            complain(format_args!("No {stem}: it needs {}", what.needs()));
            return Ok(0);
        };
        write(
            &folder.join(format!("{stem}.{}", format.ending())),
            &picture,
        )?;
    }
    Ok(args.format.len())
}

/// A single picture, into that file.
fn one(args: &PlotArgs, sources: &[Source], file: &Path, format: Format) -> anyhow::Result<()> {
    let what = match args.picture[..] {
        [] => What::Time,
        [what] => what,
        _ => bail!(
            "--out {}: is one file, but --picture names several; give a folder",
            file.display()
        ),
    };
    let metrics = metrics(sources);
    let metric = metric::first(&metrics);
    match draw(what, metric, sources, format)? {
        Some(picture) => write(file, &picture),
        None => bail!("no {}: it needs {}", what.file_stem(metric), what.needs()),
    }
}

fn format_of(file: &Path) -> Option<Format> {
    let ending = file.extension()?.to_str()?;
    let formats = [Format::Png, Format::Svg];
    let found = formats.into_iter().find(|f| f.ending() == ending);
    found.filter(|_| !file.is_dir())
}

/// In the folder of a single run, else beside the first one.
fn beside(runs: &[PathBuf]) -> PathBuf {
    match runs {
        [run] if run.is_dir() => run.join(FOLDER),
        [first, ..] => first.parent().unwrap_or(Path::new("")).join(FOLDER),
        [] => FOLDER.into(),
    }
}

/// Runs of the same name are called by their paths.
fn distinguish(sources: &mut [Source], runs: &[&PathBuf]) {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for source in &*sources {
        *count.entry(source.label.clone()).or_default() += 1;
    }
    for (source, run) in sources.iter_mut().zip(runs) {
        if count[&source.label] > 1 {
            source.label = run.display().to_string();
        }
    }
}

fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    let made = folder.map_or(Ok(()), fs::create_dir_all);
    let written = made.and_then(|()| fs::write(file, bytes));
    written.with_context(|| {
        format!(
            "cannot write {}; pass an --out that you may write in",
            file.display()
        )
    })?;
    say(file.display());
    Ok(())
}
