//! A script that runs on a host: its text, its input and what it answers.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, trace};

use super::SshError;
use super::lines::{Line, Stream, send_lines};
use super::remote::{ANSWER, MARKER, Remote};
use super::stderr::last_words;

/// Longest line of an answer.
const LINE_BYTES: u64 = 16 << 10;
/// Longest answer that is kept in memory, and longest noise before it.
const ANSWER_BYTES: u64 = 4 << 20;
/// So much of what went wrong is kept.
const STDERR_BYTES: usize = 4 << 10;

/// After so long, it is looked whether commands get through at all.
const SUSPICIOUS: Duration = Duration::from_secs(4);

/// What every script begins with: the cache is the same for all of them, and so are three questions:
/// for the free KiB where a folder is, for a file's length, and for what tells this host, as it runs
/// now, from all others that see the same files, be it a container on the same kernel.
const PRELUDE: &str = r#"
umask 077
cache=${XDG_CACHE_HOME:-}
case $cache in /*) ;; *) cache=$HOME/.cache ;; esac
cache=$cache/dsgd
free_kib() { df -Pk "$1" | tail -n 1 | sed "s/.* \([0-9][0-9]*\)  *[0-9-][0-9-]*% .*/\1/"; }
mark() {
  {
    cat /proc/sys/kernel/random/boot_id
    for space in mnt pid net; do readlink "/proc/self/ns/$space"; done
  } 2>/dev/null | cksum | cut -d " " -f 1
}
length() { stat -c %s "$1" 2>/dev/null || wc -c <"$1"; }
"#;

/// A POSIX shell's script, with its arguments as `$1`, `$2`, … and the cache's folder in `$cache`.
pub(super) struct Script<'a> {
    /// What it does, for errors: "while …", "… failed there".
    pub(super) what: &'static str,
    pub(super) body: &'static str,
    pub(super) args: &'a [&'a str],
}

impl Script<'_> {
    fn text(&self) -> String {
        let words: Vec<_> = self.args.iter().map(|arg| quote(arg)).collect();
        let (words, body) = (words.join(" "), self.body);
        // In two pieces, so that whoever repeats the script's text does not say it.
        let (first, last) = MARKER.split_at(MARKER.len() / 2);
        format!("set -- {words}\n{PRELUDE}\necho {first}''{last}\n{body}\n")
    }
}

/// A word of a POSIX shell, whatever is in it.
pub(super) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Words as one line of a POSIX shell.
pub fn shell_words(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| quote(word)).collect();
    words.join(" ")
}

/// Reads the script's bytes, one by one so that what follows them is left to the script, and becomes
/// it; the same to every login shell.
///
/// It stands twice: as the command, with `before` for the first line of the input, and as that line.
/// A start-up file that exchanges the shell (`exec zsh`, `newgrp`) makes one that drops the command and
/// reads the input instead, where it finds the same.
fn command_line(before: &str, script_bytes: usize) -> String {
    format!(
        "exec /bin/sh -c '{before}eval \"$(dd bs=1 count={script_bytes} 2>/dev/null)\"' dsgd-sh"
    )
}

/// A running script.
pub(super) struct Channel {
    remote: Remote,
    what: &'static str,
    patience: Duration,
    deadline: Instant,
    pub(super) child: Child,
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: BufReader<ChildStdout>,
    /// Reads the standard error, and has its end.
    stderr: Option<JoinHandle<Vec<u8>>>,
}

/// What becomes of what the script, or ssh, writes to standard error.
pub(super) enum Stderr {
    /// The end of it is kept, for errors.
    Keep,
    /// Its lines go there.
    Lines(Sender<Line>),
}

impl Channel {
    /// Starts a script and waits until it runs.
    pub(super) async fn open(
        remote: &Remote,
        script: &Script<'_>,
        patience: Duration,
        stderr_to: Stderr,
    ) -> Result<Self, SshError> {
        debug!(host = remote.name(), script.what, "starts a script");
        let text = script.text();
        let mut child = remote
            .ssh(&["--", "none", &command_line("read -r line; ", text.len())])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|source| SshError::local("cannot start", "ssh".as_ref(), source))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            unreachable!("all three are pipes");
        };
        let stderr = match stderr_to {
            Stderr::Keep => Some(tokio::spawn(keep_end(stderr))),
            Stderr::Lines(to) => {
                tokio::spawn(send_lines(BufReader::new(stderr), Stream::Err, to));
                None
            }
        };
        let mut channel = Self {
            remote: remote.clone(),
            what: script.what,
            patience,
            deadline: Instant::now() + patience,
            child,
            stdin: Some(stdin),
            stdout: BufReader::with_capacity(256 << 10, stdout),
            stderr,
        };
        // A failure to write shows in what is read.
        let text = format!("{}\n{text}", command_line("", text.len()));
        let _ = channel.write(text.as_bytes()).await?;
        channel.wait_until_it_runs().await?;
        trace!(host = remote.name(), script.what, "the script runs");
        Ok(channel)
    }

    /// From now on, no wait goes beyond that time.
    pub(super) fn wait_for(&mut self, patience: Duration) {
        self.patience = patience;
        self.deadline = Instant::now() + patience;
    }

    /// Also finds out when it never will, because commands do not get through.
    async fn wait_until_it_runs(&mut self) -> Result<(), SshError> {
        let remote = self.remote.clone();
        let mut marker = pin!(self.skip_to_marker());
        match timeout(SUSPICIOUS, &mut marker).await {
            Ok(found) => found,
            Err(_) if remote.drops_commands().await => {
                // It may have been exchanged for one that only takes its time.
                let host = remote.name().to_owned();
                let found = timeout(2 * SUSPICIOUS, marker).await;
                found.unwrap_or(Err(SshError::Startup { host }))
            }
            Err(_) => marker.await,
        }
    }

    async fn skip_to_marker(&mut self) -> Result<(), SshError> {
        let mut noise = String::new();
        loop {
            match self.line().await? {
                // What stands before it had no line end.
                Some(line) if line.ends_with(MARKER) => return Ok(()),
                Some(line) if (noise.len() as u64) < ANSWER_BYTES => {
                    noise.push_str(&line);
                    noise.push('\n');
                }
                Some(_) => return Err(self.remote.makes_no_sense(self.what, &noise)),
                None => {
                    let host = self.remote.name().to_owned();
                    let (status, stderr) = self.end().await?;
                    return Err(match status.code() {
                        Some(255) | None => self.remote.lost(&stderr),
                        Some(_) => SshError::Shell {
                            host,
                            said: last_words(&(noise + &stderr)),
                        },
                    });
                }
            }
        }
    }

    /// Writes to the script's input; `false` when it does not read any more.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<bool, SshError> {
        let Some(mut stdin) = self.stdin.take() else {
            return Ok(false);
        };
        let written = self.before_deadline(stdin.write_all(bytes)).await?;
        self.stdin = Some(stdin);
        Ok(written.is_ok())
    }

    /// The next line of the answer, without its end; none at the end of the answer.
    pub(super) async fn line(&mut self) -> Result<Option<String>, SshError> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stdout).take(LINE_BYTES);
        let read = timeout_at(self.deadline, limited.read_until(b'\n', &mut line)).await;
        let read = read.map_err(|_| self.timed_out())?;
        match read {
            Ok(0) | Err(_) => Ok(None),
            Ok(_) => {
                if line.last() == Some(&b'\n') {
                    line.pop();
                } else if line.len() as u64 == LINE_BYTES {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    return Err(self.remote.makes_no_sense(self.what, &line));
                }
                Ok(Some(String::from_utf8_lossy(&line).into_owned()))
            }
        }
    }

    /// Some bytes of the answer; 0 at its end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SshError> {
        let read = timeout_at(self.deadline, self.stdout.read(buffer)).await;
        let read = read.map_err(|_| self.timed_out())?;
        Ok(read.unwrap_or(0))
    }

    /// The next line, which must come.
    pub(super) async fn some_line(&mut self) -> Result<String, SshError> {
        match self.line().await? {
            Some(line) => Ok(line),
            None => Err(self.failure().await?),
        }
    }

    /// All the rest of the answer of a script that ends well.
    pub(super) async fn answer(&mut self) -> Result<String, SshError> {
        drop(self.stdin.take());
        let mut bytes = Vec::new();
        let mut limited = (&mut self.stdout).take(ANSWER_BYTES);
        let read = timeout_at(self.deadline, limited.read_to_end(&mut bytes)).await;
        let _ = read.map_err(|_| self.timed_out())?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if bytes.len() as u64 == ANSWER_BYTES {
            return Err(self.remote.makes_no_sense(self.what, &text));
        }
        let (status, stderr) = self.end().await?;
        match status.code() {
            Some(0) => Ok(text),
            Some(255) | None => Err(self.remote.lost(&stderr)),
            Some(_) => Err(self.remote.command_failed(self.what, &stderr)),
        }
    }

    /// Why a script ended that should have said more.
    pub(super) async fn failure(&mut self) -> Result<SshError, SshError> {
        let (status, stderr) = self.end().await?;
        Ok(match status.code() {
            Some(255) | None => self.remote.lost(&stderr),
            Some(0) => self.remote.makes_no_sense(self.what, "it broke off"),
            Some(_) => self.remote.command_failed(self.what, &stderr),
        })
    }

    /// Its status, and the end of what it wrote to standard error.
    pub(super) async fn end(&mut self) -> Result<(ExitStatus, String), SshError> {
        drop(self.stdin.take());
        let status = timeout_at(self.deadline, self.child.wait()).await;
        let status = status.map_err(|_| self.timed_out())?;
        let status =
            status.map_err(|source| SshError::local("cannot wait for", "ssh".as_ref(), source))?;
        debug!(host = self.remote.name(), self.what, %status, "a script has ended");
        let stderr = match self.stderr.take() {
            Some(task) => {
                let kept = timeout_at(Instant::now() + Duration::from_secs(1), task).await;
                kept.ok().and_then(Result::ok).unwrap_or_default()
            }
            None => Vec::new(),
        };
        Ok((status, String::from_utf8_lossy(&stderr).into_owned()))
    }

    async fn before_deadline<T>(
        &self,
        work: impl Future<Output = io::Result<T>>,
    ) -> Result<io::Result<T>, SshError> {
        timeout_at(self.deadline, work)
            .await
            .map_err(|_| self.timed_out())
    }

    fn timed_out(&self) -> SshError {
        SshError::TimedOut {
            host: self.remote.name().to_owned(),
            what: self.what,
            secs: self.patience.as_secs(),
        }
    }
}

/// Reads to the end and keeps the last bytes.
async fn keep_end(mut pipe: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; STDERR_BYTES];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(STDERR_BYTES));
    }
    kept
}

impl Remote {
    /// Starts a script there and waits until it runs.
    pub(super) async fn open(
        &self,
        script: &Script<'_>,
        patience: Duration,
    ) -> Result<Channel, SshError> {
        Channel::open(self, script, patience, Stderr::Keep).await
    }

    /// Runs a script to its end and returns what it printed.
    pub(super) async fn ask(&self, script: &Script<'_>) -> Result<String, SshError> {
        let mut channel = self.open(script, ANSWER).await?;
        channel.answer().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        for word in ["", "a b", "it's", "$(x) `y` \\ \" ; & \n !", "'", "ü"] {
            let echo = format!("printf %s {}", quote(word));
            let output = std::process::Command::new("sh")
                .args(["-c", &echo])
                .output();
            assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), word);
        }
    }
}
