//! Runs whose workers are on hosts: what they compute, and what they live through.

mod black_hole;
mod chaos;
mod faults;
pub(crate) mod hopeless;
mod membership;
mod same;
mod server;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use dsgd_core::event::{Event, Record};

use crate::program::{Program, wait};
use crate::ssh::Lab;

/// Longer than any fault here takes to be overcome.
const PATIENCE: Duration = Duration::from_secs(90);

/// A run on the hosts of a lab, and what is seen of it.
pub(crate) struct Watched {
    pub(crate) program: Program,
    child: Option<Child>,
    /// Bytes of `events.jsonl` that were read.
    read: usize,
    /// What was seen, and when.
    pub(crate) seen: Vec<(Instant, Record)>,
}

impl Watched {
    /// Starts `train` with these words on a lab's hosts.
    pub(crate) fn start(lab: &Lab, args: &str) -> Self {
        Self::start_with(lab, args, "")
    }

    /// The same with that trouble in the server's process, instead of `--trouble`.
    pub(crate) fn start_with(lab: &Lab, args: &str, trouble: &str) -> Self {
        let program = Program::new();
        let ssh = lab.file("ssh_config").display().to_string();
        // Most stories are of single updates.
        let mode = if args.contains("--mode") {
            ""
        } else {
            "--mode async"
        };
        let args = format!("train --ssh-config {ssh} --run-dir run {mode} {args}");
        let mut run = Self {
            program,
            child: None,
            read: 0,
            seen: Vec::new(),
        };
        run.calls(&args, trouble);
        run
    }

    /// Calls the program again in the same folder.
    pub(crate) fn goes_on(&mut self, args: &str) {
        self.calls(args, "");
    }

    fn calls(&mut self, args: &str, trouble: &str) {
        let mut command = self.program.command(args, trouble);
        // A pipe that nobody reads would hold the run up once it is full.
        let file = |name| fs::File::create(self.program.path(name)).unwrap();
        command.stdout(file("out")).stderr(file("err"));
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.program.path("run")
    }

    /// Events that were seen after that many others.
    pub(crate) fn since(&self, from: usize) -> impl Iterator<Item = &Event> {
        self.seen[from..].iter().map(|(_, record)| &record.event)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Reads what is new.
    pub(crate) fn look(&mut self) {
        let text = fs::read(self.run().join("events.jsonl")).unwrap_or_default();
        let new = &text[self.read.min(text.len())..];
        // The last line may be half written.
        let whole = new
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let now = Instant::now();
        for line in String::from_utf8_lossy(&new[..whole]).lines() {
            // A killed server may leave a broken line.
            if let Ok(record) = serde_json::from_str(line) {
                self.seen.push((now, record));
            }
        }
        self.read += whole;
    }

    /// Waits for an event that comes after that many others; says when it was seen.
    pub(crate) fn wait_from(
        &mut self,
        from: usize,
        what: &str,
        mut is_it: impl FnMut(&Event) -> bool,
    ) -> Instant {
        let started = Instant::now();
        let mut at = from;
        loop {
            self.look();
            while let Some((when, record)) = self.seen.get(at) {
                if is_it(&record.event) {
                    return *when;
                }
                at += 1;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            if ended.is_some() || started.elapsed() > PATIENCE {
                let output = self.end_now();
                let (out, err) = crate::program::words(&output);
                panic!("{what} does not happen\n{out}\n{err}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until so many steps were made in all.
    pub(crate) fn wait_for_steps(&mut self, number: usize) {
        let mut steps = 0;
        self.wait_from(0, "a step", |event| {
            steps += usize::from(matches!(event, Event::Step(_)));
            steps >= number
        });
    }

    /// Waits for the run's own end.
    pub(crate) fn end(&mut self) -> Output {
        let status = wait(self.child.as_mut().unwrap());
        self.child = None;
        self.look();
        self.output(status)
    }

    /// What it has said.
    fn output(&self, status: ExitStatus) -> Output {
        let said = |name| fs::read(self.program.path(name)).unwrap();
        Output {
            status,
            stdout: said("out"),
            stderr: said("err"),
        }
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let pid = self.pid().to_string();
        let _ = Command::new("kill").args(["-s", "INT", &pid]).status();
    }

    fn end_now(&mut self) -> Output {
        self.interrupt();
        let mut child = self.child.take().unwrap();
        std::thread::sleep(Duration::from_secs(2));
        let _ = child.kill();
        let status = child.wait().unwrap();
        self.output(status)
    }
}

/// A line of the table in `docs/failures.md`; around the test harness, which would keep it to itself.
pub(crate) fn measured(fault: &str, words: &str) {
    let mut stderr = io::stderr();
    writeln!(stderr, "MEASURED {fault}: {words}").unwrap();
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
        }
    }
}

/// Runs a line of shell on a host.
pub(crate) fn on(lab: &Lab, host: &str, script: &str) -> Output {
    let mut ssh = Command::new("ssh");
    ssh.arg("-F")
        .arg(lab.file("ssh_config"))
        .args([host, "sh", "-s"]);
    ssh.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = ssh.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

/// Sends a signal to our workers on a host.
pub(crate) fn signal(lab: &Lab, host: &str, name: &str) {
    let output = try_signal(lab, host, name);
    assert!(output.status.success(), "{output:?}");
}

/// The same where the host may not answer, or its workers may not be there.
pub(crate) fn try_signal(lab: &Lab, host: &str, name: &str) -> Output {
    let script = format!(
        "for p in /proc/[0-9]*; do case $(readlink $p/exe) in \
         */.cache/dsgd/objects/*) kill -s {name} ${{p#/proc/}};; esac; done"
    );
    on(lab, host, &script)
}

/// Whether nothing of ours is left on the hosts; waits a little for it.
pub(crate) fn assert_nobody_is_left(lab: &Lab, hosts: usize) {
    let script = "for p in /proc/[0-9]*; do case $(readlink $p/exe 2>/dev/null) in \
                  */.cache/dsgd/objects/*) cat $p/cmdline; echo;; esac; done";
    for host in 1..=hosts {
        let gone = crate::program::until(|| {
            let output = on(lab, &format!("h{host}"), script);
            (output.status.success() && output.stdout.is_empty()).then_some(())
        });
        gone.unwrap_or_else(|| panic!("somebody is left on h{host}"));
    }
}

/// The server of a run: the child of the process that was started.
pub(crate) fn server_of(supervisor: u32) -> Option<u32> {
    let path = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = fs::read_to_string(Path::new(&path)).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
