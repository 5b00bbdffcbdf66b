//! What has to be known before the arguments can be parsed, because the options depend on it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap_lex::RawArgs;

use super::ancestor;
use dsgd_engine::run::CONFIG;

/// Which task, and which file says so.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// `--task`.
    pub(super) task: Option<String>,
    config: Option<PathBuf>,
    resume: Option<PathBuf>,
    /// What stands alone, behind the subcommand.
    alone: Vec<PathBuf>,
}

impl Before {
    /// Of a program's arguments, as clap takes them apart. What is wrong with them is said when all of them are
    /// parsed; what follows `--` is somebody else's.
    pub(super) fn of(args: &[OsString]) -> Self {
        let words = RawArgs::new(args.iter().map(ancestor::with_dashes));
        let mut before = Self::default();
        let mut cursor = words.cursor();
        while let Some(word) = words.next(&mut cursor).filter(|word| !word.is_escape()) {
            let Some((Ok(name), value)) = word.to_long() else {
                if !word.is_short() {
                    before.alone.push(word.to_value_os().into());
                }
                continue;
            };
            if !["task", "server-class", "config", "resume"].contains(&name) {
                continue;
            }
            let value = value.or_else(|| words.next_os(&mut cursor));
            match (name, value.map(OsStr::to_owned)) {
                ("config", value) => before.config = value.map(PathBuf::from),
                ("resume", value) => before.resume = value.map(PathBuf::from),
                (_, value) => before.task = value.map(|value| value.to_string_lossy().into_owned()),
            }
        }
        before
    }

    /// Whether a word has that ending, of a file that stands for a task.
    pub(super) fn has_file(&self, ending: &str) -> bool {
        let mut alone = self.alone.iter();
        alone.any(|path| path.to_string_lossy().ends_with(ending))
    }

    /// The file of options of a run that is given by its folder, or by a checkpoint in it.
    pub(super) fn file_of_run(&self) -> Option<PathBuf> {
        // The program and the subcommand come first.
        let mut given = self.alone.iter().skip(2);
        given.find_map(|run| {
            let folder = if run.is_dir() { run } else { run.parent()? };
            Some(folder.join(CONFIG)).filter(|file| file.is_file())
        })
    }

    /// The file of options, there or not.
    pub(super) fn file(&self) -> Option<PathBuf> {
        let resumed = self.resume.as_ref().map(|run| run.join(CONFIG));
        self.config.clone().or(resumed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(line: &str) -> Before {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        Before::of(&words)
    }

    #[test]
    fn the_task_is_found_among_words_that_depend_on_it() {
        for line in [
            "dsgd train --hidden 3 -n 4 --task mine --plain",
            "dsgd train -n4 -vv --task=mine",
            "dsgd train -server_class mine --csv x",
            "dsgd train --server_class=mine",
            "dsgd --task other train --task mine",
        ] {
            assert_eq!(before(line).task.as_deref(), Some("mine"), "{line}");
        }
        for line in [
            "dsgd train -n 4",
            "dsgd hosts run -- --task mine",
            "dsgd train --task",
        ] {
            assert_eq!(before(line).task, None, "{line}");
        }
    }

    #[test]
    fn a_file_may_stand_for_a_task() {
        assert!(before("dsgd train -n 4 a/digits.py --plain").has_file(".py"));
        for line in [
            "dsgd train --plain",
            "dsgd train -- a.py",
            "dsgd train --python=a.py",
        ] {
            assert!(!before(line).has_file(".py"), "{line}");
        }
    }

    #[test]
    fn the_run_that_is_meant_is_found_among_other_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let found = || before(&format!("dsgd eval --threads 2 {path}")).file_of_run();
        assert_eq!(found(), None);
        std::fs::write(folder.path().join(CONFIG), "").unwrap();
        assert_eq!(found(), Some(folder.path().join(CONFIG)));
        let checkpoint = before(&format!("dsgd eval {path}/a.safetensors"));
        assert_eq!(checkpoint.file_of_run(), found());
    }

    #[test]
    fn the_file_of_options_is_found() {
        let file = |line| before(line).file();
        assert_eq!(
            file("dsgd train --x y --config a.toml"),
            Some("a.toml".into())
        );
        assert_eq!(
            file("dsgd train --resume runs/a"),
            Some("runs/a/config.toml".into())
        );
        assert_eq!(file("dsgd train"), None);
    }
}
