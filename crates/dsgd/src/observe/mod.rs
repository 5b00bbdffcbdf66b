//! Consumers of events: each is a function from a record to its own output.
//!
//! None of them may hold up a run: what cannot be written is not written, and says so once.

pub mod board;
mod detached;
pub mod follow;
mod live;
mod log;
mod meter;
pub mod past;
pub mod screen;
mod tensorboard;
mod terminal;
mod traced;
mod words;

pub use detached::detached;
pub use log::{host_logs, json_lines, text_log};
pub use tensorboard::tensorboard;
pub use terminal::{Verbosity, terminal};
pub use traced::json_terminal;
pub use words::duration;
