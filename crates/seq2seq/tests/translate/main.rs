//! Translation, from the outside: the search and its scores against cases computed elsewhere, and
//! what people type at a trained model.

#![allow(clippy::unwrap_used)]

mod beam;
mod bleu;
mod chat;
mod command;
mod score;
mod translator;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use dsgd::checkpoint::{self, Checkpoint};
use dsgd::{Gradient, Params, TensorGradient};
use seq2seq::batch::SentenceBatch;
use seq2seq::data::Vocabulary;
use seq2seq::kernels::Compute;
use seq2seq::model::{LayerType, Model, ModelSpec, ModelType, Workspace};
use seq2seq::translator::Translator;
use seq2seq::translator::metadata::{TEXT, metadata};

/// The folder of cases computed elsewhere; none, loudly, where it is missing.
fn fixtures(test: &str) -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let folder = std::env::var_os("DSGD_FIXTURES").map_or_else(default, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED {test}: no folder of fixtures at {} (set DSGD_FIXTURES)",
        folder.display()
    );
    None
}

/// What the small model below is taught, word by word.
const PAIRS: [(&str, &str); 4] = [
    ("the house", "das Haus"),
    ("the car", "das Auto"),
    ("a house", "ein Haus"),
    ("a car", "ein Auto"),
];

fn vocabularies() -> (Vocabulary, Vocabulary) {
    (
        Vocabulary::from_words(["the", "a", "house", "car", "<t>"]),
        Vocabulary::from_words(["das", "ein", "Haus", "Auto"]),
    )
}

fn spec(model_type: ModelType) -> ModelSpec {
    ModelSpec {
        layer_type: LayerType::Fast,
        model_type,
        layers: 1,
        word_vec_size: 8,
        hidden_size: 12,
        source_size: 9,
        target_size: 8,
        utter_context: 2,
        dropout: 0.0,
    }
}

/// A model that has not learnt anything.
fn random(spec: ModelSpec, seed: u64, spread: f32) -> (Model, Params) {
    let model = Model::new(spec).unwrap();
    let mut params = Params::zeros(Arc::new(model.layout()));
    model.init(seed, spread, &mut params);
    (model, params)
}

/// A model that knows [`PAIRS`]; of the hierarchical one the last utterance counts.
fn taught(model_type: ModelType) -> (Model, Params) {
    static RED: OnceLock<Params> = OnceLock::new();
    static HRED: OnceLock<Params> = OnceLock::new();
    let model = Model::new(spec(model_type)).unwrap();
    let params = match model_type {
        ModelType::Red => &RED,
        ModelType::Hred => &HRED,
    };
    let params = params.get_or_init(|| teach(&model, &lessons(model_type)));
    (model, params.clone())
}

fn lessons(model_type: ModelType) -> SentenceBatch {
    let (source, target) = vocabularies();
    let words = |text: &'static str| text.split(' ');
    let mut batch = SentenceBatch {
        rows: PAIRS.len(),
        source_len: 4,
        target_len: 4,
        ..SentenceBatch::default()
    };
    let encoded: Vec<_> = PAIRS
        .iter()
        .map(|(from, to)| (source.encode(words(from)), target.encode(words(to))))
        .collect();
    batch.target = encoded.iter().flat_map(|(_, to)| to.clone()).collect();
    batch.gold = encoded
        .iter()
        .flat_map(|(_, to)| [&to[1..], &[1]].concat())
        .collect();
    batch.sources = vec![encoded.iter().flat_map(|(from, _)| from.clone()).collect()];
    if model_type == ModelType::Hred {
        // What a line `W1 W2` becomes: an empty utterance, then the words (`<s> W1 W2 </s> </s>`).
        batch.source_len = 5;
        let last = |(from, _): &(Vec<u32>, Vec<u32>)| [&from[..], &[4]].concat();
        batch.sources = vec![
            [1, 1, 3, 3, 4].repeat(PAIRS.len()),
            encoded.iter().flat_map(last).collect(),
        ];
    }
    batch
}

/// AdaGrad on one batch until there is nothing left to learn.
fn teach(model: &Model, batch: &SentenceBatch) -> Params {
    let mut params = Params::zeros(Arc::new(model.layout()));
    model.init(7, 0.3, &mut params);
    let mut gradient = Gradient::new(params.layout().clone());
    let mut workspace = Workspace::new(Compute::default()).unwrap();
    let mut history = vec![0.0_f32; params.layout().len()];
    for _ in 0..1000 {
        gradient.clear();
        let loss = model
            .gradient(&params, batch, 0, &mut workspace, &mut gradient)
            .unwrap();
        if loss.nll < 0.2 {
            return params;
        }
        let layout = params.layout().clone();
        let mut step = |at: usize, g: f32| {
            history[at] += g * g;
            params.flat_mut()[at] -= 0.1 * g / (1e-9 + history[at]).sqrt();
        };
        for (part, tensor) in gradient.tensors().iter().zip(layout.tensors()) {
            let start = tensor.range.start;
            match part {
                TensorGradient::Dense(values) => {
                    (start..).zip(values).for_each(|(at, &g)| step(at, g));
                }
                TensorGradient::Rows(rows) => {
                    for (row, values) in rows.iter() {
                        let start = start + row * values.len();
                        (start..).zip(values).for_each(|(at, &g)| step(at, g));
                    }
                }
            }
        }
    }
    panic!("the small model has not learnt its lessons");
}

/// The small model, taught, ready to translate.
fn translator(model_type: ModelType, threads: usize) -> Translator {
    let (model, params) = taught(model_type);
    let (source, target) = vocabularies();
    Translator::new(model, params, source, target, threads).unwrap()
}

/// Writes a checkpoint of the small model, and returns its file.
fn save(dir: &Path, params: &Params, metadata: &BTreeMap<String, String>) -> PathBuf {
    let checkpoint = Checkpoint {
        version: 1,
        params,
        optimizer: &[],
        metadata,
        state: &(),
    };
    checkpoint::save(dir, "small_epoch1_1.00", &checkpoint).unwrap()
}

/// What a checkpoint of the small model carries.
fn carried(model_type: ModelType) -> BTreeMap<String, String> {
    let (source, target) = vocabularies();
    metadata(&spec(model_type), Some(&source), Some(&target), TEXT, "<t>")
}

/// The message of an error that must name all of these.
#[track_caller]
fn assert_says<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>, says: &[&str]) {
    let message = match result {
        Ok(value) => panic!("{value:?}, where an error was due that says {says:?}"),
        Err(error) => format!("{error:#}"),
    };
    for part in says {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}
