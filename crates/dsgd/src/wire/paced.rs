//! A connection whose readers keep up: what has come is used before more is read.
//!
//! HTTP/2 reads as long as there is something to read, and only then lets others have what it
//! read. By that time megabytes have piled up and the first of them have left the cache. So a
//! connection pauses now and then, as if nothing more had come yet; and connections that
//! share an event loop take turns.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

use super::PIECE;

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

/// A connection that pauses after [`PIECE`] bytes.
pub(super) struct Paced<G> {
    connection: Connection,
    pub(super) guard: G,
    /// Bytes read since the last pause.
    read: usize,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<G> Paced<G> {
    pub(super) fn new(connection: Connection, guard: G) -> Self {
        Self {
            connection,
            guard,
            read: 0,
            pause: None,
        }
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
        self.read += buffer.filled().len() - before;
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
        self.connection.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.connection.as_mut().poll_write_vectored(context, bytes)
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
