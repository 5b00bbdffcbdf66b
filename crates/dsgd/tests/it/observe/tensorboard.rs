//! TensorBoard itself opens what is written for it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::program::Program;

/// What is installed, in the versions that this was tried with.
const PACKAGES: [&str; 4] = [
    "tensorboard==2.21.0",
    "numpy==2.4.6",
    "protobuf==7.36.2",
    "setuptools==65.5.0",
];

/// Prints what it finds as JSON.
const READER: &str = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "histograms": 0})
events.Reload()
def hparams(tag):
    content = events.SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)
start = hparams("_hparams_/session_start_info").session_start_info
kind = lambda value: getattr(value, value.WhichOneof("kind"))
print(json.dumps({
    "scalars": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]},
    "histograms": {tag: [[e.step, e.histogram_value.num, e.histogram_value.sum] for e in events.Histograms(tag)]
                   for tag in events.Tags()["histograms"]},
    "settings": {name: kind(value) for name, value in start.hparams.items()},
    "start": start.start_time_secs,
    "status": hparams("_hparams_/session_end_info").session_end_info.status,
}))
"#;

/// A Python that has TensorBoard, or words about the test that cannot be done here.
fn python(test: &str) -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| environment(Path::new(env!("CARGO_TARGET_TMPDIR"))));
    if let Err(lacks) = made {
        // Around the test harness, which would keep it to itself.
        let mut stderr = io::stderr();
        writeln!(stderr, "SKIPPED {test}: {lacks}").unwrap();
    }
    made.clone().ok()
}

/// Made once, and kept under target/.
fn environment(folder: &Path) -> Result<PathBuf, String> {
    let folder = folder.join("tensorboard-2.21.0");
    let python = folder.join("bin/python");
    let run = |program: &Path, args: &[&str]| {
        let mut command = Command::new(program);
        let command = command.args(args).stdin(Stdio::null());
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    let works = || run(&python, &["-c", "import tensorboard, numpy"]);
    if works().is_ok() {
        return Ok(python);
    }
    let name = folder.display().to_string();
    run(Path::new("python3"), &["-m", "venv", "--clear", &name]).map_err(|why| {
        format!("there is no python3 with venv (apt-get install python3-venv): {why}")
    })?;
    let mut args = vec!["-m", "pip", "install", "--quiet"];
    args.extend(PACKAGES);
    run(&python, &args).map_err(|why| format!("pip cannot install tensorboard: {why}"))?;
    works()?;
    Ok(python)
}

#[test]
fn tensorboard_reads_scalars_histograms_and_settings() {
    let test = "tensorboard_reads_scalars_histograms_and_settings";
    let Some(python) = python(test) else { return };
    let program = Program::new();
    program.says("train -q -n 2 --epochs 2 --run-dir r --learning-rate 0.25 --optimizer sgd");
    program.says("train -q --resume r --epochs 3");
    let script = program.path("reader.py");
    fs::write(&script, READER).unwrap();
    let mut command = Command::new(python);
    command.arg(script).arg(program.path("r/tensorboard"));
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let scalars = &found["scalars"];
    let steps = |tag: &str| -> Vec<u64> {
        let points = scalars[tag]
            .as_array()
            .unwrap_or_else(|| panic!("{tag}: {scalars}"));
        points.iter().map(|p| p[0].as_u64().unwrap()).collect()
    };
    // A short run's steps are all shown.
    let all: Vec<u64> = (1..=60).collect();
    for tag in [
        "train/loss",
        "train/perplexity",
        "train/learning_rate",
        "train/grad_norm",
        "speed/tokens_per_s",
        "workers/staleness",
        "workers/live",
    ] {
        assert_eq!(steps(tag), all, "{tag}");
    }
    assert_eq!(steps("validation/loss"), [20, 40, 60]);
    assert_eq!(scalars["train/learning_rate"][0][1], 0.25);
    let log = crate::runs::steps(&crate::runs::records(&program.path("r")));
    for (step, shown) in log.iter().zip(scalars["train/loss"].as_array().unwrap()) {
        let error = shown[1].as_f64().unwrap() - step.stats().mean_loss();
        assert!(error.abs() < 1e-6 * step.stats().mean_loss(), "{step:?}");
    }
    let staleness = &found["histograms"]["workers/staleness_of_steps"];
    // One bin where the other worker had no turn, else two.
    let bins = staleness.as_array().unwrap().iter();
    let counted: f64 = bins.map(|bin| bin[1].as_f64().unwrap()).sum();
    assert!((counted - 60.0).abs() < 1e-9, "{staleness}");
    assert!(found["histograms"]["gradient/compute_secs"].is_array());
    let settings = &found["settings"];
    assert_eq!(settings["optimizer"], "sgd");
    assert_eq!(settings["learning_rate"], 0.25);
    assert_eq!(settings["staleness_lr"], false);
    assert_eq!(settings["batch_size"], 10.0);
    assert!(found["start"].as_f64().unwrap() > 1.7e9);
    assert_eq!(found["status"], 1, "success");
}

#[test]
fn there_are_none_when_nobody_wants_them() {
    let program = Program::new();
    program.says("train -q -n 1 --epochs 1 --run-dir r --tensorboard=false");
    assert!(!program.path("r/tensorboard").exists());
    assert!(program.path("r/report.md").exists());
}
