//! Looking on at runs: nothing that trains depends on it.
//!
//! Consumers of events are functions from a record to their own output: the terminal, `events.jsonl`,
//! `log.txt`, TensorBoard. None of them may hold up a run: what cannot be written is not written, and
//! says so once. [`follow`] and [`past`] read runs from their folders, [`board`] is what is known of one,
//! of bounded size; [`plot`] draws it, [`report`] is one document of it, [`page`] shows it in a browser.

pub mod board;
mod detached;
pub mod figures;
pub mod follow;
mod live;
mod log;
mod meter;
pub mod output;
#[cfg(feature = "page")]
pub mod page;
pub mod past;
#[cfg(feature = "plots")]
pub mod plot;
#[cfg(feature = "plots")]
pub mod report;
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
