//! Checkpoints: a run on disk, as files that other programs can open.
//!
//! A checkpoint is a pair in the `safetensors` format. `STEM.safetensors` holds the weights
//! under the layout's names and shapes, with string metadata: what `PyTorch`, and anyone who
//! only wants the model, reads. `STEM.state.safetensors` beside it holds what going on with the
//! run needs besides: the optimizer's vectors, each as tensors `NAME.TENSOR`, and under the
//! metadata key `state` the caller's own state as JSON.
//!
//! Both files are written whole, under other names, and forced to disk before the first gets
//! its name, the weights last: an error or a crash at any moment leaves every earlier checkpoint as
//! it was. Each file carries a CRC-32 of its contents, and the state that of its weights, so
//! that damage and a torn pair (state and weights of two different saves) are found on loading;
//! [`load_newest`] then goes back to the one before.
//!
//! Nothing of the parameters' size is allocated to save them, and nothing besides
//! themselves to load them.
//!
//! Left out: a second copy on another disk, and signatures. The checksum finds accidents, not
//! forgery; a forged file can mislead but neither crash the reader nor exhaust its memory.

mod error;
mod file;
mod folder;
mod pair;
mod words;

#[cfg(test)]
mod tests;

pub use error::{CheckpointError, Previous};
pub use folder::{Found, Listing, list, prune, remove_twins};
pub use pair::{
    Checkpoint, Newest, Resumed, Weights, load, load_metadata, load_newest, load_state,
    load_weights, save,
};
pub use words::{Compared, OtherWords, carry_over, compare_words};
