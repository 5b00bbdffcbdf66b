//! From options to hosts: the same for a run and for `dsgd hosts`.

use std::path::Path;

use super::program::ListedHosts;
use crate::Error;
use crate::config::{CLIENT_LIST, HostOptions};
use crate::hosts::{self, Host};
use crate::run::{HostChanges, RunHosts};
use crate::ssh::{Binaries, Options, parse_binary};

impl HostOptions {
    /// The hosts that are meant: this machine, typed ones, else those of a file. This machine has room
    /// for as many workers as there are.
    pub fn hosts(&self, workers: Option<usize>) -> Result<Vec<Host>, Error> {
        if self.localhost {
            return Ok(vec![Host {
                user: None,
                name: "localhost".to_owned(),
                port: None,
                slots: workers,
                python: None,
            }]);
        }
        if let Some(list) = &self.host {
            return hosts::parse_list(list)
                .map_err(|error| Error::Options(format!("--host: {error}")));
        }
        let usual = Path::new(CLIENT_LIST);
        let file = self.hosts.as_deref().unwrap_or(usual);
        if self.hosts.is_none() && !file.exists() {
            return Err(Error::Options(format!(
                "there is no {CLIENT_LIST} here: write one, a host on each line, or pass --hosts \
                 FILE or --host h1:4,h2:2"
            )));
        }
        Ok(hosts::read_file(file)?)
    }

    /// The hosts of the run in that folder: those of its list as it is now, with what was added and
    /// dropped since.
    pub fn hosts_of_run(&self, folder: &Path, workers: Option<usize>) -> Result<RunHosts, Error> {
        let list = self.hosts(workers)?;
        Ok(HostChanges::read(folder, &self.list())?.apply(list)?)
    }

    /// What reads them again and again.
    pub fn listed(&self, folder: &Path, workers: Option<usize>) -> ListedHosts {
        let (host_options, folder) = (self.clone(), folder.to_owned());
        Box::new(move || {
            let hosts = host_options.hosts_of_run(&folder, workers);
            hosts.map(RunHosts::all).map_err(|error| error.to_string())
        })
    }

    /// Which list it is that the hosts come from, as it would be typed.
    pub fn list(&self) -> String {
        match (&self.host, &self.hosts) {
            _ if self.localhost => "--localhost".to_owned(),
            (Some(list), _) => format!("-H {list}"),
            (None, Some(file)) => format!("--hosts {}", file.display()),
            (None, None) => format!("--hosts {CLIENT_LIST}"),
        }
    }

    /// How to log in there.
    pub fn options(&self) -> Options {
        Options {
            username: self.username.clone(),
            config_file: self.ssh_config.clone(),
            ..Options::default()
        }
    }

    /// The program for each architecture.
    pub fn binaries(&self) -> Result<Binaries, Error> {
        let parse = |text: &String| {
            parse_binary(text).map_err(|why| Error::Options(format!("--binary {text}: {why}")))
        };
        let of_arch = self.binary.iter().map(parse);
        Ok(Binaries::new(of_arch.collect::<Result<_, Error>>()?)?)
    }
}
