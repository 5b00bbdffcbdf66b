//! Dropout (Srivastava et al. 2014) whose masks are a function of a seed and a place.
//!
//! A mask is not kept for the way back but computed again. As it depends on the sentence's
//! number in the batch and not on who computes it, results do not depend on the threads.

use super::cell::Span;
use crate::kernels::GROUP;

/// The masks of one batch, of a stack, or of a layer in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout {
    key: u64,
    /// A unit is dropped where its 16 random bits are below this.
    below: u32,
    scale: f32,
    /// Number of the first sentence that is looked at, a multiple of 16.
    first_row: usize,
}

impl Dropout {
    /// Masks for a batch's sentences from `first_row` on, a multiple of 16; none where nothing is dropped.
    pub(crate) fn new(probability: f32, seed: u64, first_row: usize) -> Option<Self> {
        (probability > 0.0).then(|| Self {
            key: mix(seed),
            below: (probability * 65536.0).round() as u32,
            scale: 1.0 / (1.0 - probability),
            first_row,
        })
    }

    /// The masks of one stack of the model, for sentences from `first_row` of these on.
    pub(crate) fn stack(self, number: usize, first_row: usize) -> Self {
        let key = mix(self.key ^ (number as u64 + 1) << 32);
        Self {
            key,
            first_row: self.first_row + first_row,
            ..self
        }
    }

    /// The masks of the input of layer l.
    pub(crate) fn layer(self, l: usize) -> Self {
        Self {
            key: mix(self.key ^ (l as u64 + 1)),
            ..self
        }
    }

    /// Multiplies panels [steps][features] by 0 or by 1/(1 - p).
    pub(crate) fn apply(self, values: &mut [f32], span: Span, features: usize) {
        for (panel, values) in values.chunks_exact_mut(features * GROUP).enumerate() {
            let (step, group) = (panel / span.groups, panel % span.groups);
            let place = (self.first_row / GROUP + group) as u64;
            let key = mix(self.key ^ (place << 32 | step as u64));
            for (feature, row) in values.chunks_exact_mut(GROUP).enumerate() {
                for (quarter, lanes) in row.chunks_exact_mut(4).enumerate() {
                    let bits = mix(key.wrapping_add((feature * 4 + quarter) as u64));
                    for (i, value) in lanes.iter_mut().enumerate() {
                        let dropped = ((bits >> (16 * i)) & 0xffff) < u64::from(self.below);
                        *value *= if dropped { 0.0 } else { self.scale };
                    }
                }
            }
        }
    }
}

/// Steele, Lea & Flood's `SplitMix64`: each output is well mixed even for neighbouring inputs.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(seed: u64, layer: usize, first_row: usize, groups: usize) -> Vec<f32> {
        let span = Span { steps: 7, groups };
        let mut values = vec![1.0; span.columns() * 33];
        let dropout = Dropout::new(0.3, seed, 0)
            .unwrap()
            .stack(1, first_row)
            .layer(layer);
        dropout.apply(&mut values, span, 33);
        values
    }

    #[test]
    fn share_scale_and_mean() {
        let values = masked(1, 1, 0, 8);
        let dropped = values.iter().filter(|&&v| v == 0.0).count() as f32 / values.len() as f32;
        // 29,568 units: one standard deviation of the share is 0.0027.
        assert!((dropped - 0.3).abs() < 0.011, "{dropped}");
        assert!(
            values
                .iter()
                .all(|&v| v == 0.0 || (v * 0.7 - 1.0).abs() < 1e-6)
        );
    }

    #[test]
    fn every_step_seed_and_layer_has_its_own() {
        let values = masked(1, 1, 0, 1);
        let step = 33 * GROUP;
        assert_ne!(values[..step], values[step..2 * step]);
        assert_ne!(values, masked(2, 1, 0, 1));
        assert_ne!(values, masked(1, 2, 0, 1));
        assert_eq!(values, masked(1, 1, 0, 1));
    }

    #[test]
    fn a_sentence_has_the_same_mask_whoever_computes_it() {
        let all = masked(1, 1, 0, 2);
        let second = masked(1, 1, 16, 1);
        let panel = 33 * GROUP;
        for step in 0..7 {
            let at = (2 * step + 1) * panel;
            assert_eq!(
                all[at..at + panel],
                second[step * panel..(step + 1) * panel]
            );
        }
    }
}
