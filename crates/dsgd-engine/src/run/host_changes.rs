//! Hosts that were added to a run, and dropped from it, while it was under way.
//!
//! A file of the run's folder, beside the host list that the run was started with: that one belongs to
//! its user, and the run reads it again as well. The server reads this file, `dsgd hosts add` and `drop`
//! write it; so what was changed holds for the run's next lives, too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::hosts::{Host, HostsError, parse};

/// File in a run's folder with hosts that were added and dropped.
pub const HOST_CHANGES: &str = "hosts.toml";

const HEAD: &str =
    "# Hosts that were added to this run, and dropped: see `hosts add` and `hosts drop`.\n";

/// What a run's hosts are, beside those of its list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostChanges {
    /// Of which list, as it was typed: to a run that goes on with another one they mean nothing.
    list: String,
    /// Lines of a host list; they win over those of the list.
    add: Vec<String>,
    /// Names.
    drop: Vec<String>,
}

/// The hosts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunHosts {
    /// Those of its list that were not dropped; `-n` is spread over them.
    pub listed: Vec<Host>,
    /// Those that were added; each has as many workers as it has slots.
    pub added: Vec<Host>,
    /// Whether any was added or dropped: then `-n` may be more than there is room for.
    pub changed: bool,
}

impl HostChanges {
    /// What was changed of that list in that run's folder.
    pub fn read(folder: &Path, list: &str) -> Result<Self, Error> {
        let path = folder.join(HOST_CHANGES);
        let none = Self {
            list: list.to_owned(),
            ..Self::default()
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(none),
            Err(error) => return Err(cannot("cannot read", folder, error)),
        };
        let read: Self = toml::from_str(&text)
            .map_err(|error| Error::Options(format!("{}: {error}", path.display())))?;
        Ok(if read.list == list { read } else { none })
    }

    /// Writes them, whole or not at all.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let text = toml::to_string(self).map_err(|error| Error::Options(error.to_string()))?;
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(format!("{HEAD}{text}").as_bytes())?;
            file.persist(folder.join(HOST_CHANGES))?;
            Ok(())
        };
        write().map_err(|error| cannot("cannot write", folder, error))
    }

    /// Waits until nobody else changes them; holds as long as what is returned. Where the file system knows
    /// no locks, nobody waits.
    pub fn lock(folder: &Path) -> Option<File> {
        let folder = File::open(folder).ok()?;
        folder.lock().ok()?;
        Some(folder)
    }

    /// From now on the host is one of the run's, whatever the list says.
    pub fn add(&mut self, host: &Host) {
        self.forget(&host.name);
        self.add.push(host.to_line());
    }

    /// From now on it is none.
    pub fn drop(&mut self, name: &str) {
        self.forget(name);
        self.drop.push(name.to_owned());
    }

    fn forget(&mut self, name: &str) {
        self.drop.retain(|dropped| dropped != name);
        let is_it = |line: &String| parse(line, "").is_ok_and(|hosts| hosts[0].name == name);
        self.add.retain(|line| !is_it(line));
    }

    /// A run's hosts, given those of its list.
    pub fn apply(&self, list: Vec<Host>) -> Result<RunHosts, HostsError> {
        let added = match &self.add[..] {
            [] => Vec::new(),
            lines => parse(&lines.join("\n"), HOST_CHANGES)?,
        };
        let stays = |host: &Host| {
            !self.drop.contains(&host.name) && added.iter().all(|other| other.name != host.name)
        };
        let listed = list.into_iter().filter(stays).collect();
        Ok(RunHosts {
            listed,
            added,
            changed: !(self.add.is_empty() && self.drop.is_empty()),
        })
    }
}

impl RunHosts {
    /// All of them.
    pub fn all(self) -> Vec<Host> {
        let mut all = self.listed;
        all.extend(self.added);
        all
    }
}

fn cannot(what: &'static str, folder: &Path, cause: io::Error) -> Error {
    Error::File {
        what,
        path: folder.join(HOST_CHANGES),
        cause,
        hint: "its folder must be readable and writable for whoever changes a run's hosts",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<Host> {
        parse(&text.replace(',', "\n"), "list").unwrap()
    }

    fn names(of: &RunHosts) -> Vec<String> {
        of.clone().all().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_was_added_and_dropped_holds_for_the_same_list_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = HostChanges::read(folder.path(), "-H h1,h2").unwrap();
        changes.add(&hosts("ann@h3:22 slots=2")[0]);
        changes.drop("h1");
        changes.write(folder.path()).unwrap();
        let read = HostChanges::read(folder.path(), "-H h1,h2").unwrap();
        assert_eq!(read, changes);
        let now = read.apply(hosts("h1,h2")).unwrap();
        assert_eq!(names(&now), ["h2", "ann@h3:22"]);
        assert_eq!(now.added[0].slots, Some(2));
        let other = HostChanges::read(folder.path(), "-H h1").unwrap();
        assert_eq!(names(&other.apply(hosts("h1")).unwrap()), ["h1"]);
    }

    #[test]
    fn the_last_word_on_a_host_counts() {
        let mut changes = HostChanges::default();
        changes.add(&hosts("h3 slots=2")[0]);
        changes.add(&hosts("h3 slots=4")[0]);
        assert_eq!(changes.apply(vec![]).unwrap().added, hosts("h3 slots=4"));
        changes.drop("h3");
        assert_eq!(names(&changes.apply(hosts("h3")).unwrap()), [""; 0]);
        changes.add(&hosts("h3 slots=1")[0]);
        assert_eq!(
            changes.apply(hosts("h3")).unwrap().added,
            hosts("h3 slots=1")
        );
    }

    #[test]
    fn a_file_that_makes_no_sense_is_reported_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(HOST_CHANGES), "lists = 3").unwrap();
        let error = HostChanges::read(folder.path(), "")
            .unwrap_err()
            .to_string();
        assert!(error.contains(HOST_CHANGES), "{error}");
    }
}
