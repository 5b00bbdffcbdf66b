//! Files from a host to a folder here.
//!
//! The host is not believed: it says a name and a length, then so many bytes, and a name that would
//! lead out of the folder is refused. Links there are not followed below what was asked for, links
//! here not at all. A file has its name when it is complete.

use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;

use super::SshError;
use super::channel::{Channel, Script};
use super::remote::{ANSWER, Remote};
use super::said::said_line;

const WHAT: &str = "fetching files";
/// Without any progress for so long, fetching has failed.
const STALL: Duration = Duration::from_secs(30);
/// More files are somebody's mistake, or malice.
const MOST_FILES: usize = 100_000;
/// Longest name that systems have.
const NAME_BYTES: usize = 4096;
const PIECE_BYTES: usize = 64 << 10;

/// For each file a line with length and length of the name, then the name, then the content; after
/// the last one the line `end`.
const SCRIPT: &str = r#"
LC_ALL=C; export LC_ALL
if [ ! -e "$1" ]; then echo "no such file or folder: $1" >&2; exit 1; fi
cd "$(dirname -- "$1")" || exit 1
find -H "./$(basename -- "$1")" -type f -exec /bin/sh -c '
  for f; do
    if [ ! -r "$f" ]; then echo "cannot read $f" >&2; exit 1; fi
    size=$(stat -c %s "$f" 2>/dev/null || wc -c <"$f")
    printf "%s %s\n%s" "$((size))" "${#f}" "$f"
    head -c "$((size))" "$f"
  done' dsgd-sh {} + && echo end
"#;

/// What came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// So many files.
    pub files: usize,
    /// So many bytes.
    pub bytes: u64,
}

impl Remote {
    /// Copies a file, or a folder with all in it, into a folder here. A path that does not begin
    /// with a slash begins at the user's home there.
    pub async fn fetch(&self, path: &str, into: &Path) -> Result<Fetched, SshError> {
        let path = path.strip_prefix("~/").unwrap_or(path);
        let script = Script {
            what: WHAT,
            body: SCRIPT,
            args: &[path],
        };
        let mut channel = self.open(&script, ANSWER).await?;
        let mut fetched = Fetched::default();
        loop {
            channel.wait_for(STALL);
            let head = channel.some_line().await?;
            if head == "end" {
                return Ok(fetched);
            }
            let numbers = head.split_once(' ').and_then(|(length, name)| {
                Some((length.parse::<u64>().ok()?, name.parse::<usize>().ok()?))
            });
            let Some((length, name @ 1..=NAME_BYTES)) = numbers else {
                return Err(self.makes_no_sense(WHAT, &head));
            };
            if fetched.files == MOST_FILES {
                return Err(self.makes_no_sense(WHAT, "more than 100000 files"));
            }
            let name = self.name_of(&mut channel, name).await?;
            let file = place(into, &name)?;
            self.content(&mut channel, length, &file).await?;
            fetched.files += 1;
            fetched.bytes += length;
        }
    }

    async fn name_of(&self, channel: &mut Channel, bytes: usize) -> Result<PathBuf, SshError> {
        let mut name = vec![0; bytes];
        let mut read = 0;
        while read < bytes {
            match channel.read(&mut name[read..]).await? {
                0 => return Err(channel.failure().await?),
                more => read += more,
            }
        }
        let name = String::from_utf8_lossy(&name);
        inside(name.strip_prefix("./").unwrap_or(&name)).ok_or_else(|| SshError::Escape {
            host: self.name().to_owned(),
            path: said_line(&name),
        })
    }

    async fn content(&self, channel: &mut Channel, length: u64, to: &Path) -> Result<(), SshError> {
        let cannot = |source| SshError::local("cannot write", to, source);
        let folder = to.parent().unwrap_or(Path::new("."));
        let mut file = NamedTempFile::new_in(folder).map_err(cannot)?;
        let mut left = length;
        let mut piece = vec![0; PIECE_BYTES];
        while left > 0 {
            channel.wait_for(STALL);
            let most = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            match channel.read(&mut piece[..most]).await? {
                0 => return Err(channel.failure().await?),
                read => {
                    file.write_all(&piece[..read]).map_err(cannot)?;
                    left -= read as u64;
                }
            }
        }
        file.persist(to).map_err(|e| cannot(e.error))?;
        Ok(())
    }
}

/// A path that stays below where it begins.
fn inside(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let down = |part: Component<'_>| matches!(part, Component::Normal(_));
    let stays = !name.is_empty() && !name.contains('\0') && path.components().all(down);
    stays.then(|| path.to_owned())
}

/// The file's place here, with its folders made. None of them may be a link.
fn place(into: &Path, name: &Path) -> Result<PathBuf, SshError> {
    let mut path = into.to_owned();
    fs::create_dir_all(&path).map_err(|e| SshError::local("cannot create folder", &path, e))?;
    let folders = name.parent().into_iter().flat_map(Path::components);
    for folder in folders {
        path.push(folder);
        let is = fs::symlink_metadata(&path);
        let made = match is {
            Ok(is) if is.is_dir() => Ok(()),
            Ok(_) => Err(io::Error::other("it is there and no folder")),
            Err(_) => fs::create_dir(&path),
        };
        made.map_err(|e| SshError::local("cannot create folder", &path, e))?;
    }
    Ok(into.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_out() {
        for out in [
            "../x",
            "/etc/passwd",
            "a/../../x",
            "a/..",
            "..",
            "",
            ".",
            "a\0b",
            "./../x",
        ] {
            assert_eq!(inside(out), None, "{out:?}");
        }
        for within in ["a", "a/b c", "a/...", "a//b"] {
            assert!(inside(within).is_some(), "{within:?}");
        }
    }

    #[test]
    fn links_here_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", folder.path().join("out")).unwrap();
        assert!(place(folder.path(), Path::new("out/x")).is_err());
        let file = place(folder.path(), Path::new("a/b/x")).unwrap();
        assert_eq!(file, folder.path().join("a/b/x"));
        assert!(folder.path().join("a/b").is_dir());
    }
}
