//! What is moved when speed is measured: a model of one tensor, and one that sleeps over it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use dsgd_core::model::{Compute, Manifest, Model, Seat};
use dsgd_core::params::{Gradient, Layout, Params, Snapshot, TensorId};
use dsgd_core::task::{Batch, Stats, TaskResult};

/// One tensor of that many elements.
pub(crate) fn layout(parameters: usize) -> Layout {
    [("parameters", [parameters])].into_iter().collect()
}

/// Parameters that are nowhere zero: their memory is really there.
pub(crate) fn params(layout: &Arc<Layout>) -> Params {
    let mut params = Params::zeros(Arc::clone(layout));
    params.flat_mut().fill(0.5);
    params
}

/// A gradient that is nowhere zero.
pub(crate) fn fill(gradient: &mut Gradient) {
    gradient.dense(TensorId(0)).fill(1e-3);
}

pub(crate) fn stats() -> Stats {
    Stats::of_examples(1.0, 1)
}

/// A model whose batches take a given time and no work.
pub(crate) struct Sleeper {
    options: SleeperOptions,
    manifest: Manifest,
}

/// How large its model is, and how long it sleeps.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct SleeperOptions {
    /// Parameters of the model, 4 bytes each
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) parameters: usize,
    /// Milliseconds that a worker sleeps over a batch
    #[arg(long, value_name = "MS", default_value_t = 200)]
    pub(crate) compute_ms: u64,
}

impl Sleeper {
    pub(crate) fn new(options: &SleeperOptions) -> Self {
        Self {
            manifest: Manifest::new(layout(options.parameters), 1_000_000),
            options: options.clone(),
        }
    }
}

impl Model for Sleeper {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn init(&self, _seed: u64, params: &mut Params) -> TaskResult<()> {
        params.flat_mut().fill(0.5);
        Ok(())
    }

    fn compute(&self, _seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        let time = Duration::from_millis(self.options.compute_ms);
        Ok(Box::new(
            move |_: Batch, _: &Snapshot, gradient: &mut Gradient| {
                thread::sleep(time);
                gradient.dense(TensorId(0))[0] = 1e-3;
                Ok(stats())
            },
        ))
    }
}
