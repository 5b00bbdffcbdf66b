//! What a run is judged by and what it counts, as the task names it.
//!
//! Workers report sums ([`Stats`]); a metric says which figure is made of them, what it is called and
//! which direction is better. It knows nothing of where the figure is shown.

use std::cmp::Ordering;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::task::{SUMS, Stats, UNITS};

/// A longer name has no room in a table.
const LONGEST_NAME: usize = 32;

/// A figure by which models are compared.
///
/// ```
/// use dsgd_core::metric::Metric;
/// use dsgd_core::task::Stats;
///
/// let mut batch = Stats::of_examples(64.0, 32);
/// batch.sums[0] = 24.0; // of the 32 examples 24 were classified correctly
/// assert_eq!(Metric::loss().value(&batch), 2.0);
/// assert_eq!(Metric::accuracy().words(75.0), "75.00 %");
/// assert_eq!(Metric::accuracy().value(&batch), 75.0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// What it is called, such as `accuracy`.
    pub name: String,
    /// What stands behind a value; empty for a plain number. Of a `%`, values are a hundred times the mean.
    pub unit: String,
    /// Which direction is better.
    pub better: Better,
    /// How it is made of a batch's sums.
    pub value: Value,
}

/// Which values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The lower the better, such as a loss.
    Lower,
    /// The higher the better, such as an accuracy.
    Higher,
}

/// How a metric is made of [`Stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Mean loss: `loss / count`.
    Loss,
    /// `exp(loss / count)`, for a loss in nats.
    Perplexity,
    /// `sums[i] / count`.
    Sum(usize),
}

impl Better {
    /// Whether `new` is better than `old`. What is not a number is better than nothing.
    pub fn beats(self, new: f64, old: f64) -> bool {
        match self {
            Self::Lower => new < old,
            Self::Higher => new > old,
        }
    }

    /// The better one first; what is not a number comes last.
    pub fn order(self, a: f64, b: f64) -> Ordering {
        let rank = |value: f64| match self {
            _ if value.is_nan() => f64::NAN,
            Self::Lower => value,
            Self::Higher => -value,
        };
        rank(a).total_cmp(&rank(b))
    }
}

impl Metric {
    /// Mean loss of an item; lower is better.
    pub fn loss() -> Self {
        Self::of("loss", "", Better::Lower, Value::Loss)
    }

    /// Perplexity, of a loss that is a negative log-likelihood in nats; lower is better.
    pub fn perplexity() -> Self {
        Self::of("perplexity", "", Better::Lower, Value::Perplexity)
    }

    /// Share of the items that are right, in percent: `sums[0]` counts them.
    pub fn accuracy() -> Self {
        Self::mean(0, "accuracy", "%", Better::Higher)
    }

    /// Mean over a batch's items of what `sums[index]` adds up.
    pub fn mean(index: usize, name: &str, unit: &str, better: Better) -> Self {
        Self::of(name, unit, better, Value::Sum(index))
    }

    fn of(name: &str, unit: &str, better: Better, value: Value) -> Self {
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            better,
            value,
        }
    }

    /// Its value; not a number where there is nothing that it could be of.
    pub fn value(&self, stats: &Stats) -> f64 {
        self.of_linear(self.linear(stats))
    }

    /// The value on an axis whose steps mean the same everywhere: of a perplexity its logarithm.
    pub fn linear(&self, stats: &Stats) -> f64 {
        match self.value {
            Value::Loss | Value::Perplexity => stats.mean_loss(),
            Value::Sum(index) => {
                let sum = stats.sums.get(index).copied().unwrap_or(f64::NAN);
                // Of nothing it is 0 / 0, not a number.
                self.scale() * sum / stats.count as f64
            }
        }
    }

    /// The value at a place of the axis of [`linear`](Self::linear).
    pub fn of_linear(&self, linear: f64) -> f64 {
        match self.value {
            Value::Perplexity => linear.exp(),
            Value::Loss | Value::Sum(_) => linear,
        }
    }

    /// How many times the mean its values are.
    pub fn scale(&self) -> f64 {
        if self.unit == "%" { 100.0 } else { 1.0 }
    }

    /// The name where there is little room.
    pub fn short(&self) -> &str {
        match self.value {
            Value::Perplexity => "ppl",
            Value::Loss | Value::Sum(_) => &self.name,
        }
    }

    /// A value in as many digits as say something, without its unit.
    pub fn number(&self, value: f64) -> String {
        let two_digits = self.value == Value::Perplexity || self.unit == "%";
        match value.abs() {
            // As long as the number has no more digits than anybody reads.
            1e7.. => format!("{value:.2e}"),
            _ if two_digits => format!("{value:.2}"),
            small if small > 0.0 && small < 1e-3 => format!("{value:.2e}"),
            _ => format!("{value:.4}"),
        }
    }

    /// A value with its unit.
    pub fn words(&self, value: f64) -> String {
        match &*self.unit {
            "" => self.number(value),
            unit => format!("{} {unit}", self.number(value)),
        }
    }

    /// A value of this one, given that of the metric of another name of the same sums; none where one does
    /// not follow from the other.
    pub fn from_other(&self, name: &str, value: f64) -> Option<f64> {
        match (self.value, name) {
            _ if name == self.name => Some(value),
            (Value::Loss, "perplexity") => Some(value.ln()),
            (Value::Perplexity, "loss") => Some(value.exp()),
            _ => None,
        }
    }

    /// The name in lower-case ASCII letters, digits and `_`, for files and for programs.
    pub fn key(&self) -> String {
        key(&self.name)
    }
}

/// Names of what a task counts besides examples, such as `words`; speeds are shown in it.
///
/// Two that end in the same word (`source tokens`, `target tokens`) are counted together as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Units(pub Vec<String>);

impl<const N: usize> From<[&str; N]> for Units {
    fn from(names: [&str; N]) -> Self {
        Self(names.map(str::to_owned).to_vec())
    }
}

impl Units {
    /// What is counted is called this for short: the word that both end in, or the first one.
    pub fn name(&self) -> Option<&str> {
        let first = self.0.first()?;
        Some(self.common().unwrap_or(first))
    }

    /// How many there are of what [`name`](Self::name) says.
    pub fn count(&self, units: [u64; UNITS]) -> u64 {
        let [first, second] = units;
        match self.common() {
            Some(_) => first.saturating_add(second),
            None if self.0.is_empty() => 0,
            None => first,
        }
    }

    /// What is shown of such sums, and how many there are: examples where nothing else was counted.
    pub fn shown(&self, units: [u64; UNITS], examples: u64) -> (&str, u64) {
        match (self.name(), self.count(units)) {
            (Some(name), number @ 1..) => (name, number),
            _ => ("examples", examples),
        }
    }

    /// Speeds of all, in words.
    pub fn speeds(&self, per_s: [f64; UNITS]) -> String {
        let [a, b] = per_s;
        let [first, second] = [0, 1].map(|at| self.0.get(at).map_or("", |name| name));
        if let Some(common) = self.common() {
            let of = |name: &str| {
                name.strip_suffix(common)
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            };
            let (first, second, all) = (of(first), of(second), a + b);
            return format!("{all:.0}/{a:.0}/{b:.0} {common}/s total/{first}/{second}");
        }
        match second {
            "" => format!("{a:.0} {first}/s"),
            _ => format!("{a:.0} {first}/s, {b:.0} {second}/s"),
        }
    }

    /// The last word of both, where there are two and it is the same.
    fn common(&self) -> Option<&str> {
        let [first, second, ..] = &self.0[..] else {
            return None;
        };
        let (a, word) = first.rsplit_once(' ')?;
        let (b, other) = second.rsplit_once(' ')?;
        (word == other && a != b && !word.is_empty()).then_some(word)
    }
}

/// The one that a run goes by: the first, or the loss where there is none.
pub fn first(metrics: &[Metric]) -> &Metric {
    static LOSS: LazyLock<Metric> = LazyLock::new(Metric::loss);
    metrics.first().unwrap_or(&LOSS)
}

/// Why these cannot be what a run is judged by and what it counts, if they cannot.
///
/// # Errors
/// What is wrong, in words.
pub fn check(metrics: &[Metric], units: &Units) -> Result<(), String> {
    if metrics.is_empty() {
        return Err("it names no metric: Metric::loss() is one of every task".to_owned());
    }
    for (at, metric) in metrics.iter().enumerate() {
        check_name(&metric.name)?;
        check_word(&metric.unit)?;
        if let Value::Sum(index @ SUMS..) = metric.value {
            let name = &metric.name;
            return Err(format!(
                "its metric {name} is of sum {index}: there are {SUMS}, from 0 on"
            ));
        }
        let key = metric.key();
        if metrics[..at].iter().any(|other| other.key() == key) {
            return Err(format!("two of its metrics are called {}", metric.name));
        }
    }
    if units.0.len() > UNITS {
        let names = units.0.join(", ");
        return Err(format!(
            "it counts {names}: no more than {UNITS} can be counted"
        ));
    }
    units.0.iter().try_for_each(|name| check_name(name))
}

fn check_name(name: &str) -> Result<(), String> {
    if key(name).chars().all(|c| c == '_') {
        return Err(format!(
            "{name:?} is no name of a metric or unit: it has no letter"
        ));
    }
    check_word(name)
}

fn check_word(word: &str) -> Result<(), String> {
    if word.len() > LONGEST_NAME || word.chars().any(char::is_control) {
        return Err(format!(
            "{word:?} is no name of a metric or unit: it has more than {LONGEST_NAME} bytes, or none that can be shown"
        ));
    }
    Ok(())
}

/// A name in lower-case ASCII letters, digits and `_`.
pub fn key(name: &str) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '_',
    };
    name.chars().map(letter).collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact results are what is tested")]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_as_many_digits_as_say_something() {
        let (loss, perplexity) = (Metric::loss(), Metric::perplexity());
        let shown = [0.0, 2e-5, 0.12345, 12.3, -1e9].map(|value| loss.words(value));
        assert_eq!(shown, ["0.0000", "2.00e-5", "0.1235", "12.3000", "-1.00e9"]);
        let shown = [1.0, 32.416, 2e7, f64::INFINITY].map(|value| perplexity.words(value));
        assert_eq!(shown, ["1.00", "32.42", "2.00e7", "inf"]);
        assert_eq!(Metric::accuracy().words(0.0004), "0.00 %");
        assert_eq!(perplexity.number(f64::NAN), "NaN");
    }

    #[test]
    fn a_mean_of_nothing_or_of_a_sum_that_is_not_there_is_not_a_number() {
        let nothing = Stats::default();
        assert!(Metric::accuracy().value(&nothing).is_nan());
        assert_eq!(Metric::loss().value(&nothing), 0.0);
        let far = Metric::mean(usize::MAX, "far", "", Better::Lower);
        assert!(far.value(&Stats::of_examples(1.0, 1)).is_nan());
    }

    #[test]
    fn the_better_one_comes_first_and_what_is_no_number_last() {
        let sorted = |better: Better| {
            let mut values = [f64::NAN, 1.0, 3.0, 2.0, -f64::NAN];
            values.sort_by(|a, b| better.order(*a, *b));
            [values[0], values[1], values[2]]
        };
        assert_eq!(sorted(Better::Lower), [1.0, 2.0, 3.0]);
        assert_eq!(sorted(Better::Higher), [3.0, 2.0, 1.0]);
        assert!(!Better::Higher.beats(f64::NAN, 1.0));
    }

    #[test]
    fn units_of_the_same_word_are_counted_together() {
        let units = |names: &[&str]| Units(names.iter().map(|&name| name.to_owned()).collect());
        let told = |names: &[&str]| {
            let units = units(names);
            let name = units.name().unwrap_or_default().to_owned();
            (name, units.count([3, 4]), units.speeds([3.0, 4.0]))
        };
        let of = |name: &str, count, speeds: &str| (name.to_owned(), count, speeds.to_owned());
        assert_eq!(
            told(&["source tokens", "target tokens"]),
            of("tokens", 7, "7/3/4 tokens/s total/source/target")
        );
        assert_eq!(told(&["words"]), of("words", 3, "3 words/s"));
        assert_eq!(
            told(&["images", "boxes"]),
            of("images", 3, "3 images/s, 4 boxes/s")
        );
        assert_eq!(units(&[]).name(), None);
        assert_eq!(units(&[]).count([3, 4]), 0);
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let none = Units::default();
        assert_eq!(check(&[Metric::loss(), Metric::accuracy()], &none), Ok(()));
        let wrong = [
            vec![],
            vec![Metric::loss(), Metric::loss()],
            vec![Metric::mean(8, "far", "", Better::Lower)],
            vec![Metric::mean(0, " ", "", Better::Lower)],
            vec![Metric::mean(0, "a\nb", "", Better::Lower)],
            vec![Metric::mean(0, &"long".repeat(20), "", Better::Lower)],
        ];
        for metrics in wrong {
            assert!(check(&metrics, &none).is_err(), "{metrics:?}");
        }
        let three = Units::from(["a", "b", "c"]);
        assert!(check(&[Metric::loss()], &three).is_err());
    }
}
