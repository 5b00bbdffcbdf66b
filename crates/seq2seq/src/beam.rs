//! Beam search: the translations that a model finds most likely, without trying all.
//!
//! 1. A sentence has one live hypothesis, `<s>`, of log-probability 0, and none that is done.
//! 2. Every live hypothesis is extended by every word; an extension's score is the sum of the
//!    log-probabilities of its words. Nothing is forbidden and length is not made up for.
//! 3. The k best extensions of all are kept. Those that end in `</s>` are done, the others are
//!    the live ones of the next step. A finished one takes a place in this step only.
//! 4. The search ends after `max_len` words (`</s>` counts), when nothing is live, or when k are
//!    done and no live one is above the k-th best of them: scores only fall. What is unfinished
//!    then is dropped; the k best done are the result.
//!
//! All live hypotheses of all sentences of a call go through the model in one step, because a
//! step costs about as much for sixteen as for one.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use dsgd::Params;

use crate::batch::{BOS, EOS};
use crate::model::{Error, Model, Workspace};

/// Scores whose largest is compared with the k-th best so far, before each of them is.
const PIECE: usize = 64;

/// How wide and how far to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beam {
    /// Hypotheses kept in each step; at least 1 and at most the vocabulary, whatever is said here.
    pub k: usize,
    /// Words of the longest hypothesis, `</s>` counted.
    pub max_len: usize,
}

/// A translation, whole or so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// `<s>`, the words, and `</s>` where it is finished.
    pub tokens: Vec<u32>,
    /// Sum of the natural logarithms of the probabilities of all tokens after `<s>`.
    pub log_prob: f64,
}

/// What was found for one sentence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The k best finished hypotheses, best first; fewer where fewer were finished.
    pub finished: Vec<Hypothesis>,
    /// The best that was unfinished at the end, for those who want something at any rate.
    pub unfinished: Option<Hypothesis>,
}

/// The finished translations of one source, best first.
///
/// `sources` is one row of words, or for the hierarchical model one an utterance, all of the
/// same length.
pub fn beam_search(
    model: &Model,
    params: &Params,
    sources: &[Vec<u32>],
    k: usize,
    max_len: usize,
    workspace: &mut Workspace,
) -> Result<Vec<Hypothesis>, Error> {
    let found = search(model, params, sources, 1, Beam { k, max_len }, workspace)?;
    Ok(found.into_iter().flat_map(|found| found.finished).collect())
}

/// Searches for `rows` sources at once: one matrix [rows, length], or one an utterance.
pub fn search(
    model: &Model,
    params: &Params,
    sources: &[Vec<u32>],
    rows: usize,
    beam: Beam,
    workspace: &mut Workspace,
) -> Result<Vec<Found>, Error> {
    let words = model.spec().target_size;
    let k = beam.k.clamp(1, words);
    let mut state = model.encode(params, sources, rows, workspace)?;
    let mut sentences: Vec<Sentence> = (0..rows).map(|_| Sentence::new(k)).collect();
    for _ in 0..beam.max_len {
        let live = || sentences.iter().flat_map(|sentence| &sentence.live);
        let last: Vec<u32> = live()
            .map(|hypothesis| hypothesis.tokens.last().copied().unwrap_or(BOS))
            .collect();
        if last.is_empty() {
            break;
        }
        let (log_probs, next) = model.step(params, &state, &last, workspace)?;
        let mut at = 0;
        let mut origins = Vec::new();
        for sentence in &mut sentences {
            let end = at + sentence.live.len();
            let rows = &log_probs[at * words..end * words];
            origins.extend(sentence.extend(rows, words).into_iter().map(|n| at + n));
            at = end;
        }
        state = next.select(&origins);
    }
    Ok(sentences.into_iter().map(Sentence::finish).collect())
}

/// One sentence while it is searched for.
struct Sentence {
    k: usize,
    /// Best first.
    live: Vec<Hypothesis>,
    done: Vec<Hypothesis>,
    /// The best live one of when the search for it ended.
    unfinished: Option<Hypothesis>,
}

impl Sentence {
    fn new(k: usize) -> Self {
        Self {
            k,
            live: vec![Hypothesis {
                tokens: vec![BOS],
                log_prob: 0.0,
            }],
            done: Vec::new(),
            unfinished: None,
        }
    }

    /// One step, given the log-probabilities [live, words] of each next word. Returns for each
    /// that is live now the number of the live one that it was made from.
    fn extend(&mut self, log_probs: &[f32], words: usize) -> Vec<usize> {
        let rows = self.live.iter().zip(log_probs.chunks_exact(words));
        let best = best_extensions(rows.map(|(from, row)| (from.log_prob, row)), self.k);
        let mut live = Vec::with_capacity(best.len());
        let mut origins = Vec::with_capacity(best.len());
        for extension in best {
            let token = extension.word as u32 + 1;
            let mut tokens = self.live[extension.from].tokens.clone();
            tokens.push(token);
            let hypothesis = Hypothesis {
                tokens,
                log_prob: extension.score,
            };
            if token == EOS {
                self.done.push(hypothesis);
            } else {
                live.push(hypothesis);
                origins.push(extension.from);
            }
        }
        self.live = live;
        // Stable: of two that are equal the one found first stays first.
        self.done.sort_by(|a, b| b.log_prob.total_cmp(&a.log_prob));
        self.done.truncate(self.k);
        if self.is_decided() {
            self.unfinished = self.live.drain(..).next();
            origins.clear();
        }
        origins
    }

    /// Whether no live one can still become one of the k best.
    fn is_decided(&self) -> bool {
        match (self.done.get(self.k - 1), self.live.first()) {
            (Some(worst), Some(best)) => best.log_prob <= worst.log_prob,
            _ => false,
        }
    }

    fn finish(self) -> Found {
        Found {
            finished: self.done,
            unfinished: self.unfinished.or(self.live.into_iter().next()),
        }
    }
}

/// A hypothesis with one word more.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Extension {
    score: f64,
    /// Number of the hypothesis.
    from: usize,
    /// Column of the word, its index less 1.
    word: usize,
}

/// The better is the greater: the higher score, and of two equal ones the one seen first.
impl Ord for Extension {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |extension: &Self| Reverse((extension.from, extension.word));
        let by_score = self.score.total_cmp(&other.score);
        by_score.then_with(|| place(self).cmp(&place(other)))
    }
}

impl PartialOrd for Extension {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Extension {}

/// The k best extensions, best first. Of the n scores almost all are only compared with the k-th
/// best so far: about k · ln(n / k) of them pass through a heap of k. What is no number, as in a
/// model that has diverged, is never chosen.
fn best_extensions<'a>(rows: impl Iterator<Item = (f64, &'a [f32])>, k: usize) -> Vec<Extension> {
    let mut best: BinaryHeap<Reverse<Extension>> = BinaryHeap::with_capacity(k + 1);
    let mut worst = f64::NEG_INFINITY;
    for (from, (before, row)) in rows.enumerate() {
        for (number, piece) in row.chunks(PIECE).enumerate() {
            // A loop that the compiler vectorises; false for what is no number.
            let largest = |most: f32, &x: &f32| if x > most { x } else { most };
            let most = piece.iter().fold(f32::NEG_INFINITY, largest);
            if before + f64::from(most) <= worst {
                continue;
            }
            for (word, &log_prob) in (number * PIECE..).zip(piece) {
                let score = before + f64::from(log_prob);
                if score > worst {
                    best.push(Reverse(Extension { score, from, word }));
                    if best.len() > k {
                        best.pop();
                    }
                    if best.len() == k {
                        worst = best.peek().map_or(worst, |last| last.0.score);
                    }
                }
            }
        }
    }
    let sorted = best.into_sorted_vec();
    sorted
        .into_iter()
        .map(|Reverse(extension)| extension)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(rows: &[(f64, &[f32])], k: usize) -> Vec<(usize, usize)> {
        let best = best_extensions(rows.iter().copied(), k);
        best.iter().map(|e| (e.from, e.word)).collect()
    }

    #[test]
    fn the_best_of_all_best_first_and_of_equal_ones_the_first() {
        let rows: [(f64, &[f32]); 2] = [(-1.0, &[-3.0, -1.0, -2.0]), (0.0, &[-3.0, -2.0, -9.0])];
        assert_eq!(best(&rows, 1), [(0, 1)]);
        assert_eq!(best(&rows, 3), [(0, 1), (1, 1), (0, 2)]);
        assert_eq!(best(&rows, 9).len(), 6);
        assert_eq!(best(&[(0.0, &[-1.0; 50])], 3), [(0, 0), (0, 1), (0, 2)]);
    }

    #[test]
    fn what_is_no_number_is_never_chosen() {
        let row = [f32::NAN, -1.0, f32::NAN, f32::NEG_INFINITY, -2.0];
        assert_eq!(best(&[(0.0, &row)], 5), [(0, 1), (0, 4)]);
        assert_eq!(best(&[(f64::NAN, &row)], 5), []);
    }

    #[test]
    fn the_k_best_are_those_of_a_full_sort() {
        // Any numbers in no order.
        let value = |n: usize| -(((n * 7919) % 1009) as f32) / 64.0;
        let first: Vec<f32> = (0..300).map(value).collect();
        let second: Vec<f32> = (300..600).map(value).collect();
        let mut all: Vec<Extension> = Vec::new();
        for (from, row) in [&first, &second].into_iter().enumerate() {
            let extension = |(word, &p): (usize, &f32)| Extension {
                score: f64::from(p) - from as f64,
                from,
                word,
            };
            all.extend(row.iter().enumerate().map(extension));
        }
        all.sort_by(|a, b| b.cmp(a));
        for k in [1, 5, 64, 599] {
            let rows: [(f64, &[f32]); 2] = [(0.0, &first), (-1.0, &second)];
            assert_eq!(best_extensions(rows.into_iter(), k), all[..k]);
        }
    }
}
