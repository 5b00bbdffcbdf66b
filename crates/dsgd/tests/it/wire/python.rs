//! A worker in Python, from the schema alone, works for a run.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dsgd_core::event::Event;

use crate::program::{Program, end, finished, until, words};
use crate::runs::{assert_each_batch_once, records, steps, workers_of};

/// What the worker needs beside Python, pinned.
const PACKAGES: [&str; 2] = ["grpcio==1.76.0", "grpcio-tools==1.76.0"];

#[test]
fn a_worker_in_python_shares_a_run() {
    let test = "a_worker_in_python_shares_a_run";
    let python = match python() {
        Ok(python) => python,
        Err(lacks) => {
            // Around the test harness, which would keep it to itself.
            writeln!(io::stderr(), "SKIPPED {test}: {lacks}").unwrap();
            return;
        }
    };
    let program = Program::of("linear");
    let schema = schema(&python, &program.path("schema"));
    let server = program
        .command(
            "train -n 0 --listen 127.0.0.1:0 --epochs 3 --learning-rate 0.5 --run-dir run",
            "",
        )
        .spawn()
        .unwrap();
    let run = program.path("run");
    let invitation = until(|| fs::read(run.join("invitation")).ok()).expect("an invitation");
    let mut worker = Command::new(&python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/wire/worker.py"))
        .env("PYTHONPATH", schema)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    worker.stdin.take().unwrap().write_all(&invitation).unwrap();
    finished(&end(server));
    finished(&end(worker));
    assert_each_batch_once(&run, 3, 100);
    let records = records(&run);
    let python = records.iter().find_map(|record| match &record.event {
        Event::WorkerJoined { worker, name } if name == "python/0" => Some(*worker),
        _ => None,
    });
    let python = python.expect("the worker in Python has joined");
    let steps = steps(&records);
    assert!(steps.iter().all(|step| workers_of(step) == [python]));
    // It has learned the line y = 3x − 1, as workers in Rust do.
    let loss = steps.last().unwrap().epoch_stats.mean_loss();
    assert!(loss < 0.1, "{loss}");
}

/// A Python that has what the worker needs: in a virtual environment below `target/`, made once.
fn python() -> Result<PathBuf, String> {
    let target = target();
    let mark = PACKAGES.join("-").replace('=', "");
    let folder = target.join(format!("python-{mark}"));
    let python = folder.join("bin/python");
    let works = || quiet(Command::new(&python).args(["-c", "import grpc, grpc_tools"]));
    if works().is_ok() {
        return Ok(python);
    }
    // Whole or not at all: a test that runs beside this one, or after one that was ended.
    let making = tempfile::tempdir_in(&target).map_err(|error| error.to_string())?;
    let fresh = making.path().join("python");
    let mut venv = Command::new("python3");
    quiet(venv.args(["-m", "venv"]).arg(&fresh))
        .map_err(|why| format!("no python3 -m venv: {why}"))?;
    let mut pip = Command::new(fresh.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    quiet(pip.args(PACKAGES)).map_err(|why| format!("pip cannot install grpcio: {why}"))?;
    let _ = fs::rename(&fresh, &folder);
    works().map(|()| python)
}

/// Where cargo builds: this test lies in TARGET/PROFILE/deps.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().to_owned()
}

/// Runs it; what it complains of, if it fails.
fn quiet(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    let last = words(&output).1;
    let last = last.trim().lines().last().unwrap_or("it fails");
    if output.status.success() {
        Ok(())
    } else {
        Err(last.to_owned())
    }
}

/// The schema in Python's words.
fn schema(python: &Path, folder: &Path) -> PathBuf {
    fs::create_dir(folder).unwrap();
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dsgd-engine/proto");
    let mut protoc = Command::new(python);
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(&proto);
    for option in ["--python_out", "--grpc_python_out"] {
        protoc.arg(format!("{option}={}", folder.display()));
    }
    quiet(protoc.arg(proto.join("dsgd.proto"))).unwrap();
    folder.to_owned()
}
