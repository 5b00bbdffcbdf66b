//! The demo of dsgd: an LSTM encoder–decoder for translation and dialogue.

pub mod batch;
pub mod beam;
pub mod bleu;
pub mod commands;
pub mod data;
pub mod kernels;
pub mod model;
pub mod score;
pub mod translator;
