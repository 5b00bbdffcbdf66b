//! Opening a checkpoint: nothing that it says is believed before it was looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dsgd::{Params, checkpoint, run};

use super::metadata::{
    CORPUS, DEFAULT_SEPARATOR, NUMBERS, SEPARATOR, SOURCE_WORDS, SPEC, TARGET_WORDS,
};
use super::{TranslateError, Translator, workspaces};
use crate::data::Vocabulary;
use crate::model::{Model, ModelSpec, ModelType};

/// The widest layer and the longest word vector that a checkpoint may state; larger ones would
/// overflow the sizes of tensors before any file could disprove them.
const MAX_WIDTH: usize = 1 << 16;

/// The most layers, and utterances, that a checkpoint may state.
const MAX_DEPTH: usize = 1 << 8;

/// Dictionaries to use instead of the words that a checkpoint carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dictionaries {
    /// Words of the source language.
    pub source: Option<PathBuf>,
    /// Words of the target language.
    pub target: Option<PathBuf>,
}

/// One of the two languages, for a checkpoint that is being opened.
struct Side<'a> {
    name: &'static str,
    option: &'static str,
    key: &'static str,
    size: usize,
    dictionary: Option<&'a Path>,
}

impl Translator {
    /// Reads the best checkpoint of a run's folder, or a checkpoint's file. Lines are dealt to
    /// that many threads.
    pub fn open(
        path: &Path,
        threads: usize,
        dictionaries: &Dictionaries,
    ) -> Result<Self, TranslateError> {
        let (file, _) = run::find(path)?;
        let metadata = checkpoint::load_metadata(&file)?;
        let spec = spec(&file, &metadata)?;
        let (source_size, target_size) = (spec.source_size, spec.target_size);
        let words = |side: &Side<'_>| side.words(&file, &metadata);
        let source = words(&Side {
            name: "source",
            option: "--src-dict",
            key: SOURCE_WORDS,
            size: source_size,
            dictionary: dictionaries.source.as_deref(),
        })?;
        let target = words(&Side {
            name: "target",
            option: "--targ-dict",
            key: TARGET_WORDS,
            size: target_size,
            dictionary: dictionaries.target.as_deref(),
        })?;
        let model = Model::new(spec).map_err(|e| TranslateError::Spec {
            file: file.clone(),
            reason: e.to_string(),
        })?;
        let params = checkpoint::load_weights(&file, &Arc::new(model.layout()))?.params;
        let value = |key: &str| metadata.get(key).map(String::as_str);
        let mut translator = Self::new(model, params, source, target, threads)?;
        translator.numbers = value(CORPUS) == Some(NUMBERS);
        if let Some(separator) = value(SEPARATOR) {
            separator.clone_into(&mut translator.separator);
        }
        if translator.model.spec().model_type == ModelType::Hred {
            translator.separator_index()?;
        }
        Ok(translator)
    }

    /// From a model in memory that was trained on text, with `<t>` between utterances.
    ///
    /// # Panics
    /// When `params` are those of another model, or the vocabularies have other sizes.
    pub fn new(
        model: Model,
        params: Params,
        source: Vocabulary,
        target: Vocabulary,
        threads: usize,
    ) -> Result<Self, TranslateError> {
        assert_eq!(
            **params.layout(),
            model.layout(),
            "parameters of another model"
        );
        assert_eq!(source.len(), model.spec().source_size, "source words");
        assert_eq!(target.len(), model.spec().target_size, "target words");
        Ok(Self {
            model,
            params,
            source,
            target,
            numbers: false,
            separator: DEFAULT_SEPARATOR.to_owned(),
            workspaces: workspaces(threads)?,
        })
    }
}

/// The shape, where it can be one at all.
fn spec(file: &Path, metadata: &BTreeMap<String, String>) -> Result<ModelSpec, TranslateError> {
    let text = metadata
        .get(SPEC)
        .ok_or_else(|| TranslateError::OtherTask {
            file: file.to_owned(),
        })?;
    let problem = |reason| TranslateError::Spec {
        file: file.to_owned(),
        reason,
    };
    let spec: ModelSpec = serde_json::from_str(text).map_err(|e| problem(e.to_string()))?;
    for (name, size, limit) in [
        ("layers", spec.layers, MAX_DEPTH),
        ("utter_context", spec.utter_context, MAX_DEPTH),
        ("word_vec_size", spec.word_vec_size, MAX_WIDTH),
        ("hidden_size", spec.hidden_size, MAX_WIDTH),
    ] {
        if size > limit {
            return Err(problem(format!(
                "{name} is {size}, and {limit} is the most"
            )));
        }
    }
    spec.validate().map_err(|e| problem(e.to_string()))?;
    Ok(spec)
}

impl Side<'_> {
    /// The words of the dictionary that was given, else those that the checkpoint carries.
    fn words(
        &self,
        file: &Path,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Vocabulary, TranslateError> {
        let (from, words) = match (self.dictionary, metadata.get(self.key)) {
            (Some(dictionary), _) => (dictionary, Vocabulary::read(dictionary)?),
            (None, Some(words)) => (file, Vocabulary::from_words(words.lines())),
            (None, None) => {
                return Err(TranslateError::NoWords {
                    file: file.to_owned(),
                    side: self.name,
                    option: self.option,
                });
            }
        };
        if words.len() == self.size {
            self.agree(file, metadata, &words)?;
            return Ok(words);
        }
        Err(TranslateError::WordCount {
            file: from.to_owned(),
            side: self.name,
            found: words.len(),
            size: self.size,
            option: self.option,
        })
    }

    /// Whether a dictionary's words are those that the checkpoint carries, if it carries any.
    fn agree(
        &self,
        file: &Path,
        metadata: &BTreeMap<String, String>,
        words: &Vocabulary,
    ) -> Result<(), TranslateError> {
        let (Some(dictionary), Some(own)) = (self.dictionary, metadata.get(self.key)) else {
            return Ok(());
        };
        let own = Vocabulary::from_words(own.lines());
        let mut pairs = words.words().zip(own.words()).zip(1..);
        match pairs.find(|((here, there), _)| here != there) {
            None => Ok(()),
            Some(((here, there), index)) => Err(TranslateError::OtherWords {
                file: file.to_owned(),
                dictionary: dictionary.to_owned(),
                option: self.option,
                index,
                here: here.to_owned(),
                there: there.to_owned(),
            }),
        }
    }
}
