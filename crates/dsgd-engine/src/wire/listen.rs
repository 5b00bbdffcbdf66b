//! Where the server listens, and how strangers are kept from costing anything.
//!
//! A connection is a stranger's until one of its calls has proved otherwise. It has ten
//! seconds for that, whatever it sends or does not send, the handshake of TLS included. More
//! strangers at once than anybody needs are turned away at once.

use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;
use std::thread::{self, available_parallelism};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::credentials::Identity;
use super::paced::{Connection, Guard, Paced};
use super::peer::Peer;
use super::service::Service;
use super::{CALL_IN_A_CROWD, FRAME, WINDOW, keep_freed_memory, tls};

/// A connection through a port that has not proved anything for so long is closed. Who comes by the socket has
/// an ssh login, and may have to wait for what others send through it.
const ADMITTED_WITHIN: Duration = Duration::from_secs(10);

/// Strangers at one time: room for every worker of a large run to come at once.
const MOST_STRANGERS: usize = 512;

/// Calls of a connection at one time: a process may send all its workers' over one.
const MOST_CALLS: u32 = 4096;

/// Where workers come in.
pub enum Listener {
    /// A socket in the file system, for workers that come through an ssh login.
    Unix(UnixListener),
    /// A port, behind TLS.
    Tcp(TcpListener, TlsAcceptor),
    /// A port of this machine's own, without TLS.
    Loopback(TcpListener),
}

impl Listener {
    /// A socket in the file system; whoever may enter its folder may connect.
    pub fn unix(path: &Path) -> io::Result<Self> {
        UnixListener::bind(path).map(Self::Unix)
    }

    /// A port with TLS.
    pub async fn tcp(address: SocketAddr, identity: &Identity) -> io::Result<Self> {
        let acceptor = identity.server()?.into();
        Ok(Self::Tcp(TcpListener::bind(address).await?, acceptor))
    }

    /// A free port of this machine's own.
    pub async fn loopback() -> io::Result<Self> {
        Ok(Self::Loopback(TcpListener::bind(("127.0.0.1", 0)).await?))
    }

    /// The port's address.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(listener, _) | Self::Loopback(listener) => listener.local_addr().ok(),
        }
    }
}

/// Serves whoever connects, as long as what is returned is polled.
///
/// There is an event loop for each core, in a thread of its own, and a connection stays in the one that
/// it came to: what arrives is used by the core that received it.
///
/// # Errors
/// When no thread is to be had.
pub fn serve(listener: Listener, service: Service) -> io::Result<impl Future<Output = ()> + Send> {
    keep_freed_memory();
    let server = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(MOST_CALLS)
        .max_frame_size(FRAME)
        .http2_max_header_list_size(16 << 10);
    let cores = available_parallelism().map_or(1, NonZero::get);
    let loops = (0..cores).map(|_| event_loop(server.clone(), service.clone()));
    let loops = loops.collect::<io::Result<Vec<_>>>()?;
    Ok(async move {
        let strangers = Arc::default();
        for turn in loops.iter().cycle() {
            let arrival = arrival(&listener, &strangers, &service).await;
            if turn.send(arrival).await.is_err() {
                return;
            }
        }
    })
}

/// The next connection that may come in.
async fn arrival(listener: &Listener, strangers: &Arc<AtomicUsize>, service: &Service) -> Arrival {
    loop {
        let accepted = match listener {
            Listener::Unix(listener) => {
                let accepted = listener.accept().await;
                accepted.and_then(|(s, _)| Ok((Raw::Unix(s.into_std()?), "a socket".to_owned())))
            }
            Listener::Tcp(listener, tls) => {
                let accepted = listener.accept().await;
                let behind_tls = |stream| Raw::Tls(stream, tls.clone());
                accepted
                    .and_then(|(s, from)| Ok((behind_tls(s.into_std()?), from.ip().to_string())))
            }
            Listener::Loopback(listener) => {
                let accepted = listener.accept().await;
                accepted.and_then(|(s, from)| Ok((Raw::Tcp(s.into_std()?), from.ip().to_string())))
            }
        };
        let Ok((stream, from)) = accepted else {
            // Out of file descriptors, most likely: it may pass.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        if strangers.load(Ordering::Relaxed) >= MOST_STRANGERS {
            service.refused("too many connections that have not joined", &from);
            continue;
        }
        let tls = matches!(stream, Raw::Tls(..));
        let peer = Peer::new(from, tls, strangers);
        return Arrival { stream, peer };
    }
}

/// A thread that serves the connections that it is sent, until nobody can send any more.
fn event_loop(mut server: Server, service: Service) -> io::Result<mpsc::Sender<Arrival>> {
    let (sender, arrivals) = mpsc::channel(16);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("dsgd-wire".to_owned())
        .spawn(move || {
            let routes = service.clone().routes();
            let arrivals = ReceiverStream::new(arrivals);
            let opened = arrivals
                .map(|arrival: Arrival| arrival.open(service.clone()))
                .buffer_unordered(MOST_STRANGERS)
                .filter(|opened| ready(opened.is_ok()));
            let served = server.add_routes(routes).serve_with_incoming(opened);
            // What is wrong with a connection ends that connection alone.
            let _ = runtime.block_on(served);
        })?;
    Ok(sender)
}

/// A connection on its way to an event loop.
struct Arrival {
    stream: Raw,
    peer: Peer,
}

/// A connection that belongs to no event loop.
enum Raw {
    Unix(std::os::unix::net::UnixStream),
    Tcp(std::net::TcpStream),
    Tls(std::net::TcpStream, TlsAcceptor),
}

impl Arrival {
    /// The connection in this event loop, after the handshake if there is one.
    async fn open(self, service: Service) -> io::Result<Paced<Admission>> {
        let within = match self.stream {
            Raw::Unix(_) => CALL_IN_A_CROWD,
            Raw::Tcp(_) | Raw::Tls(..) => ADMITTED_WITHIN,
        };
        let deadline = Instant::now() + within;
        let admission = Admission {
            peer: self.peer,
            deadline: Box::pin(sleep_until(deadline)),
            service,
        };
        let opened = timeout_at(deadline, self.stream.open()).await;
        let opened = opened.unwrap_or_else(|late| Err(late.into()));
        let connection = opened.inspect_err(|_| {
            if admission.peer.tls {
                admission.peer.reject("no TLS handshake");
            }
        })?;
        let traffic = admission.peer.traffic.clone();
        Ok(Paced::new(connection, admission, traffic))
    }
}

impl Raw {
    async fn open(self) -> io::Result<Connection> {
        let tcp = |stream| {
            let stream = TcpStream::from_std(stream)?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        Ok(match self {
            Self::Unix(stream) => Box::pin(UnixStream::from_std(stream)?),
            Self::Tcp(stream) => Box::pin(tcp(stream)?),
            Self::Tls(stream, acceptor) => tls::accept(&acceptor, tcp(stream)?).await?,
        })
    }
}

/// Has a connection end unless it is admitted in time.
struct Admission {
    peer: Peer,
    deadline: Pin<Box<Sleep>>,
    service: Service,
}

impl Admission {
    fn is_given(&self) -> bool {
        self.peer.admitted.load(Ordering::Relaxed)
    }
}

impl Guard for Admission {
    fn ends(&mut self, context: &mut Context<'_>) -> bool {
        !self.is_given() && self.deadline.as_mut().poll(context).is_ready()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.is_given() {
            let why = self.peer.why.get().unwrap_or(&"it did not join");
            self.service.refused(why, &self.peer.from);
            self.peer.admit();
        }
    }
}

impl Connected for Paced<Admission> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.guard.peer.clone()
    }
}
