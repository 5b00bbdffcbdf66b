//! How kernels compute.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

impl FromStr for Simd {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        <Self as clap::ValueEnum>::from_str(name, true)
    }
}
