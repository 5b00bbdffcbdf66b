//! Why a host's program is not at work, and whether that passes by itself.

use crate::ssh::{Ended, SshError};

/// How a process of ours ends, on hosts, when it would end so again.
///
/// `EX_CONFIG` of BSD's `sysexits.h`: nothing else there ends with it.
pub const CANNOT_WORK: i32 = 78;

/// What a shell's `exec` ends with when the system refuses the program, or does not find its loader.
const NOT_RUN: [i32; 2] = [126, 127];

/// Why a host's program is not at work.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It did not come so far.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// It ended well, before its run did.
    #[error("{host}: its workers left, as they were told to (SIGTERM)")]
    Left {
        /// The host.
        host: String,
    },
    /// It ended itself.
    #[error("{host}: its workers ended with status {code}; what they said stands above")]
    Failed {
        /// The host.
        host: String,
        /// Not 0.
        code: i32,
    },
    /// A signal ended it.
    #[error("{host}: its workers were killed there: by hand, or for want of memory (see dmesg)")]
    Killed {
        /// The host.
        host: String,
    },
    /// It ended itself, and would again.
    #[error("{host}: no worker can work there: {said}")]
    CannotWork {
        /// The host.
        host: String,
        /// Why, in its own words.
        said: String,
    },
    /// The system there does not run it.
    #[error(
        "{host}: the program cannot be run there ({said}): build one that can with `cargo zigbuild \
         --release --target ARCH-unknown-linux-gnu.2.17`, and pass --binary ARCH=FILE"
    )]
    CannotRun {
        /// The host.
        host: String,
        /// Why, in the words of the shell there.
        said: String,
    },
}

impl Trouble {
    /// Why it ended. `said` is the last that it said of an error.
    pub fn of(host: &str, ended: Ended, said: Option<String>) -> Self {
        let host = host.to_owned();
        let words = || said.unwrap_or_else(|| "it did not say why".to_owned());
        match ended {
            Ended::Status(0) => Self::Left { host },
            Ended::Status(CANNOT_WORK) => Self::CannotWork {
                host,
                said: words(),
            },
            Ended::Status(code) if NOT_RUN.contains(&code) => Self::CannotRun {
                host,
                said: words(),
            },
            Ended::Status(code) => Self::Failed { host, code },
            Ended::Killed => Self::Killed { host },
            Ended::Lost(error) => Self::Ssh(error),
        }
    }

    /// Whether it stays so until a person does something about it: then nobody waits for it.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Ssh(error) => error.is_permanent(),
            Self::CannotWork { .. } | Self::CannotRun { .. } => true,
            Self::Left { .. } | Self::Failed { .. } | Self::Killed { .. } => false,
        }
    }
}
