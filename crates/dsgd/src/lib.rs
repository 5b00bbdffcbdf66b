//! Distributed stochastic gradient descent for the machines people already have.
//!
//! A model and its data stand behind one trait, [`Task`]; a program is a list of tasks:
//!
//! ```no_run
//! # use dsgd::*;
//! # struct Mine;
//! # impl Task for Mine {
//! #     type Options = NoOptions; type Scratch = ();
//! #     fn load(_: &NoOptions, _: u64) -> TaskResult<Self> { Ok(Mine) }
//! #     fn layout(&self) -> Layout { Layout::new() }
//! #     fn init(&self, _: u64, _: &mut Params) -> TaskResult<()> { Ok(()) }
//! #     fn batches(&self) -> usize { 1 }
//! #     fn scratch(&self, _: usize) {}
//! #     fn gradient(&self, _: Batch, _: &Params, _: &mut (), _: &mut Gradient) -> TaskResult<Stats> { Ok(Stats::default()) }
//! # }
//! fn main() {
//!     dsgd::Tasks::new().with::<Mine>("mine").main()
//! }
//! ```
//!
//! What stands here is what a program that trains depends on. The layers below are crates of their
//! own: `dsgd-core` decides, `dsgd-engine` trains, `dsgd-observe` looks on.

mod cli;
mod data;

pub use cli::Tasks;
pub use data::{Alone, Beside, DataFile};
pub use dsgd_core::params::{Gradient, Kind, Layout, Params, Part, Rows, Tensor, TensorId};
pub use dsgd_core::task::{Batch, BatchSize, Stats, TaskResult, WordRows};
pub use dsgd_core::{event, mode, optim};
pub use dsgd_engine::task::{NoOptions, Task, TaskCommand};
pub use dsgd_engine::{Error, checkpoint, config, run, store};
