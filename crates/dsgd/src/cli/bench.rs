//! `dsgd bench`: what this machine can do, measured the way that runs use it.
//!
//! `wire` moves a model's parameters and gradients through our gRPC, and the same bytes through
//! what lies below it, for there is no more to be had than that. `server` is a server whose
//! workers sleep instead of computing; `observe` is what looking on costs. Tasks add their own.

mod load;
mod observe;
mod raw;
mod server;
mod wire;

use clap::{ArgMatches, Command};

use crate::task::TaskCommand;

/// The subcommand, with what the tasks add to it.
pub(super) fn command<'a>(tasks: impl Iterator<Item = &'a TaskCommand>) -> Command {
    let own = Command::new("bench")
        .about("Measure the speed of this machine")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(wire::command())
        .subcommand(server::command())
        .subcommand(observe::command());
    let theirs = tasks.filter(|c| c.command.get_name() == "bench");
    let theirs = theirs.flat_map(|c| c.command.get_subcommands());
    theirs.fold(own, |bench, theirs| bench.subcommand(theirs.clone()))
}

/// Measures, if it is for the library to measure that.
pub(super) fn run(matches: &ArgMatches) -> Option<anyhow::Result<()>> {
    match matches.subcommand() {
        Some(("observe", matches)) => Some(observe::run(matches)),
        Some(("wire", matches)) => Some(wire::run(matches)),
        Some(("server", matches)) => Some(server::run(matches)),
        _ => None,
    }
}

/// The middle one; of an even number the upper.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
