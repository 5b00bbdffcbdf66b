//! The demo of dsgd: an LSTM encoder–decoder for translation and dialogue.

pub mod batch;
pub mod data;
pub mod kernels;
pub mod model;
