//! A run is a folder: its configuration, its checkpoints, its events and its log.

mod checkpoints;
mod folder;
mod host_changes;
mod fingerprint;

pub use checkpoints::{Retention, Resumed, SaveRequest, Saver, best, find, fingerprint_of, resume};
pub use folder::{
    CONFIG, DASHBOARD, EVENTS, HOST_LOGS, INVITATION, LOG, RunFolder, SECRETS, SOCKET, TENSORBOARD,
    holder,
};
pub use host_changes::{HOST_CHANGES, HostChanges, RunHosts};
pub use fingerprint::{DIGEST, Fingerprint, differences};
