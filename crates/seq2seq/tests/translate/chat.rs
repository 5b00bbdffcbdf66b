//! `dsgd chat`, as another program talks to it.

use std::io::Cursor;

use seq2seq::commands::chat::{ChatArgs, chat};
use seq2seq::model::ModelType;

use crate::command::parse;
use crate::{assert_says, translator};

fn talk(model_type: ModelType, input: &[u8]) -> anyhow::Result<(String, String)> {
    let args: ChatArgs = parse(&["model"]);
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let mut translator = translator(model_type, 1);
    let input = Cursor::new(input.to_vec());
    chat(&args, &mut translator, input, &mut out, &mut notes)?;
    Ok((String::from_utf8(out)?, String::from_utf8(notes)?))
}

#[test]
fn each_line_is_answered_until_quit() {
    let (out, notes) = talk(ModelType::Red, b"the house\n\n  a car \n/quit\nthe car\n").unwrap();
    assert_eq!((&*out, &*notes), ("das Haus\nein Auto\n", ""));
    let (out, notes) = talk(ModelType::Red, b"the boat").unwrap();
    assert_eq!(out.lines().count(), 1);
    assert_eq!(notes, "Note: unknown word `boat`, read as <unk>\n");
    assert_says(
        talk(ModelType::Red, b"\xc3\x28\n"),
        &["standard input, line 1", "UTF-8"],
    );
}

/// Two utterances are read: the answer before and the line. Answers are in words that the source
/// side does not know here, so each of their words is noted.
#[test]
fn a_hierarchical_model_is_told_what_was_said_before() {
    let (out, notes) = talk(ModelType::Hred, b"the house\nthe car <t>\n<t>\n").unwrap();
    assert_eq!(out.lines().next(), Some("das Haus"));
    assert_eq!(out.lines().count(), 3);
    let first = notes.lines().next();
    assert_eq!(
        first,
        Some("Note: unknown words `das`, `Haus`, read as <unk>"),
        "{notes}"
    );
}
