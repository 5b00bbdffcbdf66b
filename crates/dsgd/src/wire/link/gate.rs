//! A process's way to the server: its connections, and who joins through them.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc::channel;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tower::service_fn;

use super::error::stranger;
use super::{LinkError, Remote};
use crate::core::WorkerId;
use crate::params::{Layout, Params};
use crate::text::causes;
use crate::wire::credentials::{Papers, Token};
use crate::wire::integrity::Integrity;
use crate::wire::paced::{Connection, Paced, Traffic};
use crate::wire::proto::dsgd_client::DsgdClient;
use crate::wire::proto::{self, Pulse};
use crate::wire::words::tensors;
use crate::wire::{
    CALL, CALL_IN_A_CROWD, FRAME, MOST_LAYOUT, PROGRAM, PROTOCOL, SESSION, WINDOW,
    keep_freed_memory, tls,
};

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

/// A process's way to the server, and its connection for signs of life.
#[derive(Clone)]
pub struct Gate {
    way: Way,
    life: Channel,
    runtime: Handle,
    /// When the server was last heard of.
    heard: Arc<Mutex<Instant>>,
    /// Sessions of this process that have not ended.
    sessions: Arc<Mutex<BTreeMap<WorkerId, Session>>>,
}

/// What calls show.
pub(super) type Session = HeaderValue;

impl Gate {
    /// Opens the connections.
    pub async fn open(way: &Way) -> Result<Self, LinkError> {
        keep_freed_memory();
        Ok(Self {
            life: way.connect().await?,
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

    /// The server was heard of.
    pub(super) fn hear(&self) {
        *lock(&self.heard) = Instant::now();
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

    /// Says goodbye for every worker of this process, as far as the server still listens.
    pub async fn leave_all(&self, reason: &str) {
        let sessions = std::mem::take(&mut *lock(&self.sessions));
        for session in sessions.values() {
            let _ = self.leave(session, reason).await;
        }
    }

    /// Says goodbye: what the worker was given goes to another.
    pub(super) async fn leave(&self, session: &Session, reason: &str) -> Result<(), LinkError> {
        let reason = reason.to_owned();
        let request = with_session(session, proto::LeaveRequest { reason });
        let mut client = DsgdClient::new(self.life.clone());
        call(CALL, client.leave(request)).await?;
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
        let patience = self.patience();
        let hello = call(
            patience,
            client.hello(proto::HelloRequest {
                protocol: PROTOCOL,
                program: PROGRAM.to_owned(),
                host: self.way.host.clone(),
            }),
        );
        let nonce = hello.await?.nonce;
        let proof = self.way.token.proof(&nonce, name).into();
        let name = name.to_owned();
        let reply = call(
            patience,
            client.join(proto::JoinRequest { nonce, proof, name }),
        )
        .await?;
        check_layout(&tensors(layout), &reply.layout)?;
        let session: Session = reply.session.parse().map_err(|_| LinkError::Broken {
            reason: "a session that is none".to_owned(),
        })?;
        let own = Own::new()?;
        let traffic = Traffic::default();
        let bulk = {
            let _context = own.runtime().enter();
            let (way, endpoint) = (self.way.clone(), self.way.endpoint()?);
            let traffic = traffic.clone();
            let connector = service_fn(move |at| reach(way.clone(), at, traffic.clone()));
            endpoint.connect_with_connector_lazy(connector)
        };
        let pulse_every = Duration::from_millis(u64::from(reply.dead_after_ms.max(40)) / 4);
        let life = self.live(client, &session, pulse_every).await?;
        lock(&self.sessions).insert(reply.worker, session.clone());
        Ok(Remote {
            worker: reply.worker,
            bulk,
            own: Some(own),
            session,
            integrity: Integrity::of(self.way.papers.is_some()),
            gate: self.clone(),
            traffic,
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
    ) -> Result<Life, LinkError> {
        let (pulses, stream) = channel(1);
        let _ = pulses.send(Pulse::default()).await;
        let request = with_session(session, ReceiverStream::new(stream));
        let mut answers = call(self.patience(), client.live(request)).await?;
        let holds = Arc::new(AtomicBool::new(true));
        let arrived = Arc::new(AtomicU64::new(0));
        let (alive, heard) = (Arc::clone(&holds), Arc::clone(&self.heard));
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
                    *lock(&heard) = Instant::now();
                    seen.store(pulse.arrived, Ordering::Relaxed);
                }
            };
            tokio::select! { () = beat => {}, () = listen => {} }
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

impl Way {
    /// A connection, to be spoken on by hand.
    ///
    /// # Errors
    /// Why there is none within the time of a call.
    pub async fn connect(&self) -> Result<Channel, LinkError> {
        let way = self.clone();
        let connector = service_fn(move |at| reach(way.clone(), at, Traffic::default()));
        let endpoint = self.endpoint()?;
        match timeout(CALL, endpoint.connect_with_connector(connector)).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(match stranger(&error) {
                Some(reason) => LinkError::OtherServer {
                    address: self.address.clone(),
                    reason,
                },
                None => self.unreachable(causes(&error)),
            }),
            Err(_) => Err(self.unreachable("no answer".to_owned())),
        }
    }

    /// Whether the address says where to go, and how.
    ///
    /// # Errors
    /// What is wrong with it: nothing that waiting could mend.
    pub fn check(&self) -> Result<(), LinkError> {
        let wrong = |reason: &str| {
            Err(LinkError::Address {
                address: self.address.clone(),
                reason: reason.to_owned(),
            })
        };
        if self.address.is_empty() {
            return wrong("the invitation does not say where the server is");
        }
        if let Some(path) = self.address.strip_prefix("unix:") {
            return match path {
                "" => wrong("the socket's path is missing"),
                _ => Ok(()),
            };
        }
        let Ok(uri) = self.address.parse::<Uri>() else {
            return wrong("it is no URL");
        };
        let scheme = match self.papers {
            Some(_) => "https",
            None => "http",
        };
        if uri.scheme_str() != Some(scheme) {
            return wrong(&format!("it must begin with {scheme}://"));
        }
        if uri.host().is_none_or(str::is_empty) {
            return wrong("the host is missing");
        }
        if uri.port_u16().is_none_or(|port| port == 0) {
            return wrong("the port is missing");
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return wrong("there is more in it than host and port");
        }
        Ok(())
    }

    fn endpoint(&self) -> Result<Endpoint, LinkError> {
        self.check()?;
        let endpoint = Endpoint::from_shared(self.address.clone());
        let endpoint = endpoint.map_err(|error| self.unreachable(causes(&error)))?;
        Ok(endpoint
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(FRAME)
            .connect_timeout(CALL))
    }

    fn unreachable(&self, reason: String) -> LinkError {
        LinkError::Unreachable {
            address: self.address.clone(),
            reason,
        }
    }
}

/// Connects; `at` has the host and the port, if there are any.
async fn reach(way: Way, at: Uri, traffic: Traffic) -> io::Result<TokioIo<Paced<()>>> {
    let connection: Connection = if let Some(path) = way.address.strip_prefix("unix:") {
        Box::pin(UnixStream::connect(path).await?)
    } else {
        let host = at.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = at.port_u16().unwrap_or_default();
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        match way.papers {
            Some(papers) => tls::connect(papers.client()?, stream).await?,
            None => Box::pin(stream),
        }
    };
    Ok(TokioIo::new(Paced::new(connection, (), traffic)))
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

fn with_session<T>(session: &Session, message: T) -> Request<T> {
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
