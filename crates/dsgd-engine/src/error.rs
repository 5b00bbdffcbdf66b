//! What can go wrong, one variant for each thing that a caller can act on.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::hosts::HostsError;
use crate::ssh::SshError;
use dsgd_core::optim::OptimError;
use dsgd_core::text::causes;

/// Why a run could not be started, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The task's own code could not load its data or model.
    #[error("task {task}: {}", causes(&**cause))]
    Task {
        /// The task's name.
        task: String,
        /// What it said; it stands in the words above, so it is no `source` to be said again.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An option's value makes no sense.
    #[error("{0}")]
    Options(String),
    /// A file or folder of the run could not be read or written.
    #[error("{what} {path}: {cause}; {hint}")]
    File {
        /// What was tried, such as `cannot create`.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said; it stands in the words above, so it is no `source` to be said again.
        cause: std::io::Error,
        /// What to do next.
        hint: &'static str,
    },
    /// A configuration file could not be understood.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },
    /// A checkpoint could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A host list cannot be used.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// A host cannot be used, or what logs into it.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// Workers cannot be had.
    #[error("{}", causes(&**_0))]
    Launch(Box<dyn std::error::Error + Send + Sync>),
    /// The optimizer cannot work with its numbers.
    #[error(transparent)]
    Optimizer(#[from] OptimError),
    /// The user stopped the run; it was saved.
    #[error("{next}")]
    Interrupted {
        /// How to go on.
        next: String,
        /// Exit status that tells by which signal: 128 and its number, as shells have it.
        status: i32,
    },
    /// The run ended before it was done.
    #[error("{reason}\n{next}")]
    Run {
        /// Why, in words.
        reason: String,
        /// What to do next.
        next: String,
    },
}

impl Error {
    /// Whether trying the same thing again may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Ssh(error) => !error.is_permanent(),
            Self::File { .. } | Self::Interrupted { .. } | Self::Run { .. } => true,
            Self::Task { .. }
            | Self::Options(_)
            | Self::Config { .. }
            | Self::Checkpoint(_)
            | Self::Hosts(_)
            | Self::Launch(_)
            | Self::Optimizer(_) => false,
        }
    }
}
