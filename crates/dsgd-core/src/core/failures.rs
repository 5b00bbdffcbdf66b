//! What failed, and who does so again and again.

use std::collections::{BTreeMap, BTreeSet};

/// So many batches that one worker fails in a row and others compute are no accident.
pub(super) const FAILED_ALONE: u32 = 2;

/// So many different batches with the same error stand for all.
pub(super) const ALIKE: usize = 3;

/// More different errors than this are not compared with each other.
const MOST_ERRORS: usize = 64;

/// What failed in this epoch or validation, and who does so again and again.
#[derive(Debug, Default)]
pub(super) struct FailedBatches {
    /// By position in the ledger.
    pub(super) batches: BTreeMap<usize, Failures>,
    /// Positions that were in a round that failed.
    suspects: BTreeSet<usize>,
    /// By the name of the worker that has computed nothing since.
    doubts: BTreeMap<String, Doubt>,
    /// Somebody has computed something.
    computed: bool,
    /// By error, as long as nothing was computed.
    errors: BTreeMap<String, Alike>,
    /// Why the last batch failed, in words.
    last: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) times: usize,
    pub(super) by: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Doubt {
    /// Positions that it failed and nobody has computed yet.
    failed: BTreeSet<usize>,
    /// Batches that it failed and others have computed.
    alone: u32,
    reason: String,
}

#[derive(Debug, Default)]
struct Alike {
    batches: BTreeSet<usize>,
    by: BTreeSet<String>,
}

impl FailedBatches {
    pub(super) fn new(computed: bool) -> Self {
        Self {
            computed,
            ..Self::default()
        }
    }

    /// A worker joins anew: what it failed before is not held against it.
    pub(super) fn joined(&mut self, name: &str) {
        self.doubts.remove(name);
    }

    /// Positions mean other batches from now on.
    pub(super) fn forget_batches(&mut self) {
        self.batches.clear();
        self.suspects.clear();
        self.doubts.values_mut().for_each(|d| d.failed.clear());
    }

    /// Why the last batch failed, in words.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    pub(super) fn has_failed(&self, name: &str, position: usize) -> bool {
        let failures = self.batches.get(&position);
        failures.is_some_and(|failures| failures.by.contains(name))
    }

    /// One of these failed.
    pub(super) fn suspect(&mut self, positions: &[usize]) {
        self.suspects.extend(positions);
    }

    /// Whether this failed, or was among several of which one did.
    pub(super) fn is_suspect(&self, position: usize) -> bool {
        self.suspects.contains(&position) || self.batches.contains_key(&position)
    }

    pub(super) fn fail(&mut self, name: &str, position: usize, batch: usize, reason: &str) {
        let failures = self.batches.entry(position).or_default();
        failures.times += 1;
        failures.by.insert(name.to_owned());
        let doubt = self.doubts.entry(name.to_owned()).or_default();
        doubt.failed.insert(position);
        reason.clone_into(&mut doubt.reason);
        self.last = Some(reason.to_owned());
        let error = without_numbers(reason);
        let known = self.errors.contains_key(&error);
        if !self.computed && (known || self.errors.len() < MOST_ERRORS) {
            let alike = self.errors.entry(error).or_default();
            alike.batches.insert(batch);
            alike.by.insert(name.to_owned());
        }
    }

    /// Whether different batches failed with this error, on every one of these workers.
    pub(super) fn is_everywhere<'a>(
        &self,
        reason: &str,
        mut workers: impl Iterator<Item = &'a str>,
    ) -> bool {
        let alike = self.errors.get(&without_numbers(reason));
        alike.is_some_and(|alike| {
            alike.batches.len() >= ALIKE && workers.all(|name| alike.by.contains(name))
        })
    }

    /// A worker has computed the batch at this position; returns who has failed too many of those that
    /// others compute, and with what error last.
    pub(super) fn computed(&mut self, name: &str, position: usize) -> Vec<(String, String)> {
        self.computed = true;
        self.errors.clear();
        self.doubts.remove(name);
        let mut to_rest = Vec::new();
        for (other, doubt) in &mut self.doubts {
            if doubt.failed.remove(&position) {
                doubt.alone += 1;
                if doubt.alone >= FAILED_ALONE {
                    to_rest.push((other.clone(), doubt.reason.clone()));
                }
            }
        }
        to_rest
    }
}

/// Errors that differ in figures only, such as the batch's number, are the same.
fn without_numbers(reason: &str) -> String {
    let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let mut text: Vec<char> = reason.chars().map(digits).collect();
    text.dedup_by(|a, b| *a == '0' && *b == '0');
    text.into_iter().collect()
}
