//! How workers come to be.

pub mod fleet;
pub mod local;
mod membership;
pub mod outpost;
mod tender;
pub mod trouble;
