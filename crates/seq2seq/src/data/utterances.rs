//! Utterances of a dialogue inside one source sentence, for the hierarchical model.
//!
//! A source such as `<s> a <t> b </s>` holds two utterances, with the end-of-utterance word `<t>`
//! between them. Each becomes a matrix of its own, in sentence marks of its own and padded on the
//! left, as the ancestor did it: `<s> <s> a </s>` and `<s> b </s> </s>`. The marks of the whole
//! row stay, so the first utterance has its start twice and the last its end; the ones between
//! have theirs once. With more separators than needed, the rest stays in the last utterance.

use super::{DataError, Sentences};
use crate::batch::{BOS, EOS, PAD, SentenceBatch};

/// How the sources are to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utterances {
    /// Utterances of each source; at least 1.
    pub count: usize,
    /// Index of the word that stands between two utterances.
    pub separator: u32,
}

impl Utterances {
    /// Fails on the first row that has too few utterances.
    pub fn check(&self, sentences: &Sentences) -> Result<(), DataError> {
        if self.count == 0 {
            return Err(DataError::Option {
                option: "utterances",
                problem: "a source has at least 1".to_owned(),
            });
        }
        (0..sentences.len()).try_for_each(|row| self.check_row(row, sentences.source(row)))
    }

    fn check_row(&self, row: usize, words: &[u32]) -> Result<(), DataError> {
        let found = 1 + words.iter().filter(|&&word| word == self.separator).count();
        if found < self.count {
            let (wanted, separator) = (self.count, self.separator);
            return Err(DataError::Utterances {
                row,
                found,
                wanted,
                separator,
            });
        }
        Ok(())
    }

    /// The utterances of one row, without the marks that they will get.
    fn parts<'a>(&self, words: &'a [u32]) -> impl Iterator<Item = &'a [u32]> {
        let separator = self.separator;
        words.splitn(self.count, move |&word| word == separator)
    }
}

/// Cuts a batch's one source matrix into one an utterance, each [rows, `source_len`].
pub fn split_utterances(
    mut batch: SentenceBatch,
    utterances: &Utterances,
) -> Result<SentenceBatch, DataError> {
    split_into(&mut batch, utterances)?;
    Ok(batch)
}

/// As [`split_utterances`], in place. `source_len` grows only where a row lacks its own marks.
pub(super) fn split_into(batch: &mut SentenceBatch, wanted: &Utterances) -> Result<(), DataError> {
    let Some(whole) = batch.sources.first_mut().map(std::mem::take) else {
        return Ok(());
    };
    // Padding, on whichever side, is not part of a row.
    let rows: Vec<Vec<u32>> = whole
        .chunks(batch.source_len.max(1))
        .map(|row| row.iter().copied().filter(|&word| word != PAD).collect())
        .collect();
    let mut columns = batch.source_len;
    for (number, row) in rows.iter().enumerate() {
        wanted.check_row(number, row)?;
        columns = wanted
            .parts(row)
            .map(|part| part.len() + 2)
            .fold(columns, usize::max);
    }
    batch.source_len = columns;
    batch.sources = vec![vec![PAD; rows.len() * columns]; wanted.count];
    for (number, row) in rows.iter().enumerate() {
        for (part, matrix) in wanted.parts(row).zip(&mut batch.sources) {
            let line = &mut matrix[number * columns..(number + 1) * columns];
            let start = columns - part.len() - 2;
            line[start] = BOS;
            line[start + 1..columns - 1].copy_from_slice(part);
            line[columns - 1] = EOS;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u32 = 9;

    fn batch(rows: &[&[u32]]) -> SentenceBatch {
        SentenceBatch {
            rows: rows.len(),
            source_len: rows[0].len(),
            sources: vec![rows.concat()],
            ..SentenceBatch::default()
        }
    }

    fn split(rows: &[&[u32]], count: usize) -> Result<SentenceBatch, DataError> {
        split_utterances(
            batch(rows),
            &Utterances {
                count,
                separator: T,
            },
        )
    }

    /// Expected values are those of the reference trainer's `split_utterances`.
    #[test]
    fn two_utterances_as_the_ancestor_cut_them() {
        let two = split(&[&[3, 5, 6, T, 7, 4], &[3, 5, T, 6, 7, 4]], 2).unwrap();
        assert_eq!(two.source_len, 6);
        assert_eq!(two.sources[0], [1, 3, 3, 5, 6, 4, 1, 1, 3, 3, 5, 4]);
        assert_eq!(two.sources[1], [1, 1, 3, 7, 4, 4, 1, 3, 6, 7, 4, 4]);
    }

    #[test]
    fn empty_utterances_have_their_marks_only() {
        let two = split(&[&[3, T, 4]], 2).unwrap();
        assert_eq!(two.sources, [vec![3, 3, 4], vec![3, 4, 4]]);
    }

    #[test]
    fn three_utterances_and_the_rest_in_the_last() {
        let three = split(&[&[3, 5, T, 6, T, 7, T, 8, 4]], 3).unwrap();
        assert_eq!(three.sources[0], [1, 1, 1, 1, 1, 3, 3, 5, 4]);
        assert_eq!(three.sources[1], [1, 1, 1, 1, 1, 1, 3, 6, 4]);
        assert_eq!(three.sources[2], [1, 1, 1, 3, 7, T, 8, 4, 4]);
    }

    #[test]
    fn a_row_without_separator_is_named() {
        let error = split(&[&[3, T, 4], &[3, 5, 4]], 2).unwrap_err().to_string();
        assert!(
            error.contains("row 1") && error.contains("index 9"),
            "{error}"
        );
    }

    #[test]
    fn rows_without_marks_widen_the_matrix_instead_of_failing() {
        let two = split(&[&[5, 6, T]], 2).unwrap();
        assert_eq!((two.source_len, &two.sources[0]), (4, &vec![3, 5, 6, 4]));
        assert_eq!(two.sources[1], [1, 1, 3, 4]);
    }
}
