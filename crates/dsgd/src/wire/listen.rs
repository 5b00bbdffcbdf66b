//! Where the server listens, and how strangers are kept from costing anything.
//!
//! A connection is a stranger's until one of its calls has proved otherwise. It has ten
//! seconds for that, whatever it sends or does not send; TLS and HTTP/2 lie above the guard,
//! so that a handshake that never ends is ended, too. More strangers at once than anybody
//! needs are turned away at the door.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::credentials::Papers;
use super::proto::dsgd_server::DsgdServer;
use super::service::Service;
use super::{FRAME, WINDOW};

/// A connection that has not proved anything for so long is closed.
const ADMISSION: Duration = Duration::from_secs(10);

/// Strangers at one time: room for every worker of a large run to come at once.
const MOST_STRANGERS: usize = 512;

/// Calls of a connection at one time: a host's workers share two connections.
const MOST_CALLS: u32 = 4096;

/// A door on which workers knock.
pub enum Door {
    /// A socket in the file system, for workers that come through an ssh login.
    Unix(UnixListener),
    /// A port, behind TLS.
    Tcp(TcpListener, Papers),
    /// A port of this machine's own, without TLS.
    Loopback(TcpListener),
}

impl Door {
    /// A socket in the file system; whoever may enter its folder may knock.
    pub fn unix(path: &PathBuf) -> io::Result<Self> {
        UnixListener::bind(path).map(Self::Unix)
    }

    /// A port with TLS.
    pub async fn tcp(address: SocketAddr, papers: Papers) -> io::Result<Self> {
        Ok(Self::Tcp(TcpListener::bind(address).await?, papers))
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

/// Serves whoever comes through the door until the task is dropped.
///
/// # Errors
/// When the certificates are of no use.
pub async fn serve(door: Door, service: Service) -> Result<(), tonic::transport::Error> {
    let (sender, incoming) = tokio::sync::mpsc::channel(1);
    let mut server = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(MOST_CALLS)
        .max_frame_size(FRAME)
        .http2_max_header_list_size(16 << 10)
        .tcp_nodelay(true);
    if let Door::Tcp(_, papers) = &door {
        server = server.tls_config(papers.server())?;
    }
    let strangers = Arc::new(AtomicUsize::new(0));
    let turned_away = service.clone();
    tokio::spawn(async move {
        loop {
            let accepted: io::Result<(Pin<Box<dyn Stream>>, String)> = match &door {
                Door::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                    (
                        Box::pin(stream) as Pin<Box<dyn Stream>>,
                        "a socket".to_owned(),
                    )
                }),
                Door::Tcp(listener, _) | Door::Loopback(listener) => {
                    listener.accept().await.map(|(stream, from)| {
                        let _ = stream.set_nodelay(true);
                        (
                            Box::pin(stream) as Pin<Box<dyn Stream>>,
                            from.ip().to_string(),
                        )
                    })
                }
            };
            let Ok((stream, from)) = accepted else {
                // Out of file descriptors, most likely: it may pass.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            if strangers.load(Ordering::Relaxed) >= MOST_STRANGERS {
                turned_away.refused("too many connections that have not joined", &from);
                continue;
            }
            let guarded = Guarded::new(stream, from, &strangers, turned_away.clone());
            if sender.send(Ok::<_, io::Error>(guarded)).await.is_err() {
                return;
            }
        }
    });
    let most = service.most_pushed();
    let service = DsgdServer::new(service).max_decoding_message_size(most);
    server
        .add_service(service)
        .serve_with_incoming(ReceiverStream::new(incoming))
        .await
}

/// A connection's bytes, either way.
trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// Who is at the other end.
#[derive(Clone)]
pub(super) struct Peer {
    /// Where it comes from, for people.
    pub(super) from: String,
    admitted: Arc<AtomicBool>,
    strangers: Arc<AtomicUsize>,
    /// Why it was not admitted, where it tried.
    why: Arc<OnceLock<&'static str>>,
}

impl Peer {
    /// It has tried, and failed for this reason.
    pub(super) fn turn_down(&self, why: &'static str) {
        let _ = self.why.set(why);
    }

    /// It has proved that it belongs to the run.
    pub(super) fn admit(&self) {
        if !self.admitted.swap(true, Ordering::Relaxed) {
            self.strangers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A connection that ends unless it is admitted in time.
struct Guarded {
    stream: Pin<Box<dyn Stream>>,
    peer: Peer,
    deadline: Pin<Box<Sleep>>,
    service: Service,
}

impl Guarded {
    fn new(
        stream: Pin<Box<dyn Stream>>,
        from: String,
        strangers: &Arc<AtomicUsize>,
        service: Service,
    ) -> Self {
        strangers.fetch_add(1, Ordering::Relaxed);
        let peer = Peer {
            from,
            admitted: Arc::default(),
            strangers: Arc::clone(strangers),
            why: Arc::default(),
        };
        Self {
            stream,
            peer,
            deadline: Box::pin(sleep_until(Instant::now() + ADMISSION)),
            service,
        }
    }

    fn is_admitted(&self) -> bool {
        self.peer.admitted.load(Ordering::Relaxed)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if !self.is_admitted() {
            let why = self.peer.why.get().unwrap_or(&"it did not join");
            self.service.refused(why, &self.peer.from);
            self.peer.admit();
        }
    }
}

impl Connected for Guarded {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_admitted() && self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(context)
    }
}
