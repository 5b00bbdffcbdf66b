//! What a report may say: a worker's figures are held against what is known of its batch.
//!
//! A task may say beforehand how large each batch is; a report must say the same.
//! Of other tasks the earlier reports of the same batch are known, and how large batches usually are:
//! the very first reports of such a task are believed.

use std::collections::BTreeMap;

use crate::task::{BatchSize, Stats, used};

/// No sum of losses is above this: `f32` losses are at most 3.4e38 an item, and sums of such as these
/// over a run are still finite.
const MOST_LOSS: f64 = 1e60;

/// Figures this many times as large as usual are not believed where the task knows no better.
const TOO_LARGE: u64 = 100;

/// What is usual is known after so many reports.
const USUAL: u64 = 10;

/// What is known of batches, from the task or from reports.
#[derive(Debug, Default)]
pub(super) struct Belief {
    /// What the task says beforehand of training and of validation batches, by number; empty where it does not.
    training: Vec<BatchSize>,
    validation: Vec<BatchSize>,
    /// What was reported of a training batch, or of a validation batch.
    told: BTreeMap<(bool, usize), BatchSize>,
    /// Sums over the reports that were believed, and the number of their batches.
    sum: BatchSize,
    reports: u64,
}

impl Belief {
    pub(super) fn of(training: Vec<BatchSize>, validation: Vec<BatchSize>) -> Self {
        Self {
            training,
            validation,
            ..Self::default()
        }
    }

    /// Whether this can be said of the batches together; if not, why, in words.
    pub(super) fn check(
        &mut self,
        train: bool,
        batches: &[usize],
        stats: &Stats,
    ) -> Result<(), String> {
        check_loss(stats)?;
        check_sums(stats)?;
        let size = BatchSize {
            examples: stats.examples,
            count: stats.count,
        };
        let sizes = if train {
            &self.training
        } else {
            &self.validation
        };
        let known = batches.iter().map(|&batch| sizes.get(batch).copied());
        if let Some(known) = known.sum::<Option<BatchSize>>() {
            let has = match batches {
                [_] => "where the batch has",
                _ => "where its batches have",
            };
            return same(size, known, has);
        }
        let number = batches.len() as u64;
        let usual = |sum: u64| (sum / self.reports.max(1)).saturating_mul(number);
        let large = |figure: u64, sum| figure > usual(sum).max(1).saturating_mul(TOO_LARGE);
        if self.reports >= USUAL
            && (large(size.examples, self.sum.examples) || large(size.count, self.sum.count))
        {
            let usual = BatchSize {
                examples: usual(self.sum.examples),
                count: usual(self.sum.count),
            };
            return same(size, usual, "where batches have about");
        }
        if let [batch] = *batches
            && let Some(told) = self.told.insert((train, batch), size)
            && (far(told.examples, size.examples) || far(told.count, size.count))
        {
            // One of the two is wrong: the next report is believed again.
            self.told.remove(&(train, batch));
            return same(size, told, "where an earlier report of the batch said");
        }
        self.sum.examples = self.sum.examples.saturating_add(size.examples);
        self.sum.count = self.sum.count.saturating_add(size.count);
        self.reports += number;
        Ok(())
    }

    /// Whether this can be said of a part of a training batch, given the sums of the `others` that are known;
    /// `complete` where those are all.
    pub(super) fn check_part(
        &mut self,
        batch: usize,
        stats: &Stats,
        others: &Stats,
        complete: bool,
    ) -> Result<(), String> {
        check_loss(stats)?;
        check_sums(stats)?;
        let mut sum = *others;
        sum.add(stats);
        if complete {
            let together = self.check(true, &[batch], &sum);
            return together.map_err(|why| format!("with the batch's other parts {why}"));
        }
        match self.training.get(batch) {
            Some(known) if sum.examples > known.examples || sum.count > known.count => {
                let size = BatchSize {
                    examples: sum.examples,
                    count: sum.count,
                };
                same(
                    size,
                    *known,
                    "for some of the batch's parts, where all have",
                )
            }
            _ => Ok(()),
        }
    }
}

fn check_loss(stats: &Stats) -> Result<(), String> {
    let loss = stats.loss;
    if !loss.is_finite() {
        return Err("its loss is not finite".to_owned());
    }
    if loss < 0.0 {
        return Err(format!("its loss is negative ({loss})"));
    }
    if loss > MOST_LOSS {
        return Err(format!("its loss is absurd ({loss:e})"));
    }
    if stats.count == 0 && loss > 0.0 {
        return Err(format!("its loss of {loss} is of no items"));
    }
    Ok(())
}

/// The same bounds as of the loss; a sum may be negative.
fn check_sums(stats: &Stats) -> Result<(), String> {
    if stats.sums.iter().any(|sum| !sum.is_finite()) {
        return Err("one of its sums is not finite".to_owned());
    }
    if let Some(sum) = stats.sums.iter().find(|sum| sum.abs() > MOST_LOSS) {
        return Err(format!("one of its sums is absurd ({sum:e})"));
    }
    match used(&stats.sums) {
        [.., sum] if stats.count == 0 => Err(format!("its sum of {sum} is of no items")),
        _ => Ok(()),
    }
}

/// Whether one is more than twice the other: what is random in a batch may change its items a little.
fn far(a: u64, b: u64) -> bool {
    a.max(b) > a.min(b).max(1).saturating_mul(2)
}

fn same(size: BatchSize, known: BatchSize, as_known: &str) -> Result<(), String> {
    if size == known {
        return Ok(());
    }
    Err(format!(
        "it says {} examples and {} items {as_known} {} and {}",
        size.examples, size.count, known.examples, known.count
    ))
}
