//! Options of a run whose workers are elsewhere: which hosts, how to get there, how patient to be.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use serde::{Deserialize, Serialize};

use super::values::{defaults, positive};
use dsgd_core::codec::Codec;

/// Where an ssh list is looked for when nothing else is said: the ancestor's file.
pub const CLIENT_LIST: &str = "client_list.txt";

/// The options that say where workers are, in place of one another.
pub const WHERE: [&str; 4] = ["remote", "localhost", "hosts", "host"];

/// Hosts, and how to log into them.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default)]
#[command(next_help_heading = "Hosts")]
pub struct HostOptions {
    /// Workers on this machine, but through ssh: a rehearsal for hosts
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", hide_possible_values = true,
          hide_default_value = true)]
    pub localhost: bool,
    /// Host list, a line each: `[user@]host[:port] [slots=N] [python=PATH]`; `OpenMPI` and `DeepSpeed` hostfiles, too
    #[arg(
        long,
        value_name = "FILE",
        help = "Host list: a line each, [user@]host[:port] [slots=N] [python=PATH]; OpenMPI and DeepSpeed hostfiles, too"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<PathBuf>,
    /// Hosts, such as h1:4,user@h2:2; the number is that of workers there
    #[arg(short = 'H', long = "host", value_name = "LIST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Log in as this user where the list does not say
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Configuration of ssh [default: its own]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_config: Option<PathBuf>,
    /// This program built for another architecture, such as aarch64=target/…/dsgd; may be repeated
    #[arg(long, value_name = "ARCH=FILE")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub binary: Vec<String>,
}

/// Workers elsewhere.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(default)]
#[command(next_help_heading = "Hosts")]
pub struct Elsewhere {
    /// Whether workers are on the hosts of a list
    #[arg(long, help = "Workers on the hosts of client_list.txt, --hosts or --host, through ssh",
          value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", hide_possible_values = true,
          hide_default_value = true)]
    pub remote: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub host_options: HostOptions,
    /// Workers connect to this address of the server (with TLS), not through ssh; others may join
    #[arg(long, value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Fetch the next batch's parameters while computing, at the price of staleness; --mode auto does so where it pays
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", hide_possible_values = true,
          hide_default_value = true)]
    pub prefetch: bool,
    /// How parameters and gradients travel: none, as they are; bf16, int8 or int4, in a half, a quarter or an eighth of the
    /// bytes. What is left out is sent with the next; the server's own stay f32
    /// [default: with --mode auto int8 or int4 by measurement, else none]
    #[arg(long, value_enum, hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<Codec>,
    /// A worker that is silent for so long is lost
    #[arg(long, value_name = "SECS", default_value_t = 10.0, value_parser = positive)]
    pub dead_after: f64,
    /// A worker ends when it has not reached the server for so long
    #[arg(long, value_name = "SECS", default_value_t = 60.0, value_parser = positive)]
    pub orphan_after: f64,
    /// The run is saved and ends when there was no worker for so long
    #[arg(long, value_name = "SECS", default_value_t = 600.0, value_parser = positive)]
    pub give_up_after: f64,
    /// Restart the server from the last checkpoint when it is killed, so many times
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub max_restarts: u32,
}

impl Default for Elsewhere {
    fn default() -> Self {
        defaults()
    }
}

impl Elsewhere {
    /// Whether workers are reached by ssh, so that none is a thread of the server.
    pub fn uses_ssh(&self) -> bool {
        self.remote
            || self.host_options.localhost
            || self.host_options.hosts.is_some()
            || self.host_options.host.is_some()
    }
}
