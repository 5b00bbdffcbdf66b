//! Datasets in HDF5 files, in the schema of the ancestor's preprocessing.
//!
//! N sentence pairs, B batches, W columns (the words of the longest sentence, plus two). All
//! datasets are integers; they are written as `int64` and read in any width.
//!
//! | dataset | shape | meaning |
//! | --- | --- | --- |
//! | `source` | N × W | word indices, sorted by source length, padded with 1 on the right |
//! | `target` | N × W | decoder input, the same order of rows |
//! | `target_output` | N × W | wanted output: `target` shifted left by one |
//! | `target_l_all` | N | words of each row of `target` |
//! | `batch_idx` | B | first row of each batch, counted from 1 |
//! | `batch_l` | B | rows of each batch |
//! | `batch_w` | B | source words of each row of a batch |
//! | `target_l` | B | words of the longest target row of a batch |
//! | `target_nonzeros` | B | entries of `target_output` other than padding, over a batch's rows |
//! | `source_size`, `target_size` | 1 | vocabulary sizes |
//!
//! [`read`] believes nothing: every value is checked against every other that it must agree with,
//! and the first that does not is named with its dataset and row. Rows that no batch covers, such
//! as the last one of the ancestor's files, are allowed; two batches that share a row are not.
//!
//! A file of HDF5 2 in its newest form (`libver='latest'`) is refused, with the command that rewrites it.
//!
//! Written files are uncompressed and in the format of HDF5 1.8, which the ancestor's Torch reads.

mod arrays;
mod read;
mod write;

pub(super) use arrays::{open, unreadable};
pub use read::read;
pub use write::{write, write_to};

/// A column more than any sentence has: limits what a damaged shape can ask for.
const MAX_COLUMNS: usize = 1 << 16;
