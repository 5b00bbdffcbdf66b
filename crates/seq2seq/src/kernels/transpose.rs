//! Transposition between panels and transposed order, in blocks of 16 by 16.

use super::GROUP;

/// Elements of a block.
pub(crate) const BLOCK: usize = GROUP * GROUP;

/// Number of groups of 16 that hold `n`.
pub(crate) fn groups(n: usize) -> usize {
    n.div_ceil(GROUP)
}

/// Panels `[column group][features][16]` to transposed `[feature group][columns][16]`; features
/// beyond the last are written as zero. `to` may hold more columns than are written:
/// `columns` is its own number of them and `first` the column group where writing begins.
pub(crate) fn to_transposed(
    from: &[f32],
    features: usize,
    to: &mut [f32],
    columns: usize,
    first: usize,
) {
    for (group, panel) in from.chunks_exact(features * GROUP).enumerate() {
        for (f, block) in panel.chunks(BLOCK).enumerate() {
            let at = (f * columns + (first + group) * GROUP) * GROUP;
            transpose(block, &mut to[at..at + BLOCK]);
        }
    }
}

/// Transposed back to panels, for all column groups of `to`; `columns` and `first` as for [`to_transposed`].
pub(crate) fn to_panels(
    from: &[f32],
    features: usize,
    to: &mut [f32],
    columns: usize,
    first: usize,
) {
    let mut square = [0.0; BLOCK];
    for (group, panel) in to.chunks_exact_mut(features * GROUP).enumerate() {
        for (f, block) in panel.chunks_mut(BLOCK).enumerate() {
            let at = (f * columns + (first + group) * GROUP) * GROUP;
            transpose(&from[at..at + BLOCK], &mut square);
            block.copy_from_slice(&square[..block.len()]);
        }
    }
}

/// Writes all of `to`; rows that `from` lacks count as zero.
fn transpose(from: &[f32], to: &mut [f32]) {
    if from.len() < BLOCK {
        to.fill(0.0);
    }
    for (i, row) in from.chunks_exact(GROUP).enumerate() {
        for (j, &value) in row.iter().enumerate() {
            to[j * GROUP + i] = value;
        }
    }
}

/// Copies one row of `features` values into a column of a transposed matrix.
pub(crate) fn put_row(row: &[f32], to: &mut [f32], columns: usize, column: usize) {
    for (f, piece) in row.chunks(GROUP).enumerate() {
        let at = (f * columns + column) * GROUP;
        to[at..at + piece.len()].copy_from_slice(piece);
    }
}

/// Writes zero into a column of a transposed matrix of so many features.
pub(crate) fn zero_row(features: usize, to: &mut [f32], columns: usize, column: usize) {
    for f in 0..groups(features) {
        let at = (f * columns + column) * GROUP;
        to[at..at + GROUP].fill(0.0);
    }
}

/// Adds `factor` times a column of a transposed matrix to a row of values.
pub(crate) fn add_row(from: &[f32], columns: usize, column: usize, factor: f32, row: &mut [f32]) {
    for (f, piece) in row.chunks_mut(GROUP).enumerate() {
        let at = (f * columns + column) * GROUP;
        for (sum, value) in piece.iter_mut().zip(&from[at..]) {
            *sum += factor * value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let (features, groups_of_columns) = (21, 3);
        let columns = groups_of_columns * GROUP;
        let from: Vec<f32> = (0..features * columns).map(|i| i as f32).collect();
        let mut transposed = vec![-1.0; groups(features) * GROUP * columns];
        to_transposed(&from, features, &mut transposed, columns, 0);
        let mut row = vec![0.0; features];
        add_row(&transposed, columns, 18, 1.0, &mut row);
        let want: Vec<f32> = (0..features)
            .map(|f| from[(features + f) * GROUP + 2])
            .collect();
        assert_eq!(row, want);
        let mut back = vec![0.0; from.len()];
        to_panels(&transposed, features, &mut back, columns, 0);
        assert_eq!(back, from);
    }
}
