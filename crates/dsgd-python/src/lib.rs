//! Models in Python as tasks of dsgd: `PyTorch`, `NumPy`, or any other framework.
//!
//! A worker has a child, a process of the user's own interpreter that computes its batches. Parameters and gradients lie
//! in files in memory which both map, words go over a socket, a line of JSON each way (`docs/child.md`). Nothing of
//! Python is linked: any version from 3.9 on will do, and what the user's code does to its process it does to that
//! process alone. Which examples make a batch is decided here.

mod child;
mod environment;
mod foresight;
mod interpreter;
mod manifest;
mod options;
mod order;
mod package;
mod regions;
mod task;
mod words;

pub use options::Options;
pub use task::Python;
