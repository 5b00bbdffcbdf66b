//! The arithmetic: matrix products, gates, softmax, each once for every instruction set.
//!
//! All matrices that pass between kernels lie in one of two orders, both in groups of 16
//! (`GROUP`), so that no product needs its operands packed or padded by rows:
//!
//! - **panels** `[column group][feature][16 columns]`: a column is one sentence at one time.
//!   Layers work on these; a register holds one feature of 16 sentences.
//! - **transposed** `[feature group][column][16 features]`: the same the other way round, as the right
//!   operand of a weight gradient.
//!
//! What this leaves out: any matrix whose columns do not come in groups, and any notion of a
//! model. Nothing here allocates.

// A generic kernel takes the instruction set of the function into which it is inlined.
#![allow(clippy::inline_always)]

pub(crate) mod dispatch;
pub(crate) mod gates;
pub(crate) mod kernel;
pub(crate) mod math;
mod options;
pub(crate) mod pairs;
pub(crate) mod product;
pub(crate) mod softmax;
pub(crate) mod tile;
pub(crate) mod transpose;
pub(crate) mod vector;

pub(crate) use dispatch::Isa;
pub use options::{Compute, Precision, Simd};
pub(crate) use vector::GROUP;
