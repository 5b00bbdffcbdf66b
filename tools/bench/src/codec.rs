//! What codecs cost a worker's thread, and how small they make what travels.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use crate::median::median;
use dsgd_core::codec::Codec;
use dsgd_core::params::{Gradient, Layout, TensorId};
use dsgd_engine::coded::{CodedTensor, Residual};
use dsgd_observe::output::say;

#[derive(Debug, Args)]
pub(crate) struct CodecArgs {
    /// Rounds, of which each codec has its turn in every one
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Elements of what travels: the default is what eight steps of wmt-demo's model touch
    #[arg(long, value_name = "N", default_value_t = 17_700_000, value_parser = clap::value_parser!(u32).range(1..))]
    elements: u32,
}

/// What a codec took: milliseconds for each MB of f32.
#[derive(Default)]
struct Took {
    encode: Vec<f64>,
    decode: Vec<f64>,
    bytes: usize,
}

pub(crate) fn run(args: &CodecArgs) {
    let mut layout = Layout::new();
    layout.dense("weight", &[args.elements as usize]);
    let layout = Arc::new(layout);
    let mut gradient = Gradient::new(Arc::clone(&layout));
    let values = gradient.dense(TensorId(0));
    for (at, value) in (0..args.elements).zip(&mut *values) {
        *value = (at as f32).sin() * 0.01;
    }
    let megabytes = f64::from(args.elements) * 4e-6;
    let mut into = vec![0.0; args.elements as usize];
    let mut residuals: Vec<_> = Codec::ALL.map(|_| Residual::new(&layout)).into();
    let mut took: Vec<_> = Codec::ALL.map(|_| Took::default()).into();
    for _ in 0..args.rounds {
        for ((codec, residual), took) in Codec::ALL.iter().zip(&mut residuals).zip(&mut took) {
            let started = Instant::now();
            let coded = residual.encode(*codec, &gradient);
            let encoded = started.elapsed();
            took.bytes = coded.bytes();
            for tensor in &coded.tensors {
                let CodedTensor::Whole(bytes) = tensor else {
                    continue;
                };
                let started = Instant::now();
                codec.decode(bytes, &mut into);
                took.decode
                    .push(started.elapsed().as_secs_f64() * 1e3 / megabytes);
                black_box(&into);
            }
            took.encode.push(encoded.as_secs_f64() * 1e3 / megabytes);
        }
    }
    say(format_args!(
        "{megabytes:.1} MB of f32, one thread, medians of {} rounds, milliseconds for each of these MB:",
        args.rounds
    ));
    say(format_args!(
        "  codec   bytes   encode, what was left out included   decode"
    ));
    for (codec, took) in Codec::ALL.iter().zip(took) {
        say(format_args!(
            "  {:<5} 1/{:<5.2} {:>35.2} {:>8.2}",
            codec.name(),
            megabytes * 1e6 / took.bytes as f64,
            median(took.encode),
            median(took.decode)
        ));
    }
}
