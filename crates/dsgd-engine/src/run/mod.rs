//! A run is a folder: its configuration, its checkpoints, its events and its log.

mod checkpoints;
mod fingerprint;
mod folder;
mod host_changes;

pub use checkpoints::{Resumed, Retention, SaveRequest, Saver, best, find, fingerprint_of, resume};
pub use fingerprint::{DIGEST, Fingerprint, differences};
pub use folder::{
    CONFIG, DASHBOARD, EVENTS, HOST_LOGS, INVITATION, LOG, RunFolder, SECRETS, SOCKET, TENSORBOARD,
    holder,
};
pub use host_changes::{HOST_CHANGES, HostChanges, RunHosts};
