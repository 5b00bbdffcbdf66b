//! The folder of the connections' sockets, and the reaper that clears it.
//!
//! Every connection is an ssh process of ours, a *master*, behind a socket in one folder with mode
//! 0700. Whatever way this process goes, they must go too. So a small shell stands by from the
//! beginning, the reaper: it waits for the end of its standard input, which is when we are done with
//! the folder, or are no more, be it by `kill -9`. Then it ends the masters and removes the folder.
//! It is a process group of its own, as the masters are: Ctrl-C in a terminal is ours to handle.
//!
//! The reaper writes to nobody, and is told the folder through its input, so that looking for
//! processes which name the folder finds masters only.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::SshError;

/// A Unix socket's path may have 103 bytes on some systems. ssh binds its own under a name that is
/// longer by 17, and our names in the folder have up to 12.
const LONGEST_FOLDER: usize = 60;

/// The reaper needs tenths of a second, more where an ssh does not listen.
const REAPING: Duration = Duration::from_secs(5);

const REAPER: &str = r#"
trap "" HUP INT TERM
IFS= read -r dir
while read -r line; do :; done
case $dir in /?*/dsgd-?*) ;; *) exit 1 ;; esac
for socket in "$dir"/*.ssh; do
  [ -S "$socket" ] && ssh -F /dev/null -o ProxyCommand=false -S "$socket" -O exit none &
done >/dev/null 2>&1
tries=0
while [ $tries -lt 10 ]; do
  set -- "$dir"/*.ssh
  [ -e "$1" ] || break
  sleep 0.1 2>/dev/null || sleep 1
  tries=$((tries + 1))
done
for file in "$dir"/*.pid; do
  read -r pid <"$file" || continue
  if [ -r "/proc/$pid/cmdline" ]; then words=$(tr "\000" " " <"/proc/$pid/cmdline")
  else words=$(ps -p "$pid" -o args=); fi
  case $words in *"$dir/"*) kill -9 "$pid" ;; esac
done
rm -rf "$dir"
"#;

/// A folder for sockets, and what cleans up after it. Dropping it ends all connections in it.
#[derive(Debug)]
pub struct Control {
    folder: TempDir,
    reaper: Child,
    next: AtomicUsize,
}

/// Where one connection's files are.
#[derive(Clone, Debug)]
pub(super) struct LoginFiles {
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
    pub(super) pid: PathBuf,
}

impl Control {
    /// A new folder, and its reaper.
    pub fn new() -> Result<Self, SshError> {
        let usual = std::env::temp_dir();
        let short = usual.as_os_str().len() + "/dsgd-123456".len() <= LONGEST_FOLDER;
        let parent = if short && usual.is_absolute() {
            usual
        } else {
            PathBuf::from("/tmp")
        };
        let cannot = |source| SshError::local("cannot make a folder in", &parent, source);
        let folder = tempfile::Builder::new()
            .prefix("dsgd-")
            .tempdir_in(&parent) // Mode 0700.
            .map_err(cannot)?;
        let cannot = |source| SshError::local("cannot start", Path::new("/bin/sh"), source);
        let mut reaper = Command::new("/bin/sh")
            .args(["-c", REAPER])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(cannot)?;
        let told = reaper.stdin.as_mut().map(|pipe| {
            let path = folder.path().as_os_str().as_encoded_bytes();
            pipe.write_all(path).and_then(|()| pipe.write_all(b"\n"))
        });
        told.transpose().map_err(cannot)?;
        Ok(Self {
            folder,
            reaper,
            next: AtomicUsize::new(0),
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A name in the folder, for a socket that is not ssh's.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(super) fn login_files(&self) -> LoginFiles {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| self.file(&format!("{number}.{kind}"));
        LoginFiles {
            socket: file("ssh"),
            log: file("log"),
            pid: file("pid"),
        }
    }
}

/// The masters of another process of ours: number, and host as its list has it. Known to Linux only.
pub fn masters_of(owner: u32) -> Vec<(u32, String)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let master = |folder: &Path| {
        let pid = folder.file_name()?.to_str()?.parse().ok()?;
        // After the name, which may hold anything: state and parent.
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        if parent.parse() != Ok(owner) {
            return None;
        }
        let line = fs::read(folder.join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.trim_end_matches('\0').split('\0');
        let is_master = words.next() == Some("ssh") && words.next() == Some("-M");
        is_master.then_some((pid, words.next_back()?.to_owned()))
    };
    processes
        .filter_map(|process| master(&process.path()))
        .collect()
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        let started = Instant::now();
        while started.elapsed() < REAPING && matches!(self.reaper.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
