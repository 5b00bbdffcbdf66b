//! How workers come to be.

pub mod local;
pub mod outpost;
