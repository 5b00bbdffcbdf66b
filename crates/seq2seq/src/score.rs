//! How well a model translates the validation set, beside its perplexity.

use dsgd::Params;

use crate::batch::{BOS, EOS, PAD};
use crate::beam::{self, Beam};
use crate::bleu::{self, Matches, Smoothing};
use crate::data::{Corpus, DataError, Dataset};
use crate::kernels::Compute;
use crate::model::{self, Model, Workspace};

/// Words of the longest translation that is looked for, unless a reference is longer.
pub const MAX_LENGTH: usize = 50;

/// Scores that a step of the search may hold: 16 MiB. Sentences are searched for together up to it.
const MAX_SCORES: usize = 1 << 22;

/// What came of translating a validation set.
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// BLEU of the set, smoothed as sacrebleu does it. Words are compared as the vocabulary has
    /// them, so two unknown words are equal.
    pub bleu: bleu::Score,
    /// Sentences translated word for word as the reference.
    pub exact: u64,
    /// All sentences.
    pub sentences: u64,
}

/// Why it could not be translated.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// A batch cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model cannot compute it.
    #[error(transparent)]
    Model(#[from] model::Error),
}

impl Validation {
    /// The share of sentences translated word for word, 0 to 1.
    pub fn exact_share(&self) -> f64 {
        self.exact as f64 / self.sentences.max(1) as f64
    }
}

/// Translates the validation set of a corpus by beam search and compares the words, with as many
/// threads as the workspace has. None where there is no validation set.
pub fn score_validation(
    model: &Model,
    params: &Params,
    corpus: &Corpus,
    workspace: &mut Workspace,
    k: usize,
    max_bleu: usize,
) -> Result<Option<Validation>, ScoreError> {
    let Some(data) = corpus.valid.as_ref().filter(|data| !data.is_empty()) else {
        return Ok(None);
    };
    let threads = workspace.compute().threads.min(data.len());
    let compute = Compute {
        threads: 1,
        ..workspace.compute()
    };
    let mut others = Vec::new();
    for _ in 1..threads {
        others.push(Workspace::new(compute)?);
    }
    let work = |first: usize, workspace: &mut Workspace| {
        let mut tally = Tally::new(max_bleu);
        for number in (first..data.len()).step_by(threads) {
            tally.add_batch(model, params, data, number, k, workspace)?;
        }
        Ok::<_, ScoreError>(tally)
    };
    let tallies = std::thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = (1..)
            .zip(&mut others)
            .map(|(first, workspace)| scope.spawn(move || work(first, workspace)))
            .collect();
        let mut tallies = vec![work(0, workspace)];
        for other in others {
            tallies.push(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        tallies
    });
    let mut all = Tally::new(max_bleu);
    for tally in tallies {
        all.merge(&tally?);
    }
    Ok(Some(Validation {
        bleu: all.matches.score(Smoothing::Exp),
        exact: all.exact,
        sentences: all.sentences,
    }))
}

/// What one thread has counted.
struct Tally {
    matches: Matches,
    exact: u64,
    sentences: u64,
}

impl Tally {
    fn new(max_bleu: usize) -> Self {
        Self {
            matches: Matches::new(max_bleu),
            exact: 0,
            sentences: 0,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.matches.merge(&other.matches);
        self.exact += other.exact;
        self.sentences += other.sentences;
    }

    fn add_batch(
        &mut self,
        model: &Model,
        params: &Params,
        data: &Dataset,
        number: usize,
        k: usize,
        workspace: &mut Workspace,
    ) -> Result<(), ScoreError> {
        let batch = data.batch(number)?;
        let words = model.spec().target_size;
        let k = k.clamp(1, words);
        let beam = Beam {
            k,
            max_len: batch.target_len.max(MAX_LENGTH),
        };
        let together = (MAX_SCORES / words / k).max(1);
        for first in (0..batch.rows).step_by(together) {
            let rows = first..batch.rows.min(first + together);
            let width = batch.source_len;
            let part = |source: &Vec<u32>| source[rows.start * width..rows.end * width].to_vec();
            let sources: Vec<_> = batch.sources.iter().map(part).collect();
            let found = beam::search(model, params, &sources, rows.len(), beam, workspace)?;
            let references = batch.gold.chunks(batch.target_len.max(1)).skip(rows.start);
            for (found, reference) in found.iter().zip(references) {
                let best = found.finished.first().or(found.unfinished.as_ref());
                self.add(
                    &bare(best.map_or(&[], |best| &best.tokens)),
                    &bare(reference),
                );
            }
        }
        Ok(())
    }

    fn add(&mut self, hypothesis: &[u32], reference: &[u32]) {
        self.matches.add(hypothesis, reference);
        self.exact += u64::from(hypothesis == reference);
        self.sentences += 1;
    }
}

/// The words of a row, without padding and sentence marks.
fn bare(row: &[u32]) -> Vec<u32> {
    let is_word = |word: &u32| ![PAD, BOS, EOS].contains(word);
    row.iter().copied().filter(is_word).collect()
}
