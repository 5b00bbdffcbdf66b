//! What a batch is, and what is known of one.

use serde::{Deserialize, Serialize};

/// What a task's own code returns: any error, `?` works on all of them.
pub type TaskResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

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
}

/// What is known about a batch once it has been computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Loss summed over `count` items, in nats for a perplexity. One that is not finite, or negative, is
    /// refused with its gradient.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Items of the loss, such as words or examples: perplexity is exp(loss / count).
    pub count: u64,
    /// Rows of the batch; gradients of one synchronous step are weighted by it.
    pub examples: u64,
    /// Source tokens handled, for the speed shown; 0 where there are none.
    pub source_tokens: u64,
    /// Target tokens handled, for the speed shown.
    pub target_tokens: u64,
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

    /// exp(loss / count); infinite where the mean is too large, 1 for nothing.
    pub fn perplexity(&self) -> f64 {
        self.mean_loss().exp()
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
        self.source_tokens = self.source_tokens.saturating_add(other.source_tokens);
        self.target_tokens = self.target_tokens.saturating_add(other.target_tokens);
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

/// JSON has no number that is not finite: `serde_json` writes null for it.
fn null_is_nan<'de, D: serde::Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
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
