//! A run from its first worker to its last word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use super::call::{complain, program, program_from_anywhere};
use super::log::Log;
use super::shown::{Form, Shown};
use super::supervise::{GONE, Supervisor};
use super::{dashboard, files, signals};
use crate::task::Task;
use dsgd_core::core::End;
use dsgd_core::event::Observer;
use dsgd_core::text::shell_word;
use dsgd_engine::Error;
use dsgd_engine::config::{LOCAL_WORKERS, RunConfig};
use dsgd_engine::launch::{Entrance, EntranceOptions, Joined, Local, Remote, RemoteOptions};
use dsgd_engine::run::{self, CONFIG, EVENTS, Fingerprint, HOST_LOGS, LOG, RunFolder, TENSORBOARD};
use dsgd_engine::ssh::TransferLog;
use dsgd_engine::training::{Finished, Start, Stopper, Training};
use dsgd_observe::Verbosity;
use dsgd_observe::output::say;

/// A run that is ready to start.
pub(super) struct ReadyRun<T: Task> {
    pub(super) task_name: &'static str,
    pub(super) config: RunConfig,
    /// Options and `config.toml` for workers elsewhere, where there are any.
    pub(super) elsewhere: Option<(T::Options, String)>,
    /// Text of the run's `config.toml`.
    pub(super) text: String,
    pub(super) task: Arc<T>,
    pub(super) folder: RunFolder,
    pub(super) start: Start,
    /// What its steps are made from.
    pub(super) fingerprint: Fingerprint,
    /// The server was killed and this is its next life.
    pub(super) restarted: bool,
    /// How it is shown.
    pub(super) shown: Shown,
    /// Who starts this server again.
    pub(super) supervisor: Option<Supervisor>,
}

pub(super) fn serve<T: Task>(ready: ReadyRun<T>) -> anyhow::Result<()> {
    let (task, folder, config) = (
        Arc::clone(&ready.task),
        ready.folder.clone(),
        ready.config.clone(),
    );
    let log = ready.shown.log.as_deref().map(Log::begin).transpose()?;
    let verbosity = ready.shown.form().last_words(ready.shown.verbosity());
    let page = ready.shown.dashboard.as_deref();
    let page = page.map(|wanted| dashboard::prepare(wanted, &folder));
    let page = page.transpose()?;
    let training = Training::new(task.clone(), config.clone())
        .named(task.run_name().unwrap_or(ready.task_name));
    let stopper = training.stopper();
    let begun = Arc::<AtomicBool>::default();
    let signalled = on_interrupt(&ready, &stopper, &begun)?;
    let training = with_workers(training, &ready)?;
    let onlookers = Onlookers {
        config: &config,
        folder: &folder,
        text: &ready.text,
        form: ready.shown.form(),
        verbosity: ready.shown.verbosity(),
    };
    let mut run = training
        .start(ready.start)
        .made_from(ready.fingerprint)
        .folder(folder.clone(), &ready.text)
        .begin()?;
    if let Some(log) = log {
        log.write(&folder)?;
    }
    let told = ready
        .supervisor
        .map(|supervisor| supervisor.record(folder.path(), stopper, &ready.shown));
    told.transpose()?;
    for observer in onlookers.all()? {
        run.observe(observer);
    }
    let page = page.map(|page| page.serve(&folder)).transpose()?;
    begun.store(true, Ordering::Relaxed);
    let finished = run.run()?;
    if let Some(page) = page {
        page.close();
    }
    super::report::at_the_end(&*task, &folder, verbosity == Verbosity::Quiet);
    close(
        &*task,
        &folder,
        finished,
        verbosity,
        signalled.load(Ordering::Relaxed),
    )
}

/// Says who works: threads of this process, hosts by ssh, and whoever comes through a port.
fn with_workers<T: Task>(training: Training, ready: &ReadyRun<T>) -> anyhow::Result<Training> {
    let (config, wishes) = (&ready.config, &ready.config.elsewhere);
    let local = Local {
        workers: config.workers.unwrap_or(LOCAL_WORKERS),
        threads: config.threads_of_a_worker(),
    };
    let Some((options, text)) = &ready.elsewhere else {
        return Ok(training.launch(local));
    };
    let (files, objects) = files::pack::<T>(options)?;
    let entrance = Entrance::prepare(EntranceOptions {
        folder: &ready.folder,
        listen: wishes.listen.as_deref(),
        task: ready.task_name,
        config: text,
        files,
        dead_after: Duration::from_secs_f64(wishes.dead_after),
        program: program_from_anywhere(),
    })?;
    if !wishes.uses_ssh() {
        return Ok(training.launch(Joined::through(entrance)).launch(local));
    }
    let host_options = &wishes.host_options;
    let remote = RemoteOptions {
        hosts: host_options.hosts_of_run(ready.folder.path(), config.workers)?,
        listed: host_options.listed(ready.folder.path(), config.workers),
        login: host_options.options(),
        binaries: host_options.binaries()?,
        objects,
        workers: config.workers,
        room: T::workers_on,
        again: ready.start.is_resumed() || ready.restarted,
        patient: ready.restarted,
        log: match ready.shown.verbosity() {
            Verbosity::Quiet => TransferLog::Off,
            Verbosity::Normal | Verbosity::Verbose => TransferLog::Stderr,
        },
    };
    Ok(training.launch(Remote::connect(entrance, remote)?))
}

/// Lets a run that has begun be stopped and saved. One that has not, since hosts are reached and sent what they
/// lack, leaves what was before.
fn on_interrupt<T: Task>(
    ready: &ReadyRun<T>,
    stopper: &Stopper,
    begun: &Arc<AtomicBool>,
) -> std::io::Result<Arc<AtomicI32>> {
    let (folder, resumed) = (ready.folder.clone(), ready.start.is_resumed());
    let hosts = ready.config.elsewhere.uses_ssh();
    let early = move || {
        complain(if resumed {
            "Stopped before the run went on: it is as it was"
        } else {
            "Stopped before the run had begun: it leaves no folder"
        });
        if hosts {
            complain(files::LEFT_ON_HOSTS);
        }
        folder.clone().abandon();
    };
    signals::on_interrupt(stopper.clone(), Arc::clone(begun), early, || {
        complain("Saving a checkpoint; once more to stop at once");
    })
}

/// Whoever looks on. What is not the run's own record has a thread of its own.
struct Onlookers<'a> {
    config: &'a RunConfig,
    folder: &'a RunFolder,
    text: &'a str,
    form: Form,
    verbosity: Verbosity,
}

impl Onlookers<'_> {
    fn all(&self) -> anyhow::Result<Vec<Observer>> {
        const NO_THREAD: &str = "no thread to be had";
        let (folder, every) = (self.folder, self.config.print_every);
        let terminal = match self.form {
            Form::Json => dsgd_observe::json_terminal(self.verbosity, every),
            form => dsgd_observe::terminal(self.verbosity, form == Form::Plain, every),
        };
        let mut all = vec![
            dsgd_observe::detached("terminal", terminal).context(NO_THREAD)?,
            dsgd_observe::json_lines(&folder.file(EVENTS)).context(EVENTS)?,
            dsgd_observe::text_log(&folder.file(LOG), every).context(LOG)?,
            dsgd_observe::host_logs(&folder.file(HOST_LOGS)),
        ];
        if self.config.tensorboard {
            let files = dsgd_observe::tensorboard(&folder.file(TENSORBOARD), self.text);
            let files = files.context(TENSORBOARD)?;
            all.push(dsgd_observe::detached(TENSORBOARD, files).context(NO_THREAD)?);
        }
        Ok(all)
    }
}

/// What is said and returned at the end.
fn close<T: Task>(
    task: &T,
    folder: &RunFolder,
    finished: Finished,
    verbosity: Verbosity,
    signalled: i32,
) -> anyhow::Result<()> {
    let program = program();
    let steps = finished.steps;
    let next = next(&program, folder, steps);
    if let Some(why) = finished.unsaved {
        bail!("the last checkpoint could not be written: {why}");
    }
    match finished.end {
        End::Done => {
            if verbosity > Verbosity::Quiet
                && let Some(file) = run::best(folder.path())
            {
                for line in task.next_steps(&program, &shell_word(&file)) {
                    say(line);
                }
            }
            Ok(())
        }
        End::Interrupted => Err(match signalled {
            0 => Error::Run {
                reason: GONE.to_owned(),
                next,
            },
            status => Error::Interrupted { next, status },
        }
        .into()),
        End::Failed(reason) => Err(Error::Run { reason, next }.into()),
        End::Diverged(reason) => {
            let next = instead(&program, folder, steps);
            Err(Error::Run { reason, next }.into())
        }
    }
}

/// What to do with a run that is not done.
fn next(program: &str, folder: &RunFolder, steps: u64) -> String {
    match run::best(folder.path()) {
        Some(_) => format!(
            "Go on with: {program} train --resume {}",
            shell_word(folder.path())
        ),
        None => format!(
            "{}, so there is no checkpoint. Start again with: {program} train --config {}",
            unsaved(steps),
            shell_word(&folder.file(CONFIG))
        ),
    }
}

/// What to do instead of a run that has diverged: with the same options it would do so again.
fn instead(program: &str, folder: &RunFolder, steps: u64) -> String {
    let config = shell_word(&folder.file(CONFIG));
    let again = format!("{program} train --config {config} --learning-rate LOWER");
    match run::best(folder.path()) {
        Some(file) => format!(
            "Nothing was saved since it diverged. Start from the best checkpoint with: {again} \
             --train-from {}",
            shell_word(&file)
        ),
        None => format!(
            "{}, so there is no checkpoint. Start again with: {again}",
            unsaved(steps)
        ),
    }
}

fn unsaved(steps: u64) -> String {
    match steps {
        0 => "No step was made".to_owned(),
        1 => "1 step was made and not saved".to_owned(),
        _ => format!("{steps} steps were made and none was saved"),
    }
}
