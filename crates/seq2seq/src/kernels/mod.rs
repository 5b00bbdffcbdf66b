//! The arithmetic: matrix products, gates, softmax, each once for every instruction set.
//!
//! All matrices that pass between kernels lie in one of two orders, both in groups of 16
//! (`GROUP`), so that no product needs its operands packed or padded by rows:
//!
//! - **panels** `[column group][feature][16 columns]`: a column is one sentence at one time.
//!   Layers work on these; a register holds one feature of 16 sentences.
//! - **turned** `[feature group][column][16 features]`: the same, transposed, as the right
//!   operand of a weight gradient.
//!
//! What this leaves out: any matrix whose columns do not come in groups, and any notion of a
//! model. Nothing here allocates.

// A generic kernel takes the instruction set of the function into which it is inlined.
#![allow(clippy::inline_always)]

use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(crate) mod dispatch;
pub(crate) mod gates;
pub(crate) mod math;
pub(crate) mod pairs;
pub(crate) mod product;
pub(crate) mod softmax;
pub(crate) mod tile;
pub(crate) mod turn;
pub(crate) mod vector;

pub(crate) use dispatch::Isa;
pub(crate) use vector::GROUP;

/// Which instruction set the kernels use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Simd {
    /// The fastest that this processor has.
    #[default]
    Auto,
    /// Plain Rust: SSE2 on x86-64, NEON on aarch64.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512.
    Avx512,
}

/// How exactly the output projection computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats everywhere.
    #[default]
    F32,
    /// The projection's operands rounded to bfloat16, sums in 32 bits.
    Bf16,
}

/// How a workspace computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compute {
    /// Kernel threads; results are reproducible for a given number.
    pub threads: usize,
    /// Instruction set.
    pub simd: Simd,
    /// Precision of the output projection.
    pub precision: Precision,
}

impl Default for Compute {
    fn default() -> Self {
        Self {
            threads: 1,
            simd: Simd::Auto,
            precision: Precision::F32,
        }
    }
}

impl Simd {
    /// Every choice that this processor can run, `Auto` left out.
    pub fn available() -> Vec<Simd> {
        [Simd::Portable, Simd::Avx2, Simd::Avx512]
            .into_iter()
            .filter(|&simd| Isa::detect(simd).is_some())
            .collect()
    }
}

impl FromStr for Simd {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        <Self as clap::ValueEnum>::from_str(name, true)
    }
}
