//! A connection whose readers keep up: what has come is used before more is read.
//!
//! HTTP/2 reads as long as there is something to read, and only then lets others have what it
//! read. By that time megabytes have piled up and the first of them have left the cache. So a
//! connection pauses now and then, as if nothing more had come yet; and connections that
//! share an event loop take turns.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;
use tokio::time::timeout;
use tonic::Status;

use super::{MOVES, PIECE, STALL};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A connection's bytes, either way.
pub(super) type Connection = Pin<Box<dyn Stream>>;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// Who says whether a connection may go on; it is dropped with it.
pub(super) trait Guard: Unpin {
    /// Whether its time is over.
    fn ends(&mut self, context: &mut Context<'_>) -> bool;
}

/// Nobody.
impl Guard for () {
    fn ends(&mut self, _: &mut Context<'_>) -> bool {
        false
    }
}

/// Bytes that have passed a connection so far, either way.
///
/// A message is whole only when its last byte is here, and on a slow link many seconds after its first:
/// what moves is seen here alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic(Arc<Passed>);

#[derive(Debug, Default)]
struct Passed {
    read: AtomicU64,
    written: AtomicU64,
}

impl Traffic {
    /// Bytes that have come.
    pub(super) fn read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Bytes that have come or were sent.
    pub(super) fn both(&self) -> u64 {
        self.read() + self.0.written.load(Ordering::Relaxed)
    }
}

/// What is said when they stood still.
pub(super) fn nothing_came() -> Status {
    let secs = STALL.as_secs();
    Status::deadline_exceeded(format!("nothing came for {secs} s"))
}

/// Waits for something as long as bytes move, and looks each second at how many have; none when they
/// stand still for [`STALL`].
pub(super) async fn while_moving<T>(
    mut moved: impl FnMut() -> u64,
    something: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(something);
    let (mut seen, mut since) = (moved(), Instant::now());
    loop {
        if let Ok(done) = timeout(LOOK_EVERY, &mut something).await {
            return Some(done);
        }
        let now = moved();
        if now.abs_diff(seen) >= MOVES {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= STALL {
            return None;
        }
    }
}

/// A connection that pauses after [`PIECE`] bytes.
pub(super) struct Paced<G> {
    connection: Connection,
    pub(super) guard: G,
    traffic: Traffic,
    /// Bytes read since the last pause.
    read: usize,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<G> Paced<G> {
    pub(super) fn new(connection: Connection, guard: G, traffic: Traffic) -> Self {
        Self {
            connection,
            guard,
            traffic,
            read: 0,
            pause: None,
        }
    }
}

impl<G> Paced<G> {
    fn has_written(&self, bytes: usize) -> Poll<io::Result<usize>> {
        let written = &self.traffic.0.written;
        written.fetch_add(bytes as u64, Ordering::Relaxed);
        Poll::Ready(Ok(bytes))
    }
}

impl<G: Guard> AsyncRead for Paced<G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.guard.ends(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let before = buffer.filled().len();
        let polled = self.connection.as_mut().poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        self.traffic
            .0
            .read
            .fetch_add(read as u64, Ordering::Relaxed);
        self.read += read;
        if self.read >= PIECE {
            self.read = 0;
            self.pause = Some(Box::pin(yield_now()));
        }
        polled
    }
}

impl<G: Guard> AsyncWrite for Paced<G> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.connection.as_mut().poll_write(context, bytes))?;
        self.has_written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.connection.as_mut().poll_write_vectored(context, bytes))?;
        self.has_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.as_mut().poll_shutdown(context)
    }
}
