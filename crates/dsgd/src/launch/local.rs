//! Local workers: threads of the server's process.
//!
//! They read the server's own parameters and hand their gradient buffers over and back:
//! nothing is copied or encoded. A worker that panics is born again, a few times.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::server::Letter;
use crate::task::Task;
use crate::worker::{Assignment, Link, Outcome, work};

/// How often one slot's worker is born again after a panic.
const REBIRTHS: u32 = 3;

/// Starts `count` workers with `threads` kernel threads each; they speak to `server` until it
/// lets them go.
///
/// # Errors
/// When the system gives no thread.
pub fn start<T: Task>(
    task: &Arc<T>,
    count: usize,
    threads: usize,
    seed: u64,
    server: &Sender<Letter>,
) -> std::io::Result<()> {
    for slot in 0..count {
        let (task, server) = (Arc::clone(task), server.clone());
        let name = format!("local/{slot}");
        thread::Builder::new()
            .name(name.clone())
            .spawn(move || live(&*task, (slot, count), &name, threads, seed, &server))?;
    }
    Ok(())
}

/// The lives of one slot's worker. Errors of sending mean that the run is over.
fn live<T: Task>(
    task: &T,
    (slot, count): (usize, usize),
    name: &str,
    threads: usize,
    seed: u64,
    server: &Sender<Letter>,
) {
    for life in 0..=REBIRTHS {
        let worker = slot as u32 + life * count as u32;
        let (inbox, assignments) = channel();
        let mut link = Memory {
            worker,
            server,
            assignments,
        };
        let name = name.to_owned();
        let _ = server.send(Letter::Join {
            worker,
            name,
            inbox,
        });
        match work(task, threads, seed, &mut link) {
            Ok(()) => return,
            Err(reason) => {
                let _ = server.send(Letter::Lost { worker, reason });
            }
        }
    }
    let reason = format!("it has panicked {} times", REBIRTHS + 1);
    let _ = server.send(Letter::SlotClosed {
        name: name.to_owned(),
        reason,
    });
}

/// A link through this process's memory.
struct Memory<'a> {
    worker: u32,
    server: &'a Sender<Letter>,
    assignments: Receiver<Assignment>,
}

impl Link for Memory<'_> {
    fn exchange(&mut self, outcome: Option<Outcome>) -> Option<Assignment> {
        if let Some(outcome) = outcome {
            let worker = self.worker;
            self.server.send(Letter::Done { worker, outcome }).ok()?;
        }
        self.assignments.recv().ok()
    }
}
