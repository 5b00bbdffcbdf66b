//! `dsgd train`: from options to a finished run.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use super::check::check;
use super::files::{self, Payload};
use super::fingerprint::fingerprint;
use super::layers::{self, ConfigFile};
use super::serve::{Form, Job, serve};
use super::{Call, complain, memory, supervise};
use crate::task::Task;
use dsgd_core::core::Progress;
use dsgd_core::params::{Layout, Params};
use dsgd_engine::Error;
use dsgd_engine::checkpoint;
use dsgd_engine::config::{LOCAL_WORKERS, RunConfig, WHERE};
use dsgd_engine::run::{self, CONFIG, RunFolder};
use dsgd_engine::store::{Updater, Versions};
use dsgd_observe::Verbosity;

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
    /// Lines only, also where a terminal could show more
    #[arg(long, help_heading = "Output")]
    plain: bool,
    /// Form of what is said on standard output: text, or json for whoever collects logs
    #[arg(
        long,
        value_name = "FORM",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        help_heading = "Output"
    )]
    log_format: LogFormat,
    /// Serve a page about the run [default address: 127.0.0.1:3743, or another port when that is taken]
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = "",
          help_heading = "Output")]
    dashboard: Option<String>,
    /// Say only what went wrong, and the end
    #[arg(long, short, help_heading = "Output")]
    quiet: bool,
    /// Go on where a killed server of this run was
    #[arg(long, hide = true)]
    restarted: bool,
    /// This is the server of a supervisor, which wants the run's folder in this file
    #[arg(long, hide = true)]
    supervised: Option<PathBuf>,
    /// Say more
    #[arg(long, short, action = ArgAction::Count, conflicts_with = "quiet", help_heading = "Output")]
    verbose: u8,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

impl CallArgs {
    fn form(&self) -> Form {
        match (self.log_format, self.plain) {
            (LogFormat::Json, _) => Form::Json,
            (LogFormat::Text, true) => Form::Plain,
            (LogFormat::Text, false) => Form::Live,
        }
    }
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
    let args = CallArgs::from_arg_matches(call.matches)?;
    let supervisor = args.supervised.as_deref().map(supervise::watch);
    let supervisor = supervisor.transpose()?;
    let verbosity = match (args.quiet, args.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, 0) => Verbosity::Normal,
        (false, _) => Verbosity::Verbose,
    };
    let (config, options) = options::<T>(call, &args)?;
    check(&config)?;
    let seed = config.seed;
    let task = T::load(&options, seed).map_err(|cause| Error::Task {
        task: call.task.to_owned(),
        cause,
    })?;
    if task.manifest().batches == 0 {
        bail!("task {}: there is no training batch in the data", call.task);
    }
    let job = prepare(call.task, config, options, Arc::new(task), &args)?;
    let folder = job.folder.clone();
    let job = Job { supervisor, ..job };
    serve(job, verbosity).inspect_err(|_| folder.abandon())
}

/// What hosts need for such a run.
pub(super) fn payload<T: Task>(call: &Call<'_>) -> anyhow::Result<Payload> {
    let args = CallArgs::from_arg_matches(call.matches)?;
    let (config, options) = options::<T>(call, &args)?;
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
    name: &'static str,
    config: RunConfig,
    options: T::Options,
    task: Arc<T>,
    args: &CallArgs,
) -> anyhow::Result<Job<T>> {
    let layout = Arc::clone(&task.manifest().layout);
    check_memory(&config, &*task, &layout)?;
    let updater = Updater::new(config.optimizer, config.hyper, Arc::clone(&layout));
    let updater = updater.with_threads(config.threads_of_the_server());
    let text = layers::write(name, &config, &options)?;
    let fingerprint = fingerprint(&*task, &options, &config)?;
    if let Some(run) = &args.resume {
        let folder = RunFolder::open(run)?;
        let last = run::resume(folder.path(), &layout, updater, &fingerprint)?;
        for warning in &last.warnings {
            complain(format_args!("Warning: {warning}"));
        }
        return Ok(Job {
            name,
            config,
            options,
            text,
            task,
            notes: Vec::new(),
            fingerprint,
            folder,
            versions: last.versions,
            progress: last.progress,
            best: last.best,
            resumed: true,
            restarted: args.restarted,
            form: args.form(),
            dashboard: args.dashboard.clone(),
            supervisor: None,
        });
    }
    let (params, notes) = weights(name, &config, &*task, &layout)?;
    let folder = match &args.run_dir {
        Some(run) if args.restarted => RunFolder::open(run)?,
        wanted => RunFolder::create(wanted.as_deref(), name)?,
    };
    Ok(Job {
        name,
        progress: Progress::start(config.start_epoch),
        config,
        options,
        text,
        task,
        notes,
        fingerprint,
        folder,
        versions: Versions::new(updater, params),
        best: None,
        resumed: false,
        restarted: args.restarted,
        form: args.form(),
        dashboard: args.dashboard.clone(),
        supervisor: None,
    })
}

/// The weights that a new run begins with, and what is to be said of them.
fn weights<T: Task>(
    name: &str,
    config: &RunConfig,
    task: &T,
    layout: &Arc<Layout>,
) -> anyhow::Result<(Params, Vec<String>)> {
    let words = match &config.train_from {
        Some(file) => {
            checkpoint::compare_words(file, &task.manifest().metadata, &task.manifest().word_rows)?
        }
        None => checkpoint::Compared::default(),
    };
    let unsaid = words.unsaid.iter().map(|name| {
        format!("{name}: the checkpoint does not say its words; rows are taken in their order")
    });
    let carried = words.other.iter().map(checkpoint::OtherWords::carried);
    let said = unsaid.chain(carried).collect();
    if let Some(file) = &config.train_from
        && words.other.is_empty()
    {
        return Ok((checkpoint::load_weights(file, layout)?.params, said));
    }
    let mut params = Params::zeros(Arc::clone(layout));
    let initial = task.init(config.seed, &mut params);
    initial.map_err(|cause| Error::Task {
        task: name.to_owned(),
        cause,
    })?;
    if let Some(file) = &config.train_from {
        checkpoint::carry_over(file, &words.other, &mut params)?;
    }
    Ok((params, said))
}

/// What this machine is to hold of the run: the server's part, and that of workers who are its threads.
fn check_memory<T: Task>(config: &RunConfig, task: &T, layout: &Layout) -> anyhow::Result<()> {
    let elsewhere = config.elsewhere.uses_ssh();
    let usual = if elsewhere { 1 } else { LOCAL_WORKERS };
    let scratch = if elsewhere {
        0
    } else {
        task.compute_bytes(config.threads_of_a_worker())
    };
    let sizes = memory::Sizes::of_server(config, layout, scratch);
    if let Some(warning) = sizes.check(config.workers.unwrap_or(usual))? {
        complain(format_args!("Warning: {warning}"));
    }
    Ok(())
}
