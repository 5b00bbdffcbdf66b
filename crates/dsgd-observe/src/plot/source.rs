//! What a picture wants to know of a run, wherever it was written down.

use crate::board::{Board, Bucket};

/// Points of a curve: more are not seen.
const MOST_POINTS: usize = 200;

/// A run, ready to be drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// What it is called in a legend.
    pub label: String,
    /// Training, in the order of time.
    pub train: Vec<Point>,
    /// Validation, an epoch each.
    pub validation: Vec<Point>,
    /// Its workers, by name.
    pub workers: Vec<WorkerBar>,
    /// What its rates count.
    pub unit: Unit,
    /// Tokens, or rows, a second while it trained.
    pub rate: Option<f64>,
    /// How many workers it had.
    pub worker_count: Option<usize>,
}

/// What is counted a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Tokens with padding, source and target.
    #[default]
    Tokens,
    /// Where a task counts no tokens.
    Examples,
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tokens => "tokens/s",
            Self::Examples => "examples/s",
        })
    }
}

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Seconds of training, where they are known.
    pub secs: Option<f64>,
    /// Epochs that are done, such as 1.5 in the middle of the second.
    pub epochs: f64,
    /// Mean loss of an item: the logarithm of perplexity.
    pub loss: f64,
    /// The lowest and the highest mean loss of a step, where this is the mean of several.
    pub range: Option<(f64, f64)>,
}

impl Point {
    /// A point, if it is one: a run that diverges has a loss that is no number.
    pub(super) fn of(secs: Option<f64>, epochs: f64, loss: f64) -> Option<Self> {
        let finite = loss.is_finite() && epochs.is_finite() && secs.is_none_or(f64::is_finite);
        finite.then_some(Self {
            secs,
            epochs,
            loss,
            range: None,
        })
    }
}

/// A worker's bars.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerBar {
    /// Its name.
    pub name: String,
    /// Tokens, or rows, a second while it worked.
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
        let totals = &board.totals;
        let (unit, items) = match totals.tokens {
            0 => (Unit::Examples, totals.examples),
            tokens => (Unit::Tokens, tokens),
        };
        let buckets = coarse(&board.series.buckets);
        let train = buckets.iter().filter_map(|b| {
            let point = Point::of(Some(b.secs), b.epochs, b.stats.mean_loss())?;
            let known = b.steps > 1 && b.lowest.is_finite() && b.highest.is_finite();
            Some(Point {
                range: known.then_some((b.lowest, b.highest)),
                ..point
            })
        });
        let validation = board.done.iter().filter_map(|row| {
            let loss = row.validation?.mean_loss();
            Point::of(Some(row.secs), f64::from(row.epoch), loss)
        });
        let worked = board.workers.iter().filter(|(_, w)| w.totals.batches > 0);
        let workers = worked.map(|(name, row)| {
            let items = match unit {
                Unit::Examples => row.totals.examples,
                Unit::Tokens => row.totals.tokens,
            };
            WorkerBar {
                name: name.clone(),
                rate: items as f64 / row.totals.busy_secs().max(1e-9),
                staleness: row.totals.mean_staleness(),
            }
        });
        let rate = items as f64 / board.stepping_secs;
        Self {
            label,
            train: train.collect(),
            validation: validation.collect(),
            workers: workers.collect(),
            unit,
            rate: Some(rate).filter(|rate| rate.is_finite() && *rate > 0.0),
            worker_count: Some(board.workers_had()),
        }
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
