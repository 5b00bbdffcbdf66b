//! What is said to a child and what it answers: a line of JSON each way, one answer to an order (`docs/child.md`).

use std::collections::BTreeMap;
use std::path::Path;

use dsgd::{Kind, Layout, Rule, SUMS, Stats, TaskResult};
use serde::{Deserialize, Serialize};

use crate::order::Dealing;

#[cfg(test)]
mod tests;

/// Version of the conversation.
pub(crate) const PROTOCOL: u32 = 1;

/// Bytes of the longest answer: its largest part is a list of tensors.
pub(crate) const LONGEST_ANSWER: u64 = 16 << 20;

/// Batches of an epoch: what becomes of each is kept.
const MOST_BATCHES: u64 = 1 << 30;

/// What a child is to do.
#[derive(Debug, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Order<'a> {
    /// To load the script's task, and say what it is.
    Load {
        protocol: u32,
        /// Values of the task's own options, as they were typed.
        options: &'a BTreeMap<String, String>,
        /// Which class, where the script has several.
        class: Option<&'a str>,
    },
    /// To use these two files, which it maps: the parameters, and the gradient with room for the numbers of rows.
    Share {
        params: &'a Path,
        gradient: &'a Path,
        /// Kernel threads.
        threads: usize,
        /// 0-based number of the worker on its machine, and how many there are, for the choice of a device.
        slot: usize,
        slots: usize,
    },
    /// To write the initial parameters.
    Init { seed: u64 },
    /// To compute the gradient of these examples.
    Train {
        epoch: u32,
        batch: usize,
        seed: u64,
        examples: &'a [u64],
        /// Batches that are likely to be asked for next, where loading them can begin.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        next: Vec<Next>,
    },
    /// To compute the loss of these validation examples.
    Evaluate { batch: usize, examples: &'a [u64] },
    /// To say the task's own figures of the parameters.
    Report,
    /// To write the modules that the task consists of into one file.
    Bundle { to: &'a Path },
}

/// A batch that may be asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Next {
    pub(crate) epoch: u32,
    pub(crate) batch: usize,
    pub(crate) seed: u64,
    pub(crate) examples: Vec<u64>,
}

/// The answer to an order of which nothing is asked but that it be carried out.
#[derive(Debug, Deserialize)]
pub(crate) struct Done {}

/// The answer to [`Order::Load`].
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Loaded {
    /// Name of the task's class.
    pub(crate) task: String,
    /// Version of the interpreter.
    pub(crate) python: String,
    /// Path of the interpreter.
    pub(crate) executable: String,
    /// Versions of what it computes with.
    #[serde(default)]
    pub(crate) frameworks: BTreeMap<String, String>,
    pub(crate) tensors: Vec<TensorOf>,
    /// Training examples.
    pub(crate) examples: u64,
    #[serde(default)]
    pub(crate) validation_examples: u64,
    /// Lengths of the examples, where batches are to be of equal ones.
    #[serde(default)]
    pub(crate) lengths: Option<Vec<u32>>,
    #[serde(default)]
    pub(crate) validation_lengths: Option<Vec<u32>>,
    /// Examples of a batch.
    pub(crate) batch_size: u64,
    /// Whether batches may be shared by workers.
    #[serde(default)]
    pub(crate) divisible: bool,
    /// Processes that load data beside it.
    #[serde(default)]
    pub(crate) loaders: usize,
    /// Whether the loss is in nats, so that its exponential is shown.
    #[serde(default)]
    pub(crate) perplexity: bool,
    /// Names of metrics of which more is better.
    #[serde(default)]
    pub(crate) higher: Vec<String>,
    /// The metric that checkpoints go by, if it is not the loss.
    #[serde(default)]
    pub(crate) best: Option<String>,
    /// Options of `dsgd train` for which the task knows a better default.
    #[serde(default)]
    pub(crate) defaults: Vec<String>,
    /// Lines about model and data.
    #[serde(default)]
    pub(crate) describe: Vec<String>,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    /// Files that the task's options name, by the option's name.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// Top-level modules that are imported and lie outside the script's folder.
    #[serde(default)]
    pub(crate) needs: Vec<String>,
}

/// A tensor of the model.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TensorOf {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Whether its gradient is that of the touched rows of a table.
    #[serde(default)]
    pub(crate) rows: bool,
    /// Whether what comes instead of a gradient is to be added as it is.
    #[serde(default)]
    pub(crate) added: bool,
    /// What the learning rate is multiplied by.
    #[serde(default)]
    pub(crate) rate: Option<f32>,
    /// Whether weight decay pulls at it.
    #[serde(default)]
    pub(crate) decay: Option<bool>,
}

/// The answer to [`Order::Train`] and [`Order::Evaluate`].
#[derive(Debug, Deserialize)]
pub(crate) struct Computed {
    /// Mean loss; null where it is not finite.
    pub(crate) loss: Option<f64>,
    /// Of how many items it is the mean.
    pub(crate) count: u64,
    /// Means of the task's metrics, over the same items.
    #[serde(default)]
    pub(crate) metrics: BTreeMap<String, Option<f64>>,
    /// How many rows of each table were touched.
    #[serde(default)]
    pub(crate) rows: BTreeMap<String, usize>,
}

/// The answer to [`Order::Report`].
#[derive(Debug, Deserialize)]
pub(crate) struct Figures {
    pub(crate) figures: BTreeMap<String, String>,
}

/// An answer: what was asked for, or why it cannot be given.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer<A> {
    Failed { failed: Failed },
    Well(A),
}

/// Why an order could not be carried out.
#[derive(Debug, Deserialize)]
pub(crate) struct Failed {
    /// The exception, such as `ValueError: …`.
    pub(crate) error: String,
    /// Where in the script, such as `digits.py:12 in loss`; empty where that is not known.
    #[serde(default)]
    pub(crate) r#where: String,
}

impl Failed {
    /// In one line.
    pub(crate) fn words(&self) -> String {
        match &*self.r#where {
            "" => self.error.clone(),
            place => format!("{} ({place})", self.error),
        }
    }
}

impl Loaded {
    /// How training and validation examples are dealt out.
    pub(crate) fn dealings(&self) -> TaskResult<[Dealing; 2]> {
        if self.batch_size == 0 {
            return Err("batch_size is 0".into());
        }
        let deal = |examples: u64, lengths: &Option<Vec<u32>>| match lengths.as_deref() {
            Some(lengths) if lengths.len() as u64 != examples => {
                Err(format!("{} lengths for {examples} examples", lengths.len()))
            }
            None if examples.div_ceil(self.batch_size) > MOST_BATCHES => Err(format!(
                "{examples} examples in batches of {}: more than {MOST_BATCHES} batches",
                self.batch_size
            )),
            lengths => Ok(Dealing::new(examples, lengths, self.batch_size)),
        };
        let validation = deal(self.validation_examples, &self.validation_lengths)?;
        Ok([deal(self.examples, &self.lengths)?, validation])
    }

    /// The model's tensors as they lie in the vector.
    pub(crate) fn layout(&self) -> TaskResult<Layout> {
        let mut layout = Layout::new();
        for tensor in &self.tensors {
            let TensorOf { name, shape, .. } = tensor;
            if layout.find(name).is_some() {
                return Err(format!("tensor {name} is there twice").into());
            }
            let id = match (&shape[..], tensor.rows) {
                (_, true) if tensor.added => {
                    return Err(format!("{name} is a table: nothing can be added").into());
                }
                ([], _) => layout.dense(name, &[1]),
                (&[length, width], true) => layout.rows(name, length, width),
                (_, true) => {
                    return Err(format!("{name} is no table: its shape is {shape:?}").into());
                }
                (shape, false) => layout.dense(name, shape),
            };
            layout.set_rule(id, tensor.rule()?);
        }
        let indexed = layout.tensors().iter().filter(|t| t.kind == Kind::Rows);
        match indexed.map(|t| t.shape[0]).find(|&n| n > u32::MAX as usize) {
            Some(rows) => Err(format!("a table of {rows} rows: at most {}", u32::MAX).into()),
            None => Ok(layout),
        }
    }
}

impl TensorOf {
    /// How steps change it.
    fn rule(&self) -> TaskResult<Rule> {
        if self.added {
            return Ok(Rule::Added);
        }
        let rate = self.rate.unwrap_or(1.0);
        if !rate.is_finite() || rate < 0.0 {
            return Err(format!("the rate of {} is {rate}: 0 or above", self.name).into());
        }
        Ok(Rule::Trained {
            rate,
            decays: self.decay.unwrap_or(true),
        })
    }
}

impl Computed {
    /// The sums of so many examples; `names` are those of the metrics, in their order.
    pub(crate) fn stats(&self, examples: usize, names: &[String]) -> TaskResult<Stats> {
        if self.count == 0 && examples > 0 {
            return Err("the loss is the mean of 0 items".into());
        }
        let sum = |mean: Option<f64>| mean.unwrap_or(f64::NAN) * self.count as f64;
        let mut sums = [0.0; SUMS];
        for (name, &mean) in &self.metrics {
            let at = names.iter().position(|known| known == name);
            let at = at.ok_or_else(|| {
                format!(
                    "the metric {name} is new: the first batch had {}",
                    words(names)
                )
            })?;
            sums[at] = sum(mean);
        }
        Ok(Stats {
            count: self.count,
            sums,
            ..Stats::of_examples(sum(self.loss), examples as u64)
        })
    }
}

fn words(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
