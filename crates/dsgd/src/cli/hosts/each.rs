//! The same thing at all hosts at once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cli::call::complain;
use dsgd_engine::config::HostOptions;
use dsgd_engine::hosts::Host;
use dsgd_engine::ssh::{Control, Options, Remote, SshError};
use dsgd_observe::output::say;

/// Longer than ssh waits for a host, so that ssh says what is wrong, and enough for a login on a slow
/// connection that loses much.
const LOGIN: Duration = Duration::from_secs(15);

pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // They wait for ssh most of the time.
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.context("no thread to be had")
}

/// Logs in at each host at once and does something there. The results are in the hosts' order.
pub(crate) async fn each<T, F, A>(
    args: &HostOptions,
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
pub(super) async fn each_of<T, F, A>(
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
pub(super) fn on_each<T, F, A>(
    args: &HostOptions,
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
pub(crate) struct Failed(pub(super) Vec<String>);

impl Failed {
    /// Says why. The words name the host.
    pub(crate) fn add(&mut self, host: &str, error: &SshError) {
        let words = error.to_string();
        if words.contains(host) {
            complain(words);
        } else {
            complain(format_args!("{host}: {words}"));
        }
        self.0.push(host.to_owned());
    }

    /// The end of a command.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        if !self.0.is_empty() {
            bail!("it did not work out on {}", self.0.join(", "));
        }
        Ok(())
    }
}
