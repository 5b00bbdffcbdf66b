//! Workers on hosts: reached by ssh, started there, and started again.
//!
//! Each host is tended by a task of its own, for as long as the run lasts: log in, send what
//! is missing, lay the way back, start the program, pass on what it says. Whatever ends that
//! (a crash, a cable, a reboot) is said, and after a pause it begins anew. Nothing
//! here knows of batches: a worker that is gone is the core's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::event::Event;
use crate::hosts::{Host, HostsError, spread};
use crate::server::Letter;
use crate::ssh::{self, Binaries, Control, Ended, Facts, Object, Remote, SshError};
use crate::wire::invitation::Invitation;

/// The time for a login and a look around.
const REACH: Duration = Duration::from_secs(20);

/// First and longest pause before a host is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A program that lived so long has earned a short pause.
const GOOD_LIFE: Duration = Duration::from_secs(60);

/// The same trouble is told again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// Programs on hosts have so long to end by themselves when the run is over.
const FAREWELL: Duration = Duration::from_secs(5);

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

/// A host and what is known of it.
struct Berth {
    host: Host,
    workers: usize,
    reached: Option<(Remote, Facts)>,
}

/// The hosts of a run.
pub struct Fleet {
    control: Arc<Control>,
    options: ssh::Options,
    binaries: Binaries,
    berths: Vec<Berth>,
    /// What went wrong with some hosts; they are tried again.
    pub warnings: Vec<String>,
}

/// What the programs on the hosts are for.
pub struct Orders {
    /// For all hosts; name, address and slots are filled in for each.
    pub invitation: Invitation,
    /// The files of the task.
    pub objects: Vec<Object>,
    /// The server's inbox.
    pub letters: Sender<Letter>,
    /// Whether the run is over.
    pub over: Arc<AtomicBool>,
    /// Whether programs of this run may be left on the hosts from before.
    pub again: bool,
    /// The server's port, where workers do not come through ssh.
    pub port: Option<u16>,
}

impl Fleet {
    /// Logs into all hosts at once and looks around; `workers` are spread over their slots.
    ///
    /// With `patient`, hosts that cannot be used now are no error even when there is no other.
    pub fn reach(
        runtime: &Runtime,
        hosts: Vec<Host>,
        options: ssh::Options,
        binaries: Binaries,
        workers: Option<usize>,
        patient: bool,
    ) -> Result<Self, FleetError> {
        let control = Arc::new(Control::new()?);
        let reached = runtime.block_on(reach_all(&hosts, &options, &control));
        let mut warnings = Vec::new();
        let mut slots = Vec::new();
        let mut found = Vec::new();
        for (host, result) in hosts.iter().zip(reached) {
            let result = result.and_then(|(remote, facts)| {
                binaries.choose(&host.name, &facts)?;
                Ok((remote, facts))
            });
            let cores = result.as_ref().map_or(1, |(_, facts)| facts.cores);
            slots.push(host.slots.unwrap_or(cores));
            found.push(
                result
                    .map_err(|error| warnings.push(error.to_string()))
                    .ok(),
            );
        }
        if warnings.len() == hosts.len() && !patient {
            return Err(FleetError::All(warnings.join("\n  ")));
        }
        let workers = spread(&slots, workers)?;
        let berths = hosts.into_iter().zip(workers).zip(found);
        let berths = berths.map(|((host, workers), reached)| Berth {
            host,
            workers,
            reached,
        });
        Ok(Self {
            control,
            options,
            binaries,
            berths: berths.filter(|berth| berth.workers > 0).collect(),
            warnings,
        })
    }

    /// Number of workers on all hosts.
    pub fn workers(&self) -> usize {
        self.berths.iter().map(|berth| berth.workers).sum()
    }

    /// A name for the server's own socket, in a folder that only this user may enter.
    pub fn socket(&self) -> std::path::PathBuf {
        self.control.file("server")
    }

    /// A line for each host.
    pub fn describe(&self) -> Vec<String> {
        let describe = |berth: &Berth| {
            let host = &berth.host.name;
            let plural = if berth.workers == 1 { "" } else { "s" };
            let workers = format!("{host}: {} worker{plural}", berth.workers);
            match &berth.reached {
                Some((_, facts)) => format!("{workers}, {} cores, {}", facts.cores, facts.arch),
                None => format!("{workers}, not reached yet"),
            }
        };
        self.berths.iter().map(describe).collect()
    }

    /// Sends what the hosts lack, with a bar for each. What fails is tried again later.
    pub fn send(&mut self, runtime: &Runtime, objects: &[Object], quiet: bool) {
        let mut jobs = Vec::new();
        for berth in &self.berths {
            if let Some((remote, facts)) = &berth.reached
                && let Ok(program) = self.binaries.choose(&berth.host.name, facts)
            {
                let all = std::iter::once(program).chain(objects.iter().cloned());
                jobs.push((remote.clone(), all.collect()));
            }
        }
        for result in runtime.block_on(ssh::send_all(jobs, quiet)) {
            if let Err(error) = result {
                self.warnings.push(error.to_string());
            }
        }
    }

    /// Starts the programs; they are tended until the run is over.
    pub fn start(self, runtime: &Runtime, orders: Orders) -> Crew {
        let orders = Arc::new(orders);
        let mut tasks = JoinSet::new();
        for berth in self.berths {
            let tender = Tender {
                orders: Arc::clone(&orders),
                control: Arc::clone(&self.control),
                options: self.options.clone(),
                binaries: self.binaries.clone(),
                host: berth.host,
                workers: berth.workers,
            };
            let reached = berth.reached.map(|(remote, facts)| (remote, facts));
            tasks.spawn_on(async move { tender.tend(reached).await }, runtime.handle());
        }
        Crew {
            tasks,
            _control: self.control,
        }
    }
}

/// Logs into all hosts at once.
async fn reach_all(
    hosts: &[Host],
    options: &ssh::Options,
    control: &Arc<Control>,
) -> Vec<Result<(Remote, Facts), SshError>> {
    let mut tasks = JoinSet::new();
    for (number, host) in hosts.iter().enumerate() {
        let (host, options, control) = (host.clone(), options.clone(), Arc::clone(control));
        tasks.spawn(async move { (number, reach(&host, &options, &control).await) });
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

async fn reach(
    host: &Host,
    options: &ssh::Options,
    control: &Control,
) -> Result<(Remote, Facts), SshError> {
    let remote = Remote::connect(host, options, control, Instant::now() + REACH).await?;
    let facts = remote.facts().await?;
    Ok((remote, facts))
}

/// The programs on the hosts.
pub struct Crew {
    tasks: JoinSet<()>,
    _control: Arc<Control>,
}

impl Crew {
    /// Waits a little for the programs to end by themselves; then their connections are cut, and
    /// with them their lives.
    pub fn dismiss(mut self, runtime: &Runtime) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = runtime.block_on(async { timeout(FAREWELL, all).await });
    }
}

/// One host's tender.
struct Tender {
    orders: Arc<Orders>,
    control: Arc<Control>,
    options: ssh::Options,
    binaries: Binaries,
    host: Host,
    workers: usize,
}

impl Tender {
    async fn tend(self, mut reached: Option<(Remote, Facts)>) {
        let mut pause = PAUSES.0;
        let mut again = self.orders.again;
        let mut told: Option<(String, Instant)> = None;
        while !self.is_over() {
            let started = Instant::now();
            let trouble = match self.live(reached.take(), again).await {
                Ok(ended) => ended,
                Err(error) => error.to_string(),
            };
            if self.is_over() {
                return;
            }
            again = true;
            if started.elapsed() > GOOD_LIFE {
                pause = PAUSES.0;
            }
            let news = told
                .as_ref()
                .is_none_or(|(last, at)| *last != trouble || at.elapsed() > TELL_AGAIN);
            if news {
                let message = format!("{trouble}; trying again");
                self.tell(Event::Warning { message });
                told = Some((trouble, Instant::now()));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// A program's life on the host; returns how it ended, in words.
    async fn live(
        &self,
        reached: Option<(Remote, Facts)>,
        again: bool,
    ) -> Result<String, SshError> {
        let (remote, facts) = match reached {
            Some(reached) => reached,
            None => reach(&self.host, &self.options, &self.control).await?,
        };
        let run = &self.orders.invitation.run;
        if again {
            remote.stop(Some(run)).await?;
        }
        let program = self.binaries.choose(&self.host.name, &facts)?;
        let objects = std::iter::once(program.clone()).chain(self.orders.objects.iter().cloned());
        let sent = ssh::send_all(vec![(remote.clone(), objects.collect())], true).await;
        sent.into_iter().collect::<Result<(), _>>()?;
        let mut invitation = self.orders.invitation.clone();
        invitation.way.host.clone_from(&self.host.name);
        invitation.slots = Some(self.workers);
        invitation.way.address = self.address(&remote).await?;
        let args = ["worker", "--tethered", "--run", run];
        let mut running = remote.start(&program, &args, &invitation.to_line()).await?;
        while let Some(line) = running.line().await {
            self.tell(Event::HostSaid {
                host: self.host.name.clone(),
                line: line.1,
            });
        }
        let host = &self.host.name;
        Ok(match running.wait().await {
            Ended::Status(0) => format!("{host}: its workers left"),
            Ended::Status(code) => format!("{host}: its workers ended with status {code}"),
            Ended::Killed => format!("{host}: its workers were killed (out of memory?)"),
            Ended::Lost(error) => error.to_string(),
        })
    }

    /// Where the host's workers find the server.
    async fn address(&self, remote: &Remote) -> Result<String, SshError> {
        let given = &self.orders.invitation.way.address;
        match self.orders.port {
            None => {
                let way_back = remote.forward(&self.control.file("server")).await?;
                Ok(format!("unix:{way_back}"))
            }
            // The server listens everywhere: the address under which the host knows us is good.
            Some(port) if given.is_empty() => {
                let mut said = remote.run("echo ${SSH_CONNECTION%% *}").await?;
                let line = said.line().await.map(|(_, line)| line).unwrap_or_default();
                let ours = line.trim();
                let bracketed = match ours.contains(':') {
                    true => format!("[{ours}]"),
                    false => ours.to_owned(),
                };
                Ok(format!("https://{bracketed}:{port}"))
            }
            Some(_) => Ok(given.clone()),
        }
    }

    fn is_over(&self) -> bool {
        self.orders.over.load(Ordering::Relaxed)
    }

    fn tell(&self, event: Event) {
        // A server that does not read any more is over.
        let _ = self.orders.letters.send(Letter::Tell(event));
    }
}
