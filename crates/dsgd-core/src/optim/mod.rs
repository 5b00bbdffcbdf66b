//! Optimizers: how a gradient moves the parameters.
//!
//! An [`Optimizer`] is a formula on a contiguous piece of the flat vector, nothing
//! else; the formulas are in `rules`. Who owns the state that a formula carries from step to
//! step, and runs it over all tensors of a layout, is the engine's store. A [`Schedule`] says
//! how large a step is.
//!
//! Everything here is element by element, so the result is the same bit for bit
//! however the vector is cut into pieces, whether it is updated in place or into
//! another buffer, with any number of threads and on any instruction set.
//!
//! Tables of rows are updated *lazily*: a row that the gradient does not touch stays as
//! it is, and so does its state. For `sgd` and `adagrad` that is exactly what a zero
//! gradient does. For the others it is not: a dense optimizer would let momentum run on,
//! and weight decay shrink the row, in every step (`PyTorch`'s `SparseAdam` is lazy in
//! the same way). The step number of Adam's bias correction counts all steps, not
//! those of the row.
//!
//! Not here: whether a gradient is fit to be applied (finite, not too stale). That is
//! asked before, by the core.

mod optimizer;
mod rules;
mod schedule;

use serde::{Deserialize, Serialize};

pub use optimizer::{Hyper, MAX_STATE, OptimError, Optimizer, StepSize};
pub use rules::Adding;
pub use schedule::{Decayed, LrSchedule, Schedule, ScheduleOptions, ScheduleState};

/// Which optimizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Plain gradient descent.
    Sgd,
    /// Heavy-ball momentum.
    Momentum,
    /// Nesterov's momentum.
    Nesterov,
    /// A step size for each parameter, falling with its past gradients.
    #[default]
    Adagrad,
    /// Running mean over running root mean square of the gradients.
    Adam,
    /// Adam with decoupled weight decay.
    Adamw,
}

impl OptimizerKind {
    /// The optimizer of that name.
    pub fn build(self, hyper: Hyper) -> Box<dyn Optimizer> {
        match self {
            Self::Sgd => Box::new(rules::Sgd(hyper)),
            Self::Momentum => Box::new(rules::Momentum(hyper)),
            Self::Nesterov => Box::new(rules::Nesterov(hyper)),
            Self::Adagrad => Box::new(rules::Adagrad(hyper)),
            Self::Adam => Box::new(rules::Adam(hyper)),
            Self::Adamw => Box::new(rules::Adamw(hyper)),
        }
    }
}

/// The factor that brings a gradient of Euclidean norm `norm` down to `max_norm`: 1 when
/// it is not above it, `max_norm / norm` otherwise (Pascanu et al. 2013, algorithm 1).
/// A `max_norm` of 0 turns clipping off.
///
/// `norm` must be finite: no factor repairs a gradient that is not.
///
/// ```
/// use dsgd_core::optim::clip_scale;
/// assert_eq!(clip_scale(10.0, 5.0), 0.5);
/// assert_eq!(clip_scale(4.0, 5.0), 1.0);
/// assert_eq!(clip_scale(10.0, 0.0), 1.0);
/// ```
pub fn clip_scale(norm: f64, max_norm: f32) -> f32 {
    let max = f64::from(max_norm);
    if max <= 0.0 || norm <= max {
        1.0
    } else {
        (max / norm) as f32
    }
}

/// The share of one batch in the mean gradient of a step over several: its examples of all
/// their examples, so that the mean is the one of a single large batch. 0 where there is none.
///
/// ```
/// use dsgd_core::optim::batch_share;
/// assert_eq!(batch_share(64, 256), 0.25);
/// ```
pub fn batch_share(examples: u64, all_examples: u64) -> f32 {
    if all_examples == 0 {
        0.0
    } else {
        (examples as f64 / all_examples as f64) as f32
    }
}
