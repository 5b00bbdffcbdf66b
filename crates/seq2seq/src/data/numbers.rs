//! A corpus that is built in: number words, English to French, for 0 ..= 999,999.
//!
//! "four hundred and seven thousand and twelve" is "quatre cent sept mille douze". English has
//! the British "and": after the hundreds, and after the thousands when less than a hundred
//! follows. French has the traditional spelling, with its plurals ("deux cents", "quatre-vingts",
//! but "deux cent un", "quatre-vingt mille") and its exceptions ("soixante et onze").
//!
//! Hyphens are not written in the corpus: "quatre-vingt-dix-sept" is the four words
//! `quatre vingt dix sept`. So 31 English and 27 French words make every number, the model sees
//! each of them often, and [`join_french`] puts the hyphens back, which the words determine. For
//! the same reason the vocabularies are complete: a model trained on a sample can be asked any
//! number.

use std::collections::HashSet;

use rand::SeedableRng;
use rand_chacha::{ChaCha8Rng, rand_core::Rng};

use super::{Corpus, DataError, Dataset, Sentences, Sizes};

mod words;

pub use words::{NUMBERS, english, english_words, french, join_french, vocabularies};

/// Training and validation together may hold half of all, so that drawing them stays quick.
const MAX_DRAWN: u32 = NUMBERS / 2;

/// Numbers below this are always learnt and never asked in validation: they are the alphabet.
const ALPHABET: u32 = 100;

/// How many number pairs, and which.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NumbersOptions {
    /// The only source of chance.
    pub seed: u64,
    /// Training pairs.
    pub train: u32,
    /// Validation pairs, none of them among the training pairs.
    pub valid: u32,
    /// Pairs of a batch.
    pub batch_size: usize,
}

impl Default for NumbersOptions {
    fn default() -> Self {
        Self {
            seed: 3435,
            train: 20_000,
            valid: 1_000,
            batch_size: 64,
        }
    }
}

/// Draws the corpus: a function of the options alone.
pub fn load(options: &NumbersOptions) -> Result<Corpus, DataError> {
    let problem = |option, problem: String| Err(DataError::Option { option, problem });
    if options.batch_size == 0 {
        return problem("batch size", "must be 1 or more".to_owned());
    }
    if options.train == 0 {
        return problem("training numbers", "must be 1 or more".to_owned());
    }
    if options.train.saturating_add(options.valid) > MAX_DRAWN {
        return problem(
            "training and validation numbers",
            format!("must be at most {MAX_DRAWN} together"),
        );
    }
    let (train, valid) = draw(options);
    let (source, target) = vocabularies();
    let sizes = Sizes {
        source: source.len() as u32,
        target: target.len() as u32,
    };
    let dataset = |numbers: &[u32]| {
        let mut sentences = Sentences::new();
        for &number in numbers {
            sentences.push(
                &source.encode(english(number)),
                &target.encode(french(number)),
            );
        }
        Dataset::new(&sentences, options.batch_size, sizes)
    };
    let (train, valid) = (
        dataset(&train),
        (!valid.is_empty()).then(|| dataset(&valid)),
    );
    Ok(Corpus {
        train,
        valid,
        source_vocab: Some(source),
        target_vocab: Some(target),
        sizes,
        left_out: Vec::new(),
    })
}

/// Training and validation numbers, all different. Beyond the alphabet, numbers of 3, 4, 5 and 6
/// digits are equally likely, as long as there are any left, so that short ones occur too.
fn draw(options: &NumbersOptions) -> (Vec<u32>, Vec<u32>) {
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut seen = HashSet::new();
    let mut next = || loop {
        let low = 10_u32.pow(2 + below(&mut random, 4));
        let number = low + below(&mut random, 9 * low);
        if seen.insert(number) {
            return number;
        }
    };
    let valid: Vec<u32> = (0..options.valid).map(|_| next()).collect();
    let mut train: Vec<u32> = (0..options.train.min(ALPHABET)).collect();
    train.extend((ALPHABET..options.train).map(|_| next()));
    (train, valid)
}

/// A number below `end`, by multiplication: the bias of 1 in 2³² · `end`⁻¹ is of no account here,
/// and the result does not depend on a library's choice of method.
fn below(random: &mut ChaCha8Rng, end: u32) -> u32 {
    ((u64::from(random.next_u32()) * u64::from(end)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corpus_is_a_function_of_its_options_and_its_parts_are_disjoint() {
        let options = NumbersOptions::default();
        let (train, valid) = draw(&options);
        assert_eq!((train.len(), valid.len()), (20_000, 1_000));
        let all: HashSet<u32> = train.iter().chain(&valid).copied().collect();
        assert_eq!(all.len(), 21_000);
        assert!((0..ALPHABET).all(|small| train.contains(&small)));
        let hundreds = valid.iter().filter(|&&number| number < 1000).count();
        assert!((200..300).contains(&hundreds), "{hundreds}");
        assert_eq!(draw(&options), (train.clone(), valid));
        assert_ne!(draw(&NumbersOptions { seed: 1, ..options }).0, train);
    }

    /// Kept as it is, so that figures measured with it stay comparable.
    #[test]
    fn the_default_corpus_stays_as_it_is() {
        let corpus = load(&NumbersOptions::default()).unwrap();
        let (train, valid) = (corpus.train.counts(), corpus.valid.unwrap().counts());
        assert_eq!(
            (train.batches, train.source_tokens, train.target_words),
            (320, 201_139, 163_845)
        );
        assert_eq!(
            (valid.batches, valid.source_tokens, valid.target_words),
            (20, 9_283, 7_455)
        );
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        for (options, says) in [
            (
                NumbersOptions {
                    batch_size: 0,
                    ..Default::default()
                },
                "batch size",
            ),
            (
                NumbersOptions {
                    train: 0,
                    ..Default::default()
                },
                "training numbers",
            ),
            (
                NumbersOptions {
                    valid: u32::MAX,
                    ..Default::default()
                },
                "at most 500000",
            ),
        ] {
            assert!(load(&options).unwrap_err().to_string().contains(says));
        }
        let tiny = load(&NumbersOptions {
            train: 3,
            valid: 0,
            ..Default::default()
        })
        .unwrap();
        assert_eq!((tiny.train.counts().sentences, tiny.valid), (3, None));
    }
}
