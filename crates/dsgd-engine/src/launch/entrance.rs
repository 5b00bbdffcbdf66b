//! Where workers of other processes come in: the server's gRPC, behind a port or a socket, the run's secrets,
//! and the invitation that says how to get there.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use super::by_hand::{join_line, login, outward};
use super::launcher::{LaunchError, LaunchSpec};
use crate::error::Error;
use crate::run::{INVITATION, RunFolder, SECRETS, SOCKET};
use crate::server::Message;
use crate::wire::credentials::{Identity, Token};
use crate::wire::invitation::{FileRef, Invitation, LocalSocket};
use crate::wire::link::Endpoint;
use crate::wire::listen::{Listener, serve};
use crate::wire::service::{Service, Terms};
use dsgd_core::event::Event;

/// Secrets of a run, kept so that its next life knows them.
#[derive(Serialize, Deserialize)]
struct Secrets {
    run: String,
    token: Token,
    server: Identity,
    worker: Identity,
}

/// What workers of other processes must know, and where they connect.
pub struct EntranceOptions<'a> {
    /// The run's folder, which keeps its secrets.
    pub folder: &'a RunFolder,
    /// Address and port to listen on; none where every worker comes through a host's login.
    pub listen: Option<&'a str>,
    /// Registered name of the task.
    pub task: &'a str,
    /// The text of the run's `config.toml`.
    pub config: &'a str,
    /// Files that the task's options name.
    pub files: Vec<FileRef>,
    /// A worker that is silent for so long is lost.
    pub dead_after: Duration,
    /// How this program is called, for the command by which others join.
    pub program: String,
}

/// An entrance that is not open yet; its port is taken.
pub struct Entrance {
    runtime: Runtime,
    listener: Option<Listener>,
    secrets: Secrets,
    invitation: Invitation,
    dead_after: Duration,
    program: String,
    invitation_file: PathBuf,
    /// Where workers of this machine may connect, when others come through a port.
    socket: PathBuf,
}

impl Entrance {
    /// Takes the port, before anything is sent anywhere: it may be taken.
    ///
    /// # Errors
    /// When it is, or the run's secrets cannot be kept.
    pub fn prepare(options: EntranceOptions<'_>) -> Result<Self, Error> {
        let EntranceOptions { folder, listen, .. } = options;
        let listen = listen.map(address).transpose()?;
        let runtime = Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::Launch(error.into()))?;
        let secrets = secrets(folder)?;
        let listener = listen.map(|address| {
            let listener = runtime.block_on(Listener::tcp(address, &secrets.server));
            let remedy = "give an address of this machine and a free port";
            listener
                .map_err(|error| Error::Options(format!("--listen {address}: {error}; {remedy}")))
        });
        Ok(Self {
            listener: listener.transpose()?,
            invitation: Invitation {
                run: secrets.run.clone(),
                endpoint: Endpoint {
                    address: String::new(),
                    identity: listen.map(|_| secrets.worker.clone()),
                    token: secrets.token.clone(),
                    host: String::new(),
                },
                task: options.task.to_owned(),
                config: options.config.to_owned(),
                files: options.files,
                local: None,
                slots: None,
            },
            secrets,
            dead_after: options.dead_after,
            program: options.program,
            invitation_file: folder.file(INVITATION),
            socket: folder.file(SOCKET),
            runtime,
        })
    }

    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Lets workers in: through the port, or where there is none through a socket at `path`.
    pub(super) fn open(
        mut self,
        spec: &LaunchSpec,
        path: Option<&Path>,
    ) -> Result<Opened, LaunchError> {
        let listener = match (self.listener.take(), path) {
            (Some(listener), _) => listener,
            (None, Some(path)) => {
                let _context = self.runtime.enter();
                Listener::unix(path)?
            }
            (None, None) => return Err("there is no listener to open".into()),
        };
        let address = listener.address();
        let service = Service::new(Terms {
            token: self.secrets.token.clone(),
            layout: Arc::clone(&spec.model.manifest().layout),
            initial: spec.initial,
            state_vectors: spec.rule.state_names().len(),
            dead_after: self.dead_after,
            buffers: spec.buffers.clone(),
            messages: spec.messages.clone(),
            numbers: Arc::clone(&spec.numbers),
            over: Arc::clone(&spec.over),
        });
        let serving = serve(listener, service.clone());
        let serving =
            serving.map_err(|error| format!("cannot serve workers elsewhere: {error}"))?;
        self.runtime.spawn(serving);
        let mut local = None;
        if let Some(address) = address {
            local = self.local(&service);
            let message = self.invite(address, local.as_ref())?;
            let _ = spec.messages.send(Message::OthersMayJoin);
            let _ = spec.messages.send(Message::Emit(Event::Notice { message }));
        }
        Ok(Opened {
            runtime: self.runtime,
            service,
            invitation: self.invitation,
            port: address.map(|address| address.port()),
            _local: local,
        })
    }

    /// Opens a socket for workers of this machine; without one, they come through the port.
    fn local(&self, service: &Service) -> Option<Socket> {
        let folder = self.socket.parent()?;
        let socket = Socket(fs::canonicalize(folder).ok()?.join(SOCKET));
        let _ = fs::remove_file(&socket.0);
        let _context = self.runtime.enter();
        let listener = Listener::unix(&socket.0).ok()?;
        fs::set_permissions(&socket.0, Permissions::from_mode(0o600)).ok()?;
        self.runtime.spawn(serve(listener, service.clone()).ok()?);
        Some(socket)
    }

    /// Writes the invitation for whoever joins by hand; returns the line to paste.
    fn invite(
        &mut self,
        address: SocketAddr,
        local: Option<&Socket>,
    ) -> Result<String, LaunchError> {
        if !address.ip().is_unspecified() {
            self.invitation.endpoint.address = format!("https://{address}");
        }
        let mut invitation = Invitation {
            local: local.and_then(|socket| LocalSocket::here(socket.0.clone())),
            ..self.invitation.clone()
        };
        // Hosts that are logged into get the address under which they know us.
        invitation.endpoint.address = format!("https://{}:{}", outward(address), address.port());
        let file = &self.invitation_file;
        let write = invitation.write(file);
        write.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let file = fs::canonicalize(file)?;
        Ok(join_line(address, &file, &self.program, login().as_deref()))
    }
}

/// A socket in the file system, which goes when this does.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// An entrance through which workers come.
pub(super) struct Opened {
    runtime: Runtime,
    service: Service,
    pub(super) invitation: Invitation,
    pub(super) port: Option<u16>,
    _local: Option<Socket>,
}

impl Opened {
    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Workers get to know that the run is over, and have a moment to leave.
    pub(super) fn close(self, within: Duration) {
        let farewell = async {
            while self.service.sessions() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let farewell = async { tokio::time::timeout(within, farewell).await };
        let _ = self.runtime.block_on(farewell);
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

fn address(text: &str) -> Result<SocketAddr, Error> {
    text.parse().map_err(|_| {
        Error::Options(format!(
            "--listen {text}: must be an address and a port, such as 0.0.0.0:7077"
        ))
    })
}

/// Those of the run's earlier life, or new ones.
fn secrets(folder: &RunFolder) -> Result<Secrets, Error> {
    let file = folder.file(SECRETS);
    if let Ok(text) = fs::read_to_string(&file)
        && let Ok(secrets) = serde_json::from_str(&text)
    {
        return Ok(secrets);
    }
    let identities = Identity::for_a_run();
    let (server, worker) = identities.map_err(|error| Error::Launch(error.into()))?;
    let token = Token::fresh();
    let mut run = String::from(Token::fresh());
    run.truncate(16);
    let secrets = Secrets {
        run,
        token,
        server,
        worker,
    };
    let text = serde_json::to_string(&secrets).expect("plain data becomes JSON");
    folder.write_secret(SECRETS, &text)?;
    Ok(secrets)
}
