//! Hosts that join a run under way, and leave it.

use std::fs;
use std::process::Command;

use dsgd_core::event::Event;

use crate::elsewhere::{Watched, assert_nobody_is_left, server_of};
use crate::program::{failed, finished, until};
use crate::runs::assert_each_batch_once;
use crate::ssh::Lab;

const EPOCHS: u32 = 2;
const BATCHES: usize = 200;

fn run_with(lab: &Lab, hosts: &str) -> Watched {
    let args = format!(
        "{hosts} --epochs {EPOCHS} --examples {} --trouble slow:150 --save-minutes 0.02",
        10 * BATCHES
    );
    let mut run = Watched::start(lab, &args);
    run.wait_for_steps(10);
    run
}

fn joined(event: &Event, host: &str) -> bool {
    matches!(event, Event::WorkerJoined { name, .. } if name.starts_with(&format!("{host}/")))
}

fn lost<'a>(event: &'a Event, host: &str) -> Option<&'a str> {
    match event {
        Event::WorkerLost { name, reason, .. } if name.starts_with(&format!("{host}/")) => {
            Some(reason)
        }
        _ => None,
    }
}

fn seen(run: &mut Watched) -> usize {
    run.look();
    run.seen.len()
}

fn signal(pid: u32, name: &str) {
    let pid = pid.to_string();
    let mut kill = Command::new("kill");
    assert!(kill.args(["-s", name, &pid]).status().unwrap().success());
}

#[test]
fn a_host_joins_and_one_leaves_and_both_hold_for_the_run_s_next_lives() {
    let test = "a_host_joins_and_one_leaves_and_both_hold_for_the_run_s_next_lives";
    let Some(lab) = Lab::up(test, 3) else { return };
    let mut run = run_with(&lab, "-H h1:1,h2:2");

    let said = run.program.says("hosts add run h3:2");
    assert!(
        said.contains("h3: takes part, with room for 2 workers"),
        "{said}"
    );
    let mut workers = 0;
    run.wait_from(0, "both workers of h3", |event| {
        workers += usize::from(joined(event, "h3"));
        workers == 2
    });

    let from = seen(&mut run);
    let said = run.program.says("hosts drop run h2");
    assert!(said.contains("h2: has left"), "{said}");
    run.wait_from(from, "a batch given back", |event| {
        matches!(event, Event::BatchFreed { .. })
    });
    let reasons: Vec<_> = run
        .since(from)
        .filter_map(|event| lost(event, "h2"))
        .collect();
    assert_eq!(reasons, ["its host was dropped from the run"; 2]);
    let log = fs::read_to_string(run.run().join("log.txt")).unwrap();
    for words in [
        "Host h3 is added to the run, with room for 2 workers",
        "Worker h3/1 has joined",
        "Host h2 is dropped from the run",
        "Worker h2/0 is lost: its host was dropped from the run",
    ] {
        assert!(log.contains(words), "{words}\n{log}");
    }

    // A checkpoint of after that, for the next life to begin with.
    let from = seen(&mut run);
    run.wait_from(from, "a checkpoint", |event| {
        matches!(event, Event::Saved { .. })
    });
    signal(server_of(run.pid()).unwrap(), "KILL");
    let from = seen(&mut run);
    run.wait_from(from, "h3 is there again", |event| joined(event, "h3"));

    run.interrupt();
    run.end();
    let ssh = lab.file("ssh_config").display().to_string();
    let again = seen(&mut run);
    run.goes_on(&format!("train --resume run --ssh-config {ssh}"));
    run.wait_from(again, "h3 is there again", |event| joined(event, "h3"));
    finished(&run.end());
    assert!(!run.since(from).any(|event| joined(event, "h2")));
    assert_each_batch_once(&run.run(), EPOCHS, BATCHES);
    assert_nobody_is_left(&lab, 3);
}

/// With `--hosts`, that file is the list: what is written into it counts.
#[test]
fn an_edited_list_is_read_again_and_what_is_wrong_in_it_harms_nobody() {
    let test = "an_edited_list_is_read_again_and_what_is_wrong_in_it_harms_nobody";
    let Some(lab) = Lab::up(test, 3) else { return };
    let list = lab.file("list");
    let write = |text: &str| fs::write(&list, text).unwrap();
    write("h1 slots=1\nh2 slots=1\n");
    let mut run = run_with(&lab, &format!("--hosts {}", list.display()));

    write("h1 slots=1\nh2 slots=two\n");
    let warned = |words: &'static str| move |event: &Event| matches!(event, Event::Warning { message } if message.contains(words));
    run.wait_from(
        0,
        "a warning",
        warned("the run goes on with the hosts it has"),
    );

    // One that does not exist, one that is new, one with another number of workers, one less.
    let from = seen(&mut run);
    write("h1 slots=2\nh3 slots=1\nh9.invalid slots=1\n");
    run.wait_from(from, "h3", |event| joined(event, "h3"));
    run.wait_from(
        from,
        "a second worker of h1",
        |event| matches!(event, Event::WorkerJoined { name, .. } if name == "h1/1"),
    );
    run.wait_from(from, "a warning", warned("h9.invalid"));
    run.wait_from(from, "h2 leaves", |event| lost(event, "h2").is_some());
    finished(&run.end());
    assert!(!run.since(from).any(|event| joined(event, "h2")));
    assert_each_batch_once(&run.run(), EPOCHS, BATCHES);
    assert_nobody_is_left(&lab, 3);
}

#[test]
fn what_cannot_be_added_or_dropped_is_refused_with_the_reason_and_changes_nothing() {
    let test = "what_cannot_be_added_or_dropped_is_refused_with_the_reason_and_changes_nothing";
    let Some(lab) = Lab::up(test, 1) else { return };
    let mut run = run_with(&lab, "-H h1:2");
    for (args, words) in [
        (
            "hosts add run h1:3",
            "h1 is a host of this run already; hosts drop run h1",
        ),
        ("hosts add run h9.invalid", "nothing was changed"),
        ("hosts add run h1:x", "-H, entry 1"),
        (
            "hosts drop run h2",
            "h2 is no host of this run; its hosts are h1",
        ),
        ("hosts drop run h1", "no host would be left to train"),
        ("hosts add nowhere h2", "nowhere is not a run"),
    ] {
        let error = run.program.fails(args, "");
        assert!(error.contains(words), "{args}: {error}");
    }
    assert!(!run.run().join("hosts.toml").exists());
    run.interrupt();
    assert!(!run.end().status.success());
    let error = run.program.fails("hosts add run h2", "");
    assert!(
        error.contains("run is not under way on this machine"),
        "{error}"
    );
    assert!(error.contains("train --resume run -H"), "{error}");
    assert_nobody_is_left(&lab, 1);
}

#[test]
fn a_run_whose_workers_are_threads_has_no_hosts_to_add_to() {
    let program = crate::program::Program::new();
    let mut train = program.command("train --run-dir run -n 1 --examples 100000", "slow:50");
    let mut child = train.spawn().unwrap();
    let began = until(|| dsgd_engine::run::holder(&program.path("run")));
    began.expect("it begins");
    let error = failed(&program.start("hosts add run h1", ""));
    assert!(error.contains("run has no hosts"), "{error}");
    let _ = Command::new("kill")
        .args(["-s", "INT", &child.id().to_string()])
        .status();
    child.wait().unwrap();
}
