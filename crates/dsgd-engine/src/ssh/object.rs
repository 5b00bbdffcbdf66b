//! Files that hosts keep by their content.
//!
//! A file is sent once: on the host it lies under its SHA-256 in the cache, and whoever needs the
//! same bytes again, be it for another run or under another name, finds them. What stopped in the
//! middle goes on there. A file has its name in the cache only after its content was checked there. It
//! travels packed where the host can unpack it (`packing`).
//!
//! Two may send the same file at once, two runs say. Who makes the lock's folder sends; the other
//! waits for it to finish, and takes over when it is gone, does not get on, or was the same sender
//! before its connection broke. Every sender writes to a part of its own, taken over by renaming,
//! and one that is alive is ended first, so what is checked is what gets the name.

mod content;
mod packing;
mod scripts;
mod stream;

use std::io;
use std::path::Path;
use std::sync::OnceLock;

pub use content::Object;
use ring::rand::{SecureRandom, SystemRandom};
use scripts::{LOOK, SEND};
use stream::{STALL, Stream};

use super::SshError;
use super::channel::Script;
use super::remote::{ANSWER, Remote};
use super::stderr::last_words;
use crate::hex::hex;

/// Attempts: the second one for a host that unpacks wrongly, the last one for a part that was spoilt, by that
/// or before us.
const ATTEMPTS: [&str; 3] = ["packed", "plain", "plain"];

/// What a host has of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// All of it.
    Whole,
    /// So many bytes, which need not be sent again.
    Part(u64),
    /// Nothing.
    Missing,
}

/// Random hexadecimal digits, for names that nobody has yet.
pub(super) fn random_name() -> Result<String, SshError> {
    random_bytes(8).map(|bytes| hex(&bytes))
}

pub(super) fn random_bytes(count: usize) -> Result<Vec<u8>, SshError> {
    let mut bytes = vec![0; count];
    SystemRandom::new().fill(&mut bytes).map_err(|_| {
        let none = io::Error::other("there is no randomness to be had");
        SshError::local("cannot read", Path::new("/dev/urandom"), none)
    })?;
    Ok(bytes)
}

/// This process, for locks on hosts.
fn sender() -> Result<&'static str, SshError> {
    static NAME: OnceLock<String> = OnceLock::new();
    match NAME.get() {
        Some(name) => Ok(name),
        None => random_name().map(|name| NAME.get_or_init(|| name).as_str()),
    }
}

impl Remote {
    /// Asks what the host has of some objects.
    pub async fn missing(&self, objects: &[Object]) -> Result<Vec<Presence>, SshError> {
        const WHAT: &str = "looking for files";
        let lengths: Vec<_> = objects.iter().map(|o| o.bytes.to_string()).collect();
        let words = objects.iter().zip(&lengths);
        let words: Vec<_> = words
            .flat_map(|(object, length)| [object.hash.as_str(), length.as_str()])
            .collect();
        let answer = self
            .ask(&Script {
                what: WHAT,
                body: LOOK,
                args: &words,
            })
            .await?;
        let found: Option<Vec<_>> = answer.lines().map(presence).collect();
        match found {
            Some(found) if found.len() == objects.len() => Ok(found),
            _ => Err(self.makes_no_sense(WHAT, &answer)),
        }
    }

    /// Sends what the host lacks of an object, and reports how many bytes of it are there by now. Returns
    /// how many went over the wire.
    pub async fn send(
        &self,
        object: &Object,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<u64, SshError> {
        for how in ATTEMPTS {
            if let Some(wire_bytes) = self.try_sending(object, how, &progress).await? {
                progress(object.bytes);
                return Ok(wire_bytes);
            }
        }
        Err(SshError::Corrupt {
            host: self.name().to_owned(),
            file: object.name(),
        })
    }

    /// None when what arrived was not what was sent.
    async fn try_sending(
        &self,
        object: &Object,
        how: &str,
        progress: &(impl Fn(u64) + Send + Sync),
    ) -> Result<Option<u64>, SshError> {
        const WHAT: &str = "sending a file";
        let sender = format!("{}-{}", sender()?, hex(self.name().as_bytes()));
        let length = object.bytes.to_string();
        let mode = if object.executable { "700" } else { "600" };
        let script = Script {
            what: WHAT,
            body: SEND,
            args: &[&object.hash, &length, mode, &sender, how],
        };
        let mut channel = self.open(&script, ANSWER).await?;
        let mut waited: (u64, u32) = (u64::MAX, 0);
        let (from, how) = loop {
            channel.wait_for(STALL);
            let line = channel.some_line().await?;
            match line.split_once(' ') {
                _ if line == "whole" => return Ok(Some(0)),
                Some(("wait", there)) => {
                    let there = self.number(WHAT, there)?;
                    waited = (there, if there == waited.0 { waited.1 + 1 } else { 0 });
                    if u64::from(waited.1) > STALL.as_secs() {
                        return Err(SshError::Stalled {
                            host: self.name().to_owned(),
                            file: object.name(),
                            secs: STALL.as_secs(),
                        });
                    }
                    progress(there.min(object.bytes));
                }
                Some(("small", missing)) => {
                    return Err(self.disk_full(self.number(WHAT, missing)?).await);
                }
                Some(("unwritable", said)) => return Err(self.not_writable(said).await),
                Some(("from", words)) => match words.split_once(' ') {
                    Some((there, how)) => break (self.number(WHAT, there)?, how.to_owned()),
                    None => return Err(self.makes_no_sense(WHAT, &line)),
                },
                _ => return Err(self.makes_no_sense(WHAT, &line)),
            }
        };
        let stream = Stream {
            object,
            from: from.min(object.bytes),
            packed: how == "gzip",
        };
        let streamed = self.stream(&stream, &mut channel, progress).await?;
        let line = streamed.answer;
        match line.split_once(' ') {
            _ if line == "ok" => Ok(Some(streamed.wire_bytes)),
            _ if line == "bad" => Ok(None),
            Some(("small", missing)) => Err(self.disk_full(self.number(WHAT, missing)?).await),
            Some(("no", program)) => {
                let why = format!("there is no {program}: install coreutils");
                Err(self.command_failed("checking a file", &why))
            }
            _ => Err(self.makes_no_sense(WHAT, &line)),
        }
    }

    async fn disk_full(&self, missing: u64) -> SshError {
        let cache = self.cache().await;
        SshError::DiskFull {
            host: self.name().to_owned(),
            missing,
            folder: cache.unwrap_or_else(|_| "~/.cache/dsgd".to_owned()),
        }
    }

    pub(super) async fn not_writable(&self, why: &str) -> SshError {
        let cache = self.cache().await;
        SshError::NotWritable {
            host: self.name().to_owned(),
            folder: cache.unwrap_or_else(|_| "~/.cache/dsgd".to_owned()),
            said: last_words(why),
        }
    }

    /// The cache's folder there.
    pub(super) async fn cache(&self) -> Result<String, SshError> {
        let script = Script {
            what: "looking for the cache",
            body: r#"echo "$cache""#,
            args: &[],
        };
        Ok(self.ask(&script).await?.trim().to_owned())
    }

    pub(super) fn number(&self, what: &'static str, word: &str) -> Result<u64, SshError> {
        word.trim()
            .parse()
            .map_err(|_| self.makes_no_sense(what, word))
    }
}

fn presence(line: &str) -> Option<Presence> {
    match line.split_once(' ') {
        None if line == "whole" => Some(Presence::Whole),
        Some(("part", "0")) => Some(Presence::Missing),
        Some(("part", bytes)) => bytes.parse().ok().map(Presence::Part),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_by_its_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let object = Object::of(file.path()).unwrap();
        // FIPS 180-2, appendix B.1.
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((object.hash.as_str(), object.bytes), (hash, 3));
        assert!(Object::of(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn what_a_host_has_is_read_strictly() {
        assert_eq!(presence("whole"), Some(Presence::Whole));
        assert_eq!(presence("part 0"), Some(Presence::Missing));
        assert_eq!(presence("part 17"), Some(Presence::Part(17)));
        for nonsense in ["", "part", "part -1", "part x", "wholes", "whole 1"] {
            assert_eq!(presence(nonsense), None, "{nonsense}");
        }
    }
}
