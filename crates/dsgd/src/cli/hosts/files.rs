//! `dsgd hosts init` and `fetch`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::exit;
use std::sync::Arc;

use clap::Args;

use super::each::{Failed, each, runtime};
use crate::cli::call::complain;
use crate::cli::files::{LEFT_ON_HOSTS, Payload};
use crate::cli::signals;
use dsgd_engine::config::HostOptions;
use dsgd_engine::ssh::{Control, Fetched, Object, Remote, TransferLog, send_all, size};
use dsgd_observe::output::say;

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    hosts: HostOptions,
    /// Data to send along
    #[arg(value_name = "FILES")]
    files: Vec<PathBuf>,
    /// Say only what went wrong
    #[arg(long, short)]
    quiet: bool,
    /// Options of `dsgd train` for a run: the files that they name are sent, too
    #[arg(last = true, value_name = "OPTIONS OF TRAIN")]
    train: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    #[command(flatten)]
    hosts: HostOptions,
    /// Files or folders there; they begin at the user's home without a slash
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Folder here; each host has a folder in it
    #[arg(long, value_name = "DIR", default_value = "fetched")]
    to: PathBuf,
}

pub(super) fn init(args: &InitArgs, payload: Option<Payload>) -> anyhow::Result<()> {
    let files: Result<Vec<_>, _> = args.files.iter().map(|file| Object::of(file)).collect();
    let (mut files, binaries) = (files?, args.hosts.binaries()?);
    files.extend(payload.into_iter().flat_map(|payload| payload.objects));
    let control = Arc::new(Control::new()?);
    let runtime = runtime()?;
    let look = |remote: Remote| async move {
        let facts = remote.facts().await?;
        Ok((remote, facts))
    };
    let looked = runtime.block_on(each(&args.hosts, &control, look))?;
    let mut failed = Failed::default();
    let mut jobs = Vec::new();
    // A program is read once, however many hosts it is for.
    let mut programs: HashMap<String, Object> = HashMap::new();
    for (host, result) in looked {
        let chosen = result.and_then(|(remote, facts)| {
            binaries.check(&host, &facts)?;
            let program = match programs.get(&facts.arch) {
                Some(program) => program.clone(),
                None => binaries.choose(&host, &facts)?,
            };
            programs.insert(facts.arch, program.clone());
            Ok((remote, program))
        });
        match chosen {
            Ok((remote, program)) => {
                let objects = std::iter::once(program).chain(files.iter().cloned());
                jobs.push((remote, objects.collect()));
            }
            Err(error) => failed.add(&host, &error),
        }
    }
    let names: Vec<_> = jobs.iter().map(|(r, _)| r.name().to_owned()).collect();
    let log = if args.quiet {
        TransferLog::Off
    } else {
        TransferLog::Stderr
    };
    signals::on_signal(|status| {
        complain(format_args!("Stopped. {LEFT_ON_HOSTS}"));
        exit(status);
    })?;
    let sent = runtime.block_on(send_all(jobs, log));
    for (host, result) in names.into_iter().zip(sent) {
        match result {
            Ok(()) if args.quiet => {}
            Ok(()) => say(format_args!("{host}: ready")),
            Err(error) => failed.add(&host, &error),
        }
    }
    failed.end()
}

pub(super) fn fetch(args: &FetchArgs) -> anyhow::Result<()> {
    let (paths, to) = (args.paths.clone(), args.to.clone());
    let act = move |remote: Remote| {
        let (paths, to) = (paths.clone(), to.clone());
        async move {
            // A name such as `user@h` is fine for a folder; one with a slash would not be.
            let into = to.join(remote.name().replace('/', "_"));
            let mut all = Fetched::default();
            for path in &paths {
                all.add(remote.fetch(path, &into).await?);
            }
            Ok((all, into))
        }
    };
    let control = Arc::new(Control::new()?);
    let mut failed = Failed::default();
    for (host, result) in runtime()?.block_on(each(&args.hosts, &control, act))? {
        match result {
            Ok((fetched, into)) => {
                let (files, links, bytes) = (fetched.files, fetched.links, size(fetched.bytes));
                let into = into.display();
                say(format_args!(
                    "{host}: {files} files and {links} links, {bytes}, in {into}"
                ));
                for what in &fetched.left_out {
                    complain(format_args!("{host}: left out {what}"));
                }
                let unnamed = fetched.missed - fetched.left_out.len();
                if unnamed > 0 {
                    complain(format_args!("{host}: left out {unnamed} more"));
                }
                if fetched.missed > 0 {
                    failed.0.push(host);
                }
            }
            Err(error) => failed.add(&host, &error),
        }
    }
    failed.end()
}
