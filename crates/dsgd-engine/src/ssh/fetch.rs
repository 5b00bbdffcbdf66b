//! Files from a host to a folder here.
//!
//! The host is not believed: it says a name and a length, then so many bytes, and a name that would
//! lead out of the folder is refused. Links there are copied as links below what was asked for, links
//! here are not followed at all. A file has its name when it is complete, and nothing that is here is
//! replaced. What is left out is named.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;

use super::SshError;
use super::channel::{Channel, Script};
use super::remote::{ANSWER, Remote};
use super::stderr::visible_line;
use dsgd_core::text;

const WHAT: &str = "fetching files";
/// Without any progress for so long, fetching has failed.
const STALL: Duration = Duration::from_secs(30);
/// More files are somebody's mistake, or malice.
const MOST_FILES: usize = 100_000;
/// Longest name that systems have.
const NAME_BYTES: usize = 4096;
/// Longest target of a link that systems have.
const MOST_TARGET: u64 = NAME_BYTES as u64;
const PIECE_BYTES: usize = 64 << 10;

/// Of what is left out, so many are named and all are counted.
const MOST_NAMED: usize = 100;

/// For each entry a line with its kind, length and length of the name, then the name, then the
/// content of a file or the target of a link; after the last one the line `end`. Links come last.
const SCRIPT: &str = r#"
LC_ALL=C; export LC_ALL
if [ ! -e "$1" ]; then echo "no such file or folder: $1" >&2; exit 1; fi
cd "$(dirname -- "$1")" || exit 1
top="./$(basename -- "$1")"
find -H "$top" ! -type l -exec /bin/sh -c '
  for f; do
    size=0
    if [ -d "$f" ]; then
      if [ -r "$f" ] && [ -x "$f" ]; then kind=d; else kind=u; fi
    elif [ ! -f "$f" ]; then kind=o
    elif [ ! -r "$f" ]; then kind=u
    else kind=f; size=$(stat -L -c %s "$f" 2>/dev/null || wc -c <"$f"); fi
    printf "%s %s %s\n%s" "$kind" "$((size))" "${#f}" "$f"
    if [ $kind = f ]; then head -c "$((size))" "$f"; fi
  done' dsgd-sh {} +
find -H "$top" -type l -exec /bin/sh -c '
  for f; do
    target=$(readlink "$f"; echo x); target=${target%?x}
    printf "l %s %s\n%s%s" "${#target}" "${#f}" "$f" "$target"
  done' dsgd-sh {} +
echo end
"#;

/// What came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// So many files.
    pub files: usize,
    /// So many links.
    pub links: usize,
    /// So many bytes.
    pub bytes: u64,
    /// What did not come, and why; of many the first ones.
    pub left_out: Vec<String>,
    /// So many did not come.
    pub missed: usize,
}

impl Fetched {
    /// Adds what another fetch brought.
    pub fn add(&mut self, other: Fetched) {
        self.files += other.files;
        self.links += other.links;
        self.bytes += other.bytes;
        self.missed += other.missed;
        let room = MOST_NAMED - self.left_out.len().min(MOST_NAMED);
        self.left_out.extend(other.left_out.into_iter().take(room));
    }

    fn leave_out(&mut self, name: &Path, why: &str) {
        self.missed += 1;
        if self.left_out.len() < MOST_NAMED {
            let name = text::line(&name.to_string_lossy());
            self.left_out.push(format!("{name}: {why}"));
        }
    }
}

/// Why something is left out that would replace what is here.
const IS_HERE: &str = "there is something of that name here, and nothing is replaced";

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
        for entries in 0.. {
            channel.wait_for(STALL);
            let head = channel.some_line().await?;
            // What was asked for is always among them.
            if head == "end" && entries > 0 {
                break;
            }
            let Some((kind, length, name @ 1..=NAME_BYTES)) = head_of(&head) else {
                return Err(self.makes_no_sense(WHAT, &head));
            };
            if entries == MOST_FILES {
                return Err(self.makes_no_sense(WHAT, "more than 100000 files"));
            }
            let name = self.name_of(&mut channel, name).await?;
            match (kind, length) {
                ("f", length) => {
                    let file = place(into, &name)?;
                    if self.content(&mut channel, length, &file).await? {
                        fetched.files += 1;
                        fetched.bytes += length;
                    } else {
                        fetched.leave_out(&name, IS_HERE);
                    }
                }
                ("d", 0) => drop(place(into, &name.join("in it"))?),
                ("l", 1..=MOST_TARGET) => {
                    let target = bytes(&mut channel, length as usize).await?;
                    match symlink(OsStr::from_bytes(&target), place(into, &name)?) {
                        Ok(()) => fetched.links += 1,
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                            fetched.leave_out(&name, IS_HERE);
                        }
                        Err(e) => fetched.leave_out(&name, &e.to_string()),
                    }
                }
                ("u", 0) => fetched.leave_out(&name, "it cannot be read there"),
                ("o", 0) => fetched.leave_out(&name, "it is no file, folder or link"),
                _ => return Err(self.makes_no_sense(WHAT, &head)),
            }
        }
        Ok(fetched)
    }

    async fn name_of(&self, channel: &mut Channel, length: usize) -> Result<PathBuf, SshError> {
        let name = bytes(channel, length).await?;
        let name = OsStr::from_bytes(name.strip_prefix(b"./").unwrap_or(&name));
        inside(name).ok_or_else(|| SshError::Escape {
            host: self.name().to_owned(),
            path: visible_line(&name.to_string_lossy()),
        })
    }

    /// Whether the file could have its name: nothing is replaced.
    async fn content(
        &self,
        channel: &mut Channel,
        length: u64,
        to: &Path,
    ) -> Result<bool, SshError> {
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
        match file.persist_noclobber(to) {
            Ok(_) => Ok(true),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(cannot(e.error)),
        }
    }
}

/// Kind, length and length of the name.
fn head_of(head: &str) -> Option<(&str, u64, usize)> {
    let mut words = head.split(' ');
    let kind = words.next()?;
    let (length, name) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some((kind, length, name))
}

/// So many bytes.
async fn bytes(channel: &mut Channel, length: usize) -> Result<Vec<u8>, SshError> {
    let mut bytes = vec![0; length];
    let mut read = 0;
    while read < length {
        match channel.read(&mut bytes[read..]).await? {
            0 => return Err(channel.failure().await?),
            more => read += more,
        }
    }
    Ok(bytes)
}

/// A path that stays below where it begins.
fn inside(name: &OsStr) -> Option<PathBuf> {
    let path = Path::new(name);
    let down = |part: Component<'_>| matches!(part, Component::Normal(_));
    let stays = !name.is_empty() && !name.as_bytes().contains(&0) && path.components().all(down);
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
            assert_eq!(inside(OsStr::new(out)), None, "{out:?}");
        }
        for within in ["a", "a/b c", "a/...", "a//b"] {
            assert!(inside(OsStr::new(within)).is_some(), "{within:?}");
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
