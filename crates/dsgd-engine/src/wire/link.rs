//! The worker's side of the conversation.
//!
//! [`Client`] is a process's connection to the server, for signs of life: what is large has a connection for
//! each worker, and is never in their way. [`Client::join`] makes a worker of its caller, and the [`Remote`]
//! that it returns is the link that [`work`](crate::worker::work) speaks through. When anything breaks,
//! the link is of no use any more; its owner joins anew, if that makes sense.

mod client;
mod endpoint;
mod error;
mod newest;
mod pull;
mod state;

pub use client::Client;
pub use endpoint::Endpoint;
pub use error::LinkError;
pub use newest::Newest;

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tonic::body::Body;
use tonic::transport::Channel;
use tracing::debug;

use super::framing::{self, Messages};
use super::integrity::Integrity;
use super::paced::{Traffic, while_moving};
use super::proto::{self, PushPart, push_part};
use super::{MOST_MESSAGE, outgoing, words};
use crate::coded::Residual;
use crate::own_state::OwnState;
use crate::worker::{Assignment, Link, Outcome};
use client::{Life, Own, SessionHeader};
use dsgd_core::codec::Codec;
use dsgd_core::core::WorkerId;
use dsgd_core::params::{Gradient, Layout, Params};

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
    /// Which life of the server this is.
    server: String,
    /// The newest parameters of its slot.
    newest: Newest,
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
            server: entered.server,
            newest: Newest::default(),
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

    /// Shares what it pulls with the other worker of its slot, and with whoever joins in its place.
    pub fn share(&mut self, newest: Newest) {
        self.newest = newest;
    }

    /// Makes the parameters that the run began with, so that they need not be sent. `make` fills zeros with the model's
    /// initial parameters, or says that it cannot; where they are others than the server's, nothing comes of it.
    pub fn begin_with(&mut self, make: impl FnOnce(&mut Params) -> bool) {
        let (Some(initial), Some(params)) = (self.initial.take(), &mut self.params) else {
            return;
        };
        if self.newest.newer(&self.server, None).is_some() {
            return;
        }
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

    fn layout(&self) -> Arc<Layout> {
        let params = self.params.as_ref();
        params
            .map(|params| Arc::clone(params.layout()))
            .unwrap_or_default()
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
                state,
            } => {
                let head = part(push_part::Part::Gradient(proto::Gradient {
                    lease,
                    stats: Some(words::stats(report.stats)),
                    compute_secs: report.cost.compute_secs,
                    wait_secs: report.cost.wait_secs,
                    pull_secs: report.cost.pull_secs,
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
                if let Some(own) = state {
                    let session = self.session.clone();
                    self.client.push_state(session, self.integrity, own);
                }
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
        match self.gradient.take() {
            Some(gradient) => gradient,
            None => Box::new(Gradient::new(self.layout())),
        }
    }

    fn others_state(&mut self) -> Result<Option<Arc<OwnState>>, LinkError> {
        let own = self.own.take();
        let own = own.ok_or_else(|| LinkError::unexpected("two things at once"))?;
        let state = own.runtime().block_on(self.pull_state());
        self.own = Some(own);
        Ok(state?.map(Arc::new))
    }
}
