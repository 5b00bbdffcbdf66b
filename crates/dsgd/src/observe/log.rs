//! The run's own files: `events.jsonl`, a record a line, and `log.txt`, what was said.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::meter::Meter;
use super::words::{line, step_line};
use crate::event::{Event, Record};
use crate::server::Observer;

/// Appends each record as a line of JSON.
pub fn json_lines(path: &Path) -> io::Result<Observer> {
    let mut file = LineFile::append(path)?;
    Ok(Box::new(move |record| {
        file.write(|out| {
            serde_json::to_writer(&mut *out, record)?;
            out.write_all(b"\n")
        });
    }))
}

/// Appends what the terminal says, with the time, and a line of figures now and then.
pub fn text_log(path: &Path, print_every: usize) -> io::Result<Observer> {
    let mut file = LineFile::append(path)?;
    let mut meter = Meter::default();
    Ok(Box::new(move |record: &Record| {
        meter.see(record);
        let text = match &record.event {
            Event::Step(step) if step.version.is_multiple_of(print_every as u64) => {
                Some(step_line(record.at_secs, step, &meter))
            }
            _ => line(record, &meter),
        };
        if let Some(text) = text {
            file.write(|out| writeln!(out, "{:10.3} {text}", record.at_secs));
        }
    }))
}

/// A file that lines are appended to. What cannot be written is left out; that is said once.
struct LineFile {
    file: File,
    name: String,
    line: Vec<u8>,
    failed: bool,
}

impl LineFile {
    fn append(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let name = path.display().to_string();
        Ok(Self {
            file,
            name,
            line: Vec::new(),
            failed: false,
        })
    }

    fn write(&mut self, text: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        self.line.clear();
        let written = text(&mut self.line).and_then(|()| self.file.write_all(&self.line));
        if let Err(error) = written
            && !self.failed
        {
            self.failed = true;
            eprintln!("Warning: {} is incomplete: {error}", self.name);
        }
    }
}
