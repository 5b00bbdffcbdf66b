//! The part of `dsgd train` that has workers elsewhere: from options to hosts with workers, and
//! a port for those who join by hand.

mod by_hand;

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::files;
use super::serve::Job;
use crate::task::Task;
use by_hand::{called, join_line, login, outward};
use dsgd_core::event::Event;
use dsgd_engine::launch::fleet::{Fleet, FleetHandle, LaunchSpec, ListedHosts};
use dsgd_engine::run::{INVITATION, RunFolder, SECRETS, SOCKET};
use dsgd_engine::server::{Message, Server};
use dsgd_engine::ssh::{Object, Telling};
use dsgd_engine::wire::credentials::{Identity, Token};
use dsgd_engine::wire::invitation::{Invitation, LocalSocket};
use dsgd_engine::wire::link::Endpoint;
use dsgd_engine::wire::listen::{Listener, serve};
use dsgd_engine::wire::service::{Service, Terms};
use dsgd_observe::Verbosity;

/// What is there when sending to hosts was stopped.
pub(super) const LEFT_ON_HOSTS: &str = "What has arrived on hosts stays in their cache (~/.cache/dsgd), and is \
     not sent again; hosts clean removes it";

/// Secrets of a run, kept so that its next life knows them.
#[derive(Serialize, Deserialize)]
struct Secrets {
    run: String,
    token: Token,
    server: Identity,
    worker: Identity,
}

/// Workers elsewhere, before the run starts.
pub(super) struct Elsewhere {
    runtime: Runtime,
    fleet: Option<Fleet>,
    /// Where workers come in from the network.
    port: Option<Listener>,
    secrets: Secrets,
    invitation: Invitation,
    objects: Vec<Object>,
    /// The host list as it is now.
    listed: ListedHosts,
    dead_after: Duration,
    again: bool,
    invitation_file: PathBuf,
    /// Where workers of this machine may knock, when others come through a port.
    socket: PathBuf,
}

/// Reaches the hosts and sends what they lack; none when all workers are threads of this process.
pub(super) fn prepare<T: Task>(
    job: &Job<T>,
    verbosity: Verbosity,
) -> anyhow::Result<Option<Elsewhere>> {
    let wishes = &job.config.elsewhere;
    if !wishes.uses_ssh() && wishes.listen.is_none() {
        return Ok(None);
    }
    let listen = wishes.listen.as_deref().map(address).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no event loop to be had")?;
    let secrets = secrets(&job.folder)?;
    // Before anything is sent anywhere: it may be taken.
    let port = listen.map(|address| {
        let listener = runtime.block_on(Listener::tcp(address, &secrets.server));
        let remedy = "give an address of this machine and a free port";
        listener.map_err(|error| anyhow!("--listen {address}: {error}; {remedy}"))
    });
    let port = port.transpose()?;
    let (files, objects) = files::pack::<T>(&job.options)?;
    let fleet = if wishes.uses_ssh() {
        Some(Fleet::reach(
            &runtime,
            wishes
                .places
                .hosts_of_run(job.folder.path(), job.config.workers)?,
            wishes.places.options(),
            wishes.places.binaries()?,
            job.config.workers,
            job.restarted,
        )?)
    } else {
        None
    };
    let mut this = Elsewhere {
        fleet,
        port,
        invitation: Invitation {
            run: secrets.run.clone(),
            endpoint: Endpoint {
                address: String::new(),
                identity: listen.map(|_| secrets.worker.clone()),
                token: secrets.token.clone(),
                host: String::new(),
            },
            task: job.name.to_owned(),
            config: job.text.clone(),
            files,
            local: None,
            slots: None,
        },
        secrets,
        objects,
        listed: wishes.places.listed(job.folder.path(), job.config.workers),
        dead_after: Duration::from_secs_f64(wishes.dead_after),
        again: job.resumed || job.restarted,
        invitation_file: job.folder.file(INVITATION),
        socket: job.folder.file(SOCKET),
        runtime,
    };
    if let Some(fleet) = &mut this.fleet {
        let telling = match verbosity {
            Verbosity::Quiet => Telling::Nobody,
            Verbosity::Normal | Verbosity::Verbose => Telling::Stderr,
        };
        fleet.send(&this.runtime, &this.objects, telling)?;
    }
    Ok(Some(this))
}

impl Elsewhere {
    /// Workers that are to be started; none where others only may join.
    pub(super) fn workers(&self) -> Option<usize> {
        self.fleet.as_ref().map(Fleet::workers)
    }

    /// A line for each host.
    pub(super) fn describe(&self) -> Vec<String> {
        self.fleet.iter().flat_map(Fleet::describe).collect()
    }

    /// Opens the listener and starts the programs on the hosts.
    pub(super) fn start(
        mut self,
        server: &mut Server<'_>,
        messages: &Sender<Message>,
    ) -> anyhow::Result<Watch> {
        let listener = self.listener()?;
        let port = listener.address();
        let service = Service::new(Terms {
            token: self.secrets.token.clone(),
            layout: Arc::clone(server.layout()),
            dead_after: self.dead_after,
            buffers: server.buffers().clone(),
            messages: messages.clone(),
            numbers: server.numbers(),
            over: server.over(),
        });
        let serving = serve(listener, service.clone()).context("cannot serve workers elsewhere")?;
        self.runtime.spawn(serving);
        let mut local = None;
        if let Some(address) = port {
            server.open_to_others();
            local = self.local(&service);
            server.tell(Event::Notice {
                message: self.invite(address, local.as_ref())?,
            });
        }
        let handle = self.fleet.take().map(|fleet| {
            let spec = LaunchSpec {
                invitation: self.invitation,
                objects: self.objects,
                messages: messages.clone(),
                over: server.over(),
                again: self.again,
                port: port.map(|address| address.port()),
            };
            fleet.start(&self.runtime, spec, self.listed)
        });
        Ok(Watch {
            runtime: self.runtime,
            service,
            handle,
            _local: local,
        })
    }

    fn listener(&mut self) -> anyhow::Result<Listener> {
        let _context = self.runtime.enter();
        match (self.port.take(), &self.fleet) {
            (Some(port), _) => Ok(port),
            (None, Some(fleet)) => Ok(Listener::unix(&fleet.socket())?),
            (None, None) => bail!("there is no listener to open"),
        }
    }

    /// Opens a socket for workers of this machine; without one, they come through the port.
    fn local(&self, service: &Service) -> Option<Socket> {
        let path = self
            .socket
            .parent()
            .and_then(|folder| fs::canonicalize(folder).ok());
        let socket = Socket(path?.join(SOCKET));
        let _ = fs::remove_file(&socket.0);
        let _context = self.runtime.enter();
        let listener = Listener::unix(&socket.0).ok()?;
        fs::set_permissions(&socket.0, Permissions::from_mode(0o600)).ok()?;
        self.runtime.spawn(serve(listener, service.clone()).ok()?);
        Some(socket)
    }

    /// Writes the invitation for whoever joins by hand; returns the line to paste.
    fn invite(&mut self, address: SocketAddr, local: Option<&Socket>) -> anyhow::Result<String> {
        if !address.ip().is_unspecified() {
            self.invitation.endpoint.address = format!("https://{address}");
        }
        let mut invitation = Invitation {
            local: local.and_then(|socket| LocalSocket::here(socket.0.clone())),
            ..self.invitation.clone()
        };
        // Hosts that are logged into are told the address under which they know us.
        invitation.endpoint.address = format!("https://{}:{}", outward(address), address.port());
        let file = &self.invitation_file;
        let write = invitation.write(file);
        write.with_context(|| format!("cannot write {}", file.display()))?;
        let file = fs::canonicalize(file)?;
        Ok(join_line(address, &file, &called(), login().as_deref()))
    }
}

/// A socket in the file system, which goes when this does.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Workers elsewhere, while the run lasts.
pub(super) struct Watch {
    runtime: Runtime,
    service: Service,
    handle: Option<FleetHandle>,
    _local: Option<Socket>,
}

impl Watch {
    /// Lets the workers go: they are told that the run is over, and have a moment for it.
    pub(super) fn dismiss(self) {
        if let Some(handle) = self.handle {
            handle.dismiss(&self.runtime);
        }
        let farewell = async {
            while self.service.sessions() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(3), farewell).await });
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

fn address(text: &str) -> anyhow::Result<SocketAddr> {
    text.parse().map_err(|_| {
        anyhow!("--listen {text}: must be an address and a port, such as 0.0.0.0:7077")
    })
}

/// Those of the run's earlier life, or new ones.
fn secrets(folder: &RunFolder) -> anyhow::Result<Secrets> {
    let file = folder.file(SECRETS);
    if let Ok(text) = fs::read_to_string(&file)
        && let Ok(secrets) = serde_json::from_str(&text)
    {
        return Ok(secrets);
    }
    let (server, worker) = Identity::for_a_run()?;
    let token = Token::fresh();
    let mut run = String::from(Token::fresh());
    run.truncate(16);
    let secrets = Secrets {
        run,
        token,
        server,
        worker,
    };
    folder.write_secret(SECRETS, &serde_json::to_string(&secrets)?)?;
    Ok(secrets)
}
