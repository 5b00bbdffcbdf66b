//! Why a worker's link to its server broke, and whether joining anew may help.

use std::io;

use tonic::{Code, Status};

use crate::wire::incoming::WireError;
use dsgd_core::text::causes;

/// Why a worker's link to its server broke.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody answers.
    #[error("the server at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What was met there.
        reason: String,
    },
    /// The address is none that workers can use.
    #[error("{address:?} is no address of a server: {reason}; pass --join https://HOST:PORT")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody answers who is not this run's server.
    #[error(
        "{address} is not the server of this run: {reason}; pass the invitation of the run that \
         listens there, or by --join https://HOST:PORT the address that this run prints"
    )]
    OtherServer {
        /// Where it was met.
        address: String,
        /// What it did.
        reason: String,
    },
    /// The server does not want this worker, now or ever.
    #[error("the server refuses this worker: {reason}")]
    Refused {
        /// Why, in the server's words.
        reason: String,
    },
    /// The model here is not the server's.
    #[error(
        "the model here is not the server's: {reason}; both must have the same options and data"
    )]
    OtherModel {
        /// The first difference.
        reason: String,
    },
    /// The conversation broke.
    #[error("the conversation with the server broke: {reason}")]
    Broken {
        /// How.
        reason: String,
    },
}

impl LinkError {
    /// Whether joining anew may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Address { .. }
            | Self::OtherServer { .. }
            | Self::Refused { .. }
            | Self::OtherModel { .. } => false,
        }
    }
}

impl From<Status> for LinkError {
    fn from(status: Status) -> Self {
        let reason = words(&status);
        match status.code() {
            Code::Unauthenticated | Code::FailedPrecondition | Code::PermissionDenied => {
                Self::Refused { reason }
            }
            _ => Self::Broken { reason },
        }
    }
}

impl From<WireError> for LinkError {
    fn from(error: WireError) -> Self {
        let reason = error.to_string();
        Self::Broken { reason }
    }
}

impl LinkError {
    /// Nothing came.
    pub(super) fn stalled(what: &str) -> Self {
        let reason = format!("{what} got no answer in time");
        Self::Broken { reason }
    }

    /// Something came that has no place there.
    pub(super) fn unexpected(what: &str) -> Self {
        let reason = format!("the server sent {what}");
        Self::Broken { reason }
    }
}

/// The server's words, or for a broken connection all that is known of it.
fn words(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => format!("{}: {}", status.message(), causes(source)),
        None => status.message().to_owned(),
    }
}

/// Why whoever answered is not the server, where TLS found that out: no waiting mends it.
pub(super) fn stranger(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let inner: Option<&(dyn std::error::Error + 'static)> = inner.map(|inner| inner as _);
        let tls = inner.unwrap_or(error).downcast_ref::<rustls::Error>();
        if let Some(tls) = tls {
            return Some(match tls {
                rustls::Error::InvalidCertificate(_) => {
                    "its certificate is that of another run".to_owned()
                }
                rustls::Error::AlertReceived(_) => format!("it refuses our certificate ({tls})"),
                _ => format!("it does not speak as a dsgd server does ({tls})"),
            });
        }
        cause = error.source();
    }
    None
}
