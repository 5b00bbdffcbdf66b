//! How what workers push moves the parameters.

use dsgd_core::event::Step;
use dsgd_core::optim::{StepSize, clip_scale};

/// What the server does with the mean of what workers push.
#[derive(Clone, Copy, Debug)]
pub enum ServerStep {
    /// It is a gradient: a step of the optimizer along it, once it is scaled down to this norm.
    Gradient {
        /// The largest norm; 0 for any.
        max_norm: f32,
    },
    /// It is a delta: it is added, this many times.
    Delta {
        /// The outer learning rate.
        outer_rate: f32,
    },
}

impl ServerStep {
    /// How far to go along the mean of what was pushed, of whose deltas `share` counts.
    pub(super) fn size(self, step: &Step, share: f32) -> StepSize {
        match self {
            Self::Gradient { max_norm } => StepSize {
                learning_rate: step.learning_rate,
                scale: clip_scale(step.grad_norm, max_norm),
            },
            // A delta points to where its worker went, not against it.
            Self::Delta { outer_rate } => StepSize {
                learning_rate: outer_rate * share,
                scale: -1.0,
            },
        }
    }
}
