//! What a batch is, and what is known of one.

use std::iter::Sum;
use std::ops::Range;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a task's own code returns: any error, `?` works on all of them.
pub type TaskResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What a worker computes with is gone, such as a process of its own: as an error of a task's code it ends the worker,
/// which is started again, as a panic does.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Lost(pub String);

/// Which batch of which epoch. The number always means the same examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// 0-based number of the batch, below the number of batches.
    pub index: usize,
    /// 1-based epoch.
    pub epoch: u32,
    /// Seed for whatever is random in this batch, such as dropout: a function of the run's
    /// seed, the epoch and the batch, so that it does not matter which worker computes it.
    pub seed: u64,
    /// Which part of it: all of it, unless its task says that batches can be cut.
    pub part: Part,
}

/// The order in which an epoch's batches are given out: a function of the run's seed and the epoch.
pub fn epoch_order(seed: u64, epoch: u32, batches: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..batches).collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(u64::from(epoch) << 32));
    order.shuffle(&mut random);
    order
}

/// A part of a batch that several workers share (`--mode split`). The parts' mean gradients, weighted by their
/// examples, are the batch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// 0-based number, below `of`.
    pub number: usize,
    /// Parts of the batch; 1 where it is not cut.
    pub of: usize,
}

impl Part {
    /// All of a batch.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// Whether it is all of a batch.
    pub fn is_whole(&self) -> bool {
        self.of == 1
    }

    /// Its rows of a batch's `rows`, cut at multiples of `grain`, which is at least 1. It has none where there are
    /// more parts than grains.
    ///
    /// ```
    /// use dsgd_core::task::Part;
    /// let rows: Vec<_> = (0..3).map(|number| Part { number, of: 3 }.rows(60, 16)).collect();
    /// assert_eq!(rows, [0..16, 16..32, 32..60]);
    /// ```
    pub fn rows(&self, rows: usize, grain: usize) -> Range<usize> {
        let grains = rows.div_ceil(grain);
        let start = |number: usize| (grains * number / self.of * grain).min(rows);
        start(self.number)..start(self.number + 1)
    }
}

impl Default for Part {
    fn default() -> Self {
        Self::WHOLE
    }
}

/// Different things that a batch may count besides its examples.
pub const UNITS: usize = 2;

/// Sums that a batch may have besides its loss.
pub const SUMS: usize = 8;

/// What is known about a batch once it has been computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenStats")]
pub struct Stats {
    /// Loss summed over `count` items, in nats for a perplexity. One that is not finite, or negative, is
    /// refused with its gradient.
    pub loss: f64,
    /// Items of the loss, such as words or examples.
    pub count: u64,
    /// Rows of the batch; gradients of one synchronous step are weighted by it.
    pub examples: u64,
    /// How many there are of what the task counts, in the order of its names: for the speed shown.
    #[serde(skip_serializing_if = "are_none")]
    pub units: [u64; UNITS],
    /// What else is summed over the items, for the task's metrics. One that is not finite is refused.
    #[serde(
        skip_serializing_if = "are_zero",
        serialize_with = "without_last_zeros"
    )]
    pub sums: [f64; SUMS],
}

impl Stats {
    /// The summed loss of that many examples.
    pub fn of_examples(loss: f64, examples: u64) -> Self {
        Self {
            loss,
            count: examples,
            examples,
            ..Self::default()
        }
    }

    /// Loss of one item; 0 for nothing.
    pub fn mean_loss(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.loss / self.count as f64
    }

    /// Adds another batch's sums.
    pub fn add(&mut self, other: &Stats) {
        self.loss += other.loss;
        self.count = self.count.saturating_add(other.count);
        self.examples = self.examples.saturating_add(other.examples);
        for (unit, more) in self.units.iter_mut().zip(other.units) {
            *unit = unit.saturating_add(more);
        }
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            *sum += more;
        }
    }
}

/// How large a batch is, as its [`Stats`] say once it has been computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchSize {
    /// Rows of the batch: [`Stats::examples`].
    pub examples: u64,
    /// Items of the loss: [`Stats::count`].
    pub count: u64,
}

impl Sum for BatchSize {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), |sum, size| Self {
            examples: sum.examples.saturating_add(size.examples),
            count: sum.count.saturating_add(size.count),
        })
    }
}

/// [`Stats`] as events and checkpoints have them; those of version 0.1 counted tokens, of two kinds.
#[derive(Deserialize)]
struct WrittenStats {
    #[serde(deserialize_with = "null_is_nan")]
    loss: f64,
    count: u64,
    examples: u64,
    #[serde(default)]
    units: [u64; UNITS],
    #[serde(default, deserialize_with = "some_sums")]
    sums: [f64; SUMS],
    #[serde(default)]
    source_tokens: u64,
    #[serde(default)]
    target_tokens: u64,
}

impl From<WrittenStats> for Stats {
    fn from(written: WrittenStats) -> Self {
        let tokens = [written.source_tokens, written.target_tokens];
        Self {
            loss: written.loss,
            count: written.count,
            examples: written.examples,
            units: if are_none(&tokens) {
                written.units
            } else {
                tokens
            },
            sums: written.sums,
        }
    }
}

fn are_none(units: &[u64; UNITS]) -> bool {
    units.iter().all(|&unit| unit == 0)
}

fn are_zero(sums: &[f64; SUMS]) -> bool {
    used(sums).is_empty()
}

/// Up to the last one that is not 0.
pub fn used(sums: &[f64; SUMS]) -> &[f64] {
    let last = sums.iter().rposition(|&sum| sum != 0.0);
    &sums[..last.map_or(0, |last| last + 1)]
}

fn without_last_zeros<S: Serializer>(sums: &[f64; SUMS], to: S) -> Result<S::Ok, S::Error> {
    used(sums).serialize(to)
}

fn some_sums<'de, D: Deserializer<'de>>(from: D) -> Result<[f64; SUMS], D::Error> {
    let written: Vec<Option<f64>> = Deserialize::deserialize(from)?;
    let mut sums = [0.0; SUMS];
    if written.len() > SUMS {
        return Err(Error::invalid_length(written.len(), &"at most 8 sums"));
    }
    for (sum, written) in sums.iter_mut().zip(written) {
        *sum = written.unwrap_or(f64::NAN);
    }
    Ok(sums)
}

/// JSON has no number that is not finite: `serde_json` writes null for it.
fn null_is_nan<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or(f64::NAN))
}

/// Tensors of a model whose rows belong to the words of a vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordRows {
    /// What it is called, such as `source vocabulary`.
    pub name: &'static str,
    /// Under this key the metadata has its words, one a line.
    pub key: &'static str,
    /// Names of the tensors; the first row of each belongs to the first word.
    pub tensors: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_task_does_not_have_is_not_written() {
        let mut stats = Stats::of_examples(1.5, 2);
        let plain = r#"{"loss":1.5,"count":2,"examples":2}"#;
        assert_eq!(serde_json::to_string(&stats).unwrap(), plain);
        assert_eq!(serde_json::from_str::<Stats>(plain).unwrap(), stats);
        (stats.units, stats.sums[1]) = ([7, 0], 0.5);
        let json = serde_json::to_string(&stats).unwrap();
        assert!(
            json.ends_with(r#""units":[7,0],"sums":[0.0,0.5]}"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Stats>(&json).unwrap(), stats);
    }

    #[test]
    fn what_version_0_1_wrote_is_read() {
        let json = r#"{"loss":null,"count":2,"examples":2,"source_tokens":20,"target_tokens":30}"#;
        let stats: Stats = serde_json::from_str(json).unwrap();
        assert_eq!(stats.units, [20, 30]);
        assert!(stats.loss.is_nan());
    }

    #[test]
    fn sums_that_are_not_finite_are_read_as_such_and_too_many_are_none() {
        let json = r#"{"loss":1.0,"count":1,"examples":1,"sums":[null]}"#;
        assert!(serde_json::from_str::<Stats>(json).unwrap().sums[0].is_nan());
        let json = r#"{"loss":1.0,"count":1,"examples":1,"sums":[1,2,3,4,5,6,7,8,9]}"#;
        assert!(serde_json::from_str::<Stats>(json).is_err());
    }
}
