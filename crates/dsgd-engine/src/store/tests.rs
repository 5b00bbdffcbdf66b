//! What every optimizer must do. What each of them computes is tested in `rules`.

#![expect(clippy::float_cmp, reason = "exact results are what is tested")]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use clap::ValueEnum;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use dsgd_core::optim::{
    Hyper, MAX_STATE, OptimError, OptimizerKind, StepSize, batch_share, clip_scale,
};

use super::*;
use dsgd_core::params::{Fresh, Gradient, Layout, Params, TensorId};

const ROWS: usize = 50;
const WIDTH: usize = 3;

/// A dense tensor longer than a piece, a table, and a small dense tensor behind it.
fn layout() -> Arc<Layout> {
    let mut layout = Layout::new();
    layout.dense("first", &[140_001]);
    layout.rows("table", ROWS, WIDTH);
    layout.dense("last", &[2, 5]);
    Arc::new(layout)
}

fn fill(values: &mut [f32], rng: &mut impl Rng) {
    values.fill_with(|| rng.random_range(-1.0..1.0));
}

/// A gradient that touches at most `rows` rows of the table.
fn random_gradient(layout: &Arc<Layout>, rows: usize, rng: &mut impl Rng) -> Gradient {
    let mut gradient = Gradient::new(layout.clone());
    fill(gradient.dense(TensorId(0)), rng);
    fill(gradient.dense(TensorId(2)), rng);
    for _ in 0..rows {
        let row = rng.random_range(0..ROWS);
        fill(gradient.row(TensorId(1), row), rng);
    }
    gradient
}

fn random_params(layout: &Arc<Layout>, rng: &mut impl Rng) -> Params {
    let mut params = Params::zeros(layout.clone());
    fill(params.flat_mut(), rng);
    params
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn all_bits(params: &Params, state: &[(&str, &[f32])]) -> Vec<Vec<u32>> {
    let state = state.iter().map(|(_, values)| bits(values));
    std::iter::once(bits(params.flat())).chain(state).collect()
}

fn all_kinds() -> impl Iterator<Item = (OptimizerKind, Hyper)> {
    let decaying = Hyper {
        weight_decay: 0.01,
        ..Hyper::default()
    };
    let kinds = OptimizerKind::value_variants().iter();
    kinds.flat_map(move |&kind| [(kind, Hyper::default()), (kind, decaying)])
}

const SIZE: StepSize = StepSize {
    learning_rate: 0.1,
    scale: 0.5,
};

/// The conformance suite: a new optimizer is in it by being in the enum.
#[test]
fn every_optimizer_conforms() {
    for (kind, hyper) in all_kinds() {
        assert!(kind.build(hyper).state_names().len() <= MAX_STATE);
        goes_downhill(kind, hyper);
        leaves_untouched_rows_alone(kind, hyper);
        does_not_depend_on_pieces(kind, hyper);
        scales_the_gradient_first(kind, hyper);
        goes_on_after_a_restore(kind, hyper);
        for seed in 0..4 {
            buffers_equal_in_place(kind, hyper, seed);
        }
    }
}

/// Minimises ½ Σ (p - 1)², whose gradient is p - 1.
fn goes_downhill(kind: OptimizerKind, hyper: Hyper) {
    let optimizer = kind.build(hyper);
    let (mut params, mut m, mut v) = ([3.0f32, -2.0], [0.0; 2], [0.0; 2]);
    for number in 1..=2000 {
        let gradient = params.map(|p| p - 1.0);
        let used = optimizer.state_names().len();
        let m = if used > 0 { &mut m[..] } else { &mut [] };
        let v = if used > 1 { &mut v[..] } else { &mut [] };
        let size = StepSize {
            learning_rate: 0.1,
            scale: 1.0,
        };
        optimizer.update(number, size, &mut params, &gradient, [m, v]);
    }
    for p in params {
        assert!((p - 1.0).abs() < 0.2, "{kind:?} ended at {p}");
    }
}

fn leaves_untouched_rows_alone(kind: OptimizerKind, hyper: Hyper) {
    let (layout, mut rng) = (layout(), ChaCha8Rng::seed_from_u64(1));
    let mut params = random_params(&layout, &mut rng);
    let before = params.clone();
    let mut updater = Updater::new(kind, hyper, layout.clone());
    let mut gradient = random_gradient(&layout, 0, &mut rng);
    gradient.row(TensorId(1), 7).fill(0.25);
    for _ in 0..3 {
        updater.in_place(&mut params, &gradient, SIZE);
    }
    let table = layout.tensor(TensorId(1)).range.clone();
    for at in table.clone() {
        let touched = (at - table.start) / WIDTH == 7;
        let moved = params.flat()[at].to_bits() != before.flat()[at].to_bits();
        assert_eq!(moved, touched, "{kind:?} element {at}");
        for (name, values) in updater.state() {
            assert_eq!(values[at] != 0.0, touched, "{kind:?} {name} element {at}");
        }
    }
}

/// Whole vectors, odd pieces and threads give the same bits.
fn does_not_depend_on_pieces(kind: OptimizerKind, hyper: Hyper) {
    let (layout, mut rng) = (layout(), ChaCha8Rng::seed_from_u64(2));
    let start = random_params(&layout, &mut rng);
    let gradients = [(); 3].map(|()| random_gradient(&layout, 9, &mut rng));
    let run = |threads| {
        let mut updater = Updater::new(kind, hyper, layout.clone()).with_threads(threads);
        let mut params = start.clone();
        for gradient in &gradients {
            updater.in_place(&mut params, gradient, SIZE);
        }
        all_bits(&params, &updater.state())
    };
    let one = run(1);
    assert_eq!(one, run(2), "{kind:?}");
    assert_eq!(one, run(5), "{kind:?}");

    let first = layout.tensor(TensorId(0)).range.clone();
    let mut params = start.flat()[first.clone()].to_vec();
    let mut state = [vec![0.0; first.len()], vec![0.0; first.len()]];
    let optimizer = kind.build(hyper);
    for (gradient, number) in gradients.iter().zip(1..) {
        let gradient = gradient.clone().dense(TensorId(0)).to_vec();
        let mut at = 0;
        while at < first.len() {
            let end = (at + rng.random_range(1..5000)).min(first.len());
            let used = optimizer.state_names().len();
            let mut state = state
                .iter_mut()
                .take(used)
                .map(|vector| &mut vector[at..end]);
            let state = std::array::from_fn(|_| state.next().unwrap_or_default());
            let (params, gradient) = (&mut params[at..end], &gradient[at..end]);
            optimizer.update(number, SIZE, params, gradient, state);
            at = end;
        }
    }
    assert_eq!(one[0][first], bits(&params), "{kind:?}");
}

fn scales_the_gradient_first(kind: OptimizerKind, hyper: Hyper) {
    let (layout, mut rng) = (layout(), ChaCha8Rng::seed_from_u64(3));
    let start = random_params(&layout, &mut rng);
    let gradient = random_gradient(&layout, 9, &mut rng);
    let run = |gradient: &Gradient, scale| {
        let mut updater = Updater::new(kind, hyper, layout.clone());
        let mut params = start.clone();
        updater.in_place(&mut params, gradient, StepSize { scale, ..SIZE });
        all_bits(&params, &updater.state())
    };
    let mut quarter = gradient.clone();
    quarter.scale(0.25);
    assert_eq!(run(&gradient, 0.25), run(&quarter, 1.0), "{kind:?}");
}

fn goes_on_after_a_restore(kind: OptimizerKind, hyper: Hyper) {
    let (layout, mut rng) = (layout(), ChaCha8Rng::seed_from_u64(4));
    let mut params = random_params(&layout, &mut rng);
    let gradients = [(); 4].map(|()| random_gradient(&layout, 9, &mut rng));
    let mut updater = Updater::new(kind, hyper, layout.clone());
    for gradient in &gradients[..2] {
        updater.in_place(&mut params, gradient, SIZE);
    }
    let own = |(name, values): (&str, &[f32])| (name.to_string(), values.to_vec());
    let state = updater.state().into_iter().map(own).collect();
    let mut again = Updater::new(kind, hyper, layout.clone());
    again.restore(2, state).unwrap();
    let mut resumed = Versions::new(again, params.clone());
    for gradient in &gradients[2..] {
        updater.in_place(&mut params, gradient, SIZE);
        let _reader = resumed.current().clone();
        resumed.step(gradient, SIZE);
    }
    assert_eq!(resumed.version(), 4);
    assert_eq!(
        all_bits(resumed.current(), &resumed.contents().state),
        all_bits(&params, &updater.state()),
        "{kind:?}"
    );
}

/// Readers come and go at random and keep versions for random times: every version they
/// were given stays as it was, and the newest is that of a plain update in place.
fn buffers_equal_in_place(kind: OptimizerKind, hyper: Hyper, seed: u64) {
    let (layout, mut rng) = (layout(), ChaCha8Rng::seed_from_u64(seed));
    let start = random_params(&layout, &mut rng);
    let mut plain = Updater::new(kind, hyper, layout.clone());
    let mut params = start.clone();
    let mut versions = Versions::new(Updater::new(kind, hyper, layout.clone()), start);
    let mut readers: VecDeque<(Arc<Params>, Vec<u32>)> = VecDeque::new();
    for _ in 0..30 {
        for _ in 0..rng.random_range(0..3) {
            readers.push_back((versions.current().clone(), bits(params.flat())));
        }
        while readers.len() > rng.random_range(0..8) {
            let at = rng.random_range(0..readers.len());
            let (seen, expected) = readers.remove(at).unwrap();
            assert!(bits(seen.flat()) == expected, "{kind:?}: a version changed");
        }
        let touched = rng.random_range(0..6);
        let gradient = random_gradient(&layout, touched, &mut rng);
        plain.in_place(&mut params, &gradient, SIZE);
        versions.step(&gradient, SIZE);
        let equal = bits(versions.current().flat()) == bits(params.flat());
        assert!(equal, "{kind:?} seed {seed} version {}", versions.version());
        assert!(versions.buffers() <= readers.len() + 4);
    }
    assert_eq!(
        all_bits(&params, &plain.state()),
        all_bits(versions.current(), &versions.contents().state)
    );
}

/// For sgd and adagrad without weight decay, a row with a zero gradient is an untouched one.
#[test]
fn lazy_rows_equal_dense_ones() {
    let (rows, mut rng) = (layout(), ChaCha8Rng::seed_from_u64(5));
    let mut all_dense = Layout::new();
    for tensor in rows.tensors() {
        all_dense.dense(tensor.name.clone(), &tensor.shape);
    }
    let all_dense = Arc::new(all_dense);
    for kind in [OptimizerKind::Sgd, OptimizerKind::Adagrad] {
        let mut lazy = Updater::new(kind, Hyper::default(), rows.clone());
        let mut dense = Updater::new(kind, Hyper::default(), all_dense.clone());
        let mut lazy_params = random_params(&rows, &mut rng);
        let mut dense_params = Params::zeros(all_dense.clone());
        dense_params.flat_mut().copy_from_slice(lazy_params.flat());
        for _ in 0..3 {
            let mut gradient = random_gradient(&rows, 9, &mut rng);
            let mut same = Gradient::new(all_dense.clone());
            for id in [TensorId(0), TensorId(2)] {
                same.dense(id).copy_from_slice(gradient.dense(id));
            }
            for (row, values) in gradient.tensors_mut()[1].as_rows().iter() {
                same.dense(TensorId(1))[row * WIDTH..][..WIDTH].copy_from_slice(values);
            }
            lazy.in_place(&mut lazy_params, &gradient, SIZE);
            dense.in_place(&mut dense_params, &same, SIZE);
        }
        assert_eq!(
            all_bits(&lazy_params, &lazy.state()),
            all_bits(&dense_params, &dense.state())
        );
    }
}

#[test]
fn a_gradient_is_clipped_only_above_the_limit() {
    assert_eq!(clip_scale(5.0, 5.0), 1.0);
    assert_eq!(clip_scale(20.0, 5.0), 0.25);
    assert_eq!(clip_scale(1e30, 0.0), 1.0);
    assert_eq!(clip_scale(0.0, 5.0), 1.0);
    assert_eq!(batch_share(0, 0), 0.0);
}

#[test]
fn numbers_out_of_range_are_named() {
    assert_eq!(Hyper::default().check(), Ok(()));
    let wrong = |hyper: Hyper| hyper.check().unwrap_err().to_string();
    let hyper = Hyper::default();
    let beta2 = 1.0;
    assert_eq!(
        wrong(Hyper { beta2, ..hyper }),
        "--beta2 is 1; give a number with 0 <= x < 1"
    );
    let weight_decay = f32::NAN;
    assert!(
        wrong(Hyper {
            weight_decay,
            ..hyper
        })
        .starts_with("--weight-decay is NaN")
    );
}

#[test]
fn state_of_another_run_is_refused() {
    let layout = layout();
    let mut updater = Updater::new(OptimizerKind::Adagrad, Hyper::default(), layout);
    let adam = vec![("mean".to_string(), vec![]), ("square".to_string(), vec![])];
    let error = updater.restore(1, adam).unwrap_err();
    assert!(
        matches!(error, OptimError::OtherOptimizer { .. }),
        "{error}"
    );
    let short = vec![("hist".to_string(), vec![0.0; 3])];
    let error = updater.restore(1, short).unwrap_err();
    assert!(
        matches!(error, OptimError::Length { found: 3, .. }),
        "{error}"
    );
    assert_eq!(updater.version(), 0);
}

/// Whoever has a version and takes over what is new has the newest one, to the bit.
#[test]
fn what_is_new_makes_of_any_version_the_newest() {
    let layout = layout();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for (kind, hyper) in all_kinds() {
        let updater = Updater::new(kind, hyper, layout.clone());
        let mut versions = Versions::new(updater, random_params(&layout, &mut rng));
        let mut copies = vec![versions.current().as_ref().clone()];
        let (mut same, mut rows) = (0, 0);
        for step in 0..30 {
            let gradient = random_gradient(&layout, step % 4, &mut rng);
            versions.step(&gradient, SIZE);
            copies.push(versions.current().as_ref().clone());
            let have = rng.random_range(0..copies.len());
            let snapshot = versions.snapshot(Some(have as u64));
            let since = snapshot.since.as_ref().unwrap();
            let mut copy = copies[have].clone();
            for (tensor, fresh) in layout.tensors().iter().zip(&since.tensors) {
                let width = tensor.width();
                let mut take = |range: Range<usize>| {
                    copy.flat_mut()[range.clone()].copy_from_slice(&snapshot.flat()[range]);
                };
                match fresh {
                    Fresh::Same => same += 1,
                    Fresh::Whole => take(tensor.range.clone()),
                    Fresh::Rows(numbers) => {
                        assert!(numbers.is_sorted());
                        rows += numbers.len();
                        for &row in numbers {
                            let start = tensor.range.start + row as usize * width;
                            take(start..start + width);
                        }
                    }
                }
            }
            assert_eq!(bits(copy.flat()), bits(snapshot.flat()), "{kind:?} {have}");
        }
        assert!(same > 3 && rows > 30, "{same} {rows}");
        let newest = versions.snapshot(Some(30)).since.unwrap();
        assert!(newest.tensors.iter().all(|fresh| *fresh == Fresh::Same));
    }
}
