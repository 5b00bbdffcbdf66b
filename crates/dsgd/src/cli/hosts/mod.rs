//! `dsgd hosts`: what is done on hosts before, beside and after a run.
//!
//! All hosts at once, each with the same few steps; one host's trouble is its own, and the command
//! fails in the end if any had some.

mod check;
mod files;
mod members;
mod processes;

use std::ffi::OsString;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{ArgMatches, Command, FromArgMatches, Subcommand};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::files::Payload;
use super::{complain, say};
use dsgd_engine::config::Places;
use dsgd_engine::hosts::Host;
use dsgd_engine::ssh::{Control, Options, Remote, SshError};

/// Longer than ssh waits for a host, so that ssh says what is wrong, and enough for a login on a slow
/// connection that loses much.
const LOGIN: Duration = Duration::from_secs(15);

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

fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // They wait for ssh most of the time.
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.context("no thread to be had")
}

/// Logs in at each host at once and does something there. The results are in the hosts' order.
async fn each<T, F, A>(
    args: &Places,
    control: &Arc<Control>,
    act: A,
) -> anyhow::Result<Vec<(String, Result<T, SshError>)>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, SshError>> + Send,
    A: Fn(Remote) -> F + Clone + Send + 'static,
{
    each_of(args.hosts(None)?, args.options(), control, act).await
}

/// The same at these hosts.
async fn each_of<T, F, A>(
    hosts: Vec<Host>,
    options: Options,
    control: &Arc<Control>,
    act: A,
) -> anyhow::Result<Vec<(String, Result<T, SshError>)>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, SshError>> + Send,
    A: Fn(Remote) -> F + Clone + Send + 'static,
{
    let deadline = Instant::now() + LOGIN;
    let mut tasks = JoinSet::new();
    for (number, host) in hosts.iter().cloned().enumerate() {
        let (control, options, act) = (Arc::clone(control), options.clone(), act.clone());
        tasks.spawn(async move {
            let login = Remote::connect(&host, &options, &control, deadline).await;
            let result = match login {
                Ok(remote) => act(remote).await,
                Err(error) => Err(error),
            };
            (number, result)
        });
    }
    let mut results: Vec<_> = hosts.iter().map(|_| None).collect();
    while let Some(ended) = tasks.join_next().await {
        let (number, result) = ended.context("a thread broke off")?;
        results[number] = Some(result);
    }
    let results = hosts.into_iter().zip(results.into_iter().flatten());
    Ok(results.map(|(host, result)| (host.name, result)).collect())
}

/// [`each`], waited for, with words for each host that it worked out on, if any.
fn on_each<T, F, A>(
    args: &Places,
    act: A,
    words: impl Fn(T) -> Option<String>,
) -> anyhow::Result<()>
where
    T: Send + 'static,
    F: Future<Output = Result<T, SshError>> + Send,
    A: Fn(Remote) -> F + Clone + Send + 'static,
{
    let control = Arc::new(Control::new()?);
    let results = runtime()?.block_on(each(args, &control, act))?;
    let mut failed = Failed::default();
    for (host, result) in results {
        match result {
            Ok(done) => {
                if let Some(words) = words(done) {
                    say(format_args!("{host}: {words}"));
                }
            }
            Err(error) => failed.add(&host, &error),
        }
    }
    failed.end()
}

/// Hosts on which it did not work out.
#[derive(Debug, Default)]
struct Failed(Vec<String>);

impl Failed {
    /// Says why. The words name the host.
    fn add(&mut self, host: &str, error: &SshError) {
        let words = error.to_string();
        if words.contains(host) {
            complain(words);
        } else {
            complain(format_args!("{host}: {words}"));
        }
        self.0.push(host.to_owned());
    }

    /// The end of a command.
    fn end(self) -> anyhow::Result<()> {
        if !self.0.is_empty() {
            bail!("it did not work out on {}", self.0.join(", "));
        }
        Ok(())
    }
}
