//! Synchronous training is what it would be on one machine in one loop, to the bit; however many
//! workers there are, in whatever order they finish, whatever happens to them on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use dsgd::testing::parts_agree;
use dsgd::{
    Batch, Compute, Gradient, Layout, Manifest, Model, Params, Part, Seat, Snapshot, TaskResult,
    TensorGradient,
};
use dsgd_core::event::{Event, Record, Step};
use dsgd_engine::checkpoint::{load_state, load_weights};
use dsgd_engine::worker::batch_seed;

use crate::program::{Program, finished};
use crate::runs::{assert_each_batch_once, checkpoint_bytes, newest, records, steps, train};
use crate::task::{Options, Words};

const SEED: u64 = 11;
const BATCHES: usize = 20;

pub(crate) fn options() -> Options {
    Options {
        examples: 195,
        batch_size: 10,
        dropout: 0.2,
        ballast: 0,
        scale: 1.0,
        trouble: String::new(),
        data: None,
        most_parts: 1,
    }
}

pub(crate) fn weights(folder: &Path, layout: &Arc<Layout>) -> Params {
    load_weights(&newest(folder), layout).unwrap().params
}

fn bits(params: &Params) -> Vec<u32> {
    params.flat().iter().map(|value| value.to_bits()).collect()
}

/// One worker does what this loop does, which knows nothing of dsgd but the order of the batches.
fn one_worker_is_a_plain_loop(optimizer: &str, rule: impl Fn(&mut f32, &mut f32, f32)) {
    let folder = tempfile::tempdir().unwrap();
    let args = format!(
        "-n 1 --mode sync --epochs 3 --seed {SEED} --optimizer {optimizer} --learning-rate 0.1 \
         --lr-schedule constant --max-grad-norm 0"
    );
    train(folder.path(), &args).unwrap();
    let steps = steps(&records(folder.path()));
    assert_eq!(
        steps.len(),
        3 * BATCHES,
        "a step of one worker is one batch"
    );
    let (start, params) = plain_loop(folder.path(), SEED, rule);
    let trained = bits(&weights(folder.path(), params.layout()));
    assert_ne!(trained, start);
    assert_eq!(trained, bits(&params));
}

/// Initial parameters, and what a loop over the batches of a run makes of them, in the order of its steps.
pub(crate) fn plain_loop(
    run: &Path,
    seed: u64,
    rule: impl Fn(&mut f32, &mut f32, f32),
) -> (Vec<u32>, Params) {
    let task = Words::new(options());
    let layout = Arc::clone(&task.manifest().layout);
    let mut params = Params::zeros(layout.clone());
    task.init(seed, &mut params).unwrap();
    let start = bits(&params);
    let mut history = vec![0.0; layout.len()];
    let mut gradient = Gradient::new(layout.clone());
    let steps = steps(&records(run));
    let batches = |step: &Step| {
        let epoch = step.epoch;
        crate::runs::batches_of(step)
            .into_iter()
            .map(move |batch| (epoch, batch))
    };
    for (epoch, index) in steps.iter().flat_map(batches) {
        let seed = batch_seed(seed, epoch, index);
        gradient.clear();
        let batch = Batch {
            index,
            epoch,
            seed,
            part: Part::WHOLE,
        };
        let snapshot = Snapshot::new(0, Arc::new(params.clone()));
        (&task).gradient(batch, &snapshot, &mut gradient).unwrap();
        let slopes = flat(&gradient);
        let values = params.flat_mut().iter_mut().zip(&mut history);
        for ((p, h), g) in values.zip(slopes) {
            rule(p, h, g);
        }
    }
    (start, params)
}

/// A gradient with all its zeros.
fn flat(gradient: &Gradient) -> Vec<f32> {
    let layout = gradient.layout();
    let mut flat = vec![0.0; layout.len()];
    for (tensor, part) in layout.tensors().iter().zip(gradient.tensors()) {
        let values = &mut flat[tensor.range.clone()];
        match part {
            TensorGradient::Dense(dense) => values.copy_from_slice(dense),
            TensorGradient::Rows(rows) => {
                for (row, slopes) in rows.iter() {
                    values[row * tensor.width()..][..tensor.width()].copy_from_slice(slopes);
                }
            }
        }
    }
    flat
}

#[test]
fn one_worker_with_sgd_is_a_plain_loop() {
    one_worker_is_a_plain_loop("sgd", |p, _, g| *p -= 0.1 * g);
}

#[test]
fn one_worker_with_adagrad_is_a_plain_loop() {
    one_worker_is_a_plain_loop("adagrad", |p, h, g| {
        *h += g * g;
        *p -= 0.1 * g / (1e-9 + *h).sqrt();
    });
}

/// A step of four workers is a step on one batch of four times the size, also where the last
/// of the four batches is smaller: 35 examples are 10, 10, 10 and 5.
#[test]
fn many_workers_are_one_with_a_larger_batch() {
    let layout = Arc::clone(&Words::new(options()).manifest().layout);
    let trained = |workers: usize, batch_size: usize| {
        let folder = tempfile::tempdir().unwrap();
        let args = format!(
            "-n {workers} --batch-size {batch_size} --examples 35 --dropout 0 --mode sync \
             --epochs 20 --optimizer adagrad --learning-rate 0.1 --max-grad-norm 0.5"
        );
        train(folder.path(), &args).unwrap();
        let steps = steps(&records(folder.path()));
        assert_eq!(steps.len(), 20);
        let norms: Vec<_> = steps.iter().map(|step| step.grad_norm).collect();
        assert!(norms[0] > 0.5, "nothing is clipped: {norms:?}");
        weights(folder.path(), &layout)
    };
    let (many, one) = (trained(4, 10), trained(1, 40));
    // Twenty steps, each with a rounding of 6e-8 or so that AdaGrad's root may magnify.
    for (a, b) in many.flat().iter().zip(one.flat()) {
        assert!((a - b).abs() < 1e-4, "{a} is not {b}");
    }
}

/// A round of some batches is a step of as many workers, asynchronously too where there is one worker; to the bit
/// where there are two batches of the same size.
#[test]
fn a_round_is_a_step_of_as_many_workers() {
    let layout = Arc::clone(&Words::new(options()).manifest().layout);
    let trained = |args: &str, examples: usize| {
        let folder = tempfile::tempdir().unwrap();
        let args = format!(
            "{args} --examples {examples} --epochs 3 --optimizer adagrad --learning-rate 0.1 \
             --max-grad-norm 0.5"
        );
        train(folder.path(), &args).unwrap();
        let batches = examples.div_ceil(10);
        assert_each_batch_once(folder.path(), 3, batches);
        weights(folder.path(), &layout)
    };
    let two = bits(&trained("-n 2 --mode sync", 200));
    assert_eq!(two, bits(&trained("-n 1 --mode sync --round 2", 200)));
    assert_eq!(two, bits(&trained("-n 1 --round 2", 200)));
    // The last batch has 5 examples, and a step of 4 batches is added up in another order.
    let four = trained("-n 4 --mode sync", 195);
    for args in ["-n 1 --mode sync --round 4", "-n 2 --mode sync --round 2"] {
        let round = trained(args, 195);
        for (a, b) in four.flat().iter().zip(round.flat()) {
            assert!((a - b).abs() < 1e-4, "{args}: {a} is not {b}");
        }
    }
}

/// Workers that share each batch make the steps of one worker; the bytes depend on the parts and not on who
/// computes them, nor on what happens to him.
#[test]
fn workers_that_share_a_batch_are_one_worker() {
    let layout = Arc::clone(&Words::new(options()).manifest().layout);
    let trained = |args: &str| {
        let folder = tempfile::tempdir().unwrap();
        let args = format!("--most-parts 12 --epochs 3 --learning-rate 0.05 {args}");
        train(folder.path(), &args).unwrap();
        let records = records(folder.path());
        let steps = steps(&records);
        assert_eq!(steps.len(), 3 * BATCHES);
        let examples: u64 = steps.iter().map(|step| step.stats().examples).sum();
        assert_eq!(examples, 3 * 195, "every example of every epoch");
        let parts: Vec<_> = steps.iter().map(|step| step.parts.len()).collect();
        let lost = |record: &&Record| matches!(record.event, Event::WorkerLost { .. });
        let lost = records.iter().filter(lost).count();
        (weights(folder.path(), &layout), parts, lost)
    };
    let whole = trained("-n 1 --mode sync").0;
    let mut bytes = BTreeSet::new();
    for (args, lives_lost) in [
        ("-n 1 --parts 4", 0),
        ("-n 2 --parts 4 --trouble jitter:0", 0),
        ("-n 4", 0),
        ("-n 4 --mode split --trouble panic:31", 1),
        ("-n 9 --parts 4 --trouble jitter:0", 0),
    ] {
        let (params, parts, lost) = trained(args);
        assert_eq!(parts, [4; 3 * BATCHES], "{args}");
        assert_eq!(lost, lives_lost, "{args}");
        bytes.insert(bits(&params));
        for (a, b) in whole.flat().iter().zip(params.flat()) {
            assert!((a - b).abs() < 1e-5, "{args}: {a} is not {b}");
        }
    }
    assert_eq!(bytes.len(), 1, "the same bytes");
    // More parts than a batch has examples: some of them are empty.
    let (params, ..) = trained("-n 3 --parts 12");
    for (a, b) in whole.flat().iter().zip(params.flat()) {
        assert!((a - b).abs() < 1e-5, "{a} is not {b}");
    }
}

/// A worker that takes steps by itself takes those that the server would have taken: the same optimizer, clipping and
/// learning rates, across rounds and epochs.
#[test]
fn steps_of_its_own_are_those_of_the_server() {
    let layout = Arc::clone(&Words::new(options()).manifest().layout);
    for optimizer in ["sgd", "momentum", "adagrad", "adam"] {
        let trained = |args: &str| {
            let folder = tempfile::tempdir().unwrap();
            let args = format!(
                "-n 1 --epochs 3 --optimizer {optimizer} --learning-rate 0.05 --max-grad-norm 0.5 \
                 --warmup-steps 7 --lr-schedule cosine {args}"
            );
            train(folder.path(), &args).unwrap();
            assert_each_batch_once(folder.path(), 3, BATCHES);
            let rate = steps(&records(folder.path()))[4].learning_rate;
            (weights(folder.path(), &layout), rate)
        };
        let (server, _) = trained("--mode sync");
        for (args, rates) in [
            ("--mode local --local-steps 1 --outer-rate 1", 5),
            ("--mode local --local-steps 3 --outer-rate 1", 15),
            ("--mode local --local-steps 3", 15),
        ] {
            let (own, rate) = trained(args);
            // The warm-up is one of steps, not of exchanges.
            assert_eq!(rate > 0.04, rates > 5, "{args}: {rate}");
            for (a, b) in server.flat().iter().zip(own.flat()) {
                assert!((a - b).abs() < 1e-4, "{optimizer} {args}: {a} is not {b}");
            }
        }
    }
}

/// One step of each worker's own, by plain gradient descent, is a synchronous step.
#[test]
fn the_mean_of_single_steps_is_a_synchronous_step() {
    let layout = Arc::clone(&Words::new(options()).manifest().layout);
    let trained = |args: &str| {
        let folder = tempfile::tempdir().unwrap();
        let args = format!(
            "-n 3 --epochs 3 --optimizer sgd --learning-rate 0.05 --lr-schedule constant \
             --max-grad-norm 0 {args}"
        );
        train(folder.path(), &args).unwrap();
        weights(folder.path(), &layout)
    };
    let sync = trained("--mode sync");
    let local = trained("--mode local --local-steps 1");
    for (a, b) in sync.flat().iter().zip(local.flat()) {
        assert!((a - b).abs() < 1e-5, "{a} is not {b}");
    }
}

/// Its masks are those of the rows that it computes.
struct Wrong(Words);
impl Model for Wrong {
    fn manifest(&self) -> &Manifest {
        self.0.manifest()
    }
    fn init(&self, seed: u64, params: &mut Params) -> TaskResult<()> {
        self.0.init(seed, params)
    }
    fn compute(&self, _: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        Ok(Box::new(
            |batch: Batch, params: &Snapshot, into: &mut Gradient| {
                let seed = batch.seed + batch.part.number as u64;
                (&self.0).gradient(Batch { seed, ..batch }, params, into)
            },
        ))
    }
}

/// A task whose parts are not its batch is found out.
#[test]
fn parts_are_held_against_their_batch() {
    let honest = Words::new(Options {
        most_parts: 4,
        ..options()
    });
    parts_agree(&honest).unwrap();
    let error = parts_agree(&Wrong(honest)).unwrap_err().to_string();
    assert!(error.contains("batch 0 in 2 parts"), "{error}");
}

/// Who computes what is settled by the workers' names: local steps give the same bytes, too.
#[test]
fn local_steps_give_the_same_bytes() {
    let trained = || {
        let folder = tempfile::tempdir().unwrap();
        let args = "-n 3 --mode local --local-steps 3 --epochs 3 --trouble jitter:0";
        train(folder.path(), args).unwrap();
        assert_each_batch_once(folder.path(), 3, BATCHES);
        checkpoint_bytes(folder.path())
    };
    let first = trained();
    assert_eq!(first.len(), 6, "three checkpoints, two files each");
    assert!(first == trained());
}

/// Whatever workers do, files of the same number of workers are the same to the last byte.
#[test]
fn the_same_seed_gives_the_same_bytes() {
    for workers in 1..=4 {
        let trained = |trouble: &str| {
            let folder = tempfile::tempdir().unwrap();
            let args = format!("-n {workers} --mode sync --epochs 3 --trouble {trouble}");
            train(folder.path(), &args).unwrap();
            assert_each_batch_once(folder.path(), 3, BATCHES);
            let panics = records(folder.path());
            let panics = panics.iter().filter(|record| {
                matches!(&record.event, Event::WorkerLost { reason, .. }
                         if reason == "panicked: trouble with gradient 25")
            });
            assert_eq!(panics.count(), usize::from(trouble == "panic:25"));
            checkpoint_bytes(folder.path())
        };
        let first = trained("jitter:0");
        assert_eq!(first.len(), 6, "three checkpoints, two files each");
        assert!(trained("jitter:0") == first, "{workers} workers, again");
        // The state says what the options were, trouble too; the weights do not.
        let weights = |mut files: BTreeMap<String, Vec<u8>>| {
            files.retain(|name, _| !name.ends_with(".state.safetensors"));
            files
        };
        let panicked = weights(trained("panic:25"));
        assert_eq!(panicked.len(), 3);
        assert!(panicked == weights(first), "{workers} workers, panic");
    }
}

/// Stopped again and again, a run comes to what it would have come to at once: weights,
/// optimizer, schedule and accounts.
#[test]
fn a_run_that_is_interrupted_and_resumed_is_the_same() {
    for optimizer in ["sgd", "adam"] {
        let args = format!(
            "train -n 2 --mode sync --epochs 3 --optimizer {optimizer} --learning-rate 0.05 \
             --start-decay-at 1 --quiet --run-dir"
        );
        let (whole, cut) = (Program::new(), Program::new());
        finished(&whole.start(&format!("{args} run"), ""));
        let mut output = cut.start(&format!("{args} run"), "interrupt:7");
        let mut lives = 1;
        while String::from_utf8_lossy(&output.stdout).contains("Go on with") {
            output = cut.start("train --quiet --resume run", "interrupt:7");
            lives += 1;
            assert!(lives < 40, "it never ends");
        }
        finished(&output);
        assert!(lives > 5, "{lives} lives");
        assert_each_batch_once(&cut.path("run"), 3, BATCHES);
        let last = |program: &Program| {
            let last = newest(&program.path("run"));
            assert!(last.display().to_string().contains("_epoch3_"));
            let state: serde_json::Value = load_state(&last).unwrap();
            let tensors = last.with_extension("state.safetensors");
            let tensors = without_header(&fs::read(tensors).unwrap());
            (fs::read(last).unwrap(), tensors, state["progress"].clone())
        };
        let (whole, cut) = (last(&whole), last(&cut));
        assert!(whole.0 == cut.0, "{optimizer}: the weights");
        assert!(whole.1 == cut.1, "{optimizer}: the optimizer");
        assert_eq!(whole.2, cut.2, "{optimizer}: the accounts");
    }
}

/// The tensors of a file. Its header names the best checkpoint, whose name may differ.
fn without_header(file: &[u8]) -> Vec<u8> {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    file[8 + header..].to_vec()
}

/// With another number of workers the steps are others, but the accounts are right.
#[test]
fn another_number_of_workers_may_go_on() {
    for mode in [
        "sync",
        "async",
        "split --most-parts 3",
        "local --local-steps 2",
    ] {
        let program = Program::new();
        let args = format!("train -n 3 --mode {mode} --epochs 2 --quiet --run-dir run");
        let output = program.start(&args, "interrupt:11");
        assert!(String::from_utf8_lossy(&output.stdout).contains("Go on with"));
        finished(&program.start("train --quiet --resume run -n 2", ""));
        assert_each_batch_once(&program.path("run"), 2, BATCHES);
    }
}

#[test]
fn asynchronous_workers_count_each_batch_once() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "-n 4 --epochs 4 --trouble jitter:0").unwrap();
    assert_each_batch_once(folder.path(), 4, BATCHES);
    let steps = steps(&records(folder.path()));
    let workers: BTreeSet<_> = steps.iter().flat_map(crate::runs::workers_of).collect();
    assert_eq!(workers.len(), 4, "each of them has done something");
    let examples: u64 = steps.iter().map(|step| step.stats().examples).sum();
    assert_eq!(examples, 4 * 195, "every example of every epoch");
}
