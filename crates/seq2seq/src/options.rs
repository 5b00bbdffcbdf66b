//! The demo's options: which data, which model. The names are the ancestor's.

use dsgd::DataFile;
use serde::{Deserialize, Serialize};

use crate::data::numbers::NumbersOptions;
use crate::data::text::{TextOptions, TextPair};
use crate::data::{DataError, DataSource, Dictionaries};
use crate::kernels::Precision;
use crate::model::{LayerType, ModelType};

/// Sizes where the user says nothing: the ancestor's for files, small ones for the built-in corpus.
struct Sizes {
    layers: usize,
    hidden_size: usize,
    word_vec_size: usize,
    dropout: f32,
}

const FILES: Sizes = Sizes {
    layers: 2,
    hidden_size: 300,
    word_vec_size: 300,
    dropout: 0.3,
};

const NUMBERS: Sizes = Sizes {
    layers: 1,
    hidden_size: 128,
    word_vec_size: 32,
    dropout: 0.0,
};

/// Options of the task.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub struct Options {
    /// Training data (HDF5) [default: number words, English to French, built in]
    #[arg(long, alias = "train", value_name = "FILE")]
    pub data_file: Option<DataFile<Dictionaries>>,
    /// Validation data (HDF5)
    #[arg(long, value_name = "FILE", requires = "data_file")]
    pub val_data_file: Option<DataFile>,
    /// Training text, source side: a sentence a line, may be gzip
    #[arg(
        long,
        value_name = "FILE",
        requires = "targ_train",
        conflicts_with = "data_file"
    )]
    pub src_train: Option<DataFile>,
    /// Training text, target side
    #[arg(long, value_name = "FILE", requires = "src_train")]
    pub targ_train: Option<DataFile>,
    /// Validation text, source side
    #[arg(long, value_name = "FILE", requires = "targ_val")]
    pub src_val: Option<DataFile>,
    /// Validation text, target side
    #[arg(long, value_name = "FILE", requires_all = ["src_val", "src_train"])]
    pub targ_val: Option<DataFile>,
    /// Text: words of the longest sentence that is kept
    #[arg(long, value_name = "WORDS", default_value_t = 50)]
    pub max_length: usize,
    /// Text: words of the source vocabulary
    #[arg(long, value_name = "WORDS", default_value_t = 50_000)]
    pub src_vocab_size: usize,
    /// Text: words of the target vocabulary
    #[arg(long, value_name = "WORDS", default_value_t = 50_000)]
    pub targ_vocab_size: usize,
    /// Text and built-in corpus: sentence pairs of a batch
    #[arg(long, value_name = "PAIRS", default_value_t = 64)]
    pub batch_size: usize,
    /// Built-in corpus: training pairs. It is trained by adam on a cosine from 0.003 with 300 steps of
    /// warm-up for 24 epochs, unless other options say otherwise
    #[arg(long, value_name = "PAIRS", default_value_t = NumbersOptions::default().train)]
    pub numbers: u32,

    /// Recurrent layers: lstm, fast (no peepholes), gru, rnn or bi (bidirectional encoder)
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    pub layer_type: LayerType,
    /// How the source is read: red, or hred (hierarchical, for dialogue)
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    pub model_type: ModelType,
    /// Layers of each stack [default: 2; built-in corpus: 1]
    #[arg(long, value_name = "N")]
    pub num_layers: Option<usize>,
    /// Width of the layers [default: 300; built-in corpus: 128]
    #[arg(long, value_name = "UNITS")]
    pub hidden_size: Option<usize>,
    /// Width of the embeddings [default: 300; built-in corpus: 32]
    #[arg(long, value_name = "UNITS")]
    pub word_vec_size: Option<usize>,
    /// Probability with which a unit between layers is dropped [default: 0.3; built-in corpus: 0]
    #[arg(long, value_name = "P")]
    pub dropout: Option<f32>,
    /// Parameters start uniformly between -X and X [default: √(3 / hidden size), 0.1 where that is 300]
    #[arg(long, value_name = "X")]
    pub param_init: Option<f32>,
    /// hred: utterances of a source
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub utter_context: usize,
    /// hred: the word between two utterances, or its index
    #[arg(long, value_name = "WORD", default_value = "<t>")]
    pub end_utterance: String,
    /// hred: start from the weights of this red checkpoint
    #[arg(long, value_name = "FILE")]
    pub load_red: Option<DataFile>,
    /// Word vectors to start from: HDF5 with `word_vecs` (source), `word_vecs_dec` (target) or both
    #[arg(long, value_name = "FILE")]
    pub pre_word_vecs: Option<DataFile>,
    /// 1: word vectors are not trained
    #[arg(long, value_name = "0|1", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub fix_word_vecs: u8,
    /// Precision of the output projection: f32, or bf16 (faster, less exact)
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    pub precision: Precision,
    /// eval: hypotheses of the beam search
    #[arg(long, value_name = "K", default_value_t = 5,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub beam_k: usize,
    /// eval: longest word sequence that BLEU counts
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100))]
    pub max_bleu: usize,
}

impl Options {
    /// Whether no file was named, so that number words are trained on.
    pub fn is_built_in(&self) -> bool {
        self.data_file.is_none() && self.src_train.is_none()
    }

    /// Where the data come from.
    pub fn source(&self, seed: u64) -> Result<DataSource, DataError> {
        self.check_files()?;
        let file = |file: &DataFile| file.to_path_buf();
        let pair = |source: &Option<DataFile>, target: &Option<DataFile>| {
            let (source, target) = (file(source.as_ref()?), file(target.as_ref()?));
            Some(TextPair { source, target })
        };
        if let Some(train) = &self.data_file {
            return Ok(DataSource::Hdf5 {
                train: train.to_path_buf(),
                valid: self.val_data_file.as_ref().map(file),
            });
        }
        Ok(match pair(&self.src_train, &self.targ_train) {
            Some(train) => DataSource::Text {
                train,
                valid: pair(&self.src_val, &self.targ_val),
                options: TextOptions {
                    batch_size: self.batch_size,
                    max_words: self.max_length,
                    source_vocab_size: self.src_vocab_size,
                    target_vocab_size: self.targ_vocab_size,
                    ..TextOptions::default()
                },
            },
            None => DataSource::Numbers(NumbersOptions {
                seed,
                train: self.numbers,
                batch_size: self.batch_size,
                ..NumbersOptions::default()
            }),
        })
    }

    /// A file that is named and that nothing would be done with was meant to be used.
    fn check_files(&self) -> Result<(), DataError> {
        let prepared = self.data_file.is_some();
        let files = [
            (
                "src-train",
                &self.src_train,
                "targ-train",
                self.targ_train.is_some(),
            ),
            (
                "targ-train",
                &self.targ_train,
                "src-train",
                self.src_train.is_some(),
            ),
            (
                "src-val",
                &self.src_val,
                "targ-val",
                self.targ_val.is_some(),
            ),
            (
                "targ-val",
                &self.targ_val,
                "src-val",
                self.src_val.is_some(),
            ),
            (
                "src-val",
                &self.src_val,
                "src-train",
                self.src_train.is_some(),
            ),
        ];
        let mut alone = files
            .iter()
            .filter(|(_, file, _, other)| file.is_some() && !other);
        let missing = alone
            .next()
            .map(|(given, _, missing, _)| (*given, *missing));
        let validation = self.val_data_file.is_some() && !prepared;
        match missing.or(validation.then_some(("val-data-file", "data-file"))) {
            Some((given, missing)) => Err(DataError::Alone { given, missing }),
            None => Ok(()),
        }
    }

    fn sizes(&self) -> Sizes {
        if self.is_built_in() { NUMBERS } else { FILES }
    }

    /// Layers of each stack.
    pub fn num_layers(&self) -> usize {
        self.num_layers.unwrap_or(self.sizes().layers)
    }

    /// Width of the layers.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size.unwrap_or(self.sizes().hidden_size)
    }

    /// Width of the embeddings.
    pub fn word_vec_size(&self) -> usize {
        self.word_vec_size.unwrap_or(self.sizes().word_vec_size)
    }

    /// The bound between which, on either side of 0, the parameters start uniformly.
    ///
    /// Where nothing is said it is √(3 / `hidden_size`), so that a product with a layer's output has
    /// the variance of that output, whatever the width (`LeCun` et al. 1998, §4.6). At the
    /// ancestor's width, 300, it is the ancestor's 0.1; narrow layers hardly learn from that, those
    /// least that lie deep, as the ones of a hierarchical model do.
    pub fn param_init(&self) -> f32 {
        let fan_in = || (3.0 / self.hidden_size() as f64).sqrt() as f32;
        self.param_init.unwrap_or_else(fan_in)
    }

    /// Probability with which a unit between layers is dropped.
    pub fn dropout(&self) -> f32 {
        self.dropout.unwrap_or(self.sizes().dropout)
    }
}
