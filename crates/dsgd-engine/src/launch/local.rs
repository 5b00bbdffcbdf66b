//! Local workers: threads of the server's process.
//!
//! They read the server's own parameters and hand their gradient buffers over and back:
//! nothing is copied or encoded. A worker that panics is restarted, a few times.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::launcher::{Handle, LaunchError, LaunchSpec, Launcher};
use crate::own_state::OwnState;
use crate::server::Message;
use crate::worker::{Assignment, Broken, Buffers, ComputeSlot, Link, Outcome, work};
use dsgd_core::core::WorkerId;
use dsgd_core::model::Seat;
use dsgd_core::params::Gradient;

/// How often one slot's worker is restarted after a panic.
const REBIRTHS: u32 = 3;

/// Workers that are threads of this process.
pub struct Local {
    /// How many.
    pub workers: usize,
    /// Kernel threads of each.
    pub threads: usize,
}

impl Launcher for Local {
    fn workers(&self) -> Option<usize> {
        Some(self.workers)
    }

    fn launch(self: Box<Self>, spec: LaunchSpec) -> Result<Box<dyn Handle>, LaunchError> {
        let first = spec
            .numbers
            .fetch_add(self.workers as u32, Ordering::Relaxed);
        for slot in 0..self.workers {
            let (spec, worker) = (spec.clone(), first + slot as u32);
            let name = format!("local/{slot}");
            let seat = Seat {
                slot,
                slots: self.workers,
                threads: self.threads,
            };
            let thread = thread::Builder::new().name(name.clone());
            let started = thread.spawn(move || run_worker(&spec, seat, worker, &name));
            started.map_err(|error| format!("no thread to be had: {error}"))?;
        }
        Ok(Box::new(Threads))
    }
}

/// They end by themselves, as soon as their inboxes are closed.
struct Threads;

impl Handle for Threads {
    fn dismiss(self: Box<Self>, _within: Duration) {}
}

/// Runs one slot's worker and restarts it after panics. Errors of sending mean that the run is over.
fn run_worker(spec: &LaunchSpec, seat: Seat, mut worker: WorkerId, name: &str) {
    let (server, buffers) = (&spec.messages, &spec.buffers);
    for _ in 0..=REBIRTHS {
        let (inbox, assignments) = unbounded_channel();
        let mut link = Memory {
            worker,
            server,
            assignments,
            buffers,
            others_state: None,
        };
        let name = name.to_owned();
        let _ = server.send(Message::Join {
            worker,
            name,
            pulses: false,
            inbox,
        });
        let ended = ComputeSlot::new(&*spec.model, seat, spec.rule)
            .map_err(Broken::Panicked)
            .and_then(|compute| work(&compute, &mut link));
        match ended {
            Ok(()) => return,
            Err(Broken::Link(never)) => match never {},
            Err(Broken::Panicked(reason)) => {
                let _ = server.send(Message::Lost { worker, reason });
                worker = spec.numbers.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    let times = REBIRTHS + 1;
    let _ = server.send(Message::SlotsClosed {
        slots: 1,
        reason: format!("{name} will not work any more: it has panicked {times} times"),
    });
}

/// A link through this process's memory.
struct Memory<'a> {
    worker: u32,
    server: &'a Sender<Message>,
    assignments: UnboundedReceiver<Assignment>,
    buffers: &'a Buffers,
    others_state: Option<Arc<OwnState>>,
}

impl Link for Memory<'_> {
    type Error = Infallible;

    fn exchange(&mut self, outcome: Option<Outcome>) -> Result<Option<Assignment>, Infallible> {
        if let Some(outcome) = outcome {
            let worker = self.worker;
            // A closed inbox: nothing is sent any more either.
            let _ = self.server.send(Message::Done { worker, outcome });
        }
        let assignment = self.assignments.blocking_recv();
        self.others_state = assignment
            .as_ref()
            .and_then(|given| given.others_state.clone());
        Ok(assignment)
    }

    fn buffer(&mut self) -> Box<Gradient> {
        self.buffers.take()
    }

    fn others_state(&mut self) -> Result<Option<Arc<OwnState>>, Infallible> {
        Ok(self.others_state.take())
    }
}
