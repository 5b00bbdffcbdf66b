//! Steps that a worker takes by itself between two exchanges (`--mode local`).
//!
//! It begins each round at the server's parameters, and pushes where it is at the end less where it began: the
//! *delta*. Its optimizer's state stays with it from round to round and is never averaged or reset: `AdaGrad` with
//! fresh state moves every parameter by the whole learning rate.
//!
//! Where two workers share a compute slot (`--prefetch`), one moves deltas and parameters while the other takes steps.
//! Then the parameters that a round begins at lack the delta of the round before, which is on its way: it is added
//! here, so that what was computed is gone on from, and only what comes after it is pushed the next time. This is the
//! delayed averaging of `CoCoD-SGD` (Shen et al. 2019).

use std::sync::Arc;

use dsgd_core::core::LeaseId;
use dsgd_core::model::Compute;
use dsgd_core::optim::{Hyper, OptimError, OptimizerKind, StepSize, clip_scale};
use dsgd_core::params::{Gradient, Layout, Params, Since, Snapshot, TensorGradient, TensorId};
use dsgd_core::task::{Batch, Stats};

use super::failure::{Failure, catch_panics};
use crate::own_state::OwnState;
use crate::store::Updater;

/// Versions from here on are a worker's own: no server makes so many.
const OWN: u64 = 1 << 63;

/// How a worker takes steps.
#[derive(Clone, Copy, Debug)]
pub struct StepRule {
    /// The update rule.
    pub optimizer: OptimizerKind,
    /// Its numbers.
    pub hyper: Hyper,
    /// Gradients are scaled down to this norm.
    pub max_grad_norm: f32,
    /// Whether rounds overlap: the next one may begin while a delta is on its way.
    pub overlaps: bool,
}

impl StepRule {
    /// What the vectors are called that its optimizer keeps.
    pub fn state_names(&self) -> &'static [&'static str] {
        self.optimizer.build(self.hyper).state_names()
    }
}

/// A step that a worker is to take by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OwnStep {
    /// Along the gradient of this batch.
    pub batch: Batch,
    /// With this learning rate.
    pub learning_rate: f32,
}

/// Steps that a worker is to take, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnRound {
    /// At least one.
    pub steps: Vec<OwnStep>,
    /// Leases whose deltas the parameters do not contain.
    pub open: Vec<LeaseId>,
    /// Whether the slot may take the next steps while what comes of these is on its way.
    pub overlaps: bool,
    /// Whether the worker is to tell what its optimizer's state is after them.
    pub tell_state: bool,
}

/// A worker's own parameters and optimizer.
pub(super) struct OwnSteps {
    rule: StepRule,
    updater: Updater,
    params: Arc<Params>,
    gradient: Gradient,
    /// The delta of the last round, and its lease.
    last: Option<(LeaseId, Gradient)>,
    /// Versions of its own so far.
    versions: u64,
}

impl OwnSteps {
    pub(super) fn new(rule: StepRule, layout: &Arc<Layout>, threads: usize) -> Self {
        let updater = Updater::new(rule.optimizer, rule.hyper, Arc::clone(layout));
        Self {
            rule,
            updater: updater.with_threads(threads),
            params: Arc::new(Params::zeros(Arc::clone(layout))),
            gradient: Gradient::new(Arc::clone(layout)),
            last: None,
            versions: OWN,
        }
    }

    /// The optimizer's state as it is now.
    pub(super) fn state(&self) -> OwnState {
        OwnState::of(&self.updater)
    }

    /// Goes on from another worker's state.
    pub(super) fn begin_with(&mut self, state: &OwnState) -> Result<(), OptimError> {
        let names = self
            .updater
            .state()
            .into_iter()
            .map(|(name, _)| name.to_owned());
        let vectors = state.vectors.iter().map(|vector| vector.flat().to_vec());
        let vectors = names.zip(vectors).collect();
        self.updater.restore(state.steps, vectors)
    }

    /// The last delta has come to nothing.
    pub(super) fn forget_last(&mut self) {
        self.last = None;
    }

    /// Takes a round's steps from `anchor` on, and from the last round's delta where `anchor` does not contain that
    /// yet; `delta` becomes where they end less where they began.
    pub(super) fn take(
        &mut self,
        compute: &mut dyn Compute,
        (lease, round): (LeaseId, &OwnRound),
        anchor: &Snapshot,
        delta: &mut Gradient,
    ) -> Result<Stats, Failure> {
        let own = Arc::make_mut(&mut self.params);
        own.flat_mut().copy_from_slice(anchor.flat());
        delta.clear();
        let last = self.last.take();
        // A lease that was given later than this one was not pushed under, either.
        let is_missing = |of: LeaseId| of > lease || round.open.contains(&of);
        let before = last.filter(|(of, _)| is_missing(*of));
        if let Some((_, before)) = &before {
            add(own, before);
        }
        let mut sum = Stats::default();
        for (number, step) in round.steps.iter().enumerate() {
            self.gradient.clear();
            self.versions += 1;
            // The round begins elsewhere than the last one has ended.
            let since = (number > 0).then(|| Since {
                base: self.versions - 1,
                ..self.updater.since(self.updater.version() - 1)
            });
            let here = Snapshot {
                since,
                ..Snapshot::new(self.versions, Arc::clone(&self.params))
            };
            let into = &mut self.gradient;
            let stats = catch_panics(|| compute.gradient(step.batch, &here, into))?;
            drop(here);
            sum.add(&stats);
            touch(delta, &self.gradient);
            let norm = self.gradient.sum_of_squares().sqrt();
            if !norm.is_finite() {
                // No step is taken, for the optimizer's state would never be finite again; the server refuses such a
                // delta as it does such a gradient, and finds out whether training diverges.
                delta.add(&self.gradient, 1.0);
                return Ok(sum);
            }
            let size = StepSize {
                learning_rate: step.learning_rate,
                scale: clip_scale(norm, self.rule.max_grad_norm),
            };
            // A task that keeps parameters keeps its own: they are copied then.
            let own = Arc::make_mut(&mut self.params);
            self.updater.in_place(own, &self.gradient, size);
        }
        let before = before.as_ref().map(|(_, before)| before);
        subtract(delta, &self.params, anchor, before);
        if self.rule.overlaps || round.overlaps {
            self.last = Some((lease, delta.clone()));
        }
        Ok(sum)
    }
}

/// Rows that the gradient touches are touched by the delta, too.
fn touch(delta: &mut Gradient, gradient: &Gradient) {
    for (mine, theirs) in delta.tensors_mut().iter_mut().zip(gradient.tensors()) {
        if let (TensorGradient::Rows(mine), TensorGradient::Rows(theirs)) = (mine, theirs) {
            for &row in theirs.indices() {
                mine.row(row as usize);
            }
        }
    }
}

fn add(params: &mut Params, delta: &Gradient) {
    for (at, tensor) in delta.tensors().iter().enumerate() {
        let values = params.get_mut(TensorId(at));
        let add = |to: &mut [f32], from: &[f32]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        };
        match tensor {
            TensorGradient::Dense(delta) => add(values, delta),
            TensorGradient::Rows(rows) => {
                let width = rows.width();
                for (row, delta) in rows.iter() {
                    add(&mut values[row * width..][..width], delta);
                }
            }
        }
    }
}

/// What was touched becomes `end - start`, less what `before` has of it.
fn subtract(delta: &mut Gradient, end: &Params, start: &Params, before: Option<&Gradient>) {
    for (at, tensor) in delta.tensors_mut().iter_mut().enumerate() {
        let (end, start) = (end.get(TensorId(at)), start.get(TensorId(at)));
        let before = before.map(|before| &before.tensors()[at]);
        match (tensor, before) {
            (TensorGradient::Dense(values), Some(TensorGradient::Dense(before))) => {
                difference(values, end, start);
                take_off(values, before);
            }
            (TensorGradient::Dense(values), _) => difference(values, end, start),
            (TensorGradient::Rows(rows), before) => {
                let width = rows.width();
                for number in 0..rows.len() {
                    let row = rows.indices()[number] as usize;
                    let place = row * width..(row + 1) * width;
                    let values = rows.row(row);
                    difference(values, &end[place.clone()], &start[place]);
                    if let Some(TensorGradient::Rows(before)) = before
                        && let Some(before) = before.get(row)
                    {
                        take_off(values, before);
                    }
                }
            }
        }
    }
}

fn difference(values: &mut [f32], end: &[f32], start: &[f32]) {
    for ((value, end), start) in values.iter_mut().zip(end).zip(start) {
        *value = end - start;
    }
}

fn take_off(values: &mut [f32], before: &[f32]) {
    for (value, before) in values.iter_mut().zip(before) {
        *value -= before;
    }
}

#[cfg(test)]
mod tests {
    use dsgd_core::params::Fresh;
    use dsgd_core::task::{Part, TaskResult};

    use super::*;

    /// Computes with a copy of its own, as one on a device is, into which it takes only what is said to be new.
    #[derive(Default)]
    struct Follower {
        version: u64,
        copy: Vec<f32>,
        taken: Vec<usize>,
    }

    impl Compute for Follower {
        fn gradient(
            &mut self,
            batch: Batch,
            params: &Snapshot,
            into: &mut Gradient,
        ) -> TaskResult<Stats> {
            let since = params.since.as_ref();
            let mut taken = 0;
            match since.filter(|since| since.base == self.version) {
                None => self.copy = params.flat().to_vec(),
                Some(since) => {
                    for (tensor, fresh) in params.layout().tensors().iter().zip(&since.tensors) {
                        let (start, width) = (tensor.range.start, tensor.width());
                        let mut take = |range: std::ops::Range<usize>| {
                            taken += range.len();
                            self.copy[range.clone()].copy_from_slice(&params.flat()[range]);
                        };
                        match fresh {
                            Fresh::Same => {}
                            Fresh::Whole => take(tensor.range.clone()),
                            Fresh::Rows(rows) => rows.iter().for_each(|&row| {
                                let at = start + row as usize * width;
                                take(at..at + width);
                            }),
                        }
                    }
                }
            }
            self.version = params.version;
            self.taken.push(taken);
            assert_eq!(self.copy, params.flat());
            into.dense(TensorId(0))[0] += 1.0;
            into.row(TensorId(1), batch.index % 5).fill(2.0);
            Ok(Stats::of_examples(1.0, 1))
        }
    }

    #[test]
    fn what_is_new_in_each_step_is_said_and_is_all_that_is_new() {
        let mut layout = Layout::new();
        layout.dense("dense", &[3]);
        layout.rows("table", 100, 2);
        let layout = Arc::new(layout);
        let rule = StepRule {
            optimizer: OptimizerKind::Adagrad,
            hyper: Hyper::default(),
            max_grad_norm: 1.0,
            overlaps: false,
        };
        let mut own = OwnSteps::new(rule, &layout, 1);
        let mut follower = Follower::default();
        let step = |index| OwnStep {
            batch: Batch {
                index,
                epoch: 1,
                seed: 0,
                part: Part::WHOLE,
            },
            learning_rate: 0.5,
        };
        for lease in 0..3 {
            let mut anchor = Params::zeros(Arc::clone(&layout));
            anchor.flat_mut().fill(lease as f32);
            let anchor = Snapshot::new(lease, Arc::new(anchor));
            let round = OwnRound {
                steps: (0..4).map(step).collect(),
                ..OwnRound::default()
            };
            let mut delta = Gradient::new(Arc::clone(&layout));
            let stats = own.take(&mut follower, (lease, &round), &anchor, &mut delta);
            assert_eq!(stats.unwrap_or_default().examples, 4);
        }
        // All of it at the beginning of a round, then the dense tensor and the one row of each step.
        assert_eq!(follower.taken, [0, 5, 5, 5].repeat(3));
    }
}
