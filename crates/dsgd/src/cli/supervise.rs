//! `dsgd train` lives in two processes: the server, and this one, which starts it again.
//!
//! A server that is killed (`kill -9`, out of memory, a fault in the task's own code) cannot say
//! or save anything. What it needs to go on lies in its run's folder, so all that has to be done
//! is to start it from there. Whatever ends in words, or by a person's wish, is left alone. The other way
//! round, a server whose supervisor is killed saves its run and ends.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio, exit};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use serde::{Deserialize, Serialize};

use super::call::{complain, program};
use super::shown::Shown;
use super::{layers, signals};
use dsgd_core::text::shell_word;
use dsgd_engine::run::{self, CONFIG};
use dsgd_engine::training::Stopper;

/// Where a server writes its run's folder for this process.
const FOLDER: &str = "folder";

/// What a server says whose supervisor has ended, and why its run ends then.
pub(super) const GONE: &str = "The process that this server was started by is gone";

/// Runs this program's `train` with these words until it ends by itself, and then ends this
/// process as it has ended.
pub(super) fn train(words: &[OsString], restarts: u32) -> anyhow::Result<()> {
    let notes = tempfile::tempdir().context("no temporary folder to be had")?;
    let note = notes.path().join(FOLDER);
    let server = Arc::new(AtomicI32::new(0));
    let stopped = Arc::new(AtomicBool::new(false));
    pass_on_signals(&server, &stopped)?;
    let mut words = words.to_vec();
    // How a life ended that left no checkpoint.
    let mut died_from_nothing = None;
    for restart in 0.. {
        let mut child = start(&words, &note, restart > 0)?;
        server.store(child.id().cast_signed(), Ordering::Relaxed);
        // Waiting would close it, and the server end with it.
        let _lifeline = child.stdin.take();
        let status = child.wait().context("cannot wait for the server")?;
        server.store(0, Ordering::Relaxed);
        let wished = stopped.load(Ordering::Relaxed);
        let folder = Note::read(&note).map(|note| note.folder);
        let Some(signal) = status.signal().filter(|_| !wished) else {
            // exit() runs no destructors.
            drop(notes);
            exit(code(status));
        };
        let Ok(folder) = folder else {
            complain(format_args!(
                "error: the server was killed by signal {signal} before its run had begun"
            ));
            drop(notes);
            exit(code(status));
        };
        let most = max_restarts(&folder).unwrap_or(restarts);
        let cause = if signal == 9 {
            ", for want of memory perhaps"
        } else {
            ""
        };
        let saved = run::best(&folder).is_some();
        let alike = !saved && died_from_nothing == Some(signal);
        if restart >= most || alike {
            let why = if alike {
                "a second time before its first checkpoint: another start would end alike"
                    .to_owned()
            } else {
                format!("and {most} restarts are allowed (--max-restarts)")
            };
            let (program, run) = (program(), shell_word(&folder));
            let next = if saved {
                format!("Go on with: {program} train --resume {run}")
            } else {
                let config = shell_word(&folder.join(CONFIG));
                format!(
                    "There is no checkpoint. Start again with: {program} train --config {config}"
                )
            };
            complain(format_args!(
                "error: the server was killed (signal {signal}{cause}), {why}\n{next}"
            ));
            drop(notes);
            exit(code(status));
        }
        died_from_nothing = (!saved).then_some(signal);
        let from = if saved {
            "its last checkpoint"
        } else {
            "the beginning, since there is no checkpoint"
        };
        complain(format_args!(
            "The server was killed (signal {signal}{cause}): restarting it from {from} ({} of {most})",
            restart + 1
        ));
        words = next_life(&words[0], &folder);
    }
    Ok(())
}

/// What a server tells whoever starts it again.
#[derive(Serialize, Deserialize)]
struct Note {
    /// The run's folder.
    folder: PathBuf,
    /// How the run is shown.
    shown: Shown,
}

impl Note {
    fn read(file: &Path) -> anyhow::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(file)?)?)
    }
}

/// The supervisor as its server sees it.
#[derive(Clone)]
pub(super) struct Supervisor {
    /// File in which it reads which run it is.
    note: PathBuf,
    /// How the run is asked to save and end, once there is one.
    stopper: Arc<OnceLock<Stopper>>,
}

impl Supervisor {
    /// Watches over the supervisor, which holds the other end of standard input as long as it lives: without
    /// it nobody takes this process's signals or its last words, so the run is saved and ends.
    pub(super) fn watch(note: &Path) -> io::Result<Self> {
        let stopper = Arc::<OnceLock<Stopper>>::default();
        let run = Arc::clone(&stopper);
        thread::Builder::new().spawn(move || {
            let mut rest = [0; 64];
            while io::stdin().read(&mut rest).is_ok_and(|read| read > 0) {}
            complain(GONE);
            if !run.get().is_some_and(Stopper::stop) {
                exit(1);
            }
            complain("Saving a checkpoint");
        })?;
        let note = note.to_owned();
        Ok(Self { note, stopper })
    }

    /// How the run was shown that this server goes on with.
    pub(super) fn shown_before(&self) -> anyhow::Result<Shown> {
        let note = Note::read(&self.note).context("the note of the server before")?;
        Ok(note.shown)
    }

    /// The run has begun in that folder, and can be stopped.
    pub(super) fn record(
        &self,
        folder: &Path,
        stopper: Stopper,
        shown: &Shown,
    ) -> anyhow::Result<()> {
        // There is one run in a server's life.
        let _ = self.stopper.set(stopper);
        let note = Note {
            folder: fs::canonicalize(folder)?,
            shown: shown.clone(),
        };
        // The next life reads it while this one may be killed: the old note, or the new one.
        let new = self.note.with_extension("new");
        let written = fs::write(&new, serde_json::to_string(&note)?);
        let written = written.and_then(|()| fs::rename(&new, &self.note));
        written.context("cannot tell the supervisor")
    }
}

fn start(words: &[OsString], note: &Path, restarted: bool) -> anyhow::Result<Child> {
    // The file of this process, even when it was replaced since.
    let own = Path::new("/proc/self/exe");
    let program = if own.exists() {
        own.to_owned()
    } else {
        std::env::current_exe()?
    };
    let mut command = Command::new(program);
    let (name, rest) = words.split_first().context("no program")?;
    command.arg0(name).args(rest).arg("--supervised").arg(note);
    if restarted {
        command.arg("--restarted");
    }
    // Its own group: what a terminal sends comes here, and is passed on once.
    command.process_group(0).stdin(Stdio::piped());
    command.spawn().context("cannot start the server")
}

/// The words that go on with the run: all else is in its folder, and in the note.
fn next_life(program: &OsString, folder: &Path) -> Vec<OsString> {
    let mut next = vec![program.clone(), "train".into()];
    match run::best(folder) {
        Some(_) => next.extend(["--resume".into(), folder.into()]),
        None => next.extend([
            "--config".into(),
            folder.join(CONFIG).into(),
            "--run-dir".into(),
            folder.into(),
        ]),
    }
    next
}

/// What the run itself says of it: its options may come from a file.
fn max_restarts(folder: &Path) -> Option<u32> {
    let file = layers::read(&folder.join(CONFIG)).ok()?;
    let value = file.run.get("max_restarts")?.as_integer()?;
    u32::try_from(value).ok()
}

fn pass_on_signals(server: &Arc<AtomicI32>, stopped: &Arc<AtomicBool>) -> std::io::Result<()> {
    let (server, stopped) = (Arc::clone(server), Arc::clone(stopped));
    signals::on_signal(move |status| {
        stopped.store(true, Ordering::Relaxed);
        let signal = match status {
            129 => Signal::HUP,
            143 => Signal::TERM,
            _ => Signal::INT,
        };
        match Pid::from_raw(server.load(Ordering::Relaxed)) {
            // One that has just ended is about to be waited for.
            Some(pid) => drop(kill_process(pid, signal)),
            None => exit(status),
        }
    })
}

fn code(status: ExitStatus) -> i32 {
    let killed = || status.signal().map_or(1, |signal| 128 + signal);
    status.code().unwrap_or_else(killed)
}
