//! Sentence pairs, kept compactly, sorted by source length and cut into batches.
//!
//! The ancestor's preprocessing put the last sentence of the sorted set into no batch (its last
//! boundary was one too low). Here every sentence is in exactly one batch; a file written by the
//! ancestor is taken as it is.

use std::ops::Range;

use super::DataError;
use super::sentences::Sentences;
use super::sizes::Sizes;
use super::utterances::{self, Utterances};
use crate::batch::{PAD, SentenceBatch};

/// One batch: which rows, and how wide its matrices are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Rows of the dataset.
    pub rows: Range<usize>,
    /// Words of every source row, special tokens included.
    pub source_len: usize,
    /// Words of the longest target row, special tokens included.
    pub target_len: usize,
    /// Wanted output words that are not padding, over all rows.
    pub target_words: usize,
}

/// Sums over the batches of a dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Batches.
    pub batches: usize,
    /// Sentence pairs in batches.
    pub sentences: usize,
    /// Σ rows · `source_len`: what the speed in source tokens counts.
    pub source_tokens: u64,
    /// Σ rows · `target_len`, padding included: what the speed in target tokens counts.
    pub target_tokens: u64,
    /// Wanted output words without padding: what the perplexity counts.
    pub target_words: u64,
}

/// Sentences in batches; a batch number always means the same sentences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    sentences: Sentences,
    batches: Vec<Cut>,
    sizes: Sizes,
    utterances: Option<Utterances>,
}

impl Dataset {
    /// Sorts the pairs by source length (stably) and cuts each run of equal source length into
    /// batches of `batch_size` pairs, the last one of a run shorter. A `batch_size` of 0 counts as 1.
    pub fn new(sentences: &Sentences, batch_size: usize, sizes: Sizes) -> Self {
        let batch_size = batch_size.max(1);
        let sentences = sentences.sorted();
        let mut batches = Vec::new();
        let mut start = 0;
        while start < sentences.len() {
            let length = sentences.source(start).len();
            let end = (start..sentences.len().min(start.saturating_add(batch_size)))
                .find(|&row| sentences.source(row).len() != length)
                .unwrap_or(sentences.len().min(start.saturating_add(batch_size)));
            batches.push(Cut::measure(&sentences, start..end));
            start = end;
        }
        Self {
            sentences,
            batches,
            sizes,
            utterances: None,
        }
    }

    /// From parts that have been checked: rows inside the sentences, widths as measured.
    pub(super) fn from_parts(sentences: Sentences, batches: Vec<Cut>, sizes: Sizes) -> Self {
        Self {
            sentences,
            batches,
            sizes,
            utterances: None,
        }
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether there is no batch.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// All pairs, sorted by source length. In a file of the ancestor the last is in no batch.
    pub fn sentences(&self) -> &Sentences {
        &self.sentences
    }

    /// The batches, in order.
    pub fn cuts(&self) -> &[Cut] {
        &self.batches
    }

    /// Vocabulary sizes; no index is above them.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Sums over all batches.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            batches: self.len(),
            ..Counts::default()
        };
        for cut in &self.batches {
            counts.sentences += cut.rows.len();
            counts.source_tokens += (cut.rows.len() * cut.source_len) as u64;
            counts.target_tokens += (cut.rows.len() * cut.target_len) as u64;
            counts.target_words += cut.target_words as u64;
        }
        counts
    }

    /// From now on every batch has its sources cut into utterances. Fails on the first row that
    /// cannot be, so that no batch fails later.
    pub fn split_utterances(mut self, utterances: Utterances) -> Result<Self, DataError> {
        utterances.check(&self.sentences)?;
        self.utterances = Some(utterances);
        Ok(self)
    }

    /// Batch `index`, numbered from 0, with its matrices filled in.
    pub fn batch(&self, index: usize) -> Result<SentenceBatch, DataError> {
        let mut batch = SentenceBatch::default();
        self.fill(index, &mut batch)?;
        Ok(batch)
    }

    /// As [`batch`](Self::batch), into buffers that are used again.
    pub fn fill(&self, index: usize, batch: &mut SentenceBatch) -> Result<(), DataError> {
        let cut = self.batches.get(index).ok_or(DataError::NoSuchBatch {
            index,
            batches: self.batches.len(),
        })?;
        batch.rows = cut.rows.len();
        batch.first_row = 0;
        batch.source_len = cut.source_len;
        batch.target_len = cut.target_len;
        batch.sources.resize_with(1, Vec::new);
        let source = &mut batch.sources[0];
        source.clear();
        batch.target.clear();
        batch.gold.clear();
        for row in cut.rows.clone() {
            push_padded(source, self.sentences.source(row), cut.source_len);
            let target = self.sentences.target(row);
            push_padded(&mut batch.target, target, cut.target_len);
            push_padded(
                &mut batch.gold,
                target.get(1..).unwrap_or(&[]),
                cut.target_len,
            );
        }
        if let Some(wanted) = &self.utterances {
            utterances::split_into(batch, wanted)?;
        }
        Ok(())
    }
}

impl Cut {
    /// The batch of these rows, its widths measured. Rows must be of equal source length.
    pub(super) fn measure(sentences: &Sentences, rows: Range<usize>) -> Self {
        let targets = || rows.clone().map(|row| sentences.target(row).len());
        Self {
            source_len: sentences.source(rows.start).len(),
            target_len: targets().max().unwrap_or(0),
            target_words: targets().map(|len| len.saturating_sub(1)).sum(),
            rows,
        }
    }
}

/// Appends a row and as much padding as makes `len` words of it.
fn push_padded(to: &mut Vec<u32>, row: &[u32], len: usize) {
    let end = to.len() + len;
    to.extend_from_slice(row.get(..len).unwrap_or(row));
    to.resize(end, PAD);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(lengths: &[(usize, usize)]) -> Sentences {
        let mut all = Sentences::new();
        for (i, &(source, target)) in lengths.iter().enumerate() {
            // The first word tells the rows apart.
            let row = |len: usize| [&[3, 5 + i as u32], &vec![9; len - 1][..], &[4]].concat();
            all.push(&row(source), &row(target));
        }
        all
    }

    const SIZES: Sizes = Sizes {
        source: 99,
        target: 99,
    };

    #[test]
    fn runs_of_equal_length_are_cut_and_the_last_sentence_is_kept() {
        let data = Dataset::new(
            &sentences(&[(2, 1), (1, 2), (2, 4), (1, 1), (2, 3)]),
            2,
            SIZES,
        );
        let rows: Vec<_> = data.cuts().iter().map(|c| c.rows.clone()).collect();
        assert_eq!(rows, [0..2, 2..4, 4..5]);
        // The order inside one length is the order they came in.
        let firsts: Vec<u32> = data.sentences().iter().map(|(s, _)| s[1]).collect();
        assert_eq!(firsts, [6, 8, 5, 7, 9]);
        let counts = data.counts();
        assert_eq!((counts.batches, counts.sentences), (3, 5));
        assert_eq!(counts.source_tokens, 2 * 3 + 2 * 4 + 4);
        assert_eq!(counts.target_tokens, 2 * 4 + 2 * 6 + 5);
        assert_eq!(counts.target_words, 3 + 2 + 2 + 5 + 4);
    }

    #[test]
    fn a_batch_is_padded_on_the_right_and_gold_is_the_target_shifted() {
        let data = Dataset::new(&sentences(&[(2, 1), (2, 3)]), 64, SIZES);
        let batch = data.batch(0).unwrap();
        assert_eq!((batch.rows, batch.source_len, batch.target_len), (2, 4, 5));
        assert_eq!(batch.sources, [vec![3, 5, 9, 4, 3, 6, 9, 4]]);
        assert_eq!(batch.target, [3, 5, 4, 1, 1, 3, 6, 9, 9, 4]);
        assert_eq!(batch.gold, [5, 4, 1, 1, 1, 6, 9, 9, 4, 1]);
    }

    #[test]
    fn a_batch_that_is_not_there_is_an_error() {
        let data = Dataset::new(&sentences(&[(2, 1)]), 64, SIZES);
        assert!(
            data.batch(1)
                .unwrap_err()
                .to_string()
                .contains("no batch 1")
        );
        assert!(Dataset::new(&Sentences::new(), 0, SIZES).is_empty());
    }
}
