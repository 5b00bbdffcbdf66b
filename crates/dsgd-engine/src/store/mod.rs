//! Holds the parameters, beside the core, and carries out what the core decides about them.
//!
//! A [`Store`] holds what was pushed, under its lease, and carries steps out. There is one in this process's
//! memory, [`InMemory`]; its [`Updater`] owns what an update rule carries from step to step, and runs it over
//! all tensors of a layout, also while others are reading ([`Versions`]).

mod average;
mod memory;
mod public;
mod update;
mod versions;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use dsgd_core::codec::Codec;
use dsgd_core::core::LeaseId;
use dsgd_core::optim::StepSize;
use dsgd_core::params::{Gradient, Params, Snapshot};

pub use memory::InMemory;
pub use public::{Difference, Differences, PublicCopy};
pub use update::Updater;
pub use versions::{Contents, Versions};

/// Keeps parameters, and what was pushed and not decided on.
pub trait Store: Send {
    /// Keeps a gradient of so many examples until it is applied or discarded.
    ///
    /// # Panics
    /// When there is one under this lease.
    fn hold(&mut self, lease: LeaseId, gradient: Box<Gradient>, examples: u64);

    /// Makes these gradients one, their mean weighted by examples, under the first of the leases, and returns
    /// its norm.
    ///
    /// # Panics
    /// When one of them is not here.
    fn average(&mut self, of: &[LeaseId]) -> f64;

    /// Takes a step along this gradient.
    ///
    /// # Panics
    /// When it is not here.
    fn apply(&mut self, lease: LeaseId, size: StepSize);

    /// Lets go of a gradient, if it is here.
    fn discard(&mut self, lease: LeaseId);

    /// Steps so far.
    fn version(&self) -> u64;

    /// The parameters as they are now.
    fn current(&self) -> &Arc<Params>;

    /// The parameters as they are now.
    fn snapshot(&self) -> Snapshot;

    /// The parameters for a reader elsewhere who keeps a copy, which is that version: with what is new since, or with what
    /// makes them from earlier versions where differences travel.
    fn snapshot_for_copy(&mut self, have: Option<u64>) -> (Snapshot, Option<Differences>);

    /// From now on differences travel in this codec.
    fn travel_in(&mut self, codec: Codec);

    /// All that a checkpoint holds of it.
    fn contents(&self) -> Contents<'_>;

    /// So many may read at a time from now on.
    fn prepare(&mut self, readers: usize);
}
