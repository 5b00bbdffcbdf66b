//! exp, tanh and the logistic function of a register.
//!
//! Errors are within a few units in the last place. Not-a-number passes through.
#![allow(unsafe_code)]

use std::f32::consts::LOG2_E;

use super::vector::Vector;

/// ln 2 in two parts, the first with zeros at its end so that `n·LN_2_HIGH` is exact.
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting 1.5·2²³ rounds to the nearest integer.
const ROUND: f32 = 12_582_912.0;

/// `x = n·ln 2 + r`: returns `n` and `(exp(r) - 1)`.
///
/// # Safety
/// As for all of [`Vector`].
#[inline(always)]
unsafe fn reduce<V: Vector>(x: V) -> (V, V) {
    // SAFETY: the caller's.
    unsafe {
        let n = V::splat(ROUND)
            .add_product(x, V::splat(LOG2_E))
            .sub(V::splat(ROUND));
        let r = x
            .add_product(n, V::splat(-LN_2_HIGH))
            .add_product(n, V::splat(-LN_2_LOW));
        // Taylor's series: |r| <= ln 2 / 2, so the first term left out is below 1e-8.
        let mut sum = V::splat(1.0 / 5040.0);
        for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
            sum = V::splat(c).add_product(sum, r);
        }
        (n, r.add_product(sum, r.mul(r)))
    }
}

/// e to the x, `x` held within -87 ..= 88 first.
///
/// # Safety
/// As for all of [`Vector`].
#[inline(always)]
pub(crate) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller's.
    unsafe {
        let (n, less_one) = reduce(V::splat(88.0).min(V::splat(-87.0).max(x)));
        V::splat(1.0).add(less_one).scale_by_power(n)
    }
}

/// `1 / (1 + exp(-x))`.
///
/// # Safety
/// As for all of [`Vector`].
#[inline(always)]
pub(crate) unsafe fn sigmoid<V: Vector>(x: V) -> V {
    // SAFETY: the caller's.
    unsafe {
        let one = V::splat(1.0);
        one.div(one.add(exp(V::splat(0.0).sub(x))))
    }
}

/// `t / (t + 2)` with `t = exp(2x) - 1`, which keeps its relative precision around zero.
///
/// # Safety
/// As for all of [`Vector`].
#[inline(always)]
pub(crate) unsafe fn tanh<V: Vector>(x: V) -> V {
    // SAFETY: the caller's.
    unsafe {
        let twice = V::splat(20.0).min(V::splat(-20.0).max(x.add(x)));
        let (n, less_one) = reduce(twice);
        let power = V::splat(1.0).scale_by_power(n);
        let t = power.sub(V::splat(1.0)).add_product(less_one, power);
        t.div(t.add(V::splat(2.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Isa, Simd, kernel::Kernel};
    use super::*;

    struct All<'a>(&'a [f32; 16], &'a mut [[f32; 16]; 3]);

    impl Kernel for All<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<V: Vector>(self) {
            for at in (0..16).step_by(V::LANES) {
                // SAFETY: all arrays have 16 elements.
                unsafe {
                    let x = V::load(self.0.as_ptr().add(at));
                    exp(x).store(self.1[0].as_mut_ptr().add(at));
                    sigmoid(x).store(self.1[1].as_mut_ptr().add(at));
                    tanh(x).store(self.1[2].as_mut_ptr().add(at));
                }
            }
        }
    }

    #[test]
    fn functions_agree_with_f64() {
        for simd in Simd::available() {
            let isa = Isa::detect(simd).unwrap();
            for step in -400..400 {
                let x: [f32; 16] =
                    std::array::from_fn(|i| (step as f32 + i as f32 / 16.0) * 0.0217);
                let mut y = [[0.0; 16]; 3];
                isa.run(All(&x, &mut y));
                for (i, &x) in x.iter().enumerate() {
                    let x = f64::from(x);
                    let want = [x.exp(), 1.0 / (1.0 + (-x).exp()), x.tanh()];
                    for (got, want) in y.iter().zip(want) {
                        let error = (f64::from(got[i]) - want).abs();
                        assert!(
                            error <= 4e-7 * want.abs(),
                            "{simd:?} {x}: {} {want}",
                            got[i]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn not_a_number_stays_and_infinities_saturate() {
        for simd in Simd::available() {
            let isa = Isa::detect(simd).unwrap();
            let mut x = [f32::NAN; 16];
            x[..2].copy_from_slice(&[f32::INFINITY, f32::NEG_INFINITY]);
            let mut y = [[0.0; 16]; 3];
            isa.run(All(&x, &mut y));
            assert!(
                y.iter().all(|y| y[2..].iter().all(|y| y.is_nan())),
                "{simd:?}"
            );
            assert_eq!((y[1][0], y[2][0], y[2][1]), (1.0, 1.0, -1.0), "{simd:?}");
            assert!(y[0][1] < 1e-37 && y[1][1] < 1e-37, "{simd:?}");
        }
    }
}
