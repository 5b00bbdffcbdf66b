//! A pull on its way out, as the developer's log follows it.

use std::time::Instant;

use bytes::Bytes;
use tracing::{Span, debug, trace};

/// Pieces of a pull, which go out as the connection takes them.
pub(super) struct Sent<I> {
    pieces: I,
    span: Span,
    started: Instant,
    bytes: usize,
    whole: bool,
}

impl<I> Sent<I> {
    /// Pieces that go out within `span`.
    pub(super) fn new(pieces: I, span: Span) -> Self {
        Self {
            pieces,
            span,
            started: Instant::now(),
            bytes: 0,
            whole: false,
        }
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Sent<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.next();
        match &piece {
            Some(piece) => {
                self.bytes += piece.len();
                trace!(parent: &self.span, bytes = self.bytes, "is asked for more");
            }
            None => self.whole = true,
        }
        piece
    }
}

impl<I> Drop for Sent<I> {
    fn drop(&mut self) {
        let (bytes, secs) = (self.bytes, self.started.elapsed().as_secs_f64());
        if self.whole {
            debug!(parent: &self.span, bytes, secs, "all of it was asked for");
        } else {
            debug!(parent: &self.span, bytes, secs, "broke off");
        }
    }
}
