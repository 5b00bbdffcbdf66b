//! Who is at the other end of a connection, and whether it was let in.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::paced::Traffic;

/// Who is at the other end.
#[derive(Clone)]
pub(super) struct Peer {
    /// Where it comes from, for people.
    pub(super) from: String,
    /// Which connection of this process's it is: never given twice.
    pub(super) number: u64,
    /// Whether TLS lies between.
    pub(super) tls: bool,
    /// What passes the connection.
    pub(super) traffic: Traffic,
    pub(super) admitted: Arc<AtomicBool>,
    strangers: Arc<AtomicUsize>,
    /// Why it was not admitted, where it tried.
    pub(super) why: Arc<OnceLock<&'static str>>,
}

impl Peer {
    pub(super) fn new(from: String, tls: bool, strangers: &Arc<AtomicUsize>) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        strangers.fetch_add(1, Ordering::Relaxed);
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            from,
            tls,
            traffic: Traffic::default(),
            admitted: Arc::default(),
            strangers: Arc::clone(strangers),
            why: Arc::default(),
        }
    }

    /// It has tried, and failed for this reason.
    pub(super) fn reject(&self, why: &'static str) {
        let _ = self.why.set(why);
    }

    /// It has proved that it belongs to the run.
    pub(super) fn admit(&self) {
        if !self.admitted.swap(true, Ordering::Relaxed) {
            self.strangers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
