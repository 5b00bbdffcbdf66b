//! How workers come to be: the seam that modes, restarts and elasticity do not ask behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::mpsc::Sender;
use std::time::Duration;

use dsgd_core::model::Model;

use crate::server::Message;
use crate::wire::integrity::Initial;
use crate::worker::{Buffers, StepRule};

/// Why workers could not be started, with its cause.
pub type LaunchError = Box<dyn std::error::Error + Send + Sync>;

/// What workers need of a server that waits for them.
#[derive(Clone)]
pub struct LaunchSpec {
    /// What they train.
    pub model: Arc<dyn Model>,
    /// The server's inbox.
    pub messages: Sender<Message>,
    /// The next worker's number.
    pub numbers: Arc<AtomicU32>,
    /// Where gradients are received.
    pub buffers: Buffers,
    /// How workers take steps, where they are to take any by themselves.
    pub rule: StepRule,
    /// What the run begins with, if workers can make that by themselves.
    pub initial: Option<Initial>,
    /// Whether the run is over.
    pub over: Arc<AtomicBool>,
}

/// One way in which workers come to be. What it needs for that is found out before there is one: a run that
/// cannot have its workers is refused, and leaves nothing behind.
pub trait Launcher: Send {
    /// Workers that it starts; none where they come by themselves, as many as like to.
    fn workers(&self) -> Option<usize>;

    /// Whether its workers are in other processes, so that they can be silent, or come later.
    fn is_elsewhere(&self) -> bool {
        false
    }

    /// A line for each place where workers will be.
    fn describe(&self) -> Vec<String> {
        Vec::new()
    }

    /// Starts them, or lets them in. Called once the run has begun.
    ///
    /// # Errors
    /// When not even one can be had; what happens to workers later is said by messages.
    fn launch(self: Box<Self>, spec: LaunchSpec) -> Result<Box<dyn Handle>, LaunchError>;
}

/// Workers that were launched.
pub trait Handle {
    /// The run is over: they have about so long to end by themselves, then they are ended.
    fn dismiss(self: Box<Self>, within: Duration);
}
