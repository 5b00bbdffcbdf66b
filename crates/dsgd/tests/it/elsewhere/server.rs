//! Faults on the server's side: it is killed, all of this machine is, or no host is left.

use std::time::Instant;

use dsgd_core::event::Event;

use crate::elsewhere::{Watched, assert_nobody_is_left, measured, server_of};
use crate::program::{finished, until, words};
use crate::runs::assert_each_batch_once;
use crate::ssh::Lab;

const EPOCHS: u32 = 2;
const BATCHES: usize = 200;

fn run_on(lab: &Lab, more: &str) -> Watched {
    let args = format!(
        "-H h1:2,h2:2 --epochs {EPOCHS} --examples {} --trouble slow:50 {more}",
        10 * BATCHES
    );
    let mut run = Watched::start(lab, &args);
    run.wait_for_steps(20);
    run
}

fn is_step(event: &Event) -> bool {
    matches!(event, Event::Step(_))
}

fn is_checkpoint(event: &Event) -> bool {
    matches!(event, Event::Saved { .. })
}

/// Version of the last step that was seen, and of that from which the run went on after it.
fn lost(run: &Watched, from: usize) -> u64 {
    let before = run.seen[..from]
        .iter()
        .rev()
        .find_map(|(_, record)| match &record.event {
            Event::Step(step) => Some(step.version),
            _ => None,
        });
    let resumed = run.since(from).find_map(|event| match event {
        Event::RunStarted { resumed_at, .. } => Some(resumed_at.unwrap_or(0)),
        _ => None,
    });
    before.unwrap().saturating_sub(resumed.unwrap())
}

fn kill(pid: u32) {
    let pid = pid.to_string();
    let mut kill = std::process::Command::new("kill");
    assert!(kill.args(["-9", &pid]).status().unwrap().success());
}

#[test]
fn a_server_that_is_killed_goes_on_by_itself() {
    let Some(lab) = Lab::up("a_server_that_is_killed_goes_on_by_itself", 2) else {
        return;
    };
    let mut run = run_on(&lab, "--save-minutes 0.02");
    run.wait_from(0, "a checkpoint", is_checkpoint);
    let server = server_of(run.pid()).unwrap();
    assert_eq!(dsgd_engine::run::holder(&run.run()), Some(server));
    kill(server);
    let since = Instant::now();
    run.look();
    let from = run.seen.len();
    let step = run.wait_from(from, "a step", is_step);
    let step = step.saturating_duration_since(since).as_secs_f64();
    let lost = lost(&run, from);
    let output = run.end();
    let said = words(&output).1;
    let told = "The server was killed (signal 9, for want of memory perhaps): restarting it from its \
                last checkpoint (1 of 3)";
    assert!(said.contains(told), "{said}");
    let words = format!(
        "next update after {step:.2} s, {lost} updates lost (since the last checkpoint); said: {told}"
    );
    measured("server killed (-9)", &words);
    finished(&output);
    assert_each_batch_once(&run.run(), EPOCHS, BATCHES);
    assert_nobody_is_left(&lab, 2);
}

/// Neither on the hosts nor here; and the run goes on with `--resume`, as after a reboot.
#[test]
fn nobody_is_left_when_everything_here_is_killed_and_the_run_is_resumed() {
    let test = "nobody_is_left_when_everything_here_is_killed_and_the_run_is_resumed";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = run_on(&lab, "--save-minutes 0.02");
    run.wait_from(0, "a checkpoint", is_checkpoint);
    let config = lab.file("ssh_config").display().to_string();
    // While it is being trained, nobody else can.
    let twice = run
        .program
        .fails(&format!("train --resume run --ssh-config {config}"), "");
    assert!(
        twice.contains("run is being trained by process "),
        "{twice}"
    );
    let server = server_of(run.pid()).unwrap();
    kill(run.pid());
    kill(server);
    let since = Instant::now();
    run.look();
    let from = run.seen.len();
    let secs = |since: Instant| since.elapsed().as_secs_f64();
    assert_nobody_is_left(&lab, 2);
    let on_hosts = secs(since);
    let masters = until(|| {
        let mut pgrep = std::process::Command::new("pgrep");
        let output = pgrep.args(["-f", &config]).output();
        output.unwrap().stdout.is_empty().then_some(())
    });
    masters.expect("no ssh of ours is left here");
    let words = format!(
        "nobody left on the hosts after {on_hosts:.2} s, nor here after {:.2} s",
        secs(since)
    );
    measured("everything here killed (-9)", &words);
    run.goes_on(&format!("train --resume run --ssh-config {config}"));
    let since = Instant::now();
    let step = run.wait_from(from, "a step", is_step);
    let words = format!(
        "first update {:.2} s after `train --resume`, {} updates lost (since the last checkpoint)",
        step.saturating_duration_since(since).as_secs_f64(),
        lost(&run, from)
    );
    measured("machine rebooted", &words);
    finished(&run.end());
    assert_each_batch_once(&run.run(), EPOCHS, BATCHES);
    assert_nobody_is_left(&lab, 2);
}

#[test]
fn without_any_host_the_run_waits_and_then_gives_up_with_a_checkpoint() {
    let test = "without_any_host_the_run_waits_and_then_gives_up_with_a_checkpoint";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = run_on(&lab, "--give-up-after 4 --dead-after 2");
    lab.does("crash 1");
    lab.does("crash 2");
    let since = Instant::now();
    let from = run.seen.len();
    let waits = run.wait_from(from, "words that it waits", |event| {
        let waits = "no worker is left; waiting for one for 4 s (--give-up-after)";
        matches!(event, Event::Warning { message } if message == waits)
    });
    let waits = waits.saturating_duration_since(since).as_secs_f64();
    let output = run.end();
    let gives_up = since.elapsed().as_secs_f64();
    assert_eq!(output.status.code(), Some(1));
    let err = words(&output).1;
    for word in [
        "no worker is left, and none came (--give-up-after)",
        "Go on with: ",
        "--resume run",
    ] {
        assert!(err.contains(word), "{word}: {err}");
    }
    let saved = run.since(from).any(is_checkpoint);
    assert!(saved, "what was done is saved");
    let words = format!(
        "said after {waits:.2} s that it waits, ended after {gives_up:.2} s with a checkpoint and \
         status 1, nothing lost; said: {}",
        err.trim().replace('\n', " ")
    );
    measured("all hosts gone (--dead-after 2 --give-up-after 4)", &words);
    let local = |event: &Event| matches!(event, Event::WorkerJoined { name, .. } if name.starts_with("local"));
    assert!(
        !run.since(0).any(local),
        "no worker of this machine steps in"
    );
    lab.does("boot 1");
    lab.does("boot 2");
    for host in ["h1", "h2"] {
        let up = until(|| {
            crate::elsewhere::on(&lab, host, "true")
                .status
                .success()
                .then_some(())
        });
        up.unwrap();
    }
    let config = lab.file("ssh_config").display().to_string();
    let said = run
        .program
        .start(&format!("train --resume run --ssh-config {config}"), "");
    finished(&said);
    assert_each_batch_once(&run.run(), EPOCHS, BATCHES);
    assert_nobody_is_left(&lab, 2);
}

/// Ctrl-C while the program travels to a host: how far it is was told, nothing is left here that is no run, and
/// what has arrived there is gone on with.
#[test]
fn sending_that_is_stopped_leaves_no_folder_and_goes_on_where_it_was() {
    let test = "sending_that_is_stopped_leaves_no_folder_and_goes_on_where_it_was";
    let Some(lab) = Lab::up(test, 1) else { return };
    // Slow enough that progress is told, each 10 s, before the smallest program has arrived.
    lab.does("rate 1 3");
    let train = "-H h1:1 --epochs 1 --examples 100";
    let mut run = Watched::start(&lab, train);
    let said = |run: &Watched| std::fs::read_to_string(run.program.path("err")).unwrap();
    let told = until(|| said(&run).contains(" s left").then_some(()));
    told.unwrap_or_else(|| panic!("{}", said(&run)));
    run.interrupt();
    let output = run.end();
    assert_eq!(output.status.code(), Some(130));
    let err = words(&output).1;
    assert!(err.contains("h1: ") && err.contains(" MB there, "), "{err}");
    assert!(
        err.contains("Stopped before the run had begun: it leaves no folder"),
        "{err}"
    );
    assert!(err.contains("stays in their cache"), "{err}");
    assert!(!run.run().exists());
    lab.does("rate 1 off");
    let ssh = lab.file("ssh_config").display().to_string();
    run.goes_on(&format!("train --ssh-config {ssh} --run-dir run {train}"));
    let output = run.end();
    finished(&output);
    // Less than all of it.
    let all = std::fs::metadata(
        std::env::current_exe()
            .unwrap()
            .with_file_name("../examples/trouble"),
    );
    let all = all.map_or(0, |all| all.len()) / 1_000_000;
    let err = words(&output).1;
    let sent = err
        .lines()
        .find_map(|line| line.strip_prefix("h1: ")?.split_once(" MB sent"));
    let (sent, _) = sent.unwrap_or_else(|| panic!("{err}"));
    assert!(sent.parse::<u64>().unwrap() + 2 < all, "{sent} of {all}");
    assert_nobody_is_left(&lab, 1);
}
