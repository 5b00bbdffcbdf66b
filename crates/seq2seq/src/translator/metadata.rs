//! What a checkpoint of this task carries, so that it can translate without any other file.

use std::collections::BTreeMap;

use crate::data::Vocabulary;
use crate::model::ModelSpec;

/// The model's shape, as JSON.
pub const SPEC: &str = "seq2seq.spec";
/// The source vocabulary's words, one a line, in the order of their indices.
pub const SOURCE_WORDS: &str = "seq2seq.source_words";
/// The target vocabulary's words, one a line, in the order of their indices.
pub const TARGET_WORDS: &str = "seq2seq.target_words";
/// What it was trained on: [`NUMBERS`], or anything else for text as it is.
pub const CORPUS: &str = "seq2seq.corpus";
/// The word between two utterances of a source.
pub const SEPARATOR: &str = "seq2seq.separator";

/// Value of [`CORPUS`] for the built-in number words.
pub const NUMBERS: &str = "numbers";
/// Value of [`CORPUS`] for everything else.
pub const TEXT: &str = "text";
/// The separator where none is stated.
pub const DEFAULT_SEPARATOR: &str = "<t>";

/// The metadata of a checkpoint, from what was trained.
pub fn metadata(
    spec: &ModelSpec,
    source: Option<&Vocabulary>,
    target: Option<&Vocabulary>,
    corpus: &str,
    separator: &str,
) -> BTreeMap<String, String> {
    // The shape has no value that JSON lacks: it was validated.
    let spec = serde_json::to_string(spec).unwrap_or_default();
    let mut all: BTreeMap<String, String> = [
        (SPEC, spec),
        (CORPUS, corpus.to_owned()),
        (SEPARATOR, separator.to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    for (key, vocabulary) in [(SOURCE_WORDS, source), (TARGET_WORDS, target)] {
        if let Some(vocabulary) = vocabulary {
            let words: Vec<&str> = vocabulary.words().collect();
            all.insert(key.to_owned(), words.join("\n"));
        }
    }
    all
}
