//! A program of ours that runs on a host.
//!
//! Its standard input stays open as long as we live and hold it: its end is how the program learns
//! that nobody waits for it any more. Secrets go through it too, for what stands in a command line
//! is seen by everybody on the host.

use std::os::unix::process::ExitStatusExt;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc::{self, Receiver};

use super::channel::{Channel, Script, Stderr};
use super::lines::{Line, Stream, send_lines};
use super::remote::{ANSWER, Remote};
use super::{Object, SshError};

/// Lines that wait to be read; then the program waits.
const LINES: usize = 256;

const START: &str = r#"
program=$cache/objects/$1
shift
if [ ! -f "$program" ]; then echo "it is not there: $program" >&2; exit 1; fi
[ -x "$program" ] || chmod 700 "$program" || exit 1
exec "$program" "$@"
"#;

const COMMAND: &str = r#"exec /bin/sh -c "$1" </dev/null"#;

/// How a program ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself, with that status; 0 is well.
    Status(i32),
    /// By a signal (ssh does not say which one), or with status 255.
    Killed,
    /// Nobody knows: the connection was lost.
    Lost(SshError),
}

/// A program on a host.
#[derive(Debug)]
pub struct Running {
    remote: Remote,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
}

impl Remote {
    /// Starts a program that was sent before. `first` and the end of the line are the beginning of
    /// its standard input.
    pub async fn start(
        &self,
        program: &Object,
        args: &[&str],
        first: &str,
    ) -> Result<Running, SshError> {
        let words: Vec<_> = std::iter::once(program.hash.as_str())
            .chain(args.iter().copied())
            .collect();
        let mut running = self.begin("starting the program", START, &words).await?;
        running.write_line(first).await;
        Ok(running)
    }

    /// Runs a line of shell there, without input.
    pub async fn run(&self, command: &str) -> Result<Running, SshError> {
        let mut running = self.begin("running a command", COMMAND, &[command]).await?;
        running.close();
        Ok(running)
    }

    async fn begin(
        &self,
        what: &'static str,
        body: &'static str,
        args: &[&str],
    ) -> Result<Running, SshError> {
        let script = Script { what, body, args };
        let (sender, lines) = mpsc::channel(LINES);
        let stderr = Stderr::Lines(sender.clone());
        let channel = Channel::open(self, &script, ANSWER, stderr).await?;
        tokio::spawn(send_lines(channel.stdout, Stream::Out, sender));
        Ok(Running {
            remote: self.clone(),
            child: channel.child,
            stdin: channel.stdin,
            lines,
        })
    }
}

impl Running {
    /// The next line that it writes; none when it has ended, or closed both streams. Somebody has
    /// to read them, or the program stands still after a while.
    pub async fn line(&mut self) -> Option<Line> {
        self.lines.recv().await
    }

    /// Writes a line to its standard input; `false` when it does not read any more.
    pub async fn write_line(&mut self, line: &str) -> bool {
        let Some(stdin) = &mut self.stdin else {
            return false;
        };
        let line = format!("{line}\n");
        stdin.write_all(line.as_bytes()).await.is_ok()
    }

    /// Closes its standard input.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end. Input is left open, and what it writes until then can be read after.
    pub async fn wait(&mut self) -> Ended {
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(source) => {
                return Ended::Lost(SshError::local("cannot wait for", "ssh".as_ref(), source));
            }
        };
        match status.code() {
            // ssh's own trouble, and everything that is not a status.
            Some(255) | None if status.signal().is_none() && self.remote.is_alive().await => {
                Ended::Killed
            }
            Some(255) | None => Ended::Lost(self.remote.lost("")),
            Some(code) => Ended::Status(code),
        }
    }
}
