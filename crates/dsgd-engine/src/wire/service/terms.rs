//! What a service is made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::server::Message;
use crate::wire::credentials::Token;
use crate::wire::integrity::Initial;
use crate::worker::Buffers;
use dsgd_core::params::Layout;

/// What a service is made of.
pub struct Terms {
    /// The run's secret.
    pub token: Token,
    /// The model's tensors.
    pub layout: Arc<Layout>,
    /// What the run began with, if workers can make that by themselves.
    pub initial: Option<Initial>,
    /// Vectors that a worker's own optimizer keeps.
    pub state_vectors: usize,
    /// Silence after which a worker is lost.
    pub dead_after: Duration,
    /// Where gradients are received.
    pub buffers: Buffers,
    /// The server's inbox.
    pub messages: Sender<Message>,
    /// The next worker's number.
    pub numbers: Arc<AtomicU32>,
    /// Whether the run is over.
    pub over: Arc<AtomicBool>,
}
