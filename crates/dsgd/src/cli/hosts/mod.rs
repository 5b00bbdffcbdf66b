//! `dsgd hosts`: what is done on hosts before, beside and after a run.
//!
//! All hosts at once, each with the same few steps; one host's trouble is its own, and the command
//! fails in the end if any had some.

mod check;
mod each;
mod files;
mod members;
mod processes;

use std::ffi::OsString;

use clap::{ArgMatches, Command, FromArgMatches, Subcommand};

use super::files::Payload;
pub(super) use check::{look, looked_by};
pub(super) use each::{Failed, each, runtime};

#[derive(Debug, Subcommand)]
enum What {
    /// See whether each host is ready, how fast it is reached, and what to do where it is not
    Check(check::CheckArgs),
    /// Send the program, and files, ahead
    Init(files::InitArgs),
    /// Run a command on each host
    Run(processes::RunArgs),
    /// Copy files or folders from each host
    Fetch(files::FetchArgs),
    /// Let hosts take part in a run that is under way
    Add(members::AddArgs),
    /// Let hosts of a run under way go; their batches go to others
    Drop(members::DropArgs),
    /// End our processes on each host, and only ours
    Stop(processes::StopArgs),
    /// Remove what we keep on each host
    Clean(processes::CleanArgs),
}

pub(super) fn command() -> Command {
    What::augment_subcommands(Command::new("hosts"))
        .about("Look at, fill, use and clean the hosts that are reached by ssh")
        .subcommand_required(true)
        .arg_required_else_help(true)
}

/// The words of `train` for which hosts are looked at or filled, where there are any.
pub(super) fn train_words(matches: &ArgMatches) -> Option<Vec<OsString>> {
    let (_, matches) = matches.subcommand()?;
    let words = matches.try_get_many::<OsString>("train").ok()??;
    Some(words.cloned().collect())
}

pub(super) fn hosts(matches: &ArgMatches, payload: Option<Payload>) -> anyhow::Result<()> {
    match What::from_arg_matches(matches)? {
        What::Check(args) => check::check(&args, payload),
        What::Init(args) => files::init(&args, payload),
        What::Run(args) => processes::run(&args),
        What::Fetch(args) => files::fetch(&args),
        What::Add(args) => members::add(&args),
        What::Drop(args) => members::drop(&args),
        What::Stop(args) => processes::stop(&args),
        What::Clean(args) => processes::clean(&args),
    }
}
