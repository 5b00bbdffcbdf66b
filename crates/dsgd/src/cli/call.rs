//! A subcommand that was called, and what all of them say.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};

use dsgd_core::text::shell_word;

/// A subcommand that was called.
pub(super) struct Call<'a> {
    /// The task's registered name.
    pub(super) task: &'static str,
    /// The subcommand with the task's options, to parse further words with.
    pub(super) command: Command,
    /// What the user typed.
    pub(super) matches: &'a ArgMatches,
}

/// How this program was called, for commands to copy.
pub(super) fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    shell_word(Path::new(&name))
}

/// This program, as it can be called from any folder.
pub(super) fn program_from_anywhere() -> String {
    let name = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let in_path = name.components().count() < 2;
    let whole = if in_path {
        Ok(name.clone())
    } else {
        std::path::absolute(&name)
    };
    shell_word(&whole.unwrap_or(name))
}

/// A line for standard error, whether or not anybody reads it.
pub(super) fn complain(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
