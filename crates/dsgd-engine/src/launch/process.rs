//! A process elsewhere: its workers, and when it ends.
//!
//! One process a host and a thread a worker, as on the server's own machine. A worker whose
//! conversation breaks joins anew, with the current parameters and under a new number, until
//! the run is over, or the server has not been reached for `orphan_after`: then nobody
//! waits for it any more and it must not stay behind on somebody's machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::wire::link::{Client, Endpoint, LinkError, Newest};
use crate::worker::{Broken, ComputeSlot, StepRule, work};
use dsgd_core::model::{Model, Seat};
use dsgd_core::params::Layout;

/// How often one slot's worker is restarted after a panic.
const REBIRTHS: u32 = 3;

/// First and longest pause before joining anew.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A worker that is asked to stop and still computes leaves after this time: before the 5 s are over
/// after which batch systems and clouds kill.
const GRACE: Duration = Duration::from_millis(3500);

/// The time for leaving itself.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a process elsewhere is to do.
pub struct WorkerProcess {
    /// How its server is reached.
    pub endpoint: Endpoint,
    /// Number of its workers.
    pub slots: usize,
    /// Kernel threads of each.
    pub threads: usize,
    /// The run's seed, which its initial parameters are made from.
    pub seed: u64,
    /// How they take steps, where they are to take any by themselves.
    pub rule: StepRule,
    /// Whether each slot has two workers that take turns.
    pub prefetch: bool,
    /// How long it goes on without a server.
    pub orphan_after: Duration,
    /// Set when it is to stop.
    pub leaving: Arc<AtomicBool>,
    /// Set once the server has answered. Before, there is no session to leave.
    pub reached: Arc<AtomicBool>,
}

/// Why a worker process ended before its run did.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The system gave no thread or no event loop.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The server does not want these workers, or cannot be reached.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The server was not reached for too long.
    #[error("{last}; it was not reached for {secs:.0} s (--orphan-after)")]
    Orphaned {
        /// For so long.
        secs: f64,
        /// What was met last.
        last: LinkError,
    },
    /// The task's code panics again and again.
    #[error("{worker} has panicked {times} times, last: {reason}")]
    Panics {
        /// The worker.
        worker: String,
        /// How often.
        times: u32,
        /// The last panic's message.
        reason: String,
    },
}

/// Works until the run is over.
pub fn run(model: &dyn Model, process: &WorkerProcess) -> Result<(), ProcessError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let layout = Arc::clone(&model.manifest().layout);
    let client = runtime.block_on(open(process))?;
    process.reached.store(true, Ordering::Relaxed);
    let watched = Arc::clone(&process.leaving);
    let goodbye = client.clone();
    runtime.spawn(async move {
        while !watched.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(GRACE).await;
        // Where the server does not answer any more, there is no session to leave.
        let _ = timeout(GOODBYE, goodbye.leave_all("it was told to stop")).await;
        std::process::exit(0);
    });
    thread::scope(|scope| {
        let slots: Vec<_> = (0..process.slots)
            .map(|slot| {
                let (client, layout) = (&client, &layout);
                scope.spawn(move || run_slot(model, process, client, layout, slot))
            })
            .collect();
        let ends = slots.into_iter().map(|slot| match slot.join() {
            Ok(end) => end,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        // The first failure, once all have ended.
        ends.fold(Ok(()), Result::and)
    })
}

/// Tries to join until the server answers.
async fn open(process: &WorkerProcess) -> Result<Client, ProcessError> {
    let started = Instant::now();
    let mut pause = PAUSES.0;
    let mut told = false;
    loop {
        match Client::open(&process.endpoint).await {
            Ok(client) => return Ok(client),
            Err(error) if error.is_retryable() && started.elapsed() < process.orphan_after => {
                if !told {
                    let secs = process.orphan_after.as_secs_f64();
                    eprintln!("{error}; trying for {secs} s (--orphan-after)");
                    told = true;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(last) => return Err(orphaned(last, started.elapsed())),
        }
    }
}

/// A slot: one worker, or two that take turns computing, from the beginning or once the run's plan is so.
fn run_slot(
    model: &dyn Model,
    process: &WorkerProcess,
    client: &Client,
    layout: &Arc<Layout>,
    slot: usize,
) -> Result<(), ProcessError> {
    let name = format!("{}/{slot}", process.endpoint.host);
    let seat = Seat {
        slot,
        slots: process.slots,
        threads: process.threads,
    };
    let panicked = |reason| ProcessError::Panics {
        worker: name.clone(),
        times: 1,
        reason,
    };
    let compute = ComputeSlot::new(model, seat, process.rule).map_err(panicked)?;
    let newest = Newest::default();
    let work = |name: &str| work_until_over(process, client, layout, (&compute, &newest), name);
    thread::scope(|scope| {
        let twin = {
            let (name, compute) = (format!("{name}+"), &compute);
            scope.spawn(move || {
                if process.prefetch || compute.wants_second() {
                    return work(&name);
                }
                Ok(())
            })
        };
        let works = compute.first_works();
        let end = work(&name);
        drop(works);
        let twin = match twin.join() {
            Ok(end) => end,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        end.and(twin)
    })
}

/// Runs a worker, which joins anew whenever its link breaks.
fn work_until_over(
    process: &WorkerProcess,
    client: &Client,
    layout: &Arc<Layout>,
    (compute, newest): (&ComputeSlot<'_>, &Newest),
    name: &str,
) -> Result<(), ProcessError> {
    let (mut panics, mut pause) = (0, PAUSES.0);
    while !process.leaving.load(Ordering::Relaxed) {
        let joined = client.join_blocking(name, layout);
        let ended = joined.map_err(Broken::Link).and_then(|mut link| {
            pause = PAUSES.0;
            link.leave_when(Arc::clone(&process.leaving));
            link.share(newest.clone());
            link.begin_with(|params| compute.initial(process.seed, params));
            work(compute, &mut link)
        });
        match ended {
            Ok(()) => return Ok(()),
            Err(Broken::Panicked(reason)) => {
                panics += 1;
                eprintln!("{name} {reason}");
                if panics > REBIRTHS {
                    return Err(ProcessError::Panics {
                        worker: name.to_owned(),
                        times: panics,
                        reason,
                    });
                }
                compute.renew();
            }
            Err(Broken::Link(error)) if !error.is_retryable() => return Err(error.into()),
            Err(Broken::Link(error)) if client.silence() > process.orphan_after => {
                return Err(orphaned(error, client.silence()));
            }
            Err(Broken::Link(error)) => {
                eprintln!("{name} joins anew: {error}");
                // A server that was restarted makes the same versions again, of other values.
                compute.renew();
                thread::sleep(pause);
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
    Ok(())
}

fn orphaned(last: LinkError, silence: Duration) -> ProcessError {
    if !last.is_retryable() {
        return last.into();
    }
    let secs = silence.as_secs_f64();
    ProcessError::Orphaned { secs, last }
}
