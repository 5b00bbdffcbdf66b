//! The examples do what they say.

use std::fmt::Write;
use std::fs;

use crate::program::{Program, finished};
use crate::ssh::Lab;

#[test]
fn the_whole_users_program_has_forty_lines() {
    let linear = include_str!("../../examples/linear.rs");
    assert!(linear.lines().count() <= 40);
}

/// Two spirals are told apart by a model of candle's, with more workers than one.
#[test]
fn a_model_of_candles_learns() {
    let program = Program::of("candle");
    let out = program.says("train -n 2 --run-dir run");
    assert!(out.contains("eval run/spirals_epoch"), "{out}");
    let out = program.says("eval run");
    let accuracy = out.lines().find_map(|line| line.strip_prefix("accuracy"));
    let accuracy = accuracy.unwrap().trim().trim_end_matches(" %");
    assert!(accuracy.parse::<f64>().unwrap() > 95.0, "{out}");
}

/// Points of y = 3x - 1.
fn points() -> String {
    let mut csv = String::new();
    for i in 0..200 {
        let x = f64::from(i) * 0.618 % 1.0;
        writeln!(csv, "{x},{}", 3.0 * x - 1.0).unwrap();
    }
    csv
}

/// What has to be typed once is typed once: a run that goes on, its evaluation and its report know it.
#[test]
fn an_option_that_must_be_given_is_given_once() {
    let program = Program::of("table");
    fs::write(program.path("my points.csv"), points()).unwrap();
    let said = program.start("train -n 2 --run-dir run", "");
    assert!(!said.status.success());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("--csv <CSV>"), "{said}");
    let train = |args: &str, csv: &str| {
        let mut command = program.command(args, "");
        if !csv.is_empty() {
            command.args(["--csv", csv]);
        }
        finished(&command.output().unwrap())
    };
    let args = "train -n 2 --learning-rate 0.3 --epochs 3 --run-dir run";
    train(args, "my points.csv");
    let config = fs::read_to_string(program.path("run/config.toml")).unwrap();
    assert!(config.contains(r#"csv = "my points.csv""#), "{config}");
    program.says("train --resume run --epochs 6");
    program.says("eval run");
    program.says("report run");
    // Another run with the same options, or with other data.
    program.says("train --config run/config.toml --run-dir second");
    let fewer: Vec<_> = points().lines().take(50).map(str::to_owned).collect();
    fs::write(program.path("other.csv"), fewer.join("\n")).unwrap();
    train(
        "train --config run/config.toml --run-dir third",
        "other.csv",
    );
    let config = fs::read_to_string(program.path("third/config.toml")).unwrap();
    assert!(config.contains(r#"csv = "other.csv""#), "{config}");
    let said = program.fails("eval second/table_epoch1_nothing.safetensors", "");
    assert!(!said.contains("panicked"), "{said}");
}

/// The file that an option names travels, because its type says so.
#[test]
fn a_file_of_ones_own_travels() {
    let Some(lab) = Lab::up("a_file_of_ones_own_travels", 2) else {
        return;
    };
    let program = Program::of("table");
    fs::write(program.path("my points.csv"), points()).unwrap();
    let run = |args: &str| {
        let mut command = program.command(args, "");
        command.args(["--csv", "my points.csv"]);
        finished(&command.output().unwrap())
    };
    let settings = "--mode sync --learning-rate 0.3 --epochs 3";
    run(&format!("train -n 2 {settings} --run-dir here"));
    let config = lab.file("ssh_config");
    let hosts = format!("-H h1:1,h2:1 --ssh-config {}", config.display());
    run(&format!("hosts check {hosts} --"));
    run(&format!("train {hosts} {settings} --run-dir there"));
    let weights = |run: &str| {
        let files = fs::read_dir(program.path(run)).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|e| e == "safetensors"));
        files.sort();
        files
            .iter()
            .map(|file| fs::read(file).unwrap())
            .collect::<Vec<_>>()
    };
    assert!(!weights("here").is_empty());
    assert!(
        weights("here") == weights("there"),
        "the same bytes as here"
    );
}
