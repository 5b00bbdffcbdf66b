//! From a checkpoint and a line of text to its translation.
//!
//! A checkpoint carries all that this needs ([`metadata`]): the model's shape and the words of both
//! languages. A line is split at white space, its words become indices (those that the model does not
//! know become `<unk>`, with a note), beam search finds the likeliest translations, and their
//! words are put together again. A model of number words reads and writes numbers as people do.
//!
//! * An empty line is its own translation, so that line n stays the translation of line n.
//! * Of a line of more than [`MAX_WORDS`] words the rest is not read, with a note.
//! * Where nothing was finished within the longest length, the best unfinished translation is
//!   given, with a note.
//! * For the hierarchical model a line is a dialogue, its utterances separated by a word such as
//!   `<t>`. Utterances that are missing at the beginning are empty ones.

mod error;
pub mod metadata;
mod open;

use std::collections::HashSet;

use dsgd::Params;

use crate::batch::{SentenceBatch, UNK};
use crate::beam::{self, Beam, Hypothesis};
use crate::data::utterances::{Utterances, split_utterances};
use crate::data::{Vocabulary, numbers, show, text};
use crate::kernels::Compute;
use crate::model::{Model, ModelType, Workspace};

pub use error::TranslateError;
pub use open::Dictionaries;

/// Words of a line that are read. Training reads 50 unless told otherwise, and each word costs
/// some hundred kilobytes in a large model.
pub const MAX_WORDS: usize = 1000;

/// The widest beam: its scores are k times the vocabulary.
pub const MAX_BEAM: usize = 1000;

/// The longest translation that can be asked for, in words.
pub const MAX_LENGTH: usize = 10_000;

/// Notes name this many unknown words at most.
const NAMED: usize = 5;

/// Characters of a word that a note names.
const QUOTED: usize = 40;

/// A trained model that is ready to translate.
#[derive(Debug)]
pub struct Translator {
    model: Model,
    params: Params,
    source: Vocabulary,
    target: Vocabulary,
    numbers: bool,
    separator: String,
    /// One for each thread that lines are dealt to.
    workspaces: Vec<Workspace>,
}

/// One possible translation.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its words, as the vocabulary has them.
    pub words: Vec<String>,
    /// The words put together.
    pub text: String,
    /// Natural logarithm of its probability.
    pub log_prob: f64,
}

/// The translation of a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    /// The likeliest that was found.
    pub text: String,
    /// Natural logarithm of its probability; 0 for an empty line.
    pub log_prob: f64,
    /// The likeliest, best first, among them the one above; none for an empty line.
    pub n_best: Vec<Candidate>,
    /// Whether none ended within the longest length, and this is the beginning of one.
    pub cut: bool,
    /// What a person should know about it, such as unknown words.
    pub notes: Vec<String>,
}

impl Translation {
    /// The words of the likeliest, as the vocabulary has them.
    pub fn words(&self) -> &[String] {
        self.n_best.first().map_or(&[], |best| &best.words)
    }
}

impl Translator {
    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Whether it was trained on the built-in number words.
    pub fn is_numbers(&self) -> bool {
        self.numbers
    }

    /// The word that stands between the utterances of a dialogue.
    pub fn separator(&self) -> &str {
        &self.separator
    }

    /// The words of a reference translation, to compare [`Translation::words`] with.
    pub fn reference_words(&self, line: &str) -> Vec<String> {
        self.words(line)
    }

    /// Translates a line: the `k` likeliest translations of at most `max_len` words.
    ///
    /// `k` must be 1 to [`MAX_BEAM`] and is capped at the vocabulary; `max_len` counts the end
    /// of the sentence and must be 1 to [`MAX_LENGTH`].
    pub fn translate(
        &mut self,
        line: &str,
        k: usize,
        max_len: usize,
    ) -> Result<Translation, TranslateError> {
        let mut all = self.translate_all(&[line], k, max_len)?;
        Ok(all.pop().unwrap_or_default())
    }

    /// Answers a line of a dialogue after the utterances `before` it, the oldest first: the `k` likeliest
    /// answers of at most `max_len` words, limited as in [`translate`](Self::translate). Notes are about
    /// the line alone. Where all together are too long to be read, the oldest utterances are not.
    ///
    /// A model that is not hierarchical reads the line alone.
    pub fn answer(
        &mut self,
        before: &[String],
        line: &str,
        k: usize,
        max_len: usize,
    ) -> Result<Translation, TranslateError> {
        within("the beam", k, MAX_BEAM)?;
        within("the longest length", max_len, MAX_LENGTH)?;
        let mut words = self.words(line);
        let notes = self.read_notes(&mut words);
        if !words.is_empty() && self.model.spec().model_type == ModelType::Hred {
            for utterance in before.iter().rev() {
                let mut longer = self.words(utterance);
                longer.retain(|word| *word != self.separator);
                longer.push(self.separator.clone());
                if longer.len() + words.len() > MAX_WORDS {
                    break;
                }
                longer.append(&mut words);
                words = longer;
            }
        }
        let mut workspaces = std::mem::take(&mut self.workspaces);
        let found = self.search(&words, notes, Beam { k, max_len }, &mut workspaces[0]);
        self.workspaces = workspaces;
        found
    }

    /// Translates lines, dealt to all threads; line n of the result is that of line n.
    pub fn translate_all<L: AsRef<str> + Sync>(
        &mut self,
        lines: &[L],
        k: usize,
        max_len: usize,
    ) -> Result<Vec<Translation>, TranslateError> {
        within("the beam", k, MAX_BEAM)?;
        within("the longest length", max_len, MAX_LENGTH)?;
        let beam = Beam { k, max_len };
        let mut workspaces = std::mem::take(&mut self.workspaces);
        let share = lines.len().div_ceil(workspaces.len().max(1)).max(1);
        let this = &*self;
        let mut parts = lines.chunks(share).zip(&mut workspaces);
        let first = parts.next();
        let work = |(lines, workspace): (&[L], &mut Workspace)| {
            let one = |line: &L| this.translate_with(line.as_ref(), beam, workspace);
            lines.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        let done = std::thread::scope(|scope| {
            let others: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
            let mut done: Vec<_> = first.map(work).into_iter().collect();
            for other in others {
                done.push(
                    other
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                );
            }
            done
        });
        self.workspaces = workspaces;
        let done: Result<Vec<_>, _> = done.into_iter().collect();
        Ok(done?.into_iter().flatten().collect())
    }

    fn translate_with(
        &self,
        line: &str,
        beam: Beam,
        workspace: &mut Workspace,
    ) -> Result<Translation, TranslateError> {
        let mut words = self.words(line);
        let notes = self.read_notes(&mut words);
        self.search(&words, notes, beam, workspace)
    }

    /// Leaves as many words as are read, and says what a person should know about them.
    fn read_notes(&self, words: &mut Vec<String>) -> Vec<String> {
        let mut notes = Vec::new();
        let found = words.len();
        if found > MAX_WORDS {
            notes.push(format!(
                "{found} words, of which only the first {MAX_WORDS} were read"
            ));
            words.truncate(MAX_WORDS);
        }
        notes.extend(self.unknown(words));
        notes
    }

    /// Translates these words, of which no more is to be said than the notes do.
    fn search(
        &self,
        words: &[String],
        mut notes: Vec<String>,
        beam: Beam,
        workspace: &mut Workspace,
    ) -> Result<Translation, TranslateError> {
        if words.is_empty() {
            return Ok(Translation::default());
        }
        let sources = self.sources(words)?;
        let found = beam::search(&self.model, &self.params, &sources, 1, beam, workspace)?;
        let found = found.into_iter().next().unwrap_or_default();
        let cut = found.finished.is_empty() && found.unfinished.is_some();
        if found.finished.is_empty() && !cut {
            notes.push("the model finds no word likelier than another; it is of no use".to_owned());
        }
        let best = found.finished.iter().chain(&found.unfinished);
        let most = found.finished.len().max(1);
        let n_best: Vec<_> = best.take(most).map(|one| self.candidate(one)).collect();
        let best = n_best.first();
        Ok(Translation {
            text: best.map(|best| best.text.clone()).unwrap_or_default(),
            log_prob: best.map_or(0.0, |best| best.log_prob),
            n_best,
            cut,
            notes,
        })
    }

    fn words(&self, line: &str) -> Vec<String> {
        if self.numbers {
            numbers::english_words(line)
        } else {
            text::words(line)
        }
    }

    /// Says which words the model does not know.
    fn unknown(&self, words: &[String]) -> Option<String> {
        let is_unknown = |word: &&String| self.source.index_of_text(word) == UNK;
        let mut unknown: Vec<&String> = words.iter().filter(is_unknown).collect();
        let mut seen = HashSet::new();
        unknown.retain(|word| seen.insert(*word));
        let (first, rest) = unknown.split_at(unknown.len().min(NAMED));
        let named: Vec<_> = first.iter().map(|word| quoted(word)).collect();
        let named = named.join(", ");
        match (first.len(), rest.len()) {
            (0, _) => None,
            (1, _) => Some(format!("unknown word {named}, read as <unk>")),
            (_, 0) => Some(format!("unknown words {named}, read as <unk>")),
            (_, more) => Some(format!(
                "unknown words {named} and {more} more, read as <unk>"
            )),
        }
    }

    /// The words as the model reads them.
    fn sources(&self, words: &[String]) -> Result<Vec<Vec<u32>>, TranslateError> {
        let mut row = self.source.encode(words.iter().map(String::as_str));
        let spec = self.model.spec();
        if spec.model_type == ModelType::Red {
            return Ok(vec![row]);
        }
        let separator = self.separator_index()?;
        let found = 1 + row.iter().filter(|&&word| word == separator).count();
        let missing = spec.utter_context.saturating_sub(found);
        // After <s>: the utterances that there were before the first are empty ones.
        row.splice(1..1, std::iter::repeat_n(separator, missing));
        let batch = SentenceBatch {
            rows: 1,
            source_len: row.len(),
            sources: vec![row],
            ..SentenceBatch::default()
        };
        let utterances = Utterances {
            count: spec.utter_context,
            separator,
        };
        Ok(split_utterances(batch, &utterances)?.sources)
    }

    fn separator_index(&self) -> Result<u32, TranslateError> {
        self.source
            .index(&self.separator)
            .ok_or_else(|| TranslateError::NoSeparator {
                word: self.separator.clone(),
            })
    }

    fn candidate(&self, hypothesis: &Hypothesis) -> Candidate {
        let words = self.target.decode(&hypothesis.tokens);
        let joined = if self.numbers {
            numbers::join_french(&words)
        } else {
            words.join(" ")
        };
        Candidate {
            text: show::printable(&joined),
            words: words.into_iter().map(str::to_owned).collect(),
            log_prob: hypothesis.log_prob,
        }
    }
}

/// A word for a note: nothing in it steers the terminal, and it is no longer than a line.
fn quoted(word: &str) -> String {
    let short: String = word.chars().take(QUOTED).collect();
    let more = if short.len() < word.len() { "…" } else { "" };
    format!("`{}{more}`", show::printable(&short))
}

fn within(what: &'static str, value: usize, limit: usize) -> Result<(), TranslateError> {
    if (1..=limit).contains(&value) {
        return Ok(());
    }
    Err(TranslateError::Limit { what, value, limit })
}

/// As many workspaces of one thread each, however a number is meant.
fn workspaces(threads: usize) -> Result<Vec<Workspace>, TranslateError> {
    (0..threads.max(1))
        .map(|_| Ok(Workspace::new(Compute::default())?))
        .collect()
}
