//! Workers on hosts: reached by ssh, started there, and started again.
//!
//! All hosts at once are logged into, looked at and given what they lack. Then each of them is
//! supervised by a task of its own, for as long as the run lasts (`supervisor`) and the host takes part in it
//! (`membership`).
//! Nothing here knows of batches: a worker that is gone is the core's business.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::membership::Membership;
use super::program::{ListedHosts, Prepared, ProgramSpec, Room, connect, slots_of};
use crate::hosts::{Host, HostsError, spread};
use crate::run::RunHosts;
use crate::ssh::{self, Binaries, Control, Facts, Object, Remote, SshError, TransferLog};

/// Why no worker can be started on any host.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The list does not fit the number of workers.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// Something of this machine, or of the only host.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// None of several hosts can be used.
    #[error("no host can be used:\n  {0}")]
    All(String),
    /// The address of `--listen`.
    #[error("--listen {address}: {reason}")]
    Listen {
        /// As typed.
        address: String,
        /// Why not.
        reason: String,
    },
}

impl FleetError {
    fn all(errors: &[&SshError]) -> Self {
        let words: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Self::All(words.join("\n  "))
    }
}

/// A host and what is known of it.
struct HostEntry {
    host: Host,
    workers: usize,
    prepared: Prepared,
}

/// The hosts of a run.
pub struct Fleet {
    control: Arc<Control>,
    options: ssh::Options,
    binaries: Binaries,
    entries: Vec<HostEntry>,
    /// The run goes on: hosts that cannot be used now are no error even when there is no other.
    patient: bool,
}

impl Fleet {
    /// Logs into all hosts at once and looks around; `workers` are spread over the slots of those that
    /// are listed. Hosts that cannot be used now are no error while there is another, or with `patient`.
    pub fn connect(
        runtime: &Runtime,
        hosts: RunHosts,
        options: ssh::Options,
        binaries: Binaries,
        workers: Option<usize>,
        room: Room,
        patient: bool,
    ) -> Result<Self, FleetError> {
        let control = Arc::new(Control::new()?);
        let (listed, changed) = (hosts.listed.len(), hosts.changed);
        let hosts = hosts.all();
        let reached = runtime.block_on(connect_all(&hosts, &options, &control));
        let mut slots = Vec::new();
        let mut found = Vec::new();
        for (host, result) in hosts.iter().zip(reached) {
            let result = result.and_then(|(remote, facts)| {
                binaries.choose(&host.name, &facts)?;
                Ok((remote, facts))
            });
            let facts = result.as_ref().ok().map(|(_, facts)| facts);
            slots.push(slots_of(host, facts, room));
            found.push(result);
        }
        let all: Vec<_> = found
            .iter()
            .filter_map(|result| result.as_ref().err())
            .collect();
        if all.len() == hosts.len() && !patient {
            return Err(FleetError::all(&all));
        }
        let (slots, added) = slots.split_at(listed);
        let all = slots.iter().sum();
        let workers = workers.map(|workers| if changed { workers.min(all) } else { workers });
        let mut workers = spread(slots, workers)?;
        workers.extend(added);
        let entries = hosts.into_iter().zip(workers).zip(found);
        let entries = entries.map(|((host, workers), prepared)| HostEntry {
            host,
            workers,
            prepared,
        });
        Ok(Self {
            control,
            options,
            binaries,
            entries: entries.collect(),
            patient,
        })
    }

    /// Number of workers on all hosts.
    pub fn workers(&self) -> usize {
        self.entries.iter().map(|entry| entry.workers).sum()
    }

    /// Hosts that are to have workers.
    fn working(&self) -> impl Iterator<Item = &HostEntry> {
        self.entries.iter().filter(|entry| entry.workers > 0)
    }

    /// A name for the server's own socket, in a folder that only this user may enter.
    pub fn socket(&self) -> std::path::PathBuf {
        self.control.file("server")
    }

    /// A line for each host.
    pub fn describe(&self) -> Vec<String> {
        let describe = |entry: &HostEntry| {
            let host = &entry.host.name;
            let plural = if entry.workers == 1 { "" } else { "s" };
            let workers = format!("{host}: {} worker{plural}", entry.workers);
            match &entry.prepared {
                Ok((_, facts)) => format!("{workers}, {}, {}", facts.computes(), facts.arch),
                Err(error) if error.is_permanent() => format!("{workers}, of no use"),
                Err(_) => format!("{workers}, not reached yet"),
            }
        };
        self.working().map(describe).collect()
    }

    /// Sends what the hosts lack. What fails is tried again later where that
    /// may help; an error where it helps on no host.
    pub fn send(
        &mut self,
        runtime: &Runtime,
        objects: &[Object],
        log: TransferLog,
    ) -> Result<(), FleetError> {
        let mut jobs = Vec::new();
        let mut receivers = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.workers > 0) {
            if let Ok((remote, facts)) = &entry.prepared
                && let Ok(program) = self.binaries.choose(&entry.host.name, facts)
            {
                let all = std::iter::once(program).chain(objects.iter().cloned());
                jobs.push((remote.clone(), all.collect()));
                receivers.push(entry);
            }
        }
        let results = runtime.block_on(ssh::send_all(jobs, log));
        for (entry, result) in receivers.into_iter().zip(results) {
            if let Err(error) = result {
                entry.prepared = Err(error);
            }
        }
        let errors = self.working().filter_map(|b| b.prepared.as_ref().err());
        let hopeless: Vec<_> = errors.filter(|error| error.is_permanent()).collect();
        if hopeless.len() == self.working().count() && !self.patient {
            return Err(FleetError::all(&hopeless));
        }
        Ok(())
    }

    /// Starts the programs; they are supervised until the run is over. Hosts join and leave it as `listed`
    /// says.
    pub fn start(self, runtime: &Runtime, spec: ProgramSpec, listed: ListedHosts) -> FleetHandle {
        let access = (Arc::clone(&self.control), self.options, self.binaries);
        let membership = Membership::new(access, spec, listed);
        let entries = self.entries.into_iter();
        let hosts = entries.map(|entry| (entry.host, entry.workers, entry.prepared));
        let hosts = hosts.collect();
        FleetHandle {
            task: runtime.spawn(membership.keep(hosts)),
            _control: self.control,
        }
    }
}

/// Logs into all hosts at once.
async fn connect_all(
    hosts: &[Host],
    options: &ssh::Options,
    control: &Arc<Control>,
) -> Vec<Result<(Remote, Facts), SshError>> {
    let mut tasks = JoinSet::new();
    for (number, host) in hosts.iter().enumerate() {
        let (host, options, control) = (host.clone(), options.clone(), Arc::clone(control));
        tasks.spawn(async move { (number, connect(&host, &options, &control).await) });
    }
    let mut results: Vec<_> = hosts.iter().map(|_| None).collect();
    while let Some(ended) = tasks.join_next().await {
        if let Ok((number, result)) = ended {
            results[number] = Some(result);
        }
    }
    let broke_off = |host: &Host| SshError::Other {
        host: host.name.clone(),
        said: "looking around broke off".to_owned(),
    };
    let results = results.into_iter().zip(hosts);
    results
        .map(|(result, host)| result.unwrap_or_else(|| Err(broke_off(host))))
        .collect()
}

/// The programs on the hosts.
pub struct FleetHandle {
    task: JoinHandle<()>,
    _control: Arc<Control>,
}

impl FleetHandle {
    /// Waits a little for the programs to end by themselves; then their connections are cut, and
    /// with them their lives.
    pub fn dismiss(mut self, runtime: &Runtime, within: Duration) {
        let _ = runtime.block_on(async { timeout(within, &mut self.task).await });
        self.task.abort();
    }
}
