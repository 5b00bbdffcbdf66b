//! A run from its first worker to its last word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

use super::check::check_workers;
use super::supervise::{GONE, Supervisor};
use super::{complain, program, say, shell_word};
use super::{dashboard, elsewhere, signals};
use crate::task::Task;
use dsgd_core::core::{Core, End, Progress, Rules};
use dsgd_core::event::{Event, Observer};
use dsgd_core::model::{Manifest, Model};
use dsgd_core::optim::Schedule;
use dsgd_engine::Error;
use dsgd_engine::config::{LOCAL_WORKERS, RunConfig};
use dsgd_engine::launch::local;
use dsgd_engine::run::{
    self, CONFIG, EVENTS, Fingerprint, HOST_LOGS, LOG, Retention, RunFolder, TENSORBOARD,
};
use dsgd_engine::server::{Message, Server};
use dsgd_engine::store::Versions;
use dsgd_observe::{self, Verbosity};

/// A run that is ready to start.
pub(super) struct Job<T: Task> {
    pub(super) name: &'static str,
    pub(super) config: RunConfig,
    pub(super) options: T::Options,
    /// Text of the run's `config.toml`.
    pub(super) text: String,
    pub(super) task: Arc<T>,
    pub(super) folder: RunFolder,
    pub(super) versions: Versions,
    pub(super) progress: Progress,
    /// What is to be said of the weights that it begins with.
    pub(super) notes: Vec<String>,
    /// What its steps are made from.
    pub(super) fingerprint: Fingerprint,
    /// File name of the best checkpoint so far.
    pub(super) best: Option<String>,
    pub(super) resumed: bool,
    /// The server was killed and this is its next life.
    pub(super) restarted: bool,
    /// What the terminal shows.
    pub(super) form: Form,
    /// Where to serve a page about it; empty for the usual place.
    pub(super) dashboard: Option<String>,
    /// Who starts this server again.
    pub(super) supervisor: Option<Supervisor>,
}

/// What the terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Lines, and a picture below them where there is a terminal.
    Live,
    /// Lines.
    Plain,
    /// Lines of JSON.
    Json,
}

impl Form {
    /// How much is said when the run is over: programs read lines of JSON, and nothing else.
    fn last_words(self, verbosity: Verbosity) -> Verbosity {
        match self {
            Self::Json => Verbosity::Quiet,
            Self::Live | Self::Plain => verbosity,
        }
    }
}

pub(super) fn serve<T: Task>(job: Job<T>, verbosity: Verbosity) -> anyhow::Result<()> {
    if job.progress.epoch > job.config.epochs {
        bail!(
            "{} is finished: all {} epochs are done; pass --epochs with more of them to go on",
            job.folder.path().display(),
            job.config.epochs
        );
    }
    let page = job.dashboard.as_deref();
    let page = page.map(|wanted| dashboard::prepare(wanted, &job.folder));
    let page = page.transpose()?;
    let (messages, inbox) = channel();
    let begun = Arc::<AtomicBool>::default();
    let signalled = on_interrupt(&job, &messages, &begun)?;
    let elsewhere = elsewhere::prepare(&job, verbosity)?;
    let expected = elsewhere.as_ref().and_then(elsewhere::Elsewhere::workers);
    let workers = expected.or(job.config.workers).unwrap_or(LOCAL_WORKERS);
    check_workers(&job.config, workers)?;
    let Job {
        name,
        config,
        text,
        task,
        notes,
        fingerprint,
        folder,
        versions,
        progress,
        best,
        resumed,
        form,
        supervisor,
        ..
    } = job;
    let manifest = task.manifest();
    let rules = rules(&config, workers, manifest, elsewhere.is_some());
    let mut about = [manifest.about.clone(), notes].concat();
    about.extend(elsewhere.iter().flat_map(elsewhere::Elsewhere::describe));
    let parameters = versions.current().layout().len();
    let resumed_at = resumed.then_some(progress.version);
    let started = started(name, &config, workers, parameters, about, resumed_at);
    let schedule = Schedule::new(config.schedule(&rules), progress.schedule);
    let core = Core::new(rules, schedule, progress).with_sizes(
        manifest.batch_sizes.clone(),
        manifest.validation_sizes.clone(),
    );
    let retention = Retention {
        folder: folder.path(),
        prefix: config.save_file.as_deref().unwrap_or(name),
        keep: config.keep,
        metadata: manifest.metadata.clone(),
        fingerprint,
        best,
    };
    let mut server = Server::new(
        core,
        versions,
        workers,
        config.max_grad_norm,
        config.print_every,
        retention.into_saver(),
    );
    // Nothing is refused any more.
    folder.begin(&text)?;
    let told = supervisor.map(|supervisor| supervisor.tell(folder.path(), &messages));
    told.transpose()?;
    for observer in onlookers(&config, &folder, &text, form, verbosity)? {
        server.observe(observer);
    }
    let page = page.map(|page| page.serve(&folder)).transpose()?;
    server.tell(started);
    begun.store(true, Ordering::Relaxed);
    let mut watch = None;
    let local_workers = match &elsewhere {
        Some(elsewhere) if elsewhere.workers().is_some() => 0,
        _ => workers,
    };
    if let Some(elsewhere) = elsewhere {
        watch = Some(elsewhere.start(&mut server, &messages)?);
    }
    if local_workers > 0 {
        let threads = config.threads_of_a_worker();
        let (numbers, buffers) = (server.numbers(), server.buffers().clone());
        let model: Arc<dyn Model> = task.clone();
        local::start(
            &model,
            local_workers,
            threads,
            &numbers,
            &buffers,
            &messages,
        )
        .context("no thread to be had")?;
    }
    drop(messages);
    let finished = server.run(&inbox);
    // Whoever joins now finds that the run is over: what goes with its message is dropped.
    thread::Builder::new().spawn(move || inbox.iter().for_each(drop))?;
    if let Some(watch) = watch {
        watch.dismiss();
    }
    if let Some(page) = page {
        page.close();
    }
    let verbosity = form.last_words(verbosity);
    super::report::at_the_end(&*task, &folder, verbosity == Verbosity::Quiet);
    close(
        &*task,
        &folder,
        finished,
        verbosity,
        signalled.load(Ordering::Relaxed),
    )
}

/// The first event of a run, or of its next life.
fn started(
    task: &str,
    config: &RunConfig,
    workers: usize,
    parameters: usize,
    about: Vec<String>,
    resumed_at: Option<u64>,
) -> Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Event::RunStarted {
        unix_secs: now.map_or(0.0, |since| since.as_secs_f64()),
        task: task.to_owned(),
        parameters,
        workers,
        mode: config.mode,
        epochs: config.epochs,
        about,
        resumed_at,
    }
}

/// Lets a run that has begun be stopped and saved. One that has not, since hosts are reached and sent what they
/// lack, leaves what was before.
fn on_interrupt<T: Task>(
    job: &Job<T>,
    messages: &Sender<Message>,
    begun: &Arc<AtomicBool>,
) -> std::io::Result<Arc<AtomicI32>> {
    let (folder, resumed) = (job.folder.clone(), job.resumed);
    let hosts = job.config.elsewhere.uses_ssh();
    let early = move || {
        complain(if resumed {
            "Stopped before the run went on: it is as it was"
        } else {
            "Stopped before the run had begun: it leaves no folder"
        });
        if hosts {
            complain(elsewhere::LEFT_ON_HOSTS);
        }
        folder.clone().abandon();
    };
    signals::on_interrupt(messages.clone(), Arc::clone(begun), early, || {
        complain("Saving a checkpoint; once more to stop at once");
    })
}

/// What the core is to go by. Only workers elsewhere can be silent, or come later.
fn rules(config: &RunConfig, workers: usize, manifest: &Manifest, elsewhere: bool) -> Rules {
    let mut rules = config.rules(workers, manifest.batches, manifest.validation_batches);
    if elsewhere {
        let secs = Duration::from_secs_f64;
        rules.dead_after = Some(secs(config.elsewhere.dead_after));
        rules.give_up_after = Some(secs(config.elsewhere.give_up_after));
    }
    rules
}

/// Whoever looks on. What is not the run's own record has a thread of its own.
fn onlookers(
    config: &RunConfig,
    folder: &RunFolder,
    text: &str,
    form: Form,
    verbosity: Verbosity,
) -> anyhow::Result<Vec<Observer>> {
    const NO_THREAD: &str = "no thread to be had";
    let every = config.print_every;
    let terminal = match form {
        Form::Json => dsgd_observe::json_terminal(verbosity, every),
        _ => dsgd_observe::terminal(verbosity, form == Form::Plain, every),
    };
    let mut all = vec![
        dsgd_observe::detached("terminal", terminal).context(NO_THREAD)?,
        dsgd_observe::json_lines(&folder.file(EVENTS)).context(EVENTS)?,
        dsgd_observe::text_log(&folder.file(LOG), every).context(LOG)?,
        dsgd_observe::host_logs(&folder.file(HOST_LOGS)),
    ];
    if config.tensorboard {
        let files =
            dsgd_observe::tensorboard(&folder.file(TENSORBOARD), text).context(TENSORBOARD)?;
        all.push(dsgd_observe::detached(TENSORBOARD, files).context(NO_THREAD)?);
    }
    Ok(all)
}

/// What is said and returned at the end.
fn close<T: Task>(
    task: &T,
    folder: &RunFolder,
    finished: dsgd_engine::server::Finished,
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
