//! The inverted form: a worker whose loop is its owner's own.

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

use dsgd_core::core::{LeaseId, Report};
use dsgd_core::event::Cost;
use dsgd_core::params::{Gradient, Layout};
use dsgd_core::task::Stats;

use crate::wire::invitation::Invitation;
use crate::wire::link::{Client, LinkError, Remote};
use crate::worker::{Assignment, Link, Outcome, TransferTimes};

/// Joins a run that lets others join (`--listen`), by its invitation: the file `invitation` in the run's folder.
/// `layout` must be that of the run's model.
///
/// ```no_run
/// # use dsgd_core::{params::{Gradient, Layout, Params}, task::Stats};
/// # use dsgd_engine::{join, wire::invitation::Invitation, worker::Job};
/// # let layout = Layout::new();
/// # fn gradient(params: &Params, batch: usize, into: &mut Gradient) -> Stats { Stats::default() }
/// # fn loss(params: &Params, batch: usize) -> Stats { Stats::default() }
/// let invitation = Invitation::from_line(&std::fs::read_to_string("runs/mine-1/invitation")?)?;
/// let mut worker = join(&invitation, layout)?;
/// while let Some(work) = worker.pull()? {
///     match work.job {
///         Job::Train(ref round) => {
///             let mut into = worker.gradient();
///             let batch = round[0]; // there are more with --round
///             let stats = gradient(&work.params, batch.index, &mut into);
///             worker.push(work, into, stats);
///         }
///         Job::Steps(_) => unreachable!("only with --mode local"),
///         Job::Validate(batch) => {
///             let stats = loss(&work.params, batch);
///             worker.evaluated(work, stats);
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When the server cannot be reached, or does not want this worker.
pub fn join(invitation: &Invitation, layout: impl Into<Arc<Layout>>) -> Result<Worker, LinkError> {
    let endpoint = invitation.endpoint_here();
    endpoint.check()?;
    let broken = |error: std::io::Error| LinkError::Broken {
        reason: format!("no event loop to be had: {error}"),
    };
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(broken)?;
    let client = runtime.block_on(Client::open(&endpoint))?;
    let link = client.join_blocking(&format!("{}/joined", endpoint.host), &layout.into())?;
    Ok(Worker {
        link,
        done: None,
        pulled: Instant::now(),
        waited_secs: 0.0,
        _runtime: runtime,
    })
}

/// A worker of a run elsewhere.
pub struct Worker {
    link: Remote,
    /// What goes out with the next pull.
    done: Option<Outcome>,
    pulled: Instant,
    waited_secs: f64,
    /// Signs of life go out from here.
    _runtime: Runtime,
}

impl Worker {
    /// Sends what was pushed and waits for more to do; none when the run is over. A batch that was pulled and
    /// not pushed goes to another worker in the end.
    ///
    /// # Errors
    /// When the link broke: join anew.
    pub fn pull(&mut self) -> Result<Option<Assignment>, LinkError> {
        let asked = Instant::now();
        let assignment = self.link.exchange(self.done.take())?;
        self.pulled = Instant::now();
        self.waited_secs = (self.pulled - asked).as_secs_f64();
        Ok(assignment)
    }

    /// A gradient that is zero, to be added to. One that was pushed is used again.
    pub fn gradient(&mut self) -> Box<Gradient> {
        let mut gradient = self.link.buffer();
        gradient.clear();
        gradient
    }

    /// Hands over the gradient of a training batch's mean loss per example, and sums over the batch. It is
    /// sent with the next [`pull`](Worker::pull).
    pub fn push(&mut self, work: Assignment, gradient: Box<Gradient>, stats: Stats) {
        let (lease, transfer) = done(work);
        let report = Report {
            stats,
            grad_norm: gradient.sum_of_squares().sqrt(),
            cost: Cost {
                compute_secs: self.pulled.elapsed().as_secs_f64(),
                pull_secs: transfer.pull_secs,
                push_secs: transfer.push_secs,
                wait_secs: (self.waited_secs - transfer.pull_secs - transfer.push_secs).max(0.0),
                bytes: 0,
                catches_up: false,
            },
        };
        self.done = Some(Outcome::Gradient {
            lease,
            report,
            gradient,
            state: None,
        });
    }

    /// Hands over the sums of a validation batch.
    pub fn evaluated(&mut self, work: Assignment, stats: Stats) {
        let (lease, _) = done(work);
        self.done = Some(Outcome::Evaluated { lease, stats });
    }

    /// Says that a batch could not be computed, and why: it goes to another worker.
    pub fn failed(&mut self, work: Assignment, reason: String) {
        let (lease, _) = done(work);
        self.done = Some(Outcome::Failed { lease, reason });
    }
}

/// What remains of work that is done. Its parameters are given back, so that the next ones can be written
/// over them.
fn done(work: Assignment) -> (LeaseId, TransferTimes) {
    drop(work.params);
    (work.lease, work.transfer)
}
