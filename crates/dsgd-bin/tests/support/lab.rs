//! Hosts for tests of the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// Hosts made of namespaces, which go when it is dropped.
pub(crate) struct Lab {
    folder: TempDir,
    number: u32,
}

impl Lab {
    pub(crate) fn up(hosts: usize) -> Option<Self> {
        // Tests of this process run side by side.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
            number: std::process::id().wrapping_mul(37).wrapping_add(next) % 10_000,
        };
        let up = lab.tool(&["up", &hosts.to_string()])?;
        up.then_some(lab)
    }

    /// Whether it worked; none where there is no tool for hosts, or no right to use it.
    pub(crate) fn tool(&self, args: &[&str]) -> Option<bool> {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tools/hosts.sh");
        let number = self.number;
        let mut command = Command::new(tool);
        let net = format!("10.{}.{}", 100 + number / 100, number % 100);
        command.args(args).env("HOSTS_DIR", self.file(""));
        command.env("HOSTS_NET", net);
        command.env("HOSTS_BR", format!("d{number:04}b"));
        command.env("HOSTS_PREFIX", format!("d{number:04}x"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Some(command.status().ok()?.success())
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("hosts").join(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tool(&["down"]);
    }
}
