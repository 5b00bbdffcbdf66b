//! Faults, each injected for real: the others go on, the loss is named in time, every batch is
//! counted once, and nobody is left behind. `docs/failures.md` has the figures that are printed here.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use dsgd::event::Event;

use crate::elsewhere::{Watched, assert_nobody_is_left, on, server_of, signal};
use crate::program::{finished, until, words};
use crate::runs::assert_each_batch_once;
use crate::ssh::Lab;

const EPOCHS: u32 = 2;
const BATCHES: usize = 200;

/// How long a loss may take to be named: `--dead-after`, and a little.
const DEAD_AFTER: Duration = Duration::from_secs(12);

/// A run of some tens of seconds on two hosts with two workers each.
fn run_on(lab: &Lab, more: &str) -> Watched {
    let args = format!(
        "-H h1:2,h2:2 --epochs {EPOCHS} --examples {} --trouble slow:50 {more}",
        10 * BATCHES
    );
    let mut run = Watched::start(lab, &args);
    run.wait_for_steps(20);
    run
}

/// What is left when all went well.
fn ends_well(lab: &Lab, run: &mut Watched) {
    finished(&run.end());
    assert_each_batch_once(&run.run(), EPOCHS, BATCHES);
    assert_nobody_is_left(lab, 2);
}

/// Waits until a worker of that host is lost and the next step is made; prints and returns how long
/// both took.
fn overcome(run: &mut Watched, fault: &str, host: &str, since: Instant, from: usize) -> Duration {
    let of_host = format!("{host}/");
    let noticed = run.wait_from(
        from,
        "a loss",
        |event| matches!(event, Event::WorkerLost { name, .. } if name.starts_with(&of_host)),
    );
    let step = run.wait_from(from, "a step", |event| matches!(event, Event::Step(_)));
    let noticed = noticed.saturating_duration_since(since);
    say(
        fault,
        &format!(
            "noticed after {:.2} s, next update after {:.2} s",
            noticed.as_secs_f64(),
            step.saturating_duration_since(since).as_secs_f64()
        ),
    );
    assert!(noticed < DEAD_AFTER, "{noticed:?}");
    noticed
}

/// Waits until a worker of that host has joined; prints how long it took.
fn is_back(run: &mut Watched, fault: &str, host: &str, since: Instant, from: usize) {
    let of_host = format!("{host}/");
    let back = run.wait_from(
        from,
        "a return",
        |event| matches!(event, Event::WorkerJoined { name, .. } if name.starts_with(&of_host)),
    );
    let back = back.saturating_duration_since(since).as_secs_f64();
    say(fault, &format!("back after {back:.2} s"));
}

/// Around the test harness, which would keep it to itself.
fn say(fault: &str, words: &str) {
    writeln!(io::stderr(), "MEASURED {fault}: {words}").unwrap();
}

#[test]
fn a_worker_that_is_killed_is_replaced() {
    let Some(lab) = Lab::up("a_worker_that_is_killed_is_replaced", 2) else {
        return;
    };
    let mut run = run_on(&lab, "");
    let (since, from) = (Instant::now(), run.seen.len());
    signal(&lab, "h1", "KILL");
    overcome(
        &mut run,
        "kill -9 of the workers of a host",
        "h1",
        since,
        from,
    );
    is_back(
        &mut run,
        "kill -9 of the workers of a host",
        "h1",
        since,
        from,
    );
    ends_well(&lab, &mut run);
}

#[test]
fn a_host_without_power_is_named_and_comes_back() {
    let Some(lab) = Lab::up("a_host_without_power_is_named_and_comes_back", 2) else {
        return;
    };
    let mut run = run_on(&lab, "");
    let (since, from) = (Instant::now(), run.seen.len());
    lab.does("crash 1");
    overcome(&mut run, "power off", "h1", since, from);
    let (since, from) = (Instant::now(), run.seen.len());
    lab.does("boot 1");
    is_back(&mut run, "power on again", "h1", since, from);
    ends_well(&lab, &mut run);
}

#[test]
fn a_cable_that_is_cut_and_mended_is_overcome() {
    let Some(lab) = Lab::up("a_cable_that_is_cut_and_mended_is_overcome", 2) else {
        return;
    };
    let mut run = run_on(&lab, "");
    let (since, from) = (Instant::now(), run.seen.len());
    lab.does("cut 1");
    overcome(&mut run, "cable out", "h1", since, from);
    let (since, from) = (Instant::now(), run.seen.len());
    lab.does("heal 1");
    is_back(&mut run, "cable in again", "h1", since, from);
    ends_well(&lab, &mut run);
}

#[test]
fn an_interruption_shorter_than_the_patience_costs_nothing() {
    let Some(lab) = Lab::up("an_interruption_shorter_than_the_patience_costs_nothing", 2) else {
        return;
    };
    let mut run = run_on(&lab, "");
    lab.does("cut 1");
    let from = run.seen.len();
    let mut steps = 0;
    run.wait_from(from, "steps of the other host", |event| {
        steps += usize::from(matches!(event, Event::Step(_)));
        steps >= 80 // 2 s of the others' work.
    });
    lab.does("heal 1");
    ends_well(&lab, &mut run);
    let lost = |(_, record): &(Instant, dsgd::event::Record)| {
        matches!(record.event, Event::WorkerLost { .. })
    };
    assert!(!run.seen.iter().any(lost), "nobody is lost by two seconds");
}

#[test]
fn without_its_sshd_a_host_is_lost_and_the_others_go_on() {
    let test = "without_its_sshd_a_host_is_lost_and_the_others_go_on";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = run_on(&lab, "");
    let (since, from) = (Instant::now(), run.seen.len());
    // The listener is the first process of the host; the logins are its children.
    on(
        &lab,
        "h1",
        "kill -9 $(pgrep -f 'sshd: root' | grep -v $$) 2>/dev/null",
    );
    overcome(&mut run, "sshd killed", "h1", since, from);
    ends_well(&lab, &mut run);
}

#[test]
fn a_full_host_says_so_and_the_others_go_on() {
    let Some(lab) = Lab::up("a_full_host_says_so_and_the_others_go_on", 2) else {
        return;
    };
    let mounted = on(
        &lab,
        "h1",
        "mkdir -p ~/.cache && mount -t tmpfs -o size=2m tmpfs ~/.cache",
    );
    assert!(mounted.status.success(), "{mounted:?}");
    let mut run = run_on(&lab, "--max-restarts 0");
    ends_well(&lab, &mut run);
    let told = run.seen.iter().find_map(|(_, record)| match &record.event {
        Event::Warning { message } if message.contains("h1: ") => Some(message.clone()),
        _ => None,
    });
    let told = told.expect("a full host is told of");
    assert!(
        told.contains("are missing in /root/.cache/dsgd: free space"),
        "{told}"
    );
}

#[test]
fn a_slow_host_does_not_hold_up_the_others() {
    let Some(lab) = Lab::up("a_slow_host_does_not_hold_up_the_others", 2) else {
        return;
    };
    let mut run = run_on(&lab, "");
    // Asleep nine tenths of the time.
    on(
        &lab,
        "h1",
        "(for i in $(seq 40); do for s in STOP CONT; do for p in /proc/[0-9]*; do \
         case $(readlink $p/exe) in */.cache/dsgd/objects/*) kill -s $s ${p#/proc/};; esac; done; \
         [ $s = STOP ] && sleep 0.45 || sleep 0.05; done; done) >/dev/null 2>&1 </dev/null &",
    );
    ends_well(&lab, &mut run);
    let steps = crate::runs::steps(&crate::runs::records(&run.run()));
    assert_eq!(steps.len(), EPOCHS as usize * BATCHES);
}

#[test]
fn a_host_that_sleeps_is_lost_and_comes_back_when_it_wakes() {
    let test = "a_host_that_sleeps_is_lost_and_comes_back_when_it_wakes";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = run_on(&lab, "--epochs 4");
    let (since, from) = (Instant::now(), run.seen.len());
    signal(&lab, "h1", "STOP");
    overcome(&mut run, "workers asleep (SIGSTOP)", "h1", since, from);
    let (since, from) = (Instant::now(), run.seen.len());
    signal(&lab, "h1", "CONT");
    is_back(&mut run, "workers awake again", "h1", since, from);
    finished(&run.end());
    assert_each_batch_once(&run.run(), 4, BATCHES);
    assert_nobody_is_left(&lab, 2);
}

#[test]
fn a_worker_that_is_told_to_stop_leaves_in_time_and_loses_nothing() {
    let test = "a_worker_that_is_told_to_stop_leaves_in_time_and_loses_nothing";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = run_on(&lab, "");
    let (since, from) = (Instant::now(), run.seen.len());
    signal(&lab, "h1", "TERM");
    let noticed = overcome(&mut run, "SIGTERM (preemption)", "h1", since, from);
    assert!(noticed < Duration::from_secs(5), "{noticed:?}");
    let told = run.seen[from..].iter().any(|(_, record)| {
        matches!(&record.event, Event::WorkerLost { reason, .. } if reason == "it was told to stop")
    });
    assert!(told);
    ends_well(&lab, &mut run);
}

#[test]
fn a_server_that_is_killed_goes_on_by_itself() {
    let Some(lab) = Lab::up("a_server_that_is_killed_goes_on_by_itself", 2) else {
        return;
    };
    let mut run = run_on(&lab, "--save-minutes 0.02");
    run.wait_from(0, "a checkpoint", |event| {
        matches!(event, Event::Saved { .. })
    });
    let (since, from) = (Instant::now(), run.seen.len());
    kill(server_of(run.pid()).unwrap());
    let step = run.wait_from(from, "a step", |event| matches!(event, Event::Step(_)));
    say(
        "server killed (-9)",
        &format!(
            "next update after {:.2} s",
            step.saturating_duration_since(since).as_secs_f64()
        ),
    );
    let output = run.end();
    let said = words(&output).1;
    assert!(
        said.contains("restarting it from its last checkpoint (1 of 3)"),
        "{said}"
    );
    finished(&output);
    assert_each_batch_once(&run.run(), EPOCHS, BATCHES);
    assert_nobody_is_left(&lab, 2);
}

/// Neither on the hosts nor here.
#[test]
fn nobody_is_left_when_everything_here_is_killed() {
    let Some(lab) = Lab::up("nobody_is_left_when_everything_here_is_killed", 2) else {
        return;
    };
    let run = run_on(&lab, "");
    let server = server_of(run.pid()).unwrap();
    kill(run.pid());
    kill(server);
    assert_nobody_is_left(&lab, 2);
    let config = lab.file("ssh_config").display().to_string();
    let masters = until(|| {
        let pgrep = std::process::Command::new("pgrep")
            .args(["-f", &config])
            .output();
        pgrep.unwrap().stdout.is_empty().then_some(())
    });
    masters.expect("no ssh of ours is left here");
}

#[test]
fn without_any_host_the_run_waits_and_then_gives_up_with_a_checkpoint() {
    let test = "without_any_host_the_run_waits_and_then_gives_up_with_a_checkpoint";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = run_on(&lab, "--give-up-after 4 --dead-after 2");
    lab.does("crash 1");
    lab.does("crash 2");
    let output = run.end();
    assert_eq!(output.status.code(), Some(1));
    let (out, err) = words(&output);
    assert!(
        out.contains("no worker is left; waiting for one for 4 s (--give-up-after)"),
        "{out}"
    );
    assert!(err.contains("no worker is left, and none came"), "{err}");
    assert!(
        err.contains("Go on with: ") && err.contains("--resume run"),
        "{err}"
    );
    let local = |(_, record): &(Instant, dsgd::event::Record)| matches!(&record.event, Event::WorkerJoined { name, .. } if name.starts_with("local"));
    assert!(
        !run.seen.iter().any(local),
        "no worker of this machine steps in"
    );
    lab.does("boot 1");
    lab.does("boot 2");
    let config = lab.file("ssh_config").display().to_string();
    let said = run
        .program
        .start(&format!("train --resume run --ssh-config {config}"), "");
    finished(&said);
    assert_each_batch_once(&run.run(), EPOCHS, BATCHES);
    assert_nobody_is_left(&lab, 2);
}

fn kill(pid: u32) {
    let pid = pid.to_string();
    let status = std::process::Command::new("kill")
        .args(["-9", &pid])
        .status();
    assert!(status.unwrap().success());
}
