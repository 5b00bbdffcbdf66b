//! Text files as they come: what is kept, and errors that name the file and the line.

use std::path::Path;

use seq2seq::data::text::{self, Kept, TextOptions, TextPair};
use seq2seq::data::{DataError, DataSource, Vocabulary};

use crate::{assert_says, file, gzip, pair};

fn load(train: &TextPair, options: &TextOptions) -> Result<text::TextCorpus, DataError> {
    text::load(train, None, options)
}

fn load_text(
    source: impl AsRef<[u8]>,
    target: impl AsRef<[u8]>,
    options: &TextOptions,
) -> Result<text::TextCorpus, DataError> {
    let dir = tempfile::tempdir().unwrap();
    load(&pair(dir.path(), "a", source, target), options)
}

fn kept_of(source: &str, target: &str, options: &TextOptions) -> Kept {
    load_text(source, target, options).unwrap().train_kept
}

#[test]
fn pairs_are_kept_by_length_and_the_special_tokens_removed() {
    let options = TextOptions {
        max_words: 3,
        ..TextOptions::default()
    };
    let source = "a b c\na b c d\n<s> a </s>\n\nx <blank>\r\n \u{3000}\n";
    let target = "u\nu\nu v\nu\nu<s>v\nw\n";
    let loaded = load_text(source, target, &options).unwrap();
    let kept = Kept {
        read: 6,
        kept: 3,
        empty: 2,
        too_long: 1,
        too_unknown: 0,
        unpaired: 0,
        max_words: 3,
    };
    assert_eq!(loaded.train_kept, kept);
    assert_eq!(
        kept.to_string(),
        "3 of 6 pairs kept, 1 dropped with more than 3 words, 2 dropped with an empty side"
    );
    let words = |vocabulary: Option<Vocabulary>| -> Vec<String> {
        vocabulary
            .unwrap()
            .words()
            .skip(4)
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(words(loaded.corpus.source_vocab), ["a", "b", "c", "x"]);
    assert_eq!(words(loaded.corpus.target_vocab), ["u", "v", "uv"]);
}

/// What is not trained on is said with the data, by file; nothing is where all is kept.
#[test]
fn what_was_left_out_is_reported_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let train = pair(dir.path(), "a", "a b\nc\nd e f\n", "x\n\ny\n \n<s>\n");
    let valid = pair(dir.path(), "b", "a\n", "x\n");
    let load = |train: &TextPair, valid: &TextPair| {
        let source = DataSource::Text {
            train: train.clone(),
            valid: Some(valid.clone()),
            options: TextOptions {
                max_words: 2,
                ..TextOptions::default()
            },
        };
        source.load().unwrap().left_out
    };
    let said = format!(
        "{} and {}: 1 of 3 pairs kept, 1 dropped with more than 2 words, 1 dropped with an empty side, \
         2 empty lines dropped without a pair",
        train.source.display(),
        train.target.display()
    );
    assert_eq!(load(&train, &valid), [&*said]);
    assert_eq!(load(&valid, &train), [&*said]);
    assert!(load(&valid, &valid).is_empty());
    let longer = pair(dir.path(), "c", "a\n\n", "x\n");
    let said = load(&longer, &valid).concat();
    assert!(
        said.ends_with("1 of 1 pairs kept, 1 empty line dropped without a pair"),
        "{said}"
    );
}

#[test]
fn gzip_and_plain_files_and_a_last_line_without_end_are_the_same() {
    let options = TextOptions::default();
    let plain = load_text("a b\nc\n", "x\ny\n", &options).unwrap();
    let packed = load_text(gzip("\u{feff}a b\nc"), gzip("x\ny"), &options).unwrap();
    assert_eq!(plain.corpus.train, packed.corpus.train);
    assert_eq!(plain.corpus.source_vocab, packed.corpus.source_vocab);
    // Several gzip members one after the other are one text.
    let members = [gzip("a b\n"), gzip("c\n")].concat();
    assert_eq!(
        load_text(members, "x\ny", &options).unwrap().corpus.train,
        plain.corpus.train
    );
}

#[test]
fn unknown_words_are_limited_by_fraction_or_number() {
    let options = |unk_filter| TextOptions {
        source_vocab_size: 1,
        target_vocab_size: 1,
        unk_filter,
        ..TextOptions::default()
    };
    // Unknown words: 0 of 2, 1 of 4, 2 of 4, 3 of 3.
    let source = "a a\na a a b\na a c d\ne f g\n";
    let target = "x\nx\nx\nx\n";
    for (filter, kept) in [
        (0.0, 4),
        (0.1, 1),
        (0.25, 2),
        (0.9, 3),
        (1.0, 2),
        (2.0, 3),
        (3.0, 4),
    ] {
        let found = kept_of(source, target, &options(filter));
        assert_eq!(
            (found.kept, found.too_unknown),
            (kept, 4 - kept),
            "filter {filter}"
        );
        let other_side = kept_of(target, source, &options(filter));
        assert_eq!(other_side.kept, kept, "filter {filter} on the target");
    }
}

#[test]
fn shuffling_keeps_the_sentences_and_is_the_same_each_time() {
    let text: Vec<String> = (0..50).map(|n| format!("w{n}")).collect();
    let text = text.join("\n");
    let shuffled = TextOptions {
        shuffle: true,
        ..TextOptions::default()
    };
    let data = |options| load_text(&text, &text, options).unwrap().corpus.train;
    assert_eq!(data(&shuffled), data(&shuffled));
    let (plain, shuffled) = (data(&TextOptions::default()), data(&shuffled));
    assert_ne!(plain, shuffled);
    assert_eq!(plain.counts(), shuffled.counts());
}

#[test]
fn a_given_dictionary_fixes_the_indices() {
    let dir = tempfile::tempdir().unwrap();
    let head = "<blank> 1\n<unk> 2\n<s> 3\n</s> 4\n";
    let dictionary = file(dir.path(), "x.dict.gz", gzip(format!("{head}b 6\na 5\n")));
    let options = TextOptions {
        source_vocab_file: Some(dictionary),
        ..TextOptions::default()
    };
    let loaded = load_text("a b c\n", "x\n", &options).unwrap().corpus;
    assert_eq!(loaded.train.sentences().source(0), [3, 5, 6, 2, 4]);
    assert_eq!(loaded.sizes.source, 6);
}

#[test]
fn bad_text_is_named_with_file_and_line() {
    let options = TextOptions::default();
    let load = |source: &[u8], target: &[u8]| load_text(source, target, &options);
    assert_says(
        load(b"a\nb\nc\n", b"x\ny\n"),
        &["a.en has 3 lines", "a.de has 2"],
    );
    assert_says(
        load(b"a\n", b"x\ny\nz"),
        &["a.en has 1 lines", "a.de has 3"],
    );
    assert_says(
        load(b"a\n", b"x\n\nz\n"),
        &["a.en has 1 lines", "a.de has 3"],
    );
    assert_says(
        load(b"a\nb \xff\n", b"x\ny\n"),
        &["a.en, line 2", "UTF-8", "byte 3"],
    );
    assert_says(
        load(b"a\nb\n", &gzip(b"x\n\xc3\n")),
        &["a.de, line 2", "UTF-8"],
    );
    assert_says(load(b"", b""), &["a.en", "a.de", "0 of 0 pairs"]);
    assert_says(
        load(b"\n \n", b"x\ny\n"),
        &["a.en", "2 dropped with an empty side"],
    );
    let long = "a ".repeat(600_000);
    assert_says(
        load(long.as_bytes(), b"x"),
        &["a.en, line 1", "longer than", "one sentence a line"],
    );
    let zeros = gzip(vec![0; 3 << 20]);
    assert_says(load(&zeros, b"x"), &["a.en, line 1", "longer than"]);
}

#[test]
fn a_gzip_file_that_was_cut_off_or_damaged_is_named() {
    let lines = (0..9_000).map(|n| format!("word {n} and {}", n * 7919 % 1000));
    let text = lines.collect::<Vec<_>>().join("\n");
    let whole = gzip(&text);
    let options = TextOptions::default();
    for length in [2, 9, 11, whole.len() / 2, whole.len() - 1] {
        let cut = load_text(&whole[..length], &text, &options);
        assert_says(cut, &["a.en, after line", "damaged or incomplete"]);
    }
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0x55;
    assert_says(load_text(&damaged, &text, &options), &["a.en, "]);
}

#[test]
fn files_that_cannot_be_opened_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = pair(dir.path(), "a", "a\n", "x\n");
    let options = TextOptions::default();
    let missing = TextPair {
        target: "/nowhere/x.de".into(),
        ..good.clone()
    };
    assert_says(
        load(&missing, &options),
        &["cannot open /nowhere/x.de", "No such file"],
    );
    let folder = TextPair {
        source: dir.path().to_owned(),
        ..good.clone()
    };
    assert_says(
        load(&folder, &options),
        &["cannot read", &dir.path().display().to_string()],
    );
    let options = TextOptions {
        source_vocab_file: Some("/nowhere/d".into()),
        ..options
    };
    assert_says(load(&good, &options), &["cannot open /nowhere/d"]);
    assert_says(
        Vocabulary::read(Path::new("/nowhere/d")),
        &["cannot open /nowhere/d"],
    );
}

#[test]
fn options_that_make_no_sense_are_named() {
    let load = |options: TextOptions| load_text("a", "b", &options);
    let options = TextOptions::default();
    assert_says(
        load(TextOptions {
            batch_size: 0,
            ..options.clone()
        }),
        &["batch size"],
    );
    assert_says(
        load(TextOptions {
            max_words: 0,
            ..options.clone()
        }),
        &["longest sentence"],
    );
    assert_says(
        load(TextOptions {
            max_words: usize::MAX,
            ..options.clone()
        }),
        &["longest"],
    );
    for unk_filter in [-1.0, f64::NAN, f64::INFINITY] {
        assert_says(
            load(TextOptions {
                unk_filter,
                ..options.clone()
            }),
            &["unknown-word filter"],
        );
    }
}
