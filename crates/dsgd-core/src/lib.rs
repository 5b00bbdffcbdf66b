//! The pure part of dsgd: no file, socket, clock or thread.
//!
//! [`params`], [`task`] and [`metric`] are words, [`optim`] formulas, [`event`] says what can be observed,
//! [`core`] decides. All of it is a function of what it is given, so all of it can be tested in
//! virtual time.

pub mod codec;
pub mod core;
pub mod event;
pub mod metric;
pub mod mode;
pub mod model;
pub mod optim;
pub mod params;
pub mod task;
pub mod text;
