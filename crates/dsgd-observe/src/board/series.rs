//! Curves of bounded length: means over so many steps, and over twice as many when there are too many.

use serde::{Deserialize, Serialize};

use dsgd_core::event::Step;
use dsgd_core::metric::Metric;
use dsgd_core::task::Stats;

/// Buckets that are kept at most; half of them are when they are merged.
const MOST_BUCKETS: usize = 1024;

/// Steps that follow each other, seen as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The last step.
    pub step: u64,
    /// Seconds of training at the last step.
    pub secs: f64,
    /// Epochs done at the last step, such as 1.5 in the middle of the second.
    pub epochs: f64,
    /// Number of steps.
    pub steps: u64,
    /// Sums over the batches.
    pub stats: Stats,
    /// The lowest value of a step's metric, of a perplexity its logarithm: means over many hide what
    /// happened to one.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
    /// Mean norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Mean learning rate.
    pub learning_rate: f64,
    /// Mean staleness.
    pub staleness: f64,
}

impl Bucket {
    fn of(secs: f64, step: &Step, metric: &Metric) -> Self {
        let stats = step.stats();
        let value = metric.linear(&stats);
        let share = step.counted as f64 / step.batches.max(1) as f64;
        Self {
            step: step.version,
            secs,
            epochs: f64::from(step.epoch) - 1.0 + share,
            steps: 1,
            stats,
            lowest: value,
            highest: value,
            grad_norm: step.grad_norm,
            learning_rate: f64::from(step.learning_rate),
            staleness: step.staleness as f64,
        }
    }

    /// This one and the one after it.
    pub fn merge(&mut self, next: &Self) {
        let steps = self.steps + next.steps;
        let mean =
            |a: f64, b: f64| (a * self.steps as f64 + b * next.steps as f64) / steps.max(1) as f64;
        self.grad_norm = mean(self.grad_norm, next.grad_norm);
        self.learning_rate = mean(self.learning_rate, next.learning_rate);
        self.staleness = mean(self.staleness, next.staleness);
        self.stats.add(&next.stats);
        self.lowest = self.lowest.min(next.lowest);
        self.highest = self.highest.max(next.highest);
        self.steps = steps;
        (self.step, self.secs, self.epochs) = (next.step, next.secs, next.epochs);
    }
}

/// Curves over all steps so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Steps of a bucket; the last one may have fewer.
    pub stride: u64,
    /// In the order of time.
    pub buckets: Vec<Bucket>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            stride: 1,
            buckets: Vec::new(),
        }
    }
}

impl Series {
    pub(super) fn add(&mut self, secs: f64, step: &Step, metric: &Metric) {
        let new = Bucket::of(secs, step, metric);
        match self.buckets.last_mut() {
            Some(last) if last.steps < self.stride => last.merge(&new),
            _ => self.buckets.push(new),
        }
        if self.buckets.len() > MOST_BUCKETS {
            self.stride *= 2;
            let pairs = self.buckets.chunks(2).map(|pair| {
                let mut bucket = pair[0];
                pair[1..].iter().for_each(|next| bucket.merge(next));
                bucket
            });
            self.buckets = pairs.collect();
        }
    }

    /// From now on the run is judged by this. Of steps before only means are known of it.
    pub(super) fn measure(&mut self, metric: &Metric) {
        for bucket in &mut self.buckets {
            let value = metric.linear(&bucket.stats);
            (bucket.lowest, bucket.highest) = (value, value);
        }
    }

    /// Steps after that one did not happen.
    pub(super) fn cut_after(&mut self, step: u64) {
        self.buckets.retain(|bucket| bucket.step <= step);
    }
}
