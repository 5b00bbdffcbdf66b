//! `dsgd bench step`: how long one training step takes on this machine.

use std::io::Write;
use std::sync::Arc;

use clap::Args;
use dsgd::optim::{Hyper, OptimizerKind, StepSize, clip_scale};
use dsgd::store::Updater;

use crate::kernels::{Compute, Precision, Simd};
use crate::model::bench::{BenchOptions, bench_step};
use crate::model::{LayerType, Model, ModelSpec, ModelType};

/// Gradients are clipped at this norm, as in training.
const MAX_GRAD_NORM: f32 = 5.0;

/// What to measure. The defaults are the model of wmt-demo and a batch without padding.
#[derive(Clone, Debug, Args)]
pub struct StepArgs {
    /// Recurrent layers: lstm, fast, gru, rnn or bi
    #[arg(long, value_enum, default_value = "fast", hide_possible_values = true)]
    layer_type: LayerType,
    /// How the source is read: red or hred
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    model_type: ModelType,
    /// Kernel threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Precision of the output projection: f32 or bf16
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    precision: Precision,
    /// Instruction set: auto, portable, avx2 or avx512
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    simd: Simd,
    /// Sentence pairs of the batch
    #[arg(long, value_name = "PAIRS", default_value_t = 64)]
    batch_size: usize,
    /// Words of each source sentence
    #[arg(long, value_name = "WORDS", default_value_t = 25)]
    source_length: usize,
    /// Words of each target sentence
    #[arg(long, value_name = "WORDS", default_value_t = 25)]
    target_length: usize,
    /// Words of the source vocabulary
    #[arg(long, value_name = "WORDS", default_value_t = 28_721)]
    src_vocab_size: usize,
    /// Words of the target vocabulary
    #[arg(long, value_name = "WORDS", default_value_t = 42_787)]
    targ_vocab_size: usize,
    /// Layers of each stack
    #[arg(long, value_name = "N", default_value_t = 2)]
    num_layers: usize,
    /// Width of the layers
    #[arg(long, value_name = "UNITS", default_value_t = 300)]
    hidden_size: usize,
    /// Width of the embeddings
    #[arg(long, value_name = "UNITS", default_value_t = 300)]
    word_vec_size: usize,
    /// Steps that are counted
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Steps before them that are not
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: usize,
}

/// Measures and prints one line.
pub fn run(args: &StepArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let options = BenchOptions {
        spec: ModelSpec {
            layer_type: args.layer_type,
            model_type: args.model_type,
            layers: args.num_layers,
            word_vec_size: args.word_vec_size,
            hidden_size: args.hidden_size,
            source_size: args.src_vocab_size,
            target_size: args.targ_vocab_size,
            utter_context: 2,
            dropout: 0.3,
        },
        compute: Compute {
            threads: args.threads,
            simd: args.simd,
            precision: args.precision,
        },
        rows: args.batch_size,
        source_len: args.source_length,
        target_len: args.target_length,
        warmup: args.warmup,
        steps: args.steps as usize,
    };
    let layout = Arc::new(Model::new(options.spec.clone())?.layout());
    let updater = Updater::new(OptimizerKind::Adagrad, Hyper::default(), layout);
    let mut updater = updater.with_threads(args.threads);
    let report = bench_step(&options, |params, gradient| {
        let norm = gradient.sum_of_squares().sqrt();
        let size = StepSize {
            learning_rate: 0.01,
            scale: clip_scale(norm, MAX_GRAD_NORM),
        };
        updater.in_place(params, gradient, size);
    })?;
    writeln!(
        out,
        "{:?} {:?} threads={} precision={:?} simd={:?}: forward+backward median {:.0} ms, clip+update {:.0} ms, \
         whole step {:.0} tokens/s (fastest {:.0} ms), peak memory {}",
        args.layer_type,
        args.model_type,
        args.threads,
        args.precision,
        args.simd,
        report.gradient_s * 1e3,
        report.update_s * 1e3,
        report.tokens_per_s,
        report.fastest_step_s * 1e3,
        peak_memory().map_or("unknown".to_owned(), |mib| format!("{mib} MiB")),
    )?;
    Ok(())
}

/// The most memory that this process has held, in MiB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}
