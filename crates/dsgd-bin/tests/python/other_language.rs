//! A child in another language: the conversation of docs/child.md, by node.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::failures::pids;
use crate::program::{Program, root, skip};

#[test]
fn a_child_may_be_written_in_another_language() {
    let test = "a_child_may_be_written_in_another_language";
    if !Command::new("node")
        .arg("--version")
        .output()
        .is_ok_and(|node| node.status.success())
    {
        return skip(test, "there is no node here");
    }
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    let child = root().join("crates/dsgd-bin/tests/python/child.js");
    let interpreter = interpreter(&program, &format!("exec node {}", child.display()));
    program.write("line.py", "");
    let words = "--optimizer sgd --learning-rate 0.1 --lr-schedule constant --epochs 3 --plain --run-dir run";
    let python = interpreter.display();
    let said = program.ok(&format!(
        "train line.py -n 2 --mode split --python {python} {words}"
    ));
    assert!(said.contains("JavaScript"), "{said}");
    let line = &program.tensors("run")["line"];
    assert!(
        (line[0] - 3.0).abs() < 0.01 && (line[1] + 2.0).abs() < 0.01,
        "{line:?}"
    );
}

#[test]
fn an_answer_without_an_end_is_given_up() {
    let Some(program) = Program::with("an_answer_without_an_end_is_given_up", "numpy") else {
        return;
    };
    program.write("line.py", "");
    let interpreter = interpreter(&program, "head -c 17000000 /dev/zero >&0; sleep 171717");
    let error = program.fails(&format!("train line.py --python {}", interpreter.display()));
    assert!(error.contains("has more than 16777216 bytes"), "{error}");
    // Nor is what it had started left behind.
    assert_eq!(pids("sleep 171717"), [0; 0]);
}

/// What is called as an interpreter is: `-m dsgd.child SCRIPT`.
fn interpreter(program: &Program, line: &str) -> PathBuf {
    let interpreter = program.write("interpreter", &format!("#!/bin/sh\n{line}\n"));
    fs::set_permissions(&interpreter, fs::Permissions::from_mode(0o755)).unwrap();
    interpreter
}
