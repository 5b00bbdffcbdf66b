//! One host and the program on it, for as long as a run lasts.
//!
//! Log in, send what is missing, lay the way back, start the program, pass on what it says.
//! Whatever ends that (a crash, a cable, a reboot) is said with where and what to do, and it
//! begins anew: at once after a program that had worked, else after a pause that grows. Where it
//! would end the same again until a person does something, this host's part is over. One that had
//! worked before has a few chances more, far apart: a machine that restarts may let nobody in, or
//! have no home folder, for a minute; and a login that fails every few seconds gets its user locked out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::program::{Prepared, ProgramSpec, connect, slots_of};
use super::trouble::Trouble;
use crate::hosts::Host;
use crate::server::Message;
use crate::ssh::{self, Binaries, Control, Remote, Running, SshError, Stream, TransferLog};
use dsgd_core::event::Event;

/// First and longest pause before a host is tried again. An attempt costs the host one login.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How often, and after what pause, a host that had worked is tried again where it seems to need a
/// person.
const CHANCES: u32 = 3;
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// The pause after a program that was told to stop: batch systems and clouds send SIGTERM half a
/// minute before they take a machine away.
const PREEMPTED: Duration = Duration::from_secs(30);

/// A program that lived so long has earned a short pause.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// What a program's last words on standard error begin with.
const ERROR: &str = "error: ";

/// The same trouble is reported again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// One host's supervisor.
pub(super) struct HostSupervisor {
    pub(super) spec: Arc<ProgramSpec>,
    pub(super) control: Arc<Control>,
    pub(super) options: ssh::Options,
    pub(super) binaries: Binaries,
    pub(super) host: Host,
    /// Workers there.
    pub(super) slots: Arc<AtomicUsize>,
}

/// What a supervisor goes by that is not there from the run's beginning, or not to its end.
pub(super) struct Lifecycle {
    /// What was prepared on its host; none for one that has just been added.
    pub(super) prepared: Option<Prepared>,
    /// Resolves when another that had the host before is gone from it.
    pub(super) after: Option<oneshot::Receiver<()>>,
    /// Resolves when the host is dropped from the run.
    pub(super) dropped: oneshot::Receiver<()>,
    /// Goes with the supervisor.
    pub(super) gone: oneshot::Sender<()>,
}

impl HostSupervisor {
    /// Until the run is over, or the host's part in it.
    pub(super) async fn supervise(self, lifecycle: Lifecycle) {
        let work = async {
            if let Some(after) = lifecycle.after {
                // An error says the same: it is gone.
                let _ = after.await;
            }
            let (prepared, again) = match lifecycle.prepared {
                Some(prepared) => (prepared, self.spec.again),
                // It may have been one of the run's before.
                None => (self.join().await, true),
            };
            self.work(prepared, again).await;
        };
        tokio::select! {
            () = work => {}
            // What was under way is dropped, and its login with it: the program there ends, as does
            // what it has to say.
            Ok(()) = lifecycle.dropped => self.sweep().await,
        }
        drop(lifecycle.gone);
    }

    /// Looks at a host that was added. It takes part also where it cannot be reached yet.
    async fn join(&self) -> Prepared {
        let prepared = connect(&self.host, &self.options, &self.control).await;
        let promised = self.slots.load(Ordering::Relaxed);
        let facts = prepared.as_ref().ok().map(|(_, facts)| facts);
        let workers = slots_of(&self.host, facts, self.spec.room);
        self.slots.store(workers, Ordering::Relaxed);
        let slots = workers.saturating_sub(promised);
        self.send(Message::SlotsOpened { slots });
        let host = self.host.name.clone();
        self.emit(Event::HostAdded { host, workers });
        prepared
    }

    /// Ends what may hang there and does not hear that its login is gone.
    async fn sweep(&self) {
        if let Ok((remote, _)) = connect(&self.host, &self.options, &self.control).await {
            let _ = remote.stop(Some(&self.spec.invitation.run)).await;
        }
    }

    async fn work(&self, prepared: Prepared, mut again: bool) {
        let mut prepared = Some(prepared);
        let mut next = PAUSES.0;
        let mut chances = 0;
        let mut told: Option<(String, Instant)> = None;
        while !self.is_over() {
            let (trouble, length) = self.run_once(prepared.take(), again).await;
            if self.is_over() {
                return;
            }
            again = true;
            if length > GOOD_LIFE {
                (next, chances) = (PAUSES.0, CHANCES);
            }
            let words = trouble.to_string();
            debug!(host = self.host.name, lived = ?length, words, "the program there has ended");
            let pause = match &trouble {
                Trouble::Left { .. } => Some(PREEMPTED),
                permanent if permanent.is_permanent() => {
                    if chances == 0 {
                        return self.close(&words);
                    }
                    chances -= 1;
                    Some(LONG_PAUSE)
                }
                _ => None,
            };
            let news = told
                .as_ref()
                .is_none_or(|(last, at)| *last != words || at.elapsed() > TELL_AGAIN);
            if news {
                let message = match pause {
                    None => format!("{words}; trying again"),
                    Some(pause) => format!("{words}; trying again every {} s", pause.as_secs()),
                };
                self.emit(Event::Warning { message });
                told = Some((words, Instant::now()));
            }
            self.rest(pause.unwrap_or(next)).await;
            next = (next * 2).min(PAUSES.1);
        }
    }

    /// The run does not wait for this host any more.
    fn close(&self, words: &str) {
        let reason = format!("{words}; this host has no part in the run any more");
        let slots = self.slots.load(Ordering::Relaxed);
        self.send(Message::SlotsClosed { slots, reason });
    }

    /// A pause that ends with the run.
    async fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while Instant::now() < end && !self.is_over() {
            sleep(PAUSES.0.min(end - Instant::now())).await;
        }
    }

    /// Runs the program once: how it ended, and after how long.
    async fn run_once(&self, prepared: Option<Prepared>, again: bool) -> (Trouble, Duration) {
        let mut running = match self.begin(prepared, again).await {
            Ok(running) => running,
            Err(error) => return (error.into(), Duration::ZERO),
        };
        let born = Instant::now();
        let host = &self.host.name;
        let say = |line| {
            let host = host.clone();
            self.emit(Event::HostSaid { host, line });
        };
        // The last word of an error may be why the host's part ends, and is said once then.
        let mut error = None;
        while let Some((stream, line)) = running.line().await {
            if let Some(earlier) = error.take() {
                say(earlier);
            }
            match stream {
                Stream::Err if line.starts_with(ERROR) => error = Some(line),
                Stream::Out | Stream::Err => say(line),
            }
        }
        let ended = running.wait().await;
        let said = error.as_ref().map(|line| line[ERROR.len()..].to_owned());
        let trouble = Trouble::of(host, ended, said);
        if let (false, Some(line)) = (trouble.is_permanent(), error) {
            say(line);
        }
        (trouble, born.elapsed())
    }

    /// Starts the program.
    async fn begin(&self, prepared: Option<Prepared>, again: bool) -> Result<Running, SshError> {
        let (remote, facts) = match prepared {
            Some(prepared) => prepared?,
            None => connect(&self.host, &self.options, &self.control).await?,
        };
        let run = &self.spec.invitation.run;
        let program = self.binaries.choose(&self.host.name, &facts)?;
        let objects = std::iter::once(program.clone()).chain(self.spec.objects.iter().cloned());
        let stop = async {
            if again {
                remote.stop(Some(run)).await?;
            }
            Ok(())
        };
        let send = async {
            let messages = self.spec.messages.clone();
            let tell = move |message| {
                // A server that does not read any more is over.
                let _ = messages.send(Message::Emit(Event::Notice { message }));
            };
            let job = (remote.clone(), objects.collect());
            let sent = ssh::send_all(vec![job], TransferLog::Lines(Arc::new(tell))).await;
            sent.into_iter().collect::<Result<(), _>>()
        };
        // None of them needs another, and each is some ways there and back.
        let ((), (), address) = tokio::try_join!(stop, send, self.address(&remote))?;
        let mut invitation = self.spec.invitation.clone();
        invitation.endpoint.host.clone_from(&self.host.name);
        invitation.endpoint.address = address;
        invitation.slots = Some(self.slots.load(Ordering::Relaxed));
        let args = ["worker", "--tethered", "--run", run];
        debug!(
            host = self.host.name,
            address = invitation.endpoint.address,
            "starts the program there"
        );
        remote.start(&program, &args, &invitation.to_line()).await
    }

    /// Where the host's workers find the server.
    async fn address(&self, remote: &Remote) -> Result<String, SshError> {
        let given = &self.spec.invitation.endpoint.address;
        match self.spec.port {
            None => {
                let way_back = remote.forward(&self.control.file("server")).await?;
                Ok(format!("unix:{way_back}"))
            }
            // The server listens everywhere: the address under which the host knows us is good.
            Some(port) if given.is_empty() => {
                let mut said = remote.run("echo ${SSH_CONNECTION%% *}").await?;
                let line = said.line().await.map(|(_, line)| line).unwrap_or_default();
                let ours = line.trim();
                let bracketed = if ours.contains(':') {
                    format!("[{ours}]")
                } else {
                    ours.to_owned()
                };
                Ok(format!("https://{bracketed}:{port}"))
            }
            Some(_) => Ok(given.clone()),
        }
    }

    fn is_over(&self) -> bool {
        self.spec.over.load(Ordering::Relaxed)
    }

    fn emit(&self, event: Event) {
        self.send(Message::Emit(event));
    }

    fn send(&self, message: Message) {
        // A server that does not read any more is over.
        let _ = self.spec.messages.send(message);
    }
}
