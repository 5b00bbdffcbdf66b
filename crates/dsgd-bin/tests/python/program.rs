//! The program, and the Pythons that there are here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// The program in a fresh folder, with scripts.
pub(crate) struct Program {
    folder: TempDir,
    python: &'static str,
}

impl Program {
    /// With a Python that has this module; none, said loudly, where there is no such Python.
    pub(crate) fn with(test: &str, module: &'static str) -> Option<Self> {
        let Some(python) = python_with(module) else {
            skip(test, &format!("no Python here has {module}"));
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        Some(Self { folder, python })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn python(&self) -> &'static str {
        self.python
    }

    /// A call of the program, with its Python and a cache of its own.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dsgd"));
        command
            .args(words.split_whitespace())
            .current_dir(self.folder.path())
            .env("DSGD_PYTHON", self.python)
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn call(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// What it says when it succeeds.
    pub(crate) fn ok(&self, words: &str) -> String {
        let output = self.call(words);
        let (out, err) = said(&output);
        assert!(output.status.success(), "{words}\n{out}\n{err}");
        out + &err
    }

    /// Starts it; what it says is in the file `said`.
    pub(crate) fn begin(&self, words: &str) -> Child {
        let said = fs::File::create(self.path("said")).unwrap();
        let mut command = self.command(words);
        let command = command.stdout(said.try_clone().unwrap()).stderr(said);
        command.spawn().unwrap()
    }

    /// What it says when it fails, as it should.
    pub(crate) fn fails(&self, words: &str) -> String {
        let output = self.call(words);
        let (out, err) = said(&output);
        assert!(!output.status.success(), "{words}\n{out}\n{err}");
        assert!(!err.contains("panicked at"), "{words}\n{err}");
        err
    }

    /// What Python prints, with the package on its path.
    pub(crate) fn run_python(&self, code: &str) -> String {
        let output = Command::new(self.python)
            .args(["-c", code])
            .current_dir(self.folder.path())
            .env("PYTHONPATH", package())
            .env("DSGD_PROGRAM", env!("CARGO_BIN_EXE_dsgd"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let (out, err) = said(&output);
        assert!(output.status.success(), "{code}\n{out}\n{err}");
        out
    }

    /// Tensors of a run's last checkpoint, flat.
    pub(crate) fn tensors(&self, run: &str) -> BTreeMap<String, Vec<f32>> {
        tensors(&last(&self.path(run)))
    }
}

/// The newest weights of a run.
pub(crate) fn last(run: &Path) -> PathBuf {
    let files = fs::read_dir(run)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let weights = files.filter(|path| {
        let name = name(path);
        name.ends_with(".safetensors") && !name.ends_with(".state.safetensors")
    });
    let modified = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    weights.max_by_key(modified).unwrap()
}

/// Tensors of a checkpoint, flat.
pub(crate) fn tensors(file: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];
    let tensors = header.as_object().unwrap().iter();
    let tensors = tensors.filter(|(name, _)| *name != "__metadata__");
    let values = tensors.map(|(name, entry)| {
        let at = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
        let bytes = data[at(0)..at(1)].chunks_exact(4);
        let values = bytes.map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (name.clone(), values.collect())
    });
    values.collect()
}

pub(crate) fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Where the Python package lies in this repository.
pub(crate) fn package() -> PathBuf {
    root().join("crates/dsgd-python/python")
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap().to_owned()
}

/// Says, past the test harness that would swallow it, that a test was not made.
pub(crate) fn skip(test: &str, why: &str) {
    let mut stderr = io::stderr();
    writeln!(stderr, "SKIPPED {test}: {why}").unwrap();
}

/// The first Python that has a module: that of `DSGD_TORCH_PYTHON`, the system's, the one on the path.
fn python_with(module: &'static str) -> Option<&'static str> {
    static FOUND: [OnceLock<Option<&'static str>>; 2] = [const { OnceLock::new() }; 2];
    let place = match module {
        "numpy" => 0,
        "torch" => 1,
        other => panic!("no test needs {other}"),
    };
    *FOUND[place].get_or_init(|| {
        let named = std::env::var("DSGD_TORCH_PYTHON").ok();
        let named = named.map(|python| &*Box::leak(python.into_boxed_str()));
        // The quick ones first where torch is not needed.
        let mut candidates = vec!["/usr/bin/python3", "python3"];
        let at = if module == "torch" { 0 } else { 2 };
        if let Some(python) = named {
            candidates.insert(at, python);
        }
        let has = |python: &&str| {
            let import = format!("import {module}");
            let output = Command::new(python).args(["-c", &import]).output();
            output.is_ok_and(|output| output.status.success())
        };
        candidates.into_iter().find(has)
    })
}

/// Which examples make a batch, by the definition in docs/child.md, in Python: `permuted(n, key(seed, epoch), i)`.
pub(crate) const ORDER: &str = "
M, G = (1 << 64) - 1, 0x9e3779b97f4a7c15
def mix(z):
    z = ((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9) & M
    z = ((z ^ (z >> 27)) * 0x94d049bb133111eb) & M
    return z ^ (z >> 31)
def key(seed, epoch): return mix((seed + G * epoch) & M)
def permuted(n, key, i):
    half = ((n - 1).bit_length() + 1) // 2
    mask, at = (1 << half) - 1, i
    while True:
        left, right = at >> half, at & mask
        for r in range(4):
            left, right = right, left ^ (mix(key ^ mix((right + r * G) & M)) & mask)
        at = left << half | right
        if at < n: return at
";
