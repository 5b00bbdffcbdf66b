//! The model against itself: differences, instruction sets, threads, padding, dropout, and
//! every way in which a caller can be wrong.

use std::sync::Arc;

use dsgd::{Gradient, Params, Part, TensorId};
use seq2seq::batch::{PAD, SentenceBatch};
use seq2seq::kernels::{Compute, Precision, Simd};
use seq2seq::model::bench::random_batch;
use seq2seq::model::{Error, Frozen, LayerType, Loss, Model, ModelSpec, ModelType, Workspace};

const LAYER_TYPES: [LayerType; 5] = [
    LayerType::Lstm,
    LayerType::Fast,
    LayerType::Gru,
    LayerType::Rnn,
    LayerType::Bi,
];

fn spec(layer_type: LayerType, model_type: ModelType) -> ModelSpec {
    ModelSpec {
        layer_type,
        model_type,
        layers: 2,
        word_vec_size: 7,
        hidden_size: 9,
        source_size: 40,
        target_size: 50,
        utter_context: 3,
        dropout: 0.0,
    }
}

fn compute(threads: usize, simd: Simd) -> Compute {
    Compute {
        threads,
        simd,
        precision: Precision::F32,
    }
}

/// Random words, with the end of every other row of the target padded.
fn batch(spec: &ModelSpec, rows: usize) -> SentenceBatch {
    let mut batch = random_batch(spec, rows, 5, 6, 7);
    for row in (0..rows).step_by(2) {
        for t in 3..6 {
            batch.gold[row * 6 + t] = PAD;
            batch.target[row * 6 + t] = PAD;
        }
    }
    batch
}

fn params(model: &Model, size: f32) -> Params {
    let mut params = Params::zeros(Arc::new(model.layout()));
    model.init(3, size, &mut params);
    params
}

fn gradient(
    model: &Model,
    params: &Params,
    batch: &SentenceBatch,
    how: Compute,
    seed: u64,
) -> (Loss, Vec<f32>) {
    let mut gradient = Gradient::new(params.layout().clone());
    let mut workspace = Workspace::new(how).unwrap();
    let loss = model
        .gradient(params, batch, seed, &mut workspace, &mut gradient)
        .unwrap();
    let mut flat = vec![0.0; params.layout().len()];
    for (tensor, part) in params.layout().tensors().iter().zip(gradient.parts()) {
        match part {
            Part::Dense(values) => flat[tensor.range.clone()].copy_from_slice(values),
            Part::Rows(rows) => {
                for (row, values) in rows.iter() {
                    let at = tensor.range.start + row * values.len();
                    flat[at..at + values.len()].copy_from_slice(values);
                }
            }
        }
    }
    (loss, flat)
}

/// The largest difference in units of the largest element.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let most = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    a.iter()
        .zip(b)
        .fold(0.0f32, |m, (a, b)| m.max((a - b).abs()))
        / most
}

#[test]
fn gradients_are_those_of_the_loss() {
    for layer_type in LAYER_TYPES {
        for model_type in [ModelType::Red, ModelType::Hred] {
            let model = Model::new(spec(layer_type, model_type)).unwrap();
            let batch = batch(model.spec(), 5);
            let mut params = params(&model, 0.5);
            let (_, got) = gradient(&model, &params, &batch, Compute::default(), 0);
            let mut workspace = Workspace::new(Compute::default()).unwrap();
            for tensor in model.layout().tensors() {
                // Along a direction of ±1 an element, central differences of f32 are good to
                // about 1e-3 of the direction's length.
                let sign = |i: usize| {
                    if (i * 7919 + 13) % 31 % 2 == 0 {
                        1.0f32
                    } else {
                        -1.0
                    }
                };
                let mut loss = |step: f32| {
                    let mut moved = params.clone();
                    for i in tensor.range.clone() {
                        moved.flat_mut()[i] += step * sign(i);
                    }
                    model.loss(&moved, &batch, &mut workspace).unwrap().nll / batch.rows as f64
                };
                let step = 2e-3;
                let numeric = (loss(step) - loss(-step)) / f64::from(2.0 * step);
                let analytic: f64 = tensor
                    .range
                    .clone()
                    .map(|i| f64::from(got[i] * sign(i)))
                    .sum();
                let length: f64 = tensor.range.clone().map(|i| f64::from(got[i]).abs()).sum();
                let error = (numeric - analytic).abs();
                let bound = 2e-3 * length + 2e-3;
                assert!(
                    error < bound,
                    "{layer_type:?} {model_type:?} {}: {analytic} {numeric}",
                    tensor.name
                );
            }
            params.flat_mut().fill(0.0);
        }
    }
}

#[test]
fn instruction_sets_and_threads_agree() {
    for layer_type in LAYER_TYPES {
        let model = Model::new(ModelSpec {
            dropout: 0.3,
            target_size: 601,
            hidden_size: 37,
            word_vec_size: 21,
            ..spec(layer_type, ModelType::Red)
        })
        .unwrap();
        let batch = batch(model.spec(), 53);
        let params = params(&model, 0.3);
        let want = gradient(&model, &params, &batch, compute(1, Simd::Portable), 5);
        for simd in Simd::available() {
            for threads in [1, 2, 3, 7] {
                let got = gradient(&model, &params, &batch, compute(threads, simd), 5);
                let at = format!("{layer_type:?} {simd:?} {threads}");
                assert!((got.0.nll - want.0.nll).abs() < 1e-6 * want.0.nll, "{at}");
                assert_eq!(got.0.words, want.0.words, "{at}");
                let distance = distance(&want.1, &got.1);
                assert!(distance < 3e-6, "{at}: {distance}");
                let again = gradient(&model, &params, &batch, compute(threads, simd), 5);
                assert_eq!(got, again, "{at}: the same threads, another result");
            }
        }
    }
}

#[test]
fn padding_changes_nothing() {
    let model = Model::new(spec(LayerType::Lstm, ModelType::Red)).unwrap();
    let params = params(&model, 0.5);
    let plain = batch(model.spec(), 5);
    let want = gradient(&model, &params, &plain, Compute::default(), 0);
    let mut wider = plain.clone();
    wider.target_len = 9;
    let widen = |words: &[u32]| -> Vec<u32> {
        words
            .chunks(6)
            .flat_map(|row| [row, &[PAD; 3]].concat())
            .collect()
    };
    (wider.target, wider.gold) = (widen(&plain.target), widen(&plain.gold));
    let got = gradient(&model, &params, &wider, Compute::default(), 0);
    assert_eq!(got.0, want.0);
    assert!(distance(&want.1, &got.1) < 1e-6);
    // What stands in the decoder's input after the last wanted word is never looked at.
    for row in (0..5).step_by(2) {
        wider.target[row * 9 + 4] = 17;
    }
    let got = gradient(&model, &params, &wider, Compute::default(), 0);
    assert_eq!(got.0, want.0);
    assert!(distance(&want.1, &got.1) < 1e-6);
}

#[test]
fn a_batch_of_padding_alone_has_no_loss() {
    let model = Model::new(spec(LayerType::Gru, ModelType::Hred)).unwrap();
    let params = params(&model, 0.5);
    let mut batch = batch(model.spec(), 3);
    batch.gold.fill(PAD);
    let (loss, got) = gradient(&model, &params, &batch, Compute::default(), 0);
    assert_eq!((loss.nll, loss.words), (0.0, 0));
    assert!(got.iter().all(|&g| g == 0.0));
}

#[test]
fn dropout_is_decided_by_its_seed() {
    let dropout = ModelSpec {
        dropout: 0.5,
        ..spec(LayerType::Fast, ModelType::Red)
    };
    let model = Model::new(dropout).unwrap();
    let params = params(&model, 0.5);
    let batch = batch(model.spec(), 20);
    let run = |seed| gradient(&model, &params, &batch, Compute::default(), seed);
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let mut workspace = Workspace::new(Compute::default()).unwrap();
    let without = model.loss(&params, &batch, &mut workspace).unwrap();
    assert_ne!(run(1).0, without);
    // Scaling by 1/(1 - p) keeps the mean: over many masks the loss is close to that without.
    let mean = (0..200).map(|seed| run(seed).0.nll).sum::<f64>() / 200.0;
    assert!(
        (mean / without.nll - 1.0).abs() < 0.02,
        "{mean} {}",
        without.nll
    );
}

#[test]
fn logits_may_rise_by_any_amount_along_the_vocabulary() {
    // Without weights the logits are the biases, so the softmax is known exactly.
    let model = Model::new(ModelSpec {
        target_size: 900,
        ..spec(LayerType::Fast, ModelType::Red)
    })
    .unwrap();
    let mut params = params(&model, 0.5);
    let layout = model.layout();
    let (weight, bias) = (
        layout.find("output.weight").unwrap(),
        layout.find("output.bias").unwrap(),
    );
    params.get_mut(weight).fill(0.0);
    for steepness in [0.05, 1.0, -1.0] {
        let logits: Vec<f32> = (0..900).map(|word| word as f32 * steepness).collect();
        params.get_mut(bias).copy_from_slice(&logits);
        let most = logits.iter().fold(f32::NEG_INFINITY, |m, &z| m.max(z));
        let sum: f64 = logits.iter().map(|z| f64::from(z - most).exp()).sum();
        let batch = batch(model.spec(), 5);
        let wanted: Vec<usize> = batch
            .gold
            .iter()
            .filter(|&&w| w != PAD)
            .map(|&w| w as usize - 1)
            .collect();
        let nll: f64 = wanted
            .iter()
            .map(|&w| f64::from(most - logits[w]) + sum.ln())
            .sum();
        for threads in [1, 2] {
            for simd in Simd::available() {
                let (loss, got) = gradient(&model, &params, &batch, compute(threads, simd), 0);
                assert!(
                    (loss.nll - nll).abs() < 1e-5 * nll,
                    "{steepness} {}: {nll}",
                    loss.nll
                );
                for word in 0..900 {
                    let share = f64::from(logits[word] - most).exp() / sum * wanted.len() as f64;
                    let golds = wanted.iter().filter(|&&w| w == word).count() as f64;
                    let want = (share - golds) / 5.0;
                    let got = f64::from(got[layout.tensor(bias).range.start + word]);
                    assert!(
                        (got - want).abs() < 1e-5,
                        "{steepness} {word}: {got} {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_shows_in_the_loss() {
    for layer_type in LAYER_TYPES {
        let model = Model::new(spec(layer_type, ModelType::Red)).unwrap();
        let batch = batch(model.spec(), 5);
        for tensor in 0..model.layout().tensors().len() {
            for (value, every) in [(f32::NAN, 1), (f32::NAN, 7), (f32::INFINITY, 1)] {
                let mut params = params(&model, 0.5);
                params
                    .get_mut(TensorId(tensor))
                    .iter_mut()
                    .step_by(every)
                    .for_each(|p| *p = value);
                let (loss, _) = gradient(&model, &params, &batch, compute(2, Simd::Auto), 0);
                let name = model.layout().tensors()[tensor].name.clone();
                let embedding = name.contains("embedding");
                // Gates saturate at infinity, which is finite; not-a-number never is.
                assert!(
                    loss.nll.is_nan() || (embedding && every > 1) || !value.is_nan(),
                    "{layer_type:?} {name} {value}: {}",
                    loss.nll
                );
            }
        }
    }
}

#[test]
fn steps_of_inference_are_those_of_the_loss() {
    for layer_type in LAYER_TYPES {
        for model_type in [ModelType::Red, ModelType::Hred] {
            let model = Model::new(spec(layer_type, model_type)).unwrap();
            let params = params(&model, 0.5);
            let batch = batch(model.spec(), 19);
            let mut workspace = Workspace::new(Compute::default()).unwrap();
            model.loss(&params, &batch, &mut workspace).unwrap();
            let want = workspace.example_nll().to_vec();
            // Backwards, to see that states are told apart.
            let order: Vec<usize> = (0..19).rev().collect();
            let state = model
                .encode(&params, &batch.sources, 19, &mut workspace)
                .unwrap();
            let mut state = state.select(&order);
            let mut nll = vec![0.0; 19];
            for t in 0..batch.target_len {
                let tokens: Vec<u32> = order.iter().map(|row| batch.target[row * 6 + t]).collect();
                let (log_probs, next) = model
                    .step(&params, &state, &tokens, &mut workspace)
                    .unwrap();
                for (n, &row) in order.iter().enumerate() {
                    let gold = batch.gold[row * 6 + t];
                    if gold != PAD {
                        nll[row] -= f64::from(log_probs[n * 50 + gold as usize - 1]);
                    }
                }
                state = next;
            }
            for (got, want) in nll.iter().zip(&want) {
                assert!(
                    (got - want).abs() < 1e-5 * want,
                    "{layer_type:?} {model_type:?}: {got} {want}"
                );
            }
        }
    }
}

#[test]
fn frozen_word_vectors_have_no_gradient() {
    let model = Model::new(spec(LayerType::Lstm, ModelType::Red)).unwrap();
    let batch = batch(model.spec(), 5);
    let params = params(&model, 0.5);
    let (_, all) = gradient(&model, &params, &batch, Compute::default(), 0);
    let frozen = Frozen {
        source_embedding: true,
        target_embedding: true,
    };
    let model = model.freeze(frozen);
    let (_, some) = gradient(&model, &params, &batch, Compute::default(), 0);
    for tensor in model.layout().tensors() {
        let (all, some) = (&all[tensor.range.clone()], &some[tensor.range.clone()]);
        if tensor.name.contains("embedding") {
            assert!(some.iter().all(|&g| g == 0.0) && all.iter().any(|&g| g != 0.0));
        } else {
            assert_eq!(all, some, "{}", tensor.name);
        }
    }
}

#[test]
fn parameters_of_the_published_model() {
    let wanted = [37_219_687, 37_216_087, 36_494_887, 34_692_487, 38_658_487];
    for (layer_type, wanted) in LAYER_TYPES.into_iter().zip(wanted) {
        // The counts of the published run and of the reference trainer.
        let order = [
            LayerType::Lstm,
            LayerType::Fast,
            LayerType::Gru,
            LayerType::Rnn,
            LayerType::Bi,
        ];
        assert_eq!(order, LAYER_TYPES);
        let spec = ModelSpec {
            word_vec_size: 300,
            hidden_size: 300,
            source_size: 28_721,
            target_size: 42_787,
            ..spec(layer_type, ModelType::Red)
        };
        assert_eq!(
            Model::new(spec).unwrap().layout().len(),
            wanted,
            "{layer_type:?}"
        );
    }
}

#[test]
fn initial_values_are_a_function_of_the_seed() {
    let model = Model::new(spec(LayerType::Lstm, ModelType::Red)).unwrap();
    let init = |seed| {
        let mut params = Params::zeros(Arc::new(model.layout()));
        model.init(seed, 0.1, &mut params);
        params.flat().to_vec()
    };
    assert_eq!(init(1), init(1));
    assert_ne!(init(1), init(2));
    let values = init(1);
    assert!(values.iter().all(|v| v.abs() < 0.1));
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    assert!(mean.abs() < 0.01, "{mean}");
}

#[test]
fn what_cannot_be_is_an_error() {
    let good = spec(LayerType::Lstm, ModelType::Hred);
    let wrong = |change: fn(&mut ModelSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        Model::new(spec).unwrap_err().to_string()
    };
    assert_eq!(wrong(|s| s.layers = 0), "layers must be at least 1");
    assert_eq!(
        wrong(|s| s.word_vec_size = 0),
        "word_vec_size must be at least 1"
    );
    assert_eq!(
        wrong(|s| s.hidden_size = 0),
        "hidden_size must be at least 1"
    );
    assert_eq!(
        wrong(|s| s.utter_context = 0),
        "utter_context must be at least 1"
    );
    assert!(wrong(|s| s.source_size = 3).starts_with("source_size is 3"));
    assert!(wrong(|s| s.target_size = 1 << 40).contains("32-bit"));
    assert!(wrong(|s| s.dropout = 1.0).starts_with("dropout is 1"));
    assert!(wrong(|s| s.dropout = f32::NAN).starts_with("dropout is NaN"));

    let model = Model::new(good.clone()).unwrap();
    let params = params(&model, 0.1);
    let mut workspace = Workspace::new(Compute::default()).unwrap();
    let mut loss = |change: fn(&mut SentenceBatch)| {
        let mut batch = batch(&good, 4);
        change(&mut batch);
        model.loss(&params, &batch, &mut workspace).unwrap_err()
    };
    assert!(matches!(
        loss(|b| b.target[2] = 0),
        Error::WordIndex { index: 0, .. }
    ));
    assert!(matches!(
        loss(|b| b.gold[2] = 51),
        Error::WordIndex {
            index: 51,
            size: 50,
            ..
        }
    ));
    assert!(matches!(
        loss(|b| b.sources[1][0] = 41),
        Error::WordIndex { size: 40, .. }
    ));
    assert!(matches!(
        loss(|b| b.sources.truncate(2)),
        Error::BatchShape { expected: 3, .. }
    ));
    assert!(matches!(
        loss(|b| b.gold.truncate(3)),
        Error::BatchShape { found: 3, .. }
    ));
    assert!(matches!(loss(|b| b.rows = 0), Error::ZeroSize(_)));
    assert!(Workspace::new(compute(0, Simd::Auto)).is_err());
}

#[test]
fn bfloat16_is_close_and_the_same_on_every_instruction_set() {
    for (hidden_size, target_size) in [(37, 601), (32, 500)] {
        let model = Model::new(ModelSpec {
            target_size,
            hidden_size,
            ..spec(LayerType::Lstm, ModelType::Red)
        })
        .unwrap();
        let mut params = params(&model, 0.3);
        let bias = model.layout().find("output.bias").unwrap();
        let batch = batch(model.spec(), 53);
        for rising in [false, true] {
            if rising {
                // So that references have to be lowered on the way.
                let bias = params.get_mut(bias);
                bias.iter_mut()
                    .enumerate()
                    .for_each(|(word, b)| *b = word as f32 * 0.3);
            }
            let exact = gradient(&model, &params, &batch, Compute::default(), 0);
            let pairs = |threads, simd| {
                let how = Compute {
                    threads,
                    simd,
                    precision: Precision::Bf16,
                };
                gradient(&model, &params, &batch, how, 0)
            };
            let want = pairs(1, Simd::Portable);
            let error = (want.0.nll / exact.0.nll - 1.0).abs();
            assert!(error < 1e-3 && error > 0.0, "{error}");
            let error = distance(&exact.1, &want.1);
            assert!(error < 1e-2, "{error}");
            for simd in Simd::available() {
                for threads in [1, 2] {
                    let got = pairs(threads, simd);
                    assert!((got.0.nll / want.0.nll - 1.0).abs() < 1e-6);
                    let error = distance(&want.1, &got.1);
                    assert!(error < 1e-3, "{simd:?} {threads}: {error}");
                }
            }
        }
    }
}
