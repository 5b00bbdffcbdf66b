//! From an instruction set chosen at run time to code compiled for it, and work for threads.
#![allow(unsafe_code)]

use super::kernel::Kernel;
use super::options::Simd;
#[cfg(target_arch = "x86_64")]
use super::pairs::NativePairs;
use super::pairs::Pairs;
use super::vector::Portable;
#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Avx512};

/// An instruction set that this processor is known to have: only [`Isa::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isa(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The instruction set of that name, where the processor has it.
    pub(crate) fn detect(simd: Simd) -> Option<Self> {
        match simd {
            Simd::Auto => [Simd::Avx512, Simd::Avx2, Simd::Portable]
                .into_iter()
                .find_map(Self::detect),
            Simd::Portable => Some(Self(Level::Portable)),
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"))
                .then_some(Self(Level::Avx2)),
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => is_x86_feature_detected!("avx512f").then_some(Self(Level::Avx512)),
            #[cfg(not(target_arch = "x86_64"))]
            Simd::Avx2 | Simd::Avx512 => None,
        }
    }

    /// Runs a product of pairs compiled for this instruction set.
    pub(crate) fn run_pairs<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: a value of this type exists only for a set that the processor has, and the
        // one instruction beyond it is asked for here.
        unsafe {
            match self.0 {
                Level::Portable => kernel.run::<Pairs<Portable>>(),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => avx2_pairs(kernel),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 if is_x86_feature_detected!("avx512bf16") => avx512_pairs(kernel),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => avx512_emulated_pairs(kernel),
            }
        }
    }

    /// Runs a kernel compiled for this instruction set.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: a value of this type exists only for a set that the processor has.
        unsafe {
            match self.0 {
                Level::Portable => kernel.run::<Portable>(),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => avx2(kernel),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => avx512(kernel),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's own contract.
    unsafe { kernel.run::<Avx2>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's own contract.
    unsafe { kernel.run::<Avx512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_pairs<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's own contract.
    unsafe { kernel.run::<Pairs<Avx2>>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512_pairs<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's own contract.
    unsafe { kernel.run::<NativePairs>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512_emulated_pairs<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's own contract.
    unsafe { kernel.run::<Pairs<Avx512>>() }
}

/// Runs each job, all but the first on threads of their own, and waits for all of them.
///
/// A thread costs some 30 µs to start and a step starts a few dozen: less than a thousandth
/// of it, and there is no pool to shut down.
pub(crate) fn each<J: Send>(jobs: impl IntoIterator<Item = J>, work: impl Fn(J) + Sync) {
    let mut jobs = jobs.into_iter();
    let Some(first) = jobs.next() else { return };
    let work = &work;
    std::thread::scope(|scope| {
        for job in jobs {
            scope.spawn(move || work(job));
        }
        work(first);
    });
}

impl Simd {
    /// Every choice that this processor can run, `Auto` left out.
    pub fn available() -> Vec<Simd> {
        [Simd::Portable, Simd::Avx2, Simd::Avx512]
            .into_iter()
            .filter(|&simd| Isa::detect(simd).is_some())
            .collect()
    }
}
