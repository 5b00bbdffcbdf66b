//! What a picture wants to know of a run, wherever it was written down.

use crate::board::{Board, Bucket, Totals};
use dsgd_core::metric::Metric;

/// Points of a curve: more are not seen.
const MOST_POINTS: usize = 200;

/// A run, ready to be drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// What it is called in a legend.
    pub label: String,
    /// Its metrics, the one that it goes by first.
    pub curves: Vec<Curve>,
    /// Its workers, by name.
    pub workers: Vec<WorkerBar>,
    /// What its rates count.
    pub unit: String,
    /// How many of them a second while it trained.
    pub rate: Option<f64>,
    /// How many workers it had.
    pub worker_count: Option<usize>,
}

/// How a metric went.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Which one.
    pub metric: Metric,
    /// Training, in the order of time.
    pub train: Vec<Point>,
    /// Validation, an epoch each.
    pub validation: Vec<Point>,
}

impl Curve {
    /// One without any point.
    pub(super) fn new(metric: Metric) -> Self {
        Self {
            metric,
            train: Vec::new(),
            validation: Vec::new(),
        }
    }

    /// Whether there is nothing to draw.
    pub(super) fn is_empty(&self) -> bool {
        self.train.is_empty() && self.validation.is_empty()
    }
}

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Seconds of training, where they are known.
    pub secs: Option<f64>,
    /// Epochs that are done, such as 1.5 in the middle of the second.
    pub epochs: f64,
    /// Value of the metric, of a perplexity its logarithm.
    pub value: f64,
    /// The lowest and the highest value of a step, where this is the mean of several.
    pub range: Option<(f64, f64)>,
}

impl Point {
    /// A point, if it is one: a run that diverges has a loss that is no number.
    pub(super) fn of(secs: Option<f64>, epochs: f64, value: f64) -> Option<Self> {
        let finite = value.is_finite() && epochs.is_finite() && secs.is_none_or(f64::is_finite);
        finite.then_some(Self {
            secs,
            epochs,
            value,
            range: None,
        })
    }
}

/// A worker's bars.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerBar {
    /// Its name.
    pub name: String,
    /// How much it did a second while it worked.
    pub rate: f64,
    /// Mean staleness of its gradients.
    pub staleness: f64,
}

impl Source {
    pub(super) fn new(label: String) -> Self {
        Self {
            label,
            ..Self::default()
        }
    }

    /// What a board knows.
    pub fn of_board(label: String, board: &Board) -> Self {
        let buckets = coarse(&board.series.buckets);
        let metrics = board.metrics.iter().enumerate();
        let curves = metrics.map(|(at, metric)| curve(board, &buckets, metric, at == 0));
        let items = |totals: &Totals| board.items(totals.units, totals.examples) as f64;
        let worked = board.workers.iter().filter(|(_, w)| w.totals.batches > 0);
        let workers = worked.map(|(name, row)| WorkerBar {
            name: name.clone(),
            rate: items(&row.totals) / row.totals.busy_secs().max(1e-9),
            staleness: row.totals.mean_staleness(),
        });
        let rate = items(&board.totals) / board.stepping_secs;
        Self {
            label,
            curves: curves.collect(),
            workers: workers.collect(),
            unit: board.unit().to_owned(),
            rate: Some(rate).filter(|rate| rate.is_finite() && *rate > 0.0),
            worker_count: Some(board.workers_had()),
        }
    }
}

/// A metric's curve; of the one that the run goes by, the lowest and the highest step of each point are known.
fn curve(board: &Board, buckets: &[Bucket], metric: &Metric, is_first: bool) -> Curve {
    let train = buckets.iter().filter_map(|b| {
        let point = Point::of(Some(b.secs), b.epochs, metric.linear(&b.stats))?;
        let known = is_first && b.steps > 1 && b.lowest.is_finite() && b.highest.is_finite();
        Some(Point {
            range: known.then_some((b.lowest, b.highest)),
            ..point
        })
    });
    let validation = board.done.iter().filter_map(|row| {
        let value = metric.linear(&row.validation?);
        Point::of(Some(row.secs), f64::from(row.epoch), value)
    });
    Curve {
        metric: metric.clone(),
        train: train.collect(),
        validation: validation.collect(),
    }
}

/// Fewer buckets, each the mean of several.
fn coarse(buckets: &[Bucket]) -> Vec<Bucket> {
    let group = buckets.len().div_ceil(MOST_POINTS).max(1);
    let merged = buckets.chunks(group).map(|group| {
        let mut sum = group[0];
        group[1..].iter().for_each(|next| sum.merge(next));
        sum
    });
    merged.collect()
}
