//! Options spelled as the ancestor spelled them: `-n_proc 4 -layer_type gru`.
//!
//! A word with one dash and a long option's name becomes that long option, and
//! underscores in names become dashes. Options that nothing answers to any more are
//! taken out, with a note, or refused, with what to do instead.

use std::ffi::OsString;

use anyhow::bail;
use clap::{Arg, Command};

/// Options of the ancestor that nothing has to be done for, and why.
const NEEDLESS: [(&str, &str); 3] = [
    (
        "add-to-path",
        "tasks are compiled in, there is no path to search",
    ),
    ("torch-path", "nothing has to be installed on a host"),
    ("extension", "nothing has to be installed on a host"),
];

/// Rewrites the words after the program's name; returns them and notes for the user. Options that nobody knows are values
/// of the option `others`, where there is one.
pub(super) fn translate(
    command: &Command,
    others: Option<&str>,
    args: Vec<OsString>,
) -> anyhow::Result<(Vec<OsString>, Vec<String>)> {
    let called = args.get(1).and_then(|name| name.to_str());
    let Some(called) = called.and_then(|name| command.find_subcommand(name)) else {
        return Ok((args, Vec::new()));
    };
    let is_train = called.get_name() == "train";
    let mut out: Vec<OsString> = args.iter().take(2).cloned().collect();
    let mut notes = Vec::new();
    let mut words = args.into_iter().skip(2).peekable();
    while let Some(word) = words.next() {
        let Some((name, value)) = option_name(&word) else {
            if word == "--" {
                out.push(word);
                out.extend(words);
                break;
            }
            out.push(word);
            continue;
        };
        // The value of an option that is taken out goes with it.
        let mut own_value = || {
            let next = words.next_if(|w| !w.to_string_lossy().starts_with("--"));
            value
                .clone()
                .or_else(|| next.and_then(|w| w.into_string().ok()))
        };
        let known = |name: &str| has_long(called, name);
        if known(&name) {
            // What may stand alone has its value after `=`; there it was the next word.
            let next = words.next_if(|word| is_switch(called, &name) && is_bool(word));
            let next = next.and_then(|word| word.into_string().ok());
            out.push(long(&name, value.or(next).as_deref()));
        } else if let Some(others) = others.filter(|others| {
            known(others) && name != "help" && word.to_string_lossy().starts_with("--")
        }) {
            let value = own_value().unwrap_or_else(|| "true".to_owned());
            out.push(format!("--{others}={}={value}", name.replace('-', "_")).into());
        } else if !is_train {
            out.push(word);
        } else if let Some((_, why)) = NEEDLESS.iter().find(|(needless, _)| *needless == name) {
            own_value();
            notes.push(format!("--{name} is not needed: {why}"));
        } else if name == "ada-grad" {
            let optimizer = match own_value().as_deref() {
                None | Some("true" | "1") => "adagrad",
                Some("false" | "0") => "sgd",
                Some(other) => bail!("--ada-grad {other}: true or false"),
            };
            out.push(format!("--optimizer={optimizer}").into());
        } else if name == "gpuid" || name == "gpuid2" {
            let id = own_value().unwrap_or_default();
            if !id.starts_with('-') {
                bail!(
                    "--{name} {id}: the demo computes on CPUs only; leave the option out, or pass -1. For a GPU: dsgd train \
                     examples/seq2seq.py, the same model in PyTorch"
                );
            }
        } else {
            out.push(word);
        }
    }
    Ok((out, notes))
}

/// A word as it would be in our spelling, were it an option: what is none stays as it is.
pub(super) fn with_dashes(word: &OsString) -> OsString {
    match option_name(word) {
        Some((name, value)) => long(&name, value.as_deref()),
        None => word.clone(),
    }
}

/// The option's name with dashes and its value after `=`, for `-long_name` and `--long_name`.
fn option_name(word: &OsString) -> Option<(String, Option<String>)> {
    let word = word.to_str()?;
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    let name = match name.strip_prefix("--") {
        Some(name) => name,
        None => name.strip_prefix('-').filter(|name| name.len() > 1)?,
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    is_name.then(|| (name.replace('_', "-"), value))
}

fn has_long(command: &Command, name: &str) -> bool {
    long_option(command, name).is_some()
}

fn long_option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|a| a.contains(&name))
    })
}

/// Whether the option is true or false, and true without a value.
fn is_switch(command: &Command, name: &str) -> bool {
    long_option(command, name).is_some_and(Arg::is_require_equals_set)
}

fn is_bool(word: &OsString) -> bool {
    word == "true" || word == "false"
}

fn long(name: &str, value: Option<&str>) -> OsString {
    match value {
        Some(value) => format!("--{name}={value}").into(),
        None => format!("--{name}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let train = Command::new("train")
            .arg(
                Arg::new("workers")
                    .short('n')
                    .long("workers")
                    .alias("n-proc"),
            )
            .arg(Arg::new("layer-type").long("layer-type"))
            .arg(
                Arg::new("staleness-lr")
                    .long("staleness-lr")
                    .num_args(0..=1)
                    .require_equals(true),
            )
            .arg(Arg::new("optimizer").long("optimizer"));
        Command::new("dsgd").subcommand(train)
    }

    fn translated(words: &[&str]) -> anyhow::Result<(Vec<String>, Vec<String>)> {
        let words = ["dsgd", "train"].iter().chain(words).map(OsString::from);
        let (words, notes) = translate(&command(), None, words.collect())?;
        let words = words.into_iter().skip(2).map(|w| w.into_string().unwrap());
        Ok((words.collect(), notes))
    }

    #[test]
    fn the_ancestors_spelling_becomes_ours() {
        let (words, _) = translated(&["-n_proc", "4", "-layer_type", "gru"]).unwrap();
        assert_eq!(words, ["--n-proc", "4", "--layer-type", "gru"]);
        let (words, _) = translated(&["--layer_type=gru", "-n", "3"]).unwrap();
        assert_eq!(words, ["--layer-type=gru", "-n", "3"]);
    }

    #[test]
    fn options_that_nobody_knows_are_values_of_the_one_for_them() {
        let words = "dsgd train -n4 --hidden 256 --deep --no-bias=true --optimizer sgd -vv --help";
        let words = words.split(' ').map(OsString::from).collect();
        let set = Arg::new("set").long("set");
        let command = command().mut_subcommand("train", |train| train.arg(set));
        let (words, _) = translate(&command, Some("set"), words).unwrap();
        let expected = "dsgd train -n4 --set=hidden=256 --set=deep=true --set=no_bias=true --optimizer sgd -vv --help";
        assert_eq!(words.join(" ".as_ref()), OsString::from(expected));
    }

    #[test]
    fn a_switch_may_have_its_value_as_the_next_word() {
        for (typed, expected) in [
            (
                &["-staleness_lr", "false"][..],
                &["--staleness-lr=false"][..],
            ),
            (&["-staleness_lr=true"], &["--staleness-lr=true"]),
            (
                &["-staleness_lr", "-n", "3"],
                &["--staleness-lr", "-n", "3"],
            ),
            (&["-layer_type", "true"], &["--layer-type", "true"]),
        ] {
            assert_eq!(translated(typed).unwrap().0, expected);
        }
    }

    #[test]
    fn short_options_with_a_value_stay_as_they_are() {
        assert_eq!(translated(&["-n4"]).unwrap().0, ["-n4"]);
        assert_eq!(
            translated(&["--", "-layer_type"]).unwrap().0,
            ["--", "-layer_type"]
        );
    }

    #[test]
    fn needless_options_go_with_their_value_and_a_note() {
        let (words, notes) = translated(&["-torch_path", "/opt/torch", "-n", "2"]).unwrap();
        assert_eq!(words, ["-n", "2"]);
        assert!(notes[0].contains("--torch-path is not needed"), "{notes:?}");
    }

    #[test]
    fn adagrad_is_one_of_the_optimizers() {
        assert_eq!(
            translated(&["-ada_grad", "false"]).unwrap().0,
            ["--optimizer=sgd"]
        );
        assert_eq!(
            translated(&["-ada_grad"]).unwrap().0,
            ["--optimizer=adagrad"]
        );
        assert!(translated(&["-ada_grad", "maybe"]).is_err());
    }

    #[test]
    fn a_gpu_is_refused_with_what_to_do() {
        assert_eq!(translated(&["-gpuid", "-1"]).unwrap().0, [""; 0]);
        let error = translated(&["-gpuid", "0"]).unwrap_err().to_string();
        assert!(error.contains("CPUs only"), "{error}");
    }
}
