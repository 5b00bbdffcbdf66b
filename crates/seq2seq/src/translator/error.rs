//! Why a checkpoint cannot translate.

use std::path::PathBuf;

use dsgd::checkpoint::CheckpointError;

use crate::data::DataError;
use crate::model;

/// What can go wrong on the way from a checkpoint to a translation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TranslateError {
    /// There is no checkpoint where one was said to be.
    #[error(transparent)]
    Run(#[from] dsgd::Error),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint is of something else.
    #[error(
        "{} is no translation model: it says nothing under `{}`; give a checkpoint that was \
         trained by the task seq2seq",
        file.display(), super::metadata::SPEC
    )]
    OtherTask {
        /// The checkpoint.
        file: PathBuf,
    },
    /// The model's shape is not one.
    #[error("{}: the model's shape makes no sense: {reason}", file.display())]
    Spec {
        /// The checkpoint.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The model was trained on indices, whose words nobody has told it.
    #[error(
        "{} knows its {side} words by number only; pass {option} FILE, a dictionary of the data that it was \
         trained on", file.display()
    )]
    NoWords {
        /// The checkpoint.
        file: PathBuf,
        /// `source` or `target`.
        side: &'static str,
        /// What to pass.
        option: &'static str,
    },
    /// Words and model do not belong together.
    #[error(
        "{} has {found} words, the model {size} {side} words; pass {option} FILE, the dictionary of the data \
         that it was trained on", file.display()
    )]
    WordCount {
        /// The dictionary, or the checkpoint itself.
        file: PathBuf,
        /// `source` or `target`.
        side: &'static str,
        /// Words there.
        found: usize,
        /// Words of the model.
        size: usize,
        /// What to pass.
        option: &'static str,
    },
    /// A dictionary that contradicts the checkpoint.
    #[error(
        "{option} {}: its word {index} is `{here}`, and `{there}` in {}, which carries its own words: leave \
         {option} out", dictionary.display(), file.display()
    )]
    OtherWords {
        /// The checkpoint.
        file: PathBuf,
        /// The dictionary.
        dictionary: PathBuf,
        /// What to leave out.
        option: &'static str,
        /// 1-based.
        index: usize,
        /// The dictionary's word.
        here: String,
        /// The checkpoint's.
        there: String,
    },
    /// A hierarchical model whose utterances cannot be told apart.
    #[error("the word `{word}`, which ends an utterance, is not among the source words")]
    NoSeparator {
        /// The word.
        word: String,
    },
    /// A dictionary cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A number that no search can be made with.
    #[error("{what} is {value}, but must be 1 to {limit}")]
    Limit {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: usize,
        /// The largest that is taken.
        limit: usize,
    },
    /// The model cannot compute.
    #[error(transparent)]
    Model(#[from] model::Error),
}
