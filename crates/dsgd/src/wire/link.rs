//! The worker's side of the conversation.
//!
//! [`Gate`] is a process's way to the server, and its connection for signs of life: what is
//! large has a connection for each worker, and is never in their way. [`Gate::join`] makes a worker of its caller, and the [`Remote`] that it
//! returns is the link that [`work`](crate::worker::work) speaks through. When anything breaks,
//! the link is of no use any more; its owner joins anew, if that makes sense.

mod error;
mod gate;

pub use error::LinkError;
pub use gate::{Gate, Way};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tonic::transport::Channel;

use super::incoming::IncomingParams;
use super::proto::dsgd_client::DsgdClient;
use super::proto::{self, PullPart, PushPart, pull_part, push_part};
use super::{CALL, LONGEST_PULL, STALL, outgoing, words};
use crate::core::WorkerId;
use crate::params::{Gradient, Params};
use crate::worker::{Assignment, Link, Outcome, Travel};
use gate::{Session, with_session};

/// A worker's link to a server elsewhere.
pub struct Remote {
    worker: WorkerId,
    client: DsgdClient<Channel>,
    /// Where the worker's connection lives; taken while it turns.
    own: Option<Runtime>,
    session: Session,
    gate: Gate,
    /// Whether the server still takes our pulses.
    lives: Arc<AtomicBool>,
    life: AbortHandle,
    leaving: Arc<AtomicBool>,
    // Both made once and used again and again.
    params: Option<Arc<Params>>,
    gradient: Option<Box<Gradient>>,
}

impl Remote {
    /// The worker's number.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Once this is set, the link says goodbye instead of pulling more work.
    pub fn leave_when(&mut self, leaving: Arc<AtomicBool>) {
        self.leaving = leaving;
    }

    async fn push(&mut self, outcome: Outcome) -> Result<(), LinkError> {
        let one = |part| Box::new(std::iter::once(PushPart { part: Some(part) })) as Parts;
        let failed = |lease, reason, fatal| proto::Failed {
            lease,
            reason,
            fatal,
        };
        match outcome {
            Outcome::Gradient {
                lease,
                report,
                gradient,
            } => {
                let head = push_part::Part::Gradient(proto::Gradient {
                    lease,
                    stats: Some(words::stats(report.stats)),
                    compute_secs: report.cost.compute_secs,
                    wait_secs: report.cost.wait_secs,
                    pull_secs: report.cost.pull_secs,
                    push_secs: report.cost.push_secs,
                });
                let gradient = Arc::new(*gradient);
                let pieces = outgoing::gradient(&gradient).map(|piece| PushPart {
                    part: Some(match piece {
                        outgoing::Piece::Chunk(chunk) => push_part::Part::Chunk(chunk),
                        outgoing::Piece::Rows(rows) => push_part::Part::Rows(rows),
                    }),
                });
                let sent = self.send(Box::new(one(head).chain(pieces))).await;
                // The chunks were copied into the connection's buffer and are gone.
                self.gradient = Arc::try_unwrap(gradient).ok().map(Box::new);
                sent
            }
            Outcome::Evaluated {
                lease,
                stats: found,
            } => {
                let stats = Some(words::stats(found));
                self.send(one(push_part::Part::Evaluated(proto::Evaluated {
                    lease,
                    stats,
                })))
                .await
            }
            Outcome::Failed { lease, reason } => {
                self.send(one(push_part::Part::Failed(failed(lease, reason, false))))
                    .await
            }
            Outcome::Panicked { lease, reason } => {
                self.send(one(push_part::Part::Failed(failed(lease, reason, true))))
                    .await
            }
        }
    }

    /// Sends parts, as long as they move on.
    async fn send(&mut self, parts: Parts) -> Result<(), LinkError> {
        let moved = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&moved);
        let parts = parts.inspect(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let request = with_session(&self.session, tokio_stream::iter(parts));
        let pushed = self.client.push(request);
        tokio::pin!(pushed);
        let mut seen = 0;
        loop {
            if let Ok(reply) = timeout(STALL, &mut pushed).await {
                reply?;
                return Ok(());
            }
            let now = moved.load(Ordering::Relaxed);
            if now == seen {
                return Err(LinkError::stalled("a push"));
            }
            seen = now;
        }
    }

    async fn pull(&mut self) -> Result<Option<Assignment>, LinkError> {
        let (lease, job, mut parts) = loop {
            if self.leaving.load(Ordering::Relaxed) {
                self.gate
                    .leave(&self.session, "it was told to stop")
                    .await?;
                return Ok(None);
            }
            if !self.lives.load(Ordering::Relaxed) {
                let reason = "its signs of life do not arrive".to_owned();
                return Err(LinkError::Broken { reason });
            }
            let request = with_session(
                &self.session,
                proto::PullRequest {
                    wait_ms: LONGEST_PULL.as_millis() as u32,
                },
            );
            let parts = timeout(LONGEST_PULL + CALL, self.client.pull(request)).await;
            let mut parts = parts
                .map_err(|_| LinkError::stalled("a pull"))??
                .into_inner();
            match next(&mut parts).await? {
                Some(pull_part::Part::Wait(_)) => {}
                Some(pull_part::Part::Finished(_)) => return Ok(None),
                Some(pull_part::Part::Assignment(given)) => {
                    break (
                        given.lease,
                        words::job(given.work).map_err(LinkError::unexpected)?,
                        parts,
                    );
                }
                _ => {
                    return Err(LinkError::unexpected(
                        "a pull that begins with neither work nor a word",
                    ));
                }
            }
        };
        let started = Instant::now();
        let mut params = self
            .params
            .take()
            .ok_or_else(|| LinkError::unexpected("two pulls at once"))?;
        let mut incoming = IncomingParams::new(Arc::make_mut(&mut params));
        while let Some(part) = next(&mut parts).await? {
            match part {
                pull_part::Part::Chunk(chunk) => incoming.chunk(&chunk)?,
                _ => {
                    return Err(LinkError::unexpected(
                        "a pull with something else than parameters",
                    ));
                }
            }
            self.gate.hear();
        }
        incoming.finish()?;
        self.params = Some(Arc::clone(&params));
        Ok(Some(Assignment {
            lease,
            job,
            params,
            travel: Travel {
                pull_secs: started.elapsed().as_secs_f64(),
                push_secs: 0.0,
            },
        }))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.gate.forget(self.worker);
        self.life.abort();
        // Its owner may be somebody who must not wait.
        if let Some(own) = self.own.take() {
            own.shutdown_background();
        }
    }
}

impl Link for Remote {
    type Error = LinkError;

    fn exchange(&mut self, outcome: Option<Outcome>) -> Result<Option<Assignment>, LinkError> {
        let own = self.own.take();
        let own = own.ok_or_else(|| LinkError::unexpected("two things at once"))?;
        let exchanged = own.block_on(async {
            let last = matches!(outcome, Some(Outcome::Panicked { .. }));
            let started = Instant::now();
            if let Some(outcome) = outcome {
                self.push(outcome).await?;
            }
            let push_secs = started.elapsed().as_secs_f64();
            if last {
                return Ok(None);
            }
            let mut assignment = self.pull().await?;
            if let Some(assignment) = &mut assignment {
                assignment.travel.push_secs = push_secs;
            }
            Ok(assignment)
        });
        self.own = Some(own);
        exchanged
    }

    fn buffer(&mut self) -> Box<Gradient> {
        let fresh = || {
            let layout = self.params.as_ref().map(|params| params.layout().clone());
            Box::new(Gradient::new(layout.unwrap_or_default()))
        };
        self.gradient.take().unwrap_or_else(fresh)
    }
}

type Parts = Box<dyn Iterator<Item = PushPart> + Send>;

/// The next part of a pull, which must come in time.
async fn next(
    parts: &mut tonic::Streaming<PullPart>,
) -> Result<Option<pull_part::Part>, LinkError> {
    let part = timeout(STALL, parts.message()).await;
    match part.map_err(|_| LinkError::stalled("a pull"))?? {
        None => Ok(None),
        Some(PullPart { part: Some(part) }) => Ok(Some(part)),
        Some(PullPart { part: None }) => Err(LinkError::unexpected("an empty part")),
    }
}
