//! Consumers of events: each is a function from a record to its own output.
//!
//! None of them may hold up a run: what cannot be written is not written, and says so once.

mod log;
mod meter;
mod terminal;
mod words;

pub use log::{json_lines, text_log};
pub use terminal::{Verbosity, terminal};
