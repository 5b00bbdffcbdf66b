//! Runs of the words task, in this process or one of their own, and what they leave behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use dsgd_core::event::{Contribution, Event, Record, Step};

use crate::task::Words;

/// Trains in this process.
pub(crate) fn train(folder: &Path, args: &str) -> anyhow::Result<()> {
    let folder = folder.display().to_string();
    let words = ["words", "train", "--quiet", "--run-dir", &folder];
    let words = words.into_iter().chain(args.split_whitespace());
    dsgd::Tasks::new()
        .with::<Words>("words")
        .run(words.map(OsString::from))
}

/// All records of a run.
pub(crate) fn records(folder: &Path) -> Vec<Record> {
    let text = fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.lines().map(parse).collect()
}

/// The steps that the parameters are made of: where a run went on from a checkpoint, those that
/// came after it and were lost are left out.
pub(crate) fn steps(records: &[Record]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for record in records {
        match &record.event {
            Event::RunStarted { resumed_at, .. } => {
                steps.retain(|step| step.version <= resumed_at.unwrap_or(0));
            }
            Event::Step(step) => steps.push(step.clone()),
            _ => {}
        }
    }
    steps
}

/// The batches that a step is made of, each once: at its first part.
pub(crate) fn batches_of(step: &Step) -> Vec<usize> {
    let first = step.parts.iter().filter(|made| made.part.number == 0);
    let batches = |made: &Contribution| made.batches.clone();
    first.flat_map(batches).collect()
}

/// Who computed what a step is made of.
pub(crate) fn workers_of(step: &Step) -> Vec<u32> {
    step.parts.iter().map(|part| part.worker).collect()
}

/// Every batch of every epoch was applied exactly once, and versions rise one by one.
pub(crate) fn assert_each_batch_once(folder: &Path, epochs: u32, batches: usize) {
    let mut applied: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (number, step) in steps(&records(folder)).into_iter().enumerate() {
        assert_eq!(step.version, number as u64 + 1, "versions rise one by one");
        applied
            .entry(step.epoch)
            .or_default()
            .extend(batches_of(&step));
    }
    assert_eq!(applied.len(), epochs as usize);
    for (epoch, mut batches_of_it) in applied {
        batches_of_it.sort_unstable();
        let all: Vec<_> = (0..batches).collect();
        assert_eq!(batches_of_it, all, "epoch {epoch}");
    }
}

/// The newest checkpoint's weights.
pub(crate) fn newest(folder: &Path) -> PathBuf {
    let found = dsgd_engine::checkpoint::list(folder).unwrap().found;
    found.into_iter().next().expect("a checkpoint").path
}

/// Names and contents of the checkpoints' weights. In local mode what is kept beside them of a worker's optimizer is
/// what was told, and had come, until then.
pub(crate) fn weight_bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = checkpoint_bytes(folder);
    files.retain(|name, _| !name.ends_with(".state.safetensors"));
    assert!(!files.is_empty(), "{} has no checkpoint", folder.display());
    files
}

/// Names and contents of all checkpoint files.
pub(crate) fn checkpoint_bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|e| e.path().extension().is_some_and(|x| x == "safetensors"));
    files
        .map(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            (name, fs::read(file.path()).unwrap())
        })
        .collect()
}
