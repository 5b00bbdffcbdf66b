//! Beam search against cases computed in float64, and against the same rules written down plainly.

use std::path::Path;
use std::sync::Arc;

use dsgd::{Params, TensorId};
use safetensors::{Dtype, SafeTensors};
use seq2seq::beam::{Beam, Hypothesis, beam_search, search};
use seq2seq::kernels::{Compute, Precision, Simd};
use seq2seq::model::{LayerType, Model, ModelSpec, ModelType, Workspace};
use serde_json::Value;

use crate::{fixtures, random};

fn computes() -> Vec<Compute> {
    let all = |threads| {
        Simd::available().into_iter().map(move |simd| Compute {
            threads,
            simd,
            precision: Precision::F32,
        })
    };
    [1, 2].into_iter().flat_map(all).collect()
}

/// Every file of the folder whose case is of beam search.
#[test]
fn fixtures_beam_search() {
    let Some(folder) = fixtures("fixtures_beam_search") else {
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    let found = files.iter().filter(|file| check_file(file)).count();
    println!("{found} cases of beam search in {}", folder.display());
    assert!(found > 0, "no case of beam search in {}", folder.display());
}

/// False for a file that is a case of something else.
fn check_file(file: &Path) -> bool {
    let bytes = std::fs::read(file).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let case = header.metadata().as_ref().and_then(|m| m.get("case"));
    let case: Value = serde_json::from_str(case.unwrap()).unwrap();
    let Some(k) = case["beam"].as_u64() else {
        return false;
    };
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let sources: Vec<_> = (0..)
        .map_while(|n| tensors.tensor(&format!("source.{n}")).ok())
        .map(|source| rows(source.shape(), &numbers(&source)))
        .collect();
    assert!(!sources.is_empty(), "{}: no source", file.display());
    let model = model(&case, sources[0].len());
    let params = params(&model, &tensors);
    let max_len = case["max_length"].as_u64().unwrap() as usize;
    for compute in computes() {
        let mut workspace = Workspace::new(compute).unwrap();
        for (n, source) in sources.iter().enumerate() {
            let at = format!("{} source {n} {compute:?}", file.display());
            let got = beam_search(&model, &params, source, k as usize, max_len, &mut workspace);
            let floats = |name: String| numbers(&tensors.tensor(&name).unwrap());
            let tokens = tensors.tensor(&format!("tokens.{n}")).unwrap();
            let want = rows(tokens.shape(), &numbers(&tokens));
            compare(&at, &got.unwrap(), &want, &floats(format!("log_prob.{n}")));
        }
    }
    true
}

fn compare(at: &str, got: &[Hypothesis], tokens: &[Vec<u32>], log_probs: &[f64]) {
    assert_eq!(got.len(), tokens.len(), "{at}: hypotheses");
    for ((got, tokens), log_prob) in got.iter().zip(tokens).zip(log_probs) {
        let mut padded = got.tokens.clone();
        padded.resize(tokens.len(), 1);
        assert_eq!(&padded, tokens, "{at}");
        let error = (got.log_prob - log_prob).abs();
        assert!(error <= 1e-4, "{at}: {}, wanted {log_prob}", got.log_prob);
    }
}

fn numbers(view: &safetensors::tensor::TensorView<'_>) -> Vec<f64> {
    let eight = |b: &[u8]| <[u8; 8]>::try_from(b).unwrap();
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => data
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
        Dtype::F64 => data
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes(eight(b)))
            .collect(),
        Dtype::I64 => data
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(eight(b)) as f64)
            .collect(),
        other => panic!("a tensor of type {other:?}"),
    }
}

/// The rows of a matrix of words; a vector is one row.
fn rows(shape: &[usize], values: &[f64]) -> Vec<Vec<u32>> {
    let words: Vec<u32> = values.iter().map(|&w| w as u32).collect();
    words
        .chunks(*shape.last().unwrap())
        .map(<[u32]>::to_vec)
        .collect()
}

fn model(case: &Value, utterances: usize) -> Model {
    let size = |key: &str| case[key].as_u64().unwrap_or_else(|| panic!("no {key}")) as usize;
    Model::new(ModelSpec {
        layer_type: serde_json::from_value(case["layer_type"].clone()).unwrap(),
        model_type: serde_json::from_value(case["model_type"].clone()).unwrap(),
        layers: size("layers"),
        word_vec_size: size("embedding"),
        hidden_size: size("hidden"),
        source_size: size("source_vocab"),
        target_size: size("target_vocab"),
        utter_context: utterances,
        dropout: 0.0,
    })
    .unwrap()
}

fn params(model: &Model, tensors: &SafeTensors<'_>) -> Params {
    let mut params = Params::zeros(Arc::new(model.layout()));
    for (id, tensor) in model.layout().tensors().iter().enumerate() {
        let view = tensors.tensor(&format!("param.{}", tensor.name)).unwrap();
        assert_eq!(view.shape(), tensor.shape, "{}", tensor.name);
        let values = numbers(&view);
        let to = params.get_mut(TensorId(id));
        to.iter_mut().zip(values).for_each(|(to, v)| *to = v as f32);
    }
    params
}

/// The rules as they are written down, one hypothesis at a time, everything sorted.
fn plainly(model: &Model, params: &Params, source: &[Vec<u32>], beam: Beam) -> Vec<Hypothesis> {
    let workspace = &mut Workspace::new(Compute::default()).unwrap();
    let start = model.encode(params, source, 1, workspace).unwrap();
    let mut live = vec![(vec![3], 0.0, start)];
    let mut done: Vec<Hypothesis> = Vec::new();
    for _ in 0..beam.max_len {
        let mut all = Vec::new();
        for (tokens, score, state) in &live {
            let last = *tokens.last().unwrap();
            let (log_probs, next) = model.step(params, state, &[last], workspace).unwrap();
            for (token, p) in (1..).zip(log_probs) {
                let tokens = [&tokens[..], &[token]].concat();
                all.push((tokens, score + f64::from(*p), next.clone()));
            }
        }
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(beam.k);
        let is_done = |tokens: &[u32]| tokens.last() == Some(&4);
        done.extend(all.iter().filter(|(tokens, ..)| is_done(tokens)).map(
            |(tokens, log_prob, _)| Hypothesis {
                tokens: tokens.clone(),
                log_prob: *log_prob,
            },
        ));
        all.retain(|(tokens, ..)| !is_done(tokens));
        live = all;
        done.sort_by(|a, b| b.log_prob.total_cmp(&a.log_prob));
        done.truncate(beam.k);
        let decided = done.len() == beam.k
            && live
                .first()
                .is_some_and(|best| best.1 <= done[beam.k - 1].log_prob);
        if live.is_empty() || decided {
            break;
        }
    }
    done
}

#[test]
fn several_sources_at_once_are_each_searched_by_the_rules() {
    for (layer_type, model_type) in [
        (LayerType::Lstm, ModelType::Red),
        (LayerType::Gru, ModelType::Red),
        (LayerType::Rnn, ModelType::Red),
        (LayerType::Bi, ModelType::Red),
        (LayerType::Fast, ModelType::Hred),
    ] {
        let spec = ModelSpec {
            layer_type,
            model_type,
            layers: 2,
            word_vec_size: 5,
            hidden_size: 7,
            source_size: 11,
            target_size: 13,
            utter_context: 2,
            dropout: 0.0,
        };
        let (model, params) = random(spec, 5, 0.8);
        let rows: Vec<Vec<u32>> = (0..20)
            .map(|n| (0..4).map(|at| 1 + (n * 7 + at * n + at) % 11).collect())
            .collect();
        let utterances = model.spec().utterances();
        let sources = vec![rows.concat(); utterances];
        for beam in [
            Beam { k: 1, max_len: 6 },
            Beam { k: 4, max_len: 9 },
            Beam { k: 99, max_len: 2 },
        ] {
            let workspace = &mut Workspace::new(Compute::default()).unwrap();
            let all = search(&model, &params, &sources, rows.len(), beam, workspace).unwrap();
            assert_eq!(all.len(), rows.len());
            let capped = Beam {
                k: beam.k.min(13),
                ..beam
            };
            for (row, found) in rows.iter().zip(&all) {
                let want = plainly(&model, &params, &vec![row.clone(); utterances], capped);
                let tokens =
                    |of: &[Hypothesis]| of.iter().map(|h| h.tokens.clone()).collect::<Vec<_>>();
                assert_eq!(
                    tokens(&found.finished),
                    tokens(&want),
                    "{layer_type:?} {beam:?}"
                );
                for (got, want) in found.finished.iter().zip(&want) {
                    assert!((got.log_prob - want.log_prob).abs() < 1e-4);
                }
            }
        }
    }
}

#[test]
fn nothing_finished_is_an_empty_result_with_a_beginning_for_those_who_want_it() {
    let (model, mut params) = random(crate::spec(ModelType::Red), 5, 0.1);
    // The end has no chance.
    let bias = model.layout().find("output.bias").unwrap();
    params.get_mut(bias)[3] = -1e4;
    let workspace = &mut Workspace::new(Compute::default()).unwrap();
    let sources = [vec![3, 5, 4]];
    let beam = Beam { k: 3, max_len: 4 };
    let found = search(&model, &params, &sources, 1, beam, workspace).unwrap();
    assert!(found[0].finished.is_empty());
    assert_eq!(found[0].unfinished.as_ref().unwrap().tokens.len(), 5);
    let none = beam_search(&model, &params, &sources, 3, 0, workspace).unwrap();
    assert!(none.is_empty());
}

#[test]
fn a_model_that_has_diverged_ends_the_search() {
    let (model, mut params) = random(crate::spec(ModelType::Red), 5, 0.1);
    params.flat_mut().fill(f32::NAN);
    let workspace = &mut Workspace::new(Compute::default()).unwrap();
    let beam = Beam { k: 3, max_len: 4 };
    let found = search(&model, &params, &[vec![3, 5, 4]], 1, beam, workspace).unwrap();
    assert_eq!(found[0], seq2seq::beam::Found::default());
}
