//! The program and bare hosts: how long it takes from nothing to the first update.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// From the call of the program to the first update, on hosts that have never seen it.
const MOST: Duration = Duration::from_secs(15);

/// From Ctrl-C to the end: workers that are only just starting are let go as the others are.
const MOST_FAREWELL: Duration = Duration::from_secs(4);

/// Hosts made of namespaces, which go when it is dropped.
struct Lab(TempDir);

impl Lab {
    fn up(hosts: usize) -> Option<Self> {
        let lab = Self(tempfile::tempdir().unwrap());
        let up = lab.tool(&["up", &hosts.to_string()])?;
        up.then_some(lab)
    }

    /// Whether it worked; none where there is no tool for hosts, or no right to use it.
    fn tool(&self, args: &[&str]) -> Option<bool> {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tools/hosts.sh");
        let number = std::process::id() % 10_000;
        let mut command = Command::new(tool);
        let net = format!("10.{}.{}", 100 + number / 100, number % 100);
        command.args(args).env("HOSTS_DIR", self.file(""));
        command.env("HOSTS_NET", net);
        command.env("HOSTS_BR", format!("d{number:04}b"));
        command.env("HOSTS_PREFIX", format!("d{number:04}x"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Some(command.status().ok()?.success())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("hosts").join(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tool(&["down"]);
    }
}

/// A run that ends with the test.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-s", "INT", &pid]).status();
        let _ = self.0.wait();
    }
}

/// Number words, on three hosts with two workers each.
#[test]
fn three_bare_hosts_make_their_first_update_in_fifteen_seconds() {
    let Some(lab) = Lab::up(3) else {
        let mut stderr = io::stderr();
        let name = "three_bare_hosts_make_their_first_update_in_fifteen_seconds";
        writeln!(stderr, "SKIPPED {name}: no hosts can be made here").unwrap();
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::copy(lab.file("hostfile"), folder.path().join("client_list.txt")).unwrap();
    let log = fs::File::create(folder.path().join("said")).unwrap();
    let started = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_dsgd"))
        .args([
            "train",
            "--remote",
            "-n",
            "6",
            "--run-dir",
            "run",
            "--ssh-config",
        ])
        .arg(lab.file("ssh_config"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let run = Run(child);
    let events = folder.path().join("run/events.jsonl");
    let first = loop {
        let text = fs::read_to_string(&events).unwrap_or_default();
        if text.contains("\"event\":\"step\"") {
            break started.elapsed();
        }
        let said = fs::read_to_string(folder.path().join("said")).unwrap();
        assert!(started.elapsed() < 4 * MOST, "no update: {said}");
        sleep(Duration::from_millis(5));
    };
    let interrupted = Instant::now();
    drop(run);
    let farewell = interrupted.elapsed();
    let secs = first.as_secs_f64();
    let mut stderr = io::stderr();
    let words = "MEASURED three bare hosts: first update";
    writeln!(stderr, "{words} {secs:.2} s after the call").unwrap();
    assert!(first < MOST, "{first:?}");
    assert!(farewell < MOST_FAREWELL, "{farewell:?}");
}
