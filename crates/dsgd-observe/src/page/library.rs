//! The runs of a folder: which there are, and the boards of those that somebody looks at.
//!
//! A run is followed by a thread of its own, from its first reader on until nobody asks any more. Its
//! board is shared with the readers by a lock: the thread holds it for the time of some additions,
//! a reader for that of writing down what is new to him, and neither waits for a network meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio::sync::watch;

use crate::board::Board;
use crate::follow::{Follow, is_step};
use dsgd_core::event::{Event, Record};
use dsgd_core::metric::Metric;
use dsgd_core::task::Stats;
use dsgd_engine::mutex::lock;
use dsgd_engine::run::{CONFIG, EVENTS};

/// Pause between two looks at a file.
const PAUSE: Duration = Duration::from_millis(200);

/// Records that are taken in at a time, so that a reader gets his turn in between.
const AT_A_TIME: usize = 512;

/// Runs that are followed at a time, beside the main one: each costs a thread and a board.
const MOST_FOLLOWED: usize = 8;

/// Nobody has asked for a run for so long: it is not followed any more.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Entries of a folder that are looked at, and runs of it that are listed: the latest ones.
const MOST_ENTRIES: usize = 10_000;
const MOST_LISTED: usize = 200;

/// Bytes at a file's end in which its last step and epoch are looked for.
const TAIL: u64 = 256 << 10;

/// The runs of a folder.
pub(super) struct Library {
    folder: PathBuf,
    main: (String, Arc<Followed>),
    others: Mutex<BTreeMap<String, (Arc<Followed>, Instant)>>,
}

/// A run that is followed.
pub(super) struct Followed {
    view: Mutex<View>,
    /// Counts what is new.
    news: watch::Sender<u64>,
}

/// What is known of a run, and of the file from which it is known.
#[derive(Default)]
pub(super) struct View {
    pub(super) board: Board,
    /// Bytes of the file that were read, and that it has.
    pub(super) read: u64,
    pub(super) size: u64,
    /// When it was written to last.
    pub(super) written: Option<SystemTime>,
    /// Lines that are no events.
    pub(super) broken: u64,
    /// Why it cannot be read.
    pub(super) error: Option<String>,
}

impl View {
    /// Seconds since the run last said something.
    pub(super) fn idle_secs(&self) -> f64 {
        let since = self.written.and_then(|written| written.elapsed().ok());
        since.unwrap_or_default().as_secs_f64()
    }
}

/// A run in a list.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Listed {
    /// Its folder's name.
    pub(super) name: String,
    /// Registered name of the task.
    pub(super) task: String,
    /// Seconds since 1970 at which it started.
    unix_secs: f64,
    /// Updates of the parameters.
    steps: u64,
    /// Epochs that are done, and how many there are to be.
    epoch: u32,
    epochs: u32,
    /// What it is judged by.
    metrics: Vec<Metric>,
    /// Sums over its last epoch so far.
    train: Option<Stats>,
    /// Sums over the validation batches, where its last lines say them.
    validation: Option<Stats>,
    /// How it ended, when it has.
    outcome: Option<String>,
    /// Seconds since it last said something.
    idle_secs: f64,
}

impl Library {
    /// The folder's runs, that one first of all.
    pub(super) fn open(run: &Path) -> io::Result<Self> {
        let run = fs::canonicalize(run)?;
        let name = run.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let main = (name, Followed::start(&run.join(EVENTS))?);
        Ok(Self {
            folder: run.parent().unwrap_or(&run).to_owned(),
            main,
            others: Mutex::default(),
        })
    }

    /// Name of the main run.
    pub(super) fn main(&self) -> &str {
        &self.main.0
    }

    /// Whether all that the main run has said was read.
    pub(super) fn has_read_all(&self) -> bool {
        let view = self.main.1.view();
        let size = fs::metadata(self.folder.join(self.main()).join(EVENTS));
        size.map_or(true, |size| view.read >= size.len())
    }

    /// A run of the folder, the main one where no name is given; why not, in words.
    pub(super) fn get(&self, name: Option<&str>) -> Result<Arc<Followed>, Missing> {
        let Some(name) = name.filter(|name| *name != self.main()) else {
            return Ok(Arc::clone(&self.main.1));
        };
        let file = self.folder.join(name).join(EVENTS);
        let is_a_name = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        if !is_a_name || !file.is_file() {
            return Err(Missing::NoRun);
        }
        let mut others = lock(&self.others);
        others.retain(|_, (run, asked)| Arc::strong_count(run) > 1 || asked.elapsed() < FORGOTTEN);
        if let Some((run, asked)) = others.get_mut(name) {
            *asked = Instant::now();
            return Ok(Arc::clone(run));
        }
        if others.len() >= MOST_FOLLOWED {
            let idle = others
                .iter()
                .filter(|(_, (run, _))| Arc::strong_count(run) == 1);
            let oldest = idle.min_by_key(|(_, (_, asked))| *asked);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                return Err(Missing::TooMany);
            };
            others.remove(&oldest);
        }
        let run = Followed::start(&file).map_err(|_| Missing::TooMany)?;
        others.insert(name.to_owned(), (Arc::clone(&run), Instant::now()));
        Ok(run)
    }

    /// The folder's runs, latest first, from a look at both ends of their files.
    pub(super) fn list(&self) -> Vec<Listed> {
        let runs = runs(&self.folder).into_iter();
        runs.filter_map(|(written, name)| listed(&name, written, &self.folder.join(&name)).ok())
            .collect()
    }
}

/// The run of a folder that has said something last.
pub(super) fn latest(folder: &Path) -> Option<PathBuf> {
    let (_, name) = runs(folder).into_iter().next()?;
    Some(folder.join(name))
}

/// Names of a folder's runs, and when they said something last, latest first.
fn runs(folder: &Path) -> Vec<(SystemTime, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let runs = entries.take(MOST_ENTRIES).flatten().filter_map(|entry| {
        let written = fs::metadata(entry.path().join(EVENTS)).ok()?.modified();
        let name = entry.file_name().to_str()?.to_owned();
        (!name.starts_with('.')).then_some((written.ok()?, name))
    });
    let mut runs: Vec<_> = runs.collect();
    runs.sort_by(|a, b| b.cmp(a));
    runs.truncate(MOST_LISTED);
    runs
}

/// Why there is no board.
#[derive(Debug, PartialEq)]
pub(super) enum Missing {
    /// There is no such run.
    NoRun,
    /// As many are followed as may be.
    TooMany,
}

impl Followed {
    fn start(file: &Path) -> io::Result<Arc<Self>> {
        let this = Arc::new(Self {
            view: Mutex::default(),
            news: watch::Sender::new(0),
        });
        let (weak, mut follow) = (Arc::downgrade(&this), Follow::new(file));
        thread::Builder::new()
            .name("follower".to_owned())
            .spawn(move || while look(&weak, &mut follow) {})?;
        Ok(this)
    }

    /// What is known now.
    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        // A board is as good as it was before whatever went wrong.
        lock(&self.view)
    }

    /// Tells when something is new.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn take_in(&self, records: &mut Vec<Record>) {
        let mut view = self.view();
        records.drain(..).for_each(|record| view.board.see(&record));
    }
}

/// Takes in what is new; false when nobody wants to know any more.
fn look(run: &Weak<Followed>, follow: &mut Follow) -> bool {
    let Some(run) = run.upgrade() else {
        return false;
    };
    let mut records = Vec::with_capacity(AT_A_TIME);
    let read = follow.next(|record| {
        records.push(record);
        if records.len() >= AT_A_TIME {
            run.take_in(&mut records);
        }
    });
    run.take_in(&mut records);
    let mut view = run.view();
    let before = (view.read, view.error.take());
    (view.read, view.broken) = (follow.read, follow.broken);
    if let Some((size, written)) = follow.size() {
        (view.size, view.written) = (size, Some(written));
    }
    view.error = read.as_ref().err().map(ToString::to_string);
    let is_new = before != (view.read, view.error.clone());
    drop(view);
    if is_new {
        run.news.send_modify(|number| *number += 1);
    }
    drop(run);
    if !matches!(read, Ok(true)) {
        thread::sleep(PAUSE);
    }
    true
}

fn listed(name: &str, written: SystemTime, folder: &Path) -> io::Result<Listed> {
    let mut file = File::open(folder.join(EVENTS))?;
    let mut listed = Listed {
        name: name.to_owned(),
        task: String::new(),
        unix_secs: 0.0,
        steps: 0,
        epoch: 0,
        epochs: 0,
        metrics: Vec::new(),
        train: None,
        validation: None,
        outcome: None,
        idle_secs: written.elapsed().unwrap_or_default().as_secs_f64(),
    };
    let head = piece(&mut file, 0)?;
    let first = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if let Ok(record) = serde_json::from_slice::<Record>(first)
        && let Event::RunStarted {
            unix_secs,
            task,
            epochs,
            metrics,
            ..
        } = record.event
    {
        (listed.unix_secs, listed.task, listed.epochs) = (unix_secs, task, epochs);
        listed.metrics = metrics;
    }
    let from = file.metadata()?.len().saturating_sub(TAIL);
    let tail = piece(&mut file, from)?;
    // Of the steps only the last says something that no later one does.
    let lines: Vec<_> = tail.split(|&byte| byte == b'\n').collect();
    let last = lines.iter().rposition(|line| is_step(line));
    let meaningful = lines.into_iter().enumerate();
    let meaningful = meaningful.filter(|(at, line)| Some(*at) == last || !is_step(line));
    meaningful
        .filter_map(|(_, line)| serde_json::from_slice::<Record>(line).ok())
        .for_each(|record| listed.see(record.event));
    // A run that was taken up for more epochs said so somewhere in the middle of its events.
    listed.epochs = epochs(folder).unwrap_or(listed.epochs);
    Ok(listed)
}

/// Epochs that a run is to have.
fn epochs(folder: &Path) -> Option<u32> {
    let config: toml::Table = fs::read_to_string(folder.join(CONFIG)).ok()?.parse().ok()?;
    let epochs = config.get("run")?.get("epochs")?.as_integer()?;
    epochs.try_into().ok()
}

fn piece(file: &mut File, from: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Listed {
    fn see(&mut self, event: Event) {
        match event {
            Event::RunStarted {
                epochs, metrics, ..
            } => {
                (self.epochs, self.outcome, self.metrics) = (epochs, None, metrics);
            }
            Event::Step(step) => {
                (self.steps, self.epoch) = (step.version, step.epoch - 1);
                self.train = Some(step.epoch_stats);
            }
            Event::EpochFinished {
                epoch,
                train,
                validation,
                ..
            } => {
                (self.epoch, self.train, self.validation) = (epoch, Some(train), validation);
            }
            Event::RunFinished { outcome, steps } => {
                (self.outcome, self.steps) = (Some(outcome), steps);
            }
            _ => {}
        }
    }
}
