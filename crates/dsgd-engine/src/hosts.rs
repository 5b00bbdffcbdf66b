//! Hosts: what a host list says, and how many workers each host gets.
//!
//! A line is a host: `[user@]host[:port] [slots=N] [python=PATH] [# comment]`. The ancestor's
//! `client_list.txt`, an address a line, is such a list, and so are the hostfiles of OpenMPI
//! (`host slots=4 max_slots=8`) and DeepSpeed (`worker-1 slots=4`). On the command line a list
//! is `h1:4,h2:2,user@h3`; there the number is that of slots, as in OpenMPI.
//!
//! A name is what ssh is called with: an address, a host's name, or an alias in
//! `~/.ssh/config`. It becomes a word of a command line, so a name that ssh would take for an
//! option, or a shell for more than a word, is refused here and nowhere else has to be looked at.
//!
//! Ranges (`h[1-4]`), ranks and cpu sets of other hostfiles are not read. `max_slots` is checked
//! and then left alone: there are never more workers than slots.

mod error;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::Ipv6Addr;
use std::path::Path;

pub use error::{HostsError, MOST_HOSTS, MOST_NAME_BYTES, MOST_SLOTS, Wrong};

/// Bytes of a host list: [`MOST_HOSTS`] lines with long names, and comments.
const MOST_FILE_BYTES: u64 = 4 << 20;
/// Characters of a wrong entry that an error repeats.
const MOST_SHOWN: usize = 60;

/// A machine that can be logged into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Whom to log in as, where the list says so.
    pub user: Option<String>,
    /// Name, address (IPv6 without brackets) or alias in `~/.ssh/config`.
    pub name: String,
    /// Port of its sshd, where the list says so.
    pub port: Option<u16>,
    /// Workers it has room for, where the list says so.
    pub slots: Option<usize>,
    /// The Python that runs scripts there, where the list says so.
    pub python: Option<String>,
}

impl Host {
    /// Its line in a host list.
    pub fn to_line(&self) -> String {
        let slots = self.slots.map(|slots| format!(" slots={slots}"));
        let python = self.python.as_ref().map(|path| format!(" python={path}"));
        [Some(self.to_string()), slots, python]
            .into_iter()
            .flatten()
            .collect()
    }
}

impl fmt::Display for Host {
    /// As it stands in a host list: `user@host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match (self.port, self.name.contains(':')) {
            (None, _) => write!(f, "{}", self.name),
            (Some(port), false) => write!(f, "{}:{port}", self.name),
            (Some(port), true) => write!(f, "[{}]:{port}", self.name),
        }
    }
}

/// Reads the text of a host list. A host that is there twice has the slots of both.
///
/// # Errors
/// Names file and line of the first entry that is wrong, and what is expected there.
pub fn parse(text: &str, file_name: &str) -> Result<Vec<Host>, HostsError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(|line| match line.split_once('#') {
        Some((before, _comment)) => before.trim(),
        None => line.trim(),
    });
    let entries = lines.zip(1..).filter(|(line, _)| !line.is_empty());
    let hosts = gather(entries, &|line| format!("{file_name}:{line}"), line_entry)?;
    or_no_host(hosts, file_name, "lines like: user@host slots=4")
}

/// Reads a list as it stands on the command line: `h1:4,h2:2,user@h3`.
///
/// # Errors
/// Names the first entry that is wrong, and what is expected there.
pub fn parse_list(text: &str) -> Result<Vec<Host>, HostsError> {
    let entries = text.split(',').map(str::trim).zip(1..);
    let entries = entries.filter(|_| !text.trim().is_empty());
    let hosts = gather(entries, &|entry| format!("-H, entry {entry}"), list_entry)?;
    or_no_host(hosts, "-H", "entries like: -H h1:4,user@h2:2")
}

/// Reads a host list.
///
/// # Errors
/// If the file cannot be read, or as [`parse`].
pub fn read_file(path: &Path) -> Result<Vec<Host>, HostsError> {
    let unreadable = |source| HostsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let not_a_list = |reason| HostsError::NotAList {
        path: path.to_owned(),
        reason,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    let most = file.take(MOST_FILE_BYTES + 1).read_to_end(&mut bytes);
    if most.map_err(unreadable)? as u64 > MOST_FILE_BYTES {
        return Err(not_a_list("it is too long"));
    }
    let text = String::from_utf8(bytes).map_err(|_| not_a_list("it is not UTF-8 text"))?;
    parse(&text, &path.display().to_string())
}

/// How many workers each host gets, given the slots of each: one to every host in turn while it
/// has room, until there are `workers`; without a number every slot gets one.
///
/// # Errors
/// If there are more workers than slots.
pub fn spread(slots: &[usize], workers: Option<usize>) -> Result<Vec<usize>, HostsError> {
    let all = slots.iter().fold(0, |sum: usize, s| sum.saturating_add(*s));
    let workers = workers.unwrap_or(all);
    if workers > all {
        return Err(HostsError::TooManyWorkers {
            workers,
            slots: all,
            hosts: slots.len(),
        });
    }
    let mut counts = vec![0; slots.len()];
    let mut left = workers;
    while left > 0 {
        for (count, room) in counts.iter_mut().zip(slots) {
            if left > 0 && *count < *room {
                *count += 1;
                left -= 1;
            }
        }
    }
    Ok(counts)
}

fn or_no_host(
    hosts: Vec<Host>,
    place: &str,
    expected: &'static str,
) -> Result<Vec<Host>, HostsError> {
    if hosts.is_empty() {
        let place = place.to_owned();
        return Err(HostsError::NoHost { place, expected });
    }
    Ok(hosts)
}

/// An earlier entry of a host.
struct Earlier {
    index: usize,
    number: usize,
    has_slots: bool,
}

/// Reads all entries, and makes one host of those with the same name.
fn gather<'a>(
    entries: impl Iterator<Item = (&'a str, usize)>,
    place: &dyn Fn(usize) -> String,
    read: impl Fn(&str) -> Result<Host, Wrong>,
) -> Result<Vec<Host>, HostsError> {
    let mut hosts: Vec<Host> = Vec::new();
    let mut earlier: HashMap<String, Earlier> = HashMap::new();
    for (entry, number) in entries {
        let added = read(entry).and_then(|host| match earlier.entry(host.name.clone()) {
            Entry::Occupied(other) => {
                let other = other.get();
                add_slots(&mut hosts[other.index], &host, other, place)
            }
            Entry::Vacant(_) if hosts.len() == MOST_HOSTS => Err(Wrong::ManyHosts),
            Entry::Vacant(vacant) => {
                vacant.insert(Earlier {
                    index: hosts.len(),
                    number,
                    has_slots: host.slots.is_some(),
                });
                hosts.push(host);
                Ok(())
            }
        });
        added.map_err(|wrong| HostsError::Entry {
            place: place(number),
            entry: shown(entry),
            wrong,
        })?;
    }
    Ok(hosts)
}

/// A host that is there once more. Where nothing is said of slots, each time is one.
fn add_slots(
    host: &mut Host,
    again: &Host,
    earlier: &Earlier,
    place: &dyn Fn(usize) -> String,
) -> Result<(), Wrong> {
    if (&host.user, host.port, &host.python) != (&again.user, again.port, &again.python) {
        return Err(Wrong::Contradiction(place(earlier.number)));
    }
    if earlier.has_slots != again.slots.is_some() {
        return Err(Wrong::SlotsOnce(place(earlier.number)));
    }
    let slots = host.slots.unwrap_or(1) + again.slots.unwrap_or(1);
    if slots > MOST_SLOTS {
        let place = place(earlier.number);
        return Err(Wrong::ManySlots { place, slots });
    }
    host.slots = Some(slots);
    Ok(())
}

/// `[user@]host[:port] [slots=N] [max_slots=N] [python=PATH]`
fn line_entry(line: &str) -> Result<Host, Wrong> {
    let (address, options) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (user, name, port) = address_parts(address, "port")?;
    let port = port.map(|port| {
        let number = digits(port).and_then(|number| u16::try_from(number).ok());
        let number = number.filter(|number| *number > 0);
        number.ok_or_else(|| Wrong::Port(shown(port)))
    });
    let (mut slots, mut max, mut python) = (None, None, None);
    // OpenMPI lets spaces stand around the sign.
    let options = options.replace('=', " = ");
    let mut words = options.split_whitespace();
    while let Some(key) = words.next() {
        let key = match key {
            "slots" => "slots",
            "max_slots" | "max-slots" => "max_slots",
            "python" => "python",
            _ => return Err(Wrong::Option(shown(key))),
        };
        let value = match (words.next(), words.next()) {
            (Some("="), Some(value)) => value,
            _ if key == "python" => return Err(Wrong::Python),
            _ => return Err(Wrong::Slots(key, String::new())),
        };
        let twice = match key {
            "slots" => slots.replace(slot_count(key, value)?).is_some(),
            "max_slots" => max.replace(slot_count(key, value)?).is_some(),
            _ => python.replace(value.to_owned()).is_some(),
        };
        if twice {
            return Err(Wrong::Twice(key));
        }
    }
    if let (Some(slots), Some(max)) = (slots, max)
        && max < slots
    {
        return Err(Wrong::MaxSlots { slots, max });
    }
    Ok(Host {
        user,
        name,
        port: port.transpose()?,
        slots: slots.or(max),
        python,
    })
}

/// `[user@]host[:slots]`
fn list_entry(entry: &str) -> Result<Host, Wrong> {
    let (user, name, slots) = address_parts(entry, "slots")?;
    let slots = slots.map(|slots| slot_count("slots", slots)).transpose()?;
    Ok(Host {
        user,
        name,
        port: None,
        slots,
        python: None,
    })
}

/// User, name, and what stands after the colon, which is called `after`.
fn address_parts<'a>(
    text: &'a str,
    after: &'static str,
) -> Result<(Option<String>, String, Option<&'a str>), Wrong> {
    let (user, rest) = match text.rsplit_once('@') {
        Some(("", _)) => return Err(Wrong::NoUser),
        // Directories of some firms have users with an @ in their name.
        Some((user, rest)) => (Some(checked(user, ".-_+@")?), rest),
        None => (None, text),
    };
    let (name, number) = match rest.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((name, ""))) => (name, None),
        Some(Some((name, number))) => {
            (name, Some(number.strip_prefix(':').ok_or(Wrong::Brackets)?))
        }
        Some(None) => return Err(Wrong::Brackets),
        None if is_ipv6(rest) => (rest, None),
        None => match rest.split_once(':') {
            Some((_, number)) if number.contains(':') => return Err(Wrong::Colons(after)),
            Some((name, number)) => (name, Some(number)),
            None => (rest, None),
        },
    };
    let allowed = match (is_ipv6(name), rest.starts_with('[')) {
        (true, _) => ".-_:%",
        (false, true) => return Err(Wrong::Brackets),
        (false, false) => ".-_",
    };
    Ok((user, checked(name, allowed)?, number))
}

/// `fe80::1` or `fe80::1%eth0`
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "zone"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && !zone.contains([':', '%'])
}

/// A name of letters, digits, and of those that are allowed besides.
fn checked(name: &str, allowed: &str) -> Result<String, Wrong> {
    // A dash would begin an option, a dot a hidden file or a folder above.
    match name.chars().next() {
        None => return Err(Wrong::NoName),
        Some(first @ ('-' | '.' | '@' | '+')) => return Err(Wrong::Start(first)),
        Some(_) => {}
    }
    let mut chars = name.chars();
    if let Some(other) = chars.find(|c| !c.is_alphanumeric() && !allowed.contains(*c)) {
        return Err(Wrong::Character(other));
    }
    if name.len() > MOST_NAME_BYTES {
        return Err(Wrong::LongName);
    }
    Ok(name.to_owned())
}

fn slot_count(key: &'static str, text: &str) -> Result<usize, Wrong> {
    let count = digits(text).filter(|count| (1..=MOST_SLOTS).contains(count));
    count.ok_or_else(|| Wrong::Slots(key, shown(text)))
}

/// A number without a sign.
fn digits(text: &str) -> Option<usize> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// As much of it as an error should repeat.
fn shown(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
