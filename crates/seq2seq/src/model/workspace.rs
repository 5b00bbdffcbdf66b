//! Every buffer that a pass over a batch needs, grown once and reused.

use super::projection::{Kept, ProjectionSpace};
use super::shard::Shard;
use super::spec::Error;
use crate::kernels::transpose::groups;
use crate::kernels::{Compute, GROUP, Isa};

/// Buffers of one worker. They grow to the largest batch that was computed with them; a batch
/// not larger in any way allocates nothing of note.
#[derive(Debug)]
pub struct Workspace {
    pub(crate) compute: Compute,
    pub(crate) isa: Isa,
    pub(crate) shards: Vec<Shard>,
    pub(crate) projection: ProjectionSpace,
    pub(crate) kept: Vec<Kept>,
    pub(crate) nll: Vec<f64>,
    /// Of one step of inference, panels [words].
    pub(crate) logits: Vec<f32>,
    /// Of the same step, rows [words].
    pub(crate) log_probs: Vec<f32>,
}

impl Workspace {
    /// Empty buffers; an error where the processor lacks the instruction set that is asked for.
    pub fn new(compute: Compute) -> Result<Self, Error> {
        let isa = Isa::detect(compute.simd).ok_or(Error::NoSimd(compute.simd))?;
        if compute.threads == 0 {
            return Err(Error::ZeroSize("threads"));
        }
        Ok(Self {
            compute,
            isa,
            shards: Vec::new(),
            projection: ProjectionSpace::default(),
            kept: Vec::new(),
            nll: Vec::new(),
            logits: Vec::new(),
            log_probs: Vec::new(),
        })
    }

    /// How it computes.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// Negative log-likelihood of each sentence of the last batch, in nats.
    pub fn example_nll(&self) -> &[f64] {
        &self.nll
    }
}

/// Deals the rows out in whole groups of 16; fewer shards than threads where there are fewer.
pub(crate) fn deal(rows: usize, threads: usize, shards: &mut Vec<Shard>) {
    let all = groups(rows);
    let count = threads.min(all);
    shards.resize_with(count, Shard::default);
    for (i, shard) in shards.iter_mut().enumerate() {
        let group = |i: usize| (all * i / count * GROUP).min(rows);
        shard.rows = group(i)..group(i + 1);
    }
}
