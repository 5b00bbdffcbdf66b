//! Who was given what: nonces to join with, sessions to speak under, and how many were refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::Status;

use super::lock;
use crate::core::{LeaseId, WorkerId};
use crate::wire::credentials::{hex, random};
use crate::worker::{Assignment, Job};

/// A nonce is good for this long.
const NONCE: Duration = Duration::from_secs(30);

/// Nonces at one time; with more, the oldest is forgotten.
const MOST_NONCES: usize = 4096;

/// Sessions at one time: each may have a version of the parameters and a gradient of its own in memory.
const MOST_SESSIONS: usize = 1024;

/// A session whose worker does not go on to `Live` is void after this time.
const UNBORN: Duration = Duration::from_secs(30);

/// Refused connections are told of this often at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The service's only memory.
#[derive(Default)]
pub(super) struct Desk {
    // Locked for a look-up, never across a wait.
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    nonces: HashMap<Vec<u8>, Instant>,
    sessions: HashMap<String, Arc<Session>>,
    refused: u64,
    told: Option<Instant>,
}

/// A worker that has joined.
pub(super) struct Session {
    pub(super) worker: WorkerId,
    pub(super) name: String,
    joined: Instant,
    /// Goes to the server with the first pulse.
    pub(super) outbox: Mutex<Option<UnboundedSender<Assignment>>>,
    /// A worker pulls one thing at a time: the lock is its turn.
    pub(super) inbox: tokio::sync::Mutex<UnboundedReceiver<Assignment>>,
    /// What it computes now.
    pub(super) current: Mutex<Option<(LeaseId, Job)>>,
}

impl Desk {
    /// A nonce that nobody was given before.
    pub(super) fn give_nonce(&self) -> Vec<u8> {
        let nonce = random().to_vec();
        let mut book = self.book();
        book.nonces.retain(|_, given| given.elapsed() < NONCE);
        if book.nonces.len() >= MOST_NONCES {
            let oldest = book.nonces.iter().min_by_key(|(_, given)| **given);
            let oldest = oldest.map(|(nonce, _)| nonce.clone());
            oldest.and_then(|nonce| book.nonces.remove(&nonce));
        }
        book.nonces.insert(nonce.clone(), Instant::now());
        nonce
    }

    /// Whether this nonce was given, not long ago; it is not good any more afterwards.
    pub(super) fn take_nonce(&self, nonce: &[u8]) -> bool {
        let given = self.book().nonces.remove(nonce);
        given.is_some_and(|given| given.elapsed() < NONCE)
    }

    /// Opens a session; returns what its worker shows.
    ///
    /// # Errors
    /// When there are [`MOST_SESSIONS`].
    pub(super) fn open(&self, worker: WorkerId, name: String) -> Result<String, Status> {
        let (outbox, inbox) = unbounded_channel();
        let session = Session {
            worker,
            name,
            joined: Instant::now(),
            outbox: Mutex::new(Some(outbox)),
            inbox: tokio::sync::Mutex::new(inbox),
            current: Mutex::default(),
        };
        let shown = hex(&random());
        let mut book = self.book();
        book.sessions.retain(|_, session| {
            let born = lock(&session.outbox).is_none();
            born || session.joined.elapsed() < UNBORN
        });
        if book.sessions.len() >= MOST_SESSIONS {
            return Err(Status::resource_exhausted(format!(
                "the run has {MOST_SESSIONS} workers, which is as many as there may be: try again when one \
                 has left"
            )));
        }
        book.sessions.insert(shown.clone(), Arc::new(session));
        Ok(shown)
    }

    /// The session of whoever shows this.
    pub(super) fn session(&self, shown: &str) -> Option<Arc<Session>> {
        self.book().sessions.get(shown).cloned()
    }

    /// What this worker shows is of no use any more.
    pub(super) fn close(&self, worker: WorkerId) {
        let mut book = self.book();
        book.sessions.retain(|_, s| s.worker != worker);
    }

    /// Sessions that hold.
    pub(super) fn sessions(&self) -> usize {
        self.book().sessions.len()
    }

    /// Notes that somebody was refused; says how many there were, now and then.
    pub(super) fn refuse(&self) -> Option<u64> {
        let mut book = self.book();
        book.refused += 1;
        if book.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return None;
        }
        book.told = Some(Instant::now());
        Some(book.refused)
    }

    /// How many were refused.
    pub(super) fn refused(&self) -> u64 {
        self.book().refused
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Whether the worker computes this now; it does not any more afterwards.
    pub(super) fn finish(&self, lease: LeaseId, train: bool) -> Result<(), Status> {
        let mut current = lock(&self.current);
        match *current {
            Some((own, job)) if own == lease && matches!(job, Job::Train(_)) == train => {
                *current = None;
                Ok(())
            }
            Some((own, _)) => Err(Status::invalid_argument(format!(
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
