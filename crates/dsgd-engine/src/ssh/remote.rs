//! One login at a host, kept open, and scripts that run there.
//!
//! The login is a *master* of OpenSSH: a process here that holds the connection, behind a socket.
//! Everything on the host goes through it without logging in again. Of the host we ask for sshd and
//! a POSIX shell. A script travels through standard input, so that the command line is a constant
//! which means the same to every login shell, and begins its answer with a marker: what login
//! scripts print before is skipped.
//!
//! Why not a crate around ssh: those that there are start the master without its own process group
//! (Ctrl-C would cut it), and leave it behind when we stop waiting for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use super::control::{Control, LoginFiles};
use super::stderr::{interpret, last_words};
use super::{Options, SshError};
use crate::hosts::Host;

/// For scripts that have little to do: long enough for a disk that sleeps.
pub(super) const ANSWER: Duration = Duration::from_secs(20);

/// The first thing a script says.
pub(super) const MARKER: &str = "@dsgd@";

/// Most bytes of ssh's log that are looked at.
const LOG_BYTES: usize = 64 << 10;

/// An open login. Dropping the last clone ends the connection; programs that were started through
/// it see the end of their input.
#[derive(Clone, Debug)]
pub struct Remote(Arc<Login>);

#[derive(Debug)]
struct Login {
    name: String,
    python: Option<String>,
    files: LoginFiles,
    /// Ends with us: `kill_on_drop`.
    _master: Child,
}

impl Remote {
    /// The Python that the host list names for it.
    pub(super) fn python(&self) -> Option<&str> {
        self.0.python.as_deref()
    }

    /// Logs in, before that instant.
    pub async fn connect(
        host: &Host,
        options: &Options,
        control: &Control,
        deadline: Instant,
    ) -> Result<Self, SshError> {
        let started = Instant::now();
        let connecting = Self::try_connecting(host, options, control.login_files());
        timeout_at(deadline, connecting).await.unwrap_or_else(|_| {
            Err(SshError::TimedOut {
                host: host.name.clone(),
                what: "logging in",
                secs: started.elapsed().as_secs_f64().round() as u64,
            })
        })
    }

    async fn try_connecting(
        host: &Host,
        options: &Options,
        files: LoginFiles,
    ) -> Result<Self, SshError> {
        let effective = options.effective(host).await?;
        debug!(host = host.name, "logs in");
        let log = File::create(&files.log)
            .map_err(|source| SshError::local("cannot write", &files.log, source))?;
        // The shell writes its number down before it becomes ssh: the reaper misses nobody.
        let mut master = Command::new("/bin/sh")
            .args(["-c", r#"echo $$ >"$0" && exec ssh "$@""#])
            .arg(&files.pid)
            .args(["-M", "-N", "-T", "-S"])
            .arg(&files.socket)
            .args(options.wishes(&effective))
            .args(options.destination(host))
            // A jump host's ssh does not hear of BatchMode, and would ask at the terminal.
            .env("SSH_ASKPASS", "false")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| SshError::local("cannot start", Path::new("/bin/sh"), source))?;
        let ended = |source| SshError::local("cannot wait for", Path::new("ssh"), source);
        // ssh makes the socket when the login has succeeded.
        while !files.socket.exists() {
            if let Some(status) = master.try_wait().map_err(ended)? {
                let log = read_log(&files.log);
                return Err(match status.code() {
                    Some(127) if log.contains("not found") => SshError::NoClient,
                    _ => interpret(&host.name, &effective.known_as, &log),
                });
            }
            sleep(Duration::from_millis(5)).await;
        }
        debug!(host = host.name, "has logged in");
        Ok(Self(Arc::new(Login {
            name: host.name.clone(),
            python: host.python.clone(),
            files,
            _master: master,
        })))
    }

    /// The host's name, as the host list has it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether the connection stands, as far as ssh knows.
    pub async fn is_alive(&self) -> bool {
        let check = self.ssh(&["-O", "check", "none"]).output();
        let check = timeout(ANSWER, check).await;
        matches!(check, Ok(Ok(output)) if output.status.success())
    }

    /// ssh through the open connection, and only through it.
    pub(super) fn ssh(&self, words: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-T", "-o", "BatchMode=yes", "-S"])
            .arg(&self.0.files.socket)
            // Without its master, ssh would try to connect anew.
            .args(["-o", "ProxyCommand=false"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        ssh
    }

    /// Whether the login ends without having run a command: its shell was exchanged for another program.
    pub(super) async fn drops_commands(&self) -> bool {
        let echo = format!("exec /bin/sh -c 'echo {MARKER}'");
        let echoed = timeout(ANSWER, self.ssh(&["--", "none", &echo]).output()).await;
        let Ok(Ok(output)) = echoed else { return false };
        let said = String::from_utf8_lossy(&output.stdout);
        output.status.code().is_some_and(|code| code != 255) && !said.contains(MARKER)
    }

    /// Nothing goes through the connection any more; ssh's log may say why.
    pub(super) fn lost(&self, stderr: &str) -> SshError {
        if stderr.contains("Session open refused by peer") {
            let host = self.0.name.clone();
            return SshError::Sessions { host };
        }
        let log = read_log(&self.0.files.log);
        let said = match last_words(&log) {
            nothing if log.trim().is_empty() || nothing == "it said nothing" => last_words(stderr),
            why => why,
        };
        SshError::Lost {
            host: self.0.name.clone(),
            said,
        }
    }

    pub(super) fn command_failed(&self, what: &'static str, text: &str) -> SshError {
        SshError::Command {
            host: self.0.name.clone(),
            what,
            said: last_words(text),
        }
    }

    pub(super) fn makes_no_sense(&self, what: &'static str, text: &str) -> SshError {
        SshError::Answer {
            host: self.0.name.clone(),
            what,
            said: last_words(text),
        }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        // The pid file stays for the reaper: the process may take a moment to go.
        let files: [&PathBuf; 2] = [&self.files.socket, &self.files.log];
        for file in files {
            let _ = fs::remove_file(file);
        }
    }
}

fn read_log(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let end = &bytes[bytes.len().saturating_sub(LOG_BYTES)..];
    String::from_utf8_lossy(end).into_owned()
}
