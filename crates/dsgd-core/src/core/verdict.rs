//! Whose fault a failure is: the batch's, its worker's, or that of all there is.
//!
//! A batch that fails goes to a worker that has not failed it yet. It is left out of its epoch once
//! different workers have failed it, or all that work, and it was tried three times at least. A worker
//! that fails batches which others then compute, and computes none itself, rests: it gets no more work
//! until it joins anew. When nobody has computed anything yet and all fail different batches with the
//! same error, no batch can be computed, and the run ends with that error.
//!
//! Workers are told apart by their names: one that was lost and joins anew is still the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Core, End, LeaseId, WorkerId};
use crate::event::Event;

/// A batch is tried this often before it is left out, by as many workers if there are so many.
const TRIES: usize = 3;

/// So many batches that one worker fails in a row and others compute are no accident.
const FAILED_ALONE: u32 = 2;

/// So many different batches with the same error stand for all.
const ALIKE: usize = 3;

/// More different errors than this are not compared with each other.
const MOST_ERRORS: usize = 64;

/// What failed in this epoch or validation, and who does so again and again.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// By position in the ledger.
    batches: BTreeMap<usize, Failures>,
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
struct Failures {
    times: usize,
    by: BTreeSet<String>,
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

impl Verdict {
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
        self.doubts.values_mut().for_each(|d| d.failed.clear());
    }

    /// Why the last batch failed, in words.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    fn has_failed(&self, name: &str, position: usize) -> bool {
        let failures = self.batches.get(&position);
        failures.is_some_and(|failures| failures.by.contains(name))
    }

    fn fail(&mut self, name: &str, position: usize, batch: usize, reason: &str) {
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
    fn is_everywhere<'a>(&self, reason: &str, mut workers: impl Iterator<Item = &'a str>) -> bool {
        let alike = self.errors.get(&without_numbers(reason));
        alike.is_some_and(|alike| {
            alike.batches.len() >= ALIKE && workers.all(|name| alike.by.contains(name))
        })
    }

    /// A worker has computed the batch at this position; returns who has failed too many of those that
    /// others compute, and with what error last.
    fn computed(&mut self, name: &str, position: usize) -> Vec<(String, String)> {
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

impl Core {
    /// What this worker is to compute next: what it has not failed, else what all others have failed
    /// too, else what another has had for too long.
    pub(super) fn next_for(&self, worker: WorkerId) -> Option<usize> {
        let name = self.roster.name(worker)?;
        let ledger = self.ledger();
        let fresh = |position| !self.verdict.has_failed(name, position);
        let hopeless = |position| self.all_failed(position);
        let free = ledger.first_free(fresh);
        let free = free.or_else(|| ledger.first_free(hopeless));
        free.or_else(|| ledger.first_offered())
    }

    fn all_failed(&self, position: usize) -> bool {
        let mut able = self.roster.able();
        able.all(|name| self.verdict.has_failed(name, position))
    }

    /// A batch of this worker came to nothing: it is free for others, or left out, or the run is over.
    pub(super) fn batch_failed(
        &mut self,
        worker: WorkerId,
        lease: LeaseId,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        let lease = self.ledger_mut().free(lease);
        let (position, batch) = (lease.position, self.ledger().batch(lease.position));
        let name = self.roster.name(worker).unwrap_or_default().to_owned();
        self.verdict.fail(&name, position, batch, reason);
        let failures = &self.verdict.batches[&position];
        let (times, by) = (failures.times, failures.by.len());
        if self.verdict.is_everywhere(reason, self.roster.able()) {
            let reason = format!(
                "no batch can be computed: {ALIKE} different ones failed with the same error, and none \
                 succeeded: {reason}"
            );
            self.stop(End::Failed(reason.clone()), &reason, actions);
            return;
        }
        if by >= TRIES || (times >= TRIES && self.all_failed(position)) {
            self.ledger_mut().leave_out(position);
            let who = match by {
                1 => format!("on {name}"),
                _ => format!("on {by} workers"),
            };
            let reason = format!("failed {times} times {who}, last: {reason}");
            actions.push(Action::Observe(Event::BatchLeftOut { batch, reason }));
            return;
        }
        let reason = format!("{name} failed: {reason}");
        actions.push(Action::Observe(Event::BatchFreed { batch, reason }));
    }

    /// A worker has computed the batch at this position: whoever failed it is in doubt.
    pub(super) fn computed(
        &mut self,
        worker: WorkerId,
        position: usize,
        actions: &mut Vec<Action>,
    ) {
        let name = self.roster.name(worker).unwrap_or_default();
        for (name, reason) in self.verdict.computed(name, position) {
            if self.roster.rest(&name) {
                let message = format!(
                    "{name} gets no more work until it joins anew: it failed {FAILED_ALONE} batches \
                     that others computed, the last with: {reason}"
                );
                actions.push(Action::Observe(Event::Warning { message }));
            }
        }
    }
}

/// Errors that differ in figures only, such as the batch's number, are the same.
fn without_numbers(reason: &str) -> String {
    let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let mut text: Vec<char> = reason.chars().map(digits).collect();
    text.dedup_by(|a, b| *a == '0' && *b == '0');
    text.into_iter().collect()
}
