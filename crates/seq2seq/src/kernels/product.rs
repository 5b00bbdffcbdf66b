//! Matrix products over slices: the bounds are checked here, once a product.
#![allow(unsafe_code)]

pub(crate) use super::tile::{Grouped, Left, Size};

use super::dispatch::Isa;
use super::kernel::Kernel;
use super::pairs::Pair;
use super::tile::{self, Task};
use super::transpose::groups;
use super::vector::{GROUP, Vector};

/// What a product starts from.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Overwrite the result.
    Zero,
    /// Overwrite the result, one value of this added to each row.
    Bias(&'a [f32]),
    /// Add to the result.
    Add,
}

/// `C[i, j] (+)= Σ_k A[i, k]·B[k, j]`; see [`super::tile`] for how the operands may lie.
/// The elements of A and B are floats, or pairs of bfloat16, which the depth then counts.
pub(crate) struct Product<'a, E = f32> {
    pub(crate) size: Size,
    pub(crate) a: &'a [E],
    pub(crate) left: Left,
    pub(crate) b: &'a [E],
    pub(crate) right: Grouped,
    pub(crate) c: &'a mut [f32],
    pub(crate) out: Grouped,
    pub(crate) start: Start<'a>,
}

/// A row-major matrix of that width, as A.
pub(crate) fn straight(width: usize, depth: usize) -> Left {
    Left {
        row: width,
        step: 1,
        segment: depth,
        jump: 0,
    }
}

/// The transpose of a row-major matrix of that width, as A.
pub(crate) fn transposed(width: usize, depth: usize) -> Left {
    Left {
        row: 1,
        step: width,
        segment: depth,
        jump: 0,
    }
}

/// Panels of so many features, as A whose depth runs over the columns.
pub(crate) fn over_columns(features: usize) -> Left {
    Left {
        row: GROUP,
        step: 1,
        segment: GROUP,
        jump: features * GROUP,
    }
}

/// Panels of so many features, as B or C.
pub(crate) fn panels(features: usize) -> Grouped {
    Grouped {
        row: GROUP,
        group: features * GROUP,
    }
}

/// A row-major matrix of that width, as C.
pub(crate) fn rows(width: usize) -> Grouped {
    Grouped {
        row: width,
        group: GROUP,
    }
}

impl Product<'_> {
    /// Computes it.
    ///
    /// # Panics
    /// When an operand is shorter than the sizes say.
    pub(crate) fn run(self, isa: Isa) {
        isa.run(self);
    }
}

impl Product<'_, Pair> {
    /// Computes it.
    ///
    /// # Panics
    /// When an operand is shorter than the sizes say.
    pub(crate) fn run(self, isa: Isa) {
        isa.run_pairs(self);
    }
}

impl<E> Product<'_, E> {
    fn check(&self) {
        let Size {
            rows,
            columns,
            depth,
        } = self.size;
        let (last_group, whole) = (groups(columns) - 1, groups(columns) * GROUP == columns);
        if let Some(last) = depth.checked_sub(1) {
            let Left {
                row,
                step,
                segment,
                jump,
            } = self.left;
            let run = segment.min(depth);
            let far = (rows - 1) * row + last / segment * jump + (run - 1) * step;
            assert!(far < self.a.len(), "left operand too short");
            let far = last * self.right.row + last_group * self.right.group + GROUP;
            assert!(far <= self.b.len(), "right operand too short");
        }
        let tail = if whole { GROUP } else { columns % GROUP };
        let far = (rows - 1) * self.out.row + last_group * self.out.group + tail;
        assert!(far <= self.c.len(), "result too short");
        if let Start::Bias(bias) = self.start {
            assert!(rows <= bias.len(), "bias too short");
        }
    }
}

impl<E> Kernel for Product<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        const { assert!(size_of::<E>() == size_of::<f32>()) };
        if self.size.rows == 0 || self.size.columns == 0 {
            return;
        }
        self.check();
        let task = Task {
            size: self.size,
            a: self.a.as_ptr().cast(),
            left: self.left,
            b: self.b.as_ptr().cast(),
            right: self.right,
            c: self.c.as_mut_ptr(),
            out: self.out,
            start: match self.start {
                Start::Zero => tile::Start::Zero,
                Start::Bias(bias) => tile::Start::Bias(bias.as_ptr()),
                Start::Add => tile::Start::Add,
            },
        };
        // SAFETY: elements are as wide as floats; `check` has compared the furthest of them with
        // the lengths, and the borrows keep C apart from A and B.
        unsafe { tile::product::<V>(&task) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Simd;
    use super::*;

    fn numbers(n: usize, salt: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 37 + salt * 11) % 64) as f32 / 64.0 - 0.5)
            .collect()
    }

    /// Sizes around every edge of a tile, on every instruction set, against plain loops.
    #[test]
    fn every_edge_of_a_tile() {
        for simd in Simd::available() {
            let isa = Isa::detect(simd).unwrap();
            for rows_ in [1, 2, 3, 5, 11, 12, 13, 23, 31] {
                for columns in [1, 15, 16, 17, 32, 40, 48, 63] {
                    for depth in [0, 1, 16, 37] {
                        check(
                            isa,
                            Size {
                                rows: rows_,
                                columns,
                                depth,
                            },
                        );
                    }
                }
            }
        }
    }

    fn check(isa: Isa, size: Size) {
        let wide = groups(size.columns) * GROUP;
        let a = numbers(size.rows * size.depth, 1);
        let b = numbers(wide * size.depth, 2);
        let bias = numbers(size.rows, 3);
        let mut c = numbers(size.rows * size.columns, 4);
        let old = c.clone();
        for start in [Start::Bias(&bias), Start::Zero, Start::Add] {
            c.copy_from_slice(&old);
            Product {
                size,
                a: &a,
                left: straight(size.depth, size.depth.max(1)),
                b: &b,
                right: panels(size.depth),
                c: &mut c,
                out: rows(size.columns),
                start,
            }
            .run(isa);
            for i in 0..size.rows {
                for j in 0..size.columns {
                    let mut want = match start {
                        Start::Zero => 0.0,
                        Start::Bias(bias) => f64::from(bias[i]),
                        Start::Add => f64::from(old[i * size.columns + j]),
                    };
                    for k in 0..size.depth {
                        let right = b[(j / GROUP * size.depth + k) * GROUP + j % GROUP];
                        want += f64::from(a[i * size.depth + k]) * f64::from(right);
                    }
                    let got = f64::from(c[i * size.columns + j]);
                    assert!((got - want).abs() < 1e-5, "{isa:?} {i} {j}: {got} {want}");
                }
            }
        }
    }
}
