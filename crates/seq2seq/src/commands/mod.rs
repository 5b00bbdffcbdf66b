//! The subcommands that this task adds to the program: `translate`, `chat`, `data` and `bench`.

pub mod bench;
pub mod chat;
pub mod translate;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use dsgd::{TaskCommand, TaskResult};

use crate::data::prepare::{self, PrepareArgs};
use crate::data::show::{self, ShowArgs};
use crate::translator::{Dictionaries, MAX_BEAM, MAX_LENGTH, TranslateError, Translator};

/// Which model translates, and how thoroughly.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// A run's folder, for its best checkpoint, or a checkpoint's file
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Hypotheses that beam search keeps in each step; more are slower and seldom better
    #[arg(short = 'k', long, value_name = "K", default_value_t = 5,
          value_parser = number(MAX_BEAM))]
    pub beam_k: usize,

    /// Words of the longest translation, its end counted; of one that does not end the beginning is given
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = number(MAX_LENGTH))]
    pub max_length: usize,

    /// Dictionary of the source words [default: the words that the checkpoint carries]
    #[arg(long, value_name = "FILE")]
    pub src_dict: Option<PathBuf>,

    /// Dictionary of the target words [default: the words that the checkpoint carries]
    #[arg(long, value_name = "FILE")]
    pub targ_dict: Option<PathBuf>,
}

impl ModelArgs {
    fn open(&self, threads: usize) -> Result<Translator, TranslateError> {
        let dictionaries = Dictionaries {
            source: self.src_dict.clone(),
            target: self.targ_dict.clone(),
        };
        Translator::open(&self.model, threads, &dictionaries)
    }
}

/// All of them.
pub fn commands() -> Vec<TaskCommand> {
    let data = Command::new("data")
        .about("Prepare data for training, or show what is in a data file")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(PrepareArgs::augment_args(Command::new("prepare")))
        .subcommand(ShowArgs::augment_args(Command::new("show")));
    vec![
        TaskCommand {
            command: translate::TranslateArgs::augment_args(Command::new("translate")),
            run: |matches| {
                let args = translate::TranslateArgs::from_arg_matches(matches)?;
                quietly(translate::run(&args))
            },
        },
        TaskCommand {
            command: chat::ChatArgs::augment_args(Command::new("chat")),
            run: |matches| quietly(chat::run(&chat::ChatArgs::from_arg_matches(matches)?)),
        },
        TaskCommand {
            command: data,
            run: run_data,
        },
        TaskCommand {
            command: Command::new("bench")
                .about("Measure the speed of this machine")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(
                    bench::StepArgs::augment_args(Command::new("step"))
                        .about("One training step: gradient, clipping, update"),
                ),
            run: run_bench,
        },
    ]
}

fn run_data(matches: &ArgMatches) -> TaskResult<()> {
    let out: &mut dyn Write = &mut io::stdout().lock();
    quietly(match matches.subcommand() {
        Some(("prepare", matches)) => prepare::run(&PrepareArgs::from_arg_matches(matches)?, out),
        Some(("show", matches)) => show::run(&ShowArgs::from_arg_matches(matches)?, out),
        _ => Ok(()),
    })
}

fn run_bench(matches: &ArgMatches) -> TaskResult<()> {
    let out: &mut dyn Write = &mut io::stdout().lock();
    quietly(match matches.subcommand() {
        Some(("step", matches)) => bench::run(&bench::StepArgs::from_arg_matches(matches)?, out),
        _ => Ok(()),
    })
}

/// Whoever closes the pipe that we write to, as `head` does, has seen enough: that wants no words.
fn quietly(result: anyhow::Result<()>) -> TaskResult<()> {
    match result {
        Err(error) if is_broken_pipe(&error) => Err(io::Error::from(ErrorKind::BrokenPipe).into()),
        result => Ok(result?),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let causes = error.chain();
    let io = causes.filter_map(|cause| cause.downcast_ref::<io::Error>());
    io.map(io::Error::kind)
        .any(|kind| kind == ErrorKind::BrokenPipe)
}

/// A number from 1 to a limit, for the command line.
fn number(limit: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse() {
        Ok(number) if (1..=limit).contains(&number) => Ok(number),
        _ => Err(format!("a number from 1 to {limit} is wanted")),
    }
}
