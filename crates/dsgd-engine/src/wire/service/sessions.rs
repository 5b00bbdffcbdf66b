//! What was given to whom: nonces to join with, sessions to speak under, and how many were refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::Status;

use crate::hex::hex;
use crate::mutex::lock;
use crate::own_state::OwnState;
use crate::server::Message;
use crate::store::Difference;
use crate::wire::credentials::random;
use crate::wire::paced::Traffic;
use crate::wire::{CALL_IN_A_CROWD, MOVES};
use crate::worker::{Assignment, Job};
use dsgd_core::codec::Codec;
use dsgd_core::core::{LeaseId, WorkerId};

/// A nonce is good for this long.
const NONCE: Duration = CALL_IN_A_CROWD;

/// Nonces at one time; with more, the oldest is forgotten.
const MOST_NONCES: usize = 4096;

/// Sessions at one time: each may have a version of the parameters and a gradient of its own in memory.
const MOST_SESSIONS: usize = 1024;

/// A session whose worker does not go on to `Live` is void after this time.
const UNBORN: Duration = CALL_IN_A_CROWD;

/// Refused connections are reported this often at most.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// All state of the service.
#[derive(Default)]
pub(super) struct Sessions {
    // Locked for a look-up, never across a wait.
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    nonces: HashMap<Vec<u8>, Instant>,
    sessions: HashMap<String, Arc<Session>>,
    refused: u64,
    warned: Option<Instant>,
}

/// A worker that has joined.
pub(super) struct Session {
    pub(super) worker: WorkerId,
    pub(super) name: String,
    /// The connection that it joined on, which all workers of a process share.
    process: Option<u64>,
    joined: Instant,
    /// Goes to the server with the first pulse.
    pub(super) outbox: Mutex<Option<UnboundedSender<Assignment>>>,
    /// A worker pulls one thing at a time: the lock is its turn.
    pub(super) inbox: tokio::sync::Mutex<UnboundedReceiver<Assignment>>,
    /// What it computes now.
    pub(super) current: Mutex<Option<Current>>,
    /// What its parameters are short of, which were made from nothing.
    pub(super) rest: Mutex<Option<Arc<Difference>>>,
    /// Bytes of tensors that it pulled last, and whether these were more than usual.
    pulled: AtomicU64,
    catches_up: AtomicBool,
    /// Of the connection that it pulled or pushed on last, and how much of it was seen.
    traffic: Mutex<(Traffic, u64)>,
}

/// What a worker computes.
pub(super) struct Current {
    pub(super) lease: LeaseId,
    pub(super) job: Job,
    /// How what comes of it travels.
    pub(super) codec: Codec,
    /// For one that takes its first steps of its own.
    pub(super) others_state: Option<Arc<OwnState>>,
}

impl Sessions {
    /// A nonce that nobody was given before.
    pub(super) fn give_nonce(&self) -> Vec<u8> {
        let nonce = random().to_vec();
        let mut registry = self.registry();
        registry.nonces.retain(|_, given| given.elapsed() < NONCE);
        if registry.nonces.len() >= MOST_NONCES {
            let oldest = registry.nonces.iter().min_by_key(|(_, given)| **given);
            let oldest = oldest.map(|(nonce, _)| nonce.clone());
            oldest.and_then(|nonce| registry.nonces.remove(&nonce));
        }
        registry.nonces.insert(nonce.clone(), Instant::now());
        nonce
    }

    /// Whether this nonce was given, not long ago; it is not good any more afterwards.
    pub(super) fn take_nonce(&self, nonce: &[u8]) -> bool {
        let given = self.registry().nonces.remove(nonce);
        given.is_some_and(|given| given.elapsed() < NONCE)
    }

    /// Opens a session; returns the token that its worker shows.
    ///
    /// # Errors
    /// When there are [`MOST_SESSIONS`].
    pub(super) fn open(
        &self,
        worker: WorkerId,
        name: String,
        process: Option<u64>,
    ) -> Result<String, Status> {
        let (outbox, inbox) = unbounded_channel();
        let session = Session {
            worker,
            name,
            process,
            joined: Instant::now(),
            outbox: Mutex::new(Some(outbox)),
            inbox: tokio::sync::Mutex::new(inbox),
            current: Mutex::default(),
            rest: Mutex::default(),
            pulled: AtomicU64::default(),
            catches_up: AtomicBool::default(),
            traffic: Mutex::default(),
        };
        let shown = hex(&random());
        let mut registry = self.registry();
        registry.sessions.retain(|_, session| {
            let born = lock(&session.outbox).is_none();
            born || session.joined.elapsed() < UNBORN
        });
        if registry.sessions.len() >= MOST_SESSIONS {
            return Err(Status::resource_exhausted(format!(
                "the run has {MOST_SESSIONS} workers, which is as many as there may be: try again when one \
                 has left"
            )));
        }
        registry.sessions.insert(shown.clone(), Arc::new(session));
        Ok(shown)
    }

    /// The session of whoever shows this.
    pub(super) fn session(&self, shown: &str) -> Option<Arc<Session>> {
        self.registry().sessions.get(shown).cloned()
    }

    /// What this worker shows is of no use any more.
    pub(super) fn close(&self, worker: WorkerId) {
        let mut registry = self.registry();
        registry.sessions.retain(|_, s| s.worker != worker);
    }

    /// Bytes that have come from the process of this worker, on the connections that its workers use.
    pub(super) fn arrived(&self, session: &Session) -> u64 {
        let registry = self.registry();
        let of_process = registry.sessions.values().filter(|s| s.is_beside(session));
        of_process.map(|s| lock(&s.traffic).0.read()).sum()
    }

    /// That this worker lives, and with it those of its process: on a slow way their pulses wait behind
    /// what it sends.
    pub(super) fn signs_of_life(&self, session: &Session) -> Vec<Message> {
        let registry = self.registry();
        let beside = registry.sessions.values().filter(|s| s.is_beside(session));
        let others = beside.filter(|s| s.worker != session.worker);
        let others = others.map(|other| Message::Alive {
            worker: other.worker,
            transfers: false,
        });
        others.chain([session.sign_of_life()]).collect()
    }

    /// Sessions that hold.
    pub(super) fn number(&self) -> usize {
        self.registry().sessions.len()
    }

    /// Notes that somebody was refused; says how many there were, now and then.
    pub(super) fn refuse(&self) -> Option<u64> {
        let mut registry = self.registry();
        registry.refused += 1;
        if registry
            .warned
            .is_some_and(|warned| warned.elapsed() < WARN_EVERY)
        {
            return None;
        }
        registry.warned = Some(Instant::now());
        Some(registry.refused)
    }

    /// How many were refused.
    pub(super) fn refused(&self) -> u64 {
        self.registry().refused
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }
}

impl Session {
    /// It pulls or pushes on this connection.
    pub(super) fn pulls(&self, bytes: u64, catches_up: bool) {
        self.pulled.store(bytes, Ordering::Relaxed);
        self.catches_up.store(catches_up, Ordering::Relaxed);
    }

    /// Bytes of tensors that its last pull brought.
    pub(super) fn pulled(&self) -> u64 {
        self.pulled.load(Ordering::Relaxed)
    }

    /// Whether that was more than a worker pulls that takes part.
    pub(super) fn catches_up(&self) -> bool {
        self.catches_up.load(Ordering::Relaxed)
    }

    pub(super) fn uses(&self, traffic: &Traffic) {
        *lock(&self.traffic) = (traffic.clone(), traffic.both());
    }

    /// Whether it is a worker of the same process.
    fn is_beside(&self, other: &Self) -> bool {
        self.worker == other.worker || (self.process.is_some() && self.process == other.process)
    }

    /// That it lives, and whether anything is on its way from or to it.
    pub(super) fn sign_of_life(&self) -> Message {
        let mut traffic = lock(&self.traffic);
        let passed = traffic.0.both();
        let transfers = passed.abs_diff(traffic.1) >= MOVES;
        if transfers {
            traffic.1 = passed;
        }
        let worker = self.worker;
        Message::Alive { worker, transfers }
    }

    /// Whether the worker computes this now; it does not any more afterwards. Returns how what comes of it travels.
    pub(super) fn finish(&self, lease: LeaseId, train: bool) -> Result<Codec, Status> {
        let mut current = lock(&self.current);
        match &*current {
            Some(own) if own.lease == lease && matches!(own.job, Job::Validate(_)) != train => {
                let codec = own.codec;
                *current = None;
                Ok(codec)
            }
            Some(Current { lease: own, .. }) => Err(Status::invalid_argument(format!(
                "{} speaks of lease {lease}, but has lease {own}, of another kind perhaps",
                self.name
            ))),
            None => Err(Status::invalid_argument(format!(
                "{} speaks of lease {lease}, but has none",
                self.name
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many_sessions() {
        let sessions = Sessions::default();
        for worker in 0..MOST_SESSIONS as u32 {
            sessions.open(worker, "w/0".to_owned(), None).unwrap();
        }
        let refused = sessions.open(9999, "w/0".to_owned(), None).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("1024 workers"), "{refused}");
        sessions.close(7);
        assert!(sessions.open(9999, "w/0".to_owned(), None).is_ok());
    }
}
