//! Files that are there in full or not at all.
//!
//! Several files that belong together are written under temporary names first and renamed only
//! when the last one is safe on the disk, so that an error or a kill leaves the old ones.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::DataError;

/// Files written but not yet visible. Dropping it removes them.
#[derive(Debug, Default)]
pub struct Pending {
    files: Vec<(NamedTempFile, PathBuf)>,
}

impl Pending {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the content of `path` under a temporary name beside it and waits until it is on the disk.
    pub fn write(
        &mut self,
        path: &Path,
        content: impl FnOnce(&mut BufWriter<&mut File>) -> std::io::Result<()>,
    ) -> Result<(), DataError> {
        let error = |source| DataError::Io {
            action: "write",
            file: path.to_owned(),
            source,
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".dsgd-").suffix(".tmp");
        #[cfg(unix)]
        {
            // The default is private to the user; data files are for whom the umask says.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let mut file = builder.tempfile_in(folder(path)).map_err(error)?;
        let mut writer = BufWriter::with_capacity(1 << 20, file.as_file_mut());
        content(&mut writer)
            .and_then(|()| writer.flush())
            .map_err(error)?;
        drop(writer);
        file.as_file().sync_all().map_err(error)?;
        self.files.push((file, path.to_owned()));
        Ok(())
    }

    /// Makes all files visible under their names, replacing what was there.
    pub fn commit(self) -> Result<(), DataError> {
        for (file, path) in self.files {
            file.persist(&path).map_err(|e| DataError::Io {
                action: "write",
                file: path.clone(),
                source: e.error,
            })?;
            // The name itself is safe only with its folder; not every system can sync one.
            if let Ok(folder) = File::open(folder(&path)) {
                let _ = folder.sync_all();
            }
        }
        Ok(())
    }
}

/// The folder that a path's file is in; a bare name is in the current one.
fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_leaves_the_old_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut pending = Pending::new();
        pending.write(&path, |w| w.write_all(b"new")).unwrap();
        let failed = pending.write(&dir.path().join("b"), |w| {
            w.write_all(b"half")?;
            Err(std::io::Error::other("disk on fire"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk on fire"));
        drop(pending);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn commit_replaces_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut pending = Pending::new();
        pending.write(&path, |w| w.write_all(b"new")).unwrap();
        pending.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
