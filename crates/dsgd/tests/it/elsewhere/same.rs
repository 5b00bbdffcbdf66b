//! Workers elsewhere compute what workers here compute, to the bit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::elsewhere::{Watched, assert_nobody_is_left, signal};
use crate::equivalence::{plain_loop, weights};
use crate::program::{Program, end, finished};
use crate::runs::{
    assert_each_batch_once, checkpoint_bytes, records, steps, weight_bytes, workers_of,
};
use crate::ssh::{Lab, Plain};
use dsgd_core::event::Event;

const OPTIONS: &str = "-n 3 --mode sync --epochs 2 --optimizer adam --dropout 0.2";

/// Of a run whose workers are threads.
fn bytes_of_a_local_run() -> BTreeMap<String, Vec<u8>> {
    let program = Program::new();
    program.says(&format!("train {OPTIONS} --run-dir run"));
    checkpoint_bytes(&program.path("run"))
}

#[test]
fn three_bare_hosts_compute_what_three_threads_compute() {
    let test = "three_bare_hosts_compute_what_three_threads_compute";
    let Some(lab) = Lab::up(test, 3) else { return };
    let mut run = Watched::start(
        &lab,
        &format!("--hosts {} {OPTIONS}", lab.file("hostfile").display()),
    );
    finished(&run.end());
    assert_each_batch_once(&run.run(), 2, 20);
    assert!(checkpoint_bytes(&run.run()) == bytes_of_a_local_run());
    assert_nobody_is_left(&lab, 3);
    // What the programs there said has a file a host; secrets are nobody else's business.
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(run.run().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("secrets.json"), 0o600);
}

#[test]
fn data_travel_and_prefetch_changes_nothing_of_the_accounts() {
    let test = "data_travel_and_prefetch_changes_nothing_of_the_accounts";
    let Some(lab) = Lab::up(test, 2) else { return };
    let file = lab.file("numbers.txt");
    fs::write(&file, "1\n2\n3\n").unwrap();
    let args = format!(
        "-H h1:2,h2:1 --epochs 2 --prefetch --data {}",
        file.display()
    );
    let mut run = Watched::start(&lab, &args);
    finished(&run.end());
    assert_each_batch_once(&run.run(), 2, 20);
    assert_nobody_is_left(&lab, 2);
}

#[test]
fn this_machine_through_ssh_computes_what_threads_compute() {
    let test = "this_machine_through_ssh_computes_what_threads_compute";
    let Some(plain) = Plain::up(test, "") else {
        return;
    };
    let program = Program::new();
    let config = plain.file("ssh_config").display().to_string();
    // As the ancestor's users type it.
    let args = format!("train -localhost --ssh-config {config} {OPTIONS} --run-dir run");
    program.says(&args);
    assert!(checkpoint_bytes(&program.path("run")) == bytes_of_a_local_run());
    for options in [
        "-n 3 --mode split --most-parts 5 --parts 5 --epochs 2 --optimizer adam --dropout 0.2",
        "-n 3 --mode local --local-steps 2 --epochs 2 --optimizer adam --dropout 0.2",
    ] {
        let program = Program::new();
        let args = format!("train --localhost --ssh-config {config} {options} --run-dir run");
        program.says(&args);
        let threads = Program::new();
        threads.says(&format!("train {options} --run-dir run"));
        let (hosts, threads) = (program.path("run"), threads.path("run"));
        assert!(weight_bytes(&hosts) == weight_bytes(&threads), "{options}");
    }
}

/// A worker that takes the next steps while a delta is on its way loses none and counts none twice: where there is no
/// other, it goes the way of a loop.
#[test]
fn steps_beside_an_exchange_are_those_of_one_loop() {
    let test = "steps_beside_an_exchange_are_those_of_one_loop";
    let Some(plain) = Plain::up(test, "") else {
        return;
    };
    let config = plain.file("ssh_config").display().to_string();
    // One that waits for others, where there are none, and one that does not.
    for together in ["", "--together=false"] {
        let program = Program::new();
        // Rounds take longer than exchanges, so that what is pushed arrives in the order in which it was computed.
        let args = format!(
            "train --localhost --ssh-config {config} -n 1 --mode local {together} --local-steps 3 --prefetch --epochs 3 \
             --optimizer sgd --learning-rate 0.1 --lr-schedule constant --max-grad-norm 0 --trouble slow:80 --run-dir run"
        );
        program.says(&args);
        let run = program.path("run");
        assert_each_batch_once(&run, 3, 20);
        let steps = steps(&records(&run));
        let workers: BTreeSet<_> = steps.iter().flat_map(workers_of).collect();
        assert_eq!(workers.len(), 2, "they take turns");
        let (_, loop_of_it) = plain_loop(&run, 3435, |p, _, g| *p -= 0.1 * g);
        let trained = weights(&run, loop_of_it.layout());
        for (a, b) in loop_of_it.flat().iter().zip(trained.flat()) {
            assert!((a - b).abs() < 1e-4, "{a} is not {b}");
        }
    }
}

/// Few bits are the same few bits every time, also where what is left out stays with the workers.
#[test]
fn a_synchronous_run_in_few_bits_is_the_same_every_time() {
    let test = "a_synchronous_run_in_few_bits_is_the_same_every_time";
    let Some(plain) = Plain::up(test, "") else {
        return;
    };
    let config = plain.file("ssh_config").display().to_string();
    let options = "-n 3 --epochs 2 --optimizer adam --dropout 0.2 --trouble jitter";
    for mode in [
        "--mode sync --codec int8",
        "--mode local --local-steps 2 --codec int4",
    ] {
        let bytes = || {
            let program = Program::new();
            let args = format!("train --localhost --ssh-config {config} {mode} {options}");
            program.says(&format!("{args} --run-dir run"));
            weight_bytes(&program.path("run"))
        };
        assert!(bytes() == bytes(), "{mode}");
    }
}

/// What is typed on hosts: the plan is made from the first exchange, and its promise is held against what came of it.
#[test]
fn hosts_work_by_a_plan_that_says_what_came_of_it() {
    let test = "hosts_work_by_a_plan_that_says_what_came_of_it";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = Watched::start(
        &lab,
        "-H h1:1,h2:1 --mode auto --epochs 2 --examples 4000 --trouble slow:5",
    );
    let output = finished(&run.end());
    assert_each_batch_once(&run.run(), 2, 400);
    assert_nobody_is_left(&lab, 2);
    let plans = run.since(0).filter_map(|event| match event {
        Event::Plan { measured, .. } => Some(*measured),
        _ => None,
    });
    let plans: Vec<_> = plans.collect();
    assert!(
        matches!(plans[..], [None, ..]),
        "the first is a promise: {plans:?}"
    );
    assert!(
        plans.iter().flatten().count() == 2,
        "one an epoch: {plans:?}"
    );
    assert!(plans.iter().flatten().all(|&measured| measured > 0.0));
    assert!(output.contains("between exchanges, in int"), "{output}");
    let report = fs::read_to_string(run.run().join("report.md")).unwrap();
    assert!(report.contains("× the fastest"), "{report}");
    // Typed, it is no plan.
    let config = fs::read_to_string(run.run().join("config.toml")).unwrap();
    assert!(!config.contains("\nmode ="), "{config}");
}

/// Where an exchange takes longer than the steps that an epoch has room for, a second worker in each slot computes
/// meanwhile: it comes when the plan wants it, and not before.
#[test]
fn on_a_very_slow_network_workers_compute_while_they_exchange() {
    let test = "on_a_very_slow_network_workers_compute_while_they_exchange";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = Watched::start(
        &lab,
        "-H h1:1,h2:1 --mode auto --epochs 6 --examples 2000 --trouble slow:50 --ballast 300000",
    );
    run.wait_for_steps(3);
    let twins = |run: &Watched| {
        let joined = run.since(0).filter(
            |event| matches!(event, Event::WorkerJoined { name, .. } if name.ends_with('+')),
        );
        joined.count()
    };
    assert_eq!(twins(&run), 0);
    let from = run.seen.len();
    lab.does("rate 1 2");
    lab.does("rate 2 2");
    let meanwhile = |event: &Event| matches!(event, Event::Plan { message, .. } if message.contains("while they compute"));
    run.wait_from(from, "another plan", meanwhile);
    let second =
        |event: &Event| matches!(event, Event::WorkerJoined { name, .. } if name == "h1/0+");
    run.wait_from(from, "a second worker", second);
    lab.does("rate 1 off");
    lab.does("rate 2 off");
    finished(&run.end());
    assert_eq!(twins(&run), 2);
    assert_each_batch_once(&run.run(), 6, 200);
    assert_nobody_is_left(&lab, 2);
}

/// Whoever is born again on a host asks for what another's optimizer keeps, and is given it.
#[test]
fn a_worker_that_is_started_again_goes_on_with_what_was_told() {
    let test = "a_worker_that_is_started_again_goes_on_with_what_was_told";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = Watched::start(
        &lab,
        "-H h1:1,h2:1 --mode local --local-steps 2 --epochs 2 --examples 2000 --trouble slow:20 --log debug",
    );
    run.wait_for_steps(10);
    let from = run.seen.len();
    signal(&lab, "h1", "KILL");
    let is_back =
        |event: &Event| matches!(event, Event::WorkerJoined { name, .. } if name == "h1/0");
    run.wait_from(from, "a new worker", is_back);
    finished(&run.end());
    let log = fs::read_to_string(run.run().join("debug.log")).unwrap();
    let asked = log
        .lines()
        .filter(|line| line.contains("asks for an optimizer's state") && line.contains("h1/0"));
    let asked: Vec<_> = asked.collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].contains("None"), "{asked:?}");
    assert!(asked[1].contains("Some("), "{asked:?}");
    assert_nobody_is_left(&lab, 2);
}

/// `plan` takes the options of `train`, looks at the hosts, and trains nothing.
#[test]
fn a_plan_is_told_without_training() {
    let test = "a_plan_is_told_without_training";
    let Some(lab) = Lab::up(test, 2) else { return };
    let config = lab.file("ssh_config").display().to_string();
    let program = Program::new();
    let options = "--examples 2000 --ballast 100000 --trouble slow:20";
    let out = program.says(&format!(
        "plan -H h1:2,h2:1 --ssh-config {config} {options}"
    ));
    for words in [
        "h1: ",
        "h2: ",
        "/s there, round trip",
        "200 batches an epoch",
        "--mode local --local-steps",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let marked = out
        .lines()
        .filter(|line| line.starts_with("* ") && line.contains('%'));
    assert_eq!(marked.count(), 1, "{out}");
    assert!(!program.path("runs").exists(), "it trains nothing");
    // Who cannot be reached is named, and the others are planned for.
    lab.does("cut 2");
    let output = program.start(
        &format!("plan -H h1:2,h2:1 --ssh-config {config} {options}"),
        "",
    );
    let error = crate::program::failed(&output);
    assert!(
        error.contains("h2: no") && error.contains("did not work out on h2"),
        "{error}"
    );
    let out = crate::program::words(&output).0;
    assert!(
        out.contains("h1: ") && out.contains("--mode local --local-steps"),
        "{out}"
    );
    let output = program.start("plan -n 2", "");
    let error = crate::program::failed(&output);
    assert!(error.contains("a plan is for hosts"), "{error}");
}

/// Through the server's own port, with certificates made for the run; and a machine that joins by hand.
#[test]
fn workers_may_come_through_a_port_and_by_hand() {
    let test = "workers_may_come_through_a_port_and_by_hand";
    let Some(lab) = Lab::up(test, 2) else { return };
    let mut run = Watched::start(
        &lab,
        &format!(
            "--hosts {} --listen 0.0.0.0:0 {OPTIONS}",
            lab.file("hostfile").display()
        ),
    );
    finished(&run.end());
    assert!(checkpoint_bytes(&run.run()) == bytes_of_a_local_run());
    assert_nobody_is_left(&lab, 2);

    let mut run = Watched::start(
        &lab,
        "-n 1 --listen 127.0.0.1:0 --epochs 4 --trouble slow:30",
    );
    run.wait_for_steps(1);
    let program = Program::new();
    let text = fs::read_to_string(run.run().join("invitation")).unwrap();
    let invitation: serde_json::Value = serde_json::from_str(&text).unwrap();
    let address = invitation["endpoint"]["address"].as_str().unwrap();
    let file = program.path("invitation");
    let join = |args: &str, invitation: String| {
        fs::write(&file, invitation).unwrap();
        let mut joins = program.command(&format!("worker -n 1 {args}"), "");
        joins.stdin(fs::File::open(&file).unwrap());
        joins.spawn().unwrap()
    };
    // Through the port; and through the socket, as there is nothing at port 1.
    let far = join(&format!("--join {address}"), text.clone());
    let socket = run.run().join("socket");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let near = join("", text.replace(address, "https://127.0.0.1:1"));
    for joined in [far, near] {
        let said = finished(&end(joined));
        assert!(said.ends_with("The run is over\n"), "{said}");
    }
    finished(&run.end());
    assert_each_batch_once(&run.run(), 4, 20);
    let steps = crate::runs::steps(&crate::runs::records(&run.run()));
    let workers: BTreeSet<_> = steps.iter().flat_map(crate::runs::workers_of).collect();
    assert_eq!(workers.len(), 3, "the one here and the two that joined");
    assert!(!socket.exists());
}
