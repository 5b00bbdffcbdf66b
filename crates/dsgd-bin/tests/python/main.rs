//! Models in Python: what they compute, here and on hosts, what is said when they fail, and what is left behind.

#![allow(clippy::unwrap_used)]

mod examples;
mod failures;
mod hosts;
#[path = "../support/lab.rs"]
mod lab;
mod numpy;
mod other_language;
mod program;
mod torch;
mod wheel;
