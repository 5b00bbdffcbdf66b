//! Distributed stochastic gradient descent for the machines people already have.

pub mod checkpoint;
pub mod optim;
pub mod params;
pub mod task;

pub use params::{Gradient, Kind, Layout, Params, Part, Rows, Tensor, TensorId};
pub use task::{Batch, Stats, Task, TaskResult};
