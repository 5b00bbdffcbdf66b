//! The worker's side of the conversation.
//!
//! [`Client`] is a process's connection to the server, for signs of life: what is large has a connection for
//! each worker, and is never in their way. [`Client::join`] makes a worker of its caller, and the [`Remote`]
//! that it returns is the link that [`work`](crate::worker::work) speaks through. When anything breaks,
//! the link is of no use any more; its owner joins anew, if that makes sense.

mod client;
mod endpoint;
mod error;

pub use client::Client;
pub use endpoint::Endpoint;
pub use error::LinkError;

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tonic::body::Body;
use tonic::transport::Channel;
use tracing::debug;

use super::framing::{self, Messages};
use super::incoming::IncomingParams;
use super::integrity::Integrity;
use super::paced::{Traffic, while_moving};
use super::proto::{self, PullPart, PushPart, pull_part, push_part};
use super::{LONGEST_PULL, MOST_MESSAGE, outgoing, words};
use crate::coded::Residual;
use crate::worker::{Assignment, Link, Outcome, TransferTimes};
use client::{Life, Own, SessionHeader};
use dsgd_core::codec::Codec;
use dsgd_core::core::WorkerId;
use dsgd_core::params::{Gradient, Layout, Params, Snapshot};

/// A worker's link to a server elsewhere.
pub struct Remote {
    worker: WorkerId,
    /// For what is large.
    bulk: Channel,
    /// Where the worker's connection lives; taken while it turns.
    own: Option<Own>,
    session: SessionHeader,
    integrity: Integrity,
    client: Client,
    /// What passes the connection for what is large.
    traffic: Traffic,
    life: Life,
    leaving: Arc<AtomicBool>,
    /// How gradients are to be pushed, as the last assignment said.
    codec: Codec,
    /// What was left out of those that were pushed.
    residual: Option<Residual>,
    /// What the run began with, if that can be made here.
    initial: Option<proto::Initial>,
    /// The version that the parameters are, when they are whole.
    version: Option<u64>,
    // Both made once and used again and again.
    params: Option<Arc<Params>>,
    gradient: Option<Box<Gradient>>,
}

impl Client {
    /// [`Client::join`] for a thread that is not the event loop's.
    pub fn join_blocking(&self, name: &str, layout: &Arc<Layout>) -> Result<Remote, LinkError> {
        self.runtime().block_on(self.join(name, layout))
    }

    /// Makes a worker of the caller. `layout` must be the server's.
    pub async fn join(&self, name: &str, layout: &Arc<Layout>) -> Result<Remote, LinkError> {
        let entered = self.enter(name, layout).await?;
        Ok(Remote {
            worker: entered.worker,
            bulk: entered.bulk,
            own: Some(entered.own),
            session: entered.session,
            integrity: entered.integrity,
            client: self.clone(),
            traffic: entered.traffic,
            life: entered.life,
            leaving: Arc::default(),
            codec: Codec::None,
            residual: None,
            initial: entered.initial,
            version: None,
            params: Some(Params::zeros(Arc::clone(layout)).into()),
            gradient: None,
        })
    }
}

impl Remote {
    /// The worker's number.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Once this is set, the link leaves instead of pulling more work.
    pub fn leave_when(&mut self, leaving: Arc<AtomicBool>) {
        self.leaving = leaving;
    }

    /// Makes the parameters that the run began with, so that they need not be sent. `make` fills zeros with the model's
    /// initial parameters, or says that it cannot; where they are others than the server's, nothing comes of it.
    pub fn begin_with(&mut self, make: impl FnOnce(&mut Params) -> bool) {
        let (Some(initial), Some(params)) = (self.initial.take(), &mut self.params) else {
            return;
        };
        let into = Arc::make_mut(params);
        let same =
            make(into) && crc32fast::hash(bytemuck::cast_slice(into.flat())) == initial.crc32;
        if same {
            if Codec::of_id(initial.codec) == Some(Codec::Bf16) {
                Codec::Bf16.round(into.flat_mut());
            }
            self.version = Some(initial.version);
        }
        debug!(same, "initial parameters made here");
    }

    async fn push(&mut self, outcome: Outcome) -> Result<(), LinkError> {
        let part = |part| framing::message(&PushPart { part: Some(part) });
        let failed = |lease, reason, fatal| {
            push_part::Part::Failed(proto::Failed {
                lease,
                reason,
                fatal,
            })
        };
        let only = match outcome {
            Outcome::Gradient {
                lease,
                report,
                gradient,
            } => {
                let head = part(push_part::Part::Gradient(proto::Gradient {
                    lease,
                    stats: Some(words::stats(report.stats)),
                    compute_secs: report.cost.compute_secs,
                    wait_secs: report.cost.wait_secs,
                    pull_secs: report.cost.pull_secs,
                    push_secs: report.cost.push_secs,
                }));
                debug!(lease, "a push begins");
                let sent = match self.codec {
                    Codec::None => self.push_as_it_is(head, gradient).await,
                    codec => {
                        let fresh = || Residual::new(gradient.layout());
                        let residual = self.residual.get_or_insert_with(fresh);
                        let coded = residual.encode(codec, &gradient);
                        self.gradient = Some(gradient);
                        let pieces = outgoing::coded(&coded, self.integrity);
                        let pieces = pieces.flat_map(framing::piece);
                        self.send(iter::once(head).chain(pieces)).await
                    }
                };
                debug!(lease, well = sent.is_ok(), "a push has ended");
                return sent;
            }
            Outcome::Evaluated { lease, stats } => {
                let stats = Some(words::stats(stats));
                push_part::Part::Evaluated(proto::Evaluated { lease, stats })
            }
            Outcome::Failed { lease, reason } => failed(lease, reason, false),
            Outcome::Panicked { lease, reason } => failed(lease, reason, true),
        };
        self.send(iter::once(part(only))).await
    }

    /// Sends views of a gradient's memory.
    async fn push_as_it_is(
        &mut self,
        head: Bytes,
        gradient: Box<Gradient>,
    ) -> Result<(), LinkError> {
        let gradient = Arc::new(*gradient);
        let pieces = outgoing::gradient(&gradient, self.integrity);
        let pieces = pieces.flat_map(framing::piece);
        let sent = self.send(iter::once(head).chain(pieces)).await;
        // All of it has gone out and nobody looks at it any more.
        self.gradient = Arc::try_unwrap(gradient).ok().map(Box::new);
        sent
    }

    /// Sends a push, as long as it arrives there: what has left here may lie in buffers on the way.
    async fn send(
        &mut self,
        bytes: impl Iterator<Item = Bytes> + Send + 'static,
    ) -> Result<(), LinkError> {
        let arrived = Arc::clone(&self.life.arrived);
        let pushed = async {
            let mut reply = self.call(framing::PUSH, bytes).await?;
            while reply.next::<proto::PushReply>().await?.is_some() {}
            Ok(())
        };
        let sent = while_moving(|| arrived.load(Ordering::Relaxed), pushed).await;
        sent.ok_or_else(|| LinkError::stalled("a push"))?
    }

    async fn call(
        &mut self,
        path: &'static str,
        bytes: impl Iterator<Item = Bytes> + Send + 'static,
    ) -> Result<Messages<Body>, LinkError> {
        let session = self.session.clone();
        let request = framing::request(path, session, bytes);
        Ok(framing::call(&mut self.bulk, request, MOST_MESSAGE).await?)
    }

    async fn pull(&mut self) -> Result<Option<Assignment>, LinkError> {
        let (given, mut parts) = loop {
            if self.leaving.load(Ordering::Relaxed) {
                self.client
                    .leave(&self.session, "it was told to stop")
                    .await?;
                return Ok(None);
            }
            if !self.life.holds.load(Ordering::Relaxed) {
                let reason = "its signs of life do not arrive".to_owned();
                return Err(LinkError::Broken { reason });
            }
            let wait_ms = LONGEST_PULL.as_millis() as u32;
            let asked = framing::message(&proto::PullRequest {
                wait_ms,
                have: self.version,
            });
            let arrived = Arc::clone(&self.life.arrived);
            let parts = self.call(framing::PULL, iter::once(asked));
            // On a slow way the question waits behind what this process's other workers push.
            let parts = while_moving(|| arrived.load(Ordering::Relaxed), parts).await;
            let mut parts = parts.ok_or_else(|| LinkError::stalled("a pull"))??;
            match next(&mut parts, &self.traffic).await? {
                Some(pull_part::Part::Wait(_)) => {}
                Some(pull_part::Part::Finished(_)) => return Ok(None),
                Some(pull_part::Part::Assignment(given)) => break (given, parts),
                _ => {
                    return Err(LinkError::unexpected(
                        "a pull that begins with neither work nor a word",
                    ));
                }
            }
        };
        let job = words::job(given.work).map_err(LinkError::unexpected)?;
        let (lease, version) = (given.lease, given.version);
        debug!(lease, ?job, version, base = given.base, "a pull begins");
        let codec = |id| {
            let unknown = || LinkError::unexpected("a codec that is unknown here");
            Codec::of_id(id).ok_or_else(unknown)
        };
        self.codec = codec(given.codec)?;
        let codec = codec(given.params_codec)?;
        let started = Instant::now();
        let params = self.params.take();
        let mut params = params.expect("a link that broke is not used again");
        let into = Arc::make_mut(&mut params);
        // What is here is whole again when all has come.
        let have = self.version.take();
        if given.base.is_some() && given.base != have {
            return Err(LinkError::unexpected("what is new to another version"));
        }
        let mut differences = given.differences.iter();
        let mut incoming = match given.base {
            None => IncomingParams::new(into, codec, self.integrity),
            // Nothing is new, or the first of what is.
            Some(_) if given.fresh.is_empty() => {
                let nothing = Bytes::from(vec![0; into.layout().tensors().len()]);
                IncomingParams::onto(into, &nothing, codec, self.integrity)?
            }
            Some(_) => IncomingParams::over(into, &given.fresh, codec, self.integrity)?,
        };
        loop {
            while incoming.is_complete()
                && let Some(fresh) = differences.next()
            {
                incoming = incoming.then(fresh)?;
            }
            let Some(part) = next(&mut parts, &self.traffic).await? else {
                break;
            };
            match part {
                pull_part::Part::Chunk(chunk) => incoming.chunk(&chunk)?,
                pull_part::Part::Rows(rows) => incoming.rows(&rows)?,
                _ => {
                    return Err(LinkError::unexpected(
                        "a pull with something else than parameters",
                    ));
                }
            }
            self.client.note_reply();
        }
        incoming.finish()?;
        debug!(lease, "a pull has arrived");
        self.params = Some(Arc::clone(&params));
        self.version = Some(given.version);
        Ok(Some(Assignment {
            lease: given.lease,
            job,
            params: Snapshot::new(given.version, params),
            differences: None,
            transfer: TransferTimes {
                pull_secs: started.elapsed().as_secs_f64(),
                push_secs: 0.0,
            },
        }))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.client.forget(self.worker);
        self.life.task.abort();
    }
}

impl Link for Remote {
    type Error = LinkError;

    fn exchange(&mut self, outcome: Option<Outcome>) -> Result<Option<Assignment>, LinkError> {
        let own = self.own.take();
        let own = own.ok_or_else(|| LinkError::unexpected("two things at once"))?;
        let exchanged = own.runtime().block_on(async {
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
                assignment.transfer.push_secs = push_secs;
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

/// The next part of a pull, which may take its time while bytes of it come.
async fn next(
    parts: &mut Messages<Body>,
    traffic: &Traffic,
) -> Result<Option<pull_part::Part>, LinkError> {
    let part = while_moving(|| traffic.read(), parts.next()).await;
    match part.ok_or_else(|| LinkError::stalled("a pull"))?? {
        None => Ok(None),
        Some(PullPart { part: Some(part) }) => Ok(Some(part)),
        Some(PullPart { part: None }) => Err(LinkError::unexpected("an empty part")),
    }
}
