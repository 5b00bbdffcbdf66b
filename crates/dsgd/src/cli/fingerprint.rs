//! What a run's steps are made from, as its checkpoints keep it.

use std::collections::BTreeMap;

use crate::data;
use crate::task::Task;
use dsgd_engine::config::RunConfig;
use dsgd_engine::run::{DIGEST, Fingerprint};
use dsgd_engine::ssh::Object;

/// Reads each file of data once more: what its contents are decides, not what it is called.
pub(super) fn fingerprint<T: Task>(
    task: &T,
    options: &T::Options,
    config: &RunConfig,
) -> anyhow::Result<Fingerprint> {
    let mut fingerprint = Fingerprint::from([
        ("seed".to_owned(), config.seed.to_string()),
        (
            "training batches".to_owned(),
            task.manifest().batches.to_string(),
        ),
        (
            "validation batches".to_owned(),
            task.manifest().validation_batches.to_string(),
        ),
    ]);
    let mut digests = BTreeMap::new();
    let mut missing = Vec::new();
    for (path, beside) in data::named_by(options)? {
        let mut digest = DIGEST.to_owned();
        // A file that only the initial values were read from may be gone by now.
        if !path.is_file() {
            missing.push(path);
            continue;
        }
        for file in std::iter::once(&path).chain(&beside) {
            digest.push_str(&Object::of(file)?.hash);
        }
        digests.insert(path, digest);
    }
    let missing = missing.into_iter().map(|path| (path, String::new()));
    digests.extend(missing);
    let values = data::with_digests(digests, || serde_json::to_value(options))?;
    for (name, value) in values.as_object().into_iter().flatten() {
        // What is not given, or is not there, cannot be compared.
        if !value.is_null() && value != "" {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            fingerprint.insert(format!("--{}", name.replace('_', "-")), value);
        }
    }
    Ok(fingerprint)
}
