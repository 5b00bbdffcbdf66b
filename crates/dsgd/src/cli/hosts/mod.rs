//! `dsgd hosts`: what is done on hosts before, beside and after a run.
//!
//! All hosts at once, each with the same few steps; one host's trouble is its own, and the command
//! fails in the end if any had some.

mod check;
mod files;
mod processes;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{complain, say};
use crate::hosts::{self, Host};
use crate::ssh::{Binaries, Control, Options, Remote, SshError, parse_binary};

/// A little longer than ssh waits for a host, so that ssh says what is wrong.
const LOGIN: Duration = Duration::from_secs(12);

/// Which hosts, and how to log in there.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Hosts")]
pub(crate) struct HostArgs {
    /// File with a host on each line
    #[arg(long, value_name = "FILE", default_value = "client_list.txt")]
    hosts: PathBuf,
    /// Hosts instead of a file: h1,h2, or h1:4,h2:2 with room for so many workers
    #[arg(short = 'H', long, value_name = "LIST")]
    host: Vec<String>,
    /// This machine, by ssh
    #[arg(long)]
    localhost: bool,
    /// Who logs in where the list does not say
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Another ssh configuration than ~/.ssh/config
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// The program for hosts of another architecture
    #[arg(long, value_name = "ARCH=FILE", value_parser = parse_binary)]
    binary: Vec<(String, PathBuf)>,
}

impl HostArgs {
    /// The hosts that are meant: typed ones, else those of the file.
    pub(crate) fn hosts(&self) -> anyhow::Result<Vec<Host>> {
        let mut found = Vec::new();
        for list in &self.host {
            found.extend(hosts::parse_list(list).context("--host")?);
        }
        if self.localhost {
            found.extend(hosts::parse_list("localhost")?);
        }
        if self.host.is_empty() && !self.localhost {
            let file = &self.hosts;
            if !file.exists() {
                bail!(
                    "there is no {}: write a host on each line of it, or name hosts by --host h1,h2",
                    file.display()
                );
            }
            found = hosts::read_file(file)?;
        }
        if found.is_empty() {
            bail!("{} names no host", self.hosts.display());
        }
        Ok(found)
    }

    /// How to log in there.
    pub(crate) fn options(&self) -> Options {
        Options {
            username: self.username.clone(),
            config_file: self.ssh_config.clone(),
            ..Options::default()
        }
    }

    /// The program for each architecture.
    pub(crate) fn binaries(&self) -> Result<Binaries, SshError> {
        Binaries::new(self.binary.clone())
    }
}

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

pub(super) fn hosts(matches: &ArgMatches) -> anyhow::Result<()> {
    match What::from_arg_matches(matches)? {
        What::Check(args) => check::check(&args),
        What::Init(args) => files::init(&args),
        What::Run(args) => processes::run(&args),
        What::Fetch(args) => files::fetch(&args),
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
    args: &HostArgs,
    control: &Arc<Control>,
    act: A,
) -> anyhow::Result<Vec<(String, Result<T, SshError>)>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, SshError>> + Send,
    A: Fn(Remote) -> F + Clone + Send + 'static,
{
    let hosts = args.hosts()?;
    let deadline = Instant::now() + LOGIN;
    let mut tasks = JoinSet::new();
    for (number, host) in hosts.iter().cloned().enumerate() {
        let (control, options, act) = (Arc::clone(control), args.options(), act.clone());
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
    args: &HostArgs,
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
