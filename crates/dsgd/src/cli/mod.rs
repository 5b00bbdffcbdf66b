//! The front door: a program from a list of tasks.

mod ancestor;
mod before;
mod call;
mod chaos;
mod dashboard;
mod eval;
mod files;
mod fingerprint;
mod gcloud;
mod hosts;
mod keygen;
mod layers;
mod log;
mod memory;
mod plan;
mod plot;
mod report;
mod runs;
mod serve;
mod shown;
mod signals;
mod supervise;
mod train;
mod watch;
mod worker;

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::exit;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;

use self::before::Before;
use self::call::{Call, complain};
use self::files::Payload;
use crate::task::{Task, TaskCommand};
use dsgd_core::text::causes;
use dsgd_engine::Error;
use dsgd_engine::wire::invitation::Invitation;
use dsgd_observe::output::{self, Output, Unwritten, say};

/// Exit status where nobody reads on, as shells have it of who is ended by SIGPIPE.
const READER_GONE: i32 = 128 + 13;

/// The tasks of a program. `Tasks::new().with::<Mine>("mine").main()` is a whole one.
#[derive(Default)]
pub struct Tasks {
    entries: Vec<Entry>,
    /// Whether this process is the program's own, so that it can be started again.
    is_main: bool,
}

/// What the program knows of a task.
pub(crate) struct Entry {
    name: &'static str,
    aliases: Vec<&'static str>,
    about: &'static str,
    file_ending: Option<&'static str>,
    other_options: Option<&'static str>,
    options: fn(Command) -> Command,
    /// The command, without the duty to type options that a file says.
    relaxed: fn(Command) -> Command,
    train: fn(&Call<'_>) -> anyhow::Result<()>,
    plan: fn(&Call<'_>) -> anyhow::Result<()>,
    eval: fn(&Call<'_>) -> anyhow::Result<()>,
    report: fn(&Call<'_>) -> anyhow::Result<()>,
    work: fn(&Call<'_>, &Invitation) -> anyhow::Result<()>,
    payload: fn(&Call<'_>) -> anyhow::Result<Payload>,
    commands: Vec<TaskCommand>,
}

impl Tasks {
    /// No task yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task. The first one is the default of `--task`.
    #[must_use]
    pub fn with<T: Task>(mut self, name: &'static str) -> Self {
        self.entries.push(Entry {
            name,
            aliases: Vec::new(),
            about: T::ABOUT,
            file_ending: T::FILE_ENDING,
            other_options: T::OTHER_OPTIONS,
            options: <T::Options as clap::Args>::augment_args,
            relaxed: layers::relaxed::<T::Options>,
            train: train::train::<T>,
            plan: plan::plan::<T>,
            eval: eval::eval::<T>,
            report: report::report::<T>,
            work: worker::work::<T>,
            payload: train::payload::<T>,
            commands: T::commands(),
        });
        self
    }

    /// Another name for the task that was added last.
    #[must_use]
    pub fn alias(mut self, name: &'static str) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.aliases.push(name);
        }
        self
    }

    /// Runs the program with this process's arguments, and ends the process if it fails.
    pub fn main(mut self) {
        self.is_main = true;
        let Err(error) = self.run(std::env::args_os()) else {
            return;
        };
        if let Some(Unwritten::Closed) = error.downcast_ref() {
            exit(READER_GONE);
        }
        if let Some(Error::Interrupted { next, status }) = error.downcast_ref() {
            say(next);
            exit(*status);
        }
        complain(format_args!("error: {}", causes(&*error)));
        exit(1);
    }

    /// Runs the program with these arguments, the program's own name first.
    ///
    /// # Errors
    /// What a person should read, also that standard output could not be written. Wrong usage ends the
    /// process instead.
    pub fn run(&self, args: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
        let args: Vec<OsString> = args.into_iter().collect();
        let task = self.task_of(&args)?;
        let program = args.first().map(Path::new).and_then(Path::file_stem);
        let program = program.map_or("dsgd".into(), |name| name.to_string_lossy());
        let command = self.command(task, &args).name(program.into_owned());
        let (args, notes) = ancestor::translate(&command, task.other_options, args)?;
        for note in notes {
            complain(format_args!("Note: {note}"));
        }
        let matches = match command.clone().try_get_matches_from(&args) {
            Ok(matches) => matches,
            Err(wrong) if wrong.use_stderr() => wrong.exit(),
            // Help, or the version.
            Err(asked) => {
                output::remember(asked.print());
                return Ok(output::written()?);
            }
        };
        let Some((name, matches)) = matches.subcommand() else {
            return Ok(());
        };
        let call = |matches| Call {
            task: task.name,
            command: subcommand(&command, name),
            matches,
        };
        let done = match name {
            "train" => match train::restarts(matches).filter(|_| self.is_main) {
                Some(restarts) => supervise::train(&args, restarts),
                None => (task.train)(&call(matches)),
            },
            "plan" => (task.plan)(&call(matches)),
            "eval" => (task.eval)(&call(matches)),
            "watch" => watch::run(matches),
            "dashboard" => dashboard::run(matches),
            "keygen" => keygen::run(matches),
            "plot" => plot::run(matches),
            "runs" => runs::run(matches),
            "report" => {
                let task = self.of_run(matches).unwrap_or(task);
                let call = Call {
                    task: task.name,
                    ..call(matches)
                };
                (task.report)(&call)
            }
            "chaos" => chaos::run(matches),
            "worker" => {
                let worked = worker::invitation().and_then(|invitation| {
                    let task = self.named(&invitation.task)?;
                    let call = Call {
                        task: task.name,
                        ..call(matches)
                    };
                    (task.work)(&call, &invitation)
                });
                worker::end(matches, worked)
            }
            "hosts" => {
                let payload = hosts::train_words(matches).map(|words| self.payload(words));
                match matches.subcommand_matches("gcloud") {
                    Some(matches) => gcloud::run(matches),
                    None => hosts::hosts(matches, payload.transpose()?),
                }
            }
            "completions" => {
                let shell = matches.get_one::<Shell>("shell").copied();
                let mut command = command.clone();
                let shell = shell.unwrap_or(Shell::Bash);
                let name = command.get_name().to_owned();
                clap_complete::generate(shell, &mut command, name, &mut Output);
                Ok(())
            }
            _ => self.task_command(name, matches),
        };
        done?;
        match output::written() {
            // A run's log has all.
            Err(Unwritten::Closed) if name == "train" => Ok(()),
            written => Ok(written?),
        }
    }

    /// What hosts need for a `train` with these words.
    fn payload(&self, words: Vec<OsString>) -> anyhow::Result<Payload> {
        let mut args = ["dsgd", "train"].map(OsString::from).to_vec();
        // As it was typed for `train`, with or without that word.
        args.extend(words.into_iter().skip_while(|word| word == "train"));
        let task = self.task_of(&args)?;
        let command = self.command(task, &args);
        let (args, _) = ancestor::translate(&command, task.other_options, args)?;
        let matches = command.clone().get_matches_from(args);
        let matches = matches.subcommand_matches("train");
        (task.payload)(&Call {
            task: task.name,
            command: subcommand(&command, "train"),
            matches: matches.context("train was not understood")?,
        })
    }

    fn task_command(&self, name: &str, matches: &ArgMatches) -> anyhow::Result<()> {
        let mut commands = self.entries.iter().flat_map(|entry| &entry.commands);
        let Some(command) = commands.find(|c| c.command.get_name() == name) else {
            anyhow::bail!("no command {name}");
        };
        (command.run)(matches).map_err(|error| match error.downcast_ref::<io::Error>() {
            Some(io) if io.kind() == ErrorKind::BrokenPipe => Unwritten::Closed.into(),
            _ => anyhow::anyhow!(error),
        })
    }

    /// The task that is meant, found before the arguments are parsed, because they depend on it:
    /// `--task`, else the one for which a file of its ending stands, else that of `--config` or `--resume`, or of
    /// the run that is evaluated, else the first.
    fn task_of(&self, args: &[OsString]) -> anyhow::Result<&Entry> {
        let before = Before::of(args);
        let stands_for = |entry: &&Entry| entry.file_ending.is_some_and(|end| before.has_file(end));
        let named = if let Some(task) = &before.task {
            Some(task.clone())
        } else if let Some(entry) = self.entries.iter().find(stands_for) {
            return Ok(entry);
        } else {
            let evaluated = args.get(1).is_some_and(|name| name == "eval");
            let file = before.file().filter(|path| path.is_file());
            let file = file.or_else(|| before.file_of_run().filter(|_| evaluated));
            file.map(|path| layers::task_in(&path)).transpose()?
        };
        let Some(name) = named else {
            return self
                .entries
                .first()
                .ok_or_else(|| anyhow::anyhow!("this program has no task"));
        };
        self.named(&name)
    }

    /// The task of the run that a subcommand is about.
    fn of_run(&self, matches: &ArgMatches) -> Option<&Entry> {
        let run = matches.get_one::<std::path::PathBuf>("run")?;
        let task = layers::task_in(&run.join(dsgd_engine::run::CONFIG)).ok()?;
        self.named(&task).ok()
    }

    fn named(&self, name: &str) -> anyhow::Result<&Entry> {
        let found = self
            .entries
            .iter()
            .find(|e| e.name == name || e.aliases.contains(&name));
        let names: Vec<_> = self.entries.iter().map(|e| e.name).collect();
        found.ok_or_else(|| {
            anyhow::anyhow!("no task {name:?}; this program has: {}", names.join(", "))
        })
    }

    /// The whole program's command, for these arguments: what a file says need not be typed.
    fn command(&self, task: &Entry, args: &[OsString]) -> Command {
        let reads_file = Before::of(args).file().is_some();
        let with_task = |command: Command| {
            let heading = format!("Task {} ({})", task.name, task.about);
            let heading = heading.trim_end_matches(" ()").to_owned();
            // The comment of the task's struct is not the command's.
            let about = command.get_about().cloned().unwrap_or_default();
            (task.options)(command.next_help_heading(heading)).about(about)
        };
        let names: Vec<_> = self
            .entries
            .iter()
            .flat_map(|e| std::iter::once(e.name).chain(e.aliases.iter().copied()))
            .collect();
        let which = Arg::new("task")
            .long("task")
            .alias("server-class")
            .value_name("TASK")
            .default_value(task.name)
            .value_parser(clap::builder::PossibleValuesParser::new(names))
            .hide_possible_values(self.entries.len() == 1)
            .help_heading("Training")
            .help("What to train");
        let runs = |command: Command| {
            let command = with_task(command.arg(which.clone()));
            if reads_file {
                (task.relaxed)(command)
            } else {
                command
            }
        };
        let (train, plan) = (runs(train::command()), runs(plan::command()));
        let eval = with_task(eval::command().arg(which.clone()));
        let root = Command::new("dsgd")
            .version(env!("CARGO_PKG_VERSION"))
            .about("Train your model on the machines you have")
            .help_template("{about}\n{usage-heading} {usage}\n{all-args}")
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommand(train)
            .subcommand(plan)
            .subcommand((task.relaxed)(eval))
            .subcommand(watch::command())
            .subcommand(dashboard::command())
            .subcommand(runs::command())
            .subcommand(plot::command())
            .subcommand(report::command())
            // Typed as a run's server says it.
            .subcommand(worker::command().hide(true))
            .subcommand(keygen::command())
            .subcommand(hosts::command().subcommand(gcloud::command()))
            .subcommand(chaos::command());
        let commands = || self.entries.iter().flat_map(|entry| &entry.commands);
        commands()
            .fold(root, |root, c| root.subcommand(c.command.clone()))
            .subcommand(
                Command::new("completions")
                    .about("Print a script that completes commands in your shell")
                    .arg(
                        Arg::new("shell")
                            .required(true)
                            .value_parser(clap::value_parser!(Shell))
                            .help("Which shell"),
                    ),
            )
    }
}

fn subcommand(command: &Command, name: &str) -> Command {
    command.find_subcommand(name).cloned().unwrap_or_default()
}
