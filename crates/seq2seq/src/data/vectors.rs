//! Pre-trained word vectors from an HDF5 file.

use std::path::Path;

use dsgd::{Params, TaskResult};
use hdf5_pure::FormatError;

use super::hdf5::{open, unreadable};

/// Dataset with vectors of the source words, as the ancestor's tools wrote it.
const SOURCE: &str = "word_vecs";
/// Dataset with vectors of the target words.
const TARGET: &str = "word_vecs_dec";

/// Copies the vectors of the first words of each vocabulary into the embeddings: row i of a
/// dataset [words, width] is the vector of the word of index i + 1.
///
/// # Errors
/// When the file has neither dataset, or one of another width, with more rows than the
/// vocabulary, or with values that are not finite.
pub fn load(path: &Path, params: &mut Params) -> TaskResult<()> {
    let name = path.display();
    let (file, _) = open(path)?;
    let mut found = false;
    for (dataset, tensor) in [
        (SOURCE, "encoder.embedding.weight"),
        (TARGET, "decoder.embedding.weight"),
    ] {
        let data = match file.dataset(dataset) {
            Err(hdf5_pure::Error::Format(FormatError::PathNotFound(_))) => continue,
            found => found.map_err(|e| unreadable(path, dataset, &e))?,
        };
        found = true;
        let at = |problem: String| format!("{name}, dataset {dataset}: {problem}");
        let layout = params.layout().clone();
        let id = layout
            .find(tensor)
            .ok_or_else(|| at(format!("the model has no {tensor}")))?;
        let (rows, width) = (layout.tensor(id).shape[0], layout.tensor(id).width());
        let shape = data.shape().map_err(|e| unreadable(path, dataset, &e))?;
        let fits = shape.len() == 2 && shape[0] as usize <= rows && shape[1] as usize == width;
        if !fits {
            return Err(at(format!(
                "has shape {shape:?}, wanted at most [{rows}, {width}]: --word-vec-size must be \
                 the vectors' width, and the vocabulary at least as large"
            ))
            .into());
        }
        let values = data.read_f64().map_err(|e| unreadable(path, dataset, &e))?;
        if let Some(bad) = values.iter().position(|v| !(*v as f32).is_finite()) {
            let row = bad / width + 1;
            return Err(at(format!("row {row} holds a value that is not finite")).into());
        }
        for (own, value) in params.get_mut(id).iter_mut().zip(values) {
            *own = value as f32;
        }
    }
    if !found {
        return Err(format!("{name}: has neither dataset {SOURCE} nor {TARGET}").into());
    }
    Ok(())
}
