//! The run's own files: `events.jsonl`, a record a line, and `log.txt`, what was said.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::meter::Meter;
use crate::words::{line, step_line};
use dsgd_core::event::{Event, Observer, Record};

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

/// Appends what each host's program says to a file of its own in that folder, which is made for the
/// first of them.
pub fn host_logs(folder: &Path) -> Observer {
    let folder = folder.to_owned();
    let mut files: BTreeMap<String, Option<LineFile>> = BTreeMap::new();
    Box::new(move |record: &Record| {
        let Event::HostSaid { host, line } = &record.event else {
            return;
        };
        let file = files.entry(host.clone()).or_insert_with(|| {
            let opened = fs::create_dir_all(&folder)
                .and_then(|()| LineFile::append(&folder.join(format!("{host}.log"))));
            // The terminal and log.txt have the lines all the same.
            opened.ok()
        });
        if let Some(file) = file {
            file.write(|out| writeln!(out, "{line}"));
        }
    })
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
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        if !ends_with_a_line(&mut file)? {
            file.write_all(b"\n")?;
        }
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
            let _ = writeln!(
                io::stderr(),
                "Warning: {} is incomplete: {error}",
                self.name
            );
        }
    }
}

/// Whether the last line is whole: a run that was killed, or whose disk was full, may have left
/// half of one.
fn ends_with_a_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
