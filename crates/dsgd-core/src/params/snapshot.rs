//! A version of the parameters, for whoever reads it.

use std::ops::Deref;
use std::sync::Arc;

use super::Params;

/// A version of the parameters that can be read for as long as this is kept. It reads as [`Params`].
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Number of steps that made it. A worker that is given the same number twice is given the same values.
    pub version: u64,
    /// Its values.
    pub params: Arc<Params>,
    /// What is new in it, where the reader has an earlier version.
    pub since: Option<Since>,
}

/// What has changed since an earlier version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// The earlier version.
    pub base: u64,
    /// For each tensor, in the order of the layout.
    pub tensors: Vec<Fresh>,
}

/// How much of a tensor has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// Nothing.
    Same,
    /// These rows of a table, in rising order.
    Rows(Vec<u32>),
    /// All of it may have.
    Whole,
}

impl Snapshot {
    /// A version of which nobody has an earlier one.
    pub fn new(version: u64, params: Arc<Params>) -> Self {
        Self {
            version,
            params,
            since: None,
        }
    }
}

impl Deref for Snapshot {
    type Target = Params;

    fn deref(&self) -> &Params {
        &self.params
    }
}
