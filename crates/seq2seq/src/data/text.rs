//! Paired text files: line n of one is the translation of line n of the other.
//!
//! Follows `preprocess.py` of seq2seq-attn: the strings `<blank>`, `<s>` and `</s>` are removed
//! from each line, the rest is split at (Unicode) white space, pairs with 1 to `max_words` words
//! on both sides are kept, and the vocabularies are those of the kept pairs of both training and
//! validation text. Pairs with too many unknown words can be dropped. It differs in two points:
//! text must be UTF-8, and a fraction of unknown words is a fraction of the sentence's own words
//! (there it was one of the padded row, so that short sentences passed almost always). Where one
//! file is longer than the other, its last lines may be unpaired only if no word stands in them.
//!
//! Files are plain or gzip, told apart by content, and read as a stream; what is kept in memory
//! is the sentences as indices.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::corpus::Corpus;
use super::lines::Lines;
pub use super::sizes::Kept;
use super::vocab::{Counter, SPECIAL};
use super::{DataError, Dataset, Sentences, Sizes, Vocabulary};
use crate::batch::{BOS, EOS, UNK};

/// The limit on sentences that keeps a slip of the finger from asking for gigabytes of padding.
const MAX_WORDS: usize = 10_000;

/// Seed of the shuffle before sorting, so that everybody gets the same batches.
const SHUFFLE_SEED: u64 = 3435;

/// A source file and its translation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TextPair {
    /// The language to translate from.
    pub source: PathBuf,
    /// The language to translate to.
    pub target: PathBuf,
}

/// How text becomes batches.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TextOptions {
    /// Sentence pairs of a batch.
    pub batch_size: usize,
    /// Words of the longest sentence that is kept, special tokens not counted.
    pub max_words: usize,
    /// Words of the source vocabulary at most, special tokens not counted.
    pub source_vocab_size: usize,
    /// Words of the target vocabulary at most, special tokens not counted.
    pub target_vocab_size: usize,
    /// A dictionary to take instead of counting source words.
    pub source_vocab_file: Option<PathBuf>,
    /// A dictionary to take instead of counting target words.
    pub target_vocab_file: Option<PathBuf>,
    /// Unknown words that a sentence may have on either side: a fraction of its words when below
    /// 1, a number when not; 0 is no limit.
    pub unk_filter: f64,
    /// Whether the pairs are shuffled (always in the same way) before they are sorted by length.
    pub shuffle: bool,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            batch_size: 64,
            max_words: 50,
            source_vocab_size: 50_000,
            target_vocab_size: 50_000,
            source_vocab_file: None,
            target_vocab_file: None,
            unk_filter: 0.0,
            shuffle: false,
        }
    }
}

/// What was kept in a line that names the files; none where nothing was dropped.
fn words_of(kept: &Kept, pair: &TextPair) -> Option<String> {
    let dropped = kept.kept < kept.read || kept.unpaired > 0;
    let (source, target) = (pair.source.display(), pair.target.display());
    dropped.then(|| format!("{source} and {target}: {kept}"))
}

/// Data made from text.
#[derive(Debug)]
pub struct TextCorpus {
    /// Datasets and vocabularies; both vocabularies are there.
    pub corpus: Corpus,
    /// What became of the training text.
    pub train_kept: Kept,
    /// What became of the validation text, if there was one.
    pub valid_kept: Option<Kept>,
}

/// Reads training and, where there is one, validation text.
pub fn load(
    train: &TextPair,
    valid: Option<&TextPair>,
    options: &TextOptions,
) -> Result<TextCorpus, DataError> {
    check_options(options)?;
    let mut source = Side::new(options.source_vocab_file.as_deref())?;
    let mut target = Side::new(options.target_vocab_file.as_deref())?;
    let train_raw = read_pairs(train, options, &mut source, &mut target)?;
    let valid_raw = valid
        .map(|pair| read_pairs(pair, options, &mut source, &mut target))
        .transpose()?;
    let source = source.finish(options.source_vocab_size);
    let target = target.finish(options.target_vocab_size);
    let sizes = Sizes {
        source: source.0.len() as u32,
        target: target.0.len() as u32,
    };
    let finish = |raw: Raw, pair: &TextPair| -> Result<(Dataset, Kept), DataError> {
        let (sentences, kept) = raw.finish(&source.1, &target.1, options);
        if kept.kept == 0 {
            return Err(DataError::NothingKept {
                source_file: pair.source.clone(),
                target_file: pair.target.clone(),
                kept,
            });
        }
        Ok((Dataset::new(&sentences, options.batch_size, sizes), kept))
    };
    let (train_data, train_kept) = finish(train_raw, train)?;
    let (valid_data, valid_kept) = match (valid_raw, valid) {
        (Some(raw), Some(pair)) => {
            finish(raw, pair).map(|(data, kept)| (Some(data), Some(kept)))?
        }
        _ => (None, None),
    };
    let left_out = words_of(&train_kept, train).into_iter();
    let left_out = left_out.chain(
        valid_kept
            .zip(valid)
            .and_then(|(kept, pair)| words_of(&kept, pair)),
    );
    let corpus = Corpus {
        train: train_data,
        valid: valid_data,
        source_vocab: Some(source.0),
        target_vocab: Some(target.0),
        sizes,
        left_out: left_out.collect(),
    };
    Ok(TextCorpus {
        corpus,
        train_kept,
        valid_kept,
    })
}

fn check_options(options: &TextOptions) -> Result<(), DataError> {
    let problem = |option, problem: &str| {
        Err(DataError::Option {
            option,
            problem: problem.to_owned(),
        })
    };
    if options.batch_size == 0 {
        return problem("batch size", "must be 1 or more");
    }
    if options.max_words == 0 || options.max_words > MAX_WORDS {
        return problem("longest sentence", "must be 1 to 10000 words");
    }
    if !(options.unk_filter >= 0.0 && options.unk_filter.is_finite()) {
        return problem(
            "unknown-word filter",
            "must be 0 (off), a fraction or a number of words",
        );
    }
    Ok(())
}

/// The words of a line: special tokens removed, split at white space.
pub fn words(line: &str) -> Vec<String> {
    cleaned(line)
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// A line without the three strings that would be mistaken for special tokens.
fn cleaned(line: &str) -> Cow<'_, str> {
    let mut line = Cow::Borrowed(line);
    for special in [SPECIAL[0], SPECIAL[2], SPECIAL[3]] {
        if line.contains(special) {
            line = Cow::Owned(line.replace(special, ""));
        }
    }
    line
}

/// One language while text is being read.
struct Side {
    given: Option<Vocabulary>,
    counter: Counter,
}

impl Side {
    fn new(file: Option<&Path>) -> Result<Self, DataError> {
        let given = file.map(Vocabulary::read).transpose()?;
        Ok(Self {
            given,
            counter: Counter::default(),
        })
    }

    /// The vocabulary, and the index of each provisional number in it.
    fn finish(self, limit: usize) -> (Vocabulary, Vec<u32>) {
        let vocabulary = self.given.unwrap_or_else(|| self.counter.vocabulary(limit));
        let indices = self.counter.indices(&vocabulary);
        (vocabulary, indices)
    }
}

/// Pairs of the right length, with provisional numbers for words and no sentence marks.
struct Raw {
    sentences: Sentences,
    kept: Kept,
}

fn read_pairs(
    pair: &TextPair,
    options: &TextOptions,
    source: &mut Side,
    target: &mut Side,
) -> Result<Raw, DataError> {
    let mut source_lines = Lines::open(&pair.source)?;
    let mut target_lines = Lines::open(&pair.target)?;
    let mut kept = Kept {
        max_words: options.max_words,
        ..Kept::default()
    };
    let mut sentences = Sentences::new();
    let (mut source_row, mut target_row) = (Vec::new(), Vec::new());
    loop {
        let (a, b) = match (source_lines.next_line()?, target_lines.next_line()?) {
            (Some(a), Some(b)) => (cleaned(a), cleaned(b)),
            (None, None) => break,
            (a, b) => {
                let has_words = a.or(b).is_some_and(|line| !is_empty(line));
                let longer = if a.is_some() {
                    &mut source_lines
                } else {
                    &mut target_lines
                };
                kept.unpaired = 1;
                if !has_words && rest_is_empty(longer, &mut kept.unpaired)? {
                    break;
                }
                return Err(DataError::LineCounts {
                    source_file: pair.source.clone(),
                    source_lines: source_lines.count_rest()?,
                    target_file: pair.target.clone(),
                    target_lines: target_lines.count_rest()?,
                });
            }
        };
        kept.read += 1;
        let lengths = [a.split_whitespace().count(), b.split_whitespace().count()];
        if lengths.contains(&0) {
            kept.empty += 1;
        } else if lengths.iter().any(|&len| len > options.max_words) {
            kept.too_long += 1;
        } else {
            source_row.clear();
            target_row.clear();
            source_row.extend(a.split_whitespace().map(|word| source.counter.add(word)));
            target_row.extend(b.split_whitespace().map(|word| target.counter.add(word)));
            sentences.push(&source_row, &target_row);
        }
    }
    Ok(Raw { sentences, kept })
}

fn is_empty(line: &str) -> bool {
    cleaned(line).trim().is_empty()
}

/// Whether no word is left in a file, counting its lines as far as that holds.
fn rest_is_empty(lines: &mut Lines, counted: &mut u64) -> Result<bool, DataError> {
    while let Some(line) = lines.next_line()? {
        if !is_empty(line) {
            return Ok(false);
        }
        *counted += 1;
    }
    Ok(true)
}

impl Raw {
    /// The pairs in final indices and with sentence marks, without those that are too unknown.
    fn finish(
        mut self,
        source: &[u32],
        target: &[u32],
        options: &TextOptions,
    ) -> (Sentences, Kept) {
        let final_row = |row: &[u32], indices: &[u32]| -> Vec<u32> {
            let words = row.iter().map(|&number| indices[number as usize]);
            std::iter::once(BOS)
                .chain(words)
                .chain(std::iter::once(EOS))
                .collect()
        };
        let mut sentences = Sentences::new();
        for row in order(self.sentences.len(), options.shuffle) {
            let source_row = final_row(self.sentences.source(row), source);
            let target_row = final_row(self.sentences.target(row), target);
            if too_unknown(&source_row, options.unk_filter)
                || too_unknown(&target_row, options.unk_filter)
            {
                self.kept.too_unknown += 1;
            } else {
                sentences.push(&source_row, &target_row);
                self.kept.kept += 1;
            }
        }
        (sentences, self.kept)
    }
}

fn order(rows: usize, shuffle: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    if shuffle {
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(SHUFFLE_SEED));
    }
    order
}

/// Whether a row `<s> w1 … wn </s>` has more unknown words than the filter allows.
fn too_unknown(row: &[u32], filter: f64) -> bool {
    let unknown = row.iter().filter(|&&word| word == UNK).count() as f64;
    let words = (row.len() - 2) as f64;
    filter > 0.0
        && if filter < 1.0 {
            unknown / words > filter
        } else {
            unknown > filter
        }
}
