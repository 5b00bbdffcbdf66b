//! `dsgd translate`: sentences in, translations out.
//!
//! From standard input, line by line: each translation is there before the next line is read, so
//! that another program can talk to it. From a file, many lines at once on all cores.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufReader, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{ModelArgs, number};
use crate::bleu::{Matches, Smoothing};
use crate::data::DataError;
use crate::data::atomic::Pending;
use crate::data::lines::Lines;
use crate::translator::{Translation, Translator};

/// Lines of a file that each thread is dealt at once: enough to keep the threads busy, and few
/// enough to show that something happens.
const LINES: usize = 16;

/// Orders of BLEU that can be asked for; no corpus has longer rows in common.
const MAX_ORDER: usize = 100;

/// Translate a sentence, a file or standard input with a trained model
#[derive(Clone, Debug, Args)]
pub struct TranslateArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// A sentence; quotes are not needed
    #[arg(value_name = "WORDS", conflicts_with = "input")]
    pub sentence: Vec<String>,

    /// File of sentences, one a line, plain or gzip [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// File for the translations, there in full or not at all [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Writes all K translations of a line instead of the best, each as line number, natural
    /// logarithm of its probability and text, separated by tabs
    #[arg(long)]
    pub n_best: bool,

    /// The right translations, one a line, plain or gzip: says at the end how good ours were, as
    /// BLEU and as the share of sentences that are the same word for word
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,

    /// Words in a row that BLEU counts
    #[arg(long, value_name = "N", default_value_t = crate::bleu::MAX_ORDER,
          value_parser = number(MAX_ORDER))]
    pub max_bleu: usize,

    /// Cores that translate the lines of a file
    #[arg(long, value_name = "N", value_parser = number(1024),
          default_value_t = std::thread::available_parallelism().map_or(1, std::num::NonZero::get))]
    pub threads: usize,
}

/// Translates, with the streams of this process.
pub fn run(args: &TranslateArgs) -> anyhow::Result<()> {
    let reads_stdin = args.sentence.is_empty() && args.input.is_none();
    // Only a file has lines to deal out.
    let threads = if args.input.is_some() {
        args.threads
    } else {
        1
    };
    let mut translator = args.model.open(threads)?;
    if reads_stdin && io::stdin().is_terminal() {
        eprintln!("Type a sentence a line; Ctrl-D ends.");
    }
    let input = io::stdin().lock();
    let mut streams = Streams {
        out: &mut io::stdout().lock(),
        err: &mut io::stderr(),
        merged: is_one_file(&io::stdout(), &io::stderr()),
    };
    translate(args, &mut translator, BufReader::new(input), &mut streams)
}

/// Where translations, notes and scores go.
pub struct Streams<'a> {
    /// Gets the translations, or the scores where translations go to a file.
    pub out: &'a mut dyn Write,
    /// Gets what a person should know, and the scores where `out` has the translations.
    pub err: &'a mut dyn Write,
    /// Whether both are one file, where line n of the translations has to be that of line n of the
    /// source: then nothing is noted between them.
    pub merged: bool,
}

/// Whether what is written to these goes to one file or pipe that nobody watches.
fn is_one_file(one: &(impl AsFd + IsTerminal), other: &impl AsFd) -> bool {
    let place = |of: BorrowedFd<'_>| {
        let metadata = fs::File::from(of.try_clone_to_owned()?).metadata()?;
        Ok::<_, io::Error>((metadata.dev(), metadata.ino()))
    };
    let places = (place(one.as_fd()), place(other.as_fd()));
    !one.is_terminal() && matches!(places, (Ok(one), Ok(other)) if one == other)
}

/// Translates what the arguments say, reading `input` where they name no sentences.
///
/// # Errors
/// When something cannot be read, translated or written.
pub fn translate(
    args: &TranslateArgs,
    translator: &mut Translator,
    input: impl io::BufRead + 'static,
    streams: &mut Streams<'_>,
) -> anyhow::Result<()> {
    let source = match (&args.input, args.sentence.is_empty()) {
        (Some(file), _) => Lines::open(file)?,
        (None, false) => {
            let sentence = io::Cursor::new(args.sentence.join(" ").into_bytes());
            Lines::from_reader(sentence, Path::new("the command line"))?
        }
        (None, true) => Lines::from_reader(input, Path::new("standard input"))?,
    };
    if let (Some(input), Some(reference)) = (&args.input, &args.reference) {
        check_counts(input, reference)?;
    }
    let mut nowhere = io::sink();
    let merged = args.output.is_none() && streams.merged;
    let mut work = Work {
        args,
        translator,
        source,
        reference: Reference::open(args)?,
        notes: if merged {
            &mut nowhere
        } else {
            &mut *streams.err
        },
        number: 0,
        cut: 0,
    };
    match &args.output {
        None => {
            work.run(streams.out)?;
            let scores = work.scores()?;
            write!(streams.err, "{scores}").context("cannot write the scores")
        }
        Some(file) => {
            let mut result = Ok(());
            let mut pending = Pending::new();
            let written = pending.write(file, |out| {
                result = work.run(out);
                // Leaves the file as it was; the error itself is the one above.
                let failed = result.as_ref().err();
                failed.map_or(Ok(()), |error| Err(io::Error::other(error.to_string())))
            });
            result?;
            written?;
            let scores = work.scores()?;
            pending.commit()?;
            write!(streams.out, "{scores}").context("cannot write the scores")
        }
    }
}

/// Lines on their way through.
struct Work<'a> {
    args: &'a TranslateArgs,
    translator: &'a mut Translator,
    source: Lines,
    reference: Option<Reference>,
    notes: &'a mut dyn Write,
    /// Lines translated.
    number: u64,
    /// Of those, the ones whose translation did not end.
    cut: u64,
}

impl Work<'_> {
    fn run(&mut self, out: &mut dyn Write) -> anyhow::Result<()> {
        let at_once = match self.args.input {
            Some(_) => LINES * self.args.threads,
            None => 1,
        };
        loop {
            let mut lines = Vec::new();
            while lines.len() < at_once
                && let Some(line) = self.source.next_line()?
            {
                lines.push(line.to_owned());
            }
            if lines.is_empty() {
                return self.note_cut().context("cannot write the notes");
            }
            let (k, max_length) = (self.args.model.beam_k, self.args.model.max_length);
            for translation in self.translator.translate_all(&lines, k, max_length)? {
                self.number += 1;
                self.cut += u64::from(translation.cut);
                self.write(&translation, out)
                    .context("cannot write the translations")?;
                if let Some(reference) = &mut self.reference {
                    reference.compare(&translation, self.translator)?;
                }
            }
        }
    }

    fn write(&mut self, translation: &Translation, out: &mut dyn Write) -> io::Result<()> {
        let number = self.number;
        for note in &translation.notes {
            writeln!(self.notes, "Note: line {number}: {note}")?;
        }
        if !self.args.n_best {
            writeln!(out, "{}", translation.text)?;
        } else if translation.n_best.is_empty() {
            writeln!(out, "{number}\t0.0000\t")?;
        }
        for one in translation.n_best.iter().filter(|_| self.args.n_best) {
            writeln!(out, "{number}\t{:.4}\t{}", one.log_prob, one.text)?;
        }
        out.flush()
    }

    /// Says how many translations are beginnings: of a model that has hardly learnt, nearly all are.
    fn note_cut(&mut self) -> io::Result<()> {
        if self.cut == 0 {
            return Ok(());
        }
        writeln!(
            self.notes,
            "Note: {} of {} translations did not end within {} words, and are beginnings",
            self.cut, self.number, self.args.model.max_length
        )
    }

    /// What the references say, as lines; nothing without references.
    fn scores(&mut self) -> anyhow::Result<String> {
        let Some(reference) = &mut self.reference else {
            return Ok(String::new());
        };
        if reference.lines.next_line()?.is_some() {
            bail!(
                "{} has more lines than there were sentences, {}: line n must be the translation of line n",
                reference.file.display(),
                self.number
            );
        }
        Ok(reference.scores(self.number))
    }
}

/// The right translations, read along.
struct Reference {
    file: PathBuf,
    lines: Lines,
    matches: Matches,
    exact: u64,
}

impl Reference {
    fn open(args: &TranslateArgs) -> Result<Option<Self>, DataError> {
        let open = |file: &PathBuf| {
            Ok(Self {
                file: file.clone(),
                lines: Lines::open(file)?,
                matches: Matches::new(args.max_bleu),
                exact: 0,
            })
        };
        args.reference.as_ref().map(open).transpose()
    }

    fn compare(&mut self, ours: &Translation, translator: &Translator) -> anyhow::Result<()> {
        let Some(line) = self.lines.next_line()? else {
            bail!(
                "{} has fewer lines than there are sentences: line n must be the translation of line n",
                self.file.display()
            );
        };
        let right = translator.reference_words(line);
        self.matches.add(ours.words(), &right);
        self.exact += u64::from(ours.words() == right);
        Ok(())
    }

    fn scores(&self, lines: u64) -> String {
        let bleu = self.matches.score(Smoothing::Exp);
        let precisions: Vec<_> = bleu.precisions.iter().map(|p| format!("{p:.1}")).collect();
        let mut text = String::new();
        let _ = writeln!(
            text,
            "BLEU {bleu} (precisions {}, brevity penalty {:.3}, {} words, reference {})",
            precisions.join(" "),
            bleu.brevity_penalty,
            bleu.hypothesis_length,
            bleu.reference_length
        );
        let share = 100.0 * self.exact as f64 / lines.max(1) as f64;
        let _ = writeln!(
            text,
            "exact {share:.2} % ({} of {lines} sentences)",
            self.exact
        );
        text
    }
}

/// Better before hours of translating than after.
fn check_counts(source: &Path, target: &Path) -> Result<(), DataError> {
    let source_lines = Lines::open(source)?.count_rest()?;
    let target_lines = Lines::open(target)?.count_rest()?;
    if source_lines == target_lines {
        return Ok(());
    }
    Err(DataError::LineCounts {
        source_file: source.to_owned(),
        source_lines,
        target_file: target.to_owned(),
        target_lines,
    })
}
