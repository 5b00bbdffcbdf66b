//! The developer's log: what goes on inside a run or a worker, span by span and event by event, for whoever
//! looks for a fault. Others read `log.txt`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};

use dsgd_engine::LOGGED;
use dsgd_engine::mutex::lock;
use dsgd_engine::run::RunFolder;

/// File of it in a run's folder.
const FILE: &str = "debug.log";

/// Whether this says what is to be in it: `LEVEL` for all, `PART=LEVEL` for one part, separated by commas.
pub(super) fn filter(text: &str) -> Result<String, String> {
    targets(text).map(|_| text.to_owned())
}

/// That of a run. It is kept in memory until the run has begun: before, nothing is written to its folder.
pub(super) struct Log(Arc<Lines>);

struct Lines(Mutex<Sink>);

enum Sink {
    Memory(Vec<u8>),
    File(File),
}

impl Log {
    /// Begins it.
    pub(super) fn begin(filter: &str) -> anyhow::Result<Self> {
        let lines = Arc::new(Lines(Mutex::new(Sink::Memory(Vec::new()))));
        begin(filter, Arc::clone(&lines))?;
        Ok(Self(lines))
    }

    /// Writes it behind what is in the file of the run's folder, until the process ends.
    pub(super) fn write(&self, folder: &RunFolder) -> anyhow::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.file(FILE));
        let mut file = file.context(FILE)?;
        let mut sink = lock(&self.0.0);
        if let Sink::Memory(before) = &*sink {
            file.write_all(before).context(FILE)?;
        }
        *sink = Sink::File(file);
        Ok(())
    }
}

impl Write for &Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *lock(&self.0) {
            Sink::Memory(lines) => lines.write(bytes),
            Sink::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes it to standard error.
pub(super) fn to_stderr(filter: &str) -> anyhow::Result<()> {
    begin(filter, io::stderr)
}

fn begin<W>(filter: &str, writer: W) -> anyhow::Result<()>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let targets = targets(filter).map_err(anyhow::Error::msg)?;
    let lines = fmt::layer()
        .with_ansi(false)
        .with_writer(writer)
        // A full disk is no reason to say anything else, or to stop.
        .log_internal_errors(false)
        .with_filter(targets);
    let all: Box<dyn Subscriber + Send + Sync> =
        Box::new(tracing_subscriber::registry().with(lines));
    tracing::subscriber::set_global_default(all).context("--log was begun twice")
}

fn targets(text: &str) -> Result<Targets, String> {
    let mut targets = Targets::new();
    for piece in text.split(',') {
        let (part, level) = match piece.split_once('=') {
            Some((part, level)) => (Some(part), level),
            None => (None, piece),
        };
        let known = level.parse().ok().filter(|_| !level.is_empty());
        let level: LevelFilter = known.ok_or_else(|| {
            format!("{level:?} is no level: error, warn, info, debug, trace or off")
        })?;
        let parts = LOGGED
            .into_iter()
            .filter(|name| part.is_none_or(|part| *name == part));
        let named: Vec<_> = parts
            .map(|name| (format!("dsgd_engine::{name}"), level))
            .collect();
        if named.is_empty() {
            let all = LOGGED.join(", ");
            let part = part.unwrap_or_default();
            return Err(format!("{part:?} is no part of the program: {all}"));
        }
        targets = targets.with_targets(named);
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_last_word_on_a_part_holds_and_other_crates_are_not_in_it() {
        let targets = targets("debug,wire=trace,ssh=off").unwrap();
        let enabled = |target, level| targets.would_enable(target, &level);
        assert!(enabled("dsgd_engine::wire::service", Level::TRACE));
        assert!(enabled("dsgd_engine::server", Level::DEBUG));
        assert!(!enabled("dsgd_engine::server", Level::TRACE));
        assert!(!enabled("dsgd_engine::ssh::remote", Level::ERROR));
        assert!(!enabled("h2::proto", Level::ERROR));
    }

    #[test]
    fn what_is_none_is_refused_with_what_there_is() {
        assert!(filter("loud").unwrap_err().contains("trace"));
        assert!(filter("wier=debug").unwrap_err().contains("wire"));
        for nothing in ["", "=debug", "wire=", "debug,"] {
            assert!(filter(nothing).is_err(), "{nothing:?}");
        }
    }
}
