//! A child: a process of the user's own interpreter, with a socket for its standard input.
//!
//! It has a process group of its own, so that Ctrl-C is ours alone to answer, and ends when the socket does: by our end,
//! however that comes, or by what is dropped here.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use dsgd::{Gradient, Layout, Lost, Params, Seat, Snapshot, TaskResult};
use serde::de::DeserializeOwned;

use crate::package;
use crate::regions::Regions;
use crate::words::{Answer, Computed, Done, LONGEST_ANSWER, Loaded, Order, PROTOCOL};

/// A script that is not loaded after this time is named: it may wait for something that never comes.
const NAMED_AFTER: Duration = Duration::from_secs(20);

/// How long a child may take to end once it is told to.
const GRACE: Duration = Duration::from_secs(2);

/// What is started, and with what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    pub(crate) interpreter: String,
    pub(crate) script: PathBuf,
    /// Modules that the script consists of, in one file, where it does not lie in its own folder.
    pub(crate) code: Option<PathBuf>,
    pub(crate) class: Option<String>,
    pub(crate) options: BTreeMap<String, String>,
}

/// A process that computes.
pub(crate) struct Child {
    process: process::Child,
    socket: BufReader<UnixStream>,
    regions: Option<Regions>,
}

impl Child {
    /// Starts one, and lets it load the script's task.
    pub(crate) fn start(program: &Program, threads: usize) -> TaskResult<(Self, Loaded)> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&program.interpreter);
        command.args(["-m", "dsgd.child"]).arg(&program.script);
        if let Some(code) = &program.code {
            command.arg("--code").arg(code);
        }
        let to_stderr = std::io::stderr().as_fd().try_clone_to_owned()?;
        command
            .env("PYTHONPATH", package::on_path()?)
            .env("PYTHONUNBUFFERED", "1")
            // Read when a framework is loaded, which may be before it is told.
            .env("OMP_NUM_THREADS", threads.to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(to_stderr))
            .process_group(0);
        let process = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                format!("{}: there is no such Python here", program.interpreter)
            }
            _ => format!("{}: {error}", program.interpreter),
        })?;
        // Its end of the socket.
        drop(command);
        let mut child = Self {
            process,
            socket: BufReader::new(ours),
            regions: None,
        };
        child.socket.get_ref().set_read_timeout(Some(NAMED_AFTER))?;
        let loaded = child.ask(&Order::Load {
            protocol: PROTOCOL,
            options: &program.options,
            class: program.class.as_deref(),
        })?;
        child.socket.get_ref().set_read_timeout(None)?;
        Ok((child, loaded))
    }

    /// Gives it the memory that it is to compute in, and a place on this machine.
    pub(crate) fn share(&mut self, layout: &Arc<Layout>, seat: Seat) -> TaskResult<()> {
        let regions = Regions::new(layout)?;
        let [params, gradient] = regions.paths();
        let Done {} = self.ask(&Order::Share {
            params: &params,
            gradient: &gradient,
            threads: seat.threads,
            slot: seat.slot,
            slots: seat.slots,
        })?;
        self.regions = Some(regions);
        Ok(())
    }

    /// The initial parameters.
    pub(crate) fn init(&mut self, seed: u64, params: &mut Params) -> TaskResult<()> {
        let Done {} = self.ask(&Order::Init { seed })?;
        Ok(self.regions().read_params(params)?)
    }

    /// The gradient of a batch.
    pub(crate) fn train(
        &mut self,
        order: &Order<'_>,
        params: &Snapshot,
        into: &mut Gradient,
    ) -> TaskResult<Computed> {
        self.regions().write(params)?;
        let computed: Computed = self.ask(order)?;
        let rows = |name: &str| computed.rows.get(name).copied().unwrap_or(0);
        self.regions().read_gradient(rows, into)?;
        Ok(computed)
    }

    /// What is asked of these parameters, without a gradient.
    pub(crate) fn ask_of<A: DeserializeOwned>(
        &mut self,
        order: &Order<'_>,
        params: &Snapshot,
    ) -> TaskResult<A> {
        self.regions().write(params)?;
        self.ask(order)
    }

    /// Writes the task's modules into a file.
    pub(crate) fn bundle(&mut self, to: &Path) -> TaskResult<()> {
        let Done {} = self.ask(&Order::Bundle { to })?;
        Ok(())
    }

    fn regions(&mut self) -> &mut Regions {
        self.regions
            .as_mut()
            .expect("memory is shared before anything is computed")
    }

    /// Gives an order and waits for the answer, for as long as that takes: a batch's lease has a deadline.
    fn ask<A: DeserializeOwned>(&mut self, order: &Order<'_>) -> TaskResult<A> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let sent = self.socket.get_mut().write_all(&line);
        line.clear();
        let mut limited = (&mut self.socket).take(LONGEST_ANSWER);
        let asked = Instant::now();
        let read = sent.and_then(|()| {
            loop {
                // What has come before the time was over is in the line.
                match limited.read_until(b'\n', &mut line) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        let secs = asked.elapsed().as_secs();
                        let _ = writeln!(io::stderr(), "the script is not loaded yet, after {secs} s: its imports, model() and data() run");
                    }
                    read => return read,
                }
            }
        });
        if read.is_err() || line.last() != Some(&b'\n') {
            // Of one that is too long the rest would be taken for the next.
            let too_long = line.len() as u64 == LONGEST_ANSWER;
            return Err(Lost(if too_long {
                format!("an answer of its Python has more than {LONGEST_ANSWER} bytes")
            } else {
                self.end()
            })
            .into());
        }
        match serde_json::from_slice(&line) {
            Ok(Answer::Well(answer)) => Ok(answer),
            Ok(Answer::Failed { failed }) => Err(failed.words().into()),
            Err(error) => {
                let line = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
                Err(format!("no answer that is understood: {error}: {line}").into())
            }
        }
    }

    /// What became of it, in words, once its socket has ended.
    fn end(&mut self) -> String {
        match wait(&mut self.process) {
            Some(status) => how_it_ended(status),
            None => "its Python has closed its standard input".to_owned(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
        if wait(&mut self.process).is_none() {
            // What it has started is of its process group.
            let group = Pid::from_child(&self.process);
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.process.wait();
        }
    }
}

/// How it ended, if it does so in time.
fn wait(process: &mut process::Child) -> Option<ExitStatus> {
    let until = Instant::now() + GRACE;
    loop {
        match process.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
            _ => return None,
        }
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) => "its Python was killed (signal 9, for want of memory perhaps)".to_owned(),
        (Some(signal), _) => format!("its Python was ended by signal {signal}"),
        (None, code) => format!("its Python ended with status {}", code.unwrap_or(0)),
    }
}
