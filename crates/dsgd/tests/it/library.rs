//! Runs that are called, observed, stopped and joined by a program of one's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use dsgd::config::RunConfig;
use dsgd::event::Event;
use dsgd::launch::{Entrance, EntranceOptions, Joined};
use dsgd::run::RunFolder;
use dsgd::{
    Batch, Compute, Gradient, Invitation, Job, Layout, Manifest, Model, Seat, Snapshot, Stats,
    TaskResult, TensorId, Training,
};
use dsgd_core::codec::Codec;
use dsgd_core::core::End;
use dsgd_core::mode::Mode;

#[allow(dead_code, unreachable_pub)]
#[path = "../../examples/library.rs"]
mod example;

use example::Line;

#[test]
fn a_run_needs_no_command_line_no_terminal_and_no_file() {
    let (seen, losses) = mpsc::channel();
    let finished = example::train(move |loss| seen.send(loss).unwrap()).unwrap();
    assert_eq!((finished.end.clone(), finished.steps), (End::Done, 500));
    let losses: Vec<f64> = losses.iter().collect();
    assert_eq!(losses.len(), 5);
    assert!(losses[4] < 0.1 * losses[0], "{losses:?}");
    let validation = finished.validation.unwrap();
    assert!(validation.mean_loss() < 0.01, "{validation:?}");
    assert_eq!(finished.checkpoint, None);
    let line = finished.params().flat();
    assert!((line[0] - 3.0).abs() < 0.3, "{line:?}");
}

#[test]
fn a_run_is_stopped_from_elsewhere_saved_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = RunConfig {
        workers: Some(1),
        epochs: 1000,
        ..RunConfig::default()
    };
    let model = Arc::new(Line::default());
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let training = Training::new(model.clone(), config.clone())
        .folder(RunFolder::create(Some(&path), "line").unwrap(), "")
        .observe(move |record| {
            if matches!(record.event, Event::Step(_)) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
    let stopper = training.stopper();
    let run = thread::spawn(move || {
        let finished = training.run().unwrap();
        (finished.end, finished.steps, finished.checkpoint)
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while steps.load(Ordering::Relaxed) < 150 && Instant::now() < deadline {
        thread::yield_now();
    }
    assert!(stopper.stop());
    let (end, done, checkpoint) = run.join().unwrap();
    assert_eq!(end, End::Interrupted);
    assert!(done >= 150 && checkpoint.is_some(), "{done} {checkpoint:?}");

    let folder = RunFolder::open(&path).unwrap();
    let fingerprint = dsgd::run::Fingerprint::new();
    let config = RunConfig {
        // It may have been stopped between two epochs: one is left in any case.
        epochs: done as u32 / 100 + 1,
        ..config
    };
    let start = dsgd::Start::resume(&folder, &*model, &config, &fingerprint).unwrap();
    let finished = Training::new(model, config)
        .start(start.0)
        .folder(folder, "")
        .run()
        .unwrap();
    assert_eq!(finished.end, End::Done);
    assert_eq!(finished.steps, (done / 100 + 1) * 100, "each batch once");
}

fn entrance(folder: &RunFolder, config: &RunConfig) -> Entrance {
    let options = EntranceOptions {
        folder,
        listen: config.elsewhere.listen.as_deref(),
        task: "line",
        config: "",
        files: Vec::new(),
        dead_after: Duration::from_secs(10),
        program: "dsgd".to_owned(),
    };
    Entrance::prepare(options).unwrap()
}

/// A loop of one's own, to the run's end.
fn work(invitation: &Invitation, model: &dyn Model) {
    let layout = Arc::clone(&model.manifest().layout);
    let mut worker = dsgd::join(invitation, layout).unwrap();
    let seat = Seat {
        slot: 0,
        slots: 1,
        threads: 1,
    };
    let mut compute = model.compute(seat).unwrap();
    while let Some(work) = worker.pull().unwrap() {
        match work.job {
            Job::Train(ref round) => {
                let mut gradient = worker.gradient();
                let stats = compute.gradient(round[0], &work.params, &mut gradient);
                worker.push(work, gradient, stats.unwrap());
            }
            Job::Steps(_) => unreachable!("this run is not --mode local"),
            Job::Validate(batch) => {
                let stats = compute.evaluate(batch, &work.params).unwrap();
                worker.evaluated(work, stats);
            }
        }
    }
}

#[test]
fn who_keeps_his_loop_joins_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(Some(&folder.path().join("run")), "line").unwrap();
    let mut config = RunConfig {
        workers: Some(0),
        learning_rate: 0.3,
        epochs: 2,
        ..RunConfig::default()
    };
    config.elsewhere.listen = Some("127.0.0.1:0".to_owned());
    let entrance = entrance(&folder, &config);
    let (invited, invitation) = mpsc::channel();
    let file = folder.file("invitation");
    let training = Training::new(Arc::new(Line::default()), config)
        .folder(folder, "")
        .launch(Joined::through(entrance))
        .observe(move |record| {
            if let Event::Notice { message } = &record.event {
                assert!(message.contains("dsgd worker <"), "{message}");
                invited.send(()).unwrap();
            }
        });
    let run = thread::spawn(move || {
        let finished = training.run().unwrap();
        (
            finished.end.clone(),
            finished.steps,
            finished.params().flat().to_vec(),
        )
    });
    invitation.recv_timeout(Duration::from_secs(60)).unwrap();

    let invitation = Invitation::from_line(&std::fs::read_to_string(file).unwrap()).unwrap();
    let model = Line::default();
    let mut worker = dsgd::join(&invitation, Arc::clone(&model.manifest().layout)).unwrap();
    let (mut failed, mut validated) = (0, 0);
    while let Some(work) = worker.pull().unwrap() {
        let mut compute = &model;
        let compute: &mut dyn dsgd::Compute = &mut compute;
        match work.job {
            Job::Train(ref round) if round[0].index == 7 && failed == 0 => {
                failed += 1;
                worker.failed(work, "a first try".to_owned());
            }
            Job::Train(ref round) => {
                let mut gradient = worker.gradient();
                let stats = compute.gradient(round[0], &work.params, &mut gradient);
                worker.push(work, gradient, stats.unwrap());
            }
            Job::Steps(_) => unreachable!("this run is not --mode local"),
            Job::Validate(batch) => {
                validated += 1;
                let stats = compute.evaluate(batch, &work.params).unwrap();
                worker.evaluated(work, stats);
            }
        }
    }
    let (end, steps, line) = run.join().unwrap();
    assert_eq!((end, steps, failed, validated), (End::Done, 200, 1, 2));
    assert!((line[0] - 3.0).abs() < 0.5, "{line:?}");
}

/// A large table of which a batch touches a row, and something dense.
struct Table(Manifest);

impl Table {
    fn new() -> Self {
        let mut layout = Layout::new();
        layout.rows("table", 1000, 8);
        layout.dense("dense", &[16]);
        let manifest = Manifest::new(layout, 40);
        Self(Manifest {
            validation_batches: 2,
            ..manifest
        })
    }
}

impl Compute for &Table {
    fn gradient(&mut self, at: Batch, p: &Snapshot, g: &mut Gradient) -> TaskResult<Stats> {
        let row = at.index * 7 % 1000;
        let values = &p.get(TensorId(0))[row * 8..][..8];
        for (column, slope) in g.row(TensorId(0), row).iter_mut().enumerate() {
            *slope += values[column] - at.index as f32 - 0.1 * column as f32;
        }
        for (column, slope) in g.dense(TensorId(1)).iter_mut().enumerate() {
            *slope += 1.0 + 0.01 * (column + at.index) as f32;
        }
        Ok(Stats::of_examples(f64::from(values[0].abs()), 1))
    }

    fn evaluate(&mut self, _batch: usize, p: &Snapshot) -> TaskResult<Stats> {
        let sum: f32 = p.flat().iter().sum();
        Ok(Stats::of_examples(f64::from(sum.abs()), 1))
    }
}

impl Model for Table {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    fn compute(&self, _seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        Ok(Box::new(self))
    }
}

/// Trains the table for two epochs in sync mode, by one worker that comes through a port, or by a thread.
fn train_table(joined: Option<Codec>) -> (Vec<f32>, Vec<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(Some(&folder.path().join("run")), "table").unwrap();
    let mut config = RunConfig {
        workers: Some(1),
        mode: Some(Mode::Sync),
        epochs: 2,
        ..RunConfig::default()
    };
    let (steps, seen) = mpsc::channel();
    let (invited, invitation) = mpsc::channel();
    let mut training = Training::new(Arc::new(Table::new()), config.clone());
    let file = folder.file("invitation");
    if let Some(codec) = joined {
        config.elsewhere.codec = Some(codec);
        config.elsewhere.listen = Some("127.0.0.1:0".to_owned());
        // Without blocks, as many steps by whoever comes; with them, as parameters travel when steps wait for all.
        if !codec.has_blocks() {
            config.workers = Some(0);
            config.mode = Some(Mode::Async);
        }
        training = Training::new(Arc::new(Table::new()), config.clone());
        training = training.launch(Joined::through(entrance(&folder, &config)));
    }
    let training = training
        .folder(folder, "")
        .observe(move |record| match &record.event {
            Event::Step(step) => steps.send(step.parts[0].cost.bytes).unwrap(),
            Event::Notice { .. } => invited.send(()).unwrap(),
            _ => {}
        });
    let run = thread::spawn(move || {
        let finished = training.run().unwrap();
        assert_eq!(finished.end, End::Done);
        finished.params().flat().to_vec()
    });
    if joined.is_some() {
        invitation.recv_timeout(Duration::from_secs(60)).unwrap();
        let invitation = Invitation::from_line(&std::fs::read_to_string(file).unwrap()).unwrap();
        work(&invitation, &Table::new());
    }
    (run.join().unwrap(), seen.iter().collect())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn half_the_bytes_make_nearly_the_same_and_twice_the_same() {
    let (here, _) = train_table(None);
    let (there, bytes) = train_table(Some(Codec::Bf16));
    let (again, _) = train_table(Some(Codec::Bf16));
    assert!(bits(&there) == bits(&again), "rounding is no chance");
    assert!(bits(&there) != bits(&here));
    let far = here
        .iter()
        .zip(&there)
        .map(|(a, b)| (a - b).abs() / a.abs().max(1e-3));
    let far = far.fold(0.0, f32::max);
    assert!(far < 0.02, "{far}");
    let (row, dense) = (4 + 8 * 2, 16 * 2);
    assert_eq!(bytes[0], 1000 * 8 * 2 + dense + row + dense);
    assert_eq!(bytes[1], 2 * (row + dense));
}

/// Differences of parameters travel, and what is left out of them and of gradients comes with the next.
#[test]
fn few_bits_make_nearly_the_same_and_twice_the_same() {
    let (here, _) = train_table(None);
    for (codec, most) in [(Codec::Int8, 0.01), (Codec::Int4, 0.1)] {
        let (there, bytes) = train_table(Some(codec));
        let (again, _) = train_table(Some(codec));
        assert!(bits(&there) == bits(&again), "rounding is no chance");
        assert!(bits(&there) != bits(&here));
        let far = here.iter().zip(&there).map(|(a, b)| (a - b).abs());
        let far = far.fold(0.0, f32::max) / here.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        assert!(far < most, "{codec:?} {far}");
        let (row, dense) = (4 + codec.bytes(8) as u64, codec.bytes(16) as u64);
        // Nobody has these initial parameters: what makes them from nothing comes with two pulls.
        let whole = (Codec::Int8.bytes(1000 * 8) + Codec::Int8.bytes(16)) as u64;
        assert_eq!(bytes[0], whole + dense + row, "most of all parameters");
        assert_eq!(bytes[1], whole + 2 * (row + dense), "the rest of them");
        assert_eq!(bytes[2], 2 * (row + dense));
    }
}

#[test]
fn what_is_new_travels_and_makes_the_same_bytes() {
    let (here, nothing) = train_table(None);
    let (there, bytes) = train_table(Some(Codec::None));
    assert!(
        bits(&here) == bits(&there),
        "one worker, one order of batches"
    );
    assert!(nothing.iter().all(|&bytes| bytes == 0));
    let row = 4 + 8 * 4;
    let (dense, push) = (16 * 4, row + 16 * 4);
    let whole = 1000 * 8 * 4 + dense;
    assert_eq!(bytes[0], whole + push, "the first pull brings all");
    for (step, &bytes) in bytes
        .iter()
        .enumerate()
        .skip(1)
        .filter(|(step, _)| *step != 40)
    {
        assert_eq!(
            bytes,
            row + dense + push,
            "step {step}: a row, and what is dense"
        );
    }
    assert_eq!(
        bytes[40], push,
        "after validation it has this version already"
    );
}

/// A slope: each gradient is 1, so that `AdaGrad`'s step number k goes down by 1 / √k.
struct Slope {
    manifest: Manifest,
    /// The batch over which a worker panics the first time.
    panics: Option<usize>,
    panicked: AtomicU64,
}

const SLOPE: usize = 64;

impl Slope {
    fn new(panics: Option<usize>) -> Arc<Self> {
        let layout: Layout = [("height", [1])].into_iter().collect();
        Arc::new(Self {
            manifest: Manifest::new(layout, SLOPE),
            panics,
            panicked: AtomicU64::new(0),
        })
    }
}

impl Model for Slope {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn compute(&self, _: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        Ok(Box::new(
            move |batch: Batch, _: &Snapshot, gradient: &mut Gradient| {
                if self.panics == Some(batch.index)
                    && self.panicked.fetch_add(1, Ordering::Relaxed) == 0
                {
                    panic!("a slip");
                }
                gradient.dense(TensorId(0))[0] += 1.0;
                Ok(Stats::of_examples(1.0, 1))
            },
        ))
    }
}

fn down_the_slope() -> RunConfig {
    RunConfig {
        workers: Some(1),
        learning_rate: 1.0,
        mode: Some(Mode::Local),
        local_steps: Some(1),
        ..RunConfig::default()
    }
}

/// What steps of these numbers go down.
fn steps(numbers: std::ops::RangeInclusive<u32>) -> f32 {
    numbers.map(|k| 1.0 / (k as f32).sqrt()).sum()
}

/// A worker's optimizer is its own: in a checkpoint is what it told last, a third of its steps at least. With a fresh
/// one it would go on in steps of the whole learning rate.
#[test]
fn workers_of_a_run_that_goes_on_take_small_steps_in_any_mode() {
    for mode in [Mode::Local, Mode::Async] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let config = RunConfig {
            epochs: 1,
            ..down_the_slope()
        };
        let model = Slope::new(None);
        let finished = Training::new(model.clone(), config.clone())
            .folder(RunFolder::create(Some(&path), "slope").unwrap(), "")
            .run()
            .unwrap();
        let before = -finished.params().flat()[0];
        assert!((before - steps(1..=SLOPE as u32)).abs() < 1e-3, "{before}");
        let config = RunConfig {
            epochs: 2,
            mode: Some(mode),
            local_steps: None,
            ..config
        };
        let folder = RunFolder::open(&path).unwrap();
        let fingerprint = dsgd::run::Fingerprint::new();
        let start = dsgd::Start::resume(&folder, &*model, &config, &fingerprint).unwrap();
        let finished = Training::new(model, config).start(start.0).run().unwrap();
        let more = -finished.params().flat()[0] - before;
        let (exact, third_known) = (steps(65..=128), steps(28..=91));
        assert!(
            exact - 0.1 < more && more < third_known + 0.1,
            "{more} {exact} {third_known}"
        );
    }
}

#[test]
fn a_worker_that_is_born_again_goes_on_from_what_was_told() {
    let config = RunConfig {
        epochs: 2,
        ..down_the_slope()
    };
    let finished = Training::new(Slope::new(Some(17)), config).run().unwrap();
    let down = -finished.params().flat()[0];
    // Born again in the middle of the first epoch or earlier, it would go down half of that once more.
    let exact = steps(1..=128);
    assert!(exact - 0.1 < down && down < 1.2 * exact, "{down} {exact}");
}
