//! Hosts that are reached by ssh, and what is done there.
//!
//! The system's `ssh` does the talking, so everything that the user has set up holds: names and jump
//! hosts in `~/.ssh/config`, the agent, known hosts. Of a host we ask for a login that runs a POSIX
//! shell; nothing is installed there, files go to `~/.cache/dsgd` under names made of their content.
//!
//! A [`Control`] is where connections live, a [`Remote`] is one of them. With it one can look
//! around ([`Remote::facts`]), send files ([`Remote::send`], [`send_all`]), let the host's processes
//! reach a socket here ([`Remote::forward`]), start the program ([`Remote::start`]), end what is ours
//! ([`Remote::stop`]), and take results home ([`Remote::fetch`]).
//!
//! Every wait has an end: a host that says nothing, or whose cable was cut, is an [`SshError`] that
//! names it and says what to do. What is not here: which hosts there are (`hosts`), what workers
//! speak with the server (`wire`), and when a lost one is tried again (`launch`).

mod channel;
mod control;
mod elf;
mod error;
mod facts;
mod fetch;
mod forward;
mod lines;
mod object;
mod options;
mod processes;
mod program;
mod remote;
mod running;
mod sending;
mod size;
mod speed;
mod stderr;

pub use channel::shell_words;
pub use control::{Control, masters_of};
pub use elf::Needs;
pub use error::SshError;
pub use facts::{Facts, Libc};
pub use fetch::Fetched;
pub use lines::{Line, Stream};
pub use object::{Object, Presence};
pub use options::Options;
pub use processes::{Process, Stopped};
pub use program::{Binaries, parse_binary};
pub use remote::Remote;
pub use running::{Ended, Running};
pub use sending::{TransferLog, send_all};
pub use size::size;
