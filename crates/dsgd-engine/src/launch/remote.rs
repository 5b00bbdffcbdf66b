//! Workers on hosts that are reached by ssh, on which nothing is installed beforehand.

use std::time::Duration;

use super::entrance::{Entrance, Opened};
use super::fleet::{Fleet, FleetError, FleetHandle};
use super::launcher::{Handle, LaunchError, LaunchSpec, Launcher};
use super::program::{ListedHosts, ProgramSpec, Room};
use crate::run::RunHosts;
use crate::ssh::{Binaries, Object, Options, TransferLog};

/// Which hosts, how to get there, and what they are to have.
pub struct RemoteOptions {
    /// The run's hosts.
    pub hosts: RunHosts,
    /// The host list as it is now, read again and again while the run lasts.
    pub listed: ListedHosts,
    /// How to log in.
    pub login: Options,
    /// The program for each architecture.
    pub binaries: Binaries,
    /// The files of the task.
    pub objects: Vec<Object>,
    /// Workers on all hosts; none for every slot.
    pub workers: Option<usize>,
    /// Workers of a host of which the list says nothing.
    pub room: Room,
    /// The run went on before: programs of it may be left on the hosts.
    pub again: bool,
    /// Hosts that cannot be used now are no error even when there is no other.
    pub patient: bool,
    /// Where the progress of sending is written.
    pub log: TransferLog,
}

/// Hosts that were reached and have what they need.
pub struct Remote {
    entrance: Entrance,
    fleet: Fleet,
    listed: ListedHosts,
    objects: Vec<Object>,
    room: Room,
    again: bool,
}

impl Remote {
    /// Logs into the hosts and sends what they lack. Workers there come in through `entrance`: its port if it
    /// listens on one, else through their host's login.
    ///
    /// # Errors
    /// When no host can be used.
    pub fn connect(entrance: Entrance, options: RemoteOptions) -> Result<Self, FleetError> {
        let runtime = entrance.runtime();
        let mut fleet = Fleet::connect(
            runtime,
            options.hosts,
            options.login,
            options.binaries,
            options.workers,
            options.room,
            options.patient,
        )?;
        fleet.send(runtime, &options.objects, options.log)?;
        Ok(Self {
            fleet,
            listed: options.listed,
            objects: options.objects,
            room: options.room,
            again: options.again,
            entrance,
        })
    }
}

impl Launcher for Remote {
    fn workers(&self) -> Option<usize> {
        Some(self.fleet.workers())
    }

    fn is_elsewhere(&self) -> bool {
        true
    }

    fn describe(&self) -> Vec<String> {
        self.fleet.describe()
    }

    fn launch(self: Box<Self>, spec: LaunchSpec) -> Result<Box<dyn Handle>, LaunchError> {
        let opened = self.entrance.open(&spec, Some(&self.fleet.socket()))?;
        let program = ProgramSpec {
            invitation: opened.invitation.clone(),
            objects: self.objects,
            room: self.room,
            messages: spec.messages,
            over: spec.over,
            again: self.again,
            port: opened.port,
        };
        let fleet = self.fleet.start(opened.runtime(), program, self.listed);
        Ok(Box::new(OnHosts { fleet, opened }))
    }
}

struct OnHosts {
    fleet: FleetHandle,
    opened: Opened,
}

impl Handle for OnHosts {
    fn dismiss(self: Box<Self>, within: Duration) {
        self.fleet.dismiss(self.opened.runtime(), within);
        self.opened.close(within);
    }
}
