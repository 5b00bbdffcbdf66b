//! `dsgd data prepare` and `dsgd data show`, as the command line calls them.

use std::fs;
use std::path::Path;

use clap::{Args, Command, FromArgMatches};
use seq2seq::data::prepare::{self, PrepareArgs};
use seq2seq::data::show::{self, ShowArgs};
use seq2seq::data::{DataSource, hdf5};

use crate::{assert_says, file, gzip};

/// Parses a command line as the program would.
fn parse<T: Args + FromArgMatches>(line: &[&str]) -> T {
    let command = T::augment_args(Command::new("data")).no_binary_name(true);
    T::from_arg_matches(&command.try_get_matches_from(line).unwrap()).unwrap()
}

fn prepare_in(dir: &Path, more: &[&str]) -> anyhow::Result<String> {
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let given: Vec<String> = [
        ("srcfile", "train.en"),
        ("targetfile", "train.de"),
        ("source-valid", "valid.en"),
        ("target-valid", "valid.de"),
        ("outputfile", "v1.0"),
    ]
    .into_iter()
    .map(|(option, name)| format!("--{option}={}", path(name)))
    .collect();
    let given: Vec<&str> = given
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    let mut told = Vec::new();
    prepare::run(&parse::<PrepareArgs>(&given), &mut told)?;
    Ok(String::from_utf8(told).unwrap())
}

fn show_file(path: &Path, more: &[&str]) -> anyhow::Result<String> {
    let path = path.to_string_lossy();
    let mut told = Vec::new();
    show::run(&parse::<ShowArgs>(&[&[&*path], more].concat()), &mut told)?;
    Ok(String::from_utf8(told).unwrap())
}

fn write_text(dir: &Path) {
    file(dir, "train.en", gzip("the house\na house\nthe long way\n"));
    file(dir, "train.de", "das Haus\nein Haus\nder lange Weg\n");
    file(dir, "valid.en", "a way\n\n");
    file(dir, "valid.de", "ein Weg\nleer\n");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.retain(|name| !name.starts_with("train") && !name.starts_with("valid"));
    names
}

const WRITTEN: [&str; 4] = [
    "v1.0-train.hdf5",
    "v1.0-val.hdf5",
    "v1.0.src.dict",
    "v1.0.targ.dict",
];

#[test]
fn prepare_writes_four_files_that_load_and_show() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_text(dir);
    let told = prepare_in(dir, &["--batchsize", "1"]).unwrap();
    assert_eq!(names(dir), WRITTEN);
    for says in [
        "v1.0-train.hdf5: 3 of 3 pairs kept; 3 batches",
        "v1.0-val.hdf5: 1 of 2 pairs kept, 1 dropped with an empty side; 1 batches",
        "v1.0.src.dict: 9 words",
        "v1.0.targ.dict: 10 words",
    ] {
        assert!(told.contains(says), "{told}");
    }
    let source = DataSource::Hdf5 {
        train: dir.join("v1.0-train.hdf5"),
        valid: Some(dir.join("v1.0-val.hdf5")),
    };
    let corpus = source.load().unwrap();
    let words = corpus.source_vocab.unwrap();
    assert_eq!(
        words.decode(corpus.train.sentences().source(2)),
        ["the", "long", "way"]
    );

    let shown = show_file(&dir.join("v1.0-train.hdf5"), &["--sentences", "1"]).unwrap();
    for says in [
        "9 source and 10 target words",
        "sentences     3\n",
        "batches       3, of 1 to 1",
        "source tokens 13",
        "source the house\n  target das Haus\n",
    ] {
        assert!(shown.contains(says), "{shown}");
    }
}

#[test]
fn show_without_dictionaries_shows_indices_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.hdf5");
    hdf5::write(&path, &crate::small(), 6).unwrap();
    let shown = show_file(&path, &[]).unwrap();
    assert!(
        shown.contains("--src-dict") && shown.contains("source 3 5 4"),
        "{shown}"
    );
    let dictionary = file(
        dir.path(),
        "d",
        "<blank> 1\n<unk> 2\n<s> 3\n</s> 4\na\u{1b}[31m 5\nb 6\nc 7\n",
    );
    let shown = show_file(&path, &["--src-dict", &dictionary.to_string_lossy()]).unwrap();
    assert!(shown.contains(r"source a\u{1b}[31m"), "{shown}");
    assert_says(
        show_file(&path, &["--targ-dict", &dictionary.to_string_lossy()]),
        &["has 7 words", "x.hdf5", "with 8"],
    );
}

#[test]
fn an_error_leaves_no_file_and_old_files_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_text(dir);
    file(dir, "valid.de", "ein Weg\nleer\nzu viel\n");
    assert_says(
        prepare_in(dir, &[]),
        &["valid.en has 2 lines", "valid.de has 3"],
    );
    assert!(names(dir).is_empty());

    write_text(dir);
    prepare_in(dir, &[]).unwrap();
    let before = fs::read(dir.join("v1.0-train.hdf5")).unwrap();
    assert_says(
        prepare_in(dir, &["--seqlength", "1"]),
        &["3 dropped with more than 1 words"],
    );
    assert_eq!(fs::read(dir.join("v1.0-train.hdf5")).unwrap(), before);
    assert_eq!(names(dir), WRITTEN);
    // Overwriting asks nothing.
    prepare_in(dir, &["--max-words", "2", "--shuffle", "1"]).unwrap();
    assert_ne!(fs::read(dir.join("v1.0-train.hdf5")).unwrap(), before);
    assert_eq!(names(dir), WRITTEN);
}

#[test]
fn an_output_folder_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write_text(dir.path());
    let nowhere = dir.path().join("no/where/demo");
    let nowhere = format!("--outputfile={}", nowhere.display());
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let line = [
        nowhere,
        format!("--srcfile={}", path("train.en")),
        format!("--targetfile={}", path("train.de")),
        format!("--srcvalfile={}", path("valid.en")),
        format!("--targetvalfile={}", path("valid.de")),
    ];
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let result = prepare::run(&parse::<PrepareArgs>(&line), &mut Vec::new());
    assert_says(
        result,
        &["cannot write", "no/where/demo-train.hdf5", "No such file"],
    );
}

#[test]
fn help_shows_all_defaults() {
    let command = PrepareArgs::augment_args(Command::new("prepare"));
    let help = command.clone().render_long_help().to_string();
    for default in ["64", "50", "50000", "0"] {
        assert!(help.contains(&format!("[default: {default}]")), "{help}");
    }
    command.debug_assert();
    ShowArgs::augment_args(Command::new("show")).debug_assert();
}
