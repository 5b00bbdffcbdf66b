//! Matrix products: one tile of accumulators in registers, and the loops around it.
//!
//! A product is `C[i, j] (+)= Σ_k A[i, k]·B[k, j]`. The elements of A are broadcast one at a
//! time, so A may lie in any order: a weight matrix is read where it stands, transposed or
//! not, and nothing is packed. B and C lie in groups of 16 columns ([`GROUP`]).
//!
//! What this leaves out: blocking over k. Every product of this model has a depth of at
//! most some thousands, and the operands of one tile fit in the second-level cache.
#![allow(unsafe_code)]

use super::vector::{GROUP, Vector};

/// Where the elements of A lie: `[i, k]` at `i·row + (k / segment)·jump + (k % segment)·step`.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub(crate) row: usize,
    pub(crate) step: usize,
    /// Length of a run of k after which the address jumps; the depth itself where it never does.
    pub(crate) segment: usize,
    pub(crate) jump: usize,
}

/// Where the elements of B or C lie: `[i, j]` at `i·row + (j / 16)·group + j % 16`.
#[derive(Clone, Copy)]
pub(crate) struct Grouped {
    pub(crate) row: usize,
    pub(crate) group: usize,
}

/// The sizes of a product. `columns` are those of C; B is readable up to whole groups.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) depth: usize,
}

/// What the accumulators start from.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    /// Overwrite C.
    Zero,
    /// Overwrite C with the product plus one value a row, at this pointer.
    Bias(*const f32),
    /// Add to C.
    Add,
}

/// A product with its operands as raw pointers; `super::product` checks them.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    pub(crate) size: Size,
    pub(crate) a: *const f32,
    pub(crate) left: Left,
    pub(crate) b: *const f32,
    pub(crate) right: Grouped,
    pub(crate) c: *mut f32,
    pub(crate) out: Grouped,
    pub(crate) start: Start,
}

/// Runs the product, tile by tile.
///
/// # Safety
/// All elements that `task` names must be readable, those of C writable and not aliased.
#[inline(always)]
pub(crate) unsafe fn product<V: Vector>(task: &Task) {
    // Columns in blocks of which B stays in the second-level cache while all rows pass by.
    let groups = task.size.columns.div_ceil(GROUP);
    let block = (BLOCK_FLOATS / (task.size.depth.max(1) * GROUP)).max(2) & !1;
    let mut first = 0;
    while first < groups {
        let end = groups.min(first + block);
        let mut row = 0;
        while row < task.size.rows {
            let left = task.size.rows - row;
            // SAFETY: `rows` never passes the end; the rest is the caller's promise.
            unsafe {
                row += match left {
                    _ if left >= 12 && V::ROWS >= 12 => strip::<V, 12>(task, row, first, end),
                    _ if left >= 6 && V::ROWS >= 6 => strip::<V, 6>(task, row, first, end),
                    _ if left >= 3 => strip::<V, 3>(task, row, first, end),
                    _ => strip::<V, 1>(task, row, first, end),
                }
            }
        }
        first = end;
    }
}

/// Elements of B in one block of columns.
const BLOCK_FLOATS: usize = 100_000;

/// `ROWS` rows of C, the column groups `group .. end`; returns `ROWS`.
#[inline(always)]
unsafe fn strip<V: Vector, const ROWS: usize>(
    task: &Task,
    row: usize,
    mut group: usize,
    end: usize,
) -> usize {
    let whole = end.min(task.size.columns / GROUP);
    // SAFETY: as for `product`.
    unsafe {
        while group < whole {
            if V::GROUPS == 2 && group + 2 <= whole {
                tile::<V, ROWS, 2>(task, row, group);
                group += 2;
            } else {
                tile::<V, ROWS, 1>(task, row, group);
                group += 1;
            }
        }
        if group < end {
            ragged::<V, ROWS>(task, row, group);
        }
    }
    ROWS
}

/// The last columns where they do not fill a group: computed aside, then copied.
#[inline(always)]
unsafe fn ragged<V: Vector, const ROWS: usize>(task: &Task, row: usize, group: usize) {
    let mut aside = [0.0f32; 12 * GROUP];
    let columns = task.size.columns % GROUP;
    // SAFETY: `aside` holds ROWS <= 12 rows of a group; C is touched inside its columns only.
    unsafe {
        let at = |i: usize| {
            task.c
                .add((row + i) * task.out.row + group * task.out.group)
        };
        if matches!(task.start, Start::Add) {
            for i in 0..ROWS {
                at(i).copy_to_nonoverlapping(aside.as_mut_ptr().add(i * GROUP), columns);
            }
        }
        let inner = Task {
            a: task.a.add(row * task.left.row),
            b: task.b.add(group * task.right.group),
            c: aside.as_mut_ptr(),
            out: Grouped {
                row: GROUP,
                group: GROUP,
            },
            start: match task.start {
                Start::Bias(bias) => Start::Bias(bias.add(row)),
                other => other,
            },
            ..*task
        };
        tile::<V, ROWS, 1>(&inner, 0, 0);
        for i in 0..ROWS {
            at(i).copy_from_nonoverlapping(aside.as_ptr().add(i * GROUP), columns);
        }
    }
}

/// One tile: ROWS rows of C by GROUPS whole groups, held in registers over the whole depth.
#[inline(always)]
unsafe fn tile<V: Vector, const ROWS: usize, const GROUPS: usize>(
    task: &Task,
    row: usize,
    group: usize,
) {
    // Four vectors a group at most (four lanes); unused ones are never touched and vanish.
    let vectors = GROUP / V::LANES;
    // SAFETY: as for `product`; the addresses are those of the elements of this tile.
    unsafe {
        let zero = V::splat(0.0);
        let mut sums = [[[zero; 4]; GROUPS]; ROWS];
        let c = task.c.add(row * task.out.row + group * task.out.group);
        if let Start::Bias(bias) = task.start {
            for (i, sums) in sums.iter_mut().enumerate() {
                *sums = [[V::splat(*bias.add(row + i)); 4]; GROUPS];
            }
        }
        if V::LANES == GROUP {
            for i in 0..ROWS {
                prefetch(c.add(i * task.out.row));
                if GROUPS == 2 {
                    prefetch(c.add(i * task.out.row + task.out.group));
                }
            }
        }
        let mut a_run = task.a.add(row * task.left.row);
        let mut b = task.b.add(group * task.right.group);
        let mut k = 0;
        while k < task.size.depth {
            let end = task.size.depth.min(k + task.left.segment);
            let mut a = a_run;
            while k < end {
                let mut right = [[zero; 4]; GROUPS];
                for (g, right) in right.iter_mut().enumerate() {
                    for (v, right) in right.iter_mut().take(vectors).enumerate() {
                        *right = V::load(b.add(g * task.right.group + v * V::LANES));
                    }
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let left = V::splat(*a.add(i * task.left.row));
                    for (sums, right) in sums.iter_mut().zip(&right) {
                        for v in 0..vectors {
                            sums[v] = sums[v].add_product(left, right[v]);
                        }
                    }
                }
                a = a.add(task.left.step);
                b = b.add(task.right.row);
                k += 1;
            }
            a_run = a_run.add(task.left.jump);
        }
        for (i, sums) in sums.iter().enumerate() {
            for (g, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().take(vectors).enumerate() {
                    let to = c.add(i * task.out.row + g * task.out.group + v * V::LANES);
                    match task.start {
                        Start::Add => V::load(to).add(sum).store(to),
                        _ => sum.store(to),
                    }
                }
            }
        }
    }
}

/// Asks for a cache line that will be written at the end of the tile.
#[inline(always)]
unsafe fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
