//! Calling gcloud, and what to do next when it fails.

use std::io::{self, ErrorKind, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::lines::Line;

/// Longer than any command here takes; to delete a group takes minutes.
const LIMIT: Duration = Duration::from_secs(900);
/// How often a running gcloud is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Why gcloud did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum GcloudError {
    /// There is no gcloud.
    #[error(
        "gcloud is not installed, or not on PATH; install the Google Cloud CLI \
         (https://cloud.google.com/sdk/docs/install), then: gcloud init"
    )]
    Missing,
    /// It could not be started.
    #[error("cannot start gcloud: {0}")]
    Unstartable(io::Error),
    /// It failed.
    #[error("gcloud says: {words}\nIt was called so: {line}\nNext: {next}")]
    Failed {
        /// What was called.
        line: Line,
        /// What it said.
        words: String,
        /// What to do.
        next: &'static str,
    },
    /// It did not end.
    #[error("gcloud did not end within {} s: {line}", LIMIT.as_secs())]
    Silent {
        /// What was called.
        line: Line,
    },
    /// Its answer could not be understood.
    #[error(
        "gcloud's answer cannot be understood: {source}\nIt was called so: {line}\nNext: gcloud components update"
    )]
    Answer {
        /// What was called.
        line: Line,
        /// Where it could not be understood.
        source: serde_json::Error,
    },
}

impl GcloudError {
    /// Whether what it was about does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        match self {
            Self::Failed { words, .. } => words.contains("was not found"),
            Self::Missing | Self::Unstartable(_) | Self::Silent { .. } | Self::Answer { .. } => {
                false
            }
        }
    }
}

/// What gcloud's words mean for its user: the first line with a phrase of theirs, in small letters.
const NEXT: [(&[&str], &str); 8] = [
    (
        &["gcloud auth login", "active account", "reauthentication"],
        "log in by: gcloud auth login",
    ),
    (
        &["property [project]", "core/project"],
        "pass --project PROJECT, or: gcloud config set project PROJECT",
    ),
    (
        &["quota"],
        "take a smaller --size or another --machine-type or --zone, or ask for more under \"Quotas\" in \
         the cloud console",
    ),
    (
        &["resource_pool_exhausted", "enough resources"],
        "the zone is full: take another --zone or --machine-type, or try later",
    ),
    (
        &["already exists"],
        "it is there from before: delete it by dsgd hosts gcloud delete, or take another --name",
    ),
    (
        &[
            "has not been used in project",
            "service_disabled",
            "it is disabled",
        ],
        "switch the service on by: gcloud services enable compute.googleapis.com",
    ),
    (
        &["permission", "forbidden"],
        "ask the project's owner for the role Compute Admin (roles/compute.admin), or pass another \
         --project",
    ),
    (
        &["was not found"],
        "check --name, --zone and --project; dsgd hosts gcloud create makes a group",
    ),
];

/// What to do about it.
pub(super) fn next(words: &str) -> &'static str {
    let words = words.to_lowercase();
    let mut known = NEXT.iter();
    let found = known.find(|(phrases, _)| phrases.iter().any(|phrase| words.contains(phrase)));
    found.map_or("call it by hand to see more", |(_, next)| next)
}

/// Runs a line to its end and returns what it printed.
pub(super) fn gcloud(line: &Line) -> Result<Vec<u8>, GcloudError> {
    let mut command = Command::new(&line.program);
    command.args(&line.args).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => GcloudError::Missing,
        _ => GcloudError::Unstartable(error),
    })?;
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let silent = || GcloudError::Silent { line: line.clone() };
    let deadline = Instant::now() + LIMIT;
    let status = ended(&mut child, deadline).map_err(GcloudError::Unstartable)?;
    let status = status.ok_or_else(silent)?;
    // Who inherited the pipes might hold them open for ever.
    let rest = || deadline.saturating_duration_since(Instant::now());
    let out = stdout.recv_timeout(rest()).map_err(|_| silent())?;
    let err = stderr.recv_timeout(rest()).map_err(|_| silent())?;
    if status.success() {
        return Ok(out);
    }
    let words = String::from_utf8_lossy(&err).trim().to_owned();
    Err(GcloudError::Failed {
        line: line.clone(),
        next: next(&words),
        words: if words.is_empty() {
            status.to_string()
        } else {
            words
        },
    })
}

/// Runs a line that prints JSON.
pub(super) fn json<T: DeserializeOwned>(line: &Line) -> Result<T, GcloudError> {
    let out = gcloud(line)?;
    serde_json::from_slice(&out).map_err(|source| GcloudError::Answer {
        line: line.clone(),
        source,
    })
}

/// Its status, or none if it had to be killed.
fn ended(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// Reads a pipe to its end, so that its writer never waits.
fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is what there is.
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}
