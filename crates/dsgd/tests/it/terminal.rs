//! What a person at a terminal sees of a run, and a program that reads its lines, or stops reading.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::{Program, end, finished, until, wait};
use crate::runs::records;
use dsgd_core::event::Event;

/// The command at a terminal of 120 columns and 40 rows; what it writes there.
fn at_a_terminal(program: &Program, args: &str) -> String {
    let command = program.command(args, "");
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let line = format!("stty cols 120 rows 40; exec {}", words.join(" "));
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]);
    script.current_dir(program.path("")).env("TERM", "xterm");
    script
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    finished(&end(script.spawn().unwrap()))
}

#[test]
fn a_terminal_shows_a_picture_below_the_lines_and_takes_it_away_at_the_end() {
    let program = Program::new();
    let shown = at_a_terminal(
        &program,
        "train -n 2 --epochs 2 --trouble slow:10 --run-dir run",
    );
    // The picture's gauge, figures and table, and the lines above it.
    assert!(shown.contains("epoch 2/2 "), "{shown}");
    assert!(shown.contains(" of 2 workers"), "{shown}");
    assert!(
        shown.contains("local/1") && shown.contains("batches"),
        "{shown}"
    );
    assert!(shown.contains("Epoch 1 is done: train ppl "), "{shown}");
    let last = shown.rsplit("\x1b[J").next().unwrap();
    assert!(last.contains("Run finished after 40 steps"), "{last}");
    assert!(
        !last.contains("of 2 workers"),
        "the picture is gone: {last}"
    );
}

/// A terminal in a server of tmux of its own, which ends with it.
struct Tmux(tempfile::TempDir);

impl Tmux {
    fn says(&self, args: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S")
            .arg(self.0.path().join("socket"))
            .args(["-f", "/dev/null"]);
        let output = tmux.args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it shows, once that is so.
    fn shows(&self, right: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let found = until(|| {
            last = self.says(&["capture-pane", "-p"]);
            right(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("{last}"))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let socket = self.0.path().join("socket");
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(socket)
            .arg("kill-server")
            .output();
    }
}

#[test]
fn a_terminal_that_is_made_narrow_keeps_nothing_of_the_wide_picture() {
    if Command::new("tmux").arg("-V").output().is_err() {
        eprintln!("SKIPPED a_terminal_that_is_made_narrow: tmux is not installed");
        return;
    }
    let program = Program::new();
    let command = program.command(
        "train -n 3 --examples 100000 --trouble slow:30 --run-dir run",
        "",
    );
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let line = format!(
        "cd {} && exec {}",
        program.path("").display(),
        line.join(" ")
    );
    let tmux = Tmux(tempfile::tempdir().unwrap());
    tmux.says(&["new-session", "-d", "-x", "130", "-y", "40", &line]);
    let first = tmux.shows(|text| text.contains("|grad|") && text.contains("local/2"));
    assert!(first.contains("Number of parameters"), "{first}");
    for columns in ["100", "64", "80", "66", "130"] {
        tmux.says(&["resize-window", "-x", columns, "-y", "40"]);
        // What is left of a picture is there for good once another one was drawn.
        let mut shown = tmux.shows(|_| true);
        for _ in 0..3 {
            let last = shown.clone();
            shown = tmux.shows(|text| text != last && text.contains("local/2"));
        }
        for what in [" of 3 workers", " · staleness ", "local/2"] {
            assert_eq!(shown.matches(what).count(), 1, "{columns}, {what}: {shown}");
        }
    }
}

#[test]
fn who_wants_lines_gets_lines() {
    let program = Program::new();
    let shown = at_a_terminal(&program, "train --plain -n 2 --epochs 2 --run-dir run");
    assert!(shown.contains("Epoch 2 is done"), "{shown}");
    assert!(!shown.contains('\x1b'), "{shown}");
}

#[test]
fn lines_of_json_are_for_programs() {
    let program = Program::new();
    let args = "train -n 2 --epochs 2 --print-every 1 --log-format json --run-dir run";
    let said = program.says(args);
    let parse = |line: &str| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    let lines: Vec<_> = said.lines().map(parse).collect();
    let of = |kind: &'static str| lines.iter().filter(move |l| l["fields"]["event"] == kind);
    assert_eq!(of("epoch_finished").count(), 2);
    assert_eq!(of("run_finished").count(), 1);
    let step = of("step").next().expect("a step's figures");
    let fields = &step["fields"];
    assert_eq!(fields["metric"], "perplexity");
    assert!(fields["value"].as_f64().unwrap() > 0.0, "{step}");
    assert_eq!(fields["unit"], "tokens");
    assert!(fields["units_per_s"].as_f64().unwrap() > 0.0, "{step}");
    assert!(lines.iter().all(|line| line["level"] == "INFO"), "{said}");
}

/// More is said than a pipe holds, and nobody reads it.
#[test]
fn a_reader_that_stops_reading_does_not_hold_up_the_run() {
    let program = Program::new();
    let args = "train -n 2 --epochs 1200 --save-every 0 --save-minutes 0 --run-dir run";
    let mut child = program.command(args, "").spawn().unwrap();
    let run = program.path("run");
    let over = until(|| is_over(&run).then_some(()));
    over.expect("the run is over while its reader stands still");
    // Its last words wait for the reader: who goes does not want them.
    drop(child.stdout.take());
    assert!(wait(&mut child).success());
    let said: usize = records(&run)
        .iter()
        .map(|record| match &record.event {
            Event::EpochStarted { .. } => "Epoch 1: 20 batches\n".len(),
            Event::EpochFinished { .. } => {
                "Epoch 1 is done: train ppl 1.00, valid ppl 1.00\n".len()
            }
            _ => 0,
        })
        .sum();
    assert!(said > 64 << 10, "a pipe would have held {said} bytes");
}

fn is_over(run: &Path) -> bool {
    let text = std::fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
    let last = text.lines().next_back().unwrap_or_default();
    last.contains(r#""event":"run_finished""#)
}

#[test]
fn a_run_that_is_over_can_be_watched_and_one_that_is_none_is_named() {
    let program = Program::new();
    program.says("train -n 2 --epochs 2 --run-dir run");
    let seen = program.says("watch run");
    assert!(seen.contains("Epoch 2 is done"), "{seen}");
    assert!(seen.ends_with("Run finished after 40 steps\n"), "{seen}");
    let said = program.fails("watch nothing", "");
    assert!(
        said.contains("nothing is no run: it has neither events.jsonl nor config.toml"),
        "{said}"
    );
    let said = program.fails("watch http://127.0.0.1:9/?token=x", "");
    assert!(
        said.contains("http://127.0.0.1:9/api/board?token=x cannot be read"),
        "{said}"
    );
}

/// A run elsewhere is seen through its page.
#[test]
fn a_page_can_be_watched_too() {
    let program = Program::new();
    program.says("train -n 2 --epochs 2 --run-dir run");
    let mut page = program.command("dashboard run --listen 127.0.0.1:0", "");
    let mut page = page.spawn().unwrap();
    let said = BufReader::new(page.stdout.take().unwrap());
    let mut words = said.lines().map(Result::unwrap);
    let url = words.find_map(|line| Some(line[line.find("http://")?..].to_owned()));
    let url = url.expect("the page's address is said");
    let url = url.split_whitespace().next().unwrap();
    let seen = program.says(&format!("watch {url}"));
    page.kill().unwrap();
    page.wait().unwrap();
    assert!(
        seen.contains("epoch 2/2") && seen.contains("20/20 · finished"),
        "{seen}"
    );
    assert!(seen.contains("train ppl "), "{seen}");
}

/// One that is under way is followed to its end.
#[test]
fn a_run_under_way_is_watched_to_its_end() {
    let program = Program::new();
    let args = "train -n 2 --epochs 2 --trouble slow:20 --run-dir run";
    let mut run = program.command(args, "").spawn().unwrap();
    until(|| program.path("run/events.jsonl").exists().then_some(())).unwrap();
    let seen = program.says("watch run --plain");
    assert!(seen.ends_with("Run finished after 40 steps\n"), "{seen}");
    drop(run.stdout.take());
    assert!(wait(&mut run).success());
}
