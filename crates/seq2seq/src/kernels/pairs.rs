//! bfloat16 by pairs: two neighbours along the depth of a product share one 32-bit word.
//!
//! A pair is as wide as a float, so the products of [`super::tile`] serve as they are: depth
//! counts pairs, and only [`Vector::add_product`] differs. Where the processor multiplies
//! pairs itself (AVX512-BF16) one instruction does; elsewhere the halves are taken apart and
//! multiplied in 32 bits, which is slower than f32 but the same numbers.
#![allow(unsafe_code)]

use super::kernel::Kernel;
use super::vector::Vector;

/// Two bfloat16, the first in the lower half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Pair(u32);

impl Pair {
    /// Both rounded to the nearest, ties to even.
    #[inline(always)]
    pub(crate) fn new(first: f32, second: f32) -> Self {
        Self(round(first) | round(second) << 16)
    }

    #[inline(always)]
    pub(crate) fn first(self) -> f32 {
        f32::from_bits(self.0 << 16)
    }

    #[inline(always)]
    pub(crate) fn second(self) -> f32 {
        f32::from_bits(self.0 & 0xffff_0000)
    }
}

#[inline(always)]
fn round(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // Rounding could carry not-a-number over into infinity or zero.
    if value.is_nan() { 0x7fc0 } else { rounded }
}

/// A register of pairs on any instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Pairs<V>(V);

/// The methods that mean the same for pairs, or are only ever used on sums.
macro_rules! as_before {
    ($inner:ty) => {
        const LANES: usize = <$inner>::LANES;
        const GROUPS: usize = <$inner>::GROUPS;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: this method's own contract.
            Self(unsafe { <$inner>::splat(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: this method's own contract.
            Self(unsafe { <$inner>::load(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: this method's own contract.
            unsafe { self.0.store(to) }
        }
        as_before!(@two add sub mul div max min scale_by_power);
        as_before!(@one low_halves high_halves);
    };
    (@two $($name:ident)*) => {
        $(#[inline(always)]
        unsafe fn $name(self, other: Self) -> Self {
            // SAFETY: this method's own contract.
            Self(unsafe { self.0.$name(other.0) })
        })*
    };
    (@one $($name:ident)*) => {
        $(#[inline(always)]
        unsafe fn $name(self) -> Self {
            // SAFETY: this method's own contract.
            Self(unsafe { self.0.$name() })
        })*
    };
}

impl<V: Vector> Vector for Pairs<V> {
    // Taking halves apart needs registers of its own.
    const ROWS: usize = if V::ROWS > 6 { 6 } else { V::ROWS };

    as_before!(V);

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: this method's own contract.
        unsafe {
            let low = self.0.add_product(a.0.low_halves(), b.0.low_halves());
            Self(low.add_product(a.0.high_halves(), b.0.high_halves()))
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use native::NativePairs;

#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::x86_64::{__m512bh, _mm512_dpbf16_ps};

    use super::super::vector::{Avx512, Vector};

    /// A register of pairs on AVX512-BF16.
    #[derive(Clone, Copy)]
    pub(crate) struct NativePairs(Avx512);

    impl Vector for NativePairs {
        const ROWS: usize = Avx512::ROWS;

        as_before!(Avx512);

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: both are plain registers of 512 bits, and the trait's contract says that
            // the processor has the instruction.
            unsafe {
                let pairs = |v: Self| std::mem::transmute::<_, __m512bh>(v.0.register());
                Self(Avx512::from_register(_mm512_dpbf16_ps(
                    self.0.register(),
                    pairs(a),
                    pairs(b),
                )))
            }
        }
    }
}

/// Pairs of neighbours in a row: `[rows][width]` to `[rows][width / 2]`, the last of an odd
/// width paired with zero.
pub(crate) struct Across<'a> {
    pub(crate) from: &'a [f32],
    pub(crate) width: usize,
    pub(crate) to: &'a mut [Pair],
}

impl Kernel for Across<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        if self.width.is_multiple_of(2) {
            for (to, from) in self.to.iter_mut().zip(self.from.chunks_exact(2)) {
                *to = Pair::new(from[0], from[1]);
            }
            return;
        }
        let rows = self.from.chunks_exact(self.width);
        for (to, from) in self.to.chunks_exact_mut(self.width.div_ceil(2)).zip(rows) {
            for (to, from) in to.iter_mut().zip(from.chunks(2)) {
                *to = Pair::new(from[0], from.get(1).copied().unwrap_or(0.0));
            }
        }
    }
}

/// Pairs of neighbouring rows: blocks of `[rows][width]` to `[rows / 2][width]`, the last of
/// an odd number paired with zero.
pub(crate) struct Down<'a> {
    pub(crate) from: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) to: &'a mut [Pair],
}

impl Kernel for Down<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let blocks = self.from.chunks_exact(self.rows * self.width);
        let to = self.to.chunks_exact_mut(self.rows.div_ceil(2) * self.width);
        for (to, from) in to.zip(blocks) {
            let rows = from.chunks(2 * self.width);
            for (to, from) in to.chunks_exact_mut(self.width).zip(rows) {
                let (first, second) = from.split_at(self.width);
                if second.is_empty() {
                    to.iter_mut()
                        .zip(first)
                        .for_each(|(to, &a)| *to = Pair::new(a, 0.0));
                    continue;
                }
                for ((to, &a), &b) in to.iter_mut().zip(first).zip(second) {
                    *to = Pair::new(a, b);
                }
            }
        }
    }
}

/// [`super::softmax::WeightedSums`] of pairs that lie [panels][words][8].
pub(crate) struct WeightedPairSums<'a> {
    pub(crate) values: &'a [Pair],
    pub(crate) factors: &'a [f32],
    pub(crate) to: &'a mut [f32],
}

impl Kernel for WeightedPairSums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let panels = self.values.chunks_exact(self.to.len() * 8);
        for (panel, factors) in panels.zip(self.factors.chunks_exact(16)) {
            for (to, pairs) in self.to.iter_mut().zip(panel.chunks_exact(8)) {
                let terms = pairs.iter().zip(factors.chunks_exact(2));
                *to += terms
                    .map(|(pair, f)| pair.first() * f[0] + pair.second() * f[1])
                    .sum::<f32>();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even() {
        // 1 + 2⁻⁸ lies halfway between 1 and 1 + 2⁻⁷; 1 + 3·2⁻⁸ between 1 + 2⁻⁷ and 1 + 2⁻⁶.
        let pair = Pair::new(1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0);
        assert_eq!((pair.first(), pair.second()), (1.0, 1.0 + 1.0 / 64.0));
        assert!(Pair::new(f32::from_bits(0x7fff_ffff), 0.0).first().is_nan());
        assert!(Pair::new(0.0, f32::INFINITY).second().is_infinite());
    }
}
