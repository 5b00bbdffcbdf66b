//! A host that swallows everything: whatever is called, an answer comes in time, and it names the host
//! and what to do.

use std::fs;
use std::time::{Duration, Instant};

use crate::elsewhere::{Watched, measured};
use crate::program::{Program, end, finished, words};
use crate::ssh::Lab;

/// The longest that a person has to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn every_command_answers_in_time_where_a_host_does_not() {
    let test = "every_command_answers_in_time_where_a_host_does_not";
    let Some(lab) = Lab::up(test, 2) else { return };
    let config = lab.file("ssh_config").display().to_string();
    lab.does("cut 1");
    let address = fs::read_to_string(lab.file("known_hosts")).unwrap();
    let address = address.split(' ').next().unwrap().to_owned();
    let ssh = format!("--ssh-config {config}");
    let calls = [
        format!("train -H h1 {ssh}"),
        format!("train -H h1 {ssh} --listen 127.0.0.1:0"),
        format!("hosts check -H h1 {ssh}"),
        format!("hosts init -H h1 {ssh}"),
        format!("hosts run -H h1 {ssh} true"),
        format!("hosts fetch -H h1 {ssh} file"),
        format!("hosts stop -H h1 {ssh}"),
        format!("hosts clean -H h1 {ssh}"),
        format!("keygen --authorize h1 {ssh}"),
    ];
    let started = Instant::now();
    let started_one = |args: &String| {
        let program = Program::new();
        let mut command = program.command(args, "");
        command.env("HOME", program.path(""));
        (command.spawn().unwrap(), program)
    };
    let running: Vec<_> = calls.iter().map(started_one).collect();
    let invited = invited(&lab, &address);
    for (args, (child, _program)) in calls.iter().zip(running) {
        let output = end(child);
        let secs = started.elapsed();
        let (out, err) = words(&output);
        let said = format!("{out}{err}");
        assert_eq!(output.status.code(), Some(1), "{args}: {said}");
        assert!(secs < PATIENCE, "{args}: {secs:?}");
        assert!(said.contains("h1: "), "{args}: {said}");
        let remedies = ["is the machine on", "Log in once by ssh", "overloaded"];
        let remedy = remedies.iter().any(|remedy| said.contains(remedy));
        assert!(remedy, "{args}: {said}");
    }
    measured(
        "a host that swallows everything",
        &format!(
            "each of {} commands has answered after {:.1} s",
            calls.len(),
            started.elapsed().as_secs_f64()
        ),
    );
    let (child, _program) = invited;
    let said = words(&end(child)).1;
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    let first = format!("the server at https://{address}:7077 cannot be reached: ");
    assert!(said.contains(&first), "{said}");
    assert!(said.contains("trying for 12 s (--orphan-after)"), "{said}");
    assert!(said.contains("it was not reached for"), "{said}");
}

/// A worker by hand, whose server is behind the black hole.
fn invited(lab: &Lab, address: &str) -> (std::process::Child, Program) {
    let mut run = Watched::start(
        lab,
        "-n 1 --listen 127.0.0.1:0 --epochs 1 --trouble slow:10 --orphan-after 12",
    );
    finished(&run.end());
    let program = Program::new();
    let join = format!("worker -n 1 --join https://{address}:7077");
    let mut joins = program.command(&join, "");
    joins.stdin(fs::File::open(run.run().join("invitation")).unwrap());
    (joins.spawn().unwrap(), program)
}

/// With others there, the run begins and the host is tried again; disturbing it ends in time, too.
#[test]
fn a_run_begins_without_a_host_that_does_not_answer() {
    let test = "a_run_begins_without_a_host_that_does_not_answer";
    let Some(lab) = Lab::up(test, 2) else { return };
    lab.does("cut 1");
    let started = Instant::now();
    let mut run = Watched::start(
        &lab,
        "-H h1:1,h2:2 --epochs 1 --examples 4000 --trouble slow:100",
    );
    run.wait_for_steps(1);
    let begun = started.elapsed();
    assert!(begun < PATIENCE, "{begun:?}");
    let started = Instant::now();
    let output = run
        .program
        .start("chaos run --faults kill --every 1 --for 3 --seed 1", "");
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    let said = words(&output).0;
    assert!(
        output.status.success() && said.contains("h1: no way there"),
        "{said}"
    );
    run.interrupt();
    let output = run.end();
    assert_eq!(output.status.code(), Some(130), "{:?}", words(&output));
    let out = words(&output).0;
    assert!(out.contains("h1: no way there"), "{out}");
}
