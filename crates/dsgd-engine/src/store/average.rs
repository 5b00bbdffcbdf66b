//! The mean of several gradients, on all threads.
//!
//! Every element is the same sum in the same order, and the norm the same sum of the same blocks, whatever
//! the number of threads: it is a matter of speed alone.

use std::sync::Mutex;
use std::thread;

use dsgd_core::params::{Gradient, Rule, SQUARES_BLOCK, TensorGradient, add_squares};

use crate::mutex::lock;

/// Elements of a share of the work: enough that taking one costs nothing beside it.
const PIECE: usize = 16 * SQUARES_BLOCK;

/// Fewer elements than this are not worth a second thread.
const FEW: usize = 16 * PIECE;

/// Makes `mean` the sum of itself and the others, each times its share, and returns its sum of squares.
///
/// # Panics
/// When they are gradients of different models.
pub(super) fn average(
    mean: &mut Gradient,
    share: f32,
    others: &[(&Gradient, f32)],
    threads: usize,
) -> f64 {
    let same = |(other, _): &(&Gradient, f32)| other.layout() == mean.layout();
    assert!(others.iter().all(same), "gradients of two different models");
    let mut squares: Vec<f64> = Vec::new();
    let mut tables = Vec::new();
    let mut pieces = Vec::new();
    // A tensor's blocks begin at its first element, so each has its own place among the squares.
    let blocks = |len: usize| len.div_ceil(SQUARES_BLOCK);
    let dense = mean.tensors().iter().map(|part| match part {
        TensorGradient::Dense(values) => blocks(values.len()),
        TensorGradient::Rows(_) => 0,
    });
    squares.resize(dense.sum(), 0.0);
    let mut places = squares.as_mut_slice();
    for (at, part) in mean.tensors_mut().iter_mut().enumerate() {
        match part {
            TensorGradient::Dense(values) => {
                for (number, values) in values.chunks_mut(PIECE).enumerate() {
                    let squares = places.split_off_mut(..blocks(values.len()));
                    pieces.push(Piece {
                        tensor: at,
                        start: number * PIECE,
                        values,
                        squares: squares.unwrap_or_default(),
                    });
                }
            }
            TensorGradient::Rows(rows) => tables.push((at, rows)),
        }
    }
    let elements: usize = pieces.iter().map(|piece| piece.values.len()).sum();
    let threads = if elements < FEW { 1 } else { threads };
    let pieces = Mutex::new(pieces.into_iter());
    let work = || {
        while let Some(piece) = { lock(&pieces).next() } {
            piece.average(share, others);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        for (at, table) in tables {
            table.scale(share);
            for (other, share) in others {
                if let TensorGradient::Rows(rows) = &other.tensors()[at] {
                    table.add(rows, *share);
                }
            }
        }
        work();
    });
    sum_of_squares(mean, &squares)
}

/// A piece of a dense tensor.
struct Piece<'a> {
    tensor: usize,
    start: usize,
    values: &'a mut [f32],
    /// One for each block of it.
    squares: &'a mut [f64],
}

impl Piece<'_> {
    /// Block by block, so that the squares are taken while the block is in the cache.
    fn average(self, share: f32, others: &[(&Gradient, f32)]) {
        let blocks = self.values.chunks_mut(SQUARES_BLOCK).zip(self.squares);
        for (number, (block, squares)) in blocks.enumerate() {
            for value in &mut *block {
                *value *= share;
            }
            let start = self.start + number * SQUARES_BLOCK;
            for (other, share) in others {
                if let TensorGradient::Dense(values) = &other.tensors()[self.tensor] {
                    let values = &values[start..start + block.len()];
                    for (mine, theirs) in block.iter_mut().zip(values) {
                        *mine += share * theirs;
                    }
                }
            }
            add_squares(squares, bytemuck::cast_slice(block));
        }
    }
}

/// As [`Gradient::sum_of_squares`], from the squares of dense blocks.
fn sum_of_squares(mean: &Gradient, squares: &[f64]) -> f64 {
    let mut squares = squares.iter();
    let of_part = |part: &TensorGradient| match part {
        TensorGradient::Dense(values) => {
            let blocks = values.len().div_ceil(SQUARES_BLOCK);
            squares.by_ref().take(blocks).sum()
        }
        TensorGradient::Rows(rows) => dsgd_core::params::sum_of_squares(rows.values()),
    };
    // Every part's squares are taken, also where they do not count: the next part's come after them.
    let parts = mean.tensors().iter().map(of_part);
    let tensors = mean.layout().tensors().iter().zip(parts);
    let trained = tensors.filter(|(tensor, _)| tensor.rule != Rule::Added);
    trained.map(|(_, squares)| squares).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dsgd_core::params::{Layout, TensorId};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn gradient(layout: &Arc<Layout>, seed: u64) -> Gradient {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut gradient = Gradient::new(Arc::clone(layout));
        for id in (0..layout.tensors().len()).filter(|&id| id != 1) {
            let values = gradient.dense(TensorId(id));
            values.fill_with(|| random.random_range(-1.0..1.0));
        }
        for _ in 0..20 {
            let row = random.random_range(0..100);
            let values = gradient.row(TensorId(1), row);
            values.fill_with(|| random.random_range(-1.0..1.0));
        }
        gradient
    }

    fn bits(gradient: &Gradient) -> Vec<u32> {
        let of_part = |part: &TensorGradient| match part {
            TensorGradient::Dense(values) => values.clone(),
            TensorGradient::Rows(rows) => {
                let indices = rows.indices().iter().map(|&row| row as f32);
                indices.chain(rows.values().iter().copied()).collect()
            }
        };
        let values = gradient.tensors().iter().flat_map(of_part);
        values.map(f32::to_bits).collect()
    }

    #[test]
    fn the_mean_is_the_same_to_the_bit_on_any_number_of_threads() {
        let mut layout = Layout::new();
        layout.dense("large", &[FEW + 3 * SQUARES_BLOCK + 7]);
        layout.rows("table", 100, 3);
        // In the middle, so that those behind it must not be mistaken for it.
        let figures = layout.dense("figures", &[SQUARES_BLOCK + 1]);
        layout.set_rule(figures, Rule::Added);
        layout.dense("small", &[5]);
        let layout = Arc::new(layout);
        let [first, second, third] = [1, 2, 3].map(|seed| gradient(&layout, seed));
        let mut plain = gradient(&layout, 1);
        plain.scale(0.5);
        plain.add(&second, 0.3);
        plain.add(&third, 0.2);
        for threads in [1, 2, 5] {
            let mut mean = gradient(&layout, 1);
            let others = [(&second, 0.3), (&third, 0.2)];
            let squares = average(&mut mean, 0.5, &others, threads);
            assert_eq!(bits(&mean), bits(&plain), "{threads} threads");
            assert_eq!(squares.to_bits(), plain.sum_of_squares().to_bits());
        }
        assert_ne!(bits(&first), bits(&plain));
        // What is added as it is has no part in the norm.
        let before = plain.sum_of_squares();
        plain.dense(figures).fill(1e6);
        assert_eq!(plain.sum_of_squares().to_bits(), before.to_bits());
        plain.dense(TensorId(3))[0] = 1e6;
        assert!(plain.sum_of_squares() > before);
    }
}
