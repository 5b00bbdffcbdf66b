//! What is compiled once for every instruction set.
#![allow(unsafe_code)]

use super::vector::Vector;

/// Something to compute with registers of a kind that is not known yet.
pub(crate) trait Kernel {
    type Output;

    /// The computation. Implementations are `#[inline(always)]`, so that the instruction set
    /// of the calling function applies to them.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`.
    unsafe fn run<V: Vector>(self) -> Self::Output;
}
