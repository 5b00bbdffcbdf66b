//! A process's side of the conversation: its connections, and who joins through them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc::channel;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tower::service_fn;
use tracing::debug;

use super::endpoint::{Endpoint, connect};
use super::error::LinkError;
use crate::mutex::lock;
use crate::wire::integrity::Integrity;
use crate::wire::paced::Traffic;
use crate::wire::proto::dsgd_client::DsgdClient;
use crate::wire::proto::{self, Pulse};
use crate::wire::words::tensors;
use crate::wire::{
    CALL, CALL_IN_A_CROWD, MOST_LAYOUT, PROGRAM, PROTOCOL, SESSION, keep_freed_memory,
};
use dsgd_core::core::WorkerId;
use dsgd_core::params::Layout;

/// A process's connection to the server, and who has joined through it.
#[derive(Clone)]
pub struct Client {
    endpoint: Endpoint,
    life: Channel,
    runtime: Handle,
    /// When the server last answered.
    last_reply: Arc<Mutex<Instant>>,
    /// Sessions of this process that have not ended.
    sessions: Arc<Mutex<BTreeMap<WorkerId, SessionHeader>>>,
}

/// The metadata of calls.
pub(super) type SessionHeader = HeaderValue;

impl Client {
    /// Opens the connections.
    pub async fn open(endpoint: &Endpoint) -> Result<Self, LinkError> {
        keep_freed_memory();
        Ok(Self {
            life: endpoint.connect().await?,
            endpoint: endpoint.clone(),
            runtime: Handle::current(),
            last_reply: Arc::new(Mutex::new(Instant::now())),
            sessions: Arc::default(),
        })
    }

    /// Where signs of life go out from.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Time since the server last answered.
    pub fn silence(&self) -> Duration {
        lock(&self.last_reply).elapsed()
    }

    /// Notes an answer of the server.
    pub(super) fn note_reply(&self) {
        *lock(&self.last_reply) = Instant::now();
    }

    /// How long a small call may take: what other workers of this process send is in its way.
    fn patience(&self) -> Duration {
        match lock(&self.sessions).len() {
            0 => CALL,
            _ => CALL_IN_A_CROWD,
        }
    }

    /// A worker of this process has ended.
    pub(super) fn forget(&self, worker: WorkerId) {
        lock(&self.sessions).remove(&worker);
    }

    /// Leaves for every worker of this process, as far as the server still listens.
    pub async fn leave_all(&self, reason: &str) {
        let sessions = std::mem::take(&mut *lock(&self.sessions));
        for session in sessions.values() {
            let _ = self.leave(session, reason).await;
        }
    }

    /// Leaves: what the worker was given goes to another.
    pub(super) async fn leave(
        &self,
        session: &SessionHeader,
        reason: &str,
    ) -> Result<(), LinkError> {
        let reason = reason.to_owned();
        let request = with_session(session, proto::LeaveRequest { reason });
        let mut client = DsgdClient::new(self.life.clone());
        call(CALL, client.leave(request)).await?;
        Ok(())
    }

    /// Makes a worker of the caller. `layout` must be the server's.
    pub(super) async fn enter(&self, name: &str, layout: &Layout) -> Result<Entered, LinkError> {
        let client = DsgdClient::new(self.life.clone()).max_decoding_message_size(MOST_LAYOUT);
        let mut client = client;
        let patience = self.patience();
        let hello = call(
            patience,
            client.hello(proto::HelloRequest {
                protocol: PROTOCOL,
                program: PROGRAM.to_owned(),
                host: self.endpoint.host.clone(),
            }),
        );
        let nonce = hello.await?.nonce;
        let proof = self.endpoint.token.proof(&nonce, name).into();
        let name = name.to_owned();
        let reply = call(
            patience,
            client.join(proto::JoinRequest { nonce, proof, name }),
        )
        .await?;
        check_layout(&tensors(layout), &reply.layout)?;
        let session: SessionHeader = reply.session.parse().map_err(|_| LinkError::Broken {
            reason: "a session that is none".to_owned(),
        })?;
        let own = Own::new()?;
        let (bulk, traffic) = {
            let _context = own.runtime().enter();
            self.connection()?
        };
        let pulse_every = Duration::from_millis(u64::from(reply.dead_after_ms.max(40)) / 4);
        let life = self.send_pulses(client, &session, pulse_every).await?;
        debug!(worker = reply.worker, "has joined");
        lock(&self.sessions).insert(reply.worker, session.clone());
        Ok(Entered {
            worker: reply.worker,
            bulk,
            own,
            session,
            integrity: Integrity::of(self.endpoint.identity.is_some()),
            traffic,
            life,
            initial: reply.initial,
            server: reply.server,
        })
    }

    /// A connection for what is large, which turns in the event loop that this is called in; and what passes it.
    pub(super) fn connection(&self) -> Result<(Channel, Traffic), LinkError> {
        let traffic = Traffic::default();
        let (endpoint, transport) = (self.endpoint.clone(), self.endpoint.transport()?);
        let passes = traffic.clone();
        let connector = service_fn(move |at| connect(endpoint.clone(), at, passes.clone()));
        Ok((transport.connect_with_connector_lazy(connector), traffic))
    }

    /// Sends pulses, until dropped, and notes the answers.
    async fn send_pulses(
        &self,
        mut client: DsgdClient<Channel>,
        session: &SessionHeader,
        every: Duration,
    ) -> Result<Life, LinkError> {
        let (pulses, stream) = channel(1);
        let _ = pulses.send(Pulse::default()).await;
        let request = with_session(session, ReceiverStream::new(stream));
        let mut answers = call(self.patience(), client.live(request)).await?;
        let holds = Arc::new(AtomicBool::new(true));
        let arrived = Arc::new(AtomicU64::new(0));
        let (alive, last_reply) = (Arc::clone(&holds), Arc::clone(&self.last_reply));
        let seen = Arc::clone(&arrived);
        let task = self.runtime.spawn(async move {
            let beat = async {
                loop {
                    tokio::time::sleep(every).await;
                    if pulses.send(Pulse::default()).await.is_err() {
                        return;
                    }
                }
            };
            let listen = async {
                while let Ok(Some(pulse)) = answers.message().await {
                    *lock(&last_reply) = Instant::now();
                    seen.store(pulse.arrived, Ordering::Relaxed);
                }
            };
            tokio::select! { () = beat => {}, () = listen => {} }
            debug!("signs of life do not arrive any more");
            alive.store(false, Ordering::Relaxed);
        });
        let task = task.abort_handle();
        Ok(Life {
            holds,
            arrived,
            task,
        })
    }
}

/// A worker that has joined.
pub(super) struct Entered {
    /// Its number.
    pub(super) worker: WorkerId,
    /// For what is large.
    pub(super) bulk: Channel,
    pub(super) own: Own,
    pub(super) session: SessionHeader,
    pub(super) integrity: Integrity,
    /// What passes the connection for what is large.
    pub(super) traffic: Traffic,
    pub(super) life: Life,
    /// What the run began with, if that can be made here.
    pub(super) initial: Option<proto::Initial>,
    /// The life of the server.
    pub(super) server: String,
}

/// A worker's own event loop: it turns in the worker's thread, while the worker waits for it. What
/// arrives is used where it was received, and no other thread has to be woken for it.
pub(super) struct Own(Option<Runtime>);

impl Own {
    fn new() -> Result<Self, LinkError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| LinkError::Broken {
            reason: format!("no event loop to be had: {error}"),
        })?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn runtime(&self) -> &Runtime {
        // Taken in `drop` alone.
        self.0.as_ref().expect("an event loop until it is dropped")
    }
}

impl Drop for Own {
    /// Whoever drops it may be in another event loop, which must not wait: tokio panics there.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What keeps a worker alive for the server.
pub(super) struct Life {
    /// Whether the server still takes our pulses.
    pub(super) holds: Arc<AtomicBool>,
    /// Bytes that have arrived there, as it says.
    pub(super) arrived: Arc<AtomicU64>,
    pub(super) task: AbortHandle,
}

fn with_session<T>(session: &SessionHeader, message: T) -> Request<T> {
    let shown = HeaderMap::from_iter([(HeaderName::from_static(SESSION), session.clone())]);
    let mut request = Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(shown);
    request
}

/// A small call and its deadline.
async fn call<T>(
    patience: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, LinkError> {
    let reply = timeout(patience, call)
        .await
        .map_err(|_| LinkError::stalled("a call"))?;
    Ok(reply?.into_inner())
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
