//! A run under a hail of faults: nearly as fast as without, every batch counted once, nobody left.
//!
//! Each round of faults has one of each kind, in random order. The short version is a round; the long
//! one is ten minutes: `DSGD_CHAOS_SECS=600` (CONTRIBUTING.md). What the run did before the first
//! fault is what it is held to.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dsgd_core::event::Event;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::elsewhere::{Watched, assert_nobody_is_left, measured, server_of, try_signal};
use crate::program::{finished, words};
use crate::runs::{batches_of, records, steps};
use crate::ssh::Lab;

const HOSTS: usize = 3;

/// A fault as often as this.
const EVERY: Duration = Duration::from_secs(10);

/// The least share of the updates without faults.
const LEAST: f64 = 0.9;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Kill,
    Sleep,
    Cut,
    Partition,
    Power,
    Server,
}

const FAULTS: [Fault; 6] = [
    Fault::Kill,
    Fault::Sleep,
    Fault::Cut,
    Fault::Partition,
    Fault::Power,
    Fault::Server,
];

/// Lets the run go on until then, and sees what it does.
fn follow(run: &mut Watched, until: Instant) {
    while Instant::now() < until {
        run.look();
        sleep(Duration::from_millis(5));
    }
}

/// Does it to a host, and undoes it after a while.
fn inject(lab: &Lab, run: &mut Watched, fault: Fault, host: usize, length: Duration) {
    let name = format!("h{host}");
    let other = host % HOSTS + 1;
    let until = Instant::now() + length;
    match fault {
        Fault::Kill => drop(try_signal(lab, &name, "KILL")),
        Fault::Sleep => {
            let _ = try_signal(lab, &name, "STOP");
            follow(run, until);
            let _ = try_signal(lab, &name, "CONT");
        }
        Fault::Cut => {
            lab.does(&format!("cut {host}"));
            follow(run, until);
            lab.does(&format!("heal {host}"));
        }
        Fault::Partition => {
            lab.part(host, other);
            follow(run, until);
            lab.join();
        }
        Fault::Power => {
            lab.does(&format!("crash {host}"));
            follow(run, until);
            lab.does(&format!("boot {host}"));
        }
        Fault::Server => {
            // None where the last one is not back yet.
            if let Some(server) = server_of(run.pid()) {
                let pid = server.to_string();
                let kill = std::process::Command::new("kill")
                    .args(["-9", &pid])
                    .status();
                assert!(kill.unwrap().success());
            }
        }
    }
}

/// Version of the parameters that a run has come to, as far as it was seen.
fn version(run: &Watched) -> u64 {
    let records: Vec<_> = run.seen.iter().map(|(_, record)| record.clone()).collect();
    steps(&records).last().map_or(0, |step| step.version)
}

/// Whole epochs have every batch once, the last one none twice.
fn assert_accounts_hold(run: &Watched) {
    let mut epochs: BTreeMap<u32, (usize, BTreeMap<usize, u32>)> = BTreeMap::new();
    for (number, step) in steps(&records(&run.run())).iter().enumerate() {
        assert_eq!(step.version, number as u64 + 1, "versions rise one by one");
        let (size, counts) = epochs.entry(step.epoch).or_default();
        *size = step.batches;
        for batch in batches_of(step) {
            *counts.entry(batch).or_default() += 1;
        }
    }
    let last = *epochs.last_key_value().unwrap().0;
    for (epoch, (size, counts)) in epochs {
        assert!(counts.values().all(|&count| count == 1), "epoch {epoch}");
        assert!(epoch == last || counts.len() == size, "epoch {epoch}");
    }
}

#[test]
fn a_run_in_chaos_makes_nine_tenths_of_its_updates_and_keeps_its_accounts() {
    let test = "a_run_in_chaos_makes_nine_tenths_of_its_updates_and_keeps_its_accounts";
    let Some(lab) = Lab::up(test, HOSTS) else {
        return;
    };
    let setting = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let long = setting("DSGD_CHAOS_SECS");
    let secs = long.unwrap_or(FAULTS.len() as u64 * EVERY.as_secs());
    let mut random = ChaCha8Rng::seed_from_u64(setting("DSGD_CHAOS_SEED").unwrap_or(1));
    let mut run = Watched::start(
        &lab,
        "-H h1:2,h2:2,h3:2 --epochs 1000 --examples 20000 --trouble slow:100 \
         --save-minutes 0.01 --max-restarts 1000",
    );
    run.wait_for_steps(60);
    let started = Instant::now();
    let first = version(&run);
    follow(
        &mut run,
        started + Duration::from_secs(if long.is_some() { 60 } else { 8 }),
    );
    let quiet = (version(&run) - first) as f64 / started.elapsed().as_secs_f64();

    let started = Instant::now();
    let first = version(&run);
    let mut bag: Vec<Fault> = Vec::new();
    let mut injected = 0;
    while started.elapsed() < Duration::from_secs(secs) {
        if bag.is_empty() {
            bag = FAULTS.to_vec();
            bag.shuffle(&mut random);
        }
        let fault = bag.pop().unwrap();
        let host = random.random_range(1..=HOSTS);
        let length = Duration::from_millis(random.random_range(1000..3000));
        let (at, before) = (Instant::now(), version(&run));
        inject(&lab, &mut run, fault, host, length);
        injected += 1;
        follow(&mut run, at + EVERY);
        let made = version(&run).saturating_sub(before) as f64 / at.elapsed().as_secs_f64();
        measured(
            "chaos",
            &format!(
                "{:.0} s: {fault:?} h{host} {:.1} s: {:.0} % of the updates",
                (at - started).as_secs_f64(),
                length.as_secs_f64(),
                100.0 * made / quiet
            ),
        );
    }
    let chaotic = (version(&run) - first) as f64 / started.elapsed().as_secs_f64();
    let share = chaotic / quiet;
    let restarts = run
        .since(0)
        .filter(|e| matches!(e, Event::RunStarted { .. }));
    measured(
        "chaos",
        &format!(
            "{injected} faults in {:.0} s, the server restarted {} times: {chaotic:.1} updates/s, \
             {quiet:.1} without faults: {:.1} %",
            started.elapsed().as_secs_f64(),
            restarts.count() - 1,
            100.0 * share
        ),
    );
    run.interrupt();
    let output = run.end();
    let (out, err) = words(&output);
    assert_eq!(output.status.code(), Some(130), "{out}\n{err}");
    assert_accounts_hold(&run);
    assert_nobody_is_left(&lab, HOSTS);
    assert!(share >= LEAST, "{share}");
}

/// The user's own command.
#[test]
fn chaos_is_a_command_and_says_how_the_run_copes() {
    let Some(lab) = Lab::up("chaos_is_a_command_and_says_how_the_run_copes", 2) else {
        return;
    };
    let args = "-H h1:2,h2:2 --epochs 2 --examples 3000 --trouble slow:100 --dead-after 2 \
                --save-minutes 0.01";
    let mut run = Watched::start(&lab, args);
    run.wait_for_steps(20);
    let output = run
        .program
        .start("chaos run --every 2.5 --for 13 --seed 3", "");
    let (out, err) = words(&output);
    assert!(output.status.success(), "{out}\n{err}");
    let lines: Vec<_> = out.lines().collect();
    assert!(
        lines[0].contains("of kill, freeze, cut, server; again the same with --seed 3"),
        "{out}"
    );
    for word in [
        "(SIGKILL)",
        "next update after",
        "updates in that time",
        "Accounts hold",
    ] {
        assert!(out.contains(word), "{word}: {out}");
    }
    assert!(!out.contains("NO UPDATE"), "{out}");
    let error = run.program.fails("chaos nothing", "");
    assert!(error.contains("nothing is not a run"), "{error}");
    finished(&run.end());
    assert_accounts_hold(&run);
    let error = run.program.fails("chaos run", "");
    assert!(
        error.contains("run is not being trained on this machine"),
        "{error}"
    );
    assert_nobody_is_left(&lab, 2);
}
