//! Running an optimizer over all tensors of a layout.
//!
//! One step is cut into portions that share nothing: pieces of dense tensors, and tables.
//! A dense piece that goes from one buffer to another is copied block by block, and each
//! block is updated while it is in the first-level cache, so the copy costs little more than
//! its own memory traffic. A table is not copied: only the rows in which the two buffers
//! differ are, and for that the updater remembers for each row the version that last
//! changed it.

use std::ops::Range;
use std::sync::Arc;
use std::thread;

use dsgd_core::optim::{Adding, Hyper, MAX_STATE, OptimError, Optimizer, OptimizerKind, StepSize};
use dsgd_core::params::{
    Fresh, Gradient, Kind, Layout, Params, Rows, Rule, Since, Tensor, TensorGradient,
};

/// Elements of a block that is copied and then updated: 8 KiB of each vector, the size that
/// was fastest in `benches/update.rs` (four times as much overflows the first-level cache).
const BLOCK: usize = 2048;

/// Elements of a dense portion: small enough to share a step evenly among threads.
const PIECE: usize = 64 * BLOCK;

/// An optimizer with its state for one model, which has taken `version` steps.
pub struct Updater {
    layout: Arc<Layout>,
    optimizer: Box<dyn Optimizer>,
    /// The same without weight decay.
    without_decay: Box<dyn Optimizer>,
    /// Whether tensors' own rules are followed.
    follows_rules: bool,
    state: Vec<Vec<f32>>,
    /// For each table the version that last changed each of its rows; empty for dense tensors.
    changed: Vec<Vec<u64>>,
    version: u64,
    threads: usize,
}

impl Updater {
    /// An optimizer that has taken no step, on one thread.
    pub fn new(kind: OptimizerKind, hyper: Hyper, layout: Arc<Layout>) -> Self {
        let optimizer = kind.build(hyper);
        let zeros = |_: &&str| vec![0.0; layout.len()];
        let state = optimizer.state_names().iter().map(zeros).collect();
        let rows = |at: usize| match layout.tensors()[at].kind {
            Kind::Rows => layout.tensors()[at].shape[0],
            Kind::Dense => 0,
        };
        let tables = 0..layout.tensors().len();
        let changed = tables.map(|at| vec![0; rows(at)]).collect();
        let plain = Hyper {
            weight_decay: 0.0,
            ..hyper
        };
        Self {
            optimizer,
            without_decay: kind.build(plain),
            follows_rules: true,
            state,
            changed,
            layout,
            version: 0,
            threads: 1,
        }
    }

    /// One that adds deltas of parameters: all tensors are alike to it.
    pub fn of_deltas(layout: Arc<Layout>) -> Self {
        Self {
            follows_rules: false,
            ..Self::new(OptimizerKind::Sgd, Hyper::default(), layout)
        }
    }

    /// The same on that many threads; the result does not depend on it.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Goes on where a checkpoint was made: after `version` steps, with the vectors that
    /// [`state`](Updater::state) gave then.
    pub fn restore(
        &mut self,
        version: u64,
        state: Vec<(String, Vec<f32>)>,
    ) -> Result<(), OptimError> {
        let wanted = self.optimizer.state_names();
        if state.len() != wanted.len() || state.iter().zip(wanted).any(|(s, w)| s.0 != *w) {
            return Err(OptimError::OtherOptimizer {
                found: state.into_iter().map(|(name, _)| name).collect(),
                wanted: wanted.iter().map(ToString::to_string).collect(),
            });
        }
        if let Some((name, values)) = state.iter().find(|s| s.1.len() != self.layout.len()) {
            return Err(OptimError::Length {
                name: name.clone(),
                found: values.len(),
                wanted: self.layout.len(),
            });
        }
        self.state = state.into_iter().map(|(_, values)| values).collect();
        // Whatever was made before is unknown here, so every row counts as new.
        self.changed.iter_mut().for_each(|rows| rows.fill(version));
        self.version = version;
        Ok(())
    }

    /// What the steps after version `base` have changed. Rows that no step has touched are as they were.
    ///
    /// # Panics
    /// When no step has made that version yet.
    pub fn since(&self, base: u64) -> Since {
        assert!(base <= self.version, "nobody has a version that is to come");
        let fresh = |(tensor, changed): (&Tensor, &Vec<u64>)| {
            if base == self.version {
                return Fresh::Same;
            }
            if tensor.kind == Kind::Dense {
                return Fresh::Whole;
            }
            let rows = changed.iter().enumerate().filter(|&(_, &at)| at > base);
            let rows: Vec<_> = rows.map(|(row, _)| row as u32).collect();
            match rows.len() {
                0 => Fresh::Same,
                all if all == changed.len() => Fresh::Whole,
                _ => Fresh::Rows(rows),
            }
        };
        let tensors = self.layout.tensors().iter().zip(&self.changed);
        Since {
            base,
            tensors: tensors.map(fresh).collect(),
        }
    }

    /// Number of steps taken.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The table of tensors.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The state vectors with their names, each in the order of the layout.
    pub fn state(&self) -> Vec<(&'static str, &[f32])> {
        let values = self.state.iter().map(Vec::as_slice);
        self.optimizer
            .state_names()
            .iter()
            .copied()
            .zip(values)
            .collect()
    }

    /// Takes a step: `params`, which hold this version, then hold the next one.
    ///
    /// # Panics
    /// When parameters or gradient are another layout's.
    pub fn in_place(&mut self, params: &mut Params, gradient: &Gradient, size: StepSize) {
        self.run(None, params, gradient, size);
    }

    /// Takes a step from `old`, which holds this version, into `new`, which holds the
    /// earlier version `held` and then the next one.
    ///
    /// # Panics
    /// When parameters or gradient are another layout's.
    pub fn out_of_place(
        &mut self,
        old: &Params,
        (new, held): (&mut Params, u64),
        gradient: &Gradient,
        size: StepSize,
    ) {
        assert!(held <= self.version, "no buffer is ahead of the updater");
        self.run(Some((old, held)), new, gradient, size);
    }

    fn run(
        &mut self,
        old: Option<(&Params, u64)>,
        new: &mut Params,
        gradient: &Gradient,
        size: StepSize,
    ) {
        assert_eq!(*self.layout, **new.layout(), "parameters of another model");
        assert_eq!(self.layout, *gradient.layout(), "gradient of another model");
        self.version += 1;
        let step = Taken {
            number: self.version,
            held: old.map(|(_, held)| held),
        };
        let (trained, without_decay) = (&*self.optimizer, &*self.without_decay);
        let by = |tensor: &Tensor| match tensor.rule {
            _ if !self.follows_rules => By {
                optimizer: trained,
                size,
            },
            Rule::Added => By {
                optimizer: &Adding,
                size,
            },
            Rule::Trained { rate, decays } => By {
                optimizer: if decays { trained } else { without_decay },
                size: StepSize {
                    learning_rate: size.learning_rate * rate,
                    ..size
                },
            },
        };
        let mut flat = Flat::new(
            old.map(|(params, _)| params.flat()),
            new.flat_mut(),
            &mut self.state,
        );
        let mut portions = Vec::new();
        let tensors = self.layout.tensors().iter().zip(&mut self.changed);
        for ((tensor, changed), part) in tensors.zip(gradient.tensors()) {
            let mut piece = flat.take(tensor.range.len());
            let by = by(tensor);
            match part {
                TensorGradient::Dense(values) => portions.extend(
                    values
                        .chunks(PIECE)
                        .map(|gradient| (by, Portion::Dense(piece.take(gradient.len()), gradient))),
                ),
                TensorGradient::Rows(rows) => {
                    portions.push((by, Portion::Table(piece, rows, changed)));
                }
            }
        }
        step.run_all(portions, self.threads);
    }
}

/// A piece of the parameters and the same piece of all that goes with them.
struct Flat<'a> {
    /// Where the values come from; `None` when they already lie in `new`.
    old: Option<&'a [f32]>,
    new: &'a mut [f32],
    state: [&'a mut [f32]; MAX_STATE],
}

impl<'a> Flat<'a> {
    fn new(old: Option<&'a [f32]>, new: &'a mut [f32], state: &'a mut [Vec<f32>]) -> Self {
        let mut vectors = state.iter_mut().map(Vec::as_mut_slice);
        let state = std::array::from_fn(|_| vectors.next().unwrap_or_default());
        Self { old, new, state }
    }

    /// Splits off the first `len` elements.
    fn take(&mut self, len: usize) -> Flat<'a> {
        Flat {
            old: self.old.as_mut().and_then(|old| old.split_off(..len)),
            new: self.new.split_off_mut(..len).unwrap_or_default(),
            // An unused state vector is empty and stays so.
            state: self
                .state
                .each_mut()
                .map(|vector| vector.split_off_mut(..len).unwrap_or_default()),
        }
    }

    /// Lends one part of it.
    fn part(&mut self, at: Range<usize>) -> (&mut [f32], [&mut [f32]; MAX_STATE]) {
        let state = self.state.each_mut();
        let state = state.map(|vector| vector.get_mut(at.clone()).unwrap_or_default());
        (&mut self.new[at], state)
    }
}

/// A share of a step that touches nothing of another's.
enum Portion<'a> {
    /// A piece of a dense tensor, with its gradient.
    Dense(Flat<'a>, &'a [f32]),
    /// A table, with the touched rows and the version that last changed each row.
    Table(Flat<'a>, &'a Rows, &'a mut [u64]),
}

/// By what a tensor is changed, and how far.
#[derive(Clone, Copy)]
struct By<'a> {
    optimizer: &'a dyn Optimizer,
    size: StepSize,
}

/// The step that is being taken.
#[derive(Clone, Copy)]
struct Taken {
    /// The version that it makes.
    number: u64,
    /// The version that `new` holds, when it is not the one before.
    held: Option<u64>,
}

impl Taken {
    fn run_all(self, portions: Vec<(By<'_>, Portion<'_>)>, threads: usize) {
        let mut hands: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
        for (at, portion) in portions.into_iter().enumerate() {
            hands[at % threads].push(portion);
        }
        let mine = hands.pop().unwrap_or_default();
        thread::scope(|scope| {
            for theirs in hands {
                scope.spawn(move || theirs.into_iter().for_each(|portion| self.run(portion)));
            }
            for portion in mine {
                self.run(portion);
            }
        });
    }

    fn run(self, (by, portion): (By<'_>, Portion<'_>)) {
        match portion {
            Portion::Dense(flat, gradient) => self.dense(by, flat, gradient),
            Portion::Table(flat, rows, changed) => self.table(by, flat, rows, changed),
        }
    }

    fn dense(self, by: By<'_>, mut flat: Flat<'_>, gradient: &[f32]) {
        for (number, gradient) in gradient.chunks(BLOCK).enumerate() {
            let at = number * BLOCK..number * BLOCK + gradient.len();
            if let Some(old) = flat.old {
                flat.new[at.clone()].copy_from_slice(&old[at.clone()]);
            }
            let (params, state) = flat.part(at);
            by.optimizer
                .update(self.number, by.size, params, gradient, state);
        }
    }

    fn table(self, by: By<'_>, mut flat: Flat<'_>, rows: &Rows, changed: &mut [u64]) {
        let width = flat.new.len() / changed.len().max(1);
        if let (Some(old), Some(held)) = (flat.old, self.held) {
            let behind = changed.iter().enumerate().filter(|&(_, &at)| at > held);
            for (row, _) in behind {
                let at = row * width..(row + 1) * width;
                flat.new[at.clone()].copy_from_slice(&old[at]);
            }
        }
        for (row, gradient) in rows.iter() {
            let (params, state) = flat.part(row * width..(row + 1) * width);
            by.optimizer
                .update(self.number, by.size, params, gradient, state);
            changed[row] = self.number;
        }
    }
}
