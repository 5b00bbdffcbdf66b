//! A program of ours that runs on a host.
//!
//! Its standard input stays open as long as we live and hold it: its end is how the program learns
//! that nobody waits for it any more. Secrets go through it too, for what stands in a command line
//! is seen by everybody on the host.

use std::os::unix::process::ExitStatusExt;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::timeout;

use super::channel::{Channel, Script, Stderr};
use super::lines::{Line, Stream, send_lines};
use super::remote::{ANSWER, Remote};
use super::{Object, SshError};

/// Lines that wait to be read; then the program waits.
const LINES: usize = 256;

/// Says `noexec` where no program can be run, else becomes the program.
const START: &str = r#"
program=$cache/objects/$1
if [ -n "$2" ]; then DSGD_PYTHON=$2; export DSGD_PYTHON; fi
shift 2
if [ ! -f "$program" ]; then echo "it is not there: $program" >&2; exit 1; fi
[ -x "$program" ] || chmod 700 "$program" || exit 1
if [ ! -x "$program" ]; then echo noexec; exit 0; fi
echo runs
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
    /// Starts a program that was sent before, which is told of a Python where the host list names one. `first` and the end
    /// of the line are the beginning of its standard input.
    pub async fn start(
        &self,
        program: &Object,
        args: &[&str],
        first: &str,
    ) -> Result<Running, SshError> {
        const WHAT: &str = "starting the program";
        let words: Vec<_> = [program.hash.as_str(), self.python().unwrap_or_default()]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        let mut running = self.begin(WHAT, START, &words).await?;
        let word = timeout(ANSWER, first_word(&mut running)).await;
        let host = self.name().to_owned();
        match word {
            Ok(Ok(word)) if word == "runs" => {
                running.write_line(first).await;
                Ok(running)
            }
            Ok(Ok(word)) if word == "noexec" => {
                let folder = format!("{}/objects", self.cache().await?);
                Err(SshError::NoExec { host, folder })
            }
            Ok(Ok(other)) => Err(self.makes_no_sense(WHAT, &other)),
            Ok(Err(said)) => match running.wait().await {
                Ended::Lost(error) => Err(error),
                Ended::Status(_) | Ended::Killed => Err(self.command_failed(WHAT, &said)),
            },
            Err(_) => Err(SshError::TimedOut {
                host,
                what: WHAT,
                secs: ANSWER.as_secs(),
            }),
        }
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
        let channel = match Channel::open(self, &script, ANSWER, stderr).await {
            Ok(channel) => channel,
            // What ssh said of it went where the program's lines would have gone.
            Err(SshError::Lost { .. }) => return Err(self.lost(&remaining_output(lines).await)),
            Err(other) => return Err(other),
        };
        tokio::spawn(send_lines(channel.stdout, Stream::Out, sender));
        Ok(Running {
            remote: self.clone(),
            child: channel.child,
            stdin: channel.stdin,
            lines,
        })
    }
}

/// The first line of its standard output; where there is none, what it wrote to the other.
async fn first_word(running: &mut Running) -> Result<String, String> {
    let mut said = String::new();
    loop {
        match running.line().await {
            Some((Stream::Out, word)) => return Ok(word),
            Some((Stream::Err, line)) => said = said + &line + "\n",
            None => return Err(said),
        }
    }
}

/// What a program that did not begin has written.
async fn remaining_output(mut lines: Receiver<Line>) -> String {
    let mut said = String::new();
    // ssh has ended, so this does, too.
    let all = async {
        while let Some((_, line)) = lines.recv().await {
            said.push_str(&line);
            said.push('\n');
        }
    };
    let _ = timeout(ANSWER, all).await;
    said
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
