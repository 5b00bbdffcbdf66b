//! `dsgd data prepare`: paired text files to HDF5 files and dictionaries.
//!
//! Takes what seq2seq-attn's `preprocess.py` took, under the same names, and leaves the same four
//! files, so that either can replace the other.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::atomic::Pending;
use super::sizes::Kept;
use super::source::{SOURCE_DICTIONARY, TARGET_DICTIONARY};
use super::text::{self, TextOptions, TextPair};
use super::{Dataset, hdf5};

/// Turns paired text files (plain or gzip, one sentence a line) into the files that training reads.
///
/// Writes OUTPUT-train.hdf5, OUTPUT-val.hdf5, OUTPUT.src.dict and OUTPUT.targ.dict.
#[derive(Clone, Debug, clap::Args)]
pub struct PrepareArgs {
    /// Source sentences to train on, one a line, words separated by spaces
    #[arg(long, visible_alias = "source-train", value_name = "FILE")]
    pub srcfile: PathBuf,

    /// Their translations, line by line
    #[arg(long, visible_alias = "target-train", value_name = "FILE")]
    pub targetfile: PathBuf,

    /// Source sentences to validate with
    #[arg(long, visible_alias = "source-valid", value_name = "FILE")]
    pub srcvalfile: PathBuf,

    /// Their translations, line by line
    #[arg(long, visible_alias = "target-valid", value_name = "FILE")]
    pub targetvalfile: PathBuf,

    /// What the names of the files written begin with, for example data/demo
    #[arg(long, visible_alias = "output", value_name = "PREFIX")]
    pub outputfile: PathBuf,

    /// Sentence pairs of a batch
    #[arg(
        long,
        visible_alias = "batch-size",
        value_name = "N",
        default_value_t = 64
    )]
    pub batchsize: usize,

    /// Words of the longest sentence that is kept, on either side
    #[arg(
        long,
        visible_alias = "max-words",
        value_name = "N",
        default_value_t = 50
    )]
    pub seqlength: usize,

    /// Words of the source vocabulary: the most frequent ones
    #[arg(
        long,
        visible_alias = "source-vocab-size",
        alias = "src-vocab-size",
        value_name = "N",
        default_value_t = 50_000
    )]
    pub srcvocabsize: usize,

    /// Words of the target vocabulary: the most frequent ones
    #[arg(
        long,
        visible_alias = "target-vocab-size",
        value_name = "N",
        default_value_t = 50_000
    )]
    pub targetvocabsize: usize,

    /// A dictionary to use instead of making one from the source text
    #[arg(long, visible_alias = "source-vocab", value_name = "FILE")]
    pub srcvocabfile: Option<PathBuf>,

    /// A dictionary to use instead of making one from the target text
    #[arg(long, visible_alias = "target-vocab", value_name = "FILE")]
    pub targetvocabfile: Option<PathBuf>,

    /// Drops pairs with more unknown words on a side than this: a fraction of its words when
    /// below 1, a number of words when not; 0 drops none
    #[arg(
        long,
        visible_alias = "unk-filter",
        value_name = "X",
        default_value_t = 0.0
    )]
    pub unkfilter: f64,

    /// 1 shuffles the pairs before they are sorted by source length (the same way each time)
    #[arg(long, value_name = "0|1", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub shuffle: u8,
}

/// Prepares the files and tells `out` what was kept, what was dropped and why.
pub fn run(args: &PrepareArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let options = TextOptions {
        batch_size: args.batchsize,
        max_words: args.seqlength,
        source_vocab_size: args.srcvocabsize,
        target_vocab_size: args.targetvocabsize,
        source_vocab_file: args.srcvocabfile.clone(),
        target_vocab_file: args.targetvocabfile.clone(),
        unk_filter: args.unkfilter,
        shuffle: args.shuffle == 1,
    };
    let pair = |source: &Path, target: &Path| TextPair {
        source: source.to_owned(),
        target: target.to_owned(),
    };
    let train = pair(&args.srcfile, &args.targetfile);
    let valid = pair(&args.srcvalfile, &args.targetvalfile);
    writeln!(
        out,
        "reading {} and {}",
        train.source.display(),
        train.target.display()
    )?;
    writeln!(
        out,
        "reading {} and {}",
        valid.source.display(),
        valid.target.display()
    )?;
    let loaded = text::load(&train, Some(&valid), &options)?;
    let corpus = &loaded.corpus;

    let columns = args.seqlength + 2;
    let mut pending = Pending::new();
    let mut tell = |name: &str, kept: Option<Kept>, data: Option<&Dataset>| {
        let (Some(kept), Some(data)) = (kept, data) else {
            return Ok(());
        };
        let file = with_ending(&args.outputfile, &format!("-{name}.hdf5"));
        pending.write(&file, |to| hdf5::write_to(to, data, columns))?;
        let counts = data.counts();
        writeln!(
            out,
            "{}: {kept}; {} batches",
            file.display(),
            counts.batches
        )?;
        writeln!(
            out,
            "  {} source tokens, {} target tokens ({} with padding)",
            counts.source_tokens, counts.target_words, counts.target_tokens
        )?;
        anyhow::Ok(())
    };
    tell("train", Some(loaded.train_kept), Some(&corpus.train))?;
    tell("val", loaded.valid_kept, corpus.valid.as_ref())?;
    for (side, vocabulary) in [
        (SOURCE_DICTIONARY, &corpus.source_vocab),
        (TARGET_DICTIONARY, &corpus.target_vocab),
    ] {
        let Some(vocabulary) = vocabulary else {
            continue;
        };
        let file = with_ending(&args.outputfile, side);
        pending.write(&file, |to| vocabulary.write(to))?;
        let words = vocabulary.len();
        writeln!(
            out,
            "{}: {words} words, the 4 special tokens included",
            file.display()
        )?;
    }
    pending.commit()?;
    out.flush().context("cannot write the summary")
}

/// A path with something after its last name, whatever dots are in that.
fn with_ending(prefix: &Path, ending: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
