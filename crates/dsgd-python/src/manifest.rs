//! What is known of a script's task without computing.

use std::sync::Arc;

use dsgd::{Better, Layout, Manifest, Metric, SUMS, TaskResult};

use crate::order::Dealing;
use crate::words::{Computed, Loaded};

/// Names of a task's metrics besides the loss, as a batch brings them: in the order of their sums.
pub(crate) fn metrics_of(computed: &Computed) -> TaskResult<Vec<String>> {
    let names: Vec<String> = computed.metrics.keys().cloned().collect();
    if names.len() > SUMS {
        return Err(format!("{} metrics: at most {SUMS}", names.len()).into());
    }
    Ok(names)
}

/// What the server knows of it.
pub(crate) fn manifest(
    loaded: &Loaded,
    layout: &Arc<Layout>,
    [training, validation]: &[Dealing; 2],
    names: &[String],
) -> TaskResult<Manifest> {
    let most_parts = if loaded.divisible {
        loaded.batch_size.min(loaded.examples).max(1) as usize
    } else {
        1
    };
    let frameworks = loaded
        .frameworks
        .iter()
        .map(|(name, version)| format!(", {name} {version}"));
    let frameworks: String = frameworks.collect();
    let mut about = vec![
        format!("{}, in Python {}{frameworks}", loaded.task, loaded.python),
        format!(
            "training data: {} examples in {} batches of up to {}",
            loaded.examples,
            training.batches(),
            loaded.batch_size
        ),
    ];
    if loaded.validation_examples > 0 {
        about.push(format!(
            "validation data: {} examples",
            loaded.validation_examples
        ));
    }
    about.extend(loaded.describe.iter().cloned());
    Ok(Manifest {
        validation_batches: validation.batches(),
        most_parts,
        metrics: metrics(loaded, names)?,
        metadata: loaded.metadata.clone(),
        about,
        ..Manifest::new(Arc::clone(layout), training.batches())
    })
}

/// The one that checkpoints go by first.
fn metrics(loaded: &Loaded, names: &[String]) -> TaskResult<Vec<Metric>> {
    let loss = if loaded.perplexity {
        Metric::perplexity()
    } else {
        Metric::loss()
    };
    let other = |(at, name): (usize, &String)| {
        let higher = loaded.higher.contains(name);
        let unit = if name == "accuracy" { "%" } else { "" };
        let better = if higher {
            Better::Higher
        } else {
            Better::Lower
        };
        Metric::mean(at, name, unit, better)
    };
    let mut all = vec![loss];
    all.extend(names.iter().enumerate().map(other));
    if let Some(best) = &loaded.best {
        let at = all
            .iter()
            .position(|metric| metric.name == *best)
            .ok_or_else(|| {
                let names: Vec<_> = all.iter().map(|metric| &*metric.name).collect();
                format!(
                    "best = {best:?} is none of its metrics: {}",
                    names.join(", ")
                )
            })?;
        let first = all.remove(at);
        all.insert(0, first);
    }
    Ok(all)
}
