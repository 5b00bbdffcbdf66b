//! An sshd of this machine, set up by somebody with other ideas.

use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dsgd_engine::ssh::{Control, Options, Remote, SshError};
use tempfile::TempDir;
use tokio::time::Instant;

use super::host;
use crate::program::until;

/// An sshd on a port of the loopback.
pub(crate) struct Plain {
    folder: TempDir,
    sshd: Child,
    control: Control,
}

impl Plain {
    pub(crate) fn up(test: &str, settings: &str) -> Option<Self> {
        let sshd = "/usr/sbin/sshd";
        if !Path::new(sshd).exists() {
            let mut stderr = io::stderr();
            writeln!(stderr, "SKIPPED {test}: there is no sshd").unwrap();
            return None;
        }
        let _ = fs::create_dir_all("/run/sshd"); // Where root's sshd wants it.
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for key in ["id", "host"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
            assert!(keygen.status().unwrap().success());
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nAuthorizedKeysFile {}\nSetEnv XDG_CACHE_HOME={}\n{settings}\n",
            path("host"),
            path("id.pub"),
            path("cache"),
        );
        fs::write(path("sshd_config"), config).unwrap();
        let config = format!(
            "Host localhost\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {}\n  \
             IdentitiesOnly yes\n  UserKnownHostsFile {}\n",
            path("id"),
            path("known_hosts"),
        );
        fs::write(path("ssh_config"), config).unwrap();
        let sshd = Command::new(sshd)
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until(|| TcpStream::connect(("127.0.0.1", port)).ok()).unwrap();
        Some(Self {
            folder,
            sshd,
            control: Control::new().unwrap(),
        })
    }

    async fn login(&self) -> Remote {
        let options = Options {
            username: None,
            config_file: Some(self.folder.path().join("ssh_config")),
            identity: None,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let host = host("localhost");
        let remote = Remote::connect(&host, &options, &self.control, deadline).await;
        remote.unwrap()
    }

    /// A file of the set-up.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.control.file("server")
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

#[tokio::test]
async fn this_machine_is_a_host_as_others_are() {
    let Some(plain) = Plain::up("this_machine_is_a_host_as_others_are", "") else {
        return;
    };
    let remote = plain.login().await;
    let facts = remote.facts().await.unwrap();
    let cache = plain.folder.path().join("cache/dsgd");
    assert_eq!(Path::new(&facts.cache), cache);
    let path = remote.forward(&plain.socket()).await.unwrap();
    assert!(path.starts_with(&facts.cache), "{path}");
    assert!(remote.speed().await.unwrap() > 1e5);
}

#[tokio::test]
async fn a_forward_that_is_refused_or_open_to_others_is_reported() {
    let test = "a_forward_that_is_refused_or_open_to_others_is_said";
    let settings = "AllowStreamLocalForwarding no";
    let Some(plain) = Plain::up(test, settings) else {
        return;
    };
    let remote = plain.login().await;
    let refused = remote.forward(&plain.socket()).await.unwrap_err();
    assert!(matches!(refused, SshError::Forward { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&settings.replace("no", "yes")));

    let Some(plain) = Plain::up(test, "StreamLocalBindMask 0111") else {
        return;
    };
    let remote = plain.login().await;
    let open = remote.forward(&plain.socket()).await.unwrap_err();
    let socket = matches!(&open, SshError::OpenSocket { mode, .. } if mode == "666");
    assert!(socket, "{open:?}");
}

#[tokio::test]
async fn a_login_that_runs_nothing_is_reported() {
    let settings = "ForceCommand echo This account is closed";
    let Some(plain) = Plain::up("a_login_that_runs_nothing_is_said", settings) else {
        return;
    };
    let error = plain.login().await.facts().await.unwrap_err();
    assert!(matches!(error, SshError::Shell { .. }), "{error:?}");
    assert!(
        error.to_string().contains("This account is closed"),
        "{error}"
    );
}
