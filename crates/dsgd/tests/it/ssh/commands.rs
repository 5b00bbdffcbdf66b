//! `hosts` as its users call it.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::Lab;
use crate::elsewhere::hopeless::{configure, mount};
use crate::program::{Program, failed, words};

/// `hosts` with these words, on these hosts.
fn args(lab: &Lab, command: &str, hosts: &str, more: &str) -> String {
    let config = lab.file("ssh_config");
    format!(
        "hosts {command} --ssh-config {} -H {hosts} {more}",
        config.display()
    )
}

#[test]
fn hosts_are_checked_in_bounded_time() {
    let Some(lab) = Lab::up("hosts_are_checked_in_bounded_time", 3) else {
        return;
    };
    let program = Program::new();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let config = fs::read_to_string(lab.file("ssh_config")).unwrap();
    let config = format!("Host mute\n  HostName 127.0.0.1\n  Port {port}\n{config}");
    fs::write(lab.file("ssh_config"), config).unwrap();
    lab.does("cut 3");
    let started = Instant::now();
    let args = args(
        &lab,
        "check",
        "h1,mute,h2,h3",
        "--parameters 37219687 --step-secs 5",
    );
    let output = program.start(&args, "");
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    let out = words(&output).0;
    let err = failed(&output);
    for word in [
        "h1: ",
        "h2: ",
        " cores, ",
        " ms, clock",
        "/s there",
        "pull and push of 149 MB",
    ] {
        assert!(out.contains(word), "{word}: {out}");
    }
    assert_eq!(out.matches("    ready").count(), 2, "{out}");
    for word in ["mute: no", "h3: no", "did not work out on mute, h3"] {
        assert!(err.contains(word), "{word}: {err}");
    }
    let binary = format!("--binary {}=/etc/passwd", std::env::consts::ARCH);
    let output = program.start(&self::args(&lab, "check", "h1", &binary), "");
    failed(&output);
    let out = words(&output).0;
    assert!(
        out.contains("Problem: /etc/passwd is no program for Linux"),
        "{out}"
    );
}

#[test]
fn a_host_where_no_run_can_work_is_never_ready() {
    let test = "a_host_where_no_run_can_work_is_never_ready";
    let Some(lab) = Lab::up(test, 4) else { return };
    mount(&lab, "h1", "-o noexec");
    mount(&lab, "h2", "-o ro");
    configure(&lab, 3, "MaxSessions 1");
    configure(&lab, 4, "AllowStreamLocalForwarding no");
    let output = Program::new().start(&args(&lab, "check", "h1,h2,h3,h4", ""), "");
    failed(&output);
    let out = words(&output).0;
    assert!(!out.contains("ready"), "{out}");
    for remedy in [
        "Problem: h1: programs in /root/.cache/dsgd/objects cannot be run",
        "Problem: h2: the cache /root/.cache/dsgd cannot be written",
        "Problem: h3: its sshd lets one login do one thing at a time only: set `MaxSessions 10`",
        "Problem: h4: its sshd forwards no Unix sockets",
    ] {
        assert!(out.contains(remedy), "{remedy}: {out}");
    }
}

#[test]
fn hosts_are_filled_used_and_cleaned() {
    let Some(lab) = Lab::up("hosts_are_filled_used_and_cleaned", 2) else {
        return;
    };
    let program = Program::new();
    let says = |command: &str, more: &str| program.says(&args(&lab, command, "h1,h2", more));
    fs::write(program.path("data"), "abc").unwrap();
    assert_eq!(says("init", "data"), "h1: ready\nh2: ready\n");
    for host in ["h1", "h2"] {
        let objects = fs::read_dir(lab.cache(host).join("objects")).unwrap();
        assert_eq!(objects.count(), 2, "the program, and the data");
    }
    let list = program.path("client_list.txt");
    fs::write(list, "h1 # the first\n\nh2\n").unwrap();
    let config = format!("--ssh-config {}", lab.file("ssh_config").display());
    let out = program.says(&format!("hosts run {config} -- hostname"));
    let mut lines: Vec<_> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["h1: h1", "h2: h2"]);

    let mut run = program.command(&format!("hosts run {config} --"), "");
    run.args(["echo 'a  b' >&2; test $(hostname) = h1"]);
    let output = crate::program::end(run.spawn().unwrap());
    let err = failed(&output);
    for word in [
        "h1: a  b",
        "h2: a  b",
        "h2: the command failed there: exit status 1",
        "on h2",
    ] {
        assert!(err.contains(word), "{word}: {err}");
    }

    assert_eq!(
        says("stop", "")
            .matches("nothing of ours ran there")
            .count(),
        2
    );
    fs::write(lab.home("h2").join("x"), "from h2").unwrap();
    let output = program.start(&args(&lab, "fetch", "h1,h2", "x"), "");
    assert!(failed(&output).contains("h1: fetching files failed there: no such file"));
    let fetched = fs::read_to_string(program.path("fetched/h2/x")).unwrap();
    assert_eq!(fetched, "from h2");
    assert_eq!(says("clean", "").matches(" freed").count(), 2);
    assert!(!lab.cache("h1").exists() && lab.home("h2").join("x").exists());
}

#[test]
fn a_missing_list_is_reported_with_the_remedy() {
    let program = Program::new();
    let error = program.fails("hosts stop", "");
    assert!(error.contains("there is no client_list.txt"), "{error}");
    let error = program.fails("hosts init nothing -H h1", "");
    assert!(error.contains("cannot read nothing"), "{error}");
    // Of a program for another machine nothing is sent; what it is for is in its head.
    let lab = Lab::up("a_missing_list_is_said_with_the_remedy", 1);
    let Some(lab) = lab else { return };
    let own = fs::read(std::env::current_exe().unwrap()).unwrap();
    let (arch, other) = (std::env::consts::ARCH, 0x15);
    let mut foreign = own;
    foreign[18] = other;
    fs::write(program.path("foreign"), foreign).unwrap();
    let more = format!("--binary {arch}=foreign");
    let error = program.fails(&args(&lab, "init", "h1", &more), "");
    let words = format!("h1 is {arch}, foreign is for ppc64le: build it with `cargo zigbuild");
    assert!(error.contains(&words), "{error}");
    assert!(!lab.cache("h1").exists());
}
