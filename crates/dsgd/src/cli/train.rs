//! `dsgd train`: from options to a finished run.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, bail};
use clap::{ArgAction, Args, Command, FromArgMatches};

use super::layers::{self, ConfigFile};
use super::{Call, complain, say};
use crate::checkpoint;
use crate::config::RunConfig;
use crate::core::{Core, Outcome, Progress, Rules};
use crate::error::Error;
use crate::event::Event;
use crate::launch::local;
use crate::observe::{self, Verbosity};
use crate::optim::{Schedule, ScheduleOptions, Updater, Versions};
use crate::params::{Layout, Params};
use crate::run::{self, CONFIG, EVENTS, Keeper, LOG, RunFolder, SaveRequest};
use crate::server::{Letter, Server};
use crate::task::Task;

/// What concerns this call alone and is not kept in the run.
#[derive(Debug, Args)]
struct CallArgs {
    /// Read options from the config.toml of a run; typed options win
    #[arg(long, value_name = "FILE", help_heading = "Run and checkpoints")]
    config: Option<PathBuf>,
    /// Go on with a run from its last checkpoint
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "train_from", "run_dir"],
          help_heading = "Run and checkpoints")]
    resume: Option<PathBuf>,
    /// Folder of this run [default: runs/TASK-1, runs/TASK-2, …]
    #[arg(long, value_name = "DIR", help_heading = "Run and checkpoints")]
    run_dir: Option<PathBuf>,
    /// Say only what went wrong, and the end
    #[arg(long, short, help_heading = "Output")]
    quiet: bool,
    /// Say more
    #[arg(long, short, action = ArgAction::Count, conflicts_with = "quiet", help_heading = "Output")]
    verbose: u8,
}

pub(super) fn command() -> Command {
    // The structs' own comments are not the command's.
    CallArgs::augment_args(RunConfig::augment_args(Command::new("train"))).about("Train a model")
}

/// A run that is ready to start.
struct Job<T: Task> {
    name: &'static str,
    config: RunConfig,
    task: Arc<T>,
    layout: Arc<Layout>,
    folder: RunFolder,
    versions: Versions,
    progress: Progress,
    /// File name of the best checkpoint so far.
    best: Option<String>,
    resumed: bool,
}

pub(super) fn train<T: Task>(call: &Call<'_>) -> anyhow::Result<()> {
    let args = CallArgs::from_arg_matches(call.matches)?;
    let verbosity = match (args.quiet, args.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, 0) => Verbosity::Normal,
        (false, _) => Verbosity::Verbose,
    };
    let (config, options) = options::<T>(call, &args)?;
    check(&config)?;
    let seed = config.seed;
    let task = T::load(&options, seed).map_err(|source| Error::Task {
        task: call.task.to_owned(),
        source,
    })?;
    if task.batches() == 0 {
        bail!("task {}: there is no training batch in the data", call.task);
    }
    let job = prepare(call.task, config, &options, Arc::new(task), &args)?;
    run(job, verbosity)
}

/// The run's and the task's options, each from the first layer that says something.
fn options<T: Task>(call: &Call<'_>, args: &CallArgs) -> anyhow::Result<(RunConfig, T::Options)> {
    let resumed = args.resume.as_ref().map(|run| run.join(CONFIG));
    let path = args.config.clone().or(resumed).unwrap_or("options".into());
    let in_file = || path.display().to_string();
    let file = match (&args.config, &args.resume) {
        (Some(file), _) => layers::read(file)?,
        (None, Some(run)) => {
            let file = RunFolder::open(run)?.file(CONFIG);
            let typed = layers::typed::<T::Options>(call.matches);
            if let Some(option) = typed.first() {
                bail!(
                    "--{} cannot change when a run goes on; start a new run, from its weights by \
                     --train-from if you like",
                    option.replace('_', "-")
                );
            }
            layers::read(&file)?
        }
        (None, None) => ConfigFile::default(),
    };
    let options: T::Options =
        layers::merge(call.matches, &file.options, None).with_context(in_file)?;
    let defaults = T::defaults(&options);
    let defaults = std::iter::once(call.command.get_name().to_owned()).chain(defaults);
    let defaults = call.command.clone().try_get_matches_from(defaults)?;
    let config = layers::merge(call.matches, &file.run, Some(&defaults)).with_context(in_file)?;
    Ok((config, options))
}

/// What no single option's parser can see, and what parsers see of typed options only: the same
/// may stand in a file.
fn check(config: &RunConfig) -> anyhow::Result<()> {
    config.hyper.check()?;
    let least_one = [
        ("workers", config.workers),
        ("threads", config.threads.unwrap_or(1)),
        ("epochs", config.epochs as usize),
        ("start-epoch", config.start_epoch as usize),
        ("keep", config.keep),
        ("print-every", config.print_every),
    ];
    if let Some((name, _)) = least_one.iter().find(|(_, value)| *value == 0) {
        bail!("--{name} 0: must be 1 or above");
    }
    if config.epochs < config.start_epoch {
        bail!(
            "--epochs {} is before --start-epoch {}",
            config.epochs,
            config.start_epoch
        );
    }
    let year_secs = 3.2e7;
    let numbers = [
        ("learning-rate", f64::from(config.learning_rate), f64::MAX),
        ("lease-timeout", config.lease_timeout, year_secs),
        ("wait", config.wait.unwrap_or(1.0), f64::MAX),
    ];
    for (name, value, most) in numbers {
        if !value.is_finite() || value <= 0.0 || value > most {
            bail!("--{name} {value}: must be a number above 0{}", up_to(most));
        }
    }
    let numbers = [
        ("max-grad-norm", f64::from(config.max_grad_norm), f64::MAX),
        ("lr-decay", f64::from(config.lr_decay), f64::MAX),
        ("save-minutes", config.save_minutes, year_secs / 60.0),
    ];
    for (name, value, most) in numbers {
        if !value.is_finite() || value < 0.0 || value > most {
            bail!("--{name} {value}: must be 0 or above{}", up_to(most));
        }
    }
    if let Some(name) = &config.save_file
        && (name.contains(std::path::is_separator) || name.is_empty())
    {
        bail!("--save-file {name}: is the start of a file's name, not a path; see --run-dir");
    }
    if config.backup_workers >= config.workers {
        bail!(
            "--backup-workers {}: must be less than the {} workers",
            config.backup_workers,
            config.workers
        );
    }
    Ok(())
}

fn up_to(most: f64) -> String {
    match most {
        f64::MAX => String::new(),
        _ => format!(", up to {most}"),
    }
}

/// Parameters, optimizer and folder: new, or those of a run that goes on.
fn prepare<T: Task>(
    name: &'static str,
    config: RunConfig,
    options: &T::Options,
    task: Arc<T>,
    args: &CallArgs,
) -> anyhow::Result<Job<T>> {
    let layout = Arc::new(task.layout());
    let updater = Updater::new(config.optimizer, config.hyper, Arc::clone(&layout));
    let threads = threads_of_a_worker(&config);
    let updater = updater.with_threads(threads);
    let text = layers::write(name, &config, options)?;
    if let Some(run) = &args.resume {
        let folder = RunFolder::open(run)?;
        let last = run::resume(folder.path(), &layout, updater)?;
        for warning in &last.warnings {
            complain(format_args!("Warning: {warning}"));
        }
        folder.write(CONFIG, &text)?;
        return Ok(Job {
            name,
            config,
            task,
            layout,
            folder,
            versions: last.versions,
            progress: last.progress,
            best: last.best,
            resumed: true,
        });
    }
    let params = if let Some(file) = &config.train_from {
        checkpoint::load_weights(file, &layout)?.params
    } else {
        let mut params = Params::zeros(Arc::clone(&layout));
        task.init(config.seed, &mut params)
            .map_err(|source| Error::Task {
                task: name.to_owned(),
                source,
            })?;
        params
    };
    let folder = RunFolder::create(args.run_dir.as_deref(), name)?;
    folder.write(CONFIG, &text)?;
    Ok(Job {
        name,
        progress: Progress::start(config.start_epoch),
        config,
        task,
        layout,
        folder,
        versions: Versions::new(updater, params),
        best: None,
        resumed: false,
    })
}

fn run<T: Task>(job: Job<T>, verbosity: Verbosity) -> anyhow::Result<()> {
    let Job {
        name,
        config,
        task,
        layout,
        folder,
        versions,
        progress,
        best,
        resumed,
    } = job;
    let rules = Rules::new(&config, task.batches(), task.validation_batches());
    if progress.epoch > rules.epochs.1 {
        bail!(
            "{} is finished: all {} epochs are done; pass --epochs with more of them to go on",
            folder.path().display(),
            config.epochs
        );
    }
    let started = Event::RunStarted {
        task: name.to_owned(),
        parameters: layout.len(),
        workers: config.workers,
        mode: config.mode,
        about: task.describe(),
        resumed_at: resumed.then_some(progress.version),
    };
    let schedule = Schedule::new(schedule_options(&config, &rules), progress.schedule);
    let core = Core::new(rules, schedule, progress);
    let mut keeper = Keeper {
        folder: folder.path(),
        prefix: config.save_file.as_deref().unwrap_or(name),
        keep: config.keep,
        metadata: task.metadata(),
        best,
    };
    let saver = Box::new(move |request: &SaveRequest<'_>| {
        keeper.save(request).map_err(|error| error.to_string())
    });
    let mut server = Server::new(
        core,
        versions,
        config.workers,
        config.max_grad_norm,
        config.print_every,
        saver,
    );
    server.observe(observe::terminal(verbosity, config.print_every));
    server.observe(observe::json_lines(&folder.file(EVENTS)).context(EVENTS)?);
    server.observe(observe::text_log(&folder.file(LOG), config.print_every).context(LOG)?);
    server.tell(started);
    let (letters, inbox) = channel();
    on_interrupt(letters.clone());
    let threads = threads_of_a_worker(&config);
    local::start(&task, config.workers, threads, config.seed, &letters)
        .context("no thread to be had")?;
    let report = server.run(&inbox);
    close(&*task, &folder, report, verbosity)
}

/// What is said and returned at the end.
fn close<T: Task>(
    task: &T,
    folder: &RunFolder,
    report: crate::server::Report,
    verbosity: Verbosity,
) -> anyhow::Result<()> {
    let program = program();
    let next = next(&program, folder);
    if let Some(why) = report.unsaved {
        bail!("the last checkpoint could not be written: {why}");
    }
    match report.outcome {
        Outcome::Done => {
            if verbosity > Verbosity::Quiet
                && let Some(file) = run::best(folder.path())
            {
                for line in task.next_steps(&program, &shell_word(&file)) {
                    say(line);
                }
            }
            Ok(())
        }
        Outcome::Interrupted => Err(Error::Interrupted { next }.into()),
        Outcome::Failed(reason) => Err(Error::Run { reason, next }.into()),
    }
}

/// What to do with a run that is not done.
fn next(program: &str, folder: &RunFolder) -> String {
    match run::best(folder.path()) {
        Some(_) => format!(
            "Go on with: {program} train --resume {}",
            shell_word(folder.path())
        ),
        None => format!(
            "No step was made, so there is no checkpoint. Start again with: {program} train \
             --config {}",
            shell_word(&folder.file(CONFIG))
        ),
    }
}

fn schedule_options(config: &RunConfig, rules: &Rules) -> ScheduleOptions {
    let steps_per_epoch = rules.batches.div_ceil(rules.group()) as u64;
    ScheduleOptions {
        kind: config.lr_schedule,
        learning_rate: config.learning_rate,
        warmup_steps: config.warmup_steps,
        lr_decay: config.lr_decay,
        start_decay_at: config.start_decay_at,
        total_steps: steps_per_epoch * u64::from(rules.epochs.1 + 1 - rules.epochs.0),
    }
}

fn threads_of_a_worker(config: &RunConfig) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    config
        .threads
        .unwrap_or_else(|| (cores / config.workers).max(1))
}

/// The first Ctrl-C lets the run save and stop, the second one ends the process at once.
fn on_interrupt(letters: Sender<Letter>) {
    let mut asked = false;
    // A second handler in one process, as in tests that run several, is no harm.
    let _ = ctrlc::set_handler(move || {
        if asked || letters.send(Letter::Interrupt).is_err() {
            std::process::exit(super::INTERRUPTED);
        }
        asked = true;
        complain("Saving a checkpoint; once more to stop at once");
    });
}

/// How this program was called, for commands to copy.
pub(super) fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    shell_word(Path::new(&name))
}

/// A path as one word of a shell's command line.
pub(super) fn shell_word(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if path.chars().all(plain) && !path.is_empty() {
        return path.into_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}
