//! Tests of the library as a whole.
#![allow(clippy::unwrap_used)] // Helpers of tests, too.

mod ancestor;
mod arch;
mod debug_log;
mod elsewhere;
mod equivalence;
mod examples;
mod failures;
mod gcloud;
mod imports;
mod keygen;
mod library;
mod observe;
mod options;
mod page;
mod program;
mod rules;
mod signals;
mod ssh;
mod terminal;
mod wire;

#[path = "../support/runs.rs"]
mod runs;
#[path = "../support/task.rs"]
mod task;
#[path = "../support/transfer.rs"]
mod transfer;
