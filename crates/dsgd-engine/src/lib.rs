//! What trains: the server that carries out what the core decides, workers wherever they are, the
//! wire between them, hosts, checkpoints and runs.
//!
//! It can be called as a library: it reads no command line, and shows nothing by itself.

pub mod checkpoint;
pub mod coded;
pub mod config;
mod error;
mod hex;
mod host_name;
pub mod hosts;
mod join;
pub mod launch;
pub mod mutex;
pub mod own_state;
pub mod run;
pub mod server;
pub mod ssh;
pub mod store;
pub mod testing;
pub mod training;
pub mod wire;
pub mod worker;

/// Modules whose spans and events (`tracing`) say what goes on inside.
pub const LOGGED: [&str; 6] = ["checkpoint", "launch", "server", "ssh", "wire", "worker"];

pub use error::Error;
pub use host_name::host_name;
pub use join::{Worker, join};
