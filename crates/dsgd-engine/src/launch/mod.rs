//! How workers come to be.

pub mod fleet;
pub mod local;
mod membership;
mod places;
pub mod process;
mod supervisor;
pub mod trouble;
