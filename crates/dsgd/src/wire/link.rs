//! The worker's side of the conversation.
//!
//! [`Gate`] is a process's way to the server: two connections, one for what is large and one
//! for signs of life. [`Gate::join`] makes a worker of its caller, and the [`Remote`] that it
//! returns is the link that [`work`](crate::worker::work) speaks through. When anything breaks,
//! the link is of no use any more; its owner joins anew, if that makes sense.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc::channel;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::credentials::{Papers, Token};
use super::incoming::{IncomingParams, WireError};
use super::proto::dsgd_client::DsgdClient;
use super::proto::{self, PullPart, Pulse, PushPart, assignment, pull_part, push_part};
use super::{
    CALL, CHUNK, LONGEST_PULL, MOST_LAYOUT, MOST_MESSAGE, PROGRAM, PROTOCOL, SESSION, STALL,
    WINDOW, outgoing, tensors,
};
use crate::core::WorkerId;
use crate::params::{Gradient, Layout, Params};
use crate::task::{Batch, Stats};
use crate::worker::{Assignment, Job, Link, Outcome, Travel};

/// Why a worker cannot go on speaking to its server.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody answers.
    #[error("the server at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What was met there.
        reason: String,
    },
    /// The server does not want this worker, now or ever.
    #[error("the server refuses this worker: {reason}")]
    Refused {
        /// Why, in the server's words.
        reason: String,
    },
    /// The model here is not the server's.
    #[error(
        "the model here is not the server's: {reason}; both must have the same options and data"
    )]
    OtherModel {
        /// The first difference.
        reason: String,
    },
    /// The conversation broke.
    #[error("the conversation with the server broke: {reason}")]
    Broken {
        /// How.
        reason: String,
    },
}

impl LinkError {
    /// Whether joining anew may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Refused { .. } | Self::OtherModel { .. } => false,
        }
    }
}

impl From<Status> for LinkError {
    fn from(status: Status) -> Self {
        let reason = words(&status);
        match status.code() {
            Code::Unauthenticated | Code::FailedPrecondition | Code::PermissionDenied => {
                Self::Refused { reason }
            }
            _ => Self::Broken { reason },
        }
    }
}

impl From<WireError> for LinkError {
    fn from(error: WireError) -> Self {
        let reason = error.to_string();
        Self::Broken { reason }
    }
}

/// How a server can be reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Way {
    /// `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`.
    pub address: String,
    /// For `https`.
    pub papers: Option<Papers>,
    /// The run's secret.
    pub token: Token,
    /// Name of this host, for messages.
    pub host: String,
}

/// A process's connections to the server.
#[derive(Clone)]
pub struct Gate {
    way: Way,
    bulk: Channel,
    life: Channel,
    runtime: Handle,
    /// When the server was last heard of.
    heard: Arc<Mutex<Instant>>,
    /// Sessions of this process that have not ended.
    sessions: Arc<Mutex<BTreeMap<WorkerId, Session>>>,
}

type Session = MetadataValue<Ascii>;

impl Gate {
    /// Opens the connections.
    pub async fn open(way: &Way) -> Result<Self, LinkError> {
        Ok(Self {
            bulk: connect(way).await?,
            life: connect(way).await?,
            way: way.clone(),
            runtime: Handle::current(),
            heard: Arc::new(Mutex::new(Instant::now())),
            sessions: Arc::default(),
        })
    }

    /// Time since the server was last heard of.
    pub fn silence(&self) -> Duration {
        lock(&self.heard).elapsed()
    }

    /// Says goodbye for every worker of this process, as far as the server still listens.
    pub async fn leave_all(&self, reason: &str) {
        let sessions = std::mem::take(&mut *lock(&self.sessions));
        for session in sessions.values() {
            let _ = self.leave(session, reason).await;
        }
    }

    /// Says goodbye: what the worker was given goes to another.
    async fn leave(&self, session: &Session, reason: &str) -> Result<(), LinkError> {
        let reason = reason.to_owned();
        let request = with_session(session, proto::LeaveRequest { reason });
        let mut client = DsgdClient::new(self.life.clone());
        call(client.leave(request)).await?;
        Ok(())
    }

    /// [`Gate::join`] for a thread that is not the event loop's.
    pub fn join_blocking(&self, name: &str, layout: &Arc<Layout>) -> Result<Remote, LinkError> {
        self.runtime.block_on(self.join(name, layout))
    }

    /// Makes a worker of the caller. `layout` must be the server's.
    pub async fn join(&self, name: &str, layout: &Arc<Layout>) -> Result<Remote, LinkError> {
        let client = DsgdClient::new(self.life.clone()).max_decoding_message_size(MOST_LAYOUT);
        let mut client = client;
        let hello = call(client.hello(proto::HelloRequest {
            protocol: PROTOCOL,
            program: PROGRAM.to_owned(),
            host: self.way.host.clone(),
        }));
        let nonce = hello.await?.nonce;
        let proof = self.way.token.proof(&nonce, name).into();
        let name = name.to_owned();
        let reply = call(client.join(proto::JoinRequest { nonce, proof, name })).await?;
        check_layout(&tensors(layout), &reply.layout)?;
        let session: MetadataValue<Ascii> =
            reply.session.parse().map_err(|_| LinkError::Broken {
                reason: "a session that is none".to_owned(),
            })?;
        let pulse_every = Duration::from_millis(u64::from(reply.dead_after_ms.max(40)) / 4);
        let (lives, life) = self.live(client, &session, pulse_every).await?;
        lock(&self.sessions).insert(reply.worker, session.clone());
        Ok(Remote {
            worker: reply.worker,
            // Parameters come in chunks, but a row of a table is sent whole.
            client: DsgdClient::new(self.bulk.clone()).max_decoding_message_size(MOST_MESSAGE),
            session,
            gate: self.clone(),
            lives,
            life,
            leaving: Arc::default(),
            params: Some(Params::zeros(Arc::clone(layout)).into()),
            gradient: None,
        })
    }

    /// Sends pulses, until dropped, and notes the answers.
    async fn live(
        &self,
        mut client: DsgdClient<Channel>,
        session: &Session,
        every: Duration,
    ) -> Result<(Arc<AtomicBool>, AbortHandle), LinkError> {
        let (pulses, stream) = channel(1);
        let _ = pulses.send(Pulse {}).await;
        let request = with_session(session, ReceiverStream::new(stream));
        let mut answers = call(client.live(request)).await?;
        let lives = Arc::new(AtomicBool::new(true));
        let (alive, heard) = (Arc::clone(&lives), Arc::clone(&self.heard));
        let task = self.runtime.spawn(async move {
            let beat = async {
                loop {
                    tokio::time::sleep(every).await;
                    if pulses.send(Pulse {}).await.is_err() {
                        return;
                    }
                }
            };
            let listen = async {
                while let Ok(Some(Pulse {})) = answers.message().await {
                    *lock(&heard) = Instant::now();
                }
            };
            tokio::select! { () = beat => {}, () = listen => {} }
            alive.store(false, Ordering::Relaxed);
        });
        Ok((lives, task.abort_handle()))
    }
}

/// A worker's link to a server elsewhere.
pub struct Remote {
    worker: WorkerId,
    client: DsgdClient<Channel>,
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
                    stats: Some(stats(report.stats)),
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
                let stats = Some(stats(found));
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
                return Err(stalled("a push"));
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
            let mut parts = parts.map_err(|_| stalled("a pull"))??.into_inner();
            match next(&mut parts).await? {
                Some(pull_part::Part::Wait(_)) => {}
                Some(pull_part::Part::Finished(_)) => return Ok(None),
                Some(pull_part::Part::Assignment(given)) => {
                    break (given.lease, job(given.work)?, parts);
                }
                _ => {
                    return Err(unexpected(
                        "a pull that begins with neither work nor a word",
                    ));
                }
            }
        };
        let started = Instant::now();
        let mut params = self
            .params
            .take()
            .ok_or_else(|| unexpected("two pulls at once"))?;
        let mut incoming = IncomingParams::new(Arc::make_mut(&mut params));
        while let Some(part) = next(&mut parts).await? {
            match part {
                pull_part::Part::Chunk(chunk) => incoming.chunk(&chunk)?,
                _ => return Err(unexpected("a pull with something else than parameters")),
            }
            *lock(&self.gate.heard) = Instant::now();
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
        lock(&self.gate.sessions).remove(&self.worker);
        self.life.abort();
    }
}

impl Link for Remote {
    type Error = LinkError;

    fn exchange(&mut self, outcome: Option<Outcome>) -> Result<Option<Assignment>, LinkError> {
        let runtime = self.gate.runtime.clone();
        runtime.block_on(async {
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
        })
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

/// Connects within the time of a call.
async fn connect(way: &Way) -> Result<Channel, LinkError> {
    let unreachable = |reason: String| LinkError::Unreachable {
        address: way.address.clone(),
        reason,
    };
    let endpoint = Endpoint::from_shared(way.address.clone());
    let mut endpoint = endpoint.map_err(|error| unreachable(reasons(&error)))?;
    if let Some(papers) = &way.papers {
        let tls = endpoint.tls_config(papers.client());
        endpoint = tls.map_err(|error| unreachable(reasons(&error)))?;
    }
    let endpoint = endpoint
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(CHUNK as u32)
        .tcp_nodelay(true)
        .connect_timeout(CALL);
    match timeout(CALL, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(unreachable(reasons(&error))),
        Err(_) => Err(unreachable("no answer".to_owned())),
    }
}

fn with_session<T>(session: &Session, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(SESSION, session.clone());
    request
}

/// A small call and its deadline.
async fn call<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, LinkError> {
    let reply = timeout(CALL, call).await.map_err(|_| stalled("a call"))?;
    Ok(reply?.into_inner())
}

/// The next part of a pull, which must come in time.
async fn next(
    parts: &mut tonic::Streaming<PullPart>,
) -> Result<Option<pull_part::Part>, LinkError> {
    let part = timeout(STALL, parts.message()).await;
    match part.map_err(|_| stalled("a pull"))?? {
        None => Ok(None),
        Some(PullPart { part: Some(part) }) => Ok(Some(part)),
        Some(PullPart { part: None }) => Err(unexpected("an empty part")),
    }
}

fn job(work: Option<assignment::Work>) -> Result<Job, LinkError> {
    match work {
        Some(assignment::Work::Train(train)) => Ok(Job::Train(Batch {
            index: train.batch as usize,
            epoch: train.epoch,
            seed: train.seed,
        })),
        Some(assignment::Work::Validate(validate)) => Ok(Job::Validate(validate.batch as usize)),
        None => Err(unexpected("an assignment without work")),
    }
}

fn stats(stats: Stats) -> proto::Stats {
    proto::Stats {
        loss: stats.loss,
        count: stats.count,
        examples: stats.examples,
        source_tokens: stats.source_tokens,
        target_tokens: stats.target_tokens,
    }
}

/// The first difference between two layouts, in words.
fn check_layout(ours: &[proto::Tensor], theirs: &[proto::Tensor]) -> Result<(), LinkError> {
    let other = |reason| Err(LinkError::OtherModel { reason });
    if let Some((our, their)) = ours.iter().zip(theirs).find(|(our, their)| our != their) {
        return other(format!(
            "tensor {} {:?} here is {} {:?} there",
            our.name, our.shape, their.name, their.shape
        ));
    }
    if ours.len() != theirs.len() {
        return other(format!(
            "{} tensors here, {} there",
            ours.len(),
            theirs.len()
        ));
    }
    Ok(())
}

fn stalled(what: &str) -> LinkError {
    LinkError::Broken {
        reason: format!("{what} got no answer in time"),
    }
}

fn unexpected(what: &str) -> LinkError {
    LinkError::Broken {
        reason: format!("the server sent {what}"),
    }
}

/// The server's words, or for a broken connection all that is known of it.
fn words(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => format!("{}: {}", status.message(), reasons(source)),
        None => status.message().to_owned(),
    }
}

/// An error and all that it comes from.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
