//! Times one training step (gradient, clipping at norm 5, AdaGrad) on a random batch of the
//! size of wmt-demo's: `cargo run --release -p seq2seq --example step -- fast 2 f32 auto 0.3`
//! (layer type, threads, precision, instruction set, dropout).

use clap::ValueEnum;
use dsgd::{Gradient, Params, TensorGradient};
use seq2seq::kernels::{Compute, Precision, Simd};
use seq2seq::model::bench::{BenchOptions, bench_step};
use seq2seq::model::{LayerType, ModelSpec, ModelType};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument =
        |i: usize, default: &str| arguments.get(i).map_or(default, String::as_str).to_owned();
    let threads: usize = argument(1, "1").parse()?;
    let options = BenchOptions {
        spec: ModelSpec {
            layer_type: LayerType::from_str(&argument(0, "fast"), true)?,
            model_type: ModelType::Red,
            layers: 2,
            word_vec_size: 300,
            hidden_size: 300,
            source_size: 28_721,
            target_size: 42_787,
            utter_context: 2,
            dropout: argument(4, "0.3").parse()?,
        },
        compute: Compute {
            threads,
            simd: Simd::from_str(&argument(3, "auto"), true)?,
            precision: Precision::from_str(&argument(2, "f32"), true)?,
        },
        rows: 64,
        source_len: 25,
        target_len: 25,
        warmup: 2,
        steps: argument(5, "7").parse()?,
    };
    let mut sums = Vec::new();
    let mut first = None;
    let report = bench_step(&options, |params, gradient| {
        update(params, gradient, &mut sums);
        first = first.or_else(cpu_ticks);
    })?;
    println!(
        "{:?}: gradient {:.0} ms, update {:.0} ms, step {:.0} ms (fastest {:.0}), {:.0} tokens/s",
        options.compute,
        report.gradient_s * 1e3,
        report.update_s * 1e3,
        report.step_s * 1e3,
        report.fastest_step_s * 1e3,
        report.tokens_per_s
    );
    if let (Some(first), Some(last)) = (first, cpu_ticks()) {
        let steps = options.steps + options.warmup - 1;
        println!(
            "CPU {:.0} ms a step",
            (last - first) as f64 * 10.0 / steps as f64
        );
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status
            .lines()
            .filter(|l| l.starts_with("VmHWM"))
            .for_each(|l| println!("{l}"));
    }
    Ok(())
}

/// User and system time of this process so far, in the kernel's ticks of 10 ms.
fn cpu_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// A plain clipped AdaGrad.
fn update(params: &mut Params, gradient: &mut Gradient, sums: &mut Vec<f32>) {
    let layout = params.layout().clone();
    sums.resize(layout.len(), 0.0);
    let norm = gradient.sum_of_squares().sqrt();
    let scale = if norm > 5.0 { (5.0 / norm) as f32 } else { 1.0 };
    for (tensor, part) in layout.tensors().iter().zip(gradient.tensors()) {
        let start = tensor.range.start;
        match part {
            TensorGradient::Dense(values) => adagrad(
                &mut params.flat_mut()[start..],
                &mut sums[start..],
                values,
                scale,
            ),
            TensorGradient::Rows(rows) => {
                for (row, values) in rows.iter() {
                    let at = start + row * tensor.width();
                    adagrad(&mut params.flat_mut()[at..], &mut sums[at..], values, scale);
                }
            }
        }
    }
}

fn adagrad(params: &mut [f32], sums: &mut [f32], gradient: &[f32], scale: f32) {
    for ((p, sum), g) in params.iter_mut().zip(sums).zip(gradient) {
        let g = g * scale;
        *sum += g * g;
        *p -= 0.03 * g / (1e-9 + *sum).sqrt();
    }
}
