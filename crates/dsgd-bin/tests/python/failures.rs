//! What a user reads when a script fails, and that nobody is left behind.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::program::{Program, said};
use crate::torch::MODEL;

/// A task with that body of `gradient`.
pub(crate) fn script(gradient: &str) -> String {
    format!(
        "
import os, signal, time
import numpy as np, dsgd
class T(dsgd.Task):
    batch_size = 4
    at: int = 0
    def tensors(self): return {{'a': np.zeros(3)}}
    def examples(self): return 40
    def gradient(self, p, batch, g):
        g['a'] += 1
        {gradient}
        return 1.0
"
    )
}

const TRAIN: &str = "--plain --optimizer sgd --epochs 1";

#[test]
fn what_is_wrong_with_a_script_is_said_before_anything_begins() {
    let test = "what_is_wrong_with_a_script_is_said_before_anything_begins";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    let task =
        "import numpy as np, dsgd\nclass T(dsgd.Task):\n    batch_size = 4\n    hidden: int = 3\n";
    let cases = [
        (
            "x = 1",
            "",
            "has no task: define a class derived from dsgd.Task or dsgd.torch.Torch",
        ),
        ("def f(:", "", "SyntaxError: invalid syntax (t.py:1)"),
        (
            "import nosuch_module",
            "",
            "ModuleNotFoundError: No module named 'nosuch_module'",
        ),
        (
            "import nosuch_module",
            "",
            "--python PATH chooses another (t.py:1 in <module>)",
        ),
        (
            "1 / 0",
            "",
            "ZeroDivisionError: division by zero (t.py:1 in <module>)",
        ),
        (
            &format!("{task}class U(T): pass\nclass V(T): pass"),
            "",
            "several tasks: U, V; choose by --class NAME",
        ),
        (task, "--class W", "t.py has no task W; it has T"),
        (
            task,
            "",
            "error: task python: T.tensors: return names and initial arrays",
        ),
        (
            task,
            "--hiden 3",
            "T has no option --hiden: did you mean --hidden?",
        ),
        (task, "--hidden x", "--hidden x: must be int"),
        (task, "--set hidden", "--set hidden: write NAME=VALUE"),
        (&format!("{task}    name: str"), "", "T needs --name"),
        (
            &format!("{task}    names: list = []"),
            "",
            "option names of T is",
        ),
        (
            &format!("{task}    batch_size = 0"),
            "",
            "T needs batch_size",
        ),
        (
            &script("return None"),
            "",
            "the loss is None: return the batch's mean loss",
        ),
        (
            &script("g['a'] += np.zeros(4)"),
            "",
            "ValueError: operands could not be broadcast",
        ),
        (
            &script("if batch.number == 0: raise ValueError('no\\ngood')"),
            "",
            "ValueError: no (t.py:",
        ),
        (
            &format!(
                "{}    def validation_examples(self): return 4\n",
                script("pass")
            ),
            "",
            "T.evaluate: return the mean loss of validation examples",
        ),
        (&script("os._exit(3)"), "", "its Python ended with status 3"),
        (&script("p['a'] += 1"), "", "read-only"),
    ];
    for (text, words, expected) in cases {
        program.write("t.py", text);
        let error = program.fails(&format!("train t.py {TRAIN} {words}"));
        assert!(error.contains(expected), "{text}\n{expected}\n{error}");
        assert!(error.matches("Traceback").count() <= 1, "once: {error}");
    }
    assert!(
        !program.path("runs").exists(),
        "a refused command changes nothing"
    );
}

#[test]
fn a_script_or_a_python_that_is_not_there_is_named() {
    let test = "a_script_or_a_python_that_is_not_there_is_named";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    program.write("t.py", &script("pass"));
    let error = program.fails("train nosuch.py");
    assert!(
        error.contains("nosuch.py: there is no such file"),
        "{error}"
    );
    let error = program.fails("train t.py --python /nowhere/python");
    assert!(
        error.contains("/nowhere/python: there is no such Python here"),
        "{error}"
    );
    assert!(
        !program.path("runs").exists(),
        "a refused command changes nothing"
    );
}

#[test]
fn a_batch_that_fails_is_named_with_its_place_and_the_run_goes_on() {
    let test = "a_batch_that_fails_is_named_with_its_place_and_the_run_goes_on";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    program.write(
        "t.py",
        &script("if batch.number == 3: raise ValueError('no good')"),
    );
    let said = program.ok(&format!("train t.py -n 2 {TRAIN}"));
    assert!(
        said.contains("ValueError: no good (t.py:11 in gradient)"),
        "{said}"
    );
    assert!(said.contains("1 batches left out"), "{said}");
    assert!(
        said.contains("in gradient\n    if batch.number == 3"),
        "the traceback: {said}"
    );
}

#[test]
fn a_child_that_is_killed_is_born_again_and_its_batch_is_counted() {
    let test = "a_child_that_is_killed_is_born_again_and_its_batch_is_counted";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    let dies = "if batch.number == 5 and not os.path.exists('died'): open('died', 'w'); os.kill(os.getpid(), signal.SIGKILL)";
    program.write("t.py", &script(dies));
    program.write("calm.py", &script("pass"));
    let said = program.ok(&format!(
        "train t.py -n 2 --mode sync {TRAIN} --run-dir killed"
    ));
    let words = "is lost: its Python was killed (signal 9, for want of memory perhaps)";
    assert!(said.contains(words), "{said}");
    assert!(!said.contains("left out"), "{said}");
    program.ok(&format!(
        "train calm.py -n 2 --mode sync {TRAIN} --run-dir calm"
    ));
    assert_eq!(program.tensors("killed"), program.tensors("calm"));
}

/// Also those of a child that is killed which load its data.
#[test]
fn who_loads_data_does_not_stay() {
    let Some(program) = Program::with("who_loads_data_does_not_stay", "torch") else {
        return;
    };
    let name = format!("loads_{}.py", std::process::id());
    let slow = "torch.randn(12, generator=g); import time; time.sleep(0.01)";
    program.write(&name, &MODEL.replace("torch.rand(12, generator=g)", slow));
    let words = format!("train {name} -n 1 --loaders 2 --plain --epochs 1000 --run-dir run");
    let mut run = program.begin(&words);
    let all = || pids(&format!("dsgd.child .*{name}"));
    let events = program.path("run/events.jsonl");
    let begun = || fs::read_to_string(&events).is_ok_and(|text| text.contains("\"step\""));
    wait(begun, "a step");
    assert_eq!(all().len(), 3, "a child, and two that load for it");
    let before = all();
    let first = before.iter().copied().min().unwrap();
    kill("KILL", first);
    wait(
        || !all().iter().any(|pid| before.contains(pid)),
        "they end with it",
    );
    wait(|| all().len() == 3, "and have come again");
    kill("INT", run.id());
    run.wait().unwrap();
    wait(|| all().is_empty(), "nobody is left");
}

#[test]
fn what_a_script_prints_is_seen_and_does_not_disturb_the_conversation() {
    let test = "what_a_script_prints_is_seen_and_does_not_disturb_the_conversation";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    let prints = "print('{\"loss\": 3}'); os.system('echo from a shell; cat')";
    program.write("t.py", &script(prints));
    let said = program.ok(&format!("train t.py -n 1 {TRAIN}"));
    assert!(
        said.contains("{\"loss\": 3}") && said.contains("from a shell"),
        "{said}"
    );
    assert!(said.contains("Run finished after 10 steps"), "{said}");
}

#[test]
fn nobody_is_left_behind_whoever_is_killed() {
    let Some(program) = Program::with("nobody_is_left_behind_whoever_is_killed", "numpy") else {
        return;
    };
    let name = format!("lasting_{}.py", std::process::id());
    program.write(&name, &script("time.sleep(0.2)"));
    let children = || pids(&format!("dsgd.child .*{name}"));
    for (at, (whom, signal)) in [
        ("supervisor", "INT"),
        ("supervisor", "TERM"),
        ("supervisor", "KILL"),
        ("server", "KILL"),
    ]
    .into_iter()
    .enumerate()
    {
        let restarts = if whom == "server" {
            "--max-restarts 1"
        } else {
            ""
        };
        let words = format!("train {name} -n 2 --plain --epochs 100 --run-dir run{at} {restarts}");
        let mut child = program
            .command(&words)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let events = program.path(&format!("run{at}/events.jsonl"));
        let begun = || {
            fs::read_to_string(&events)
                .unwrap_or_default()
                .contains("\"step\"")
        };
        wait(begun, "a step");
        let before = children();
        assert_eq!(before.len(), 2, "a child a worker");
        let victim = match whom {
            "supervisor" => child.id(),
            _ => fs::read_to_string(program.path(&format!("run{at}/server.pid")))
                .unwrap()
                .split_whitespace()
                .next()
                .unwrap()
                .parse()
                .unwrap(),
        };
        kill(signal, victim);
        wait(
            || children().iter().all(|pid| !before.contains(pid)),
            "the children are gone",
        );
        if whom == "server" {
            // Its next life has children of its own.
            wait(|| children().len() == 2, "two new children");
            kill("INT", child.id());
        }
        wait(|| children().is_empty(), "nobody is left");
        let _ = child.wait();
    }
}

pub(crate) fn pids(pattern: &str) -> Vec<u32> {
    let output = Command::new("pgrep")
        .args(["-f", pattern])
        .output()
        .unwrap();
    let (out, _) = said(&output);
    out.lines().filter_map(|pid| pid.parse().ok()).collect()
}

pub(crate) fn kill(signal: &str, pid: u32) {
    let pid = pid.to_string();
    assert!(
        Command::new("kill")
            .args(["-s", signal, &pid])
            .status()
            .unwrap()
            .success()
    );
}

pub(crate) fn wait(mut is_so: impl FnMut() -> bool, what: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "not in 30 s: {what}");
        sleep(Duration::from_millis(20));
    }
}
