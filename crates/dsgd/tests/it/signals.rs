//! Ctrl-C, `kill -9` and readers that go away: what a person at a terminal does to a run.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::program::{Program, end, finished, until, wait, words};
use crate::runs::{assert_each_batch_once, newest, records, steps};

const BATCHES: usize = 20;

/// Waits until a run has made so many steps.
fn wait_for_steps(run: &Path, number: usize) {
    let steps = || {
        let text = fs::read_to_string(run.join("events.jsonl")).ok()?;
        (text.matches("\"event\":\"step\"").count() >= number).then_some(())
    };
    until(steps).expect("no steps are made");
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let status = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(status.unwrap().success());
}

#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let program = Program::new();
    let child = program.command("train -n 2 --epochs 2 --run-dir run", "slow:20");
    let child = { child }.spawn().unwrap();
    wait_for_steps(&program.path("run"), 5);
    signal(&child, "INT");
    let output = end(child);
    assert_eq!(output.status.code(), Some(130));
    let (out, err) = words(&output);
    assert!(err.contains("Saving a checkpoint"), "{err}");
    assert!(out.contains("Run interrupted after "), "{out}");
    let (_, resume) = out
        .split_once("Go on with: ")
        .unwrap_or_else(|| panic!("{out}"));
    assert!(steps(&records(&program.path("run"))).len() < 2 * BATCHES);
    // The command as it is printed.
    let mut shell = Command::new("sh");
    shell.args(["-c", resume]).current_dir(program.path(""));
    finished(&shell.output().unwrap());
    assert_each_batch_once(&program.path("run"), 2, BATCHES);
}

/// What a closed terminal sends, and what batch systems do: as Ctrl-C, and each with its own status.
#[test]
fn each_signal_that_ends_a_run_saves_it_and_sets_the_exit_status() {
    let program = Program::new();
    for (name, status) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        let args = format!("train -n 2 --epochs 2 --run-dir {name}");
        let child = program.command(&args, "slow:20").spawn().unwrap();
        let run = program.path(name);
        wait_for_steps(&run, 5);
        signal(&child, name);
        let output = end(child);
        let (out, err) = words(&output);
        assert_eq!(output.status.code(), Some(status), "{out}\n{err}");
        assert!(err.contains("Saving a checkpoint"), "{err}");
        assert!(out.contains("Go on with: "), "{out}");
        newest(&run);
        program.says(&format!("train -q --resume {name}"));
        assert_each_batch_once(&run, 2, BATCHES);
    }
}

/// Who starts a run so wants it to outlive the terminal.
#[test]
fn nohup_keeps_a_run_from_being_hung_up() {
    let program = Program::new();
    let run = program.command("train -n 1 --epochs 1 --run-dir run", "slow:20");
    let mut nohup = Command::new("nohup");
    nohup.arg(run.get_program()).args(run.get_args());
    nohup
        .current_dir(program.path(""))
        .env("TROUBLE", "slow:20");
    nohup.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = nohup.stderr(Stdio::piped()).spawn().unwrap();
    wait_for_steps(&program.path("run"), 2);
    signal(&child, "HUP");
    finished(&end(child));
    assert_each_batch_once(&program.path("run"), 1, BATCHES);
}

/// The server alone is left: it saves and ends, for nobody would pass a signal on to it.
#[test]
fn a_run_whose_supervisor_is_killed_saves_and_ends() {
    let program = Program::new();
    let run = program.path("run");
    let child = program.command("train -n 2 --epochs 2 --run-dir run", "slow:20");
    let child = { child }.spawn().unwrap();
    wait_for_steps(&run, 5);
    signal(&child, "KILL");
    // Its output is the server's too, and ends with it.
    let output = end(child);
    let (out, err) = words(&output);
    assert!(err.contains("was started by is gone"), "{err}");
    assert!(err.contains("train --resume run"), "{err}");
    assert!(out.contains("Run interrupted after "), "{out}");
    newest(&run);
    assert!(steps(&records(&run)).len() < 2 * BATCHES);
    program.says("train --resume run");
    assert_each_batch_once(&run, 2, BATCHES);
}

/// The server does not wait for its workers: one Ctrl-C is enough.
#[test]
fn ctrl_c_ends_a_run_whose_batch_takes_for_ever() {
    let program = Program::new();
    let child = program.command("train -n 1 --epochs 2 --run-dir run", "hang:6");
    let child = { child }.spawn().unwrap();
    wait_for_steps(&program.path("run"), 5);
    signal(&child, "INT");
    let output = end(child);
    assert_eq!(output.status.code(), Some(130));
    let out = words(&output).0;
    assert!(out.contains("Run interrupted after 5 steps"), "{out}");
    program.says("train --resume run");
    assert_each_batch_once(&program.path("run"), 2, BATCHES);
}

/// As service managers do, and `pkill`: the server gets its own and the supervisor's.
#[test]
fn a_signal_to_all_processes_of_a_run_counts_once() {
    let program = Program::new();
    let run = program.path("run");
    let child = program.command("train -n 2 --epochs 2 --run-dir run", "slow:20");
    let child = { child }.spawn().unwrap();
    wait_for_steps(&run, 5);
    let server = fs::read_to_string(run.join("server.pid")).unwrap();
    let server = server.split_whitespace().next().unwrap();
    let both = format!("kill -TERM {} {server}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &both])
            .status()
            .unwrap()
            .success()
    );
    let output = end(child);
    assert_eq!(output.status.code(), Some(143));
    assert!(words(&output).0.contains("Run interrupted after "));
    newest(&run);
}

/// Where the first one does not help, the second one does.
#[test]
fn a_second_ctrl_c_ends_the_process_at_once() {
    let program = Program::new();
    let child = program.command("train -n 1 --epochs 1 --run-dir run", "linger");
    let mut child = { child }.spawn().unwrap();
    let mut says = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(says.any(|line| line.unwrap().starts_with("Run finished")));
    signal(&child, "INT");
    let mut complains = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(complains.any(|line| line.unwrap().contains("once more to stop at once")));
    assert!(
        child.try_wait().unwrap().is_none(),
        "one is not enough here"
    );
    let status = until(|| {
        signal(&child, "INT");
        child.try_wait().unwrap()
    });
    assert_eq!(status.expect("it ends").code(), Some(130));
}

/// Killed, it goes on from the last checkpoint.
#[test]
fn a_run_that_was_killed_goes_on_from_its_last_checkpoint() {
    let program = Program::new();
    let args = "train -n 2 --epochs 2 --save-minutes 0.002 --run-dir run";
    let child = program.command(args, "slow:20");
    let mut child = { child }.spawn().unwrap();
    let run = program.path("run");
    until(|| {
        let text = fs::read_to_string(run.join("events.jsonl")).ok()?;
        (text.matches("\"event\":\"saved\"").count() >= 2).then_some(())
    })
    .expect("nothing is saved");
    signal(&child, "KILL");
    assert!(!wait(&mut child).success());
    let out = program.says("train --resume run");
    assert!(out.contains("Going on at step"), "{out}");
    assert_each_batch_once(&run, 2, BATCHES);
}

/// What dies twice of the same before it has saved anything would do so for ever.
#[test]
fn a_server_that_dies_alike_from_nothing_is_started_again_once() {
    let program = Program::new();
    let output = program.start("train -n 1 --epochs 2 --run-dir run", "die:5");
    let err = words(&output).1;
    assert_eq!(output.status.code(), Some(137), "{err}");
    assert_eq!(err.matches("restarting it from").count(), 1, "{err}");
    for word in [
        "a second time before its first checkpoint",
        "There is no checkpoint. Start again with: ",
        "run/config.toml",
    ] {
        assert!(err.contains(word), "{word}: {err}");
    }
    assert!(!err.contains("--resume"), "{err}");
}

#[test]
fn quiet_says_the_end_and_verbose_says_more() {
    let program = Program::new();
    let said = |args: &str| program.says(&format!("train -n 2 --epochs 1 {args}"));
    let joined = |said: &str| said.matches(" has joined, as number ").count();
    // Long enough that both workers come while it goes on.
    let verbose = said("-v --trouble slow:5");
    let (quiet, normal) = (said("--quiet"), said(""));
    assert_eq!(quiet.lines().count(), 1, "{quiet}");
    assert!(normal.lines().count() > 1, "{normal}");
    // One that comes after the first step is news.
    assert!(joined(&normal) <= 1, "{normal}");
    assert_eq!(joined(&verbose), 2, "a line for each worker: {verbose}");
    let error = program.fails("train -q -v", "");
    assert!(error.contains("cannot be used with"), "{error}");
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_run() {
    let program = Program::new();
    let args = "train -n 1 --epochs 2 --print-every 1 --run-dir run";
    let mut child = program.command(args, "slow:2").spawn().unwrap();
    let mut first = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut first).unwrap();
    assert_eq!(first, "Task words: \n");
    drop(reader);
    let output = end(child);
    finished(&output);
    assert!(!words(&output).1.contains("panicked"));
    assert_each_batch_once(&program.path("run"), 2, BATCHES);
    // Nor when it is interrupted and has more to say.
    let mut child = program
        .command("train -n 1 --run-dir run3", "interrupt:9")
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = end(child);
    assert_eq!(output.status.code(), Some(130));
    assert!(!words(&output).1.contains("panicked"));
    newest(&program.path("run3"));
    // Nor where errors are read by the same reader.
    let shell = format!(
        "{} train -n 1 --run-dir run2 2>&1 --trouble nan --examples 20 | head -1",
        program.command("", "").get_program().display()
    );
    let status = Command::new("sh")
        .args(["-c", &shell])
        .current_dir(program.path(""))
        .output();
    assert!(status.unwrap().status.success());
    File::open(program.path("run2/log.txt")).unwrap();
}
