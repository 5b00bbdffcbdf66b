//! Logs of the ancestor, lua-lua, so that old results lie beside new ones.
//!
//! A line of it says `Epoch: 17, Batch: 155/184, …, PPL: 161.82, …, Training: 1787/691/1096
//! total/source/target tokens/sec Time ellapse: 6045`; other lines may stand between, several
//! clients may write through each other, and one of its versions lets the clock begin anew with each
//! epoch. `Valid 158.3`, printed after an epoch, is its validation perplexity.

use std::collections::BTreeMap;

use super::source::{Curve, Point, Source};
use dsgd_core::metric::Metric;

/// A line's figures.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figures {
    epoch: u32,
    /// Batches of the epoch that are done, and all of them.
    batch: (f64, f64),
    perplexity: f64,
    tokens_per_s: Option<f64>,
    secs: Option<f64>,
}

/// The run that a log tells of; none when no line of it has an epoch, a batch and a perplexity.
pub(super) fn parse(label: String, text: &str) -> Option<Source> {
    let mut epochs: BTreeMap<u32, Vec<Figures>> = BTreeMap::new();
    let mut validation: BTreeMap<u32, f64> = BTreeMap::new();
    let mut last_epoch = 0;
    for line in text.lines() {
        for found in split_at_epochs(line).filter_map(figures) {
            last_epoch = found.epoch;
            let of_epoch = epochs.entry(found.epoch).or_default();
            // What several clients have printed of the same batch.
            if !of_epoch.contains(&found) {
                of_epoch.push(found);
            }
        }
        if let Some(perplexity) = number_after(line, "Valid")
            && last_epoch > 0
        {
            validation.insert(last_epoch, perplexity);
        }
    }
    let mut source = Source::new(label);
    "tokens".clone_into(&mut source.unit);
    let mut curve = Curve::new(Metric::perplexity());
    let mut before = 0.0;
    let mut clock = 0.0;
    for (epoch, mut lines) in epochs {
        lines.sort_by(|a, b| a.batch.0.total_cmp(&b.batch.0));
        let times = || lines.iter().filter_map(|line| line.secs);
        let (first, last) = (
            times().fold(f64::INFINITY, f64::min),
            times().fold(0.0, f64::max),
        );
        // The clock has begun anew: with this epoch, or with a process that went on with the run.
        if first < clock / 2.0 {
            before += clock;
        }
        clock = last;
        for line in &lines {
            curve.train.extend(Point::of(
                line.secs.map(|secs| before + secs),
                f64::from(epoch) - 1.0 + line.batch.0 / line.batch.1,
                line.perplexity.ln(),
            ));
        }
        if let Some(perplexity) = validation.get(&epoch) {
            let secs = (last > 0.0).then_some(before + last);
            let point = Point::of(secs, f64::from(epoch), perplexity.ln());
            curve.validation.extend(point);
        }
        // It is a mean over the epoch so far.
        source.rate = lines.iter().rev().find_map(|line| line.tokens_per_s);
    }
    if curve.train.is_empty() {
        return None;
    }
    source.curves.push(curve);
    Some(source)
}

/// Where lines have run into each other, each of them.
fn split_at_epochs(line: &str) -> impl Iterator<Item = &str> {
    let starts: Vec<_> = line.match_indices("Epoch").map(|(at, _)| at).collect();
    let ends = starts.clone().into_iter().skip(1).chain([line.len()]);
    starts
        .into_iter()
        .zip(ends)
        .map(|(start, end)| &line[start..end])
}

fn figures(text: &str) -> Option<Figures> {
    let (epoch, _) = number(after(text, "Epoch")?)?;
    let (done, rest) = number(after(text, "Batch")?)?;
    let (all, _) = number(rest.trim_start().strip_prefix('/')?)?;
    let perplexity = number_after(text, "PPL")?;
    let plausible = perplexity.is_finite() && perplexity > 0.0 && epoch >= 1.0 && all >= 1.0;
    plausible.then(|| Figures {
        epoch: epoch as u32,
        batch: (done.min(all), all),
        perplexity,
        tokens_per_s: number_after(text, "Training"),
        secs: number_after(text, "ellapse").or_else(|| number_after(text, "elapse")),
    })
}

fn number_after(text: &str, key: &str) -> Option<f64> {
    Some(number(after(text, key)?)?.0)
}

/// What stands behind a key, and its colon where it has one.
fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = &text[text.find(key)? + key.len()..];
    // `Time elapsed`, too.
    let rest = rest.strip_prefix('d').unwrap_or(rest).trim_start();
    Some(rest.strip_prefix([':', '=']).unwrap_or(rest).trim_start())
}

/// The number that a text begins with, and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || ".eE+-".contains(c)));
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    Some((digits.parse().ok()?, rest))
}
