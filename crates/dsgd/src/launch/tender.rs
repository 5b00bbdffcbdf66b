//! One host and the program on it, for as long as a run lasts.
//!
//! Log in, send what is missing, lay the way back, start the program, pass on what it says.
//! Whatever ends that (a crash, a cable, a reboot) is said with where and what to do, and it
//! begins anew: at once after a program that had worked, else after a pause that grows. Where a
//! person has to do something first, or somebody wants the machine, the pause is long: a
//! login that fails every few seconds gets its user locked out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::fleet::{Orders, reach};
use crate::event::Event;
use crate::hosts::Host;
use crate::server::Letter;
use crate::ssh::{self, Binaries, Control, Ended, Facts, Remote, SshError};

/// First and longest pause before a host is tried again. An attempt costs the host one login.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The pause where trying again soon cannot help.
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// The pause after a program that was told to stop: batch systems and clouds send SIGTERM half a
/// minute before they take a machine away.
const PREEMPTED: Duration = Duration::from_secs(30);

/// A program that lived so long has earned a short pause.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// The same trouble is told again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// One host's tender.
pub(super) struct Tender {
    pub(super) orders: Arc<Orders>,
    pub(super) control: Arc<Control>,
    pub(super) options: ssh::Options,
    pub(super) binaries: Binaries,
    pub(super) host: Host,
    pub(super) workers: usize,
}

/// How a program's life on the host ended.
struct Life {
    /// In words.
    words: String,
    length: Duration,
    /// It ended by itself and well, before its run did.
    left: bool,
}

impl Tender {
    /// Until the run is over.
    pub(super) async fn tend(self, mut reached: Option<(Remote, Facts)>) {
        let mut next = PAUSES.0;
        let mut again = self.orders.again;
        let mut told: Option<(String, Instant)> = None;
        while !self.is_over() {
            let (trouble, pause) = match self.live(reached.take(), again).await {
                Ok(life) if life.left => (life.words, Some(PREEMPTED)),
                Ok(life) => {
                    if life.length > GOOD_LIFE {
                        next = PAUSES.0;
                    }
                    (life.words, None)
                }
                Err(error) if error.is_permanent() => (error.to_string(), Some(LONG_PAUSE)),
                Err(error) => (error.to_string(), None),
            };
            if self.is_over() {
                return;
            }
            again = true;
            let news = told
                .as_ref()
                .is_none_or(|(last, at)| *last != trouble || at.elapsed() > TELL_AGAIN);
            if news {
                let message = match pause {
                    None => format!("{trouble}; trying again"),
                    Some(pause) => format!("{trouble}; trying again every {} s", pause.as_secs()),
                };
                self.tell(Event::Warning { message });
                told = Some((trouble, Instant::now()));
            }
            self.rest(pause.unwrap_or(next)).await;
            next = (next * 2).min(PAUSES.1);
        }
    }

    /// A pause that ends with the run.
    async fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while Instant::now() < end && !self.is_over() {
            sleep(PAUSES.0.min(end - Instant::now())).await;
        }
    }

    /// A program's life on the host.
    async fn live(&self, reached: Option<(Remote, Facts)>, again: bool) -> Result<Life, SshError> {
        let (remote, facts) = match reached {
            Some(reached) => reached,
            None => reach(&self.host, &self.options, &self.control).await?,
        };
        let run = &self.orders.invitation.run;
        let program = self.binaries.choose(&self.host.name, &facts)?;
        let objects = std::iter::once(program.clone()).chain(self.orders.objects.iter().cloned());
        let stop = async {
            if again {
                remote.stop(Some(run)).await?;
            }
            Ok(())
        };
        let send = async {
            let sent = ssh::send_all(vec![(remote.clone(), objects.collect())], true).await;
            sent.into_iter().collect::<Result<(), _>>()
        };
        // None of them needs another, and each is some ways there and back.
        let ((), (), address) = tokio::try_join!(stop, send, self.address(&remote))?;
        let mut invitation = self.orders.invitation.clone();
        invitation.way.host.clone_from(&self.host.name);
        invitation.way.address = address;
        invitation.slots = Some(self.workers);
        let args = ["worker", "--tethered", "--run", run];
        let mut running = remote.start(&program, &args, &invitation.to_line()).await?;
        let born = Instant::now();
        while let Some(line) = running.line().await {
            self.tell(Event::HostSaid {
                host: self.host.name.clone(),
                line: line.1,
            });
        }
        let host = &self.host.name;
        let ended = running.wait().await;
        let left = matches!(ended, Ended::Status(0));
        let words = match ended {
            Ended::Status(0) => format!("{host}: its workers left, as they were told to (SIGTERM)"),
            Ended::Status(code) => {
                format!("{host}: its workers ended with status {code}; what they said stands above")
            }
            Ended::Killed => format!(
                "{host}: its workers were killed there: by hand, or for want of memory (see dmesg)"
            ),
            Ended::Lost(error) => error.to_string(),
        };
        let length = born.elapsed();
        Ok(Life {
            words,
            length,
            left,
        })
    }

    /// Where the host's workers find the server.
    async fn address(&self, remote: &Remote) -> Result<String, SshError> {
        let given = &self.orders.invitation.way.address;
        match self.orders.port {
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
        self.orders.over.load(Ordering::Relaxed)
    }

    fn tell(&self, event: Event) {
        // A server that does not read any more is over.
        let _ = self.orders.letters.send(Letter::Tell(event));
    }
}
