//! How workers come to be.

pub mod fleet;
pub mod local;
pub mod outpost;
mod tender;
pub mod trouble;
