//! The wire as its peers see it: what arrives whole, what is refused and how, and who gets nowhere.
//!
//! A conversation is held with the service itself, on a socket, by a client that can say anything;
//! the test stands where the server is and gives out the work.

mod by_hand;
mod conversation;
mod copies;
mod decoder;
mod framing;
mod listening;
mod mutations;
mod patience;
mod python;
mod shown;
mod silence;
mod states;
mod strangers;
mod travels;
mod worker_side;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use dsgd::{Batch, Layout, Params, Part, Snapshot};
use dsgd_core::codec::Codecs;
use dsgd_engine::server::Message;
use dsgd_engine::wire::credentials::{Identity, Token};
use dsgd_engine::wire::link::Endpoint;
use dsgd_engine::wire::listen::{Listener, serve};
use dsgd_engine::wire::proto::dsgd_client::DsgdClient;
use dsgd_engine::wire::proto::{self, PullPart, Pulse, PushPart, pull_part, push_part};
use dsgd_engine::wire::service::{Service, Terms};
use dsgd_engine::wire::{PROGRAM, PROTOCOL};
use dsgd_engine::worker::{Assignment, Buffers, Job};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Sender, UnboundedSender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{self, Channel};
use tonic::{Code, Request, Status};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A service with nobody behind it but the test.
struct Served {
    messages: Receiver<Message>,
    service: Service,
    endpoint: Endpoint,
    layout: Arc<Layout>,
    over: Arc<AtomicBool>,
    buffers: Buffers,
    runtime: Runtime,
    _folder: TempDir,
}

impl Served {
    /// On a socket.
    fn new(layout: Layout) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("listener");
        let address = format!("unix:{}", socket.display());
        Self::at(layout, folder, None, async || {
            (Listener::unix(&socket).unwrap(), address)
        })
    }

    /// On a port, behind TLS.
    fn behind_tls(layout: Layout) -> Self {
        let (server, worker) = Identity::for_a_run().unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self::at(layout, folder, Some(worker), async || {
            let any_port = ([127, 0, 0, 1], 0).into();
            let listener = Listener::tcp(any_port, &server).await.unwrap();
            let address = format!("https://{}", listener.address().unwrap());
            (listener, address)
        })
    }

    /// On a port of this machine's own, without TLS.
    fn on_a_port(layout: Layout) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::at(layout, folder, None, async || {
            let listener = Listener::loopback().await.unwrap();
            let address = format!("http://{}", listener.address().unwrap());
            (listener, address)
        })
    }

    fn at(
        layout: Layout,
        folder: TempDir,
        identity: Option<Identity>,
        open: impl AsyncFnOnce() -> (Listener, String),
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let (sender, messages) = channel();
        let (layout, over) = (Arc::new(layout), Arc::new(AtomicBool::new(false)));
        let buffers = Buffers::new(&layout, 1);
        let token = Token::fresh();
        let service = Service::new(Terms {
            state_vectors: 1,
            token: token.clone(),
            layout: Arc::clone(&layout),
            initial: None,
            dead_after: Duration::from_secs(2),
            buffers: buffers.clone(),
            messages: sender,
            numbers: Arc::default(),
            over: Arc::clone(&over),
        });
        let (listener, address) = runtime.block_on(open());
        runtime.spawn(serve(listener, service.clone()).unwrap());
        Self {
            messages,
            service,
            endpoint: Endpoint {
                address,
                identity,
                token,
                host: "h1".to_owned(),
            },
            layout,
            over,
            buffers,
            runtime,
            _folder: folder,
        }
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A connection.
    async fn client(&self) -> DsgdClient<Channel> {
        let endpoint = transport::Endpoint::from_shared(self.endpoint.address.clone()).unwrap();
        DsgdClient::new(endpoint.connect().await.unwrap())
    }

    /// A caller that has joined and does not live yet.
    async fn joined(&self, name: &str) -> Caller {
        let mut client = self.client().await;
        let nonce = nonce(&mut client).await;
        let request = join_request(&self.endpoint.token, &nonce, name);
        let reply = client.join(request).await.unwrap().into_inner();
        Caller {
            client,
            worker: reply.worker,
            session: reply.session,
        }
    }

    /// A worker that lives, with what it is given work by.
    async fn worker(&self, name: &str) -> Worker {
        let mut caller = self.joined(name).await;
        let pulses = caller.live().await.unwrap();
        let inbox = loop {
            match self.message() {
                Message::Join { inbox, worker, .. } if worker == caller.worker => break inbox,
                _ => {}
            }
        };
        Worker {
            caller,
            inbox,
            _pulses: pulses,
        }
    }

    /// The next message.
    fn message(&self) -> Message {
        self.messages.recv_timeout(PATIENCE).unwrap()
    }

    /// The next message that is no sign of life.
    fn news(&self) -> Message {
        loop {
            match self.message() {
                Message::Alive { .. } => {}
                other => return other,
            }
        }
    }
}

/// Somebody who may say anything.
struct Caller {
    client: DsgdClient<Channel>,
    worker: u32,
    session: String,
}

impl Caller {
    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        let session = self.session.parse().unwrap();
        request.metadata_mut().insert("dsgd-session", session);
        request
    }

    async fn live(&mut self) -> Result<Sender<Pulse>, Status> {
        let (pulses, stream) = tokio::sync::mpsc::channel(4);
        pulses.send(Pulse::default()).await.unwrap();
        let request = self.request(ReceiverStream::new(stream));
        let mut answers = self.client.live(request).await?.into_inner();
        tokio::spawn(async move { while let Ok(Some(_)) = answers.message().await {} });
        Ok(pulses)
    }

    /// All parts of a pull.
    async fn pull(&mut self, wait_ms: u32) -> Result<Vec<pull_part::Part>, Status> {
        let request = self.request(proto::PullRequest {
            wait_ms,
            have: None,
            near: None,
        });
        let mut stream = self.client.pull(request).await?.into_inner();
        let mut parts = Vec::new();
        while let Some(PullPart { part }) = stream.message().await? {
            parts.push(part.unwrap());
        }
        Ok(parts)
    }

    async fn push(&mut self, parts: Vec<push_part::Part>) -> Result<(), Status> {
        let parts = parts.into_iter().map(|part| PushPart { part: Some(part) });
        let request = self.request(tokio_stream::iter(parts.collect::<Vec<_>>()));
        self.client.push(request).await.map(|_| ())
    }
}

/// A worker of the service's.
struct Worker {
    caller: Caller,
    inbox: UnboundedSender<Assignment>,
    _pulses: Sender<Pulse>,
}

impl Worker {
    /// Gives it something to do, and has it pulled.
    async fn given(&mut self, lease: u64, job: Job, layout: &Arc<Layout>) -> Vec<pull_part::Part> {
        let params = Snapshot::new(0, Arc::new(Params::zeros(Arc::clone(layout))));
        let transfer = dsgd_engine::worker::TransferTimes::default();
        let given = self.inbox.send(Assignment {
            lease,
            job,
            params,
            codecs: Codecs::default(),
            differences: None,
            others_state: None,
            transfer,
        });
        assert!(given.is_ok());
        self.caller.pull(5000).await.unwrap()
    }
}

async fn nonce(client: &mut DsgdClient<Channel>) -> Vec<u8> {
    let hello = client.hello(hello(PROTOCOL, PROGRAM, "h1")).await;
    hello.unwrap().into_inner().nonce.to_vec()
}

fn hello(protocol: u32, program: &str, host: &str) -> proto::HelloRequest {
    proto::HelloRequest {
        protocol,
        program: program.to_owned(),
        host: host.to_owned(),
    }
}

fn join_request(token: &Token, nonce: &[u8], name: &str) -> proto::JoinRequest {
    proto::JoinRequest {
        nonce: nonce.to_vec().into(),
        proof: token.proof(nonce, name).into(),
        name: name.to_owned(),
    }
}

fn train() -> Job {
    let batch = Batch {
        index: 0,
        epoch: 1,
        seed: 1,
        part: Part::WHOLE,
    };
    Job::Train(vec![batch])
}

/// Stats without anything wrong.
fn stats() -> proto::Stats {
    proto::Stats {
        loss: 1.0,
        count: 10,
        examples: 10,
        units: vec![0; 2],
        sums: vec![],
    }
}

/// The head of a gradient.
fn head(lease: u64) -> push_part::Part {
    push_part::Part::Gradient(proto::Gradient {
        lease,
        stats: Some(stats()),
        ..proto::Gradient::default()
    })
}

fn evaluated(lease: u64) -> push_part::Part {
    push_part::Part::Evaluated(proto::Evaluated {
        lease,
        stats: Some(stats()),
    })
}

fn failed(lease: u64, reason: &str) -> push_part::Part {
    push_part::Part::Failed(proto::Failed {
        lease,
        reason: reason.to_owned(),
        fatal: false,
    })
}

/// A refusal of that kind, with these words in it.
#[track_caller]
fn assert_refused<T>(result: Result<T, Status>, code: Code, words: &str) {
    let Err(status) = result else {
        panic!("accepted, where {code:?} was due: {words}");
    };
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(words), "{status:?}");
}
