//! Files of data that a task's options name, and which travel to workers elsewhere.
//!
//! A list of such files by hand would be forgotten one day, and then a task trains here and on no
//! other machine. So the option's type says it: whoever writes options down, or reads them, meets
//! each [`DataFile`] in them, however deep it lies.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What lies beside a file of data, belongs to it, and travels with it.
pub trait Beside: 'static {
    /// Those files that are there, in the same folder as `file`.
    fn beside(file: &Path) -> Vec<PathBuf>;
}

/// Nothing lies beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {}

impl Beside for Alone {
    fn beside(_: &Path) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// An option's value: the path of a file that [`Task::load`](crate::Task::load) or
/// [`Model::init`](crate::Model::init) reads.
///
/// Workers elsewhere get a copy of the file, by its content, and the option names the copy there.
/// On the command line and in `config.toml` it is a path as any other. Files which have to lie in the
/// same folder are named by `B`.
///
/// ```
/// use dsgd::DataFile;
///
/// #[derive(Clone, clap::Args, serde::Serialize, serde::Deserialize)]
/// struct Options {
///     /// Table of examples
///     #[arg(long)]
///     csv: DataFile,
/// }
/// ```
pub struct DataFile<B = Alone> {
    path: PathBuf,
    beside: PhantomData<fn() -> B>,
}

impl<B> Deref for DataFile<B> {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl<B> AsRef<Path> for DataFile<B> {
    fn as_ref(&self) -> &Path {
        self
    }
}

impl<B> From<PathBuf> for DataFile<B> {
    fn from(path: PathBuf) -> Self {
        Self {
            path,
            beside: PhantomData,
        }
    }
}

impl<B> FromStr for DataFile<B> {
    type Err = Infallible;

    fn from_str(path: &str) -> Result<Self, Infallible> {
        Ok(PathBuf::from(path).into())
    }
}

impl<B> Clone for DataFile<B> {
    fn clone(&self) -> Self {
        self.path.clone().into()
    }
}

impl<B> PartialEq for DataFile<B> {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl<B> std::fmt::Debug for DataFile<B> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.fmt(formatter)
    }
}

thread_local! {
    /// What was written down in the call of [`named_by`] that is under way.
    static NAMED: RefCell<Option<Named>> = const { RefCell::new(None) };
    /// What stands for paths in the call of [`with_digests`] that is under way.
    static DIGESTS: RefCell<BTreeMap<PathBuf, String>> = const { RefCell::new(BTreeMap::new()) };
    /// What paths become in the call of [`with_copies`] that is under way.
    static COPIES: RefCell<BTreeMap<PathBuf, PathBuf>> = const { RefCell::new(BTreeMap::new()) };
}

/// Files by the paths that options have for them, each with those beside it.
pub(crate) type Named = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

impl<B: Beside> Serialize for DataFile<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        NAMED.with_borrow_mut(|named| {
            if let Some(named) = named {
                let beside = named.entry(self.path.clone()).or_default();
                beside.extend(B::beside(self));
            }
        });
        match DIGESTS.with_borrow(|digests| digests.get(&self.path).cloned()) {
            Some(digest) => serializer.serialize_str(&digest),
            None => self.path.serialize(serializer),
        }
    }
}

impl<'de, B> Deserialize<'de> for DataFile<B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        let copy = COPIES.with_borrow(|copies| copies.get(&path).cloned());
        Ok(copy.unwrap_or(path).into())
    }
}

/// Where files lie that were sent here, and what can be made anew: `~/.cache/dsgd`, or `dsgd` in `$XDG_CACHE_HOME`.
pub fn cache_folder() -> PathBuf {
    let set = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty());
    let cache = set.map(PathBuf::from);
    let home = || std::env::home_dir().unwrap_or_default().join(".cache");
    cache.unwrap_or_else(home).join("dsgd")
}

/// The files of data that these options name.
///
/// # Errors
/// When the options cannot be written down.
pub(crate) fn named_by(options: &impl Serialize) -> Result<Named, serde_json::Error> {
    NAMED.set(Some(Named::new()));
    let written = serde_json::to_value(options);
    let named = NAMED.take();
    written?;
    Ok(named.unwrap_or_default())
}

/// What `write` writes down, with digests in place of the paths of files.
pub(crate) fn with_digests<T>(digests: BTreeMap<PathBuf, String>, write: impl FnOnce() -> T) -> T {
    DIGESTS.set(digests);
    let written = write();
    DIGESTS.take();
    written
}

/// What `read` reads, with the copies of files in place of those paths.
pub(crate) fn with_copies<T>(copies: BTreeMap<PathBuf, PathBuf>, read: impl FnOnce() -> T) -> T {
    COPIES.set(copies);
    let read = read();
    COPIES.take();
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Dictionary {}

    impl Beside for Dictionary {
        fn beside(file: &Path) -> Vec<PathBuf> {
            vec![file.with_extension("dict")]
        }
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Source {
        Files(Vec<DataFile>),
        Pair { left: DataFile, right: DataFile },
        Nothing,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Options {
        plain: DataFile,
        with_words: Option<DataFile<Dictionary>>,
        none: Option<DataFile>,
        folder: PathBuf,
        sources: Vec<Source>,
        by_name: BTreeMap<String, DataFile>,
        #[serde(flatten)]
        more: More,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct More {
        deep: DataFile,
    }

    fn options() -> Options {
        let file = |path: &str| DataFile::from(PathBuf::from(path));
        Options {
            plain: file("a b"),
            with_words: Some(PathBuf::from("d/x.hdf5").into()),
            none: None,
            folder: "out".into(),
            sources: vec![
                Source::Files(vec![file("1"), file("2")]),
                Source::Pair {
                    left: file("3"),
                    right: file("a b"),
                },
                Source::Nothing,
            ],
            by_name: BTreeMap::from([("k".to_owned(), file("4"))]),
            more: More { deep: file("5") },
        }
    }

    #[test]
    fn every_file_is_found_wherever_it_lies_in_the_options() {
        let named = named_by(&options()).unwrap();
        let paths: Vec<_> = named.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["1", "2", "3", "4", "5", "a b", "d/x.hdf5"]);
        let beside = &named[Path::new("d/x.hdf5")];
        assert_eq!(*beside, BTreeSet::from([PathBuf::from("d/x.dict")]));
        assert!(named[Path::new("a b")].is_empty());
        assert!(NAMED.take().is_none(), "nothing is kept");
    }

    #[test]
    fn digests_stand_for_files_and_for_nothing_else() {
        let digests = [("a b", "x"), ("out", "y")].map(|(path, d)| (path.into(), d.to_owned()));
        let written = with_digests(digests.into(), || serde_json::to_value(options()).unwrap());
        assert_eq!(written["plain"], "x");
        assert_eq!(written["sources"][1]["Pair"]["right"], "x");
        assert_eq!(written["folder"], "out");
        assert_eq!(written["deep"], "5");
        assert_eq!(serde_json::to_value(options()).unwrap()["plain"], "a b");
    }

    #[test]
    fn copies_take_the_place_of_files_and_of_nothing_else() {
        let text = toml::to_string(&options()).unwrap();
        assert!(text.contains(r#"plain = "a b""#), "{text}");
        let copies = [("a b", "/c/a b"), ("out", "/c/out"), ("5", "/c/5")];
        let copies = copies.map(|(path, copy)| (path.into(), copy.into()));
        let read: Options = with_copies(copies.into(), || toml::from_str(&text).unwrap());
        assert_eq!(*read.plain, *Path::new("/c/a b"));
        assert_eq!(*read.more.deep, *Path::new("/c/5"));
        assert_eq!(read.folder, Path::new("out"));
        assert_eq!(read.with_words, options().with_words);
        let here: Options = toml::from_str(&text).unwrap();
        assert_eq!(here, options());
    }
}
