//! The model's arithmetic against cases computed in float64: every `*.safetensors` file of a
//! folder that describes a case of training is treated alike. The folder is that of the
//! variable `DSGD_FIXTURES`, or `../shared/fixtures` beside the workspace; its README states
//! formulas and tolerances, which are the ones asked for here.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dsgd::{Gradient, Params, TensorGradient, TensorId};
use safetensors::{Dtype, SafeTensors};
use seq2seq::batch::SentenceBatch;
use seq2seq::kernels::{Compute, Precision, Simd};
use seq2seq::model::{Model, ModelSpec, Workspace};
use serde::Deserialize;
use serde_json::Value;

/// One file.
struct Case {
    name: String,
    bytes: Vec<u8>,
    meta: Value,
}

/// One run of training: some steps on the same batch.
#[derive(Deserialize)]
struct Run {
    optimizer: String,
    max_grad_norm: f64,
}

/// All cases; none, loudly, where the folder is missing.
fn cases() -> Vec<Case> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let folder = std::env::var_os("DSGD_FIXTURES").map_or_else(default, PathBuf::from);
    if !folder.is_dir() {
        eprintln!(
            "SKIPPED: no folder of fixtures at {} (set DSGD_FIXTURES)",
            folder.display()
        );
        return Vec::new();
    }
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    paths.sort();
    let cases: Vec<_> = paths.iter().filter_map(|path| Case::read(path)).collect();
    println!("{} cases in {}", cases.len(), folder.display());
    assert!(!cases.is_empty(), "no case in {}", folder.display());
    cases
}

impl Case {
    /// `None` for a file that is not a case of training: those of beam search.
    fn read(path: &Path) -> Option<Self> {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default();
        let case = metadata
            .get("case")
            .unwrap_or_else(|| panic!("{name} says no case"));
        let meta: Value = serde_json::from_str(case).unwrap();
        if meta.get("beam").is_some() {
            println!("{name}: of beam search, left out");
            return None;
        }
        Some(Self { name, bytes, meta })
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors()
            .tensor(name)
            .ok()
            .map(|view| view.shape().to_vec())
    }

    fn floats(&self, name: &str) -> Vec<f64> {
        let tensors = self.tensors();
        let view = tensors
            .tensor(name)
            .unwrap_or_else(|e| panic!("{}: {name}: {e}", self.name));
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
            other => panic!("{}: {name} has type {other:?}", self.name),
        }
    }

    fn words(&self, name: &str) -> Vec<u32> {
        self.floats(name).iter().map(|&w| w as u32).collect()
    }

    fn batch(&self) -> SentenceBatch {
        let names: Vec<String> = if self.shape("source").is_some() {
            vec!["source".into()]
        } else {
            (0..1000)
                .map(|u| format!("source.{u}"))
                .take_while(|name| self.shape(name).is_some())
                .collect()
        };
        let source = self.shape(&names[0]).unwrap();
        SentenceBatch {
            first_row: 0,
            rows: source[0],
            source_len: source[1],
            target_len: self.shape("target").unwrap()[1],
            sources: names.iter().map(|name| self.words(name)).collect(),
            target: self.words("target"),
            gold: self.words("target_output"),
        }
    }

    fn model(&self) -> Model {
        let size = |key: &str| self.meta[key].as_u64().unwrap_or_else(|| panic!("{key}")) as usize;
        Model::new(ModelSpec {
            layer_type: serde_json::from_value(self.meta["layer_type"].clone()).unwrap(),
            model_type: serde_json::from_value(self.meta["model_type"].clone()).unwrap(),
            layers: size("layers"),
            word_vec_size: size("embedding"),
            hidden_size: size("hidden"),
            source_size: size("source_vocab"),
            target_size: size("target_vocab"),
            utter_context: self.batch().sources.len(),
            dropout: 0.0,
        })
        .unwrap()
    }

    /// Parameters under `prefix`, which must be those of the model, name by name.
    fn params(&self, model: &Model, prefix: &str) -> Params {
        let layout = Arc::new(model.layout());
        let mut params = Params::zeros(layout.clone());
        for (id, tensor) in layout.tensors().iter().enumerate() {
            let name = format!("{prefix}.{}", tensor.name);
            assert_eq!(
                self.shape(&name).as_ref(),
                Some(&tensor.shape),
                "{}: {name}",
                self.name
            );
            let to = params.get_mut(TensorId(id));
            to.iter_mut()
                .zip(self.floats(&name))
                .for_each(|(p, v)| *p = v as f32);
        }
        let tensors = self.tensors();
        let theirs = tensors
            .names()
            .iter()
            .filter(|n| n.starts_with("param."))
            .count();
        assert_eq!(layout.tensors().len(), theirs, "{}: tensors", self.name);
        params
    }
}

/// Every choice of threads and instruction set that this machine has.
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

/// A tensor's gradient, rows that were not touched being zero.
fn dense(gradient: &Gradient, id: usize, len: usize) -> Vec<f32> {
    match &gradient.tensors()[id] {
        TensorGradient::Dense(values) => values.clone(),
        TensorGradient::Rows(rows) => {
            let mut all = vec![0.0; len];
            for (row, values) in rows.iter() {
                all[row * values.len()..(row + 1) * values.len()].copy_from_slice(values);
            }
            all
        }
    }
}

fn relative(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!(
        (got - want).abs() <= tolerance * want.abs(),
        "{what}: {got}, wanted {want}"
    );
}

#[test]
fn fixtures_loss_and_gradients() {
    for case in cases() {
        let model = case.model();
        let params = case.params(&model, "param");
        let batch = case.batch();
        for compute in computes() {
            let at = format!("{} {compute:?}", case.name);
            let mut workspace = Workspace::new(compute).unwrap();
            let mut gradient = Gradient::new(params.layout().clone());
            let loss = model
                .gradient(&params, &batch, 0, &mut workspace, &mut gradient)
                .unwrap();
            let mean = loss.nll / batch.rows as f64;
            relative(&format!("{at} loss"), mean, case.floats("loss")[0], 2e-6);
            assert_eq!(loss.words as f64, case.floats("nonzeros")[0], "{at}");
            let rows = workspace
                .example_nll()
                .iter()
                .zip(case.floats("example_nll"));
            for (row, (&got, want)) in rows.enumerate() {
                relative(&format!("{at} row {row}"), got, want, 2e-6);
            }
            let norm = gradient.sum_of_squares().sqrt();
            relative(
                &format!("{at} norm"),
                norm,
                case.floats("grad_norm")[0],
                2e-6,
            );
            compare_gradients(&at, &case, &gradient);
            let again = model.loss(&params, &batch, &mut workspace).unwrap();
            relative(&format!("{at} loss alone"), again.nll, loss.nll, 1e-12);
        }
    }
}

fn compare_gradients(at: &str, case: &Case, gradient: &Gradient) {
    for (id, tensor) in gradient.layout().tensors().iter().enumerate() {
        let want = case.floats(&format!("grad.{}", tensor.name));
        let got = dense(gradient, id, want.len());
        let most = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for (i, (&got, &want)) in got.iter().zip(&want).enumerate() {
            let error = (f64::from(got) - want).abs();
            assert!(
                error <= 1e-5 * most,
                "{at} {}[{i}]: {got}, wanted {want}",
                tensor.name
            );
        }
    }
}

#[test]
fn fixtures_training_runs() {
    for case in cases() {
        let model = case.model();
        let lr = case.meta["lr"].as_f64().unwrap() as f32;
        let runs = case.meta["runs"].as_object().unwrap();
        for (name, run) in runs {
            let run: Run = serde_json::from_value(run.clone()).unwrap();
            for compute in computes() {
                train(&case, &model, name, &run, lr, compute);
            }
        }
    }
}

fn train(case: &Case, model: &Model, name: &str, run: &Run, lr: f32, compute: Compute) {
    let at = format!("{} {name} {compute:?}", case.name);
    let adagrad = run.optimizer == "adagrad";
    assert!(adagrad || run.optimizer == "sgd", "{at}: {}", run.optimizer);
    let batch = case.batch();
    let mut params = case.params(model, "param");
    let mut workspace = Workspace::new(compute).unwrap();
    let mut gradient = Gradient::new(params.layout().clone());
    let mut hist = vec![0.0; params.layout().len()];
    let losses = case.floats(&format!("{name}.loss"));
    let norms = case.floats(&format!("{name}.grad_norm"));
    for (step, (want_loss, want_norm)) in losses.into_iter().zip(norms).enumerate() {
        gradient.clear();
        let loss = model
            .gradient(&params, &batch, 0, &mut workspace, &mut gradient)
            .unwrap();
        let norm = gradient.sum_of_squares().sqrt();
        if norm > run.max_grad_norm {
            gradient.scale((run.max_grad_norm / norm) as f32);
        }
        update(&mut params, &gradient, adagrad.then_some(&mut hist), lr);
        let mean = loss.nll / batch.rows as f64;
        relative(&format!("{at} loss {step}"), mean, want_loss, 2e-6);
        relative(&format!("{at} norm {step}"), norm, want_norm, 1e-5);
    }
    let tolerance = if adagrad { 5e-4 } else { 1e-6 };
    for (id, tensor) in model.layout().tensors().iter().enumerate() {
        let want = case.floats(&format!("{name}.{}", tensor.name));
        for (i, (&got, want)) in params.get(TensorId(id)).iter().zip(want).enumerate() {
            let error = (f64::from(got) - want).abs();
            assert!(
                error <= tolerance,
                "{at} {}[{i}]: {got}, wanted {want}",
                tensor.name
            );
        }
    }
}

/// AdaGrad (hist += g², p -= lr·g/√(1e-9 + hist)) or, without `hist`, SGD.
fn update(params: &mut Params, gradient: &Gradient, mut hist: Option<&mut Vec<f32>>, lr: f32) {
    let layout = params.layout().clone();
    for (id, tensor) in layout.tensors().iter().enumerate() {
        for (i, g) in dense(gradient, id, tensor.range.len())
            .into_iter()
            .enumerate()
        {
            let at = tensor.range.start + i;
            let scale = match hist.as_deref_mut() {
                Some(hist) => {
                    hist[at] += g * g;
                    (1e-9 + hist[at]).sqrt()
                }
                None => 1.0,
            };
            params.flat_mut()[at] -= lr * g / scale;
        }
    }
}
