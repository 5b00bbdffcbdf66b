//! How gradients become steps.

use serde::{Deserialize, Serialize};

/// How gradients become steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Each gradient is applied as it arrives (Downpour; Dean et al. 2012)
    #[default]
    Async,
    /// One step from the gradients of N batches, summed in batch order: reproducible
    Sync,
    /// One step from each batch, whose parts are computed by different workers: the steps of one worker alone
    Split,
    /// Workers take several steps of their own between exchanges, and the mean of where they went is one step: for
    /// slow networks (Stich 2019)
    Local,
}
