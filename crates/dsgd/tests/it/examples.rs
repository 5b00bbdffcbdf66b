//! The examples do what they say.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use dsgd_core::event::Event;
use dsgd_core::metric::Metric;

use crate::program::{Program, finished};
use crate::runs::records;
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
    let settings = "--mode sync --round 3 --learning-rate 0.3 --epochs 3";
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

/// Rows of two classes, sorted by class, that a line between them tells apart.
pub(crate) fn rows() -> String {
    let mut csv = String::new();
    for i in 0..400 {
        let part = |step: f64| f64::from(i) * step % 1.0;
        let (x, class) = (part(0.618), i / 200);
        let y = x + 0.4 * part(0.414) + 0.6 * f64::from(class);
        writeln!(csv, "{x},{y},{class}").unwrap();
    }
    csv
}

/// What is said of a run anywhere but at its page: by the program, and in its files.
fn all_output(program: &Program, said: String) -> Vec<(&'static str, String)> {
    let read = |path: PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let board = fs::read_dir(program.path("run/tensorboard")).unwrap();
    let board = board.map(|file| file.unwrap().path()).next().unwrap();
    vec![
        ("train", said),
        ("log.txt", read(program.path("run/log.txt"))),
        ("TensorBoard", read(board)),
        ("report", program.says("report run")),
        ("report.md", read(program.path("run/report.md"))),
        ("report.html", read(program.path("run/report.html"))),
        ("runs", program.says("runs .")),
        ("runs of one", program.says("runs run")),
        ("watch", program.says("watch run")),
        ("plot", program.says("plot run --out pictures")),
    ]
}

/// Files of the run's weights.
fn checkpoints(program: &Program) -> Vec<String> {
    let files = fs::read_dir(program.path("run")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names
        .filter(|name| name.ends_with(".safetensors") && !name.ends_with(".state.safetensors"))
        .collect();
    names.sort();
    names
}

/// Wherever a perplexity stands for a language model, an accuracy does for a classifier.
#[test]
fn a_classifier_is_judged_by_its_accuracy() {
    let source = include_str!("../../examples/classifier.rs");
    assert!(source.lines().count() <= 80);
    let program = Program::of("classifier");
    fs::write(program.path("rows.csv"), rows()).unwrap();
    let said = program.says(
        "train -n 2 --mode sync --learning-rate 1 --lr-schedule constant --wait 70 --epochs 8 --print-every 10 \
         --run-dir run --csv rows.csv",
    );
    assert!(
        said.contains("every worker gets work now (--wait)"),
        "{said}"
    );
    for (what, words) in all_output(&program, said) {
        assert!(words.contains("ccuracy"), "{what}: {words}");
        for no in ["ppl", "perplexity", "token"] {
            assert!(!words.contains(no), "{what}: {words}");
        }
    }
    // The best is the highest, and is kept.
    let records = records(&program.path("run"));
    let accuracies = records.iter().filter_map(|record| match &record.event {
        Event::EpochFinished { validation, .. } => {
            Some(Metric::accuracy().value(&validation.unwrap()))
        }
        _ => None,
    });
    let accuracies: Vec<f64> = accuracies.collect();
    let best = accuracies.iter().copied().fold(0.0, f64::max);
    assert!(accuracies[0] < best && best > 95.0, "{accuracies:?}");
    let (epoch, first) = (1..).zip(&accuracies).find(|(_, a)| **a >= best).unwrap();
    let kept = checkpoints(&program);
    let name = format!("classifier_epoch{epoch}_{first:.2}.safetensors");
    assert!(kept.contains(&name), "{name} of {kept:?}");
    let out = program.says("eval run");
    assert!(out.contains(&name), "{out}");
    assert!(out.contains(&format!("accuracy    {best:.4} %")), "{out}");
}

/// A mistake in the user's own file is named with its place.
#[test]
fn a_classifiers_file_with_a_mistake_is_named_with_the_line() {
    let program = Program::of("classifier");
    let said = program.fails("train --csv rows.csv", "");
    assert!(said.contains("rows.csv: No such file"), "{said}");
    let mistakes = ["0.4,x,1", "0.4,1", "0.4,0.5,0.6,1", "0.4,0.5,2", ""];
    for mistake in mistakes {
        let mut lines: Vec<String> = rows().lines().map(str::to_owned).collect();
        mistake.clone_into(&mut lines[7]);
        fs::write(program.path("rows.csv"), lines.join("\n")).unwrap();
        let said = program.fails("train --csv rows.csv", "");
        assert!(said.contains("rows.csv, line 8: not 3 numbers"), "{said}");
        assert!(!program.path("runs").exists(), "nothing is left");
    }
}

/// What has no words in it has no perplexity and no tokens.
#[test]
fn a_regression_is_judged_by_its_loss() {
    let program = Program::of("table");
    fs::write(program.path("points.csv"), points()).unwrap();
    let said = program.says(
        "train -n 2 --learning-rate 0.3 --epochs 3 --print-every 10 --run-dir run --csv points.csv",
    );
    for (what, words) in all_output(&program, said) {
        assert!(words.contains("oss"), "{what}: {words}");
        for no in ["ppl", "erplexity", "token", "0/0/0"] {
            assert!(!words.contains(no), "{what}: {words}");
        }
    }
}
