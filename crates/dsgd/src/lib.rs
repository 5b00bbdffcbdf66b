//! Distributed stochastic gradient descent for the machines people already have.
//!
//! A model and its data are a [`Model`]; with options and a way to load it, it is a [`Task`]; a program is a
//! list of tasks:
//!
//! ```no_run
//! # use dsgd::*;
//! # struct Mine(Manifest);
//! # impl Model for Mine {
//! #     fn manifest(&self) -> &Manifest { &self.0 }
//! #     fn compute(&self, _: Seat) -> TaskResult<Box<dyn Compute + '_>> {
//! #         Ok(Box::new(|_: Batch, _: &Snapshot, _: &mut Gradient| Ok(Stats::of_examples(0.0, 1))))
//! #     }
//! # }
//! # impl Task for Mine {
//! #     type Options = NoOptions;
//! #     fn load(_: &NoOptions, _: u64) -> TaskResult<Self> { Ok(Mine(Manifest::new(Layout::new(), 1))) }
//! # }
//! fn main() {
//!     dsgd::Tasks::new().with::<Mine>("mine").main()
//! }
//! ```
//!
//! What stands here is what a program that trains depends on. The layers below are crates of their
//! own: `dsgd-core` decides, `dsgd-engine` trains, `dsgd-observe` looks on.

#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
mod data;
#[cfg(feature = "cli")]
mod task;

#[cfg(feature = "cli")]
pub use cli::Tasks;
#[cfg(feature = "cli")]
pub use data::{Alone, Beside, DataFile, cache_folder};
pub use dsgd_core::metric::{Better, Metric, Units};
pub use dsgd_core::model::{Compute, Manifest, Model, Seat};
pub use dsgd_core::params::{
    Fresh, Gradient, Kind, Layout, Params, Rows, Rule, Since, Snapshot, Tensor, TensorGradient,
    TensorId,
};
pub use dsgd_core::task::{Batch, BatchSize, Lost, Part, SUMS, Stats, TaskResult, WordRows};
pub use dsgd_core::{event, metric, mode, optim};
pub use dsgd_engine::training::{Begun, Finished, Start, Stopper, Training};
pub use dsgd_engine::wire::invitation::Invitation;
pub use dsgd_engine::worker::{Assignment, Job};
pub use dsgd_engine::{Error, Worker, checkpoint, config, join, launch, run, store, testing};
#[cfg(feature = "observe")]
pub use dsgd_observe as observe;
#[cfg(feature = "cli")]
pub use task::{NoOptions, Task, TaskCommand};
