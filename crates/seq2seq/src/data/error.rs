//! What can be wrong with data: one variant for each thing that a user can act on.

use std::io;
use std::path::{Path, PathBuf};

use super::sizes::{Kept, Sizes};

/// Why data could not be read, prepared or written.
///
/// Lines are counted from 1, as editors do; rows and columns of a dataset from 0, as Python does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}; {}", file.display(), remedy(action, source))]
    Io {
        /// What was tried: `open`, `read`, `write`.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// One of two files that are only of use together.
    #[error("--{given} needs --{missing} beside it; name both, or neither")]
    Alone {
        /// The option that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },

    /// Reading stopped in the middle, as it does in a gzip file that was cut off.
    #[error("{}, after line {line}: {source}; the file is damaged or incomplete", file.display())]
    Broken {
        /// The file.
        file: PathBuf,
        /// The last line that could be read; 0 when there was none.
        line: u64,
        /// What the reader said.
        source: io::Error,
    },

    /// Text must be UTF-8.
    #[error(
        "{}, line {line}: not UTF-8 (byte {byte} of the line); convert the file, for example with iconv",
        file.display()
    )]
    NotUtf8 {
        /// The file.
        file: PathBuf,
        /// The line.
        line: u64,
        /// Where in the line, in bytes from 1.
        byte: usize,
    },

    /// A line that no sentence has.
    #[error(
        "{}, line {line}: longer than {limit} bytes; the file should hold one sentence a line",
        file.display()
    )]
    LineTooLong {
        /// The file.
        file: PathBuf,
        /// The line.
        line: u64,
        /// The limit.
        limit: usize,
    },

    /// Two files that should be translations of each other, line by line, are not: one goes on, with
    /// words, where the other has ended.
    #[error(
        "{} has {source_lines} lines and {} has {target_lines}: line n of one must be the translation of line n of the other",
        source_file.display(), target_file.display()
    )]
    LineCounts {
        /// The source side.
        source_file: PathBuf,
        /// Its lines.
        source_lines: u64,
        /// The target side.
        target_file: PathBuf,
        /// Its lines.
        target_lines: u64,
    },

    /// There is nothing to train on.
    #[error(
        "{} and {} leave no sentence pair to use: {kept}",
        source_file.display(), target_file.display()
    )]
    NothingKept {
        /// The source side.
        source_file: PathBuf,
        /// The target side.
        target_file: PathBuf,
        /// What was read, and why each pair was dropped.
        kept: Kept,
    },

    /// A line of a dictionary is not `word index`, or contradicts another.
    #[error("{}, line {line}: {problem}", file.display())]
    Dictionary {
        /// The file.
        file: PathBuf,
        /// The line.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },

    /// A dictionary and the data that it should belong to do not agree.
    #[error(
        "{} has {words} words, but {} was made with {size}; take the dictionary that was written together with the data",
        dictionary.display(), data.display()
    )]
    DictionarySize {
        /// The dictionary.
        dictionary: PathBuf,
        /// Words in it.
        words: usize,
        /// The file of indices.
        data: PathBuf,
        /// The vocabulary size that it states.
        size: u32,
    },

    /// The file is not HDF5, or its beginning is damaged.
    #[error("{}: not a readable HDF5 file: {problem}", file.display())]
    NotHdf5 {
        /// The file.
        file: PathBuf,
        /// What the reader said.
        problem: String,
    },

    /// A dataset of the schema is not there, or is not a plain array of integers of the right shape.
    #[error("{}: dataset `{dataset}`: {problem}", file.display())]
    Dataset {
        /// The file.
        file: PathBuf,
        /// The dataset.
        dataset: &'static str,
        /// What is wrong with it.
        problem: String,
    },

    /// A dataset is stored in a newer form of HDF5 than can be read here, such as that of HDF5 2 (h5py
    /// 3.16 and later with `libver='latest'`), or is damaged.
    #[error(
        "{}: dataset `{dataset}`: {problem}; it is stored in a newer form of HDF5 than is read here. \
         Where h5py is installed, this writes the same values into {}:\n{}",
        file.display(), rewritten(file).display(), rewriting(file)
    )]
    NewerHdf5 {
        /// The file.
        file: PathBuf,
        /// The dataset.
        dataset: &'static str,
        /// What the reader said.
        problem: String,
    },

    /// A value of a dataset is wrong.
    #[error("{}: dataset `{dataset}`, row {row} (the first is row 0): {problem}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The dataset.
        dataset: &'static str,
        /// The row.
        row: usize,
        /// What is wrong there.
        problem: String,
    },

    /// Training and validation data were made with different vocabularies.
    #[error(
        "{} and {} were made with different vocabularies ({train} and {valid}); prepare both in one go",
        train_file.display(), valid_file.display()
    )]
    Vocabularies {
        /// Training data.
        train_file: PathBuf,
        /// Validation data.
        valid_file: PathBuf,
        /// Vocabulary sizes of the training data.
        train: Sizes,
        /// Vocabulary sizes of the validation data.
        valid: Sizes,
    },

    /// A source row could not be cut into utterances.
    #[error(
        "source row {row} (the first is row 0) has {found} utterances, the model reads {wanted}: \
         the end-of-utterance word (index {separator}) must stand between them"
    )]
    Utterances {
        /// The row, of the batch or of the dataset that was to be cut.
        row: usize,
        /// Utterances found.
        found: usize,
        /// Utterances wanted.
        wanted: usize,
        /// Index of the word that ends an utterance.
        separator: u32,
    },

    /// A batch number from elsewhere that this data does not have.
    #[error(
        "there is no batch {index}: this data has {batches}; do all workers read the same files?"
    )]
    NoSuchBatch {
        /// The number asked for.
        index: usize,
        /// Batches there are, numbered from 0.
        batches: usize,
    },

    /// An option has a value that makes no sense.
    #[error("{option}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
}

/// What to do where the file system refuses.
fn remedy(action: &str, why: &io::Error) -> &'static str {
    match (why.kind(), action) {
        (io::ErrorKind::NotFound, _) => {
            "look for a slip in its name; one without a / in front is sought in this folder"
        }
        (io::ErrorKind::PermissionDenied, _) => "let this user in, or name another file",
        (io::ErrorKind::StorageFull, _) | (_, "write") => "free space there, or name another place",
        _ => "name another file",
    }
}

/// The file to which a file's values go. Dictionaries are found by the name without its last ending, so
/// only that differs.
fn rewritten(file: &Path) -> PathBuf {
    let is_h5 = file.extension().is_some_and(|ending| ending == "h5");
    file.with_extension(if is_h5 { "hdf5" } else { "h5" })
}

/// A shell's command that writes the values of a file's datasets anew, in a form that any version of HDF5
/// reads. It replaces no file.
fn rewriting(file: &Path) -> String {
    let script = "import h5py, sys; \
                  old, new = h5py.File(sys.argv[1]), h5py.File(sys.argv[2], \"x\", libver=\"earliest\"); \
                  [new.create_dataset(name, data=old[name][()]) for name in old]";
    let word = |file: &Path| format!("'{}'", file.to_string_lossy().replace('\'', r"'\''"));
    format!(
        "python3 -c '{script}' {} {}",
        word(file),
        word(&rewritten(file))
    )
}
