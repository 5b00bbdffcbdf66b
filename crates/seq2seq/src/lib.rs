//! The demo of dsgd: an LSTM encoder–decoder for translation and dialogue.
//!
//! The library's first user: [`Seq2Seq`] is a [`dsgd::Task`] on native CPU kernels.
//! [`data`] gives sentences in batches, [`model`] computes on [`kernels`], and [`beam`],
//! [`bleu`], [`score`] and [`translator`] are what is done with a trained model;
//! [`commands`] mounts them in the program.

pub mod batch;
pub mod beam;
pub mod bleu;
pub mod commands;
pub mod data;
pub mod kernels;
pub mod model;
pub mod options;
pub mod score;
pub mod task;
pub mod translator;

pub use task::Seq2Seq;
