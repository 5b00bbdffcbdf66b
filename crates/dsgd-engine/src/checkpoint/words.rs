//! Rows that belong to words: a checkpoint's and a task's words compared, and rows carried over by word.
//!
//! Two vocabularies of one size fit each other's tensors, and mean something else by every row. So
//! words are compared before weights are read, and what is found again is found by its word.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::error::CheckpointError;
use super::pair::{load_metadata, load_weights};
use dsgd_core::params::{Kind, Layout, Params};
use dsgd_core::task::WordRows;

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
                dsgd_core::text::name(&there[at]),
                dsgd_core::text::name(&here[at])
            ),
            None => write!(f, ", the first {} alike", here.len().min(there.len())),
        }
    }
}

/// What comes of comparing a checkpoint's words with a task's.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Vocabularies that differ.
    pub other: Vec<OtherWords>,
    /// Names of the task's vocabularies whose words the checkpoint does not say: nobody can tell whether its
    /// rows are theirs.
    pub unsaid: Vec<&'static str>,
}

/// Compares the words of a checkpoint with a task's, whose `metadata` and `rows` these are. What the task
/// does not name is not compared.
///
/// # Errors
/// When the file is no checkpoint.
pub fn compare_words(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    rows: &[WordRows],
) -> Result<Compared, CheckpointError> {
    let theirs = load_metadata(path)?;
    let words = |text: &String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let mut compared = Compared::default();
    for rows in rows {
        match (metadata.get(rows.key), theirs.get(rows.key)) {
            (Some(here), Some(there)) if here != there => compared.other.push(OtherWords {
                rows: rows.clone(),
                here: words(here),
                there: words(there),
            }),
            (Some(_), None) => compared.unsaid.push(rows.name),
            _ => {}
        }
    }
    Ok(compared)
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
        let id = dsgd_core::params::TensorId(at);
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
    use crate::checkpoint::{Checkpoint, save};

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
        let checkpoint = Checkpoint {
            version: 1,
            params: &params,
            optimizer: &[],
            metadata,
            state: &(),
        };
        save(folder, "a", &checkpoint).unwrap()
    }

    fn compared(file: &Path, words: &str) -> Compared {
        compare_words(file, &metadata(words), &rows()).unwrap()
    }

    #[test]
    fn rows_follow_their_words_and_new_words_keep_what_they_began_with() {
        let folder = tempfile::tempdir().unwrap();
        let file = saved(folder.path(), "a\nb\nc");
        let other = compared(&file, "c\nnew\na\nlast").other;
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
        assert_eq!(compared(&file, "a\nb\nc"), Compared::default());
        let more = compared(&file, "a\nb\nc\nd").other;
        assert_eq!(
            more[0].to_string(),
            "source vocabulary of 3 words there and 4 here, the first 3 alike"
        );
        // The task says nothing, so nothing is missed.
        let unnamed = compare_words(&file, &BTreeMap::new(), &rows()).unwrap();
        assert_eq!(unnamed, Compared::default());
    }

    #[test]
    fn words_that_the_checkpoint_does_not_say_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let bare = saved_with(folder.path(), &BTreeMap::new());
        let words = compared(&bare, "a\nb\nc");
        assert_eq!(words.unsaid, ["source vocabulary"]);
        assert_eq!(words.other, []);
    }
}
