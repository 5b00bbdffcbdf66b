//! BLEU: how alike translations are to their references, by the words in a row that they share.
//!
//! Papineni et al. 2002, "BLEU: a method for automatic evaluation of machine translation", with
//! one reference a sentence and N = 4 unless said otherwise:
//!
//! ```text
//! BLEU = 100 · BP · exp(1/N · Σ_{n=1..N} ln p_n)
//! p_n  = Σ clipped matches of n words / Σ rows of n words in the hypotheses
//! BP   = 1 if hypotheses are as long as references, else exp(1 - references / hypotheses)
//! ```
//!
//! Sums go over the whole corpus before anything is divided. Where an order has no match at all
//! its logarithm would be infinite; [`Smoothing`] says what happens then (Chen & Cherry 2014, "A
//! systematic comparison of smoothing techniques for sentence-level BLEU"). Numbers agree with
//! sacrebleu's (Post 2018, "A call for clarity in reporting BLEU scores") without tokenization.
//!
//! Left out: tokenization, since the words are the model's own, and several references.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

/// Orders counted by default, which was the ancestor's `max_bleu` too.
pub const MAX_ORDER: usize = 4;

/// What becomes of an order without a match.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Smoothing {
    /// Nothing: the score is 0.
    None,
    /// The j-th such order has precision 1 / (2^j · total).
    #[default]
    Exp,
    /// It counts as that many matches; 0.1 is usual.
    Floor(f64),
    /// That is added to matches and totals of all orders above the first; 1 is usual.
    AddK(f64),
}

/// Matches counted so far; of any kind of words, such as `&str` or indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches {
    hits: Vec<u64>,
    totals: Vec<u64>,
    hypothesis_length: u64,
    reference_length: u64,
}

/// BLEU and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// 0 to 100.
    pub score: f64,
    /// Of each order, 0 to 100, after smoothing.
    pub precisions: Vec<f64>,
    /// Clipped matches of each order, after smoothing by [`Smoothing::AddK`].
    pub counts: Vec<f64>,
    /// Rows of that many words in the hypotheses, after smoothing by [`Smoothing::AddK`].
    pub totals: Vec<f64>,
    /// The factor for hypotheses that are too short, 0 to 1.
    pub brevity_penalty: f64,
    /// Words of all hypotheses.
    pub hypothesis_length: u64,
    /// Words of all references.
    pub reference_length: u64,
}

/// BLEU of a single pair; of little use without smoothing.
///
/// ```
/// use seq2seq::bleu::{Smoothing, sentence};
/// let words = |text: &'static str| text.split(' ').collect::<Vec<_>>();
/// let bleu = sentence(&words("deux cent un"), &words("deux cent un"), 2, Smoothing::None);
/// assert_eq!(bleu.to_string(), "100.00");
/// ```
pub fn sentence<W: Eq + Hash>(
    hypothesis: &[W],
    reference: &[W],
    max_order: usize,
    smoothing: Smoothing,
) -> Score {
    let mut matches = Matches::new(max_order);
    matches.add(hypothesis, reference);
    matches.score(smoothing)
}

/// BLEU of pairs of hypothesis and reference, counted together.
pub fn corpus<'a, W: Eq + Hash + 'a>(
    pairs: impl IntoIterator<Item = (&'a [W], &'a [W])>,
    max_order: usize,
    smoothing: Smoothing,
) -> Score {
    let mut matches = Matches::new(max_order);
    for (hypothesis, reference) in pairs {
        matches.add(hypothesis, reference);
    }
    matches.score(smoothing)
}

impl Matches {
    /// None yet, for rows of up to `max_order` words; 0 counts as 1.
    pub fn new(max_order: usize) -> Self {
        let zeros = vec![0; max_order.max(1)];
        Self {
            hits: zeros.clone(),
            totals: zeros,
            hypothesis_length: 0,
            reference_length: 0,
        }
    }

    /// Counts a pair.
    pub fn add<W: Eq + Hash>(&mut self, hypothesis: &[W], reference: &[W]) {
        self.hypothesis_length += hypothesis.len() as u64;
        self.reference_length += reference.len() as u64;
        let orders = self.hits.iter_mut().zip(&mut self.totals);
        for (order, (matches, total)) in (1..).zip(orders) {
            let mut open: HashMap<&[W], u64> = HashMap::new();
            for row in reference.windows(order) {
                *open.entry(row).or_default() += 1;
            }
            for row in hypothesis.windows(order) {
                *total += 1;
                // Each occurrence in the reference can be matched once.
                if let Some(left) = open.get_mut(row).filter(|left| **left > 0) {
                    *left -= 1;
                    *matches += 1;
                }
            }
        }
    }

    /// Counts what another has counted.
    ///
    /// # Panics
    /// When it counts other orders.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.hits.len(), other.hits.len(), "orders counted");
        self.hypothesis_length += other.hypothesis_length;
        self.reference_length += other.reference_length;
        for (mine, theirs) in [
            (&mut self.hits, &other.hits),
            (&mut self.totals, &other.totals),
        ] {
            mine.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        }
    }

    /// BLEU of what was counted.
    pub fn score(&self, smoothing: Smoothing) -> Score {
        let floats = |counts: &[u64]| counts.iter().map(|&n| n as f64).collect::<Vec<_>>();
        let mut score = Score {
            score: 0.0,
            precisions: vec![0.0; self.hits.len()],
            counts: floats(&self.hits),
            totals: floats(&self.totals),
            brevity_penalty: self.brevity_penalty(),
            hypothesis_length: self.hypothesis_length,
            reference_length: self.reference_length,
        };
        if self.hits.iter().any(|&hits| hits > 0) {
            score.smooth(smoothing);
            let sum: f64 = score.precisions.iter().map(|p| p.ln()).sum();
            score.score = score.brevity_penalty * (sum / score.precisions.len() as f64).exp();
        }
        score
    }

    fn brevity_penalty(&self) -> f64 {
        match (self.hypothesis_length, self.reference_length) {
            (hypothesis, reference) if hypothesis >= reference => 1.0,
            (0, _) => 0.0,
            (hypothesis, reference) => (1.0 - reference as f64 / hypothesis as f64).exp(),
        }
    }
}

impl Score {
    /// Fills in the precisions, up to the first order that no hypothesis is long enough for.
    fn smooth(&mut self, smoothing: Smoothing) {
        let mut halved = 1.0;
        let orders = self.counts.iter_mut().zip(&mut self.totals);
        for ((order, (count, total)), precision) in orders.enumerate().zip(&mut self.precisions) {
            if let Smoothing::AddK(k) = smoothing
                && order > 0
            {
                *count += k;
                *total += k;
            }
            if *total == 0.0 {
                return;
            }
            let matches = match smoothing {
                _ if *count > 0.0 => *count,
                Smoothing::Exp => {
                    halved /= 2.0;
                    halved
                }
                Smoothing::Floor(floor) => floor,
                Smoothing::None | Smoothing::AddK(_) => 0.0,
            };
            *precision = 100.0 * matches / *total;
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        text.split_whitespace().collect()
    }

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got}, wanted {want}");
    }

    /// Papineni's own example of clipping: "the" is in the reference twice.
    #[test]
    fn a_word_matches_as_often_as_the_reference_has_it() {
        let bleu = sentence(
            &words("the the the the the the the"),
            &words("the cat is on the mat"),
            1,
            Smoothing::None,
        );
        assert_eq!((bleu.counts[0], bleu.totals[0]), (2.0, 7.0));
        close(bleu.score, 100.0 * 2.0 / 7.0);
    }

    /// By hand: p1 = 3/3, p2 = 1/2, three words for four: BP = exp(-1/3).
    #[test]
    fn by_hand_with_the_brevity_penalty() {
        let bleu = sentence(&words("a b d"), &words("a b c d"), 2, Smoothing::None);
        assert_eq!(bleu.counts, [3.0, 1.0]);
        close(bleu.brevity_penalty, (-1.0_f64 / 3.0).exp());
        close(bleu.score, 100.0 * (-1.0_f64 / 3.0).exp() * 0.5_f64.sqrt());
    }

    /// By hand, "a x c" for "a b c": p1 = 2/3; no pair of 2, no row of 1.
    #[test]
    fn by_hand_each_smoothing() {
        let score = |smoothing| sentence(&words("a x c"), &words("a b c"), 3, smoothing);
        close(score(Smoothing::None).score, 0.0);
        let exp = (2.0 / 3.0) * (1.0 / (2.0 * 2.0)) * (1.0 / 4.0);
        close(score(Smoothing::Exp).score, 100.0 * f64::cbrt(exp));
        let floor = (2.0 / 3.0) * (0.1 / 2.0) * 0.1;
        close(score(Smoothing::Floor(0.1)).score, 100.0 * f64::cbrt(floor));
        let add = (2.0 / 3.0) * (1.0 / 3.0) * (1.0 / 2.0);
        close(score(Smoothing::AddK(1.0)).score, 100.0 * f64::cbrt(add));
    }

    #[test]
    fn nothing_at_all_is_a_score_too() {
        for smoothing in [
            Smoothing::None,
            Smoothing::Exp,
            Smoothing::Floor(0.1),
            Smoothing::AddK(1.0),
        ] {
            let none = corpus::<u32>([], 4, smoothing);
            assert_eq!((none.score, none.brevity_penalty), (0.0, 1.0));
            let empty = sentence(&[], &[7, 8], 4, smoothing);
            assert_eq!((empty.score, empty.brevity_penalty), (0.0, 0.0));
            // Shorter than four words: no row of four, so no score.
            let short = sentence(&[7, 8], &[7, 8], 4, smoothing);
            assert_eq!(short.precisions[..2], [100.0, 100.0]);
            let other = sentence(&[5], &[6], 4, smoothing);
            assert_eq!((other.score, other.precisions[0]), (0.0, 0.0));
        }
        close(sentence(&[7, 8], &[7, 8], 4, Smoothing::Exp).score, 0.0);
        close(sentence(&[7], &[7], 0, Smoothing::None).score, 100.0);
    }

    #[test]
    fn counts_of_parts_are_the_counts_of_the_whole() {
        let pairs: [(&[u32], &[u32]); 3] =
            [(&[5, 6, 7], &[5, 6]), (&[], &[9]), (&[8, 8], &[8, 8, 6, 7])];
        let mut halves = [Matches::new(4), Matches::new(4)];
        for (number, (hypothesis, reference)) in pairs.into_iter().enumerate() {
            halves[number % 2].add(hypothesis, reference);
        }
        let [mut sum, other] = halves;
        sum.merge(&other);
        assert_eq!(sum.score(Smoothing::Exp), corpus(pairs, 4, Smoothing::Exp));
    }
}
