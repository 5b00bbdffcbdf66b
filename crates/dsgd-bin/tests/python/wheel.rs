//! The package as it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::program::{Program, root, said, skip};

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let (out, err) = said(&output);
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    output
}

/// What builds wheels, beside the Python that has torch or on the path.
fn maturin() -> Option<PathBuf> {
    let beside = std::env::var("DSGD_TORCH_PYTHON").ok();
    let beside = beside.map(|python| Path::new(&python).with_file_name("maturin"));
    let on_path = Some(PathBuf::from("maturin"));
    let mut candidates = beside.into_iter().chain(on_path);
    candidates.find(|maturin| {
        let answer = Command::new(maturin).arg("--version").output();
        answer.is_ok_and(|answer| answer.status.success())
    })
}

/// Pythons of other versions that there are here.
fn others() -> Vec<PathBuf> {
    let home = std::env::home_dir().unwrap_or_default();
    let versions = fs::read_dir(home.join(".pyenv/versions"))
        .into_iter()
        .flatten();
    let wanted = |path: &PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name.starts_with("3.9.") || name.starts_with("3.13.")
    };
    let versions = versions.flatten().map(|entry| entry.path());
    versions
        .filter(wanted)
        .map(|path| path.join("bin/python"))
        .collect()
}

#[test]
fn one_wheel_is_installed_into_fresh_environments_and_trains() {
    let test = "one_wheel_is_installed_into_fresh_environments_and_trains";
    let Some(maturin) = maturin() else {
        return skip(test, "there is no maturin here");
    };
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let wheels = program.path("wheels");
    run(Command::new(maturin)
        .args([
            "build",
            "--locked",
            "--offline",
            "--compatibility",
            "linux",
            "--profile",
            profile,
            "--out",
        ])
        .arg(&wheels)
        .current_dir(root()));
    let wheel = fs::read_dir(&wheels)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let name = wheel.file_name().unwrap().to_string_lossy().into_owned();
    // Of no version of Python.
    assert!(name.starts_with("dsgd-0.1.0-py3-none-linux_"), "{name}");
    let install = |python: &Path, folder: &str, more: &[&str]| {
        let environment = program.path(folder);
        run(Command::new(python)
            .args(["-m", "venv"])
            .args(more)
            .arg(&environment));
        let own = environment.join("bin/python");
        run(Command::new(&own)
            .args(["-m", "pip", "install", "-q", "--no-index"])
            .arg(&wheel));
        own
    };
    for (at, python) in others().iter().enumerate() {
        let own = install(python, &format!("other{at}"), &[]);
        let version = run(Command::new(own.with_file_name("dsgd")).arg("--version"));
        assert!(said(&version).0.starts_with("dsgd 0.1.0"));
        let code = "import dsgd; print(dsgd.Task, dsgd.Loss(1), dsgd.main)";
        run(Command::new(&own).args(["-c", code]));
    }
    if others().is_empty() {
        skip(test, "the part with Python 3.9 and 3.13: they are not here");
    }
    // With the NumPy that is there.
    let venv = Command::new(program.python())
        .args(["-c", "import ensurepip"])
        .output()
        .unwrap();
    if !venv.status.success() {
        return skip(test, "the part that trains: Python's venv is not installed");
    }
    let own = install(
        Path::new(program.python()),
        "own",
        &["--system-site-packages"],
    );
    fs::copy(root().join("examples/line.py"), program.path("line.py")).unwrap();
    let trained = run(Command::new(&own)
        .args(["line.py", "train", "-n", "2", "--plain", "--run-dir", "run"])
        .env("XDG_CACHE_HOME", program.path("cache"))
        .current_dir(program.path("")));
    assert!(said(&trained).0.contains("Run finished after 300 steps"));
    let code = "import dsgd; print(dsgd.Run('run').history()[-1]['valid']['loss'] < 1e-6)";
    let read = run(Command::new(&own)
        .args(["-c", code])
        .current_dir(program.path("")));
    assert_eq!(said(&read).0, "True\n");
}
