//! Standard output, and whether all that was said there could be written.
//!
//! Nothing that is done stops half-way because nobody can be told of it: a line that cannot be written
//! is remembered, and the process does not end as if it had been.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

/// The first thing that could not be written.
static UNWRITTEN: OnceLock<Unwritten> = OnceLock::new();

/// Why something that was said is nowhere to be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unwritten {
    /// As `head` does when it has seen enough: nothing that anybody has to be told.
    #[error("whoever read standard output has gone away")]
    Closed,
    /// A full disk, above all.
    #[error("cannot write to standard output: {0}; free space there, or let it go elsewhere")]
    Failed(String),
}

/// A line for standard output.
pub fn say(text: impl Display) {
    // Lines of several threads stay whole.
    let line = format!("{text}\n");
    remember(io::stdout().write_all(line.as_bytes()));
}

/// Whether all that was said so far is where it belongs.
pub fn written() -> Result<(), Unwritten> {
    remember(io::stdout().flush());
    UNWRITTEN.get().map_or(Ok(()), |why| Err(why.clone()))
}

/// Keeps in mind that something could not be written.
pub fn remember(result: io::Result<()>) {
    if let Err(error) = result {
        let why = match error.kind() {
            ErrorKind::BrokenPipe => Unwritten::Closed,
            _ => Unwritten::Failed(error.to_string()),
        };
        UNWRITTEN.get_or_init(|| why);
    }
}

/// Standard output for writers of others: what cannot be written is remembered, and is no error of theirs.
#[derive(Clone, Copy)]
pub struct Output;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        remember(io::stdout().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        remember(io::stdout().flush());
        Ok(())
    }
}
