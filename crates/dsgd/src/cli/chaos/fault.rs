//! What is done to a run, and to whom.
//!
//! Whom: the processes that carry the run's mark on its hosts, the ssh connections that its server
//! has made, and the process that holds its folder. Nobody else's.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::cli::layers;
use dsgd_engine::config::RunConfig;
use dsgd_engine::hosts::Host;
use dsgd_engine::run::{self, SECRETS};
use dsgd_engine::ssh::{Control, Options, Remote, SshError, masters_of};

/// For a login on a host whose workers are to be disturbed.
const LOGIN: Duration = Duration::from_secs(12);

/// The longest sleep is so much longer than it takes to be called lost.
const OVERSLEEP: u64 = 5;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FaultKind {
    /// The workers of a host are killed (SIGKILL)
    Kill,
    /// The workers of a host sleep for some seconds (SIGSTOP)
    Freeze,
    /// The connection to a host is cut
    Cut,
    /// The server is killed (SIGKILL)
    Server,
}

impl FaultKind {
    pub(super) const ALL: [Self; 4] = [Self::Kill, Self::Freeze, Self::Cut, Self::Server];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Cut => "cut",
            Self::Server => "server",
        }
    }
}

/// Something that was done to a run.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// None where it is the server's.
    pub(super) host: Option<String>,
    /// What and where, in words.
    pub(super) words: String,
    pub(super) at: Instant,
}

/// A run that is being trained.
pub(super) struct Target {
    folder: PathBuf,
    config: RunConfig,
    /// Its mark on hosts.
    mark: String,
    hosts: Vec<Host>,
    options: Options,
    runtime: Runtime,
    control: Arc<Control>,
    server_kills: Cell<u32>,
}

impl Target {
    /// The run in this folder.
    pub(super) fn of(folder: &Path) -> anyhow::Result<Self> {
        let config = layers::run_config(folder)?;
        if run::holder(folder).is_none() {
            bail!(
                "{0} is not being trained on this machine: start it (train --resume {0}), then call \
                 this in another terminal",
                folder.display()
            );
        }
        let host_options = &config.elsewhere.host_options;
        let hosts = if config.elsewhere.uses_ssh() {
            host_options.hosts_of_run(folder, config.workers)?.all()
        } else {
            Vec::new()
        };
        Ok(Self {
            folder: folder.to_owned(),
            mark: mark(folder).unwrap_or_default(),
            hosts,
            options: host_options.options(),
            config,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            control: Arc::new(Control::new()?),
            server_kills: Cell::new(0),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server's process.
    pub(super) fn server(&self) -> Option<u32> {
        run::holder(&self.folder)
    }

    /// Those of the wanted kinds, or of all, that can be done to this run now.
    pub(super) fn possible(&self, wanted: &[FaultKind]) -> anyhow::Result<Vec<FaultKind>> {
        let restarts = self.config.elsewhere.max_restarts;
        let possible = |kind: &FaultKind| match kind {
            FaultKind::Kill | FaultKind::Freeze | FaultKind::Cut => !self.hosts.is_empty(),
            // The last restart is left for what happens by itself.
            FaultKind::Server => self.server_kills.get() + 1 < restarts,
        };
        let kinds = FaultKind::ALL.iter().copied().filter(possible);
        let kinds = kinds.filter(|kind| wanted.is_empty() || wanted.contains(kind));
        let kinds: Vec<_> = kinds.collect();
        if kinds.is_empty() && self.server_kills.get() == 0 {
            bail!(
                "there is nothing to do to this run: it has no hosts, and its server is restarted \
                 {restarts} times only (--max-restarts)"
            );
        }
        Ok(kinds)
    }

    /// Does it; where, and for how long, follows from `choice`.
    pub(super) fn inject(&self, kind: FaultKind, choice: u64) -> anyhow::Result<Fault> {
        let host = || &self.hosts[choice as usize % self.hosts.len()];
        let mut at = Instant::now();
        let words = match kind {
            FaultKind::Server => self.kill_server()?,
            FaultKind::Cut => self.cut(host())?,
            FaultKind::Kill | FaultKind::Freeze => {
                self.disturb(host(), kind, choice >> 32, &mut at)
            }
        };
        let host = (kind != FaultKind::Server).then(|| host().name.clone());
        Ok(Fault {
            kind,
            host,
            words,
            at,
        })
    }

    fn kill_server(&self) -> anyhow::Result<String> {
        let Some(pid) = self.server() else {
            return Ok("the server is being restarted already".to_owned());
        };
        self.server_kills.set(self.server_kills.get() + 1);
        kill(pid).with_context(|| format!("cannot kill the server, process {pid}"))?;
        Ok(format!("the server is killed (process {pid})"))
    }

    fn cut(&self, host: &Host) -> anyhow::Result<String> {
        let name = &host.name;
        let masters = self.server().map(masters_of).unwrap_or_default();
        let Some((pid, _)) = masters.into_iter().find(|(_, of)| of == name) else {
            return Ok(format!("{name}: there is no connection to cut"));
        };
        kill(pid).with_context(|| format!("cannot kill ssh, process {pid}"))?;
        Ok(format!(
            "{name}: the connection is cut (ssh, process {pid})"
        ))
    }

    /// `at` becomes the time when it was done: logging in takes a while.
    fn disturb(&self, host: &Host, kind: FaultKind, choice: u64, at: &mut Instant) -> String {
        let most = self.config.elsewhere.dead_after as u64 + OVERSLEEP;
        let secs = 1 + choice % most;
        let done = self.runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + LOGIN;
            let login = Remote::connect(host, &self.options, &self.control, deadline);
            let remote = login.await?;
            *at = Instant::now();
            match kind {
                FaultKind::Freeze => remote.freeze(&self.mark, secs).await,
                _ => remote.kill(&self.mark).await,
            }
        });
        let name = &host.name;
        match (done, kind) {
            (Ok(0), _) => format!("{name}: no worker runs there now"),
            (Ok(_), FaultKind::Freeze) => {
                format!("{name}: its workers sleep for {secs} s (SIGSTOP)")
            }
            (Ok(_), _) => format!("{name}: its workers are killed (SIGKILL)"),
            // That is a fault, too, and not one of ours.
            (Err(error), _) => SshError::to_string(&error),
        }
    }
}

fn mark(folder: &Path) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Secrets {
        run: String,
    }
    let text = fs::read_to_string(folder.join(SECRETS)).ok()?;
    Some(serde_json::from_str::<Secrets>(&text).ok()?.run)
}

fn kill(pid: u32) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| anyhow!("no such process"))?;
    Ok(kill_process(pid, Signal::KILL)?)
}
