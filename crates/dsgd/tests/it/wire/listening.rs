//! A run that listens, as a process of its own, and a client that has its identity.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output};

use dsgd_core::event::{Event, Record};
use dsgd_engine::wire::invitation::{Invitation, LocalSocket};
use dsgd_engine::wire::link::Endpoint;
use dsgd_engine::wire::proto::dsgd_client::DsgdClient;
use serde_json::Value;
use tonic::transport::Channel;

use crate::elsewhere::server_of;
use crate::program::{Program, end, until};

/// A run of its own; it ends when this is dropped.
pub(crate) struct Listening {
    pub(crate) program: Program,
    child: Option<Child>,
    pub(crate) invitation: Invitation,
}

impl Listening {
    /// Starts an example's `train` with these words and that trouble, on a free port.
    pub(crate) fn start(example: &str, args: &str, trouble: &str) -> Self {
        let program = Program::of(example);
        let args = format!("train --listen 127.0.0.1:0 --run-dir run {args}");
        let child = program.command(&args, trouble).spawn().unwrap();
        let file = program.path("run").join("invitation");
        let line = until(|| fs::read_to_string(&file).ok());
        let invitation = Invitation::from_line(&line.expect("an invitation")).unwrap();
        Self {
            program,
            child: Some(child),
            invitation,
        }
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.program.path("run")
    }

    /// The supervisor and the server.
    pub(crate) fn processes(&self) -> [u32; 2] {
        let supervisor = self.child.as_ref().unwrap().id();
        let server = until(|| server_of(supervisor)).expect("a server");
        [supervisor, server]
    }

    pub(crate) fn address(&self) -> String {
        let address = self.invitation.endpoint.address.strip_prefix("https://");
        address.unwrap().to_owned()
    }

    /// What has happened so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        let text = fs::read(self.run().join("events.jsonl")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // The last line may be half written.
        let records = text.lines().filter_map(|l| serde_json::from_str(l).ok());
        records.map(|record: Record| record.event).collect()
    }

    /// Waits for that event.
    pub(crate) fn wait_for<T>(&self, what: &str, is_it: impl Fn(&Event) -> Option<T>) -> T {
        let found = until(|| self.events().iter().find_map(&is_it));
        found.unwrap_or_else(|| panic!("{what} does not happen: {:?}", self.events().last()))
    }

    pub(crate) fn steps(&self) -> usize {
        let events = self.events();
        events
            .iter()
            .filter(|e| matches!(e, Event::Step(_)))
            .count()
    }

    /// The run's own end.
    pub(crate) fn end(&mut self) -> Output {
        end(self.child.take().unwrap())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.child.is_some() {
            let [supervisor, server] = self.processes().map(|pid| pid.to_string());
            let _ = Command::new("kill")
                .args(["-s", "KILL", &supervisor, &server])
                .status();
        }
    }
}

/// The words of a secret, as they stand in the invitation.
pub(crate) fn words_of(secret: &impl serde::Serialize) -> Value {
    serde_json::to_value(secret).unwrap()
}

/// A client that says anything, over TLS with the endpoint's identity.
pub(crate) async fn client(endpoint: &Endpoint) -> DsgdClient<Channel> {
    DsgdClient::new(endpoint.connect().await.unwrap())
}

/// What was damaged on its way is found when it is read; to ask the server again and again is no help.
#[test]
fn a_damaged_invitation_is_reported_at_once() {
    let run = Listening::start("trouble", "-n 1 --epochs 100000", "slow:5");
    let whole = serde_json::to_string(&run.invitation).unwrap();
    assert!(Invitation::from_line(&whole).is_ok());
    for (what, instead, why) in [
        ("BEGIN CERTIFICATE", "BEGIN CRETIFICATE", "cannot be read"),
        ("BEGIN PRIVATE KEY", "BEGIN PRIVATE KYE", "cannot be read"),
        (
            "-----BEGIN CERTIFICATE-----\\nM",
            "-----BEGIN CERTIFICATE-----\\nA",
            "cannot be used",
        ),
    ] {
        let damaged = whole.replace(what, instead);
        assert_ne!(damaged, whole, "{what}");
        let told = Invitation::from_line(&damaged).map(|_| ()).unwrap_err();
        assert!(told.to_string().contains(why), "{told}");
    }
}

/// A worker of the server's own machine comes through its socket; on another machine, a file of that
/// name would be something else.
#[test]
fn a_socket_is_known_on_its_own_machine_only() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let local = LocalSocket::here(socket.clone()).unwrap();
    assert_eq!(local.address(), None, "it is not there");
    let _door = UnixListener::bind(&socket).unwrap();
    let address = format!("unix:{}", socket.display());
    assert_eq!(local.address(), Some(address));
    let mut elsewhere = serde_json::to_value(&local).unwrap();
    elsewhere["machine"] = "another".into();
    let local: LocalSocket = serde_json::from_value(elsewhere).unwrap();
    assert_eq!(local.address(), None);
}
