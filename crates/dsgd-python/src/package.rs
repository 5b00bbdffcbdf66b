//! The Python package that a child imports: it travels in this program, so that both are of one version wherever
//! they run.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

/// The package's files.
const FILES: [(&str, &str); 8] = [
    ("__init__.py", include_str!("../python/dsgd/__init__.py")),
    ("task.py", include_str!("../python/dsgd/task.py")),
    ("seeds.py", include_str!("../python/dsgd/seeds.py")),
    ("loading.py", include_str!("../python/dsgd/loading.py")),
    ("torch.py", include_str!("../python/dsgd/torch.py")),
    ("child.py", include_str!("../python/dsgd/child.py")),
    ("run.py", include_str!("../python/dsgd/run.py")),
    ("main.py", include_str!("../python/dsgd/main.py")),
];

/// A `PYTHONPATH` with which the package is found before any other of its name.
pub(crate) fn on_path() -> io::Result<OsString> {
    let theirs = std::env::var_os("PYTHONPATH").unwrap_or_default();
    let mut paths = vec![written_in(&dsgd::cache_folder().join("python"))?];
    paths.extend(std::env::split_paths(&theirs));
    std::env::join_paths(paths).map_err(io::Error::other)
}

/// The folder in which the package lies, written if it is not there: its name is that of its content.
fn written_in(folder: &Path) -> io::Result<PathBuf> {
    let mut content = Context::new(&SHA256);
    for (name, text) in FILES {
        content.update(name.as_bytes());
        content.update(text.as_bytes());
    }
    let place = folder.join(digits(content));
    if place.is_dir() {
        return Ok(place);
    }
    let at = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
    let new = tempfile::tempdir_in(folder).map_err(|error| at(folder, error))?;
    let package = new.path().join("dsgd");
    fs::create_dir(&package)?;
    for (name, text) in FILES {
        fs::write(package.join(name), text).map_err(|error| at(&package, error))?;
    }
    match fs::rename(new.path(), &place) {
        // Another process was faster.
        Err(_) if place.is_dir() => Ok(place),
        Err(error) => Err(at(&place, error)),
        Ok(()) => {
            // Renamed, so there is nothing to remove.
            let _ = new.keep();
            Ok(place)
        }
    }
}

/// A name for a content.
pub(crate) fn digits(content: Context) -> String {
    let digest = content.finish();
    let (first, _) = digest.as_ref().split_at(16);
    let number = first
        .iter()
        .fold(0, |number, &byte| number << 8 | u128::from(byte));
    format!("{number:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_written_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("new/python");
        let place = written_in(&cache).unwrap();
        for (name, text) in FILES {
            assert_eq!(
                fs::read_to_string(place.join("dsgd").join(name)).unwrap(),
                text
            );
        }
        assert_eq!(written_in(&cache).unwrap(), place);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
    }
}
