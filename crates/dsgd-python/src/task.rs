//! A script as a task.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use ring::digest::{Context, SHA256};

use dsgd::{
    Batch, Compute, Gradient, Layout, Manifest, Model, Params, Seat, Snapshot, Stats, Task,
    TaskResult,
};
use dsgd_engine::mutex::lock;
use dsgd_engine::worker::batch_seed;

use crate::child::{Child, Program};
use crate::environment::{self, Wanted};
use crate::foresight::Foresight;
use crate::interpreter;
use crate::manifest::{manifest, metrics_of};
use crate::options::Options;
use crate::order::Dealing;
use crate::package;
use crate::words::{Computed, Figures, Loaded, Next, Order};

/// Where the child is that says what the task is.
const FIRST_SEAT: Seat = Seat {
    slot: 0,
    slots: 1,
    threads: 2,
};

/// Processes of a worker that load data, at most: what a child says is not believed.
const MOST_LOADERS: usize = 64;

/// A child that has loaded a script, or what was wrong.
type Started = TaskResult<(Child, Loaded)>;

/// What came of asking for a script's defaults, for [`Task::load`] to go on with: imports take seconds.
static ASKED: Mutex<Option<(Program, Started)>> = Mutex::new(None);

/// A task whose model is in Python.
pub struct Python {
    /// The script's, without its ending.
    name: String,
    program: Program,
    loaded: Loaded,
    /// How training and validation examples are dealt out.
    dealings: [Dealing; 2],
    /// Names of the metrics besides the loss, in the order of their sums.
    metrics: Vec<String>,
    seed: u64,
    manifest: Manifest,
    first: Mutex<First>,
}

/// Who can be asked for initial parameters without another process: a child takes seconds to start.
struct First {
    /// The child that has said what the task is, until a worker goes on with it.
    idle: Option<Child>,
    /// A worker's.
    taken: Weak<Mutex<Child>>,
}

/// What one worker computes with.
struct Worker<'a> {
    task: &'a Python,
    child: Arc<Mutex<Child>>,
    foresight: Foresight,
}

impl Worker<'_> {
    /// What its child may load meanwhile: a batch for each process that does so.
    fn next_after(&mut self, batch: Batch) -> Vec<Next> {
        let task = self.task;
        let loaders = task.loaded.loaders.min(MOST_LOADERS);
        if loaders == 0 {
            return Vec::new();
        }
        let [training, _] = &task.dealings;
        let following = self
            .foresight
            .after(batch, task.seed, training.batches())
            .take(loaders);
        let next = following.map(|index| {
            let next = Batch {
                index,
                seed: batch_seed(task.seed, batch.epoch, index),
                ..batch
            };
            Next {
                epoch: next.epoch,
                batch: index,
                seed: seed_of(next),
                examples: task.training_examples(next),
            }
        });
        next.collect()
    }
}

impl Compute for Worker<'_> {
    fn gradient(
        &mut self,
        batch: Batch,
        params: &Snapshot,
        into: &mut Gradient,
    ) -> TaskResult<Stats> {
        let examples = self.task.training_examples(batch);
        if examples.is_empty() {
            return Ok(Stats::default());
        }
        let order = Order::Train {
            epoch: batch.epoch,
            batch: batch.index,
            seed: seed_of(batch),
            examples: &examples,
            next: self.next_after(batch),
        };
        let computed = lock(&self.child).train(&order, params, into)?;
        computed.stats(examples.len(), &self.task.metrics)
    }

    fn evaluate(&mut self, batch: usize, params: &Snapshot) -> TaskResult<Stats> {
        let [_, validation] = &self.task.dealings;
        let examples = validation.in_order(batch);
        let order = Order::Evaluate {
            batch,
            examples: &examples,
        };
        let computed: Computed = lock(&self.child).ask_of(&order, params)?;
        computed.stats(examples.len(), &self.task.metrics)
    }
}

impl Model for Python {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn init(&self, seed: u64, params: &mut Params) -> TaskResult<()> {
        let mut first = lock(&self.first);
        if let Some(child) = &mut first.idle {
            return child.init(seed, params);
        }
        let worker = first.taken.upgrade();
        drop(first);
        // A worker is asked before it has anything to compute.
        match worker {
            Some(child) => lock(&child).init(seed, params),
            None => self.child(FIRST_SEAT)?.init(seed, params),
        }
    }

    fn compute(&self, seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        let idle = lock(&self.first).idle.take();
        let child = match idle {
            Some(mut child) => {
                child.share(&self.manifest.layout, seat)?;
                child
            }
            None => self.child(seat)?,
        };
        let child = Arc::new(Mutex::new(child));
        let mut first = lock(&self.first);
        if first.taken.strong_count() == 0 {
            first.taken = Arc::downgrade(&child);
        }
        drop(first);
        Ok(Box::new(Worker {
            task: self,
            child,
            foresight: Foresight::default(),
        }))
    }
}

impl Task for Python {
    const ABOUT: &'static str = "a model in Python: PyTorch, NumPy";
    const FILE_ENDING: Option<&'static str> = Some(".py");
    const OTHER_OPTIONS: Option<&'static str> = Some("set");
    type Options = Options;

    fn load(options: &Options, seed: u64) -> TaskResult<Self> {
        let program = program_here(options)?;
        let started = match lock(&ASKED).take() {
            Some((asked, started)) if asked == program => started,
            _ => Child::start(&program, FIRST_SEAT.threads),
        };
        Self::new(program, started?, None, seed)
    }

    fn run_name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn load_elsewhere(options: &Options, seed: u64) -> TaskResult<Self> {
        let (typed, of_server) = (options.python.as_deref(), options.interpreter.as_deref());
        let mut candidates = interpreter::elsewhere(typed, of_server);
        if let Some(requirements) = options.env.as_deref() {
            let wanted = Wanted {
                requirements,
                wheels: &options.wheel_files,
                uv: options.uv.as_deref(),
            };
            candidates = vec![environment::made(&wanted, &candidates)?];
        }
        let program = Program {
            interpreter: interpreter::first_with(&candidates, &options.needs)?,
            script: PathBuf::from(&options.script),
            code: options.code.as_deref().map(Path::to_path_buf),
            class: options.class.clone(),
            options: options.values()?,
        };
        let started = Child::start(&program, FIRST_SEAT.threads)?;
        Self::new(program, started, Some(options.metrics.clone()), seed)
    }

    fn options_elsewhere(&self, options: &Options) -> TaskResult<Options> {
        let python = self.loaded.executable.as_str();
        let env = options.env.as_deref();
        let env = env.map(|file| environment::requirements(file, python));
        let env = env.transpose()?.map(Into::into);
        let files = self.loaded.files.iter();
        let (file_options, files) = files
            .map(|(name, path)| (name.clone(), PathBuf::from(path).into()))
            .unzip();
        Ok(Options {
            code: Some(self.code()?.into()),
            files,
            file_options,
            interpreter: Some(self.loaded.executable.clone()),
            needs: self.loaded.needs.clone(),
            metrics: self.metrics.clone(),
            wheel_files: match &options.wheels {
                Some(folder) => environment::wheels_in(Path::new(folder))?,
                None => Vec::new(),
            },
            uv: env
                .as_ref()
                .and_then(|_| environment::uv_here(Some(python)))
                .map(Into::into),
            env,
            ..options.clone()
        })
    }

    fn defaults(options: &Options) -> Vec<String> {
        // What is wrong is said when it is loaded.
        let Ok(program) = program_here(options) else {
            return Vec::new();
        };
        let started = Child::start(&program, FIRST_SEAT.threads);
        let defaults = started.as_ref().map(|(_, loaded)| loaded.defaults.clone());
        let defaults = defaults.unwrap_or_default();
        *lock(&ASKED) = Some((program, started));
        defaults
    }

    /// A process for each GPU; where there is none, one with all cores: it takes memory, and time to begin.
    fn workers_on(_cores: usize, gpus: usize) -> usize {
        gpus.max(1)
    }

    fn report(&self, params: &Params, threads: usize) -> TaskResult<Vec<(String, String)>> {
        let params = Snapshot::new(0, Arc::new(params.clone()));
        let mut child = self.child(Seat {
            threads,
            ..FIRST_SEAT
        })?;
        let Figures { figures } = child.ask_of(&Order::Report, &params)?;
        Ok(figures.into_iter().collect())
    }

    fn next_steps(&self, program: &str, checkpoint: &str) -> Vec<String> {
        vec![
            format!("Evaluate it: {program} eval {checkpoint}"),
            format!("In Python:   dsgd.load(\"{checkpoint}\") is its state_dict"),
        ]
    }
}

impl Python {
    /// Goes on with the child that has loaded the script. Where its metrics are not known yet it computes a batch of each kind, so that
    /// what is wrong with the script is said before any host is called.
    fn new(
        program: Program,
        (mut child, loaded): (Child, Loaded),
        metrics: Option<Vec<String>>,
        seed: u64,
    ) -> TaskResult<Self> {
        let layout = Arc::new(loaded.layout()?);
        let dealings = loaded.dealings()?;
        child.share(&layout, FIRST_SEAT)?;
        let metrics = match metrics {
            Some(metrics) => metrics,
            None => first_batches(&mut child, &dealings, &layout, seed)?,
        };
        let name = program.script.file_stem().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            manifest: manifest(&loaded, &layout, &dealings, &metrics)?,
            dealings,
            program,
            loaded,
            metrics,
            seed,
            first: Mutex::new(First {
                idle: Some(child),
                taken: Weak::new(),
            }),
        })
    }

    fn child(&self, seat: Seat) -> TaskResult<Child> {
        let (mut child, _) = Child::start(&self.program, seat.threads)?;
        child.share(&self.manifest.layout, seat)?;
        Ok(child)
    }

    /// The numbers of a training batch's examples, or of its part's.
    fn training_examples(&self, batch: Batch) -> Vec<u64> {
        let [training, _] = &self.dealings;
        let rows = batch.part.rows(training.len(batch.index), 1);
        training.shuffled(batch.index, rows, (self.seed, batch.epoch))
    }

    /// The modules that the script consists of in one file, which is called as its content.
    fn code(&self) -> TaskResult<PathBuf> {
        let folder = dsgd::cache_folder().join("code");
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let bundle = tempfile::Builder::new()
            .suffix(".zip")
            .tempfile_in(&folder)?;
        // Where workers are elsewhere nothing more is computed here, and its memory is given back.
        let idle = lock(&self.first).idle.take();
        let mut child = idle.map_or_else(|| self.child(FIRST_SEAT), Ok)?;
        child.bundle(bundle.path())?;
        let mut content = Context::new(&SHA256);
        content.update(&fs::read(bundle.path())?);
        let place = folder.join(format!("{}.zip", package::digits(content)));
        bundle.persist(&place)?;
        Ok(place)
    }
}

/// The seed of a batch, or of its part: parts are not to draw the same.
fn seed_of(batch: Batch) -> u64 {
    batch.seed.wrapping_add(batch.part.number as u64)
}

/// What runs the script on this machine, where it is written.
fn program_here(options: &Options) -> TaskResult<Program> {
    if !Path::new(&options.script).is_file() {
        return Err(format!("{}: there is no such file", options.script).into());
    }
    Ok(Program {
        interpreter: interpreter::here(options.python.as_deref()),
        script: std::path::absolute(&options.script)?,
        code: None,
        class: options.class.clone(),
        options: options.values()?,
    })
}

/// The names of the metrics, from a first batch; the validation's first one must have the same.
fn first_batches(
    child: &mut Child,
    [training, validation]: &[Dealing; 2],
    layout: &Arc<Layout>,
    seed: u64,
) -> TaskResult<Vec<String>> {
    let mut params = Params::zeros(Arc::clone(layout));
    child.init(seed, &mut params)?;
    if training.batches() == 0 {
        return Ok(Vec::new());
    }
    let params = Snapshot::new(0, Arc::new(params));
    let examples = training.shuffled(0, 0..training.len(0), (seed, 1));
    let order = Order::Train {
        epoch: 1,
        batch: 0,
        seed,
        examples: &examples,
        next: Vec::new(),
    };
    let computed = child.train(&order, &params, &mut Gradient::new(Arc::clone(layout)))?;
    let metrics = metrics_of(&computed)?;
    computed.stats(examples.len(), &metrics)?;
    if validation.batches() > 0 {
        let examples = validation.in_order(0);
        let order = Order::Evaluate {
            batch: 0,
            examples: &examples,
        };
        let computed: Computed = child.ask_of(&order, &params)?;
        computed.stats(examples.len(), &metrics)?;
    }
    Ok(metrics)
}
