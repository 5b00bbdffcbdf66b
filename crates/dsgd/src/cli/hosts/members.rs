//! `dsgd hosts add` and `drop`: who takes part in a run that is under way.
//!
//! They change a file of the run's folder, which its server reads again and again; nobody speaks to the
//! server. Whatever can be found out before is: then nothing is changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use super::each::{Failed, each_of, runtime};
use crate::cli::layers;
use dsgd_core::event::Event;
use dsgd_engine::config::RunConfig;
use dsgd_engine::hosts::{self, Host};
use dsgd_engine::run::{self, EVENTS, HostChanges};
use dsgd_engine::ssh::{Control, Remote};
use dsgd_observe::follow::Follow;
use dsgd_observe::output::say;

/// A server that waits for a slow host may take so long to see what was changed.
const NOTICED: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The run's folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Hosts, such as h3:4,user@h4; the number is that of workers there [default: one a core; of a model in Python one a GPU, or one]
    #[arg(value_name = "LIST")]
    hosts: String,
}

#[derive(Debug, Args)]
pub(super) struct DropArgs {
    /// The run's folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Names of hosts, such as h3,h4
    #[arg(value_name = "LIST")]
    hosts: String,
}

/// A run under way on hosts.
struct UnderWay {
    folder: PathBuf,
    config: RunConfig,
    changes: HostChanges,
    hosts: Vec<Host>,
}

pub(super) fn add(args: &AddArgs) -> anyhow::Result<()> {
    let new = hosts::parse_list(&args.hosts)?;
    let _turn = HostChanges::lock(&args.run);
    let mut run = UnderWay::of(&args.run)?;
    for host in &new {
        if run.hosts.iter().any(|other| other.name == host.name) {
            bail!(
                "{0} is a host of this run already; hosts drop {1} {0} lets it go, also for \
                 another number of workers",
                host.name,
                args.run.display()
            );
        }
    }
    for host in run.connect(&new)? {
        run.changes.add(&host);
    }
    run.change(
        "taken up",
        |event| match event {
            Event::HostAdded { host, workers } if new.iter().any(|new| new.name == *host) => {
                let plural = if *workers == 1 { "" } else { "s" };
                say(format_args!(
                    "{host}: takes part, with room for {workers} worker{plural}"
                ));
                true
            }
            _ => false,
        },
        new.len(),
    )
}

pub(super) fn drop(args: &DropArgs) -> anyhow::Result<()> {
    let old = hosts::parse_list(&args.hosts)?;
    let _turn = HostChanges::lock(&args.run);
    let mut run = UnderWay::of(&args.run)?;
    for host in &old {
        if !run.hosts.iter().any(|other| other.name == host.name) {
            let names: Vec<_> = run.hosts.iter().map(|host| &host.name[..]).collect();
            bail!(
                "{} is no host of this run; its hosts are {}",
                host.name,
                names.join(", ")
            );
        }
        run.changes.drop(&host.name);
    }
    let left = |host: &&Host| old.iter().all(|old| old.name != host.name);
    if run.hosts.iter().find(left).is_none() && run.config.elsewhere.listen.is_none() {
        bail!(
            "no host would be left to train: add another one before, or stop the run by Ctrl-C \
             where it was started"
        );
    }
    run.change(
        "let go",
        |event| match event {
            Event::HostDropped { host } if old.iter().any(|old| old.name == *host) => {
                say(format_args!("{host}: has left, its batches go to others"));
                true
            }
            _ => false,
        },
        old.len(),
    )
}

impl UnderWay {
    fn of(folder: &Path) -> anyhow::Result<Self> {
        let config = layers::run_config(folder)?;
        let run = folder.display();
        if run::holder(folder).is_none() {
            bail!(
                "{run} is not under way on this machine: its hosts are those that it goes on with, \
                 such as train --resume {run} -H h1:4,h2:2"
            );
        }
        if !config.elsewhere.uses_ssh() {
            bail!(
                "{run} has no hosts: its workers are threads of its server, or join by the line that \
                 --listen prints; a run with hosts begins with train --remote, --hosts or -H"
            );
        }
        let host_options = &config.elsewhere.host_options;
        let changes = HostChanges::read(folder, &host_options.list())?;
        let hosts = changes.apply(host_options.hosts(config.workers)?)?.all();
        Ok(Self {
            folder: folder.to_owned(),
            config,
            changes,
            hosts,
        })
    }

    /// Logs in at new hosts as the run will.
    fn connect(&self, new: &[Host]) -> anyhow::Result<Vec<Host>> {
        let host_options = &self.config.elsewhere.host_options;
        let (control, binaries) = (Arc::new(Control::new()?), host_options.binaries()?);
        let act = move |remote: Remote| {
            let binaries = binaries.clone();
            async move {
                let facts = remote.facts().await?;
                binaries.check(remote.name(), &facts)?;
                Ok(())
            }
        };
        let looking = each_of(new.to_vec(), host_options.options(), &control, act);
        let mut failed = Failed::default();
        let mut reached = Vec::new();
        for (host, (name, result)) in new.iter().zip(runtime()?.block_on(looking)?) {
            match result {
                Ok(()) => reached.push(host.clone()),
                Err(error) => failed.add(&name, &error),
            }
        }
        failed.end().context("nothing was changed")?;
        Ok(reached)
    }

    /// Writes what was changed, and waits until the server has told so often of it.
    fn change(
        self,
        what: &str,
        mut is_it: impl FnMut(&Event) -> bool,
        times: usize,
    ) -> anyhow::Result<()> {
        let mut events = Follow::new(&self.folder.join(EVENTS));
        while events.next(|_| {})? {}
        self.changes.write(&self.folder)?;
        let (written, mut told) = (Instant::now(), 0);
        while told < times && written.elapsed() < NOTICED {
            while events.next(|record| told += usize::from(is_it(&record.event)))? {}
            sleep(LOOK_EVERY);
        }
        if told < times {
            let secs = NOTICED.as_secs();
            say(format_args!(
                "Noted, and not yet {what} after {secs} s: the server is busy or about to begin; \
                 its log tells of it"
            ));
        }
        Ok(())
    }
}
