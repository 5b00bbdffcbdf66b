//! Time of one step on a layout like the demo's: 37 million parameters, of which 15.7
//! million are dense and a batch touches a few thousand rows of the rest.
//!
//! `cargo bench -p dsgd-engine --bench update`

use std::sync::Arc;
use std::time::{Duration, Instant};

use dsgd_core::optim::{Hyper, OptimizerKind, StepSize};
use dsgd_core::params::{Gradient, Layout, Params, TensorId};
use dsgd_engine::store::{Updater, Versions};

const DENSE: usize = 15_700_000;
const WIDTH: usize = 300;
const ROWS: [usize; 2] = [36_000, 35_700];
const TOUCHED: usize = 2_000;
const STEPS: usize = 15;

fn main() {
    let mut layout = Layout::new();
    let tables = ROWS.map(|rows| layout.rows(format!("table.{rows}"), rows, WIDTH));
    let dense = layout.dense("dense", &[DENSE]);
    let layout = Arc::new(layout);
    let gradient = gradient(&layout, tables, dense);
    let moved = DENSE + tables.len() * TOUCHED * WIDTH;
    println!("{} parameters, {moved} of them move", layout.len());

    for kind in [
        OptimizerKind::Sgd,
        OptimizerKind::Momentum,
        OptimizerKind::Adagrad,
        OptimizerKind::Adamw,
    ] {
        for threads in [1, 2] {
            for read in [false, true] {
                let hyper = Hyper::default();
                let updater = Updater::new(kind, hyper, layout.clone()).with_threads(threads);
                let state = updater.state().len();
                let took = step(updater, Params::zeros(layout.clone()), &gradient, read);
                // Parameters and state are read and written, the gradient is read.
                let bytes = moved * 4 * (3 + 2 * state);
                let place = if read {
                    "into another buffer"
                } else {
                    "in place"
                };
                println!(
                    "{kind:?}, {threads} threads, {place}: {:.1} ms, {:.1} GB/s",
                    took.as_secs_f64() * 1e3,
                    bytes as f64 / took.as_secs_f64() / 1e9
                );
            }
        }
    }
}

fn gradient(layout: &Arc<Layout>, tables: [TensorId; 2], dense: TensorId) -> Gradient {
    let mut gradient = Gradient::new(layout.clone());
    let wave = |at: usize| ((at % 1000) as f32 - 500.0) * 1e-3;
    let fill = |values: &mut [f32]| {
        values
            .iter_mut()
            .enumerate()
            .for_each(|(at, g)| *g = wave(at));
    };
    fill(gradient.dense(dense));
    for (table, rows) in tables.into_iter().zip(ROWS) {
        (0..TOUCHED).for_each(|row| fill(gradient.row(table, row * 7919 % rows)));
    }
    gradient
}

/// Median time of a step, while somebody reads the version before or nobody does.
fn step(updater: Updater, params: Params, gradient: &Gradient, read: bool) -> Duration {
    let size = StepSize {
        learning_rate: 0.1,
        scale: 0.5,
    };
    let mut versions = Versions::new(updater, params);
    let mut reader = None;
    let mut times: Vec<Duration> = (0..STEPS)
        .map(|_| {
            reader = read.then(|| versions.current().clone());
            let start = Instant::now();
            versions.step(gradient, size);
            start.elapsed()
        })
        .collect();
    drop(reader);
    times.sort_unstable();
    times[STEPS / 2]
}
