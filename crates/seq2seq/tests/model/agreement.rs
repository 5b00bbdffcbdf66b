//! What must agree: gradient and loss, instruction sets, threads, precisions, steps of inference.

use seq2seq::batch::PAD;
use seq2seq::kernels::{Compute, Precision, Simd};
use seq2seq::model::{LayerType, Model, ModelSpec, ModelType, Workspace};

use super::{LAYER_TYPES, batch, compute, distance, gradient, params, spec};

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
                    if ((i * 7919 + 13) % 31).is_multiple_of(2) {
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
            let mut nll = [0.0; 19];
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
