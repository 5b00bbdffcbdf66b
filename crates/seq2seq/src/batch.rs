//! One batch of sentence pairs, as model and data pass it to each other.

use std::ops::Range;

/// Padding; never a wanted word.
pub const PAD: u32 = 1;
/// A word outside the vocabulary.
pub const UNK: u32 = 2;
/// Start of a sentence.
pub const BOS: u32 = 3;
/// End of a sentence.
pub const EOS: u32 = 4;

/// Sentence pairs of one batch. Word indices are 1-based, as in the HDF5 files: index i is
/// row i − 1 of the embedding. All matrices are row-major with one sentence a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentenceBatch {
    /// Number of sentence pairs.
    pub rows: usize,
    /// Number of the first one, where these are part of a batch: a multiple of 16.
    pub first_row: usize,
    /// Columns of each source matrix.
    pub source_len: usize,
    /// Columns of `target` and `gold`.
    pub target_len: usize,
    /// [rows, `source_len`]: one matrix, or for the hierarchical model one an utterance.
    pub sources: Vec<Vec<u32>>,
    /// Decoder input [rows, `target_len`], padded on the right.
    pub target: Vec<u32>,
    /// Wanted output [rows, `target_len`]: `target` shifted left by one, padded on the right.
    pub gold: Vec<u32>,
}

impl SentenceBatch {
    /// Keeps these rows, which begin at a multiple of 16, in the columns of the whole batch.
    ///
    /// # Panics
    /// When it has fewer rows.
    pub fn keep(&mut self, rows: Range<usize>) {
        let matrix = |words: &mut Vec<u32>, columns: usize| {
            words.truncate(rows.end * columns);
            words.drain(..rows.start * columns);
        };
        for source in &mut self.sources {
            matrix(source, self.source_len);
        }
        matrix(&mut self.target, self.target_len);
        matrix(&mut self.gold, self.target_len);
        self.first_row += rows.start;
        self.rows = rows.len();
    }
}
