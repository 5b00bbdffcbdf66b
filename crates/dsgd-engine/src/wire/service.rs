//! The server's side of the conversation: what workers say becomes messages to the server.
//!
//! A worker has one assignment at a time, and what it pushes must be of that one: so nobody
//! can touch what belongs to another. The end of its `Live` stream is the end of its session.

mod lives;
mod pulled;
mod pushed;
mod sent;
mod sessions;
mod state;
mod terms;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::post;
use tokio::sync::mpsc::channel;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument, debug, debug_span, trace};

use super::credentials::Token;
use super::framing::{self, Messages};
use super::integrity::{Initial, Integrity};
use super::paced::Traffic;
use super::peer::Peer;
use super::proto::dsgd_server::{Dsgd, DsgdServer};
use super::proto::{self, PullPart, Pulse, pull_part};
use super::words::{self, cut, tensors};
use super::{
    LONGEST_PULL, MOST_MESSAGE, MOST_NAME, MOST_REASON, PROGRAM, PROTOCOL, SESSION, STALL,
    most_pushed,
};
use crate::mutex::lock;
use crate::server::Message;
use crate::worker::{Assignment, Outcome};
use dsgd_core::event::Event;
use dsgd_core::text;
use pulled::{Missing, Pulled};
use pushed::Parts;
use sent::Sent;
use sessions::{Current, Session, Sessions};
pub use terms::Terms;

/// The gRPC service. Clones are the same service.
#[derive(Clone)]
pub struct Service(Arc<Shared>);

struct Shared {
    terms: Terms,
    /// Tells this life of the server from others.
    life: String,
    tensors: Vec<proto::Tensor>,
    sessions: Sessions,
}

impl Service {
    /// A service that has no worker yet.
    pub fn new(terms: Terms) -> Self {
        Self(Arc::new(Shared {
            tensors: tensors(&terms.layout),
            life: String::from(Token::fresh()),
            terms,
            sessions: Sessions::default(),
        }))
    }

    /// Workers whose session holds.
    pub fn sessions(&self) -> usize {
        self.0.sessions.number()
    }

    /// Connections that were refused so far.
    pub fn refusals(&self) -> u64 {
        self.0.sessions.refused()
    }

    /// A connection came to nothing; the server is warned of it, now and then.
    pub(super) fn refused(&self, why: &str, from: &str) {
        let Some(refused) = self.0.sessions.refuse() else {
            return;
        };
        debug!(from, why, "refuses a connection");
        let message = format!("refused a connection from {from}: {why}; {refused} refused so far");
        self.deliver(Message::Emit(Event::Warning { message }));
    }

    /// Whether the server still reads.
    fn deliver(&self, message: Message) -> bool {
        self.0.terms.messages.send(message).is_ok()
    }

    /// The session that a call belongs to.
    fn session<T>(&self, request: &Request<T>) -> Result<Arc<Session>, Status> {
        let session = request
            .metadata()
            .get(SESSION)
            .and_then(|s| s.to_str().ok());
        let peer = peer(request);
        let Some(session) = session else {
            reject(peer.as_ref(), "it has no session");
            return Err(Status::unauthenticated(
                "no session: join first, and send the session as metadata dsgd-session",
            ));
        };
        let found = self.0.sessions.session(session);
        let found = found.ok_or_else(|| {
            reject(peer.as_ref(), "its session is void");
            Status::not_found("this session is void: its worker was given up for lost; join anew")
        })?;
        if let Some(peer) = peer {
            peer.admit();
        }
        Ok(found)
    }
}

type Reply = http::Response<tonic::body::Body>;

#[tonic::async_trait]
impl Dsgd for Service {
    async fn hello(
        &self,
        request: Request<proto::HelloRequest>,
    ) -> Result<Response<proto::HelloReply>, Status> {
        let hello = request.into_inner();
        let host = cut(hello.host, MOST_NAME);
        let program = cut(hello.program, MOST_NAME);
        debug!(host, program, "says hello");
        let ours = |name: &str| name.starts_with("dsgd ");
        if hello.protocol != PROTOCOL || (ours(&program) && program != PROGRAM) {
            let version = PROGRAM.trim_start_matches("dsgd ");
            return Err(Status::failed_precondition(format!(
                "worker on {host} is {program} (protocol {}), server {version} (protocol \
                 {PROTOCOL}): run the same program on both",
                hello.protocol
            )));
        }
        Ok(Response::new(proto::HelloReply {
            protocol: PROTOCOL,
            program: PROGRAM.to_owned(),
            nonce: self.0.sessions.give_nonce().into(),
        }))
    }

    async fn join(
        &self,
        request: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::JoinReply>, Status> {
        let peer = peer(&request);
        let join = request.into_inner();
        if join.name.is_empty() || join.name.len() > MOST_NAME {
            return Err(Status::invalid_argument(format!(
                "a worker's name has 1 to {MOST_NAME} bytes"
            )));
        }
        let fresh = self.0.sessions.take_nonce(&join.nonce);
        let terms = &self.0.terms;
        let token = &terms.token;
        if !fresh || !token.accepts(&join.proof, &join.nonce, &join.name) {
            let why = if fresh {
                "wrong token"
            } else {
                "a nonce that was not given, or was used"
            };
            reject(peer.as_ref(), why);
            return Err(Status::unauthenticated(
                "wrong token, or a nonce that is not good any more",
            ));
        }
        let worker = self.0.terms.numbers.fetch_add(1, Ordering::Relaxed);
        let process = peer.as_ref().map(|peer| peer.number);
        let name = text::name(&join.name);
        debug!(worker, name, "joins");
        let session = self.0.sessions.open(worker, name, process)?;
        if let Some(peer) = peer {
            peer.admit();
        }
        Ok(Response::new(proto::JoinReply {
            worker,
            session,
            layout: self.0.tensors.clone(),
            dead_after_ms: self.0.terms.dead_after.as_millis() as u32,
            server: self.0.life.clone(),
            initial: terms.initial.map(Initial::to_proto),
        }))
    }

    async fn live(
        &self,
        request: Request<Streaming<Pulse>>,
    ) -> Result<Response<BoxStream<Pulse>>, Status> {
        let session = self.session(&request)?;
        let worker = session.worker;
        let Some(inbox) = lock(&session.outbox).take() else {
            return Err(Status::already_exists("this worker lives already"));
        };
        let name = session.name.clone();
        self.deliver(Message::Join {
            worker,
            name,
            pulses: true,
            inbox,
        });
        let (answers, stream) = channel(4);
        let service = self.clone();
        tokio::spawn(async move {
            let pulses = request.into_inner();
            service.follow(pulses, &session, answers).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn leave(
        &self,
        request: Request<proto::LeaveRequest>,
    ) -> Result<Response<proto::LeaveReply>, Status> {
        let worker = self.session(&request)?.worker;
        self.lose(worker, cut(request.into_inner().reason, MOST_REASON));
        Ok(Response::new(proto::LeaveReply {}))
    }
}

/// The calls that carry tensors.
impl Service {
    /// All calls.
    pub(super) fn routes(self) -> Routes {
        let bulk = Router::new()
            .route(framing::PULL, post(Self::pull))
            .route(framing::PUSH, post(Self::push))
            .route(framing::PUSH_STATE, post(Self::push_state))
            .route(framing::PULL_STATE, post(Self::pull_state))
            .with_state(self.clone());
        let small = DsgdServer::new(self).max_decoding_message_size(MOST_MESSAGE);
        let mut routes = Routes::new(small);
        let router = std::mem::take(routes.axum_router_mut());
        *routes.axum_router_mut() = router.merge(bulk);
        routes
    }

    async fn pull(State(service): State<Self>, request: axum::extract::Request) -> Reply {
        let given = service.give_work(Request::from_http(request)).await;
        given.unwrap_or_else(Status::into_http)
    }

    async fn push(State(service): State<Self>, request: axum::extract::Request) -> Reply {
        match service.take_outcome(Request::from_http(request)).await {
            Ok(()) => framing::reply(std::iter::once(framing::message(&proto::PushReply {}))),
            Err(status) => status.into_http(),
        }
    }

    async fn give_work(&self, request: Request<Body>) -> Result<Reply, Status> {
        let session = self.session(&request)?;
        session.uses(&traffic(&request));
        let integrity = integrity(&request);
        let mut messages = Messages::of_a_request(request.into_inner(), MOST_MESSAGE);
        let asked = timeout(STALL, messages.next::<proto::PullRequest>()).await;
        let asked = asked.map_err(|_| Status::deadline_exceeded("no request came"))??;
        let asked = asked.ok_or_else(|| Status::invalid_argument("a pull is one PullRequest"))?;
        let wait = Duration::from_millis(u64::from(asked.wait_ms)).min(LONGEST_PULL);
        trace!(worker = session.name, have = ?asked.have, "asks for work");
        let message = |part| framing::message(&PullPart { part: Some(part) });
        let only = |part| framing::reply(std::iter::once(message(part)));
        let Ok(mut inbox) = session.inbox.try_lock() else {
            return Err(Status::aborted("this worker pulls already"));
        };
        match timeout(wait, inbox.recv()).await {
            Err(_) => Ok(only(pull_part::Part::Wait(proto::Wait {}))),
            // Its session ends when it has read that and leaves: the server stays for so long.
            Ok(None) if self.0.terms.over.load(Ordering::Relaxed) => {
                Ok(only(pull_part::Part::Finished(proto::Finished {})))
            }
            Ok(None) => {
                self.0.sessions.close(session.worker);
                Err(Status::not_found(
                    "this worker was given up for lost; join anew",
                ))
            }
            Ok(Some(assignment)) => {
                let Assignment {
                    lease,
                    job,
                    mut params,
                    differences,
                    codecs,
                    others_state,
                    ..
                } = assignment;
                // What is new is of use to whoever has what it is new to.
                params.since = params.since.filter(|since| asked.have == Some(since.base));
                let pulled = match differences {
                    None => Pulled::Params(params.clone(), codecs.pull),
                    Some(known) => {
                        let missing = Missing::of(&asked, &known, &params, &session.rest).await;
                        Pulled::Differences(missing)
                    }
                };
                let (base, all) = (pulled.base(), pulled.differences());
                let head = words::assignment(lease, &job, &params, base, all, codecs);
                let bytes = pulled.bytes();
                session.pulls(bytes, pulled.catches_up());
                let span = debug_span!("pull", worker = session.name, lease);
                debug!(parent: &span, ?job, version = head.version, bytes, "begins");
                let codec = codecs.push;
                *lock(&session.current) = Some(Current {
                    lease,
                    job,
                    codec,
                    others_state,
                });
                let head = message(pull_part::Part::Assignment(head));
                let pieces = pulled.pieces(integrity).flat_map(framing::piece);
                let pieces = std::iter::once(head).chain(pieces);
                Ok(framing::reply(Sent::new(pieces, span)))
            }
        }
    }

    async fn take_outcome(&self, request: Request<Body>) -> Result<(), Status> {
        let session = self.session(&request)?;
        let worker = session.worker;
        let traffic = traffic(&request);
        session.uses(&traffic);
        let integrity = integrity(&request);
        let most = most_pushed(&self.0.terms.layout);
        let messages = Messages::of_a_request(request.into_inner(), most);
        let mut parts = Parts {
            messages,
            terms: &self.0.terms,
            sessions: &self.0.sessions,
            session: &session,
            traffic,
        };
        let head = pushed::head(&mut parts).await?;
        let span = debug_span!("push", worker = session.name);
        debug!(parent: &span, "begins");
        let outcome = pushed::outcome(integrity, head, &mut parts);
        let outcome = outcome.instrument(span.clone()).await;
        let outcome = outcome.inspect_err(|status| {
            // Its work is not done and it has it no more: what it had goes to another.
            self.lose(worker, format!("its push broke: {}", status.message()));
        })?;
        if matches!(outcome, Outcome::Panicked { .. }) {
            self.0.sessions.close(worker);
        }
        debug!(parent: &span, "has arrived");
        self.deliver(Message::Done { worker, outcome });
        Ok(())
    }
}

fn peer<T>(request: &Request<T>) -> Option<Peer> {
    request.extensions().get::<Peer>().cloned()
}

/// Who sees to it that what this caller sends and gets is whole.
fn integrity<T>(request: &Request<T>) -> Integrity {
    let peer = request.extensions().get::<Peer>();
    Integrity::of(peer.is_some_and(|peer| peer.tls))
}

/// What passes the connection of this call.
fn traffic<T>(request: &Request<T>) -> Traffic {
    peer(request).map(|peer| peer.traffic).unwrap_or_default()
}

fn reject(peer: Option<&Peer>, why: &'static str) {
    if let Some(peer) = peer {
        peer.reject(why);
    }
}
