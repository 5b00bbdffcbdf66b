//! Opening checkpoints and translating lines.

use std::fs;
use std::path::Path;

use seq2seq::model::{LayerType, ModelSpec, ModelType};
use seq2seq::translator::metadata::{
    CORPUS, NUMBERS, SEPARATOR, SOURCE_WORDS, SPEC, TARGET_WORDS, metadata,
};
use seq2seq::translator::{Dictionaries, MAX_BEAM, MAX_WORDS, Translator};

use crate::{PAIRS, assert_says, carried, random, save, spec, taught, translator};

fn open(path: &Path) -> Result<Translator, seq2seq::translator::TranslateError> {
    Translator::open(path, 1, &Dictionaries::default())
}

#[test]
fn a_checkpoint_alone_translates_by_file_and_by_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (_, params) = taught(ModelType::Red);
    let file = save(dir.path(), &params, &carried(ModelType::Red));
    for path in [&*file, dir.path()] {
        let mut translator = open(path).unwrap();
        for (from, to) in PAIRS {
            let translation = translator.translate(from, 5, 50).unwrap();
            assert_eq!(translation.text, to);
            assert_eq!(translation.notes, [""; 0]);
            assert!(translation.log_prob > -0.3, "{}", translation.log_prob);
            assert_eq!(translation.words(), to.split(' ').collect::<Vec<_>>());
            let n_best = &translation.n_best;
            assert_eq!((n_best.len(), &n_best[0].text), (5, &translation.text));
            assert!(n_best.is_sorted_by(|a, b| a.log_prob >= b.log_prob));
        }
    }
}

#[test]
fn lines_are_dealt_to_threads_and_come_back_in_order() {
    let lines: Vec<&str> = (0..41).map(|n| PAIRS[n * 3 % 4].0).collect();
    let one = translator(ModelType::Red, 1)
        .translate_all(&lines, 2, 9)
        .unwrap();
    assert_eq!(one[2].text, PAIRS[2].1);
    for threads in [2, 3, 64] {
        let many = translator(ModelType::Red, threads).translate_all(&lines, 2, 9);
        assert_eq!(many.unwrap(), one);
    }
    let none: [&str; 0] = [];
    assert_eq!(
        translator(ModelType::Red, 2)
            .translate_all(&none, 2, 9)
            .unwrap(),
        []
    );
}

#[test]
fn an_empty_line_is_its_own_translation() {
    for line in ["", " \t ", "<s> </s>"] {
        let empty = translator(ModelType::Red, 1)
            .translate(line, 5, 50)
            .unwrap();
        assert_eq!(empty, seq2seq::translator::Translation::default());
    }
}

#[test]
fn unknown_words_are_translated_with_a_note() {
    let mut translator = translator(ModelType::Red, 1);
    let mut note = |line: &str| translator.translate(line, 5, 50).unwrap().notes.join("; ");
    assert_eq!(note("the boat"), "unknown word `boat`, read as <unk>");
    assert_eq!(
        note("boat the Boat boat"),
        "unknown words `boat`, `Boat`, read as <unk>"
    );
    assert_eq!(
        note("q w e r t y u"),
        "unknown words `q`, `w`, `e`, `r`, `t` and 2 more, read as <unk>"
    );
    assert_eq!(
        note("x\u{1b}[2J"),
        r"unknown word `x\u{1b}[2J`, read as <unk>"
    );
    let long = note(&"ä".repeat(99));
    assert!(long.contains(&format!("`{}…`", "ä".repeat(40))), "{long}");
    assert_eq!(note("<unk> house"), "unknown word `<unk>`, read as <unk>");
}

#[test]
fn of_a_very_long_line_the_beginning_is_read_with_a_note() {
    let mut translator = translator(ModelType::Red, 1);
    let long = "house ".repeat(MAX_WORDS + 7);
    let cut = translator.translate(&long, 2, 5).unwrap();
    assert_eq!(
        cut.notes[0],
        "1007 words, of which only the first 1000 were read"
    );
    let whole = translator
        .translate(&"house ".repeat(MAX_WORDS), 2, 5)
        .unwrap();
    assert_eq!(whole.text, cut.text);
}

#[test]
fn of_a_translation_that_does_not_end_the_beginning_is_given() {
    let short = translator(ModelType::Red, 1)
        .translate("the house", 1, 2)
        .unwrap();
    assert_eq!(short.text, "das Haus");
    assert!(short.cut);
    let whole = translator(ModelType::Red, 1)
        .translate("the house", 1, 3)
        .unwrap();
    assert!(!whole.cut);
}

#[test]
fn numbers_that_make_no_search_are_errors() {
    let mut translator = translator(ModelType::Red, 1);
    for (k, max_length, says) in [
        (0, 5, "the beam is 0, but must be 1 to 1000"),
        (MAX_BEAM + 1, 5, "the beam is 1001"),
        (5, 0, "the longest length is 0"),
        (5, usize::MAX, "but must be 1 to 10000"),
    ] {
        assert_says(translator.translate("the house", k, max_length), &[says]);
    }
    // Wider than the vocabulary, which has eight words.
    let wide = translator.translate("the house", MAX_BEAM, 5).unwrap();
    assert_eq!((wide.n_best.len(), &*wide.text), (8, "das Haus"));
}

#[test]
fn a_model_of_number_words_reads_and_writes_numbers_as_people_do() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = seq2seq::data::numbers::vocabularies();
    let spec = ModelSpec {
        layer_type: LayerType::Gru,
        source_size: source.len(),
        target_size: target.len(),
        ..spec(ModelType::Red)
    };
    let (model, mut params) = random(spec.clone(), 1, 0.1);
    // Says `vingt`, whatever it is asked, until the length is reached.
    let bias = model.layout().find("output.bias").unwrap();
    params.get_mut(bias)[target.index("vingt").unwrap() as usize - 1] = 99.0;
    let carried = metadata(&spec, Some(&source), Some(&target), NUMBERS, "<t>");
    let mut translator = open(&save(dir.path(), &params, &carried)).unwrap();
    assert!(translator.is_numbers());
    let answer = translator
        .translate("Twenty-two Thousand, three", 1, 2)
        .unwrap();
    assert_eq!(answer.text, "vingt vingt");
    assert!(answer.cut);
    assert_eq!(
        translator.reference_words("quatre-vingt"),
        ["quatre", "vingt"]
    );
}

#[test]
fn a_dialogue_is_cut_into_utterances_and_missing_ones_are_empty() {
    let mut translator = translator(ModelType::Hred, 1);
    for line in ["the car", "<t> the car"] {
        assert_eq!(translator.translate(line, 5, 50).unwrap().text, "das Auto");
    }
    let before = translator
        .translate("a house house <t> the car", 5, 50)
        .unwrap();
    let alone = translator.translate("the car", 5, 50).unwrap();
    // What was said before is read.
    assert!((before.log_prob - alone.log_prob).abs() > 1e-6);
    assert_eq!(before.notes, [""; 0]);
}

#[test]
fn what_is_not_there_or_of_something_else_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_says(open(&dir.join("nowhere")), &["nowhere", "does not exist"]);
    assert_says(open(dir), &["holds no checkpoint"]);
    let text = dir.join("text");
    fs::write(&text, "not a checkpoint at all, whatever it is").unwrap();
    assert_says(open(&text), &["text", "safetensors"]);

    let (_, params) = taught(ModelType::Red);
    let mut other = carried(ModelType::Red);
    other.remove(SPEC);
    let file = save(dir, &params, &other);
    assert_says(
        open(&file),
        &[
            "small_epoch1_1.00.safetensors is no translation model",
            "seq2seq",
        ],
    );
    // The shape says one thing, the tensors another.
    let mut wrong = carried(ModelType::Red);
    wrong.insert(SPEC.into(), carried(ModelType::Hred)[SPEC].clone());
    let file = save(dir, &params, &wrong);
    assert_says(open(&file), &["is of another model"]);
}

#[test]
fn shapes_that_no_model_has_are_errors_and_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_, params) = taught(ModelType::Red);
    let good = carried(ModelType::Red);
    for (from, to, says) in [
        ("{", "[", "makes no sense"),
        ("\"layers\":1", "\"layers\":0", "layers must be at least 1"),
        (
            "\"layers\":1",
            "\"layers\":99999999999",
            "layers is 99999999999, and 256 is the most",
        ),
        (
            "\"hidden_size\":12",
            "\"hidden_size\":18446744073709551615",
            "hidden_size is",
        ),
        (
            "\"word_vec_size\":8",
            "\"word_vec_size\":-1",
            "makes no sense",
        ),
        ("\"target_size\":8", "\"target_size\":3", "reserved"),
        (
            "\"target_size\":8",
            "\"target_size\":4000000000",
            "has 8 words, the model 4000000000 target words",
        ),
        ("\"source_size\":9", "\"source_size\":10", "pass --src-dict"),
    ] {
        assert!(good[SPEC].contains(from), "{}", good[SPEC]);
        let mut bad = good.clone();
        bad.insert(SPEC.into(), good[SPEC].replacen(from, to, 1));
        assert_says(open(&save(dir.path(), &params, &bad)), &[says]);
    }
}

#[test]
fn without_words_dictionaries_are_asked_for_and_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (_, params) = taught(ModelType::Red);
    let mut bare = carried(ModelType::Red);
    bare.remove(SOURCE_WORDS);
    bare.remove(TARGET_WORDS);
    let file = save(dir.path(), &params, &bare);
    assert_says(open(&file), &["source words by number only", "--src-dict"]);
    let (source, target) = crate::vocabularies();
    let mut given = Dictionaries::default();
    let dictionary = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        Some(path)
    };
    given.source = dictionary("s", &source.to_text());
    assert_says(
        Translator::open(&file, 1, &given),
        &["target words by number only", "--targ-dict"],
    );
    given.target = dictionary("t", &source.to_text());
    assert_says(
        Translator::open(&file, 1, &given),
        &["t has 9 words, the model 8 target words", "--targ-dict"],
    );
    given.target = dictionary("t", &target.to_text());
    let mut translator = Translator::open(&file, 1, &given).unwrap();
    assert_eq!(
        translator.translate("a car", 5, 50).unwrap().text,
        "ein Auto"
    );
    given.target = dictionary("t", "das 1\n");
    assert_says(Translator::open(&file, 1, &given), &["t, line 1"]);
}

#[test]
fn a_hierarchical_model_needs_a_word_between_utterances() {
    let dir = tempfile::tempdir().unwrap();
    let (_, params) = taught(ModelType::Hred);
    let mut carried = carried(ModelType::Hred);
    carried.remove(CORPUS);
    carried.remove(SEPARATOR);
    let mut translator = open(&save(dir.path(), &params, &carried)).unwrap();
    assert_eq!(translator.separator(), "<t>");
    assert_eq!(
        translator.translate("a car", 5, 50).unwrap().text,
        "ein Auto"
    );
    carried.insert(SEPARATOR.into(), "||".into());
    assert_says(open(&save(dir.path(), &params, &carried)), &["`||`"]);
}
