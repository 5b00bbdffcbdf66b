//! `dsgd data show`: what is in an HDF5 file of sentence pairs.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;

use super::source::{SOURCE_DICTIONARY, TARGET_DICTIONARY, read_dictionary, vocabulary_beside};
use super::{Dataset, Vocabulary, hdf5};

/// Rows of the histogram of lengths at most.
const BINS: usize = 10;

/// Characters of its longest bar.
const BAR: usize = 40;

/// Checks an HDF5 file of sentence pairs and shows its sizes, lengths and first sentences.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// The file, as `dsgd data prepare` writes it
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Dictionary of the source words [default: PREFIX.src.dict beside PREFIX-train.hdf5]
    #[arg(long, value_name = "FILE")]
    pub src_dict: Option<PathBuf>,

    /// Dictionary of the target words [default: PREFIX.targ.dict beside PREFIX-train.hdf5]
    #[arg(long, value_name = "FILE")]
    pub targ_dict: Option<PathBuf>,

    /// Sentence pairs to show
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub sentences: usize,
}

/// Checks the file and tells `out` what is in it.
pub fn run(args: &ShowArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let data = hdf5::read(&args.file)?;
    let sizes = data.sizes();
    let vocabulary = |given: &Option<PathBuf>, ending, size| match given {
        Some(dictionary) => read_dictionary(dictionary, &args.file, size).map(Some),
        None => vocabulary_beside(&args.file, ending, size),
    };
    let source = vocabulary(&args.src_dict, SOURCE_DICTIONARY, sizes.source)?;
    let target = vocabulary(&args.targ_dict, TARGET_DICTIONARY, sizes.target)?;
    write_sizes(&data, out)
        .and_then(|()| write_histogram(&data, out))
        .and_then(|()| {
            write_sentences(&data, source.as_ref(), target.as_ref(), args.sentences, out)
        })
        .and_then(|()| out.flush())
        .context("cannot write what the file holds")
}

fn write_sizes(data: &Dataset, out: &mut dyn Write) -> std::io::Result<()> {
    let (counts, sizes) = (data.counts(), data.sizes());
    let total = data.sentences().len();
    writeln!(out, "vocabulary    {sizes}, special tokens included")?;
    write!(out, "sentences     {total}")?;
    match total - counts.sentences {
        0 => writeln!(out)?,
        1 => writeln!(out, ", 1 of them in no batch")?,
        lost => writeln!(out, ", {lost} of them in no batch")?,
    }
    let sizes = || data.cuts().iter().map(|cut| cut.rows.len());
    let (smallest, largest) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
    let full = sizes().filter(|&size| size == largest).count();
    writeln!(
        out,
        "batches       {}, of {smallest} to {largest} sentences ({full} of {largest})",
        counts.batches
    )?;
    writeln!(
        out,
        "source tokens {}, none of them padding",
        counts.source_tokens
    )?;
    writeln!(
        out,
        "target tokens {}, of which {} are wanted words and the rest padding",
        counts.target_tokens, counts.target_words
    )
}

fn write_histogram(data: &Dataset, out: &mut dyn Write) -> std::io::Result<()> {
    let lengths: [Vec<usize>; 2] = [
        data.sentences()
            .iter()
            .map(|(source, _)| source.len())
            .collect(),
        data.sentences()
            .iter()
            .map(|(_, target)| target.len())
            .collect(),
    ];
    let longest = lengths.iter().flatten().copied().max().unwrap_or(0);
    let width = longest.div_ceil(BINS).max(1);
    for (name, lengths) in ["source", "target"].iter().zip(&lengths) {
        writeln!(out, "\n{name} lengths, special tokens included")?;
        let mut bins = vec![0_usize; longest / width + 1];
        for length in lengths {
            bins[length / width] += 1;
        }
        let highest = bins.iter().copied().max().unwrap_or(0).max(1);
        for (bin, &count) in bins.iter().enumerate() {
            let (from, to) = (bin * width, bin * width + width - 1);
            // A bin that is not empty shows.
            let bar = "#".repeat((count * BAR).div_ceil(highest));
            writeln!(out, "{from:>5} to {to:<5}{count:>9}  {bar}")?;
        }
    }
    Ok(())
}

fn write_sentences(
    data: &Dataset,
    source: Option<&Vocabulary>,
    target: Option<&Vocabulary>,
    wanted: usize,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if wanted > 0 && (source.is_none() || target.is_none()) {
        writeln!(
            out,
            "\nNo dictionary beside the file: give --src-dict and --targ-dict to see words."
        )?;
    }
    for (row, (from, to)) in data.sentences().iter().take(wanted).enumerate() {
        writeln!(out, "\nrow {row}")?;
        writeln!(out, "  source {}", text(from, source))?;
        writeln!(out, "  target {}", text(to, target))?;
    }
    Ok(())
}

/// A row as words, or as indices where there is no dictionary. What would steer the terminal is
/// shown as its code.
fn text(row: &[u32], vocabulary: Option<&Vocabulary>) -> String {
    let words: Vec<String> = match vocabulary {
        Some(vocabulary) => vocabulary.decode(row).into_iter().map(printable).collect(),
        None => row.iter().map(u32::to_string).collect(),
    };
    words.join(" ")
}

pub(crate) fn printable(word: &str) -> String {
    word.chars()
        .flat_map(|c| {
            let codes = c.is_control().then(|| c.escape_default());
            codes
                .into_iter()
                .flatten()
                .chain((!c.is_control()).then_some(c))
        })
        .collect()
}
