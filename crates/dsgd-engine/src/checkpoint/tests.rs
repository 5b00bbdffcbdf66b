//! Stories of checkpoints: kept, damaged, of another model.

#[cfg(target_os = "linux")]
mod full_disk;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::file::*;
use super::folder::state_path;
use super::pair::*;
use super::*;
use dsgd_core::params::{Layout, Params};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Counters {
    epoch: u32,
    loss: f64,
    done: Vec<usize>,
}

struct Run {
    dir: TempDir,
    layout: Arc<Layout>,
}

impl Run {
    fn new() -> Self {
        let mut layout = Layout::new();
        layout.rows("embedding.weight", 40, 3);
        layout.dense("output.weight", &[7, 5]);
        layout.dense("output.bias", &[7]);
        Self {
            dir: TempDir::new().unwrap(),
            layout: Arc::new(layout),
        }
    }

    fn params(&self, version: u64) -> Params {
        let mut params = Params::zeros(self.layout.clone());
        let mut rng = ChaCha8Rng::seed_from_u64(version);
        let values = params.flat_mut();
        values.fill_with(|| rng.random_range(-1.0..1.0));
        params
    }

    fn counters(version: u64) -> Counters {
        Counters {
            epoch: 3,
            loss: version as f64 / 3.0,
            done: vec![1, 4, 9],
        }
    }

    /// Saves what is made of nothing but the version.
    fn save_to(&self, dir: &Path, stem: &str, version: u64) -> Result<PathBuf, CheckpointError> {
        let params = self.params(version);
        let hist: Vec<f32> = params.flat().iter().map(|p| p * p).collect();
        let metadata = BTreeMap::from([("vocabulary".into(), "naïve\n\"quoted\"".into())]);
        let checkpoint = Checkpoint {
            version,
            params: &params,
            optimizer: &[("hist", &hist)],
            metadata: &metadata,
            state: &Self::counters(version),
        };
        save(dir, stem, &checkpoint)
    }

    fn save(&self, version: u64) -> PathBuf {
        let stem = format!("step-{version}");
        self.save_to(self.dir.path(), &stem, version).unwrap()
    }

    fn load(&self, path: &Path) -> Result<Resumed<Counters>, CheckpointError> {
        load(path, &self.layout)
    }

    fn newest(&self) -> Newest<Counters> {
        load_newest(self.dir.path(), &self.layout).unwrap()
    }

    fn check(&self, resumed: &Resumed<Counters>, version: u64) {
        let params = self.params(version);
        assert_eq!(resumed.version, version);
        assert_eq!(resumed.weights.params.flat(), params.flat());
        assert_eq!(resumed.state, Self::counters(version));
        let (name, hist) = &resumed.optimizer[0];
        assert_eq!((name.as_str(), resumed.optimizer.len()), ("hist", 1));
        let squares = params.flat().iter().map(|p| p * p);
        assert!(hist.iter().copied().eq(squares));
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

#[test]
fn what_is_saved_comes_back() {
    let run = Run::new();
    let path = run.save(12);
    assert_eq!(path, run.dir.path().join("step-12.safetensors"));
    let resumed = run.load(&path).unwrap();
    run.check(&resumed, 12);
    assert_eq!(resumed.weights.metadata["vocabulary"], "naïve\n\"quoted\"");
    assert_eq!(resumed.weights.metadata.len(), 1);
    let both = ["step-12.safetensors", "step-12.state.safetensors"];
    assert_eq!(run.names(), both);
    let once = fs::read(&path).unwrap();
    run.save(12);
    assert_eq!(
        once,
        fs::read(&path).unwrap(),
        "equal contents, equal files"
    );
}

#[test]
fn other_programs_read_it() {
    let run = Run::new();
    let bytes = fs::read(run.save(1)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let bias = file.tensor("output.bias").unwrap();
    assert_eq!(
        (bias.dtype(), bias.shape()),
        (safetensors::Dtype::F32, &[7][..])
    );
    let params = run.params(1);
    let wanted = params.get(run.layout.find("output.bias").unwrap());
    assert_eq!(bias.data(), bytemuck::cast_slice::<f32, u8>(wanted));
}

/// Written by the crate itself, without our metadata and in an order of its own.
#[test]
fn weights_of_other_programs_are_read() {
    let run = Run::new();
    let params = run.params(5);
    let views = run.layout.tensors().iter().map(|t| {
        let bytes: &[u8] = bytemuck::cast_slice(&params.flat()[t.range.clone()]);
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, t.shape.clone(), bytes);
        (t.name.clone(), view.unwrap())
    });
    let bytes = safetensors::serialize(views.rev(), None).unwrap();
    let path = run.dir.path().join("foreign.safetensors");
    fs::write(&path, bytes).unwrap();
    let weights = load_weights(&path, &run.layout).unwrap();
    assert_eq!(weights.params.flat(), params.flat());
    let error = run.load(&path).unwrap_err();
    assert!(matches!(error, CheckpointError::NoState { .. }), "{error}");
}

#[test]
fn the_newest_is_by_version_and_an_unfit_one_is_passed_over() {
    let run = Run::new();
    assert!(run.newest().resumed.is_none());
    let ninth = run.save(9);
    let tenth = run.save(10);
    let eighth = run.save(8);
    let versions = |dir: &Path| list(dir).unwrap().found.iter().map(|f| f.version).collect();
    let found: Vec<u64> = versions(run.dir.path());
    assert_eq!(found, [10, 9, 8]);
    run.check(&run.newest().resumed.unwrap(), 10);

    // Version 10 is torn: its state is that of another save.
    fs::copy(state_path(&eighth), state_path(&tenth)).unwrap();
    let error = run.load(&tenth).unwrap_err();
    assert!(matches!(error, CheckpointError::Torn { .. }), "{error}");
    // Version 9 is cut short.
    File::options()
        .write(true)
        .open(&ninth)
        .unwrap()
        .set_len(300)
        .unwrap();
    let newest = run.newest();
    run.check(&newest.resumed.unwrap(), 8);
    assert!(!newest.skipped.is_empty());
    assert!(newest.skipped.iter().all(CheckpointError::is_damage));
}

#[test]
fn old_ones_go_and_the_best_stays() {
    let run = Run::new();
    let best = run.save(2);
    for version in [1, 3, 4, 5] {
        run.save(version);
    }
    run.save_to(run.dir.path(), "other-1", 1).unwrap();
    let orphan = run.dir.path().join("step-0.state.safetensors");
    fs::write(orphan, "left by a crash").unwrap();
    fs::write(run.dir.path().join(".step-6.abc.tmp"), "this too").unwrap();
    let removed = prune(run.dir.path(), "step-", 2, Some(&best)).unwrap();
    assert_eq!(removed.len(), 2);
    let kept = ["other-1", "step-2", "step-4", "step-5"];
    let pair = |stem| [".safetensors", ".state.safetensors"].map(|end| format!("{stem}{end}"));
    let kept: Vec<String> = kept.into_iter().flat_map(pair).collect();
    assert_eq!(run.names(), kept);
}

#[test]
fn another_model_is_named() {
    let run = Run::new();
    let path = run.save(1);
    let refused = |build: &dyn Fn(&mut Layout)| {
        let mut layout = Layout::new();
        layout.rows("embedding.weight", 40, 3);
        build(&mut layout);
        let error = load_weights(&path, &Arc::new(layout)).unwrap_err();
        assert!(!error.is_damage());
        let text = error.to_string();
        text.split_once(" is of another model")
            .unwrap()
            .1
            .to_string()
    };
    let shape = refused(&|layout| {
        layout.dense("output.weight", &[7, 6]);
    });
    let wanted = ": tensor output.weight has shape [7, 5], the model wants [7, 6]";
    assert_eq!(shape, wanted);
    let missing = refused(&|layout| {
        layout.dense("hidden", &[1]);
    });
    assert_eq!(missing, ": it has no tensor hidden");
    let extra = refused(&|layout| {
        layout.dense("output.weight", &[7, 5]);
    });
    assert_eq!(extra, ", which has no tensor output.bias");
}

#[test]
fn another_type_of_numbers_is_named() {
    let run = Run::new();
    let path = run.dir.path().join("half.safetensors");
    let data = vec![0; 240];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![40, 3], &data);
    let bytes = safetensors::serialize([("embedding.weight", view.unwrap())], None).unwrap();
    fs::write(&path, bytes).unwrap();
    let text = load_weights(&path, &run.layout).unwrap_err().to_string();
    assert!(text.ends_with("tensor embedding.weight is BF16, only F32 is read; convert the file"));
}

#[test]
fn weights_that_are_not_numbers_are_neither_saved_nor_loaded() {
    let run = Run::new();
    let mut params = run.params(1);
    params.flat_mut()[40 * 3 + 2] = f32::NAN;
    let state = Run::counters(1);
    let checkpoint = Checkpoint {
        version: 1,
        params: &params,
        optimizer: &[],
        metadata: &BTreeMap::new(),
        state: &state,
    };
    let error = save(run.dir.path(), "diverged", &checkpoint).unwrap_err();
    let named = "weight 2 of tensor output.weight is NaN";
    assert!(error.to_string().contains(named), "{error}");
    assert!(run.names().is_empty());

    let path = run.dir.path().join("foreign.safetensors");
    let mut contents = Contents::default();
    contents.add(&run.layout, "", params.flat());
    contents.write_to(&File::create(&path).unwrap()).unwrap();
    let error = load_weights(&path, &run.layout).unwrap_err();
    assert!(error.to_string().contains(named), "{error}");
}

#[test]
fn a_state_of_another_program_is_not_damage() {
    let run = Run::new();
    let path = run.save(1);
    let error = load::<Vec<String>>(&path, &run.layout).unwrap_err();
    assert!(matches!(error, CheckpointError::State { .. }), "{error}");
    assert!(!error.is_damage());
}

/// Cut short, flipped, lengthened: an error, or exactly what was saved. Never a panic.
#[test]
fn garbage_is_an_error() {
    let run = Run::new();
    let weights = run.save(1);
    let files = [weights.clone(), state_path(&weights)];
    let originals = files.each_ref().map(|path| fs::read(path).unwrap());
    let mut refused = 0;
    for seed in 0..1000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let which = rng.random_range(0..2);
        let mut bytes = originals[which].clone();
        // Half of the time in the header, where everything has a meaning.
        let end = if rng.random() { 700 } else { bytes.len() };
        let at = rng.random_range(0..end);
        match rng.random_range(0..5) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => bytes[at] = rng.random(),
            3 => (0..8).for_each(|i| bytes[(at + i) % end] = rng.random()),
            _ => bytes.insert(at, rng.random()),
        }
        fs::write(&files[which], &bytes).unwrap();
        match run.load(&weights) {
            Ok(resumed) => run.check(&resumed, 1),
            Err(_) => refused += 1,
        }
        let _ = list(run.dir.path()).unwrap();
        fs::write(&files[which], &originals[which]).unwrap();
    }
    assert!(refused > 900, "only {refused} of 1000 were refused");
}

#[test]
fn a_header_that_claims_too_much_is_refused_before_it_is_read() {
    let run = Run::new();
    let path = run.dir.path().join("huge.safetensors");
    for length in [u64::MAX, 1 << 40, 17, 9] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([b'{'; 8]);
        fs::write(&path, bytes).unwrap();
        let error = load_weights(&path, &run.layout).unwrap_err();
        assert!(
            matches!(error, CheckpointError::Malformed { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let run = Run::new();
    let path = run.save(1);
    let file_as_folder = path.join("below");
    let error = run.save_to(&file_as_folder, "step-2", 2).unwrap_err();
    assert!(
        matches!(error, CheckpointError::Forbidden { .. }),
        "{error}"
    );

    // The superuser may write anywhere but into the kernel's own folders.
    let locked = Path::new(if cfg!(target_os = "linux") {
        "/proc/self"
    } else {
        "/"
    });
    let error = run.save_to(locked, "step-2", 2).unwrap_err();
    assert!(error.to_string().contains("--run-dir"), "{error}");
}
