//! A run's `events.jsonl`, read as it grows.
//!
//! Whoever follows a file holds nobody up, and needs nothing of the process that writes it: the same
//! reader serves a run of this process, of another one, and one that ended long ago. It reads in
//! pieces of bounded size and keeps no more than a line that is not whole yet.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use dsgd_core::event::{Contribution, Cost, Event, Record, Step, one_or_many};
use dsgd_core::task::{Part, Stats};

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// A longer line is nobody's event: a step of 4096 gradients has 1.5 MB.
const LONGEST_LINE: usize = 8 << 20;

/// A reader of events.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    /// Opened when it is there: a run that is about to start has none yet.
    file: Option<File>,
    /// What was read and is not a whole line yet.
    rest: Vec<u8>,
    /// The rest of the line is left out.
    skipping: bool,
    /// Bytes that were read.
    pub read: u64,
    /// Lines that are no events: half written when a server was killed or a disk was full.
    pub broken: u64,
}

impl Follow {
    /// Reads that file from its beginning.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            rest: Vec::new(),
            skipping: false,
            read: 0,
            broken: 0,
        }
    }

    /// Reads the next piece; false where there is nothing new.
    ///
    /// # Errors
    /// What the system says. A file that is not there yet is none.
    pub fn next(&mut self, mut see: impl FnMut(Record)) -> io::Result<bool> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => match File::open(&self.path) {
                Ok(file) => empty.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            },
        };
        let from = self.rest.len();
        let read = file.take(PIECE as u64).read_to_end(&mut self.rest)?;
        self.read += read as u64;
        let Some(end) = self.rest[from..].iter().rposition(|&byte| byte == b'\n') else {
            if self.rest.len() > LONGEST_LINE {
                self.rest.clear();
                self.skipping = true;
            }
            return Ok(read > 0);
        };
        let end = from + end + 1;
        for line in self.rest[..end].split(|&byte| byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            match parse(line) {
                Some(record) if !self.skipping => see(record),
                _ => self.broken += 1,
            }
            self.skipping = false;
        }
        self.rest.drain(..end);
        Ok(true)
    }

    /// How large the file is now, and when it was written to last.
    pub fn size(&self) -> Option<(u64, SystemTime)> {
        let metadata = match &self.file {
            Some(file) => file.metadata(),
            None => std::fs::metadata(&self.path),
        };
        let metadata = metadata.ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    }
}

/// The record of a line.
fn parse(line: &[u8]) -> Option<Record> {
    // Nearly all lines are steps, and serde reads what is flattened several times as slowly.
    if is_step(line)
        && let Ok(line) = serde_json::from_slice::<StepLine>(line)
    {
        return Some(line.into());
    }
    serde_json::from_slice(line).ok()
}

/// Whether a line is that of a step, as far as its beginning says.
pub fn is_step(line: &[u8]) -> bool {
    let start = &line[..line.len().min(64)];
    start.windows(STEP.len()).any(|bytes| bytes == STEP)
}

/// What marks the line of a step.
const STEP: &[u8] = br#""event":"step","#;

/// The record of a [`Step`], without anything flattened.
#[derive(Deserialize)]
struct StepLine {
    at_secs: f64,
    epoch: u32,
    version: u64,
    counted: usize,
    batches: usize,
    parts: Vec<ContributionLine>,
    epoch_stats: Stats,
    learning_rate: f32,
    staleness: u64,
    grad_norm: f64,
    param_norm: Option<f64>,
    live: usize,
}

/// The same of a [`Contribution`].
#[derive(Deserialize)]
struct ContributionLine {
    worker: u32,
    #[serde(alias = "batch", deserialize_with = "one_or_many")]
    batches: Vec<usize>,
    #[serde(default)]
    part: Part,
    stats: Stats,
    compute_secs: f64,
    pull_secs: f64,
    push_secs: f64,
    wait_secs: f64,
    bytes: u64,
}

impl From<StepLine> for Record {
    fn from(line: StepLine) -> Self {
        let part = |part: ContributionLine| Contribution {
            worker: part.worker,
            batches: part.batches,
            part: part.part,
            stats: part.stats,
            cost: Cost {
                compute_secs: part.compute_secs,
                pull_secs: part.pull_secs,
                push_secs: part.push_secs,
                wait_secs: part.wait_secs,
                bytes: part.bytes,
                catches_up: false,
            },
        };
        let step = Step {
            epoch: line.epoch,
            version: line.version,
            counted: line.counted,
            batches: line.batches,
            parts: line.parts.into_iter().map(part).collect(),
            epoch_stats: line.epoch_stats,
            learning_rate: line.learning_rate,
            staleness: line.staleness,
            grad_norm: line.grad_norm,
            param_norm: line.param_norm,
            live: line.live,
        };
        Record {
            at_secs: line.at_secs,
            event: Event::Step(step),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use dsgd_core::event::Event;

    fn notice(message: &str) -> Record {
        Record {
            at_secs: 1.5,
            event: Event::Notice {
                message: message.to_owned(),
            },
        }
    }

    fn line(message: &str) -> String {
        serde_json::to_string(&notice(message)).unwrap() + "\n"
    }

    fn all(follow: &mut Follow) -> Vec<Record> {
        let mut seen = Vec::new();
        while follow.next(|record| seen.push(record)).unwrap() {}
        seen
    }

    #[test]
    fn a_file_is_followed_from_before_its_birth_over_half_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut follow = Follow::new(&path);
        assert_eq!(all(&mut follow), []);
        let mut file = File::create(&path).unwrap();
        let (a, b) = (line("a"), line("b"));
        file.write_all(a.as_bytes()).unwrap();
        file.write_all(&b.as_bytes()[..10]).unwrap();
        assert_eq!(all(&mut follow), [notice("a")]);
        file.write_all(&b.as_bytes()[10..]).unwrap();
        assert_eq!(all(&mut follow), [notice("b")]);
        // A server that was killed leaves half a line, its next life ends it.
        file.write_all(&b.as_bytes()[..10]).unwrap();
        file.write_all(format!("\n{a}").as_bytes()).unwrap();
        assert_eq!(all(&mut follow), [notice("a")]);
        assert_eq!(follow.broken, 1);
        assert_eq!(follow.size().unwrap().0, follow.read);
    }

    #[test]
    fn a_line_without_an_end_costs_bounded_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![b'x'; 3 * LONGEST_LINE]).unwrap();
        let mut follow = Follow::new(&path);
        while follow.next(|_| panic!("nothing is there")).unwrap() {
            assert!(follow.rest.len() <= LONGEST_LINE + PIECE);
        }
        file.write_all(format!("\n{}", line("a")).as_bytes())
            .unwrap();
        assert_eq!(all(&mut follow), [notice("a")]);
        assert_eq!(follow.broken, 1);
    }

    #[test]
    fn a_step_is_read_as_it_was_written() {
        let part = Contribution {
            worker: 3,
            batches: vec![4, 7],
            part: Part { number: 1, of: 3 },
            stats: Stats {
                loss: 0.1,
                count: 5,
                examples: 6,
                units: [7, 8],
                sums: [0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            },
            cost: Cost {
                compute_secs: 0.2,
                pull_secs: 0.3,
                push_secs: 0.4,
                wait_secs: 0.5,
                bytes: 9,
                catches_up: false,
            },
        };
        let alone = Contribution {
            batches: vec![4],
            part: Part::WHOLE,
            ..part.clone()
        };
        let step = Record {
            at_secs: 10.25,
            event: Event::Step(Step {
                epoch: 11,
                version: 12,
                counted: 13,
                batches: 14,
                parts: vec![alone, part.clone()],
                epoch_stats: part.stats,
                learning_rate: 0.6,
                staleness: 15,
                grad_norm: 0.7,
                param_norm: Some(0.8),
                live: 16,
            }),
        };
        let line = serde_json::to_vec(&step).unwrap();
        assert!(serde_json::from_slice::<StepLine>(&line).is_ok());
        assert_eq!(parse(&line), Some(step));
    }
}
