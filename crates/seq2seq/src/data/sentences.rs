//! Pairs of sentences, as words.

/// Pairs of sentences as word indices. Row r of the source and row r of the target belong
/// together. Rows hold their special tokens (`<s> w1 … wn </s>`) and no padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentences {
    source: Rows,
    target: Rows,
}

impl Sentences {
    /// No pairs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair.
    pub fn push(&mut self, source: &[u32], target: &[u32]) {
        self.source.push(source);
        self.target.push(target);
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.source.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Source sentence of a row; empty for a row that there is not.
    pub fn source(&self, row: usize) -> &[u32] {
        self.source.get(row)
    }

    /// Target sentence of a row; empty for a row that there is not.
    pub fn target(&self, row: usize) -> &[u32] {
        self.target.get(row)
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u32], &[u32])> {
        (0..self.len()).map(|row| (self.source(row), self.target(row)))
    }

    /// The same pairs, sorted by source length; pairs of the same length keep their order.
    pub(super) fn sorted(&self) -> Self {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&row| self.source(row).len());
        let mut sorted = Self::new();
        for row in order {
            sorted.push(self.source(row), self.target(row));
        }
        sorted
    }

    /// From two columns of rows of the same number; what is more in one is cut off.
    pub(super) fn from_rows(mut source: Rows, mut target: Rows) -> Self {
        let rows = source.ends.len().min(target.ends.len());
        source.ends.truncate(rows);
        target.ends.truncate(rows);
        Self { source, target }
    }
}

/// Rows of different lengths, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    words: Vec<u32>,
    ends: Vec<usize>,
}

impl Rows {
    pub(super) fn push(&mut self, row: &[u32]) {
        self.words.extend_from_slice(row);
        self.ends.push(self.words.len());
    }

    pub(super) fn get(&self, row: usize) -> &[u32] {
        let start = row
            .checked_sub(1)
            .map_or(Some(0), |before| self.ends.get(before).copied());
        match (start, self.ends.get(row)) {
            (Some(start), Some(&end)) => &self.words[start..end],
            _ => &[],
        }
    }
}
