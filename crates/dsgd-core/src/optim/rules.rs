//! The formulas. In all of them g is `scale · gradient + weight_decay · p` (L2
//! regularisation; `adamw` alone leaves the last term out of g), μ is `momentum` and η the
//! learning rate. Every operation rounds once, as IEEE 754 says: no fused multiply-add, so
//! that all machines agree.

use super::optimizer::{Hyper, MAX_STATE, Optimizer, StepSize};

/// p ← p + gradient, as it is: neither η nor the scale is of any account
pub struct Adding;

impl Optimizer for Adding {
    fn state_names(&self) -> &'static [&'static str] {
        &[]
    }

    fn update(
        &self,
        _number: u64,
        _: StepSize,
        params: &mut [f32],
        gradient: &[f32],
        _: [&mut [f32]; MAX_STATE],
    ) {
        for (p, g) in params.iter_mut().zip(gradient) {
            *p += g;
        }
    }
}

/// p ← p - η g
pub(super) struct Sgd(pub(super) Hyper);

impl Optimizer for Sgd {
    fn state_names(&self) -> &'static [&'static str] {
        &[]
    }

    fn update(
        &self,
        _number: u64,
        size: StepSize,
        params: &mut [f32],
        gradient: &[f32],
        _: [&mut [f32]; MAX_STATE],
    ) {
        let (rate, scale, decay) = (size.learning_rate, size.scale, self.0.weight_decay);
        for (p, g) in params.iter_mut().zip(gradient) {
            let g = scale * g + decay * *p;
            *p -= rate * g;
        }
    }
}

/// v ← μ v + g, p ← p - η v (Polyak 1964, in the form of Sutskever et al. 2013 with the
/// learning rate outside v, as `PyTorch` has it)
pub(super) struct Momentum(pub(super) Hyper);

impl Optimizer for Momentum {
    fn state_names(&self) -> &'static [&'static str] {
        &["velocity"]
    }

    fn update(
        &self,
        _number: u64,
        size: StepSize,
        params: &mut [f32],
        gradient: &[f32],
        [velocity, _]: [&mut [f32]; MAX_STATE],
    ) {
        let (rate, scale, decay) = (size.learning_rate, size.scale, self.0.weight_decay);
        let momentum = self.0.momentum;
        for ((p, g), v) in params.iter_mut().zip(gradient).zip(velocity) {
            let g = scale * g + decay * *p;
            *v = momentum * *v + g;
            *p -= rate * *v;
        }
    }
}

/// v ← μ v + g, p ← p - η (g + μ v) (Nesterov 1983, in the form of Bengio et al. 2013,
/// which evaluates the gradient at p itself)
pub(super) struct Nesterov(pub(super) Hyper);

impl Optimizer for Nesterov {
    fn state_names(&self) -> &'static [&'static str] {
        &["velocity"]
    }

    fn update(
        &self,
        _number: u64,
        size: StepSize,
        params: &mut [f32],
        gradient: &[f32],
        [velocity, _]: [&mut [f32]; MAX_STATE],
    ) {
        let (rate, scale, decay) = (size.learning_rate, size.scale, self.0.weight_decay);
        let momentum = self.0.momentum;
        for ((p, g), v) in params.iter_mut().zip(gradient).zip(velocity) {
            let g = scale * g + decay * *p;
            *v = momentum * *v + g;
            *p -= rate * (g + momentum * *v);
        }
    }
}

/// h ← h + g², p ← p - η g / √(1e-9 + h) (Duchi et al. 2011; the constant, and its place
/// inside the root, are those of Distributed-SGD lua-lua)
pub(super) struct Adagrad(pub(super) Hyper);

impl Optimizer for Adagrad {
    fn state_names(&self) -> &'static [&'static str] {
        &["hist"]
    }

    fn update(
        &self,
        _number: u64,
        size: StepSize,
        params: &mut [f32],
        gradient: &[f32],
        [hist, _]: [&mut [f32]; MAX_STATE],
    ) {
        let (rate, scale, decay) = (size.learning_rate, size.scale, self.0.weight_decay);
        for ((p, g), h) in params.iter_mut().zip(gradient).zip(hist) {
            let g = scale * g + decay * *p;
            *h += g * g;
            *p -= rate * g / (1e-9 + *h).sqrt();
        }
    }
}

/// m ← β₁ m + (1-β₁) g, v ← β₂ v + (1-β₂) g²,
/// p ← p - η (m / (1-β₁ᵗ)) / (√(v / (1-β₂ᵗ)) + ε) (Kingma & Ba 2015, algorithm 1)
pub(super) struct Adam(pub(super) Hyper);

impl Optimizer for Adam {
    fn state_names(&self) -> &'static [&'static str] {
        &["mean", "square"]
    }

    fn update(
        &self,
        number: u64,
        size: StepSize,
        params: &mut [f32],
        gradient: &[f32],
        [mean, square]: [&mut [f32]; MAX_STATE],
    ) {
        let adam = Moments::new(&self.0, number, size.learning_rate);
        let (scale, decay) = (size.scale, self.0.weight_decay);
        let state = mean.iter_mut().zip(square);
        for ((p, g), (m, v)) in params.iter_mut().zip(gradient).zip(state) {
            let g = scale * g + decay * *p;
            *p -= adam.step(g, m, v);
        }
    }
}

/// p ← p - η λ p with λ the weight decay, then as Adam with λ = 0 (Loshchilov & Hutter 2019,
/// algorithm 2 with the schedule inside η)
pub(super) struct Adamw(pub(super) Hyper);

impl Optimizer for Adamw {
    fn state_names(&self) -> &'static [&'static str] {
        &["mean", "square"]
    }

    fn update(
        &self,
        number: u64,
        size: StepSize,
        params: &mut [f32],
        gradient: &[f32],
        [mean, square]: [&mut [f32]; MAX_STATE],
    ) {
        let adam = Moments::new(&self.0, number, size.learning_rate);
        let (scale, decay) = (size.scale, size.learning_rate * self.0.weight_decay);
        let state = mean.iter_mut().zip(square);
        for ((p, g), (m, v)) in params.iter_mut().zip(gradient).zip(state) {
            *p -= decay * *p;
            *p -= adam.step(scale * g, m, v);
        }
    }
}

/// What Adam's formula needs besides the element, computed once a piece.
struct Moments {
    beta1: f32,
    beta2: f32,
    /// 1 - β₁, and 1 - β₂
    new1: f32,
    new2: f32,
    /// η / (1-β₁ᵗ)
    rate: f32,
    /// 1 / (1-β₂ᵗ)
    unbias2: f32,
    epsilon: f32,
}

impl Moments {
    fn new(hyper: &Hyper, number: u64, rate: f32) -> Self {
        // Powers in f64: 1 - 0.999ᵗ loses half of f32's digits at t = 1.
        let unbias = |beta: f32| 1.0 - f64::from(beta).powf(number as f64);
        Self {
            beta1: hyper.beta1,
            beta2: hyper.beta2,
            new1: 1.0 - hyper.beta1,
            new2: 1.0 - hyper.beta2,
            rate: (f64::from(rate) / unbias(hyper.beta1)) as f32,
            unbias2: (1.0 / unbias(hyper.beta2)) as f32,
            epsilon: hyper.epsilon,
        }
    }

    #[inline]
    fn step(&self, g: f32, m: &mut f32, v: &mut f32) -> f32 {
        *m = self.beta1 * *m + self.new1 * g;
        *v = self.beta2 * *v + self.new2 * (g * g);
        self.rate * *m / ((*v * self.unbias2).sqrt() + self.epsilon)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact results are what is tested")]
mod tests {
    use crate::optim::{Hyper, OptimizerKind, StepSize};

    /// One parameter from 1, through the given gradients.
    fn path<const N: usize>(kind: OptimizerKind, hyper: Hyper, rate: f32, g: [f32; N]) -> [f32; N] {
        let rule = kind.build(hyper);
        let (mut params, mut state) = ([1.0], [[0.0; 1]; 2]);
        let size = StepSize {
            learning_rate: rate,
            scale: 1.0,
        };
        let mut number = 0;
        g.map(|g| {
            number += 1;
            let mut places = state.iter_mut().map(|vector| &mut vector[..]);
            let state = std::array::from_fn(|at| {
                let vector = places.next().filter(|_| at < rule.state_names().len());
                vector.unwrap_or_default()
            });
            rule.update(number, size, &mut params, &[g], state);
            params[0]
        })
    }

    const HALVES: Hyper = Hyper {
        momentum: 0.5,
        beta1: 0.5,
        beta2: 0.75,
        epsilon: 0.0,
        weight_decay: 0.0,
    };

    /// By hand, with numbers that binary fractions hold exactly.
    #[test]
    fn sgd_and_momentum_by_hand() {
        // 1 - 0.25 · 0.5, twice.
        let sgd = path(OptimizerKind::Sgd, HALVES, 0.25, [0.5, 0.5]);
        assert_eq!(sgd, [0.875, 0.75]);
        // v = 0.5, then 0.5 · 0.5 + 0.5 = 0.75.
        let momentum = path(OptimizerKind::Momentum, HALVES, 0.25, [0.5, 0.5]);
        assert_eq!(momentum, [0.875, 0.6875]);
        // g + v/2 = 0.75, then 0.875.
        let nesterov = path(OptimizerKind::Nesterov, HALVES, 0.25, [0.5, 0.5]);
        assert_eq!(nesterov, [0.8125, 0.59375]);
        // g + 0.5 p = 1, then 0.5 + 0.375.
        let decaying = Hyper {
            weight_decay: 0.5,
            ..HALVES
        };
        let decayed = path(OptimizerKind::Sgd, decaying, 0.25, [0.5, 0.5]);
        assert_eq!(decayed, [0.75, 0.53125]);
    }

    /// By hand: h = 9, then 9 + 16 = 25; 1e-9 vanishes beside them. The third case is the
    /// ancestor's constant alone: a gradient of 1e-6 gives h = 1e-12, and
    /// 1e-6 / √(1e-9 + 1e-12) = 0.0316070…
    #[test]
    fn adagrad_by_hand() {
        let adagrad = |rate, g| path(OptimizerKind::Adagrad, HALVES, rate, g);
        assert_eq!(adagrad(1.0, [3.0, 4.0]), [0.0, -0.8]);
        let [small, _] = adagrad(1.0, [1e-6, 0.0]);
        assert!((small - (1.0 - 0.031_607)).abs() < 1e-6, "{small}");
        assert_eq!(adagrad(1.0, [0.0, 0.0]), [1.0, 1.0]);
    }

    /// By hand from algorithm 1 of Kingma & Ba with β₁ = ½, β₂ = ¾: m̂ = 2 and v̂ = 4 give a step
    /// of 1 · η; then g = 0 leaves m̂ = 0.5 / 0.75, v̂ = 0.75 / 0.4375, a step of 0.509175 · η.
    #[test]
    fn adam_by_hand() {
        let close = |found: [f32; 2], wanted: [f32; 2]| {
            let far = found.iter().zip(wanted).map(|(f, w)| (f - w).abs());
            assert!(far.fold(0.0, f32::max) < 1e-7, "{found:?} {wanted:?}");
        };
        let plain = [0.75, 0.622_706_2];
        close(path(OptimizerKind::Adam, HALVES, 0.25, [2.0, 0.0]), plain);
        close(path(OptimizerKind::Adamw, HALVES, 0.25, [2.0, 0.0]), plain);
        // λ = ½: the parameter first shrinks by 1/8 of itself, whatever the gradient.
        let decaying = Hyper {
            weight_decay: 0.5,
            ..HALVES
        };
        let adamw = path(OptimizerKind::Adamw, decaying, 0.25, [2.0, 0.0]);
        close(adamw, [0.875 - 0.25, 0.625 * 0.875 - 0.127_293_8]);
        // In plain Adam it is part of g: 2 + ½, but the first step is ±η for any g.
        let adam = path(OptimizerKind::Adam, decaying, 0.25, [2.0, 0.0]);
        assert_eq!(adam[0], 0.75);
    }
}
