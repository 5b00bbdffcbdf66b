//! One vector register of `f32`, and the instruction sets that have one.
//!
//! Every kernel is written once over [`Vector`] and compiled once for each set: AVX-512,
//! AVX2 with FMA, and a portable one that the compiler turns into SSE2 or NEON. Which one
//! runs is decided when a workspace is made, so that a test can force each of them.
#![allow(unsafe_code)]

/// Lanes of one group: the width in which all panels are stored, whatever the register width.
pub(crate) const GROUP: usize = 16;

/// A register of `LANES` floats; `LANES` divides [`GROUP`].
///
/// # Safety
/// Every method needs the instruction set of its implementation, so a call must stand
/// below a function with that `target_feature`; [`super::Isa::run`] is the only way in.
pub(crate) trait Vector: Copy {
    const LANES: usize;
    /// Rows of the largest tile of accumulators that fits in the registers.
    const ROWS: usize;
    /// Groups of the same tile.
    const GROUPS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self + a·b`.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// The larger; `other` where one is not a number.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller; `other` where one is not a number.
    unsafe fn min(self, other: Self) -> Self;
    /// `self · 2ⁿ` for an integer-valued `n` in -126 ..= 127.
    unsafe fn scale_by_power(self, n: Self) -> Self;
    /// The lower 16 bits of each lane as a bfloat16.
    unsafe fn low_halves(self) -> Self;
    /// The upper 16 bits of each lane as a bfloat16.
    unsafe fn high_halves(self) -> Self;
}

/// Four lanes in plain Rust: SSE2 on x86-64, NEON on aarch64.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(crate) struct Portable([f32; 4]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Vector for Portable {
    const LANES: usize = 4;
    const ROWS: usize = if cfg!(target_arch = "aarch64") { 6 } else { 3 };
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for four readable floats; no alignment is assumed.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for four writable floats; no alignment is assumed.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // Without a fused instruction `mul_add` would be a slow library call.
        Self(std::array::from_fn(|i| {
            if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                a.0[i].mul_add(b.0[i], self.0[i])
            } else {
                a.0[i] * b.0[i] + self.0[i]
            }
        }))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn scale_by_power(self, n: Self) -> Self {
        // Adding 1.5·2²³ leaves the integer in the low bits of the float, without a conversion
        // that the compiler would have to guard.
        self.zip(n, |x, n| {
            let bits = (n + 12_582_912.0).to_bits();
            x * f32::from_bits(bits.wrapping_add(127) << 23)
        })
    }
    #[inline(always)]
    unsafe fn low_halves(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(x.to_bits() << 16)))
    }
    #[inline(always)]
    unsafe fn high_halves(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(x.to_bits() & 0xffff_0000)))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps, _mm256_castps_si256,
        _mm256_castsi256_ps, _mm256_cvtps_epi32, _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps,
        _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_ps, _mm512_and_si512,
        _mm512_castps_si512, _mm512_castsi512_ps, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_scalef_ps, _mm512_set1_epi32,
        _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
    };

    use super::Vector;

    /// Eight lanes of AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    /// Sixteen lanes of AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    // SAFETY (both implementations): the trait's contract puts each call below a function with
    // the instruction set enabled, and the caller vouches for the memory behind pointers.
    macro_rules! elementwise {
        ($($name:ident = $intrinsic:ident),*) => {
            $(#[inline(always)]
            unsafe fn $name(self, other: Self) -> Self {
                // SAFETY: see the trait's contract.
                Self(unsafe { $intrinsic(self.0, other.0) })
            })*
        };
    }

    impl Vector for Avx2 {
        const LANES: usize = 8;
        const ROWS: usize = 6;
        const GROUPS: usize = 1;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see the trait's contract.
            Self(unsafe { _mm256_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see the trait's contract.
            Self(unsafe { _mm256_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the trait's contract.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: see the trait's contract.
            Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }
        elementwise!(
            add = _mm256_add_ps,
            sub = _mm256_sub_ps,
            mul = _mm256_mul_ps,
            div = _mm256_div_ps,
            max = _mm256_max_ps,
            min = _mm256_min_ps
        );
        #[inline(always)]
        unsafe fn scale_by_power(self, n: Self) -> Self {
            // SAFETY: see the trait's contract.
            unsafe {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.0), _mm256_set1_epi32(127));
                let power = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent));
                Self(_mm256_mul_ps(self.0, power))
            }
        }
        #[inline(always)]
        unsafe fn low_halves(self) -> Self {
            // SAFETY: see the trait's contract.
            unsafe {
                let bits = _mm256_slli_epi32::<16>(_mm256_castps_si256(self.0));
                Self(_mm256_castsi256_ps(bits))
            }
        }
        #[inline(always)]
        unsafe fn high_halves(self) -> Self {
            // SAFETY: see the trait's contract.
            unsafe {
                let mask = _mm256_castsi256_ps(_mm256_set1_epi32(-0x1_0000));
                Self(_mm256_and_ps(self.0, mask))
            }
        }
    }

    impl Vector for Avx512 {
        const LANES: usize = 16;
        const ROWS: usize = 12;
        const GROUPS: usize = 2;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see the trait's contract.
            Self(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see the trait's contract.
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the trait's contract.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: see the trait's contract.
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }
        elementwise!(
            add = _mm512_add_ps,
            sub = _mm512_sub_ps,
            mul = _mm512_mul_ps,
            div = _mm512_div_ps,
            max = _mm512_max_ps,
            min = _mm512_min_ps,
            scale_by_power = _mm512_scalef_ps
        );
        #[inline(always)]
        unsafe fn low_halves(self) -> Self {
            // SAFETY: see the trait's contract.
            unsafe {
                let bits = _mm512_slli_epi32::<16>(_mm512_castps_si512(self.0));
                Self(_mm512_castsi512_ps(bits))
            }
        }
        #[inline(always)]
        unsafe fn high_halves(self) -> Self {
            // SAFETY: see the trait's contract.
            unsafe {
                let mask = _mm512_set1_epi32(-0x1_0000);
                let bits = _mm512_and_si512(_mm512_castps_si512(self.0), mask);
                Self(_mm512_castsi512_ps(bits))
            }
        }
    }

    impl Avx512 {
        #[inline(always)]
        pub(crate) fn register(self) -> __m512 {
            self.0
        }
        #[inline(always)]
        pub(crate) fn from_register(register: __m512) -> Self {
            Self(register)
        }
    }
}
