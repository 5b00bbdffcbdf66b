//! `dsgd bench`: what this machine does in which time. A task may add measurements of its own under the
//! same name (`dsgd bench step`).

mod observe;

use clap::{ArgMatches, Command};

pub(super) fn command() -> Command {
    Command::new("bench")
        .about("Measure the speed of this machine")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(observe::command())
}

/// Does what was called, if it is one of the library's own.
pub(super) fn run(matches: &ArgMatches) -> Option<anyhow::Result<()>> {
    match matches.subcommand()? {
        ("observe", matches) => Some(observe::run(matches)),
        _ => None,
    }
}
