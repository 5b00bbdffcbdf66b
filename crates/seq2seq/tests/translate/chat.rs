//! `dsgd chat`, as another program talks to it.

use std::io::Cursor;
use std::sync::OnceLock;

use dsgd::Params;
use seq2seq::commands::chat::{ChatArgs, chat};
use seq2seq::data::utterances::{Utterances, split_utterances};
use seq2seq::model::{Model, ModelType};
use seq2seq::translator::{MAX_WORDS, Translator};

use crate::command::parse;
use crate::{PAIRS, assert_says, lessons, spec, teach, translator, vocabularies};

fn talk(model_type: ModelType, input: &[u8]) -> anyhow::Result<(String, String)> {
    talk_with(translator(model_type, 1), &[], input)
}

fn talk_with(
    mut translator: Translator,
    options: &[&str],
    input: &[u8],
) -> anyhow::Result<(String, String)> {
    let args: ChatArgs = parse(&[&["model"], options].concat());
    let (mut out, mut notes) = (Vec::new(), Vec::new());
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

/// The line before is read too, whatever was answered to it. The answers are in words that the source
/// side does not know, and no note is made of that.
#[test]
fn a_hierarchical_model_sees_what_was_typed_before() {
    let input = b"the house\nthe\na car\nthe <t>\n<t>\nboat\nthe\n";
    let (out, notes) = talk_with(recalling(), &[], input).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 6, "{out}");
    assert_eq!((lines[1], lines[3]), ("das Haus", "ein Auto"), "{out}");
    // Once, though `boat` is read twice.
    assert_eq!(notes, "Note: unknown word `boat`, read as <unk>\n");
}

#[test]
fn with_replies_the_answer_before_is_read_instead() {
    let mut alone = recalling();
    let answer = alone.answer(&[], "the house", 5, 50).unwrap().text;
    let mut after = |before: &str| {
        let answer = alone.answer(&[before.to_owned()], "the", 5, 50);
        answer.unwrap().text
    };
    let (wanted, typed) = (after(&answer), after("the house"));
    assert_ne!(wanted, typed, "the contexts are to differ");
    let input = b"the house\nthe\n";
    let (out, notes) = talk_with(recalling(), &["--replies"], input).unwrap();
    assert_eq!(out.lines().nth(1), Some(&*wanted));
    assert_eq!(notes, "");
}

/// Utterances that are too much are left unread from the oldest on, not the line itself.
#[test]
fn a_long_context_leaves_the_line_whole() {
    let mut translator = recalling();
    let before = "car ".repeat(MAX_WORDS);
    let long = translator.answer(&[before], "the house", 5, 50).unwrap();
    let alone = translator.answer(&[], "the house", 5, 50).unwrap();
    assert_eq!(long, alone);
}

/// A hierarchical model that answers `the` by the translation of the line before.
fn recalling() -> Translator {
    let (model, params) = recalled();
    let (source, target) = vocabularies();
    Translator::new(model, params, source, target, 1).unwrap()
}

fn recalled() -> (Model, Params) {
    static PARAMS: OnceLock<Params> = OnceLock::new();
    let model = Model::new(spec(ModelType::Hred)).unwrap();
    let params = PARAMS.get_or_init(|| {
        let (source, _) = vocabularies();
        let mut batch = lessons(ModelType::Red);
        let separator = source.index("<t>").unwrap();
        let rows = PAIRS.map(|(line, _)| source.encode(format!("{line} <t> the").split(' ')));
        batch.source_len = rows[0].len();
        batch.sources = vec![rows.concat()];
        let utterances = Utterances {
            count: 2,
            separator,
        };
        teach(&model, &split_utterances(batch, &utterances).unwrap())
    });
    (model, params.clone())
}
