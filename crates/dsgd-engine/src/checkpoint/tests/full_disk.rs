//! No space left, for real.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Run;
use crate::checkpoint::file::Contents;
use crate::checkpoint::{CheckpointError, error};

#[test]
fn a_device_without_space_is_a_full_disk() {
    let run = Run::new();
    let params = run.params(1);
    let mut contents = Contents::default();
    contents.add(&run.layout, "", params.flat());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let cause = contents.write_to(&full).unwrap_err();
    let error = error::write_failed("run/a".into(), cause, Some("run/b".into()));
    assert!(matches!(error, CheckpointError::DiskFull { .. }), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("cannot write run/a: No space left on device"));
    assert!(text.ends_with("the previous checkpoint run/b is intact"));
}

/// A real file system that fills up; where none may be mounted, it says so and passes.
#[test]
fn a_full_disk_leaves_the_previous_checkpoint_and_nothing_else() {
    let run = Run::new();
    let Some(_mounted) = Mounted::new(run.dir.path(), "64k") else {
        let name = "a_full_disk_leaves_the_previous_checkpoint_and_nothing_else";
        // Around the test harness, which would keep it to itself.
        writeln!(io::stderr(), "SKIPPED {name}: no tmpfs can be mounted here").unwrap();
        return;
    };
    run.save(1);
    // Room for neither file, then for the state but not for the weights.
    for pages in [0, 1] {
        let filler = run.dir.path().join("filler");
        fill_but(&filler, pages * 4096);
        let before = run.names();
        let error = run.save_to(run.dir.path(), "step-2", 2).unwrap_err();
        assert!(matches!(error, CheckpointError::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("step-1.safetensors is intact"));
        assert_eq!(run.names(), before);
        run.check(&run.newest().resumed.unwrap(), 1);
        fs::remove_file(filler).unwrap();
    }
    run.save(2);
    run.check(&run.newest().resumed.unwrap(), 2);
}

/// Takes all the space that there is but for `room` bytes.
fn fill_but(path: &Path, room: u64) {
    let mut file = File::create(path).unwrap();
    let full = (0..1000).any(|_| file.write_all(&[1; 4096]).is_err());
    assert!(full, "this is no small file system");
    let len = file.metadata().unwrap().len();
    file.set_len(len - room).unwrap();
}

/// A small file system in memory, until dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        let output = mount.arg(at).output().ok()?;
        output.status.success().then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: by now nothing but the directory handle of a panicking test can be open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
