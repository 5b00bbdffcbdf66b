//! What an update rule is, and the numbers that it works with.

use serde::{Deserialize, Serialize};

/// One rule for moving parameters along a gradient.
///
/// ```
/// use dsgd_core::optim::{Hyper, OptimizerKind, StepSize};
///
/// let sgd = OptimizerKind::Sgd.build(Hyper::default());
/// let mut params = [1.0, 2.0];
/// let size = StepSize { learning_rate: 0.5, scale: 1.0 };
/// sgd.update(1, size, &mut params, &[1.0, -1.0], [&mut [], &mut []]);
/// assert_eq!(params, [0.5, 2.5]);
/// ```
pub trait Optimizer: Send + Sync {
    /// Names of the vectors that it carries from step to step, each as long as the
    /// parameters and zero at the start. At most [`MAX_STATE`].
    fn state_names(&self) -> &'static [&'static str];

    /// Moves `params` by one step, the `number`-th, counted from 1. `gradient` and the first `state_names().len()` of `state`
    /// are the same piece of their vectors as `params` is of its own; the others are empty.
    fn update(
        &self,
        number: u64,
        size: StepSize,
        params: &mut [f32],
        gradient: &[f32],
        state: [&mut [f32]; MAX_STATE],
    );
}

/// State vectors that an optimizer may have.
pub const MAX_STATE: usize = 2;

/// How large a step is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSize {
    /// How far to go.
    pub learning_rate: f32,
    /// Multiplies the gradient first: clipping and averaging.
    pub scale: f32,
}

/// Numbers of the formulas that stay the same for the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default)]
pub struct Hyper {
    /// Share of the last step that `momentum` and `nesterov` keep
    #[cfg_attr(feature = "clap", arg(long, default_value_t = Hyper::default().momentum))]
    pub momentum: f32,
    /// Share of the past in Adam's mean of the gradients
    #[cfg_attr(feature = "clap", arg(long, default_value_t = Hyper::default().beta1))]
    pub beta1: f32,
    /// Share of the past in Adam's mean of the squared gradients
    #[cfg_attr(feature = "clap", arg(long, default_value_t = Hyper::default().beta2))]
    pub beta2: f32,
    /// Added to Adam's denominator (`AdaGrad`'s own constant is fixed)
    #[cfg_attr(feature = "clap", arg(long, default_value_t = Hyper::default().epsilon))]
    pub epsilon: f32,
    /// Pull towards zero: added to the gradient, or decoupled from it in `adamw`
    #[cfg_attr(feature = "clap", arg(long, default_value_t = Hyper::default().weight_decay))]
    pub weight_decay: f32,
}

impl Default for Hyper {
    fn default() -> Self {
        Self {
            momentum: 0.9,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

impl Hyper {
    /// Whether every number is one that its formula can work with.
    pub fn check(&self) -> Result<(), OptimError> {
        let share = |v: f32| (0.0..1.0).contains(&v);
        let amount = |v: f32| v.is_finite() && v >= 0.0;
        let numbers = [
            (
                "momentum",
                self.momentum,
                share(self.momentum),
                "0 <= x < 1",
            ),
            ("beta1", self.beta1, share(self.beta1), "0 <= x < 1"),
            ("beta2", self.beta2, share(self.beta2), "0 <= x < 1"),
            ("epsilon", self.epsilon, amount(self.epsilon), "x >= 0"),
            (
                "weight-decay",
                self.weight_decay,
                amount(self.weight_decay),
                "x >= 0",
            ),
        ];
        match numbers.into_iter().find(|(_, _, fits, _)| !fits) {
            None => Ok(()),
            Some((name, value, _, wanted)) => Err(OptimError::Number {
                name,
                value,
                wanted,
            }),
        }
    }
}

/// What can be wrong with an optimizer's numbers or with state brought back to it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptimError {
    /// A hyperparameter is out of its range.
    #[error("--{name} is {value}; give a number with {wanted}")]
    Number {
        /// Its flag.
        name: &'static str,
        /// The value given.
        value: f32,
        /// The range.
        wanted: &'static str,
    },
    /// The state is another optimizer's.
    #[error(
        "the saved optimizer state is {found:?}, this optimizer needs {wanted:?}: \
         resume with the optimizer that the run was started with"
    )]
    OtherOptimizer {
        /// Names of the vectors given.
        found: Vec<String>,
        /// Names of the vectors needed.
        wanted: Vec<String>,
    },
    /// A state vector has another length than the parameters.
    #[error("optimizer state {name} has {found} elements, the model has {wanted}")]
    Length {
        /// Name of the vector.
        name: String,
        /// Its length.
        found: usize,
        /// Number of parameters.
        wanted: usize,
    },
}
