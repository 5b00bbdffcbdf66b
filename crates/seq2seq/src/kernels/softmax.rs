//! exp of a block of logits in place, with running sums a column.
//!
//! The softmax of a column needs the sum over the whole vocabulary, but a block is turned
//! into exponentials while it is in the cache, before later blocks are known. So each column
//! has a **reference**: the largest logit of the first block. Exponentials are taken relative
//! to it, and any reference will do as long as nothing overflows: floats have the same
//! relative precision everywhere. Only where a later logit passes the reference by more than
//! [`ROOM`] is the column scaled down, which hardly ever happens.
#![allow(unsafe_code)]

use super::kernel::Kernel;
use super::math::exp;
use super::vector::{GROUP, Vector};

/// How far a logit may lie above its column's reference: e^60 times a vocabulary of any
/// size is far from overflow.
pub(crate) const ROOM: f32 = 60.0;

/// The largest logit of each column of one panel `[words][16]`, not less than `most` was.
/// What is not a number is passed over; it shows in the sums.
pub(crate) struct Largest<'a> {
    pub(crate) logits: &'a [f32],
    pub(crate) most: &'a mut [f32; GROUP],
}

impl Kernel for Largest<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.logits.len();
        assert!(n.is_multiple_of(GROUP));
        for lane in (0..GROUP).step_by(V::LANES) {
            // SAFETY: `lane + LANES <= 16`, and n is a multiple of 16.
            unsafe {
                let mut most = V::load(self.most.as_ptr().add(lane));
                for at in (lane..n).step_by(GROUP) {
                    most = V::load(self.logits.as_ptr().add(at)).max(most);
                }
                most.store(self.most.as_mut_ptr().add(lane));
            }
        }
    }
}

/// `exp(logit - reference)` in place for one panel `[words][16]`; returns the sum of each column.
pub(crate) struct Exponentials<'a> {
    pub(crate) logits: &'a mut [f32],
    pub(crate) reference: &'a [f32; GROUP],
}

impl Kernel for Exponentials<'_> {
    type Output = [f32; GROUP];

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> [f32; GROUP] {
        let n = self.logits.len();
        assert!(n.is_multiple_of(GROUP));
        let mut sums = [0.0; GROUP];
        for lane in (0..GROUP).step_by(V::LANES) {
            // SAFETY: `lane + LANES <= 16`, and n is a multiple of 16.
            unsafe {
                let reference = V::load(self.reference.as_ptr().add(lane));
                let mut sum = V::splat(0.0);
                for at in (lane..n).step_by(GROUP) {
                    let to = self.logits.as_mut_ptr().add(at);
                    let e = exp(V::load(to).sub(reference));
                    e.store(to);
                    sum = sum.add(e);
                }
                sum.store(sums.as_mut_ptr().add(lane));
            }
        }
        sums
    }
}

/// For each word of a block `[panels][words][16]` the sum over all columns of its values
/// times one factor a column, added to `to`: the gradient of the words' biases.
pub(crate) struct WeightedSums<'a> {
    pub(crate) values: &'a [f32],
    /// One a column: [panels][16].
    pub(crate) factors: &'a [f32],
    /// One a word.
    pub(crate) to: &'a mut [f32],
}

impl Kernel for WeightedSums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let words = self.to.len();
        assert!(self.factors.len().is_multiple_of(GROUP));
        assert!(self.values.len() == words * self.factors.len());
        for (word, to) in self.to.iter_mut().enumerate() {
            let mut lanes = [0.0f32; GROUP];
            for lane in (0..GROUP).step_by(V::LANES) {
                // SAFETY: panel p, word w and lane l lie at (p·words + w)·16 + l, below the
                // length that was compared above.
                unsafe {
                    let mut sum = V::splat(0.0);
                    for panel in 0..self.factors.len() / GROUP {
                        let at = (panel * words + word) * GROUP + lane;
                        let value = V::load(self.values.as_ptr().add(at));
                        let factor = V::load(self.factors.as_ptr().add(panel * GROUP + lane));
                        sum = sum.add_product(value, factor);
                    }
                    sum.store(lanes.as_mut_ptr().add(lane));
                }
            }
            *to += lanes.iter().sum::<f32>();
        }
    }
}
