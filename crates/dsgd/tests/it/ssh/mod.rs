//! Hosts that are reached by ssh: real sshds, each in a machine of its own as far as it can see.

mod commands;
mod files;
mod login;
mod plain;
mod processes;

pub(crate) use plain::Plain;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dsgd_engine::hosts::Host;
use dsgd_engine::ssh::{Control, Options, Remote, SshError};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::program::PATIENCE;

/// Several hosts on this machine, which go when it is dropped.
pub(crate) struct Lab {
    number: u32,
    folder: TempDir,
    pub(crate) control: Control,
}

impl Lab {
    /// So many hosts, or words about the test that cannot be done here.
    pub(crate) fn up(test: &str, hosts: usize) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if let Some(lacks) = lacks() {
            // Around the test harness, which would keep it to itself.
            let mut stderr = io::stderr();
            writeln!(stderr, "SKIPPED {test}: {lacks}").unwrap();
            return None;
        }
        // Another test process may have the number: then the next one is tried.
        for _ in 0..20 {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let lab = Self {
                number: std::process::id().wrapping_mul(37).wrapping_add(next) % 10_000,
                folder: tempfile::tempdir().unwrap(),
                control: Control::new().unwrap(),
            };
            let output = lab.tool(&["up", &hosts.to_string()]);
            if output.status.success() {
                return Some(lab);
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("exists"), "{said}");
        }
        panic!("there is no free network");
    }

    fn tool(&self, args: &[&str]) -> Output {
        let number = self.number;
        Command::new(tool())
            .args(args)
            .env("HOSTS_DIR", self.folder.path().join("hosts"))
            .env(
                "HOSTS_NET",
                format!("10.{}.{}", 100 + number / 100, number % 100),
            )
            .env("HOSTS_BR", format!("t{number:04}b"))
            .env("HOSTS_PREFIX", format!("t{number:04}x"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Does something to the hosts.
    pub(crate) fn does(&self, words: &str) {
        let args: Vec<_> = words.split(' ').collect();
        let output = self.tool(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {said}");
    }

    /// Runs a command of this machine in a host's network.
    pub(crate) fn in_network_of(&self, host: usize, words: &str) {
        let network = format!("t{:04}x{host}", self.number);
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", &network]).args(words.split(' '));
        let output = ip.output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
    }

    /// Two hosts do not hear each other any more. In a table of this lab's own: the script has one for all
    /// labs, which goes with whichever is taken down first.
    pub(crate) fn part(&self, one: usize, other: usize) {
        let (table, port) = (
            format!("t{:04}", self.number),
            format!("t{:04}xv", self.number),
        );
        nft(&format!("add table bridge {table}"));
        nft(&format!(
            "add chain bridge {table} f {{ type filter hook forward priority 0; }}"
        ));
        for (from, to) in [(one, other), (other, one)] {
            nft(&format!(
                "add rule bridge {table} f iifname {port}{from} oifname {port}{to} drop"
            ));
        }
    }

    /// They hear each other again.
    pub(crate) fn join(&self) {
        nft(&format!("delete table bridge t{:04}", self.number));
    }

    /// A file of the set-up.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("hosts").join(name)
    }

    /// A host's home, seen from here.
    pub(crate) fn home(&self, host: &str) -> PathBuf {
        self.file(host).join("root")
    }

    /// A host's cache, seen from here.
    pub(crate) fn cache(&self, host: &str) -> PathBuf {
        self.home(host).join(".cache/dsgd")
    }

    /// How to log in.
    pub(crate) fn options(&self) -> Options {
        Options {
            username: None,
            config_file: Some(self.file("ssh_config")),
            identity: None,
        }
    }

    /// Logs in with some changes to the ssh configuration.
    pub(crate) async fn try_with(&self, host: &str, more: &str) -> Result<Remote, SshError> {
        let file = self.folder.path().join(format!("config-{host}"));
        let rest = fs::read_to_string(self.file("ssh_config")).unwrap();
        fs::write(&file, format!("Host *\n{more}\n{rest}")).unwrap();
        let options = Options {
            config_file: Some(file),
            ..self.options()
        };
        self.try_connecting(host, &options).await
    }

    async fn try_connecting(&self, name: &str, options: &Options) -> Result<Remote, SshError> {
        let deadline = Instant::now() + Duration::from_secs(5);
        Remote::connect(&host(name), options, &self.control, deadline).await
    }

    /// Logs in. A network that was mended a moment ago may still say that there is no way.
    pub(crate) async fn login(&self, name: &str) -> Remote {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_connecting(name, &self.options()).await {
                Err(SshError::Unreachable { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                tried => return tried.unwrap(),
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tool(&["down"]);
        // Where a test has failed in between, its table is still there.
        let table = format!("delete table bridge t{:04}", self.number);
        let _ = Command::new("nft").arg(table).output();
    }
}

fn nft(line: &str) {
    let output = Command::new("nft").arg(line).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {line}: {said}");
}

/// A host by its name alone.
pub(crate) fn host(name: &str) -> Host {
    Host {
        user: None,
        name: name.to_owned(),
        port: None,
        slots: None,
        python: None,
    }
}

/// The script that makes hosts; it lies beside the checkout, where there is one.
fn tool() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tools/hosts.sh")
}

/// What is not here that hosts are made of.
fn lacks() -> Option<&'static str> {
    let works = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        let command = command
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !tool().is_file() {
        return Some("there is no ../shared/tools/hosts.sh");
    }
    if !Path::new("/usr/sbin/sshd").exists() {
        return Some("there is no sshd (apt-get install openssh-server)");
    }
    if !works("ip", &["netns", "list"]) {
        return Some("there is no ip (apt-get install iproute2)");
    }
    if !works("unshare", &["--mount", "--uts", "--pid", "--fork", "true"]) {
        return Some("only root can make namespaces");
    }
    None
}
