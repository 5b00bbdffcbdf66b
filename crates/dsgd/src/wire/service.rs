//! The server's side of the conversation: what workers say becomes letters to the server.
//!
//! A worker has one assignment at a time, and what it pushes must be of that one: so nobody
//! can touch what belongs to another. The end of its `Live` stream is the end of its session.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, once};
use tonic::transport::server::TlsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use super::credentials::{Token, hex, random};
use super::incoming::{IncomingGradient, WireError};
use super::listen::Peer;
use super::proto::dsgd_server::Dsgd;
use super::proto::{self, PullPart, Pulse, PushPart, pull_part, push_part};
use super::{
    LONGEST_PULL, MOST_NAME, MOST_REASON, PROGRAM, PROTOCOL, SESSION, STALL, cut, outgoing, tensors,
};
use crate::core::{LeaseId, Report, WorkerId};
use crate::event::{Cost, Event};
use crate::params::{Gradient, Layout, Part};
use crate::server::Letter;
use crate::task::Stats;
use crate::worker::{Assignment, Buffers, Job, Outcome};

/// A nonce is good for this long.
const NONCE: Duration = Duration::from_secs(30);

/// Nonces at one time; with more, the oldest is forgotten.
const MOST_NONCES: usize = 4096;

/// A session whose worker does not go on to `Live` is void after this time.
const UNBORN: Duration = Duration::from_secs(30);

/// Refused connections are told of this often at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Chunks of a transfer count as signs of life this often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// A count above this is no count: sums of them must fit.
const MOST_COUNT: u64 = 1 << 40;

/// What a service is made of.
pub struct Terms {
    /// The run's secret.
    pub token: Token,
    /// The model's tensors.
    pub layout: Arc<Layout>,
    /// Silence after which a worker is lost.
    pub dead_after: Duration,
    /// Where gradients are received.
    pub buffers: Buffers,
    /// The server's inbox.
    pub letters: Sender<Letter>,
    /// The next worker's number.
    pub numbers: Arc<AtomicU32>,
    /// Whether the run is over.
    pub over: Arc<AtomicBool>,
}

/// The gRPC service. Clones are the same service.
#[derive(Clone)]
pub struct Service(Arc<Shared>);

struct Shared {
    terms: Terms,
    tensors: Vec<proto::Tensor>,
    // Locked for a look-up, never across a wait.
    desk: Mutex<Desk>,
}

/// Who has been given what to join with.
#[derive(Default)]
struct Desk {
    nonces: HashMap<Vec<u8>, Instant>,
    sessions: HashMap<String, Arc<Session>>,
    refused: u64,
    told: Option<Instant>,
}

struct Session {
    worker: WorkerId,
    name: String,
    joined: Instant,
    /// Goes to the server with the first pulse.
    outbox: Mutex<Option<UnboundedSender<Assignment>>>,
    /// A worker pulls one thing at a time: the lock is its turn.
    inbox: tokio::sync::Mutex<UnboundedReceiver<Assignment>>,
    /// What it computes now.
    current: Mutex<Option<(LeaseId, Job)>>,
}

impl Service {
    /// A service that has no worker yet.
    pub fn new(terms: Terms) -> Self {
        Self(Arc::new(Shared {
            tensors: tensors(&terms.layout),
            terms,
            desk: Mutex::default(),
        }))
    }

    /// Workers whose session holds.
    pub fn sessions(&self) -> usize {
        self.desk().sessions.len()
    }

    /// Connections that were refused so far.
    pub fn refusals(&self) -> u64 {
        self.desk().refused
    }

    /// A connection came to nothing; the server hears of it, now and then.
    pub(super) fn refused(&self, why: &str, from: &str) {
        let mut desk = self.desk();
        desk.refused += 1;
        if desk.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        desk.told = Some(Instant::now());
        let message = format!(
            "refused a connection from {from}: {why}; {} refused so far",
            desk.refused
        );
        drop(desk);
        self.tell(Letter::Tell(Event::Warning { message }));
    }

    /// Whether the server still reads.
    fn tell(&self, letter: Letter) -> bool {
        self.0.terms.letters.send(letter).is_ok()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that a call belongs to.
    fn session<T>(&self, request: &Request<T>) -> Result<Arc<Session>, Status> {
        let session = request
            .metadata()
            .get(SESSION)
            .and_then(|s| s.to_str().ok());
        let peer = peer(request);
        let Some(session) = session else {
            turn_down(peer.as_ref(), "it has no session");
            return Err(Status::unauthenticated(
                "no session: join first, and send the session as metadata dsgd-session",
            ));
        };
        let found = self.desk().sessions.get(session).cloned();
        let found = found.ok_or_else(|| {
            turn_down(peer.as_ref(), "its session is void");
            Status::not_found("this session is void: its worker was given up for lost; join anew")
        })?;
        if let Some(peer) = peer {
            peer.admit();
        }
        Ok(found)
    }

    fn end_session(&self, worker: WorkerId) {
        self.desk().sessions.retain(|_, s| s.worker != worker);
    }

    /// Follows a worker's pulses to their end.
    async fn follow(&self, mut pulses: Streaming<Pulse>, worker: WorkerId, answers: Answers) {
        // The core notices silence; this only frees what is here.
        let patience = self.0.terms.dead_after * 3;
        let reason = loop {
            match timeout(patience, pulses.message()).await {
                Ok(Ok(Some(Pulse {}))) => {
                    if !self.tell(Letter::Alive { worker }) {
                        return;
                    }
                    // Who does not take the answers has enough of them.
                    let _ = answers.try_send(Ok(Pulse {}));
                }
                Ok(Ok(None)) => break "it closed its connection",
                Ok(Err(_)) => break "its connection broke",
                Err(_) => break "not heard of for too long",
            }
        };
        self.end_session(worker);
        let reason = reason.to_owned();
        self.tell(Letter::Lost { worker, reason });
    }

    async fn receive(
        &self,
        parts: &mut Streaming<PushPart>,
        worker: WorkerId,
    ) -> Result<(Box<Gradient>, f64), Status> {
        let mut incoming = IncomingGradient::new(self.0.terms.buffers.take());
        match self.receive_into(&mut incoming, parts, worker).await {
            Ok(()) => incoming.finish().map_err(|(error, buffer)| {
                self.0.terms.buffers.give(buffer);
                invalid(&error)
            }),
            Err(status) => {
                self.0.terms.buffers.give(incoming.into_buffer());
                Err(status)
            }
        }
    }

    async fn receive_into(
        &self,
        incoming: &mut IncomingGradient,
        parts: &mut Streaming<PushPart>,
        worker: WorkerId,
    ) -> Result<(), Status> {
        let mut last_sign = Instant::now();
        while let Some(part) = next(parts).await? {
            match part {
                push_part::Part::Chunk(chunk) => incoming.chunk(&chunk),
                push_part::Part::Rows(rows) => incoming.rows(&rows),
                _ => return Err(Status::invalid_argument("no part of a gradient")),
            }
            .map_err(|error| invalid(&error))?;
            if last_sign.elapsed() > SIGN_OF_LIFE {
                last_sign = Instant::now();
                self.tell(Letter::Alive { worker });
            }
        }
        Ok(())
    }
}

type Answers = tokio::sync::mpsc::Sender<Result<Pulse, Status>>;

impl Session {
    /// Whether the worker computes this now; it does not any more afterwards.
    fn finish(&self, lease: LeaseId, train: bool) -> Result<(), Status> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match *current {
            Some((own, job)) if own == lease && matches!(job, Job::Train(_)) == train => {
                *current = None;
                Ok(())
            }
            Some((own, _)) => Err(Status::invalid_argument(format!(
                "{} speaks of lease {lease}, but has lease {own}, of another kind perhaps",
                self.name
            ))),
            None => Err(Status::invalid_argument(format!(
                "{} speaks of lease {lease}, but has none",
                self.name
            ))),
        }
    }
}

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Dsgd for Service {
    type LiveStream = ReceiverStream<Result<Pulse, Status>>;
    type PullStream = Parts<PullPart>;

    async fn hello(
        &self,
        request: Request<proto::HelloRequest>,
    ) -> Result<Response<proto::HelloReply>, Status> {
        let hello = request.into_inner();
        let host = cut(hello.host, MOST_NAME);
        let program = cut(hello.program, MOST_NAME);
        let ours = |name: &str| name.starts_with("dsgd ");
        if hello.protocol != PROTOCOL || (ours(&program) && program != PROGRAM) {
            let version = PROGRAM.trim_start_matches("dsgd ");
            return Err(Status::failed_precondition(format!(
                "worker on {host} is {program} (protocol {}), server {version} (protocol \
                 {PROTOCOL}): run the same program on both",
                hello.protocol
            )));
        }
        let nonce = random().to_vec();
        let mut desk = self.desk();
        desk.nonces.retain(|_, given| given.elapsed() < NONCE);
        if desk.nonces.len() >= MOST_NONCES {
            let oldest = desk.nonces.iter().min_by_key(|(_, given)| **given);
            let oldest = oldest.map(|(nonce, _)| nonce.clone());
            oldest.and_then(|nonce| desk.nonces.remove(&nonce));
        }
        desk.nonces.insert(nonce.clone(), Instant::now());
        Ok(Response::new(proto::HelloReply {
            protocol: PROTOCOL,
            program: PROGRAM.to_owned(),
            nonce: nonce.into(),
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
        let given = self.desk().nonces.remove(&join.nonce[..]);
        let fresh = given.is_some_and(|given| given.elapsed() < NONCE);
        if !fresh
            || !self
                .0
                .terms
                .token
                .accepts(&join.proof, &join.nonce, &join.name)
        {
            turn_down(
                peer.as_ref(),
                if fresh {
                    "wrong token"
                } else {
                    "a nonce that was not given, or was used"
                },
            );
            return Err(Status::unauthenticated(
                "wrong token, or a nonce that is not good any more",
            ));
        }
        let worker = self.0.terms.numbers.fetch_add(1, Ordering::Relaxed);
        let (outbox, inbox) = unbounded_channel();
        let session = hex(&random());
        let mut desk = self.desk();
        desk.sessions.retain(|_, session| {
            let born = lock(&session.outbox).is_none();
            born || session.joined.elapsed() < UNBORN
        });
        desk.sessions.insert(
            session.clone(),
            Arc::new(Session {
                worker,
                name: join.name,
                joined: Instant::now(),
                outbox: Mutex::new(Some(outbox)),
                inbox: tokio::sync::Mutex::new(inbox),
                current: Mutex::default(),
            }),
        );
        drop(desk);
        if let Some(peer) = peer {
            peer.admit();
        }
        Ok(Response::new(proto::JoinReply {
            worker,
            session,
            layout: self.0.tensors.clone(),
            dead_after_ms: self.0.terms.dead_after.as_millis() as u32,
        }))
    }

    async fn live(
        &self,
        request: Request<Streaming<Pulse>>,
    ) -> Result<Response<Self::LiveStream>, Status> {
        let session = self.session(&request)?;
        let worker = session.worker;
        let Some(inbox) = lock(&session.outbox).take() else {
            return Err(Status::already_exists("this worker lives already"));
        };
        let name = session.name.clone();
        self.tell(Letter::Join {
            worker,
            name,
            inbox,
        });
        let (answers, stream) = channel(4);
        let service = self.clone();
        tokio::spawn(async move { service.follow(request.into_inner(), worker, answers).await });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn pull(
        &self,
        request: Request<proto::PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let session = self.session(&request)?;
        let wait = Duration::from_millis(u64::from(request.into_inner().wait_ms));
        let part = |part| PullPart { part: Some(part) };
        let only = |only| -> Parts<PullPart> { Box::pin(once(Ok(part(only)))) };
        let Ok(mut inbox) = session.inbox.try_lock() else {
            return Err(Status::aborted("this worker pulls already"));
        };
        let stream = match timeout(wait.min(LONGEST_PULL), inbox.recv()).await {
            Err(_) => only(pull_part::Part::Wait(proto::Wait {})),
            Ok(None) if self.0.terms.over.load(Ordering::Relaxed) => {
                self.end_session(session.worker);
                only(pull_part::Part::Finished(proto::Finished {}))
            }
            Ok(None) => {
                self.end_session(session.worker);
                return Err(Status::not_found(
                    "this worker was given up for lost; join anew",
                ));
            }
            Ok(Some(assignment)) => {
                let Assignment {
                    lease, job, params, ..
                } = assignment;
                *lock(&session.current) = Some((lease, job));
                let first = part(pull_part::Part::Assignment(assignment_words(lease, job)));
                let chunks = outgoing::params(&params);
                let chunks = chunks.map(move |chunk| part(pull_part::Part::Chunk(chunk)));
                let parts = std::iter::once(first).chain(chunks).map(Ok);
                Box::pin(tokio_stream::iter(parts))
            }
        };
        Ok(Response::new(stream))
    }

    async fn push(
        &self,
        request: Request<Streaming<PushPart>>,
    ) -> Result<Response<proto::PushReply>, Status> {
        let session = self.session(&request)?;
        let worker = session.worker;
        let mut parts = request.into_inner();
        let first = next(&mut parts).await?;
        let outcome = match first {
            Some(push_part::Part::Gradient(head)) => {
                session.finish(head.lease, true)?;
                let stats = stats(head.stats)?;
                let (gradient, grad_norm) = self.receive(&mut parts, worker).await?;
                let cost = Cost {
                    compute_secs: secs(head.compute_secs),
                    pull_secs: secs(head.pull_secs),
                    push_secs: secs(head.push_secs),
                    wait_secs: secs(head.wait_secs),
                    bytes: params_bytes(&self.0.terms.layout) + gradient_bytes(&gradient),
                };
                let report = Report {
                    stats,
                    grad_norm,
                    cost,
                };
                Outcome::Gradient {
                    lease: head.lease,
                    report,
                    gradient,
                }
            }
            Some(push_part::Part::Evaluated(evaluated)) => {
                session.finish(evaluated.lease, false)?;
                Outcome::Evaluated {
                    lease: evaluated.lease,
                    stats: stats(evaluated.stats)?,
                }
            }
            Some(push_part::Part::Failed(failed)) => {
                let lease = failed.lease;
                let train = session.finish(lease, true);
                train.or_else(|_| session.finish(lease, false))?;
                let reason = cut(failed.reason, MOST_REASON);
                match failed.fatal {
                    true => Outcome::Panicked { lease, reason },
                    false => Outcome::Failed { lease, reason },
                }
            }
            _ => {
                return Err(Status::invalid_argument(
                    "a push begins with Gradient, Evaluated or Failed",
                ));
            }
        };
        if matches!(outcome, Outcome::Panicked { .. }) {
            self.end_session(worker);
        }
        self.tell(Letter::Done { worker, outcome });
        Ok(Response::new(proto::PushReply {}))
    }

    async fn leave(
        &self,
        request: Request<proto::LeaveRequest>,
    ) -> Result<Response<proto::LeaveReply>, Status> {
        let worker = self.session(&request)?.worker;
        let reason = cut(request.into_inner().reason, MOST_REASON);
        self.end_session(worker);
        self.tell(Letter::Lost { worker, reason });
        Ok(Response::new(proto::LeaveReply {}))
    }
}

fn assignment_words(lease: LeaseId, job: Job) -> proto::Assignment {
    use proto::assignment::Work;
    let work = match job {
        Job::Train(batch) => Work::Train(proto::Train {
            epoch: batch.epoch,
            batch: batch.index as u64,
            seed: batch.seed,
        }),
        Job::Validate(batch) => Work::Validate(proto::Validate {
            batch: batch as u64,
        }),
    };
    proto::Assignment {
        lease,
        work: Some(work),
    }
}

/// Bytes of the tensors that a pull brings.
fn params_bytes(layout: &Layout) -> u64 {
    (layout.len() * size_of::<f32>()) as u64
}

/// Bytes of the tensors and rows that a push brings.
fn gradient_bytes(gradient: &Gradient) -> u64 {
    let bytes = |part: &Part| match part {
        Part::Dense(values) => size_of_val(&values[..]),
        Part::Rows(rows) => size_of_val(rows.indices()) + size_of_val(rows.values()),
    };
    gradient.parts().iter().map(bytes).sum::<usize>() as u64
}

/// The next part of a push, which must come in time.
async fn next(parts: &mut Streaming<PushPart>) -> Result<Option<push_part::Part>, Status> {
    let part = timeout(STALL, parts.message()).await;
    let part = part.map_err(|_| Status::deadline_exceeded("nothing came for 30 s"))??;
    match part {
        None => Ok(None),
        Some(PushPart { part: Some(part) }) => Ok(Some(part)),
        Some(PushPart { part: None }) => Err(Status::invalid_argument("an empty part")),
    }
}

fn stats(stats: Option<proto::Stats>) -> Result<Stats, Status> {
    let Some(stats) = stats else {
        return Err(Status::invalid_argument("no stats"));
    };
    let counts = [
        stats.count,
        stats.examples,
        stats.source_tokens,
        stats.target_tokens,
    ];
    if counts.iter().any(|&count| count > MOST_COUNT) {
        return Err(Status::invalid_argument("a count above 2^40"));
    }
    Ok(Stats {
        loss: stats.loss,
        count: stats.count,
        examples: stats.examples,
        source_tokens: stats.source_tokens,
        target_tokens: stats.target_tokens,
    })
}

/// Seconds that make sense; others are none.
fn secs(secs: f64) -> f64 {
    if secs.is_finite() {
        secs.clamp(0.0, 1e9)
    } else {
        0.0
    }
}

fn invalid(error: &WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn peer<T>(request: &Request<T>) -> Option<Peer> {
    let extensions = request.extensions();
    let behind_tls = || {
        extensions
            .get::<TlsConnectInfo<Peer>>()
            .map(|tls| tls.get_ref().clone())
    };
    extensions.get::<Peer>().cloned().or_else(behind_tls)
}

fn turn_down(peer: Option<&Peer>, why: &'static str) {
    if let Some(peer) = peer {
        peer.turn_down(why);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
