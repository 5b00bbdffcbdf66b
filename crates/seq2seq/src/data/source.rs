//! Which data to train on, and loading it.

use std::path::{Path, PathBuf};

use dsgd::Beside;

use super::corpus::Corpus;
use super::numbers::{self, NumbersOptions};
use super::text::{self, TextOptions, TextPair};
use super::{DataError, Dataset, Vocabulary, hdf5};

/// What follows PREFIX in the name of the source dictionary.
pub(super) const SOURCE_DICTIONARY: &str = ".src.dict";

/// What follows PREFIX in the name of the target dictionary.
pub(super) const TARGET_DICTIONARY: &str = ".targ.dict";

/// Where the sentence pairs come from.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataSource {
    /// Files made by `dsgd data prepare` or by the ancestor's preprocessing.
    Hdf5 {
        /// Training data.
        train: PathBuf,
        /// Validation data.
        valid: Option<PathBuf>,
    },
    /// Paired text files, prepared in memory.
    Text {
        /// Training text.
        train: TextPair,
        /// Validation text.
        valid: Option<TextPair>,
        /// How text becomes batches.
        options: TextOptions,
    },
    /// Number words, English to French: no file needed.
    Numbers(NumbersOptions),
}

impl DataSource {
    /// Loads the data. The same files or the same seed give the same batches under the same numbers.
    pub fn load(&self) -> Result<Corpus, DataError> {
        match self {
            Self::Hdf5 { train, valid } => load_hdf5(train, valid.as_deref()),
            Self::Text {
                train,
                valid,
                options,
            } => text::load(train, valid.as_ref(), options).map(|loaded| loaded.corpus),
            Self::Numbers(options) => numbers::load(options),
        }
    }
}

fn load_hdf5(train_file: &Path, valid_file: Option<&Path>) -> Result<Corpus, DataError> {
    let train = hdf5::read(train_file)?;
    let valid = valid_file.map(hdf5::read).transpose()?;
    let sizes = train.sizes();
    if let (Some(valid_file), Some(valid)) = (valid_file, &valid)
        && valid.sizes() != sizes
    {
        return Err(DataError::Vocabularies {
            train_file: train_file.to_owned(),
            valid_file: valid_file.to_owned(),
            train: sizes,
            valid: valid.sizes(),
        });
    }
    let files = [
        (Some(train_file), Some(&train)),
        (valid_file, valid.as_ref()),
    ];
    let read = files
        .into_iter()
        .filter_map(|(file, data)| Some((file?, data?)));
    let left_out = read.filter_map(|(file, data)| in_no_batch(file, data));
    let left_out = left_out.collect();
    let source_vocab = vocabulary_beside(train_file, SOURCE_DICTIONARY, sizes.source)?;
    let target_vocab = vocabulary_beside(train_file, TARGET_DICTIONARY, sizes.target)?;
    Ok(Corpus {
        train,
        valid,
        source_vocab,
        target_vocab,
        sizes,
        left_out,
    })
}

/// Says that some of a file's pairs are in none of its batches, as the last one of the ancestor's files is.
fn in_no_batch(file: &Path, data: &Dataset) -> Option<String> {
    let file = file.display();
    let total = data.sentences().len();
    match total - data.counts().sentences {
        0 => None,
        1 => Some(format!("{file}: 1 of {total} pairs is in no batch")),
        lost => Some(format!("{file}: {lost} of {total} pairs are in no batch")),
    }
}

/// The vocabulary that was written together with an HDF5 file, where it lies beside it:
/// `PREFIX.src.dict` or `PREFIX.targ.dict`, or the same with `.gz`, for `PREFIX-train.hdf5`.
pub(super) fn vocabulary_beside(
    data: &Path,
    ending: &str,
    size: u32,
) -> Result<Option<Vocabulary>, DataError> {
    dictionary_beside(data, ending)
        .map(|file| read_dictionary(&file, data, size))
        .transpose()
}

/// Reads a dictionary that must have as many words as the data file states.
pub(super) fn read_dictionary(
    file: &Path,
    data: &Path,
    size: u32,
) -> Result<Vocabulary, DataError> {
    let vocabulary = Vocabulary::read(file)?;
    if vocabulary.len() == size as usize {
        return Ok(vocabulary);
    }
    Err(DataError::DictionarySize {
        dictionary: file.to_owned(),
        words: vocabulary.len(),
        data: data.to_owned(),
        size,
    })
}

/// The dictionaries beside an HDF5 file with the training data travel with it.
#[derive(Clone, Copy, Debug)]
pub enum Dictionaries {}

impl Beside for Dictionaries {
    fn beside(file: &Path) -> Vec<PathBuf> {
        let endings = [SOURCE_DICTIONARY, TARGET_DICTIONARY].into_iter();
        endings
            .filter_map(|ending| dictionary_beside(file, ending))
            .collect()
    }
}

fn dictionary_beside(data: &Path, ending: &str) -> Option<PathBuf> {
    let name = data.file_stem()?.to_str()?;
    let prefix = name
        .strip_suffix("-train")
        .or_else(|| name.strip_suffix("-val"))?;
    ["", ".gz"]
        .map(|packed| data.with_file_name(format!("{prefix}{ending}{packed}")))
        .into_iter()
        .find(|file| file.is_file())
}
