//! Which hosts take part in a run, while it is under way.
//!
//! The run's host list is read again and again. A host that is new in it gets a supervisor of its own, as
//! if it had been there from the beginning; one that is missing is let go, and its batches are given
//! to others at once, whether or not it still answers. One whose line has changed is both.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::program::{ListedHosts, Prepared, ProgramSpec};
use super::supervisor::{HostSupervisor, Lifecycle};
use crate::hosts::Host;
use crate::server::Message;
use crate::ssh::{self, Binaries, Control};
use dsgd_core::event::Event;

/// How often the list is read.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the run is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The hosts of a run under way.
pub(super) struct Membership {
    pub(super) control: Arc<Control>,
    pub(super) options: ssh::Options,
    pub(super) binaries: Binaries,
    pub(super) spec: Arc<ProgramSpec>,
    pub(super) listed: ListedHosts,
    members: HashMap<String, Member>,
    supervisors: JoinSet<()>,
}

/// A host that takes part.
struct Member {
    host: Host,
    /// Workers there, as far as is known.
    slots: Arc<AtomicUsize>,
    /// Lets its supervisor know that it is dropped. Closed where its part was over already.
    drop: oneshot::Sender<()>,
    /// Resolves when its supervisor is gone.
    gone: oneshot::Receiver<()>,
}

impl Membership {
    /// One without hosts.
    pub(super) fn new(
        (control, options, binaries): (Arc<Control>, ssh::Options, Binaries),
        spec: ProgramSpec,
        listed: ListedHosts,
    ) -> Self {
        Self {
            control,
            options,
            binaries,
            spec: Arc::new(spec),
            listed,
            members: HashMap::new(),
            supervisors: JoinSet::new(),
        }
    }

    /// Until the run is over and nothing of it is left on any host. `hosts` are those that it begins
    /// with; one without workers is listed, and has no part.
    pub(super) async fn keep(mut self, hosts: Vec<(Host, usize, Prepared)>) {
        for (host, workers, prepared) in hosts {
            self.begin(host, workers, Some(prepared), None);
        }
        let mut told = None;
        while !self.is_over() {
            match (self.listed)() {
                Ok(hosts) => {
                    self.follow(hosts);
                    told = None;
                }
                Err(why) => {
                    if told.as_ref() != Some(&why) {
                        let message = format!("{why}; the run goes on with the hosts it has");
                        self.send(Message::Emit(Event::Warning { message }));
                    }
                    told = Some(why);
                }
            }
            let mut rest = READ_EVERY;
            while !rest.is_zero() && !self.is_over() {
                sleep(LOOK_EVERY).await;
                rest = rest.saturating_sub(LOOK_EVERY);
            }
            while self.supervisors.try_join_next().is_some() {}
        }
        while self.supervisors.join_next().await.is_some() {}
    }

    /// Makes these the hosts of the run.
    fn follow(&mut self, hosts: Vec<Host>) {
        let stays = |name: &String| hosts.iter().any(|host| host.name == *name);
        let missing: Vec<_> = self
            .members
            .keys()
            .filter(|&name| !stays(name))
            .cloned()
            .collect();
        let mut left = Vec::new();
        for host in hosts {
            let member = self.members.get(&host.name);
            if member.is_some_and(|member| member.host == host) {
                continue;
            }
            // Before any slot is closed: a run without any slot is over.
            let slots = host.slots.unwrap_or(1);
            self.send(Message::SlotsOpened { slots });
            let before = self.members.remove(&host.name);
            let after = before.map(|member| self.drop(member));
            left.push((host, slots, after));
        }
        for (host, slots, after) in left {
            self.begin(host, slots, None, after);
        }
        for name in missing {
            if let Some(member) = self.members.remove(&name) {
                self.drop(member);
            }
        }
    }

    fn begin(
        &mut self,
        host: Host,
        workers: usize,
        prepared: Option<Prepared>,
        after: Option<oneshot::Receiver<()>>,
    ) {
        let slots = Arc::new(AtomicUsize::new(workers));
        let (drop, dropped) = oneshot::channel();
        let (going, gone) = oneshot::channel();
        let supervisor = HostSupervisor {
            spec: Arc::clone(&self.spec),
            control: Arc::clone(&self.control),
            options: self.options.clone(),
            binaries: self.binaries.clone(),
            host: host.clone(),
            slots: Arc::clone(&slots),
        };
        let lifecycle = Lifecycle {
            prepared,
            after,
            dropped,
            gone: going,
        };
        if workers > 0 {
            self.supervisors
                .spawn(async move { supervisor.supervise(lifecycle).await });
        }
        let name = host.name.clone();
        let member = Member {
            host,
            slots,
            drop,
            gone,
        };
        self.members.insert(name, member);
    }

    /// Lets a host go. Resolves when it is gone.
    fn drop(&self, member: Member) -> oneshot::Receiver<()> {
        let closed = member.drop.is_closed();
        let slots = if closed {
            0
        } else {
            member.slots.load(Ordering::Relaxed)
        };
        // First, so that the server has the reason before it sees connections break.
        let host = member.host.name;
        self.send(Message::HostDropped { host, slots });
        // A closed channel: it was gone before.
        let _ = member.drop.send(());
        member.gone
    }

    fn is_over(&self) -> bool {
        self.spec.over.load(Ordering::Relaxed)
    }

    fn send(&self, message: Message) {
        // A server that does not read any more is over.
        let _ = self.spec.messages.send(message);
    }
}
