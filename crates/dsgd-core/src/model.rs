//! A model with its data, in two halves: what the server must know of it is data ([`Manifest`]), what a
//! worker does with it is an object ([`Compute`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::metric::{Metric, Units};
use crate::params::{Gradient, Layout, Params, Snapshot};
use crate::task::{Batch, BatchSize, Stats, TaskResult, WordRows};

/// What is known of a model and its data without computing anything.
///
/// ```
/// # use dsgd_core::{model::Manifest, params::Layout};
/// let layout: Layout = [("line", [2])].into_iter().collect();
/// let manifest = Manifest {
///     validation_batches: 1,
///     about: vec!["a line through 1,000 points".to_owned()],
///     ..Manifest::new(layout, 100)
/// };
/// assert_eq!(manifest.layout.len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The model's tensors.
    pub layout: Arc<Layout>,
    /// Training batches of an epoch.
    pub batches: usize,
    /// Validation batches; 0 where there is no validation set.
    pub validation_batches: usize,
    /// How large each training batch is, by its number: a worker's report that says otherwise is refused.
    /// Empty where that is not known beforehand; then reports are held against each other.
    pub batch_sizes: Vec<BatchSize>,
    /// The same of validation batches.
    pub validation_sizes: Vec<BatchSize>,
    /// Into how many parts a batch may be cut ([`Part`](crate::task::Part)); 1 where it cannot. What is random in
    /// a row must not depend on the part that it is computed with, and [`Stats::examples`] must be true.
    pub most_parts: usize,
    /// What it is judged by: checkpoints, the learning rate and `--wait` go by the first one, and the others
    /// are shown beside it.
    pub metrics: Vec<Metric>,
    /// What its batches count besides examples ([`Stats::units`]), such as words: speeds are shown in it.
    pub units: Units,
    /// What a checkpoint must carry besides tensors to be of use alone, such as vocabularies.
    pub metadata: BTreeMap<String, String>,
    /// Vocabularies by whose words rows of the model are distinguished: a checkpoint with other words is
    /// carried over by word (`--train-from`) or refused (`dsgd eval`), not taken as it lies.
    pub word_rows: Vec<WordRows>,
    /// Lines about model and data, shown when a run starts.
    pub about: Vec<String>,
}

impl Manifest {
    /// Of a model of which no more is known than its tensors and its number of training batches.
    pub fn new(layout: impl Into<Arc<Layout>>, batches: usize) -> Self {
        Self {
            layout: layout.into(),
            batches,
            validation_batches: 0,
            batch_sizes: Vec::new(),
            validation_sizes: Vec::new(),
            most_parts: 1,
            metrics: vec![Metric::loss()],
            units: Units::default(),
            metadata: BTreeMap::new(),
            word_rows: Vec::new(),
            about: Vec::new(),
        }
    }
}

/// Where a worker computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// 0-based number of the slot on its machine, such as for the choice of a device.
    pub slot: usize,
    /// Slots of the machine.
    pub slots: usize,
    /// Kernel threads that the worker may use.
    pub threads: usize,
}

/// A model with its data, as training sees it: loaded once a process and shared by its workers.
pub trait Model: Send + Sync {
    /// What is known of it.
    fn manifest(&self) -> &Manifest;

    /// Writes the initial values over zeros, which is what a model has that does not; the same seed gives the
    /// same values.
    fn init(&self, seed: u64, params: &mut Params) -> TaskResult<()> {
        let _ = (seed, params);
        Ok(())
    }

    /// What one worker computes with: buffers above all. A closure can be one ([`Compute`]).
    fn compute(&self, seat: Seat) -> TaskResult<Box<dyn Compute + '_>>;

    /// Bytes that what [`compute`](Model::compute) gives grows to, as far as they are known beforehand: a run
    /// that this machine has not the memory for is refused with figures, instead of being killed.
    fn compute_bytes(&self, threads: usize) -> u64 {
        let _ = threads;
        0
    }
}

/// One worker's computing. A closure of [`gradient`](Compute::gradient)'s arguments is one without validation.
pub trait Compute: Send {
    /// Adds the gradient of the batch's mean loss per example to `into`, which is zero on entry. `params` say
    /// which version they are: what was derived from them, on a device say, need not be made anew for the same one.
    fn gradient(
        &mut self,
        batch: Batch,
        params: &Snapshot,
        into: &mut Gradient,
    ) -> TaskResult<Stats>;

    /// Loss of one validation batch, without dropout.
    ///
    /// # Errors
    /// Also where a manifest promises validation batches and nothing evaluates them.
    fn evaluate(&mut self, batch: usize, params: &Snapshot) -> TaskResult<Stats> {
        let _ = params;
        Err(
            format!("nothing evaluates validation batch {batch}: implement Compute::evaluate")
                .into(),
        )
    }
}

impl<F> Compute for F
where
    F: FnMut(Batch, &Snapshot, &mut Gradient) -> TaskResult<Stats> + Send,
{
    fn gradient(
        &mut self,
        batch: Batch,
        params: &Snapshot,
        into: &mut Gradient,
    ) -> TaskResult<Stats> {
        self(batch, params, into)
    }
}
