//! The wire protocol between the server and workers in other processes: gRPC (`proto/dsgd.proto`).
//!
//! Parameters and gradients travel tensor by tensor in chunks, each tensor with a checksum unless
//! TLS takes care of that ([`integrity`]): [`outgoing`] cuts them up, [`framing`] makes gRPC messages
//! of them without copying them, [`incoming`] puts them together, past the cache, and trusts
//! nothing that a peer sends. [`service`] is the server's
//! side of the conversation, [`link`] the worker's. Authentication is by
//! [`credentials`]; [`listen`] keeps strangers from costing anything, and has connections and their
//! readers take turns. `words` turns the schema's types into the library's,
//! and back.
//!
//! What it leaves out: it decides nothing. A broken conversation ends the worker under its
//! number; it joins anew and gets the current parameters, and the core knows what to do with the rest.

pub mod credentials;
pub mod framing;
pub mod incoming;
pub mod integrity;
pub mod invitation;
pub mod link;
pub mod listen;
pub mod outgoing;
mod paced;
mod peer;
pub mod service;
mod state;
mod streaming;
mod tls;
mod words;

/// What travels, as the schema has it.
#[allow(clippy::pedantic, missing_docs, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("dsgd.v1");
}

use std::time::Duration;

use dsgd_core::params::{Kind, Layout};

/// Version of the protocol.
pub const PROTOCOL: u32 = 2;

/// What this program says it is.
pub const PROGRAM: &str = concat!("dsgd ", env!("CARGO_PKG_VERSION"));

/// Metadata entry with the session.
pub const SESSION: &str = "dsgd-session";

/// Bytes of tensor data that a peer may put into one message.
pub const CHUNK: usize = 1 << 20;

/// Bytes of tensor data that we put into one message: large enough that a message costs nothing
/// beside its contents, small enough that whoever uses them finds them in the cache.
pub const PIECE: usize = 512 << 10;

/// Bytes of an HTTP/2 frame: one of our messages.
pub(crate) const FRAME: u32 = (PIECE + 1024) as u32;

/// Bytes that may be under way on a connection without an answer: 1.3 Gbit/s at 100 ms.
pub const WINDOW: u32 = 16 << 20;

/// Bytes of one message: tensor data and what goes with it.
pub const MOST_MESSAGE: usize = CHUNK + (64 << 10);

/// Bytes of a reply to Join, which has the layout.
pub const MOST_LAYOUT: usize = 16 << 20;

/// Bytes of a name.
pub const MOST_NAME: usize = 256;

/// Bytes of a reason in words; what is longer is cut.
pub const MOST_REASON: usize = 1024;

/// The longest that a transfer may stand still before it is given up.
pub const STALL: Duration = Duration::from_secs(30);

/// So many bytes are a transfer that moves; fewer may be signs of life on the same connection.
const MOVES: u64 = 4096;

/// The longest that a pull waits for work before it is asked again.
pub const LONGEST_PULL: Duration = Duration::from_secs(20);

/// A small call is answered within this time or never.
pub const CALL: Duration = Duration::from_secs(10);

/// The same where it waits behind what other workers send: a connection's buffers hold up to 4 MB, which are
/// half a minute at 1 Mbit/s.
const CALL_IN_A_CROWD: Duration = Duration::from_secs(60);

/// Bytes of one message of a push: a row of a table travels whole, however wide it is.
pub(crate) fn most_pushed(layout: &Layout) -> usize {
    let tables = layout.tensors().iter().filter(|t| t.kind == Kind::Rows);
    let widest = tables.map(|table| table.width() * size_of::<f32>()).max();
    MOST_MESSAGE.max(MOST_MESSAGE - CHUNK + widest.unwrap_or(0))
}

/// Has the allocator keep what is freed. A transfer's buffers come and go by the thousand, and memory
/// that is given back to the system must be zeroed by it before it can be had again. glibc gives
/// back what lies above a threshold, which it raises to twice the largest block that it had of the
/// system and that was freed, up to 32 MiB (mallopt(3), `M_MMAP_THRESHOLD`). Elsewhere this does nothing.
pub(crate) fn keep_freed_memory() {
    const LARGEST: usize = 31 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGEST)));
}
