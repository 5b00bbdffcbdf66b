//! Files of data on their way to workers elsewhere: what is sent, and where it lies there.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Arg, Args, Command};
use serde_json::Value;

use crate::data;
use crate::task::Task;
use dsgd_engine::ssh::Object;
use dsgd_engine::wire::credentials::Token;
use dsgd_engine::wire::invitation::{Content, FileRef, Invitation};
use dsgd_engine::wire::link::Endpoint;

/// What is there when sending to hosts was stopped.
pub(super) const LEFT_ON_HOSTS: &str = "What has arrived on hosts stays in their cache (~/.cache/dsgd), and is \
     not sent again; hosts clean removes it";

/// What hosts need for a run that has not begun.
pub(super) struct Payload {
    pub(super) task: &'static str,
    /// The text of its `config.toml`.
    pub(super) config: String,
    pub(super) files: Vec<FileRef>,
    pub(super) objects: Vec<Object>,
}

impl Payload {
    /// An invitation with which a worker can load the task, and join nobody.
    pub(super) fn rehearsal(&self) -> Invitation {
        Invitation {
            run: "rehearsal".to_owned(),
            endpoint: Endpoint {
                address: String::new(),
                identity: None,
                token: Token::fresh(),
                host: String::new(),
            },
            local: None,
            task: self.task.to_owned(),
            config: self.config.clone(),
            files: self.files.clone(),
            slots: None,
        }
    }
}

/// What the options of a task name, for an invitation, and as what is sent.
pub(super) fn pack<T: Task>(options: &T::Options) -> anyhow::Result<(Vec<FileRef>, Vec<Object>)> {
    refuse_paths::<T>(options)?;
    let mut objects: BTreeMap<PathBuf, Object> = BTreeMap::new();
    let mut content = |path: &Path| -> anyhow::Result<Content> {
        let path = std::path::absolute(path).with_context(|| path.display().to_string())?;
        check_kind(&path)?;
        let object = match objects.get(&path) {
            Some(object) => object.clone(),
            None => Object::of(&path)?,
        };
        let sha256 = object.hash.clone();
        objects.insert(path.clone(), object);
        Ok(Content { path, sha256 })
    };
    let mut files = Vec::new();
    for (named, beside) in data::named_by(options)? {
        let file = content(&named)?;
        let beside: Result<_, _> = beside.iter().map(|path| content(path)).collect();
        let beside = beside?;
        files.push(FileRef {
            named,
            file,
            beside,
        });
    }
    Ok((files, objects.into_values().collect()))
}

/// A pipe was read by now, and is empty; what is not there is told of where it is read.
fn check_kind(path: &Path) -> anyhow::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => bail!(
            "{} is no regular file, and nothing else travels to workers elsewhere: write what it holds to a file",
            path.display()
        ),
        _ => Ok(()),
    }
}

/// A path that does not travel would be looked for on every host, and be found on none.
fn refuse_paths<T: Task>(options: &T::Options) -> anyhow::Result<()> {
    let command = T::Options::augment_args(Command::new(""));
    if let Some(option) = path_of_this_machine(&command, &serde_json::to_value(options)?) {
        bail!(
            "{option} is a path of this machine, which workers elsewhere do not have: let its type in the \
             task's options be dsgd::DataFile instead of PathBuf, and the file travels; or train here, with \
             -n alone"
        );
    }
    Ok(())
}

/// The first option that is a plain path and names what is there; what is not there is no input.
fn path_of_this_machine(command: &Command, values: &Value) -> Option<String> {
    let is_path = |arg: &&Arg| arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    let names_something = |arg: &&Arg| {
        let value = &values[arg.get_id().as_str()];
        let one = value.as_str().into_iter();
        let many = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        one.chain(many).any(|path| Path::new(path).exists())
    };
    let mut paths = command.get_arguments().filter(is_path);
    let arg = paths.find(names_something)?;
    Some(match arg.get_long() {
        Some(long) => format!("--{long}"),
        None => arg.get_id().to_string(),
    })
}

/// Where the files lie here, by what the options call them.
pub(super) fn unpack(files: &[FileRef]) -> anyhow::Result<BTreeMap<PathBuf, PathBuf>> {
    let places = files.iter().map(|file| {
        let place = place(&data::cache_folder(), file)?;
        Ok((file.named.clone(), place))
    });
    places.collect()
}

/// In the cache, under their own names in one folder; else where they lie on the server's machine.
fn place(cache: &Path, file: &FileRef) -> anyhow::Result<PathBuf> {
    let all = || std::iter::once(&file.file).chain(&file.beside);
    let object = |content: &Content| cache.join("objects").join(&content.sha256);
    if let Some(missing) = all().find(|content| !object(content).is_file()) {
        return lying(all(), missing).map(|()| file.file.path.clone());
    }
    // Another dictionary beside the same data is another folder.
    let marks = all().map(|content| content.sha256.chars().take(32).collect());
    let folder = cache
        .join("files")
        .join(marks.collect::<Vec<String>>().join("-"));
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    // Names matter to some readers, such as `.gz`.
    let name = |content: &Content| folder.join(content.path.file_name().unwrap_or("data".as_ref()));
    for content in all() {
        let link = name(content);
        match symlink(object(content), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| link.display().to_string());
            }
            _ => {}
        }
    }
    Ok(name(&file.file))
}

/// Whether all lie here as on the server's machine, with the same contents.
fn lying<'a>(mut all: impl Iterator<Item = &'a Content>, missing: &Content) -> anyhow::Result<()> {
    all.try_for_each(|content| {
        let path = content.path.display();
        if !content.path.is_file() {
            let missing = missing.path.display();
            bail!(
                "{missing} is not here: copy it to the same path, or send it from the server's machine by \
                 `dsgd hosts init`"
            );
        }
        if Object::of(&content.path)?.hash != content.sha256 {
            bail!(
                "{path} is another file here than on the server's machine: copy it from there, or send it by \
                 `dsgd hosts init`"
            );
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(folder: &Path, name: &str, text: &str) -> Content {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        let sha256 = Object::of(&path).unwrap().hash;
        Content { path, sha256 }
    }

    #[test]
    fn only_files_are_sent() {
        let folder = tempfile::tempdir().unwrap();
        for other in [folder.path(), Path::new("/dev/null")] {
            let error = check_kind(other).unwrap_err().to_string();
            assert!(error.contains("is no regular file"), "{error}");
        }
        check_kind(&content(folder.path(), "a", "x").path).unwrap();
        check_kind(Path::new("/nowhere")).unwrap();
    }

    #[test]
    fn what_was_sent_lies_together_under_its_own_names() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        fs::create_dir_all(cache.join("objects")).unwrap();
        let sent = |content: &Content| {
            fs::copy(&content.path, cache.join("objects").join(&content.sha256)).unwrap();
        };
        let file = |words: &str| FileRef {
            named: "demo train.hdf5".into(),
            file: content(folder.path(), "demo train.hdf5", "data"),
            beside: vec![content(folder.path(), "demo.dict", words)],
        };
        for words in ["first", "second"] {
            let file = file(words);
            sent(&file.file);
            sent(&file.beside[0]);
            let place = place(&cache, &file).unwrap();
            assert!(place.starts_with(&cache) && place.ends_with("demo train.hdf5"));
            let dictionary = place.with_file_name("demo.dict");
            assert_eq!(fs::read_to_string(dictionary).unwrap(), words);
        }
    }

    #[test]
    fn a_plain_path_to_what_is_here_does_not_travel() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("table.csv");
        fs::write(&there, "1,2").unwrap();
        let path = |id| {
            Arg::new(id)
                .long(id)
                .value_parser(clap::value_parser!(PathBuf))
        };
        let command = Command::new("").arg(path("csv")).arg(path("out"));
        let option = |csv: Value, out: Value| {
            path_of_this_machine(&command, &serde_json::json!({ "csv": csv, "out": out }))
        };
        let nowhere = Value::from(folder.path().join("new").to_str());
        let there = Value::from(there.to_str());
        assert_eq!(option(Value::Null, nowhere.clone()), None);
        let named = Some("--csv".to_owned());
        assert_eq!(option(there.clone(), nowhere), named);
        assert_eq!(option(vec![there].into(), Value::Null), named);
    }

    #[test]
    fn a_file_at_the_same_path_must_be_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let file = FileRef {
            named: "x".into(),
            file: content(folder.path(), "x", "data"),
            beside: Vec::new(),
        };
        assert_eq!(place(&cache, &file).unwrap(), file.file.path);
        fs::write(&file.file.path, "other").unwrap();
        let error = place(&cache, &file).unwrap_err().to_string();
        assert!(error.contains("is another file here"), "{error}");
        fs::remove_file(&file.file.path).unwrap();
        let error = place(&cache, &file).unwrap_err().to_string();
        assert!(error.contains("is not here"), "{error}");
    }
}
