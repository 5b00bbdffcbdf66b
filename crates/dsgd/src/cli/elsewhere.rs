//! The part of `dsgd train` that has workers elsewhere: from options to hosts with workers, and
//! a door for those who join by hand.

use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::serve::Job;
use super::{cargo, worker};
use crate::event::Event;
use crate::launch::fleet::{Crew, Fleet, ListedHosts, Orders};
use crate::observe::Verbosity;
use crate::run::{INVITATION, RunFolder, SECRETS, SOCKET};
use crate::server::{Letter, Server};
use crate::ssh::Object;
use crate::task::Task;
use crate::wire::credentials::{Papers, Token};
use crate::wire::invitation::{Invitation, Near};
use crate::wire::link::Way;
use crate::wire::listen::{Door, serve};
use crate::wire::service::{Service, Terms};

/// Secrets of a run, kept so that its next life knows them.
#[derive(Serialize, Deserialize)]
struct Secrets {
    run: String,
    token: Token,
    server: Papers,
    worker: Papers,
}

/// Workers elsewhere, before the run starts.
pub(super) struct Elsewhere {
    runtime: Runtime,
    fleet: Option<Fleet>,
    /// Where workers come in from the network.
    port: Option<Door>,
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
        let door = runtime.block_on(Door::tcp(address, &secrets.server));
        let remedy = "give an address of this machine and a free port";
        door.map_err(|error| anyhow!("--listen {address}: {error}; {remedy}"))
    });
    let port = port.transpose()?;
    let (files, objects) = cargo::pack::<T>(&job.options)?;
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
            way: Way {
                address: String::new(),
                papers: listen.map(|_| secrets.worker.clone()),
                token: secrets.token.clone(),
                host: String::new(),
            },
            task: job.name.to_owned(),
            config: job.text.clone(),
            files,
            near: None,
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
        fleet.send(&this.runtime, &this.objects, verbosity == Verbosity::Quiet)?;
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

    /// Opens the door and starts the programs on the hosts.
    pub(super) fn start(
        mut self,
        server: &mut Server<'_>,
        letters: &Sender<Letter>,
    ) -> anyhow::Result<Watch> {
        let door = self.door()?;
        let port = door.address();
        let service = Service::new(Terms {
            token: self.secrets.token.clone(),
            layout: Arc::clone(server.layout()),
            dead_after: self.dead_after,
            buffers: server.buffers().clone(),
            letters: letters.clone(),
            numbers: server.numbers(),
            over: server.over(),
        });
        let serving = serve(door, service.clone()).context("cannot serve workers elsewhere")?;
        self.runtime.spawn(serving);
        let mut near = None;
        if let Some(address) = port {
            server.open_to_others();
            near = self.near(&service);
            server.tell(Event::Notice {
                message: self.invite(address, near.as_ref())?,
            });
        }
        let crew = self.fleet.take().map(|fleet| {
            let orders = Orders {
                invitation: self.invitation,
                objects: self.objects,
                letters: letters.clone(),
                over: server.over(),
                again: self.again,
                port: port.map(|address| address.port()),
            };
            fleet.start(&self.runtime, orders, self.listed)
        });
        Ok(Watch {
            runtime: self.runtime,
            service,
            crew,
            _near: near,
        })
    }

    fn door(&mut self) -> anyhow::Result<Door> {
        let _context = self.runtime.enter();
        match (self.port.take(), &self.fleet) {
            (Some(port), _) => Ok(port),
            (None, Some(fleet)) => Ok(Door::unix(&fleet.socket())?),
            (None, None) => bail!("there is no door to open"),
        }
    }

    /// Opens a socket for workers of this machine; without one, they come through the port.
    fn near(&self, service: &Service) -> Option<Socket> {
        let path = self
            .socket
            .parent()
            .and_then(|folder| fs::canonicalize(folder).ok());
        let socket = Socket(path?.join(SOCKET));
        let _ = fs::remove_file(&socket.0);
        let _context = self.runtime.enter();
        let door = Door::unix(&socket.0).ok()?;
        fs::set_permissions(&socket.0, Permissions::from_mode(0o600)).ok()?;
        self.runtime.spawn(serve(door, service.clone()).ok()?);
        Some(socket)
    }

    /// Writes the invitation for whoever joins by hand; returns the line to paste.
    fn invite(&mut self, address: SocketAddr, near: Option<&Socket>) -> anyhow::Result<String> {
        if !address.ip().is_unspecified() {
            self.invitation.way.address = format!("https://{address}");
        }
        let mut invitation = Invitation {
            near: near.and_then(|socket| Near::here(socket.0.clone())),
            ..self.invitation.clone()
        };
        // Hosts that are logged into are told the address under which they know us.
        invitation.way.address = format!("https://{}:{}", outward(address), address.port());
        let file = &self.invitation_file;
        let write = invitation.write(file);
        write.with_context(|| format!("cannot write {}", file.display()))?;
        let file = fs::canonicalize(file)?;
        Ok(join_line(address, &file, &called(), login().as_deref()))
    }
}

/// What a person reads who wants to join by hand: a command that works as it stands on another machine.
fn join_line(address: SocketAddr, file: &Path, program: &str, login: Option<&str>) -> String {
    let file = super::shell_word(file);
    let host = outward(address);
    if address.ip().is_loopback() {
        return format!(
            "Listening on {address}, which is this machine's own. More workers join here with: \
             {program} worker < {file}"
        );
    }
    let login = login.map_or(String::new(), |name| format!("{name}@"));
    // ssh has brackets nowhere, and gives its words to another shell.
    let to = host.trim_start_matches('[').trim_end_matches(']');
    let there = super::shell_word(Path::new(&file));
    format!(
        "Listening on {address}. A machine that has this program, too, joins with: ssh {login}{to} \
         cat {there} | {program} worker --join https://{host}:{}",
        address.port()
    )
}

/// The host of a URL by which others reach that address: where we listen everywhere, the address
/// from which this machine would speak to the world, else its name.
fn outward(address: SocketAddr) -> String {
    let bracketed = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    if !address.ip().is_unspecified() {
        return bracketed(address.ip());
    }
    // Nothing is sent: the system only chooses a route. The address is one of RFC 5737's.
    let ours = UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
        socket.connect(("192.0.2.1", 9))?;
        socket.local_addr()
    });
    ours.map_or_else(|_| worker::host_name(), |ours| bracketed(ours.ip()))
}

/// This program, as it can be called from any folder.
fn called() -> String {
    let name = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let in_path = name.components().count() < 2;
    let whole = if in_path {
        Ok(name.clone())
    } else {
        std::path::absolute(&name)
    };
    super::shell_word(&whole.unwrap_or(name))
}

/// Who may read the invitation.
fn login() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut users = users.lines().map(|line| line.split(':'));
    users.find_map(|mut user| {
        let name = user.next()?;
        (user.nth(1)? == uid).then(|| name.to_owned())
    })
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
    crew: Option<Crew>,
    _near: Option<Socket>,
}

impl Watch {
    /// Lets the workers go: they are told that the run is over, and have a moment for it.
    pub(super) fn dismiss(self) {
        if let Some(crew) = self.crew {
            crew.dismiss(&self.runtime);
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
    let (server, worker) = Papers::for_a_run()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(address: &str, file: &str, login: Option<&str>) -> String {
        join_line(
            address.parse().unwrap(),
            Path::new(file),
            "/opt/mine",
            login,
        )
    }

    #[test]
    fn the_line_to_join_with_can_be_pasted_elsewhere() {
        let told = line("10.0.0.1:7077", "/r/invitation", Some("ann"));
        let command = "ssh ann@10.0.0.1 cat /r/invitation | /opt/mine worker --join \
                       https://10.0.0.1:7077";
        assert!(told.ends_with(command), "{told}");
        let told = line("[fd00::1]:7077", "/my run/invitation", None);
        let command = r"ssh fd00::1 cat ''\''/my run/invitation'\''' | /opt/mine worker --join https://[fd00::1]:7077";
        assert!(told.ends_with(command), "{told}");
        let everywhere = line("0.0.0.0:7077", "/r/invitation", None);
        assert!(!everywhere.contains("0.0.0.0:7077 cat") && !everywhere.contains("//0.0.0.0"));
    }

    #[test]
    fn nobody_elsewhere_is_asked_to_this_machine_s_own_port() {
        let told = line("127.0.0.1:7077", "/r/invitation", Some("ann"));
        assert!(told.ends_with("/opt/mine worker < /r/invitation"), "{told}");
        assert!(!told.contains("ssh"), "{told}");
    }
}
