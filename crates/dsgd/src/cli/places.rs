//! From options to hosts: the same for a run and for `dsgd hosts`.

use std::path::Path;

use anyhow::{Context, anyhow, bail};

use crate::config::{CLIENT_LIST, Places};
use crate::hosts::{self, Host};
use crate::ssh::{Binaries, Options, parse_binary};

impl Places {
    /// The hosts that are meant: this machine, typed ones, else those of a file. This machine has room
    /// for as many workers as there are.
    pub(super) fn hosts(&self, workers: Option<usize>) -> anyhow::Result<Vec<Host>> {
        if self.localhost {
            return Ok(vec![Host {
                user: None,
                name: "localhost".to_owned(),
                port: None,
                slots: workers,
            }]);
        }
        if let Some(list) = &self.host {
            return hosts::parse_list(list).context("--host");
        }
        let usual = Path::new(CLIENT_LIST);
        let file = self.hosts.as_deref().unwrap_or(usual);
        if self.hosts.is_none() && !file.exists() {
            bail!(
                "there is no {CLIENT_LIST} here: write one, a host on each line, or pass --hosts \
                 FILE or --host h1:4,h2:2"
            );
        }
        Ok(hosts::read_file(file)?)
    }

    /// How to log in there.
    pub(super) fn options(&self) -> Options {
        Options {
            username: self.username.clone(),
            config_file: self.ssh_config.clone(),
            ..Options::default()
        }
    }

    /// The program for each architecture.
    pub(super) fn binaries(&self) -> anyhow::Result<Binaries> {
        let parse =
            |text: &String| parse_binary(text).map_err(|why| anyhow!("--binary {text}: {why}"));
        let of_arch = self.binary.iter().map(parse);
        Ok(Binaries::new(of_arch.collect::<Result<_, _>>()?)?)
    }
}
