//! `dsgd train`: from options to a finished run.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::call::{Call, complain};
use super::files::{self, Payload};
use super::fingerprint::fingerprint;
use super::layers::{self, ConfigFile};
use super::memory;
use super::serve::{ReadyRun, serve};
use super::shown::Shown;
use super::supervise::Supervisor;
use crate::task::Task;
use dsgd_engine::Error;
use dsgd_engine::config::{LOCAL_WORKERS, RunConfig, WHERE};
use dsgd_engine::run::{CONFIG, RunFolder};
use dsgd_engine::training::Start;

/// What concerns this call alone and is not kept in the run.
#[derive(Debug, Args)]
struct CallArgs {
    /// Read options from the config.toml of a run; typed options win
    #[arg(long, value_name = "FILE", help_heading = "Run and checkpoints")]
    config: Option<PathBuf>,
    /// Take back what the file of --config or --resume says of this option, such as hosts; may be repeated
    #[arg(
        long,
        value_name = "OPTION",
        value_delimiter = ',',
        help_heading = "Run and checkpoints"
    )]
    default: Vec<String>,
    /// Go on with a run from its last checkpoint
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "train_from", "run_dir"],
          help_heading = "Run and checkpoints")]
    resume: Option<PathBuf>,
    /// Folder of this run [default: runs/TASK-1, runs/TASK-2, …]
    #[arg(long, value_name = "DIR", help_heading = "Run and checkpoints")]
    run_dir: Option<PathBuf>,
    #[command(flatten)]
    shown: Shown,
    /// Go on where a killed server of this run was
    #[arg(long, hide = true)]
    restarted: bool,
    /// This is the server of a supervisor, which wants the run's folder in this file
    #[arg(long, hide = true)]
    supervised: Option<PathBuf>,
}

pub(super) fn command() -> Command {
    // The structs' own comments are not the command's.
    CallArgs::augment_args(RunConfig::augment_args(Command::new("train"))).about("Train a model")
}

/// How often the server is to be restarted, if this process is not it.
pub(super) fn restarts(matches: &ArgMatches) -> Option<u32> {
    let is_server = matches.get_one::<PathBuf>("supervised").is_some();
    let restarts = matches.get_one::<u32>("max_restarts").copied();
    restarts.filter(|&restarts| restarts > 0 && !is_server)
}

pub(super) fn train<T: Task>(call: &Call<'_>) -> anyhow::Result<()> {
    let mut args = CallArgs::from_arg_matches(call.matches)?;
    let supervisor = args.supervised.as_deref().map(Supervisor::watch);
    let supervisor = supervisor.transpose()?;
    if let Some(supervisor) = supervisor.as_ref().filter(|_| args.restarted) {
        args.shown = supervisor.shown_before()?;
    }
    let (config, options) = options::<T>(call, &args)?;
    config.check()?;
    let task = load::<T>(call, &options, config.seed)?;
    let ready = prepare(
        call.task,
        config,
        &options,
        Arc::new(task),
        args,
        supervisor,
    )?;
    let folder = ready.folder.clone();
    serve(ready).inspect_err(|_| folder.abandon())
}

/// The task, which has something to train on.
pub(super) fn load<T: Task>(call: &Call<'_>, options: &T::Options, seed: u64) -> anyhow::Result<T> {
    let task = T::load(options, seed).map_err(|cause| Error::Task {
        task: call.task.to_owned(),
        cause,
    })?;
    if task.manifest().batches == 0 {
        bail!("task {}: there is no training batch in the data", call.task);
    }
    Ok(task)
}

/// The options of such a run.
pub(super) fn options_of<T: Task>(call: &Call<'_>) -> anyhow::Result<(RunConfig, T::Options)> {
    options::<T>(call, &CallArgs::from_arg_matches(call.matches)?)
}

/// The options for workers elsewhere.
pub(super) fn elsewhere<T: Task>(
    name: &str,
    task: &T,
    options: &T::Options,
) -> anyhow::Result<T::Options> {
    let completed = task.options_elsewhere(options);
    Ok(completed.map_err(|cause| Error::Task {
        task: name.to_owned(),
        cause,
    })?)
}

/// What hosts need for such a run.
pub(super) fn payload<T: Task>(call: &Call<'_>) -> anyhow::Result<Payload> {
    let (config, options) = options_of::<T>(call)?;
    let task = load::<T>(call, &options, config.seed)?;
    let options = elsewhere(call.task, &task, &options)?;
    let (files, objects) = files::pack::<T>(&options)?;
    Ok(Payload {
        task: call.task,
        config: layers::write(call.task, &config, &options)?,
        files,
        objects,
    })
}

/// The run's and the task's options, each from the first layer that says something.
fn options<T: Task>(call: &Call<'_>, args: &CallArgs) -> anyhow::Result<(RunConfig, T::Options)> {
    let resumed = args.resume.as_ref().map(|run| run.join(CONFIG));
    let path = args.config.clone().or(resumed).unwrap_or("options".into());
    let in_file = || path.display().to_string();
    let mut file = match (&args.config, &args.resume) {
        (Some(file), _) => layers::read(file)?,
        (None, Some(run)) => {
            let file = RunFolder::open(run)?.file(CONFIG);
            let typed = layers::typed::<T::Options>(call.matches);
            let back = args.default.iter();
            let mut back = back.filter_map(|name| layers::id_of::<T::Options>(name));
            if let Some(option) = typed.into_iter().next().or_else(|| back.next()) {
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
    take_back::<T>(call, args, &mut file)?;
    let options: T::Options =
        layers::merge(call.matches, &file.options, None).with_context(in_file)?;
    let defaults = T::defaults(&options);
    let defaults = std::iter::once(call.command.get_name().to_owned()).chain(defaults);
    let defaults =
        layers::relaxed::<T::Options>(call.command.clone()).try_get_matches_from(defaults)?;
    let config = layers::merge(call.matches, &file.run, Some(&defaults)).with_context(in_file)?;
    Ok((config, options))
}

/// Takes out of the file what is taken back by name, and what another typed option answers anew: where
/// workers are is one question, whichever of its options was the answer.
fn take_back<T: Task>(
    call: &Call<'_>,
    args: &CallArgs,
    file: &mut ConfigFile,
) -> anyhow::Result<()> {
    for name in &args.default {
        let (table, id) = match layers::id_of::<RunConfig>(name) {
            Some(id) => (&mut file.run, id),
            None => match layers::id_of::<T::Options>(name) {
                Some(id) => (&mut file.options, id),
                None => bail!("--default {name}: there is no option --{name}"),
            },
        };
        if layers::is_typed(call.matches, &id) {
            bail!("--default {name}: --{name} is typed as well; leave one of them out");
        }
        table.remove(&id);
    }
    let typed = |id: &&str| layers::is_typed(call.matches, id);
    if WHERE.iter().any(typed) {
        file.run.retain(|id, _| !WHERE.contains(&id));
    }
    Ok(())
}

/// Parameters, optimizer and folder: new, or those of a run that goes on.
fn prepare<T: Task>(
    task_name: &'static str,
    mut config: RunConfig,
    options: &T::Options,
    task: Arc<T>,
    args: CallArgs,
    supervisor: Option<Supervisor>,
) -> anyhow::Result<ReadyRun<T>> {
    let (text, as_written) = (layers::write(task_name, &config, options)?, config.clone());
    if let Some(note) = config.settle(task.manifest())? {
        complain(format_args!("Note: {note}"));
    }
    check_memory(&config, &*task)?;
    let fingerprint = fingerprint(&*task, options, &config)?;
    let resumed = args.resume.as_deref().map(RunFolder::open).transpose()?;
    let name = task.run_name().unwrap_or(task_name);
    let start = match &resumed {
        Some(folder) => {
            let (start, warnings) = Start::resume(folder, &*task, &config, &fingerprint)?;
            for warning in warnings {
                complain(format_args!("Warning: {warning}"));
            }
            start
        }
        None => Start::new(name, &*task, &config)?,
    };
    let elsewhere = if config.elsewhere.uses_ssh() || config.elsewhere.listen.is_some() {
        let options = elsewhere(task_name, &*task, options)?;
        let text = layers::write(task_name, &as_written, &options)?;
        Some((options, text))
    } else {
        None
    };
    let folder = match (resumed, &args.run_dir) {
        (Some(folder), _) => folder,
        (None, Some(run)) if args.restarted => RunFolder::open(run)?,
        (None, wanted) => RunFolder::create(wanted.as_deref(), name)?,
    };
    Ok(ReadyRun {
        task_name,
        config,
        elsewhere,
        text,
        task,
        folder,
        start,
        fingerprint,
        restarted: args.restarted,
        shown: args.shown,
        supervisor,
    })
}

/// What this machine is to hold of the run: the server's part, and that of workers who are its threads.
fn check_memory<T: Task>(config: &RunConfig, task: &T) -> anyhow::Result<()> {
    let elsewhere = config.elsewhere.uses_ssh();
    let usual = if elsewhere { 1 } else { LOCAL_WORKERS };
    let scratch = if elsewhere {
        0
    } else {
        task.compute_bytes(config.threads_of_a_worker())
    };
    let sizes = memory::Sizes::of_server(config, &task.manifest().layout, scratch);
    if let Some(warning) = sizes.check(config.workers.unwrap_or(usual))? {
        complain(format_args!("Warning: {warning}"));
    }
    Ok(())
}
