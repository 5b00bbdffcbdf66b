//! Parameters that are read while they are updated, without a lock.
//!
//! Whoever wants to read a version gets an `Arc` of it and keeps it as long as it likes;
//! it never changes. The owner writes the next version where nobody reads: in place when
//! no reader is left, into a buffer that its readers have given back otherwise, and
//! into a fresh one only when there is none. With [`Versions::prepare`] for as many readers
//! as there are at one time, that never happens: every buffer is used again and again.

use std::mem;
use std::sync::Arc;

use super::Updater;
use dsgd_core::optim::StepSize;
use dsgd_core::params::{Gradient, Params, Snapshot};

/// Buffers that are kept where nobody has said how many readers there are: the published one,
/// one to write while it is read, and one for a reader that is late.
const FEW_BUFFERS: usize = 3;

/// All that a run needs to go on, of parameters and optimizer.
pub struct Contents<'a> {
    /// Steps so far.
    pub version: u64,
    /// The parameters.
    pub params: &'a Params,
    /// Steps of a worker's own optimizer, where that is whose vectors these are (`--mode local`).
    pub own_steps: Option<u64>,
    /// The optimizer's vectors with their names, each as long as the parameters.
    pub state: Vec<(&'static str, &'a [f32])>,
}

/// The published parameters and the updater that makes the next ones.
///
/// ```
/// # use std::sync::Arc;
/// # use dsgd_core::optim::{Hyper, OptimizerKind, StepSize};
/// # use dsgd_core::params::{Gradient, Layout, Params};
/// # use dsgd_engine::store::{Updater, Versions};
/// let mut layout = Layout::new();
/// let weight = layout.dense("weight", &[1]);
/// let layout = Arc::new(layout);
/// let updater = Updater::new(OptimizerKind::Sgd, Hyper::default(), layout.clone());
/// let mut versions = Versions::new(updater, Params::zeros(layout.clone()));
///
/// let reader = versions.current().clone();
/// let mut gradient = Gradient::new(layout);
/// gradient.dense(weight)[0] = 2.0;
/// versions.step(&gradient, StepSize { learning_rate: 0.5, scale: 1.0 });
///
/// assert_eq!((versions.version(), versions.current().get(weight)), (1, &[-1.0][..]));
/// assert_eq!(reader.get(weight), [0.0]);
/// ```
pub struct Versions {
    updater: Updater,
    current: Arc<Params>,
    /// Buffers of earlier versions, with what they hold, whether or not they are still read.
    earlier: Vec<(u64, Arc<Params>)>,
    /// Buffers that hold no version yet.
    unused: Vec<Params>,
    /// As many buffers are kept; those that more readers needed are given back to the system.
    kept: usize,
}

impl Versions {
    /// Publishes `params` as the updater's version.
    pub fn new(updater: Updater, params: Params) -> Self {
        Self {
            updater,
            current: Arc::new(params),
            earlier: Vec::new(),
            unused: Vec::new(),
            kept: FEW_BUFFERS,
        }
    }

    /// Makes all buffers that `readers` need who each hold one version at most, so that no step
    /// has to make any: one for each and one to write. The system gives them memory only
    /// when they are first used.
    pub fn prepare(&mut self, readers: usize) {
        self.kept = FEW_BUFFERS.max(readers + 1);
        for _ in self.buffers()..self.kept {
            let layout = Arc::clone(self.current.layout());
            self.unused.push(Params::zeros(layout));
        }
    }

    /// The newest version's parameters.
    pub fn current(&self) -> &Arc<Params> {
        &self.current
    }

    /// What makes versions.
    pub(super) fn updater(&self) -> &Updater {
        &self.updater
    }

    /// The newest version, for a reader who has version `have`: with what is new since.
    pub fn snapshot(&self, have: Option<u64>) -> Snapshot {
        Snapshot {
            version: self.version(),
            params: Arc::clone(&self.current),
            since: have.map(|base| self.updater.since(base)),
        }
    }

    /// The newest version's number: how many steps were taken.
    pub fn version(&self) -> u64 {
        self.updater.version()
    }

    /// The newest version, with the optimizer's state.
    pub fn contents(&self) -> Contents<'_> {
        Contents {
            version: self.version(),
            params: &self.current,
            own_steps: None,
            state: self.updater.state(),
        }
    }

    /// Makes and publishes the next version.
    ///
    /// # Panics
    /// When the gradient is of another layout.
    pub fn step(&mut self, gradient: &Gradient, size: StepSize) {
        if let Some(params) = Arc::get_mut(&mut self.current) {
            self.updater.in_place(params, gradient, size);
        } else {
            let (held, mut buffer) = self.buffer();
            // Ours alone, so nothing is cloned here.
            let new = Arc::make_mut(&mut buffer);
            self.updater
                .out_of_place(&self.current, (new, held), gradient, size);
            let read = mem::replace(&mut self.current, buffer);
            self.earlier.push((self.updater.version() - 1, read));
        }
        self.give_back();
    }

    /// A buffer that nobody reads, and the version that it holds.
    fn buffer(&mut self) -> (u64, Arc<Params>) {
        if let Some(at) = self.earlier.iter_mut().position(is_free) {
            return self.earlier.swap_remove(at);
        }
        let params = match self.unused.pop() {
            Some(mut params) => {
                params.flat_mut().copy_from_slice(self.current.flat());
                params
            }
            None => Params::clone(&self.current),
        };
        (self.version(), Arc::new(params))
    }

    fn give_back(&mut self) {
        let mut extra = self.buffers().saturating_sub(self.kept);
        self.earlier.retain_mut(|buffer| {
            let goes = extra > 0 && is_free(buffer);
            extra -= usize::from(goes);
            !goes
        });
    }

    /// Number of buffers held, the published one included.
    pub fn buffers(&self) -> usize {
        1 + self.earlier.len() + self.unused.len()
    }
}

fn is_free((_, params): &mut (u64, Arc<Params>)) -> bool {
    Arc::get_mut(params).is_some()
}
