//! What can go wrong with a run, in programs as their users start them: each ends with words that
//! say what happened and what to do, and with a status that says whether it went well.

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dsgd::{Gradient, Layout, Params};
use dsgd_core::core::Progress;
use dsgd_core::event::{Event, Record};
use dsgd_core::metric::Metric;
use dsgd_core::optim::{Hyper, OptimizerKind, StepSize};
use dsgd_engine::run::{Retention, SaveRequest};
use dsgd_engine::store::{Updater, Versions};

use crate::program::{Program, failed, finished, words};
use crate::runs::{assert_each_batch_once, checkpoint_bytes, newest, records, steps};

const BATCHES: usize = 20;

// Folders

#[test]
fn a_folder_that_cannot_be_written_is_found_at_once() {
    let program = Program::new();
    fs::write(program.path("file"), "").unwrap();
    for folder in ["file/run", "/proc/run", "/dev/null"] {
        let error = program.fails(&format!("train --run-dir {folder}"), "");
        assert!(error.contains(folder), "{error}");
        assert!(
            error.contains("pass a --run-dir that you may write in"),
            "{error}"
        );
    }
}

/// A mistake on the command line is no run: nothing lies about that looks like one.
#[test]
fn a_run_that_cannot_begin_leaves_no_folder() {
    let program = Program::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("--listen {}", taken.local_addr().unwrap());
    fs::create_dir(program.path("mine")).unwrap();
    fs::write(program.path("mine/notes"), "mine").unwrap();
    for (words, why) in [
        ("--listen nonsense", "must be an address and a port"),
        ("--remote", "there is no client_list.txt"),
        (&taken, "--listen 127.0.0.1"),
    ] {
        for folder in ["", "--run-dir new", "--run-dir mine"] {
            let error = program.fails(&format!("train {words} {folder}"), "");
            assert!(error.contains(why), "{error}");
        }
    }
    assert!(!program.path("new").exists());
    assert!(!program.path("runs").exists());
    let mine = fs::read_to_string(program.path("mine/notes")).unwrap();
    assert_eq!(mine, "mine", "it was there before");
    program.says("train -q --epochs 1 --run-dir mine");
}

#[test]
fn a_run_is_not_written_over() {
    let program = Program::new();
    program.says("train --epochs 1 --run-dir run");
    let before = checkpoint_bytes(&program.path("run"));
    let error = program.fails("train --epochs 1 --run-dir run", "");
    assert!(
        error.contains("run holds a run already: go on with it by --resume run"),
        "{error}"
    );
    assert!(before == checkpoint_bytes(&program.path("run")));
    // Without --run-dir there is always room for one more.
    for number in 1..3 {
        program.says("train --epochs 1");
        newest(&program.path(format!("runs/words-{number}")));
    }
}

/// While the second epoch is computed, something else takes all the space there is.
#[test]
fn a_full_disk_leaves_the_checkpoint_before_and_says_what_to_do() {
    let program = Program::new();
    let disk = program.path("disk");
    fs::create_dir(&disk).unwrap();
    let Some(_mounted) = Mounted::new(&disk) else {
        let name = "a_full_disk_leaves_the_checkpoint_before_and_says_what_to_do";
        // Around the test harness, which would keep it to itself.
        writeln!(io::stderr(), "SKIPPED {name}: no tmpfs can be mounted here").unwrap();
        return;
    };
    let filler = disk.join("filler");
    let trouble = format!("fill:{}:{}", BATCHES + 5, filler.display());
    let output = program.start("train -n 1 --epochs 3 --run-dir disk/run", &trouble);
    let error = failed(&output);
    let first = "words_epoch1_";
    for word in [
        "the last checkpoint could not be written",
        "No space left on device",
        "free space, or pass --run-dir on another disk",
        first,
        "is intact",
    ] {
        assert!(error.contains(word), "{word:?} is not in {error}");
    }
    let run = disk.join("run");
    assert!(newest(&run).display().to_string().contains(first));
    fs::remove_file(filler).unwrap();
    program.says("train --resume disk/run");
    let lines = fs::read_to_string(run.join("events.jsonl")).unwrap();
    let resumed = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Record>(line).ok());
    let resumed = resumed.filter(|record| matches!(record.event, Event::RunStarted { .. }));
    assert_eq!(
        resumed.count(),
        2,
        "what came after the cut is on a line of its own:\n{lines}"
    );
    let broken = lines
        .lines()
        .filter(|line| serde_json::from_str::<Record>(line).is_err());
    assert!(
        broken.count() <= 1,
        "only the line that the disk cut is broken:\n{lines}"
    );
    assert!(newest(&run).display().to_string().contains("words_epoch3_"));
}

/// A small file system in memory, until dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]);
        let output = mount.arg(at).output().ok()?;
        output.status.success().then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: by now nothing but a failing test's own handles can be open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

// Checkpoints

#[test]
fn weights_of_another_model_or_no_weights_are_refused() {
    let program = Program::new();
    program.says("train --epochs 1 --ballast 3 --run-dir other");
    let other = newest(&program.path("other"));
    let train_from = format!("train --run-dir run --train-from {}", other.display());
    let error = program.fails(&train_from, "");
    assert!(error.contains("is of another model"), "{error}");
    assert!(error.contains("ballast"), "{error}");

    fs::write(program.path("garbage.safetensors"), [7; 1000]).unwrap();
    let error = program.fails("train --run-dir run --train-from garbage.safetensors", "");
    assert!(error.contains("is not a whole safetensors file"), "{error}");
    let error = program.fails("train --run-dir run --train-from none.safetensors", "");
    assert!(
        error.contains("there is no checkpoint none.safetensors"),
        "{error}"
    );
    assert!(!program.path("run").exists(), "nothing was begun");
}

#[test]
fn weights_of_the_same_model_are_a_start() {
    let program = Program::new();
    program.says("train --epochs 3 --mode sync --run-dir first");
    let file = newest(&program.path("first"));
    program.says(&format!(
        "train --epochs 1 --run-dir second --train-from {}",
        file.display()
    ));
    let losses = |run: &str| {
        let steps = steps(&records(&program.path(run)));
        steps
            .iter()
            .map(|s| s.stats().mean_loss())
            .collect::<Vec<_>>()
    };
    let (first, second) = (losses("first"), losses("second"));
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&second) < mean(&first[..5]), "{first:?} {second:?}");
}

#[test]
fn resuming_what_is_no_run_says_so() {
    let program = Program::new();
    let error = program.fails("train --resume nowhere", "");
    assert!(
        error.contains("nowhere is not a run: it has no config.toml"),
        "{error}"
    );
    // A run that ended before its first step.
    let error = program.fails("train -n 1 --run-dir run", "panic:0");
    let why = "failed with the same error, and none succeeded: panicked: trouble as ever";
    assert!(error.contains(why), "{error}");
    assert!(
        error.contains("there is no checkpoint. Start again with: "),
        "{error}"
    );
    assert!(error.contains("--config run/config.toml"), "{error}");
    let error = program.fails("train --resume run", "");
    assert!(error.contains("run has no checkpoint"), "{error}");
    assert!(error.contains("--config run/config.toml"), "{error}");
    program.says("train --config run/config.toml --epochs 1");
    let error = program.fails("train --resume runs/words-1", "");
    assert!(
        error.contains("is finished: all 1 epochs are done; pass --epochs"),
        "{error}"
    );
    program.says("train --resume runs/words-1 --epochs 2");
    assert_each_batch_once(&program.path("runs/words-1"), 2, BATCHES);
}

#[test]
fn damaged_checkpoints_are_passed_over_with_a_warning() {
    let program = Program::new();
    program.says("train --epochs 3 --run-dir run");
    let run = program.path("run");
    // The newest is cut short; one bit of the one before is another.
    let newest_two = dsgd_engine::checkpoint::list(&run).unwrap().found;
    let [third, second] = [0, 1].map(|at| newest_two[at].path.clone());
    let bytes = fs::read(&third).unwrap();
    fs::write(&third, &bytes[..bytes.len() / 2]).unwrap();
    let mut bytes = fs::read(&second).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&second, bytes).unwrap();

    let output = program.start("train --resume run", "");
    let (out, err) = (finished(&output), words(&output).1);
    let warning = |file: &Path, why: &str| {
        let name = file.file_name().unwrap().to_str().unwrap();
        let said = err
            .lines()
            .any(|line| line.starts_with("Warning: ") && line.contains(name) && line.contains(why));
        assert!(said, "{name} {why}\n{err}");
    };
    warning(&third, "is not a whole safetensors file");
    warning(&second, "is damaged: its checksum does not fit");
    assert!(out.contains("Going on at step 20"), "{out}");
    assert_each_batch_once(&run, 3, BATCHES);
}

#[test]
fn a_run_with_nothing_but_damaged_checkpoints_is_refused() {
    let program = Program::new();
    program.says("train --epochs 1 --run-dir run");
    fs::write(newest(&program.path("run")), "short").unwrap();
    let error = program.fails("train --resume run --epochs 2", "");
    assert!(
        error.contains("no checkpoint in run can be read"),
        "{error}"
    );
}

// Options

#[test]
fn a_wrong_option_is_named_with_the_one_that_was_meant() {
    let program = Program::new();
    let error = program.fails("train --learning-rat 0.1", "");
    assert!(
        error.contains("'--learning-rat'") && error.contains("'--learning-rate'"),
        "{error}"
    );
    let error = program.fails("train --workers 0", "");
    assert!(
        error.contains("--workers 0: must be 1 or above, unless workers join by themselves"),
        "{error}"
    );
    let error = program.fails("train --task wrods", "");
    assert!(
        error.contains("no task \"wrods\"; this program has: words"),
        "{error}"
    );
    for number in ["inf", "nan"] {
        let error = program.fails(&format!("train --lr {number}"), "");
        assert!(
            error.contains("--learning-rate: must be a finite number"),
            "{error}"
        );
    }
    let error = program.fails("train --lease-timeout 1e300", "");
    assert!(error.contains("--lease-timeout 1"), "{error}");
}

#[test]
fn a_configuration_file_is_checked_as_options_are() {
    let program = Program::new();
    let config = |text: &str| {
        fs::write(program.path("config.toml"), text).unwrap();
        program.fails("train --config config.toml", "")
    };
    let error = config("task = \"words\"\n[run]\nlearning_rat = 0.1\n");
    assert!(
        error.contains("config.toml: unknown option \"learning_rat\""),
        "{error}"
    );
    let error = config("task = \"words\"\n[run]\nlearning_rate = \"fast\"\n");
    assert!(
        error.contains("config.toml") && error.contains("fast"),
        "{error}"
    );
    let error = config("task = \"words\"\nwords = 3\n");
    assert!(error.contains("unknown key \"words\""), "{error}");
    let error = config("task = \"words\"\n[run\n");
    assert!(
        error.contains("config.toml") && error.contains("line 2"),
        "{error}"
    );
    let error = config("task = \"letters\"\n");
    assert!(error.contains("no task \"letters\""), "{error}");
    // What an option's parser refuses is refused in a file too.
    for key in [
        "workers",
        "threads",
        "epochs",
        "start_epoch",
        "keep",
        "print_every",
    ] {
        let error = config(&format!("task = \"words\"\n[run]\n{key} = 0\n"));
        let option = key.replace('_', "-");
        assert!(
            error.contains(&format!("--{option} 0: must be 1 or above")),
            "{error}"
        );
    }
    for line in [
        "lease_timeout = -1.0",
        "save_minutes = 1e300",
        "wait = nan",
        "lr_decay = inf",
    ] {
        let error = config(&format!("task = \"words\"\n[run]\n{line}\n"));
        assert!(error.contains("must be"), "{error}");
    }
}

// Memory

/// Before anything is asked for, and with figures.
#[test]
fn memory_that_cannot_be_had_is_reported_beforehand() {
    let program = Program::new();
    let refused = |args: &str, words: &[&str]| {
        let error = program.fails(&format!("train --run-dir run {args}"), "");
        for word in words {
            assert!(error.contains(word), "{args}: {error}");
        }
        assert!(!program.path("run").exists());
    };
    let large = [
        "1,000,000,000,",
        "need about",
        "for the parameters once; it has",
        "smaller model",
    ];
    refused("--ballast 1000000000000", &large);
    refused(
        "--ballast 1000000000000 -n 1 --optimizer adam --mode sync",
        &large,
    );
    refused("--ballast 18446744073709551615", &["need about"]);
    // A gigabyte of parameters or so, and as many copies as workers.
    refused(
        "--ballast 300000000 -n 4000",
        &["4,000 workers", "-n ", " would fit"],
    );
    let file = program.command("", "").get_program().to_owned();
    let shell = "ulimit -v 1000000; exec \"$0\" train --run-dir run --ballast 100000000";
    let mut limited = Command::new("sh");
    limited
        .args(["-c", shell])
        .arg(file)
        .current_dir(program.path(""));
    let error = failed(&limited.output().unwrap());
    assert!(error.contains("ulimit -v allows 1.02 GB"), "{error}");
    program.says("train --run-dir run --ballast 100000 --epochs 1 -n 64");
}

// The task's own code

#[test]
fn data_that_cannot_be_loaded_are_named_with_file_and_line() {
    let program = Program::new();
    fs::write(program.path("data.txt"), "1\n2.5\nNaN\n").unwrap();
    let error = program.fails("train --run-dir run --data data.txt", "");
    assert!(
        error.contains("task words: data.txt, line 3: \"NaN\" is no number"),
        "{error}"
    );
    assert!(!program.path("run").exists(), "nothing was begun");
}

#[test]
fn a_panic_costs_a_worker_and_not_the_run() {
    let program = Program::new();
    let output = program.start("train -n 2 --epochs 2 --run-dir run", "panic:7");
    let out = finished(&output);
    assert!(
        out.contains("is lost: panicked: trouble with gradient 7"),
        "{out}"
    );
    assert_each_batch_once(&program.path("run"), 2, BATCHES);
    // Nothing was given to the worker that was about to be gone: one batch was freed, once. (Whether
    // its successor joins before the other is done with everything is a matter of luck.)
    let records = records(&program.path("run"));
    let freed = records
        .iter()
        .filter(|r| matches!(r.event, Event::BatchFreed { .. }));
    assert_eq!(freed.count(), 1);
}

#[test]
fn when_every_worker_panics_the_run_ends_with_words() {
    let program = Program::new();
    program.says("train --epochs 1 --run-dir run");
    let output = program.start("train -n 2 --resume run --epochs 2", "panic:0");
    let (out, error) = (words(&output).0, failed(&output));
    assert!(out.contains("has panicked 4 times"), "{out}");
    assert!(
        error.contains("no worker is left") || error.contains("no batch of epoch 2"),
        "{error}"
    );
    assert!(error.contains("train --resume run"), "{error}");
    program.says("train --resume run");
    assert_each_batch_once(&program.path("run"), 2, BATCHES);
}

/// An error whose text begins as that of a panic is an error all the same.
#[test]
fn a_task_that_cannot_compute_anything_ends_the_run() {
    let program = Program::new();
    let error = program.fails("train -n 2 --examples 30 --run-dir run", "error");
    assert!(
        error.contains("no batch can be computed: 3 different ones failed with the same error"),
        "{error}"
    );
    assert!(error.contains("No step was made"), "{error}");
    assert!(error.contains("panicked in words only"), "{error}");
    for (run, mode) in ["async", "sync", "split --most-parts 2", "local"]
        .iter()
        .enumerate()
    {
        let args = format!("train -n 2 --mode {mode} --examples 30 --run-dir nan{run}");
        let error = program.fails(&args, "nan");
        assert!(error.contains("its gradient is not finite"), "{error}");
    }
}

/// What was ordered is no fault, and no line for each step.
#[test]
fn gradients_that_the_rules_set_aside_are_no_faults() {
    let program = Program::new();
    for (words, run) in [
        ("-n 3 --mode sync --backup-workers 1", "sync"),
        ("-n 3 --max-staleness 0", "async"),
    ] {
        let args = format!("train {words} --epochs 3 --run-dir {run}");
        let out = finished(&program.start(&args, "jitter"));
        assert!(out.contains("Faults: none"), "{out}");
        assert!(out.contains(" gradients set aside"), "{out}");
        assert!(!out.to_lowercase().contains("refused"), "{out}");
        assert!(!out.contains("Set aside"), "{out}");
        let log = fs::read_to_string(program.path(run).join("log.txt")).unwrap();
        assert!(log.contains("Set aside "), "{log}");
        let report = fs::read_to_string(program.path(run).join("report.md")).unwrap();
        let (_, faults) = report.split_once("Faults and what they cost").unwrap();
        assert!(faults.trim_start().starts_with("None."), "{report}");
        assert!(
            report.contains("set aside, as --backup-workers"),
            "{report}"
        );
        let table = program.says(&format!("runs {run}"));
        let row = table.lines().find(|line| line.trim().starts_with("faults"));
        assert!(row.unwrap().trim().ends_with(" 0"), "{table}");
    }
}

/// A rate that makes the loss grow without bounds: said, no success, nothing saved, and nothing best.
#[test]
fn a_run_that_diverges_ends_with_words() {
    let program = Program::new();
    for (run, mode) in ["async", "local --local-steps 4"].iter().enumerate() {
        let args = format!(
            "train -n 1 --mode {mode} --optimizer sgd --learning-rate 1000 --max-grad-norm 0 --run-dir run{run}"
        );
        let output = program.start(&args, "");
        let (out, error) = (words(&output).0, failed(&output));
        assert!(error.contains("training has diverged: "), "{error}");
        assert!(error.contains("try a lower --learning-rate"), "{error}");
        let unsaved = "saved, so there is no checkpoint";
        assert!(error.contains(unsaved), "{error}");
        assert!(!error.contains("--resume"), "{error}");
        assert!(out.contains("Faults: training diverged"), "{out}");
        assert!(!out.contains("Best "), "{out}");
    }
}

/// The loss of a regression may be large, and its perplexity far larger than a name may be long.
#[test]
fn a_large_loss_gives_a_short_name() {
    let program = Program::new();
    program.says(
        "train -n 1 --epochs 1 --optimizer sgd --learning-rate 1e-9 --run-dir run --scale 20",
    );
    let name = newest(&program.path("run"));
    let name = name.file_stem().unwrap().to_str().unwrap();
    let perplexity: f64 = name.strip_prefix("words_epoch1_").unwrap().parse().unwrap();
    assert!(perplexity > 1e100, "{name}");
    assert!(name.len() < 30, "{name}");
}

/// Two checkpoints of equal perplexity are two: were the first one replaced, a crash meanwhile
/// would leave neither.
#[test]
fn a_checkpoint_never_takes_the_name_of_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let layout: Arc<Layout> = Arc::new([("weight", [3])].into_iter().collect());
    let updater = Updater::new(OptimizerKind::Sgd, Hyper::default(), layout.clone());
    let mut versions = Versions::new(updater, Params::zeros(layout.clone()));
    let mut retention = Retention {
        folder: folder.path().to_owned(),
        prefix: "model".to_owned(),
        metric: Metric::perplexity(),
        keep: 3,
        metadata: [].into(),
        fingerprint: dsgd_engine::run::Fingerprint::new(),
        best: None,
    };
    let mut names = Vec::new();
    for _ in 0..2 {
        let size = StepSize {
            learning_rate: 0.1,
            scale: 1.0,
        };
        versions.step(&Gradient::new(layout.clone()), size);
        let request = SaveRequest {
            epoch: 1,
            value: 2.0,
            best: false,
            contents: versions.contents(),
            progress: &Progress::start(1),
        };
        let file = PathBuf::from(retention.save(&request).unwrap());
        names.push(file.file_name().unwrap().to_str().unwrap().to_owned());
    }
    let expected = [
        "model_epoch1_2.00.safetensors",
        "model_epoch1_2.00_step2.safetensors",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        dsgd_engine::checkpoint::list(folder.path())
            .unwrap()
            .found
            .len(),
        2
    );
}
