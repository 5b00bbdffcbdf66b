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
//! From the words to the front door: [`params`], [`task`], [`event`] and [`config`] are words,
//! [`optim`] and [`checkpoint`] mechanisms, [`core`] decides, [`run`] is where it lies on disk,
//! [`server`] and [`worker`] carry out, [`launch`] gives birth to workers, [`observe`] looks on, [`plot`],
//! [`report`] and [`page`] show what it saw.

pub mod checkpoint;
mod cli;
pub mod config;
pub mod core;
pub mod data;
mod error;
pub mod event;
pub mod hosts;
pub mod launch;
mod mutex;
pub mod observe;
pub mod optim;
mod output;
pub mod page;
pub mod params;
pub mod plot;
pub mod report;
pub mod run;
pub mod server;
pub mod ssh;
pub mod task;
mod text;
pub mod wire;
pub mod worker;

pub use cli::Tasks;
pub use data::DataFile;
pub use error::Error;
pub use params::{Gradient, Kind, Layout, Params, Part, Rows, Tensor, TensorId};
pub use task::{Batch, BatchSize, NoOptions, Stats, Task, TaskCommand, TaskResult, WordRows};
