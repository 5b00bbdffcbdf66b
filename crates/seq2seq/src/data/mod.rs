//! Sentence pairs: where they come from, how they are cut into batches, how they are kept.
//!
//! Whatever the source, the way is the same. Pairs of sentences become rows of word indices
//! ([`Vocabulary`]: 1-based, `<blank>` 1, `<unk>` 2, `<s>` 3, `</s>` 4), the rows are sorted by
//! source length and each run of equal source length is cut into batches ([`Dataset`]). A batch
//! therefore needs no padding on the source side, and a number always means the same sentences.
//!
//! * [`DataSource`] says which data to load and loads it as a [`Corpus`]: HDF5 files
//!   ([`hdf5`]), paired text files ([`text`]) or the corpus that is built in ([`numbers`]).
//! * [`prepare`] and [`show`] are the commands `dsgd data prepare` and `dsgd data show`.
//! * [`utterances`] cuts a batch's sources into utterances, for the hierarchical model.
//!
//! Files come from anywhere, so everything read is checked before it is used, and [`DataError`]
//! names the file and the place in it. The order in which batches are trained on is not decided
//! here, and nothing here is random but the numbers corpus, which is a function of its seed.
//!
//! ```
//! use seq2seq::data::{DataSource, numbers::NumbersOptions};
//!
//! let corpus = DataSource::Numbers(NumbersOptions::default()).load()?;
//! assert_eq!((corpus.sizes.source, corpus.sizes.target), (35, 31));
//! let (source, batch) = (corpus.source_vocab.unwrap(), corpus.train.batch(100)?);
//! let words = source.decode(&batch.sources[0][..batch.source_len]);
//! assert_eq!(words.join(" "), "eighty seven thousand eight hundred and thirty");
//! # Ok::<(), seq2seq::data::DataError>(())
//! ```

pub mod atomic;
mod corpus;
mod dataset;
mod error;
pub mod hdf5;
pub(crate) mod lines;
pub mod numbers;
pub mod prepare;
mod sentences;
pub mod show;
mod sizes;
mod source;
pub mod text;
pub mod utterances;
pub mod vectors;
pub mod vocab;

pub use corpus::Corpus;
pub use dataset::{Counts, Cut, Dataset};
pub use error::DataError;
pub use sentences::Sentences;
pub use sizes::{Kept, Sizes};
pub use source::{DataSource, Dictionaries};
pub use vocab::Vocabulary;
