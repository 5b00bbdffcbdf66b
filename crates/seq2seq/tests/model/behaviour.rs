//! Padding, dropout, frozen tensors, sizes, and every way in which a caller can be wrong.

use std::sync::Arc;

use clap::{Args, Command, FromArgMatches};
use dsgd::{Model as _, Params, Task, TensorId};
use seq2seq::Seq2Seq;
use seq2seq::batch::{PAD, SentenceBatch};
use seq2seq::kernels::{Compute, Simd};
use seq2seq::model::{Error, Frozen, LayerType, Model, ModelSpec, ModelType, Workspace};
use seq2seq::options::Options;

use super::{LAYER_TYPES, batch, compute, distance, gradient, params, spec};

/// The largest parameter that a task with these options starts from.
fn largest(options: &[&str]) -> f32 {
    let command = Options::augment_args(Command::new("test")).no_binary_name(true);
    let matches = command.try_get_matches_from(options).unwrap();
    let options = Options::from_arg_matches(&matches).unwrap();
    let task = Seq2Seq::load(&options, 1).unwrap();
    let mut params = Params::zeros(Arc::clone(&task.manifest().layout));
    task.init(1, &mut params).unwrap();
    params.flat().iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// √(3 / 300) is the ancestor's 0.1, √(3 / 12) is 0.5.
#[test]
fn parameters_start_by_the_width_unless_it_is_given() {
    for (width, typed, bound) in [
        ("300", None, 0.1),
        ("12", None, 0.5),
        ("12", Some("0.2"), 0.2),
    ] {
        let mut options = vec!["--numbers", "10", "--hidden-size", width];
        options.extend(typed.into_iter().flat_map(|x| ["--param-init", x]));
        let most = largest(&options);
        assert!(most <= bound && most > 0.99 * bound, "{options:?}: {most}");
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
