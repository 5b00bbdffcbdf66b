//! What hosts are to run, and the first look at one of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::time::Instant;

use crate::hosts::Host;
use crate::server::Message;
use crate::ssh::{self, Control, Facts, Object, Remote, SshError};
use crate::wire::invitation::Invitation;

/// The time for a login and a look around.
const REACH: Duration = Duration::from_secs(20);

/// The run's host list as it is now, or why it cannot be read.
pub type ListedHosts = Box<dyn Fn() -> Result<Vec<Host>, String> + Send>;

/// How many workers a host gets of which the list says nothing: a function of its cores and its GPUs.
pub type Room = fn(usize, usize) -> usize;

/// What the programs on the hosts are for.
pub struct ProgramSpec {
    /// For all hosts; name, address and slots are filled in for each.
    pub invitation: Invitation,
    /// The files of the task.
    pub objects: Vec<Object>,
    /// Workers of a host that is added, where nothing is said.
    pub room: Room,
    /// The server's inbox.
    pub messages: Sender<Message>,
    /// Whether the run is over.
    pub over: Arc<AtomicBool>,
    /// Whether programs of this run may be left on the hosts from before.
    pub again: bool,
    /// The server's port, where workers do not come through ssh.
    pub port: Option<u16>,
}

/// Workers of a host, as far as is known.
pub(super) fn slots_of(host: &Host, facts: Option<&Facts>, room: Room) -> usize {
    let known = facts.map(|facts| room(facts.cores, facts.gpus).max(1));
    host.slots.or(known).unwrap_or(1)
}

/// What was prepared on a host, or why nothing could be.
pub(super) type Prepared = Result<(Remote, Facts), SshError>;

/// Logs in, and looks around.
pub(super) async fn connect(
    host: &Host,
    options: &ssh::Options,
    control: &Control,
) -> Result<(Remote, Facts), SshError> {
    let remote = Remote::connect(host, options, control, Instant::now() + REACH).await?;
    let facts = remote.facts().await?;
    Ok((remote, facts))
}
