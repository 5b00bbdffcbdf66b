//! Training and validation data, loaded.

use super::dataset::Dataset;
use super::sizes::Sizes;
use super::vocab::Vocabulary;

/// Data to train a translation model on.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// What the model learns from.
    pub train: Dataset,
    /// What it is measured with.
    pub valid: Option<Dataset>,
    /// Words of the source indices; HDF5 files may come without.
    pub source_vocab: Option<Vocabulary>,
    /// Words of the target indices; HDF5 files may come without.
    pub target_vocab: Option<Vocabulary>,
    /// Vocabulary sizes, the four special tokens included.
    pub sizes: Sizes,
    /// What of the files is not learnt from or measured with, in words: a line a set, none where all is.
    pub left_out: Vec<String>,
}
