//! Rows that belong to words: a checkpoint's and a task's words compared, and rows carried over by word.
//!
//! Two vocabularies of one size fit each other's tensors, and mean something else by every row. So
//! words are compared before weights are read, and what is found again is found by its word.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::{CheckpointError, load_metadata, load_weights};
use crate::params::{Kind, Layout, Params};
use crate::task::WordRows;

/// A vocabulary of which a checkpoint and a task have different words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherWords {
    rows: WordRows,
    here: Vec<String>,
    there: Vec<String>,
}

impl OtherWords {
    /// Words of the task's that the checkpoint has as well, wherever they stand.
    pub fn found(&self) -> usize {
        let there = places(&self.there);
        let here = self.here.iter();
        here.filter(|word| there.contains_key(word.as_str()))
            .count()
    }

    /// What became of the rows, in words.
    pub fn carried(&self) -> String {
        format!(
            "{}: {} of {} words are in the checkpoint and keep their rows, the others begin anew",
            self.rows.name,
            self.found(),
            self.here.len()
        )
    }
}

/// How they differ.
impl fmt::Display for OtherWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (here, there) = (&self.here, &self.there);
        let name = self.rows.name;
        write!(
            f,
            "{name} of {} words there and {} here",
            there.len(),
            here.len()
        )?;
        let differs = here.iter().zip(there).position(|(a, b)| a != b);
        match differs {
            Some(at) => write!(
                f,
                ", of which word {} is `{}` there and `{}` here",
                at + 1,
                crate::text::name(&there[at]),
                crate::text::name(&here[at])
            ),
            None => write!(f, ", the first {} alike", here.len().min(there.len())),
        }
    }
}

/// The vocabularies in which this checkpoint and a task differ; `metadata` and `rows` are the
/// task's. Words that either of them does not name cannot be compared.
///
/// # Errors
/// When the file is no checkpoint.
pub fn other_words(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    rows: &[WordRows],
) -> Result<Vec<OtherWords>, CheckpointError> {
    let theirs = load_metadata(path)?;
    let words = |text: &String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let compared = rows.iter().filter_map(|rows| {
        let (here, there) = (metadata.get(rows.key)?, theirs.get(rows.key)?);
        (here != there).then(|| OtherWords {
            rows: rows.clone(),
            here: words(here),
            there: words(there),
        })
    });
    Ok(compared.collect())
}

/// Names of the task's vocabularies whose words this checkpoint does not say: nobody can tell whether its rows
/// are theirs.
///
/// # Errors
/// When the file is no checkpoint.
pub fn unsaid_words(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    rows: &[WordRows],
) -> Result<Vec<&'static str>, CheckpointError> {
    let theirs = load_metadata(path)?;
    let own = rows.iter().filter(|rows| metadata.contains_key(rows.key));
    let unsaid = own.filter(|rows| !theirs.contains_key(rows.key));
    Ok(unsaid.map(|rows| rows.name).collect())
}

/// Reads a checkpoint's weights into `params`: rows of those vocabularies by their words, all else as it lies.
/// Rows of words that the checkpoint does not have stay as they are.
///
/// # Errors
/// As [`load_weights`], for a model that differs in more than these vocabularies.
pub fn carry_over(
    path: &Path,
    vocabularies: &[OtherWords],
    params: &mut Params,
) -> Result<(), CheckpointError> {
    let own = Arc::clone(params.layout());
    let mut by_tensor = HashMap::new();
    for vocabulary in vocabularies {
        for tensor in &vocabulary.rows.tensors {
            by_tensor.insert(tensor.as_str(), vocabulary);
        }
    }
    let mut layout = Layout::new();
    for tensor in own.tensors() {
        let mut shape = tensor.shape.clone();
        if let Some(vocabulary) = by_tensor.get(tensor.name.as_str()) {
            shape[0] = vocabulary.there.len();
        }
        match tensor.kind {
            Kind::Dense => layout.dense(&*tensor.name, &shape),
            Kind::Rows => layout.rows(&*tensor.name, shape[0], shape[1]),
        };
    }
    let theirs = load_weights(path, &Arc::new(layout))?.params;
    for (at, tensor) in own.tensors().iter().enumerate() {
        let id = crate::params::TensorId(at);
        let (from, to) = (theirs.get(id), params.get_mut(id));
        let Some(vocabulary) = by_tensor.get(tensor.name.as_str()) else {
            to.copy_from_slice(from);
            continue;
        };
        let (there, width) = (places(&vocabulary.there), tensor.width());
        for (row, word) in to.chunks_exact_mut(width).zip(&vocabulary.here) {
            if let Some(place) = there.get(word.as_str()) {
                row.copy_from_slice(&from[place * width..][..width]);
            }
        }
    }
    Ok(())
}

/// Where each word stands.
fn places(words: &[String]) -> HashMap<&str, usize> {
    let places = words.iter().enumerate();
    places.map(|(at, word)| (word.as_str(), at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Snapshot, save};

    fn rows() -> Vec<WordRows> {
        vec![WordRows {
            name: "source vocabulary",
            key: "words",
            tensors: vec!["table".to_owned(), "bias".to_owned()],
        }]
    }

    fn layout(words: usize) -> Arc<Layout> {
        let mut layout = Layout::new();
        layout.rows("table", words, 2);
        layout.dense("bias", &[words]);
        layout.dense("square", &[2, 2]);
        Arc::new(layout)
    }

    fn metadata(words: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("words".to_owned(), words.to_owned())])
    }

    /// A checkpoint of three words, whose numbers count up from 1.
    fn saved(folder: &Path, words: &str) -> std::path::PathBuf {
        saved_with(folder, &metadata(words))
    }

    fn saved_with(folder: &Path, metadata: &BTreeMap<String, String>) -> std::path::PathBuf {
        let mut params = Params::zeros(layout(3));
        let numbers = (1u8..).map(f32::from);
        params
            .flat_mut()
            .iter_mut()
            .zip(numbers)
            .for_each(|(a, b)| *a = b);
        let snapshot = Snapshot {
            version: 1,
            params: &params,
            slots: &[],
            metadata,
            state: &(),
        };
        save(folder, "a", &snapshot).unwrap()
    }

    #[test]
    fn rows_follow_their_words_and_new_words_keep_what_they_began_with() {
        let folder = tempfile::tempdir().unwrap();
        let file = saved(folder.path(), "a\nb\nc");
        let other = other_words(&file, &metadata("c\nnew\na\nlast"), &rows()).unwrap();
        assert_eq!(other[0].found(), 2);
        assert_eq!(
            other[0].to_string(),
            "source vocabulary of 3 words there and 4 here, of which word 1 is `a` there and `c` here"
        );
        let mut params = Params::zeros(layout(4));
        params.flat_mut().fill(-1.0);
        carry_over(&file, &other, &mut params).unwrap();
        assert_eq!(
            params.flat(),
            [
                5.0, 6.0, -1.0, -1.0, 1.0, 2.0, -1.0, -1.0, // table
                9.0, -1.0, 7.0, -1.0, // bias
                10.0, 11.0, 12.0, 13.0, // square
            ]
        );
    }

    #[test]
    fn one_word_more_is_named_and_the_same_words_are_no_difference() {
        let folder = tempfile::tempdir().unwrap();
        let file = saved(folder.path(), "a\nb\nc");
        assert_eq!(
            other_words(&file, &metadata("a\nb\nc"), &rows()).unwrap(),
            []
        );
        let more = other_words(&file, &metadata("a\nb\nc\nd"), &rows()).unwrap();
        assert_eq!(
            more[0].to_string(),
            "source vocabulary of 3 words there and 4 here, the first 3 alike"
        );
        // Nothing to compare with.
        let unnamed = other_words(&file, &BTreeMap::new(), &rows()).unwrap();
        let bare = saved_with(folder.path(), &BTreeMap::new());
        assert_eq!(unnamed, []);
        let unsaid = |key: &str| {
            let metadata = BTreeMap::from([(key.to_owned(), "a".to_owned())]);
            unsaid_words(&bare, &metadata, &rows()).unwrap()
        };
        assert_eq!(unsaid("words"), ["source vocabulary"]);
        assert_eq!(unsaid("else"), [""; 0]);
    }
}
