//! What can be wrong with a host list.

use std::io;
use std::path::PathBuf;

/// Hosts of a list: more than one server can talk to.
pub const MOST_HOSTS: usize = 4096;
/// Slots of a host: more than any host's cores.
pub const MOST_SLOTS: usize = 4096;
/// Bytes of a host's or user's name: the longest name that DNS has.
pub const MOST_NAME_BYTES: usize = 255;

/// Why a host list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// The file could not be read.
    #[error(
        "cannot read {path}: {source}; write a file with a host a line, pass --hosts FILE, or \
         name the hosts by -H h1:4,h2"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no list of hosts at all.
    #[error("{path}: {reason}; a host list is UTF-8 text with a host a line, 4 MiB at most")]
    NotAList {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        reason: &'static str,
    },
    /// There is no host in it.
    #[error("{place}: there is no host in it; expected {expected}")]
    NoHost {
        /// The file, or the option.
        place: String,
        /// What an entry looks like.
        expected: &'static str,
    },
    /// An entry is wrong.
    #[error("{place}: {entry:?}: {wrong}")]
    Entry {
        /// File and line, or option and entry.
        place: String,
        /// The entry, cut where it is long.
        entry: String,
        /// What is wrong with it.
        wrong: Wrong,
    },
    /// There is no room for so many workers.
    #[error(
        "-n {workers} is more than the {slots} slots of {hosts} hosts; pass -n {slots} or less, \
         leave -n out, or make room by slots=N in the host list (-H h1:N)"
    )]
    TooManyWorkers {
        /// Workers that were asked for.
        workers: usize,
        /// Slots of all hosts.
        slots: usize,
        /// Number of hosts.
        hosts: usize,
    },
}

/// What is wrong with an entry of a host list, and what is expected instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // Each variant's message says it.
pub enum Wrong {
    #[error("there is no host's name; expected [user@]host[:port] [slots=N]")]
    NoName,
    #[error("there is no user's name before the @; expected user@host")]
    NoUser,
    #[error("a name begins with {0:?}; expected a letter or a digit")]
    Start(char),
    #[error("{0:?} cannot be in a name; expected letters, digits, '.', '-' and '_'")]
    Character(char),
    #[error("a name is longer than {MOST_NAME_BYTES} bytes")]
    LongName,
    #[error("expected an IPv6 address in the brackets, such as [fe80::1]:22")]
    Brackets,
    #[error("more than one colon, and no IPv6 address; expected host:{0}")]
    Colons(&'static str),
    #[error("the port is {0:?}; expected a number from 1 to 65535")]
    Port(String),
    #[error("{0} is {1:?}; expected a number from 1 to {MOST_SLOTS}")]
    Slots(&'static str, String),
    #[error("max_slots={max} is less than slots={slots}")]
    MaxSlots { slots: usize, max: usize },
    #[error("python is empty; expected the path of a Python there: python=/opt/python/bin/python3")]
    Python,
    #[error("{0} is given twice")]
    Twice(&'static str),
    #[error(
        "{0:?} means nothing here; expected slots=N, max_slots=N or python=PATH, and a user before \
         the host: user@host"
    )]
    Option(String),
    #[error(
        "the same host as in {0}, with another user, port or Python; give them two names in \
         ~/.ssh/config, or make them equal"
    )]
    Contradiction(String),
    #[error("the same host as in {0}, and only one of them has slots; give both theirs")]
    SlotsOnce(String),
    #[error("together with {place} the host has {slots} slots; {MOST_SLOTS} is the most")]
    ManySlots { place: String, slots: usize },
    #[error("a list has {MOST_HOSTS} hosts at most")]
    ManyHosts,
}
