//! `dsgd translate`, as the command line calls it.

use std::fs;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command, FromArgMatches};
use flate2::Compression;
use flate2::write::GzEncoder;
use seq2seq::commands::commands;
use seq2seq::commands::translate::{Streams, TranslateArgs, translate};
use seq2seq::model::ModelType;

use crate::{assert_says, carried, save, taught, translator};

pub(crate) fn parse<T: Args + FromArgMatches>(line: &[&str]) -> T {
    let command = T::augment_args(Command::new("test")).no_binary_name(true);
    T::from_arg_matches(&command.try_get_matches_from(line).unwrap()).unwrap()
}

fn apart<'a>(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Streams<'a> {
    Streams {
        out,
        err,
        merged: false,
    }
}

/// Translates `input` with these options; what was written and what was noted.
fn translated(options: &[&str], input: &[u8]) -> anyhow::Result<(String, String)> {
    let args: TranslateArgs = parse(&[&["model"], options].concat());
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let mut translator = translator(ModelType::Red, 2);
    let result = translate(
        &args,
        &mut translator,
        Cursor::new(input.to_vec()),
        &mut apart(&mut out, &mut notes),
    );
    let text = |bytes| String::from_utf8(bytes).unwrap();
    result.map(|()| (text(out), text(notes)))
}

fn file(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn a_sentence_of_the_command_line() {
    let (out, notes) = translated(&["the", "house"], b"never read").unwrap();
    assert_eq!((&*out, &*notes), ("das Haus\n", ""));
    let (out, notes) = translated(&["a big car"], b"").unwrap();
    assert_eq!(out.lines().count(), 1);
    assert_eq!(notes, "Note: line 1: unknown word `big`, read as <unk>\n");
}

#[test]
fn lines_of_standard_input_keep_their_places() {
    let (out, notes) = translated(&[], b"the house\r\n\na car").unwrap();
    assert_eq!((&*out, &*notes), ("das Haus\n\nein Auto\n", ""));
    assert_eq!(translated(&[], b"").unwrap().0, "");
}

#[test]
fn translations_that_do_not_end_are_counted_in_one_note() {
    let options = ["--max-length", "2", "--beam-k", "1"];
    let (out, notes) = translated(&options, b"the house\n\na car\n").unwrap();
    assert_eq!(out, "das Haus\n\nein Auto\n");
    assert_eq!(
        notes,
        "Note: 2 of 3 translations did not end within 2 words, and are beginnings\n"
    );
}

#[test]
fn bytes_that_are_no_text_are_named_with_their_line_after_what_came_before() {
    let args: TranslateArgs = parse(&["model"]);
    let mut out = Vec::new();
    let input = Cursor::new(b"the house\na \xff car\n".to_vec());
    let result = translate(
        &args,
        &mut translator(ModelType::Red, 1),
        input,
        &mut apart(&mut out, &mut Vec::new()),
    );
    assert_says(
        result,
        &["standard input, line 2: not UTF-8 (byte 3 of the line)"],
    );
    assert_eq!(out, b"das Haus\n");
    let long = vec![b'x'; (1 << 20) + 1];
    assert_says(
        translated(&[], &long),
        &["standard input, line 1: longer than"],
    );
}

#[test]
fn files_plain_and_packed_and_an_output_that_is_whole_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "the house\na car\n".repeat(50);
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(lines.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let plain = file(dir.path(), "plain", &lines);
    let cut = file(dir.path(), "cut", &packed[..packed.len() - 9]);
    let packed = file(dir.path(), "packed", &packed);
    let want = "das Haus\nein Auto\n".repeat(50);
    let output = dir.path().join("output").to_string_lossy().into_owned();
    for input in [&plain, &packed] {
        assert_eq!(translated(&["--input", input], b"").unwrap().0, want);
        let (out, notes) = translated(&["-i", input, "-o", &output], b"").unwrap();
        assert_eq!((&*out, &*notes), ("", ""));
        assert_eq!(fs::read_to_string(&output).unwrap(), want);
    }
    assert_says(
        translated(&["-i", &cut, "-o", &output], b""),
        &["cut", "damaged"],
    );
    assert_eq!(fs::read_to_string(&output).unwrap(), want);
    assert_says(translated(&["-i", "/no/such"], b""), &["/no/such", "open"]);
    assert_says(
        translated(&["the", "car", "-o", "/no/such/file"], b""),
        &["/no/such/file", "write"],
    );
    let left: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn all_hypotheses_with_their_line_and_log_probability() {
    let (out, _) = translated(&["--n-best", "-k", "3"], b"the house\n\na car\n").unwrap();
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    let numbers: Vec<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(numbers, ["1", "1", "1", "2", "3", "3", "3"]);
    assert_eq!((rows[0][2], rows[4][2]), ("das Haus", "ein Auto"));
    assert_eq!(rows[3], ["2", "0.0000", ""]);
    let scores: Vec<f64> = rows.iter().map(|row| row[1].parse().unwrap()).collect();
    assert!(scores[0] > scores[1] && scores[1] > scores[2], "{out}");
}

#[test]
fn references_say_how_good_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let reference = file(dir.path(), "reference", "das Haus\nein Haus\n");
    let options = ["--reference", &reference, "--max-bleu", "2"];
    let (out, notes) = translated(&options, b"the house\na car\n").unwrap();
    assert_eq!(out, "das Haus\nein Auto\n");
    // Three of four words, one of two pairs: 100 · √(3/4 · 1/2).
    assert_eq!(
        notes,
        "BLEU 61.24 (precisions 75.0 50.0, brevity penalty 1.000, 4 words, reference 4)\n\
         exact 50.00 % (1 of 2 sentences)\n"
    );
    let output = dir.path().join("output").to_string_lossy().into_owned();
    let (out, notes) = translated(
        &[&options[..], &["-o", &output]].concat(),
        b"the house\na car\n",
    )
    .unwrap();
    assert!(out.starts_with("BLEU 61.24"), "{out}");
    assert_eq!(notes, "");
    assert_says(
        translated(&options, b"the house\n"),
        &["reference has more lines than"],
    );
    assert_says(
        translated(&options, b"a\na\na\n"),
        &["reference has fewer lines than"],
    );
    let input = file(dir.path(), "input", "the house\n");
    let counts = [&options[..], &["-i", &input]].concat();
    assert_says(translated(&counts, b""), &["has 1 lines", "has 2"]);
}

/// A pipe whose reader has gone after some bytes.
struct Closed(usize);

impl Write for Closed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_it() {
    let args: TranslateArgs = parse(&["model"]);
    let input = Cursor::new(b"the house\n".repeat(9));
    let mut translator = translator(ModelType::Red, 1);
    let result = translate(
        &args,
        &mut translator,
        input,
        &mut apart(&mut Closed(20), &mut Vec::new()),
    );
    // What the command takes for success.
    let error = result.unwrap_err();
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    assert_eq!(io.unwrap().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn commands_are_sound_and_show_their_defaults() {
    let names: Vec<_> = commands()
        .iter()
        .map(|c| c.command.get_name().to_owned())
        .collect();
    assert_eq!(names, ["translate", "chat", "data", "bench"]);
    for mut command in commands() {
        command.command.clone().debug_assert();
        let help = command.command.render_long_help().to_string();
        let defaults: &[&str] = match command.command.get_name() {
            "translate" => &[
                "5",
                "50",
                "4",
                "standard input",
                "standard output",
                "the words that the checkpoint carries",
            ],
            "chat" => &["5", "50", "the words that the checkpoint carries"],
            _ => &[],
        };
        for default in defaults {
            assert!(
                help.contains(&format!("[default: {default}]")),
                "{default}: {help}"
            );
        }
    }
    let translate = commands().remove(0).command;
    for wrong in [
        &["translate"][..],
        &["translate", "m", "-k", "0"],
        &["translate", "m", "-k", "1001"],
        &["translate", "m", "--max-bleu", "0"],
        &["translate", "m", "words", "--input", "file"],
    ] {
        assert!(
            translate.clone().try_get_matches_from(wrong).is_err(),
            "{wrong:?}"
        );
    }
}

#[test]
fn the_whole_command_from_a_checkpoint_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (_, params) = taught(ModelType::Red);
    let model = save(dir.path(), &params, &carried(ModelType::Red));
    let output = dir.path().join("output");
    let command = commands().remove(0);
    let run = |model: &Path| {
        let line = [
            "translate".into(),
            model.to_owned(),
            "-o".into(),
            output.clone(),
            "a".into(),
            "car".into(),
        ];
        (command.run)(&command.command.clone().try_get_matches_from(line).unwrap())
    };
    run(&model).unwrap();
    assert_eq!(fs::read_to_string(&output).unwrap(), "ein Auto\n");
    assert_says(run(&dir.path().join("none")), &["none does not exist"]);
}
