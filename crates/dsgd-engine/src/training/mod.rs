//! A run, assembled by library calls: a model, its options, launchers and observers.
//!
//! It reads no command line, prints nothing and ends no process; the program's command line is one of its
//! callers.

mod begun;
mod start;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dsgd_core::core::Core;
use dsgd_core::event::{Event, Observer, Record};
use dsgd_core::metric;
use dsgd_core::mode::Mode;
use dsgd_core::model::Model;
use dsgd_core::optim::Schedule;

use crate::config::{LOCAL_WORKERS, RunConfig};
use crate::error::Error;
use crate::launch::{Launcher, Local};
use crate::run::{Fingerprint, Retention, RunFolder};
use crate::server::{Message, Server};
use crate::store::InMemory;
use crate::wire::integrity::Initial;
use crate::worker::Buffers;
pub use begun::{Begun, Finished};
pub use start::Start;

/// A run that has not begun.
///
/// ```
/// use std::sync::Arc;
/// use dsgd_core::model::{Compute, Manifest, Model, Seat};
/// use dsgd_core::params::{Gradient, Layout, Snapshot, TensorId};
/// use dsgd_core::task::{Batch, Stats, TaskResult};
/// use dsgd_engine::config::RunConfig;
/// use dsgd_engine::training::Training;
///
/// /// One parameter, pulled towards 3.
/// struct Three(Manifest);
///
/// impl Model for Three {
///     fn manifest(&self) -> &Manifest {
///         &self.0
///     }
///     fn compute(&self, _: Seat) -> TaskResult<Box<dyn Compute + '_>> {
///         Ok(Box::new(|_: Batch, params: &Snapshot, gradient: &mut Gradient| {
///             let error = params.flat()[0] - 3.0;
///             gradient.dense(TensorId(0))[0] += 2.0 * error;
///             Ok(Stats::of_examples(f64::from(error * error), 1))
///         }))
///     }
/// }
///
/// let layout: Layout = [("p", [1])].into_iter().collect();
/// let model = Arc::new(Three(Manifest::new(layout, 100)));
/// let config = RunConfig { workers: Some(2), learning_rate: 1.0, ..RunConfig::default() };
/// let finished = Training::new(model, config).run()?;
/// assert!((finished.params().flat()[0] - 3.0).abs() < 0.01);
/// # Ok::<(), dsgd_engine::Error>(())
/// ```
pub struct Training {
    name: String,
    model: Arc<dyn Model>,
    config: RunConfig,
    start: Option<Start>,
    fingerprint: Fingerprint,
    folder: Option<(RunFolder, String)>,
    launchers: Vec<Box<dyn Launcher>>,
    observers: Vec<Observer>,
    messages: Sender<Message>,
    inbox: Receiver<Message>,
}

impl Training {
    /// A run of that model with those options. If nothing else is said, its workers are threads of this process
    /// and it writes no file.
    pub fn new(model: Arc<dyn Model>, config: RunConfig) -> Self {
        let (messages, inbox) = channel();
        Self {
            name: "model".to_owned(),
            model,
            config,
            start: None,
            fingerprint: Fingerprint::new(),
            folder: None,
            launchers: Vec::new(),
            observers: Vec::new(),
            messages,
            inbox,
        }
    }

    /// What the model is called, in events and in the names of checkpoints.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Begins with these parameters instead of initial ones, or goes on with a run.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Writes checkpoints into this folder, and `config` as its `config.toml`.
    #[must_use]
    pub fn folder(mut self, folder: RunFolder, config: &str) -> Self {
        self.folder = Some((folder, config.to_owned()));
        self
    }

    /// What its steps are made from: checkpoints keep it, and a run that goes on with other data is refused.
    #[must_use]
    pub fn made_from(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    /// Has workers started this way; may be called for several ways.
    #[must_use]
    pub fn launch(mut self, launcher: impl Launcher + 'static) -> Self {
        self.launchers.push(Box::new(launcher));
        self
    }

    /// Calls `observer` with every event, in order, on the thread of [`run`](Training::run), which it must not
    /// hold up.
    #[must_use]
    pub fn observe(mut self, observer: impl FnMut(&Record) + Send + 'static) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// What stops the run from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.messages.clone())
    }

    /// Trains until the run is over.
    ///
    /// # Errors
    /// When the run cannot begin. How one that has begun ended is in the result.
    pub fn run(self) -> Result<Finished, Error> {
        self.begin()?.run()
    }

    /// Checks everything and makes everything ready; nothing is refused afterwards.
    ///
    /// # Errors
    /// What makes no sense, or cannot be had. Nothing was written then.
    pub fn begin(mut self) -> Result<Begun, Error> {
        self.config.check()?;
        let manifest = self.model.manifest();
        metric::check(&manifest.metrics, &manifest.units)
            .map_err(|why| Error::Options(format!("the task {} is wrong: {why}", self.name)))?;
        let note = self.config.settle(manifest)?;
        let mut start = match self.start.take() {
            Some(start) => start,
            None => Start::new(&self.name, &*self.model, &self.config)?,
        };
        start.notes.extend(note);
        if self.launchers.is_empty() {
            self.launchers.push(Box::new(Local {
                workers: self.config.workers.unwrap_or(LOCAL_WORKERS),
                threads: self.config.threads_of_a_worker(),
            }));
        }
        let workers = self.launchers.iter().filter_map(|l| l.workers()).sum();
        self.config.check_workers(workers)?;
        let elsewhere = self
            .launchers
            .iter()
            .any(|launcher| launcher.is_elsewhere());
        let codecs = self.config.codecs();
        let initial = (elsewhere && start.initial).then(|| {
            Initial::of(
                start.versions.version(),
                start.versions.current(),
                codecs.pull,
            )
        });
        let own_state = start.own_state.take();
        let rule = self.config.step_rule();
        let (mut server, started) = self.assemble(start, workers, elsewhere);
        if self.config.mode() == Mode::Local {
            server.share_state(rule.state_names(), own_state);
        }
        server.reach_elsewhere(initial.map(|initial| initial.version), codecs);
        if let Some((folder, config)) = &self.folder {
            folder.begin(config)?;
        }
        Ok(Begun {
            server,
            started,
            rule,
            initial,
            model: self.model,
            launchers: self.launchers,
            messages: self.messages,
            inbox: self.inbox,
        })
    }

    /// The server, and the first event of its run.
    fn assemble(&mut self, start: Start, workers: usize, elsewhere: bool) -> (Server, Event) {
        let (config, manifest) = (&self.config, self.model.manifest());
        let mut rules = config.rules(workers, manifest.batches, manifest.validation_batches);
        let metric = metric::first(&manifest.metrics);
        rules.metric = metric.clone();
        // Only workers elsewhere can be silent, or come later.
        if elsewhere {
            let secs = Duration::from_secs_f64;
            rules.dead_after = Some(secs(config.elsewhere.dead_after));
            rules.give_up_after = Some(secs(config.elsewhere.give_up_after));
        }
        let places = self
            .launchers
            .iter()
            .flat_map(|launcher| launcher.describe());
        let about = manifest
            .about
            .iter()
            .cloned()
            .chain(start.notes)
            .chain(places);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let started = Event::RunStarted {
            unix_secs: now.map_or(0.0, |since| since.as_secs_f64()),
            task: self.name.clone(),
            parameters: manifest.layout.len(),
            workers,
            mode: config.mode(),
            epochs: config.epochs,
            about: about.collect(),
            metrics: manifest.metrics.clone(),
            units: manifest.units.clone(),
            resumed_at: start.resumed.then_some(start.progress.version),
        };
        let schedule = Schedule::new(config.schedule(&rules), start.progress.schedule);
        let core = Core::new(rules, schedule, start.progress).with_sizes(
            manifest.batch_sizes.clone(),
            manifest.validation_sizes.clone(),
        );
        let saver = self.folder.as_ref().map(|(folder, _)| {
            let retention = Retention {
                folder: folder.path().to_owned(),
                prefix: config
                    .save_file
                    .clone()
                    .unwrap_or_else(|| self.name.clone()),
                metric: metric.clone(),
                keep: config.keep,
                metadata: manifest.metadata.clone(),
                fingerprint: std::mem::take(&mut self.fingerprint),
                best: start.best,
            };
            retention.into_saver()
        });
        let buffers = Buffers::new(&manifest.layout, workers.max(config.parts.unwrap_or(1)));
        let threads = config.threads_of_the_server();
        let mut store = InMemory::new(start.versions, buffers.clone(), threads);
        let codec = config.codecs().pull;
        if elsewhere && codec.has_blocks() {
            store = store.with_public_copy(codec);
        }
        let mut server = Server::new(
            core,
            Box::new(store),
            buffers,
            workers,
            config.step_of_the_server(),
            config.print_every,
            saver,
        );
        self.observers
            .drain(..)
            .for_each(|observer| server.observe(observer));
        (server, started)
    }
}

/// Stops a run from another thread.
#[derive(Clone)]
pub struct Stopper(Sender<Message>);

impl Stopper {
    /// The run is saved, and ends; false where the run is over already.
    pub fn stop(&self) -> bool {
        self.0.send(Message::Interrupt).is_ok()
    }
}
