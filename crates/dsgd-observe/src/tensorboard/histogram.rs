//! How often which value: counts between fixed limits.

use super::messages::HistogramProto;

/// Counts of values between limits.
pub(super) struct Histogram {
    /// Upper ends, rising.
    limits: Vec<f64>,
    counts: Vec<f64>,
    range: (f64, f64),
    sum: f64,
    sum_squares: f64,
}

impl Histogram {
    /// For times: from a microsecond to a day, each limit a quarter more than the one before.
    pub(super) fn of_secs() -> Self {
        let limits = std::iter::successors(Some(1e-6), |limit| Some(limit * 1.25));
        Self::new(limits.take_while(|limit| *limit < 1e5).collect())
    }

    /// For whole numbers: each up to 64 for itself, then doubled.
    pub(super) fn of_counts() -> Self {
        let ones = (0..64).map(|n| f64::from(n) + 0.5);
        let doubled = (7..32).map(|power| 2f64.powi(power) + 0.5);
        Self::new(ones.chain(doubled).collect())
    }

    fn new(mut limits: Vec<f64>) -> Self {
        limits.push(f64::MAX);
        Self {
            counts: vec![0.0; limits.len()],
            limits,
            range: (f64::INFINITY, f64::NEG_INFINITY),
            sum: 0.0,
            sum_squares: 0.0,
        }
    }

    pub(super) fn add(&mut self, value: f64) {
        let at = self.limits.partition_point(|limit| *limit < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1.0;
            self.range = (self.range.0.min(value), self.range.1.max(value));
            self.sum += value;
            self.sum_squares += value * value;
        }
    }

    /// What was counted, and from zero again; none when nothing was.
    pub(super) fn take(&mut self) -> Option<HistogramProto> {
        let counted = |count: &f64| *count > 0.0;
        let first = self.counts.iter().position(counted)?;
        let last = self.counts.iter().rposition(counted)?;
        // The limit before the first is its lower end.
        let first = first.saturating_sub(1);
        let proto = HistogramProto {
            min: self.range.0,
            max: self.range.1,
            num: self.counts.iter().sum(),
            sum: self.sum,
            sum_squares: self.sum_squares,
            bucket_limit: self.limits[first..=last].to_vec(),
            bucket: self.counts[first..=last].to_vec(),
        };
        let limits = std::mem::take(&mut self.limits);
        *self = Self::new(limits[..limits.len() - 1].to_vec());
        Some(proto)
    }
}
