//! `dsgd hosts run`, `stop` and `clean`.

use clap::Args;

use super::each::on_each;
use crate::cli::call::complain;
use dsgd_engine::config::HostOptions;
use dsgd_engine::ssh::{Ended, Remote, SshError, Stopped, Stream, shell_words, size};
use dsgd_observe::output;
use dsgd_observe::output::say;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    hosts: HostOptions,
    /// A command and its words, or one line of shell in quotes
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    #[command(flatten)]
    hosts: HostOptions,
    /// Only those of this run
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct CleanArgs {
    #[command(flatten)]
    hosts: HostOptions,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let command = match &args.command[..] {
        [line] => line.clone(),
        words => shell_words(words),
    };
    let act = move |remote: Remote| run_on(remote, command.clone());
    // What it wrote was shown already.
    on_each(&args.hosts, act, |()| None)
}

async fn run_on(remote: Remote, command: String) -> Result<(), SshError> {
    let mut running = remote.run(&command).await?;
    let name = remote.name();
    while let Some((stream, line)) = running.line().await {
        match stream {
            Stream::Out => say(format_args!("{name}: {line}")),
            Stream::Err => complain(format_args!("{name}: {line}")),
        }
        if output::written().is_err() {
            // Nobody is there for whom it runs.
            return Ok(());
        }
    }
    let said = match running.wait().await {
        Ended::Status(0) => return Ok(()),
        Ended::Status(status) => format!("exit status {status}"),
        Ended::Killed => "ended by a signal".to_owned(),
        Ended::Lost(error) => return Err(error),
    };
    Err(SshError::Command {
        host: name.to_owned(),
        what: "the command",
        said,
    })
}

pub(super) fn stop(args: &StopArgs) -> anyhow::Result<()> {
    let run = args.run.clone();
    let act = move |remote: Remote| {
        let run = run.clone();
        async move { remote.stop(run.as_deref()).await }
    };
    on_each(&args.hosts, act, |stopped: Stopped| {
        Some(match stopped {
            Stopped { ended: 0, .. } => "nothing of ours ran there".to_owned(),
            Stopped { ended, killed: 0 } => format!("{ended} ended"),
            Stopped { ended, killed } => format!("{ended} ended, {killed} of them by force"),
        })
    })
}

pub(super) fn clean(args: &CleanArgs) -> anyhow::Result<()> {
    let act = |remote: Remote| async move { remote.clean().await };
    on_each(&args.hosts, act, |bytes| {
        Some(format!("{} freed", size(bytes)))
    })
}
