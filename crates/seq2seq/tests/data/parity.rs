//! The numbers of the ancestor's demo set, which its README states.
//!
//! The ancestor put the last sentence of each set into no batch. Here it is in one, so the sums
//! over batches are those of the README plus this sentence: it has 52 source words in both sets,
//! and joins the last batch, so that the number of batches stays.

use std::collections::HashMap;
use std::path::PathBuf;

use seq2seq::data::text::{self, TextOptions, TextPair};
use seq2seq::data::{Counts, DataSource, Dataset, Vocabulary, hdf5};

/// The demo set, where it is there.
fn demo(test: &str) -> Option<PathBuf> {
    let data = std::env::var_os("DSGD_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let demo = data.join("wmt-demo");
    if demo.is_dir() {
        return Some(demo);
    }
    crate::skip(
        test,
        &format!("no wmt-demo in {} (set DSGD_DATA)", data.display()),
    );
    None
}

fn load(test: &str) -> Option<(PathBuf, text::TextCorpus)> {
    let demo = demo(test)?;
    let pair = |name: &str| TextPair {
        source: demo.join(format!("src-{name}.txt.gz")),
        target: demo.join(format!("targ-{name}.txt.gz")),
    };
    let loaded = text::load(&pair("train"), Some(&pair("val")), &TextOptions::default()).unwrap();
    Some((demo, loaded))
}

#[test]
fn sizes_batches_and_tokens() {
    let Some((_, loaded)) = load("sizes_batches_and_tokens") else {
        return;
    };
    let (train, valid) = (&loaded.corpus.train, loaded.corpus.valid.as_ref().unwrap());
    let sizes = loaded.corpus.sizes;
    assert_eq!((sizes.source, sizes.target), (28_721, 42_787));
    assert_eq!(
        (loaded.train_kept.read, loaded.train_kept.kept),
        (10_000, 10_000)
    );
    let kept = loaded.valid_kept.unwrap();
    assert_eq!((kept.read, kept.kept), (3_000, 2_819));
    // What the last sentence adds: its length, its batch's width, its words.
    let with_last = |data: &Dataset, ancestor: Counts| {
        let last = data.sentences().len() - 1;
        let (cut, before) = (data.cuts().last().unwrap(), data.sentences());
        let widest = cut.rows.clone().take(cut.rows.len() - 1);
        let widest = widest.map(|row| before.target(row).len()).max().unwrap();
        assert_eq!(cut.rows.end, last + 1);
        assert!(
            cut.rows.len() > 1,
            "the last sentence must not change the number of batches"
        );
        let grown = (cut.target_len - widest) * (cut.rows.len() - 1);
        Counts {
            batches: ancestor.batches,
            sentences: ancestor.sentences + 1,
            source_tokens: ancestor.source_tokens + 52,
            target_tokens: ancestor.target_tokens + (cut.target_len + grown) as u64,
            target_words: ancestor.target_words + before.target(last).len() as u64 - 1,
        }
    };
    // The README's table.
    let ancestor = Counts {
        batches: 184,
        sentences: 9_999,
        source_tokens: 245_027,
        target_tokens: 386_367,
        target_words: 223_948,
    };
    assert_eq!(train.counts(), with_last(train, ancestor));
    let ancestor = Counts {
        batches: 70,
        sentences: 2_818,
        source_tokens: 67_195,
        target_tokens: 91_162,
        target_words: 64_011,
    };
    assert_eq!(valid.counts(), with_last(valid, ancestor));
    for (data, smallest, full) in [(train, 1, 135), (valid, 5, 20)] {
        let sizes: Vec<usize> = data.cuts().iter().map(|cut| cut.rows.len()).collect();
        assert_eq!(sizes.iter().min(), Some(&smallest));
        assert_eq!(sizes.iter().filter(|&&size| size == 64).count(), full);
        let mut lengths: Vec<usize> = data.cuts().iter().map(|cut| cut.source_len).collect();
        assert_eq!(lengths.iter().max(), Some(&52));
        assert_eq!(data.cuts().iter().map(|cut| cut.target_len).max(), Some(52));
        lengths.dedup();
        assert_eq!(lengths.len(), 50);
    }
}

#[test]
fn the_ancestors_file_holds_the_same_sentences_in_the_same_batches() {
    let Some((demo, loaded)) = load("the_ancestors_file_holds_the_same_sentences") else {
        return;
    };
    let valid = loaded.corpus.valid.unwrap();
    let theirs = hdf5::read(&demo.join("demo-val.hdf5")).unwrap();
    assert_eq!(theirs.sizes(), valid.sizes());
    let counts = theirs.counts();
    assert_eq!((theirs.sentences().len(), counts.sentences), (2_819, 2_818));
    assert_eq!(
        (counts.source_tokens, counts.target_tokens),
        (67_195, 91_536)
    );
    assert_eq!((counts.batches, counts.target_words), (70, 64_011));

    // Widths and sizes of the batches, up to the lost sentence.
    let shape = |data: &Dataset| -> Vec<(usize, usize)> {
        data.cuts()
            .iter()
            .map(|cut| (cut.rows.len(), cut.source_len))
            .collect()
    };
    let (mut ours, theirs_shape) = (shape(&valid), shape(&theirs));
    ours.last_mut().unwrap().0 -= 1;
    assert_eq!(ours, theirs_shape);

    // The same sentences, as words: the two sets have dictionaries of different order.
    let dictionary = |name: &str| Vocabulary::read(&demo.join(name)).unwrap();
    let (source, target) = (
        dictionary("demo.src.dict.gz"),
        dictionary("demo.targ.dict.gz"),
    );
    let ours = words(
        &valid,
        &loaded.corpus.source_vocab.unwrap(),
        &loaded.corpus.target_vocab.unwrap(),
    );
    assert_eq!(ours, words(&theirs, &source, &target));
}

/// All pairs as words, with how often each occurs.
fn words(data: &Dataset, source: &Vocabulary, target: &Vocabulary) -> HashMap<String, usize> {
    let mut all = HashMap::new();
    for (from, to) in data.sentences().iter() {
        let pair = [source.decode(from).join(" "), target.decode(to).join(" ")].join(" | ");
        *all.entry(pair).or_default() += 1;
    }
    all
}

#[test]
fn dictionaries_beside_the_file_are_found() {
    let Some(demo) = demo("dictionaries_beside_the_file_are_found") else {
        return;
    };
    let source = DataSource::Hdf5 {
        train: demo.join("demo-val.hdf5"),
        valid: None,
    };
    let corpus = source.load().unwrap();
    assert_eq!(corpus.source_vocab.unwrap().len(), 28_721);
    assert_eq!(corpus.target_vocab.unwrap().len(), 42_787);
}

#[test]
fn the_ancestors_dictionaries_can_be_given() {
    let Some((demo, counted)) = load("the_ancestors_dictionaries_can_be_given") else {
        return;
    };
    let pair = TextPair {
        source: demo.join("src-val.txt.gz"),
        target: demo.join("targ-val.txt.gz"),
    };
    let options = TextOptions {
        source_vocab_file: Some(demo.join("demo.src.dict.gz")),
        target_vocab_file: Some(demo.join("demo.targ.dict.gz")),
        ..TextOptions::default()
    };
    let given = text::load(&pair, None, &options).unwrap().corpus;
    assert_eq!(given.train.counts(), counted.corpus.valid.unwrap().counts());
    // As the ancestor's file, row for row as a multiset of indices.
    let rows = |data: &Dataset| {
        let mut rows: Vec<_> = data
            .sentences()
            .iter()
            .map(|(a, b)| (a.to_vec(), b.to_vec()))
            .collect();
        rows.sort();
        rows
    };
    assert_eq!(
        rows(&given.train),
        rows(&hdf5::read(&demo.join("demo-val.hdf5")).unwrap())
    );
}
