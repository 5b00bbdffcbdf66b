//! A file's bytes on their way to a host, and what the host says of them meanwhile.

use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::process::ChildStdin;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::content::Object;
use super::packing::{PIECE_BYTES, Packing, pack};
use crate::mutex::lock;
use crate::ssh::SshError;
use crate::ssh::channel::Channel;
use crate::ssh::remote::Remote;

/// Without any progress for so long, sending has failed. A cut connection is noticed before.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// The slowest disk and processor for which checking a file is waited for.
const CHECKING_BYTES_PER_S: u64 = 10_000_000;

/// The bytes of an object from an offset on.
pub(super) struct Stream<'a> {
    pub(super) object: &'a Object,
    pub(super) from: u64,
    /// Whether the host unpacks them.
    pub(super) packed: bool,
}

/// What became of it.
pub(super) struct Streamed {
    /// The host's last line.
    pub(super) answer: String,
    /// Bytes that went over the wire.
    pub(super) wire_bytes: u64,
}

impl Remote {
    /// Writes the bytes to a script's input, and reports how many of the file have arrived by what the script
    /// says of it: what was handed to a buffer on the way may be there a minute later.
    pub(super) async fn stream(
        &self,
        stream: &Stream<'_>,
        channel: &mut Channel,
        progress: &(impl Fn(u64) + Send + Sync),
    ) -> Result<Streamed, SshError> {
        const WHAT: &str = "sending a file";
        progress(stream.from);
        let stalled = || SshError::Stalled {
            host: self.name().to_owned(),
            file: stream.object.name(),
            secs: STALL.as_secs(),
        };
        let stdin = channel.stdin.take();
        let (packing, began) = (Mutex::new(Packing::new()), Instant::now());
        let writing = stream.write(stdin, &packing, stalled);
        let hearing = async {
            let mut patience = STALL;
            // That the script lives is no sign that anything arrives.
            let mut arrived_last = (stream.from, Instant::now());
            loop {
                channel.wait_for(patience);
                let line = match channel.some_line().await {
                    Err(SshError::TimedOut { .. }) => return Err(stalled()),
                    line => line?,
                };
                match line.split_once(' ') {
                    Some(("at", there)) => {
                        let there = self.number(WHAT, there)?.min(stream.object.bytes);
                        progress(there);
                        if there > arrived_last.0 {
                            arrived_last = (there, Instant::now());
                        } else if arrived_last.1.elapsed() > STALL {
                            return Err(stalled());
                        }
                        let arrived = there.saturating_sub(stream.from);
                        lock(&packing).arrived(arrived, began.elapsed());
                    }
                    _ if line == "checking" => {
                        progress(stream.object.bytes);
                        let secs = stream.object.bytes / CHECKING_BYTES_PER_S;
                        patience = STALL + Duration::from_secs(secs);
                    }
                    _ => return Ok(line),
                }
            }
        };
        let answer = tokio::select! {
            answer = hearing => answer?,
            // The end of writing is not that of the conversation.
            Err(error) = writing => return Err(error),
        };
        let wire_bytes = lock(&packing).wire_bytes();
        Ok(Streamed { answer, wire_bytes })
    }
}

impl Stream<'_> {
    /// Until all is written, or nobody reads it: then the script has ended, and says why.
    async fn write(
        &self,
        stdin: Option<ChildStdin>,
        packing: &Mutex<Packing>,
        stalled: impl Fn() -> SshError,
    ) -> Result<(), SshError> {
        let cannot = |source| SshError::local("cannot read", &self.object.path, source);
        let Some(mut stdin) = stdin else {
            return Ok(());
        };
        let mut file = tokio::fs::File::open(&self.object.path)
            .await
            .map_err(cannot)?;
        file.seek(io::SeekFrom::Start(self.from))
            .await
            .map_err(cannot)?;
        let mut rest = file.take(self.object.bytes - self.from);
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let mut some = (&mut rest).take(PIECE_BYTES as u64);
            some.read_to_end(&mut piece).await.map_err(cannot)?;
            if piece.is_empty() {
                return Ok(());
            }
            let (bytes, mut level, began) = (piece.len(), 0, Instant::now());
            if self.packed {
                level = lock(packing).choose();
                let packed = spawn_blocking(move || pack(&piece, level)).await;
                piece = packed.map_err(io::Error::other).flatten().map_err(cannot)?;
            }
            lock(packing).packed(level, bytes, piece.len(), began.elapsed());
            match timeout(STALL, stdin.write_all(&piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(stalled()),
            }
        }
    }
}
