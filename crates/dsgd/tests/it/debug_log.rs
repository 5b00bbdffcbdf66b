//! The developer's log.

use std::fs;

use crate::program::Program;
use crate::ssh::Lab;

#[test]
fn what_goes_on_inside_is_written_where_it_is_asked_for() {
    let program = Program::new();
    program.says("train -n 2 --epochs 1 --run-dir run --log debug,worker=off");
    let log = fs::read_to_string(program.path("run/debug.log")).unwrap();
    for line in [
        "dsgd_engine::server: a message to the core worker=",
        " Push { lease: ",
        "dsgd_engine::server: the core decides action=Apply",
        "a checkpoint is whole",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains("dsgd_engine::worker"), "{log}");
    program.says("train -n 2 --epochs 1 --run-dir quiet");
    assert!(!program.path("quiet/debug.log").exists());
}

#[test]
fn what_is_no_part_and_no_level_is_refused_and_leaves_nothing() {
    let program = Program::new();
    let said = program.fails("train --run-dir run --log wier=debug", "");
    assert!(
        said.contains("checkpoint, launch, server, ssh, wire, worker"),
        "{said}"
    );
    let said = program.fails("train --run-dir run --log loud", "");
    assert!(
        said.contains("error, warn, info, debug, trace or off"),
        "{said}"
    );
    assert!(!program.path("run").exists());
}

/// Whose pull it is, how far it has come, and what was done on its host before.
#[test]
fn a_pull_of_a_host_can_be_followed() {
    let Some(lab) = Lab::up("a_pull_of_a_host_can_be_followed", 1) else {
        return;
    };
    let program = Program::new();
    let config = lab.file("ssh_config");
    let hosts = format!("-H h1:1 --ssh-config {}", config.display());
    program.says(&format!(
        "train {hosts} --epochs 1 --run-dir run --log debug,wire=trace"
    ));
    let log = fs::read_to_string(program.path("run/debug.log")).unwrap();
    for line in [
        "has logged in host=\"h1\"",
        "starts the program there host=\"h1\"",
        "pull{worker=\"h1/0\" lease=1}: dsgd_engine::wire::service: begins",
        "pull{worker=\"h1/0\" lease=1}: dsgd_engine::wire::service::sent: all of it was asked for",
        "push{worker=\"h1/0\"}",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    let token = fs::read_to_string(program.path("run/secrets.json")).unwrap();
    let token: serde_json::Value = serde_json::from_str(&token).unwrap();
    let token = token["token"].as_str().unwrap();
    assert!(!log.contains(token), "a token is in no log");
}
