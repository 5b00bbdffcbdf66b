//! The core in virtual time.
#![allow(clippy::unwrap_used)] // Helpers of tests, too.

mod random;
mod stories;
