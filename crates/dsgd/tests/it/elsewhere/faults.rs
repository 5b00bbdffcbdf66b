//! Faults of hosts, each injected for real: the others go on, the loss is named in time, every batch
//! is counted once, and nobody is left behind. `docs/failures.md` has the figures that are printed.

use std::time::{Duration, Instant};

use dsgd_core::event::Event;

use crate::elsewhere::{Watched, assert_nobody_is_left, measured, on, signal};
use crate::program::finished;
use crate::runs::assert_each_batch_once;
use crate::ssh::Lab;

const EPOCHS: u32 = 2;
const BATCHES: usize = 200;

/// How long a loss may take to be named: `--dead-after`, and a little.
const DEAD_AFTER: Duration = Duration::from_secs(12);

/// A run on two hosts with two workers each: of 10 s, or 20 s where only one host is left.
fn run_on(lab: &Lab, more: &str) -> Watched {
    run_of_batches(lab, Duration::from_millis(100), more)
}

/// The same with batches that take so long.
fn run_of_batches(lab: &Lab, batch: Duration, more: &str) -> Watched {
    let args = format!(
        "-H h1:2,h2:2 --epochs {EPOCHS} --examples {} --trouble slow:{} {more}",
        10 * BATCHES,
        batch.as_millis()
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

fn is_of(event: &Event, host: &str) -> bool {
    match event {
        Event::WorkerLost { name, .. } | Event::WorkerJoined { name, .. } => {
            name.starts_with(&format!("{host}/"))
        }
        _ => false,
    }
}

/// Waits until both workers of a host are lost and the next step is made; prints and returns how
/// long the first took, and what was lost and said.
fn overcome(run: &mut Watched, fault: &str, host: &str, since: Instant, from: usize) -> Duration {
    let lost = |event: &Event| matches!(event, Event::WorkerLost { .. }) && is_of(event, host);
    let noticed = run.wait_from(from, "a loss", lost);
    let step = run.wait_from(from, "a step", |event| matches!(event, Event::Step(_)));
    let mut losses = 0;
    run.wait_from(from, "the loss of both", |event| {
        losses += usize::from(lost(event));
        losses == 2
    });
    let mut reasons: Vec<_> = run.since(from).filter_map(reason).collect();
    reasons.dedup();
    let freed = run
        .since(from)
        .filter(|e| matches!(e, Event::BatchFreed { .. }));
    let noticed = noticed.saturating_duration_since(since);
    let words = format!(
        "noticed after {:.2} s, next update after {:.2} s, {} batches given to others; said: {}",
        noticed.as_secs_f64(),
        step.saturating_duration_since(since).as_secs_f64(),
        freed.count(),
        reasons.join("; ")
    );
    measured(fault, &words);
    assert!(noticed < DEAD_AFTER, "{noticed:?}");
    noticed
}

fn reason(event: &Event) -> Option<&str> {
    match event {
        Event::WorkerLost { reason, .. } => Some(reason),
        Event::Warning { message } => Some(message),
        _ => None,
    }
}

/// Waits until a worker of that host has joined; prints how long it took.
fn is_back(run: &mut Watched, fault: &str, host: &str, since: Instant, from: usize) {
    let back = run.wait_from(from, "a return", |event| {
        matches!(event, Event::WorkerJoined { .. }) && is_of(event, host)
    });
    let back = back.saturating_duration_since(since).as_secs_f64();
    measured(fault, &format!("workers back after {back:.2} s"));
}

fn nobody_is_lost(run: &Watched) {
    let mut events = run.since(0);
    let lost = events.find(|event| matches!(event, Event::WorkerLost { .. }));
    assert!(lost.is_none(), "{lost:?}");
}

#[test]
fn a_worker_that_is_killed_is_replaced() {
    let Some(lab) = Lab::up("a_worker_that_is_killed_is_replaced", 2) else {
        return;
    };
    let mut run = run_on(&lab, "");
    let fault = "kill -9 of the workers of a host";
    let (since, from) = (Instant::now(), run.seen.len());
    signal(&lab, "h1", "KILL");
    overcome(&mut run, fault, "h1", since, from);
    is_back(&mut run, fault, "h1", since, from);
    ends_well(&lab, &mut run);
}

/// Between two exchanges a worker has steps of its own, which go with it; its batches do not.
#[test]
fn what_a_killed_worker_had_of_its_own_steps_is_done_by_others() {
    let test = "what_a_killed_worker_had_of_its_own_steps_is_done_by_others";
    let Some(lab) = Lab::up(test, 2) else { return };
    for more in ["", "--together=false"] {
        let mut run = run_on(&lab, &format!("--mode local --local-steps 2 {more}"));
        let fault = format!("kill -9 of the workers of a host, --mode local {more}");
        let (since, from) = (Instant::now(), run.seen.len());
        signal(&lab, "h1", "KILL");
        overcome(&mut run, &fault, "h1", since, from);
        is_back(&mut run, &fault, "h1", since, from);
        ends_well(&lab, &mut run);
    }
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
        steps >= 40 // 2 s of the others' work.
    });
    lab.does("heal 1");
    ends_well(&lab, &mut run);
    nobody_is_lost(&run);
}

/// Two of three hosts on the other side of a broken switch.
#[test]
fn a_network_in_two_parts_is_overcome_when_it_is_one_again() {
    let test = "a_network_in_two_parts_is_overcome_when_it_is_one_again";
    let Some(lab) = Lab::up(test, 3) else { return };
    let args = "-H h1:2,h2:2,h3:2 --epochs 2 --examples 2000 --trouble slow:150";
    let mut run = Watched::start(&lab, args);
    run.wait_for_steps(20);
    // Hosts do not speak with each other: between two of them, nobody misses a network.
    lab.part(1, 2);
    let mut steps = 0;
    run.wait_from(run.seen.len(), "steps", |event| {
        steps += usize::from(matches!(event, Event::Step(_)));
        steps >= 40
    });
    nobody_is_lost(&run);
    lab.join();
    let (since, from) = (Instant::now(), run.seen.len());
    lab.does("cut 1");
    lab.does("cut 2");
    overcome(
        &mut run,
        "partition: two of three hosts cut off",
        "h1",
        since,
        from,
    );
    let (since, from) = (Instant::now(), run.seen.len());
    lab.does("heal 1");
    lab.does("heal 2");
    is_back(&mut run, "partition healed", "h1", since, from);
    finished(&run.end());
    assert_each_batch_once(&run.run(), 2, 200);
    assert_nobody_is_left(&lab, 3);
}

/// All logins there are gone and there is no new one, until sshd is back.
#[test]
fn without_its_sshd_a_host_is_lost_and_the_others_go_on() {
    let test = "without_its_sshd_a_host_is_lost_and_the_others_go_on";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = run_on(&lab, "");
    let (since, from) = (Instant::now(), run.seen.len());
    // This login goes with the others; after them, nobody comes in.
    on(
        &lab,
        "h1",
        "nft add table inet t && nft 'add chain inet t i {type filter hook input priority 0;}' && \
         nft add rule inet t i tcp dport 22 ct state new reject with tcp reset && \
         kill -9 $(pgrep -f '^sshd[:-].*root')",
    );
    overcome(&mut run, "sshd gone", "h1", since, from);
    run.wait_from(
        from,
        "words on what to do",
        |event| matches!(event, Event::Warning { message } if message.contains("start sshd there")),
    );
    let (since, from) = (Instant::now(), run.seen.len());
    lab.in_network_of(1, "nft flush ruleset");
    is_back(&mut run, "sshd back", "h1", since, from);
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
    let mut warnings = run.since(0).filter_map(|event| match event {
        Event::Warning { message } if message.contains("h1: ") => Some(message.clone()),
        _ => None,
    });
    let told = warnings.next().expect("a full host is told of");
    assert!(
        told.contains("are missing in /root/.cache/dsgd: free space"),
        "{told}"
    );
    measured("host full", &format!("said: {told}"));
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
        "(for i in $(seq 60); do for s in STOP CONT; do for p in /proc/[0-9]*; do \
         case $(readlink $p/exe) in */.cache/dsgd/objects/*) kill -s $s ${p#/proc/};; esac; done; \
         [ $s = STOP ] && sleep 0.45 || sleep 0.05; done; done) >/dev/null 2>&1 </dev/null &",
    );
    let since = Instant::now();
    ends_well(&lab, &mut run);
    let steps = crate::runs::steps(&crate::runs::records(&run.run()));
    assert_eq!(steps.len(), EPOCHS as usize * BATCHES);
    let mut names = std::collections::BTreeMap::new();
    for event in run.since(0) {
        if let Event::WorkerJoined { worker, name } = event {
            names.insert(*worker, name.starts_with("h1/"));
        }
    }
    // The steps of the first second were made before it was slow.
    let workers = steps.iter().flat_map(crate::runs::workers_of);
    let slow = workers.filter(|worker| names[worker]).count();
    let words = format!(
        "nobody waits for it: {} updates in {:.1} s, {slow} of them its own",
        steps.len(),
        since.elapsed().as_secs_f64()
    );
    measured("host 10 x slower", &words);
    nobody_is_lost(&run);
}

#[test]
fn a_host_that_sleeps_is_lost_and_comes_back_when_it_wakes() {
    let test = "a_host_that_sleeps_is_lost_and_comes_back_when_it_wakes";
    let Some(lab) = Lab::up(test, 2) else { return };
    // Until it is lost, or longer (CONTRIBUTING.md).
    let asleep = std::env::var("DSGD_ASLEEP_SECS").ok();
    let asleep = asleep.map(|secs| Duration::from_secs(secs.parse().unwrap()));
    let batch = asleep.map_or(Duration::from_millis(100), |asleep| asleep / 150);
    let mut run = run_of_batches(&lab, batch, "");
    let (since, from) = (Instant::now(), run.seen.len());
    signal(&lab, "h1", "STOP");
    overcome(&mut run, "workers asleep (SIGSTOP)", "h1", since, from);
    std::thread::sleep(asleep.unwrap_or_default().saturating_sub(since.elapsed()));
    let (since, from) = (Instant::now(), run.seen.len());
    signal(&lab, "h1", "CONT");
    is_back(&mut run, "workers awake again", "h1", since, from);
    ends_well(&lab, &mut run);
}

#[test]
fn a_worker_asked_to_stop_leaves_in_time_and_loses_nothing() {
    let test = "a_worker_that_is_told_to_stop_leaves_in_time_and_loses_nothing";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = run_on(&lab, "");
    let (since, from) = (Instant::now(), run.seen.len());
    signal(&lab, "h1", "TERM");
    let noticed = overcome(&mut run, "SIGTERM (preemption)", "h1", since, from);
    assert!(noticed < Duration::from_secs(5), "{noticed:?}");
    // What was under way arrived. (The next batch was given for it, and went back untouched.)
    let refused = run.since(from).any(|e| matches!(e, Event::Refused { .. }));
    assert!(!refused);
    let of_h1 = |event: &Event| match event {
        Event::WorkerJoined { worker, .. } if is_of(event, "h1") => Some(*worker),
        _ => None,
    };
    let of_h1: Vec<_> = run.since(0).filter_map(of_h1).collect();
    let pushed = run.since(from).any(|event| {
        matches!(event, Event::Step(step) if step.parts.iter().any(|p| of_h1.contains(&p.worker)))
    });
    assert!(pushed, "what was under way arrives");
    let told = run
        .since(from)
        .filter_map(reason)
        .any(|r| r == "it was told to stop");
    assert!(told);
    ends_well(&lab, &mut run);
}

/// A batch that takes longer than there is time goes back.
#[test]
fn a_worker_asked_to_stop_in_a_long_batch_gives_it_back() {
    let test = "a_worker_that_is_told_to_stop_in_a_long_batch_gives_it_back";
    let Some(lab) = Lab::up(test, 2) else { return };
    let args = "-H h1:1,h2:1 --epochs 1 --examples 40 --trouble slow:6000";
    let mut run = Watched::start(&lab, args);
    run.wait_from(0, "both", |event| {
        matches!(event, Event::WorkerJoined { worker: 1, .. })
    });
    std::thread::sleep(Duration::from_millis(500)); // Well within the first batch.
    let (since, from) = (Instant::now(), run.seen.len());
    signal(&lab, "h1", "TERM");
    let freed = run.wait_from(from, "a batch given back", |event| {
        matches!(event, Event::BatchFreed { .. })
    });
    let freed = freed.saturating_duration_since(since);
    measured(
        "SIGTERM in a batch of 6 s",
        &format!(
            "its batch was given back after {:.2} s",
            freed.as_secs_f64()
        ),
    );
    assert!(freed < Duration::from_secs(5), "{freed:?}");
    finished(&run.end());
    assert_each_batch_once(&run.run(), 1, 4);
    assert_nobody_is_left(&lab, 2);
}
