//! What a model is made of: its kind of layers, its sizes, and what can be wrong with them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Layers of a stack, and stacks: each is looked up by name.
const MOST_LAYERS: usize = 100;

/// Units of a layer: their square has room in a word of the machine.
const MOST_UNITS: usize = u32::MAX as usize;

/// The recurrent layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LayerType {
    /// LSTM with peepholes (Gers & Schmidhuber 2000): i and f see the old cell, o the new.
    #[default]
    Lstm,
    /// LSTM without peepholes.
    Fast,
    /// GRU (Cho et al. 2014), the reset gate before the recurrent matrix.
    Gru,
    /// Plain recurrence through the logistic function.
    Rnn,
    /// Encoder layers of two LSTMs without peepholes, one a direction, their outputs summed;
    /// decoder layers as `fast`.
    Bi,
}

/// How the source is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ModelType {
    /// One encoder over one sentence (Sutskever et al. 2014).
    #[default]
    Red,
    /// Hierarchical (Sordoni et al. 2015): an encoder an utterance and one over their ends.
    Hred,
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Kind of recurrent layer.
    pub layer_type: LayerType,
    /// How the source is read.
    pub model_type: ModelType,
    /// Layers of each stack.
    pub layers: usize,
    /// Width of the embeddings.
    pub word_vec_size: usize,
    /// Width of the layers.
    pub hidden_size: usize,
    /// Words of the source vocabulary.
    pub source_size: usize,
    /// Words of the target vocabulary.
    pub target_size: usize,
    /// Utterances of a source; only read where `model_type` is `hred`.
    pub utter_context: usize,
    /// Probability with which a unit between two layers is dropped in training.
    pub dropout: f32,
}

/// Why a model cannot be made, or cannot compute.
#[derive(Debug, Error, PartialEq)]
pub enum Error {
    /// A size that must be positive is zero.
    #[error("{0} must be at least 1")]
    ZeroSize(&'static str),
    /// The vocabulary has no room for the four special words.
    #[error("{name} is {size}, but the indices 1 to 4 are reserved for special words")]
    SmallVocabulary {
        /// Which vocabulary.
        name: &'static str,
        /// Its size.
        size: usize,
    },
    /// A vocabulary beyond what an index can hold.
    #[error("{name} is {size}, more words than a 32-bit index can tell apart")]
    LargeVocabulary {
        /// Which vocabulary.
        name: &'static str,
        /// Its size.
        size: usize,
    },
    /// A size that no machine has room for.
    #[error("{name} is {size}, more than the {most} that a model can have")]
    LargeSize {
        /// Which size.
        name: &'static str,
        /// What it is.
        size: usize,
        /// The limit.
        most: usize,
    },
    /// Dropout outside 0 ..< 1.
    #[error("dropout is {0}, but must be at least 0 and below 1")]
    Dropout(f32),
    /// A matrix of a batch has another size than the batch says.
    #[error("{name} of the batch has {found} entries where {expected} belong")]
    BatchShape {
        /// Which matrix.
        name: &'static str,
        /// Its length.
        found: usize,
        /// The length that goes with the batch's rows and columns.
        expected: usize,
    },
    /// A word index outside its vocabulary.
    #[error("{name} of the batch has the word index {index}, outside 1 to {size}")]
    WordIndex {
        /// Which matrix.
        name: &'static str,
        /// The index.
        index: u32,
        /// Size of the vocabulary.
        size: usize,
    },
    /// The instruction set asked for is not there.
    #[error("this processor cannot run the kernels for {0:?}; take `auto`")]
    NoSimd(crate::kernels::Simd),
}

impl ModelSpec {
    /// Whether a model of this shape can be made.
    pub fn validate(&self) -> Result<(), Error> {
        for (name, size) in [
            ("layers", self.layers),
            ("word_vec_size", self.word_vec_size),
            ("hidden_size", self.hidden_size),
        ] {
            if size == 0 {
                return Err(Error::ZeroSize(name));
            }
        }
        if self.model_type == ModelType::Hred && self.utter_context == 0 {
            return Err(Error::ZeroSize("utter_context"));
        }
        for (name, size, most) in [
            ("layers", self.layers, MOST_LAYERS),
            ("utter_context", self.utterances(), MOST_LAYERS),
            ("word_vec_size", self.word_vec_size, MOST_UNITS),
            ("hidden_size", self.hidden_size, MOST_UNITS),
        ] {
            if size > most {
                return Err(Error::LargeSize { name, size, most });
            }
        }
        for (name, size) in [
            ("source_size", self.source_size),
            ("target_size", self.target_size),
        ] {
            if size < 4 {
                return Err(Error::SmallVocabulary { name, size });
            }
            if u32::try_from(size).is_err() {
                return Err(Error::LargeVocabulary { name, size });
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::Dropout(self.dropout));
        }
        Ok(())
    }

    /// Number of matrices of a source.
    pub fn utterances(&self) -> usize {
        match self.model_type {
            ModelType::Red => 1,
            ModelType::Hred => self.utter_context,
        }
    }
}
