//! Local workers: threads of the server's process.
//!
//! They read the server's own parameters and hand their gradient buffers over and back:
//! nothing is copied or encoded. A worker that panics is born again, a few times.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::server::Message;
use crate::worker::{Assignment, Broken, Buffers, ComputeSlot, Link, Outcome, work};
use dsgd_core::core::WorkerId;
use dsgd_core::model::{Model, Seat};
use dsgd_core::params::Gradient;

/// How often one slot's worker is born again after a panic.
const REBIRTHS: u32 = 3;

/// Starts `count` workers with `threads` kernel threads each; they speak to `server` until it
/// lets them go.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    model: &Arc<dyn Model>,
    count: usize,
    threads: usize,
    numbers: &Arc<AtomicU32>,
    buffers: &Buffers,
    server: &Sender<Message>,
) -> std::io::Result<()> {
    let first = numbers.fetch_add(count as u32, Ordering::Relaxed);
    for slot in 0..count {
        let (model, server, buffers) = (Arc::clone(model), server.clone(), buffers.clone());
        let (worker, numbers) = (first + slot as u32, Arc::clone(numbers));
        let name = format!("local/{slot}");
        let seat = Seat {
            slot,
            slots: count,
            threads,
        };
        thread::Builder::new()
            .name(name.clone())
            .spawn(move || live(&*model, seat, worker, &numbers, &name, &buffers, &server))?;
    }
    Ok(())
}

/// The lives of one slot's worker. Errors of sending mean that the run is over.
fn live(
    model: &dyn Model,
    seat: Seat,
    mut worker: WorkerId,
    numbers: &AtomicU32,
    name: &str,
    buffers: &Buffers,
    server: &Sender<Message>,
) {
    for _ in 0..=REBIRTHS {
        let (inbox, assignments) = unbounded_channel();
        let mut link = Memory {
            worker,
            server,
            assignments,
            buffers,
        };
        let name = name.to_owned();
        let _ = server.send(Message::Join {
            worker,
            name,
            pulses: false,
            inbox,
        });
        let ended = ComputeSlot::new(model, seat)
            .map_err(Broken::Panicked)
            .and_then(|compute| work(&compute, &mut link));
        match ended {
            Ok(()) => return,
            Err(Broken::Link(never)) => match never {},
            Err(Broken::Panicked(reason)) => {
                let _ = server.send(Message::Lost { worker, reason });
                worker = numbers.fetch_add(1, Ordering::Relaxed);
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
}

impl Link for Memory<'_> {
    type Error = Infallible;

    fn exchange(&mut self, outcome: Option<Outcome>) -> Result<Option<Assignment>, Infallible> {
        if let Some(outcome) = outcome {
            let worker = self.worker;
            // Where nobody listens, nothing is sent any more either.
            let _ = self.server.send(Message::Done { worker, outcome });
        }
        Ok(self.assignments.blocking_recv())
    }

    fn buffer(&mut self) -> Box<Gradient> {
        self.buffers.take()
    }
}
