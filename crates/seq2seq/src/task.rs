//! The encoder–decoder as a task of dsgd.

use std::collections::BTreeMap;
use std::sync::Arc;

use dsgd::{
    Batch, BatchSize, Gradient, Layout, Params, Stats, Task, TaskCommand, TaskResult, WordRows,
    checkpoint,
};

use crate::batch::SentenceBatch;
use crate::commands;
use crate::data::utterances::Utterances;
use crate::data::{Corpus, Cut, Dataset, Vocabulary, vectors};
use crate::kernels::{Compute, Simd};
use crate::model::{Frozen, Loss, Model, ModelSpec, ModelType, Workspace};
use crate::options::Options;
use crate::score::score_validation;
use crate::translator::metadata;

/// Translation or dialogue by an encoder–decoder.
pub struct Seq2Seq {
    options: Options,
    corpus: Corpus,
    model: Model,
}

/// What one worker needs for itself.
pub struct Scratch {
    workspace: Workspace,
    batch: SentenceBatch,
}

impl Task for Seq2Seq {
    const ABOUT: &'static str = "encoder–decoder for translation and dialogue";
    type Options = Options;
    type Scratch = Scratch;

    fn defaults(options: &Options) -> Vec<String> {
        if options.is_built_in() {
            NUMBERS_DEFAULTS.map(str::to_owned).to_vec()
        } else {
            Vec::new()
        }
    }

    fn load(options: &Options, seed: u64) -> TaskResult<Self> {
        let mut corpus = options.source(seed)?.load()?;
        if options.model_type == ModelType::Hred {
            corpus = split(corpus, options)?;
        }
        let spec = ModelSpec {
            layer_type: options.layer_type,
            model_type: options.model_type,
            layers: options.num_layers(),
            word_vec_size: options.word_vec_size(),
            hidden_size: options.hidden_size(),
            source_size: corpus.sizes.source as usize,
            target_size: corpus.sizes.target as usize,
            utter_context: options.utter_context,
            dropout: options.dropout(),
        };
        if options
            .param_init
            .is_some_and(|x| !x.is_finite() || x < 0.0)
        {
            return Err("--param-init must be 0 or above".into());
        }
        let fixed = options.fix_word_vecs == 1;
        let model = Model::new(spec)?.freeze(Frozen {
            source_embedding: fixed,
            target_embedding: fixed,
        });
        // Found out now, not by a worker.
        Workspace::new(compute(options, 1))?;
        Ok(Self {
            options: options.clone(),
            corpus,
            model,
        })
    }

    fn layout(&self) -> Layout {
        self.model.layout()
    }

    fn init(&self, seed: u64, params: &mut Params) -> TaskResult<()> {
        self.model.init(seed, self.options.param_init(), params);
        if let Some(file) = &self.options.load_red {
            self.load_red(file, params)?;
        }
        if let Some(file) = &self.options.pre_word_vecs {
            vectors::load(file, params)?;
        }
        Ok(())
    }

    fn batches(&self) -> usize {
        self.corpus.train.len()
    }

    fn validation_batches(&self) -> usize {
        self.corpus.valid.as_ref().map_or(0, Dataset::len)
    }

    fn batch_size(&self, batch: usize) -> Option<BatchSize> {
        self.corpus.train.cuts().get(batch).map(size)
    }

    fn validation_batch_size(&self, batch: usize) -> Option<BatchSize> {
        self.corpus.valid.as_ref()?.cuts().get(batch).map(size)
    }

    fn scratch(&self, threads: usize) -> Scratch {
        Scratch {
            workspace: Workspace::new(compute(&self.options, threads))
                .expect("tried when the task was loaded"),
            batch: SentenceBatch::default(),
        }
    }

    fn scratch_bytes(&self, _threads: usize) -> u64 {
        let bytes = |cut: &Cut| {
            let lengths = [cut.source_len, cut.target_len];
            self.model.workspace_bytes(cut.rows.len(), lengths)
        };
        self.corpus
            .train
            .cuts()
            .iter()
            .map(bytes)
            .max()
            .unwrap_or(0)
    }

    fn gradient(
        &self,
        batch: Batch,
        params: &Params,
        scratch: &mut Scratch,
        gradient: &mut Gradient,
    ) -> TaskResult<Stats> {
        let Scratch {
            workspace,
            batch: sentences,
        } = scratch;
        self.corpus.train.fill(batch.index, sentences)?;
        let loss = self
            .model
            .gradient(params, sentences, batch.seed, workspace, gradient)?;
        Ok(stats(loss, sentences))
    }

    fn evaluate(&self, batch: usize, params: &Params, scratch: &mut Scratch) -> TaskResult<Stats> {
        let Scratch {
            workspace,
            batch: sentences,
        } = scratch;
        let valid = self
            .corpus
            .valid
            .as_ref()
            .ok_or("there are no validation data")?;
        valid.fill(batch, sentences)?;
        let loss = self.model.loss(params, sentences, workspace)?;
        Ok(stats(loss, sentences))
    }

    fn commands() -> Vec<TaskCommand> {
        commands::commands()
    }

    fn report(&self, params: &Params, scratch: &mut Scratch) -> TaskResult<Vec<(String, String)>> {
        let Options {
            beam_k, max_bleu, ..
        } = self.options;
        let workspace = &mut scratch.workspace;
        let scored = score_validation(
            &self.model,
            params,
            &self.corpus,
            workspace,
            beam_k,
            max_bleu,
        )?;
        Ok(scored.map_or(Vec::new(), |scored| {
            let share = 100.0 * scored.exact_share();
            let exact = format!("{share:.2} % ({} of {})", scored.exact, scored.sentences);
            vec![
                (
                    format!("BLEU-{max_bleu}"),
                    format!("{:.2}", scored.bleu.score),
                ),
                ("exact".to_owned(), exact),
            ]
        }))
    }

    fn next_steps(&self, program: &str, checkpoint: &str) -> Vec<String> {
        let built_in = self.options.is_built_in();
        let try_it = match self.options.model_type {
            ModelType::Hred => format!("{program} chat {checkpoint}"),
            ModelType::Red if built_in => format!(
                "{program} translate {checkpoint} \"four hundred and seven thousand and twelve\""
            ),
            ModelType::Red => {
                format!("{program} translate {checkpoint} \"a sentence of your own\"")
            }
        };
        vec![
            format!("Try it:      {try_it}"),
            format!("Evaluate it: {program} eval {checkpoint}"),
        ]
    }

    fn describe(&self) -> Vec<String> {
        let (spec, train) = (self.model.spec(), self.corpus.train.counts());
        let layer_type = format!("{:?}", spec.layer_type).to_lowercase();
        let model_type = format!("{:?}", spec.model_type).to_lowercase();
        let layers = if spec.layers == 1 { "layer" } else { "layers" };
        let mut lines = vec![
            format!(
                "{model_type} of {} {layer_type} {layers} of {} units, word vectors of {}, dropout {}",
                spec.layers, spec.hidden_size, spec.word_vec_size, spec.dropout
            ),
            format!("vocabularies of {}", self.corpus.sizes),
            format!(
                "training data: {} sentence pairs in {} batches",
                train.sentences, train.batches
            ),
        ];
        if let Some(valid) = &self.corpus.valid {
            let valid = valid.counts();
            lines.push(format!(
                "validation data: {} sentence pairs in {} batches",
                valid.sentences, valid.batches
            ));
        }
        lines.extend(self.corpus.left_out.iter().cloned());
        lines
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let corpus = if self.options.is_built_in() {
            metadata::NUMBERS
        } else {
            metadata::TEXT
        };
        metadata::metadata(
            self.model.spec(),
            self.corpus.source_vocab.as_ref(),
            self.corpus.target_vocab.as_ref(),
            corpus,
            &self.options.end_utterance,
        )
    }

    fn word_rows(&self) -> Vec<WordRows> {
        let rows = |name, key, tensors: &[&str]| WordRows {
            name,
            key,
            tensors: tensors.iter().map(|&tensor| tensor.to_owned()).collect(),
        };
        let target = ["decoder.embedding.weight", "output.weight", "output.bias"];
        vec![
            rows(
                "source vocabulary",
                metadata::SOURCE_WORDS,
                &["encoder.embedding.weight"],
            ),
            rows("target vocabulary", metadata::TARGET_WORDS, &target),
        ]
    }
}

/// How `dsgd train` without data options trains.
const NUMBERS_DEFAULTS: [&str; 5] = [
    "--optimizer=adam",
    "--learning-rate=0.003",
    "--lr-schedule=cosine",
    "--warmup-steps=300",
    "--epochs=24",
];

impl Seq2Seq {
    /// Starts a hierarchical model from a flat one's weights: each utterance's stack from its
    /// encoder, embeddings, decoder and output from its own; only the context stack is new.
    fn load_red(&self, file: &std::path::Path, params: &mut Params) -> TaskResult<()> {
        let spec = self.model.spec();
        if spec.model_type != ModelType::Hred {
            return Err("--load-red is for --model-type hred; use --train-from here".into());
        }
        let words = checkpoint::compare_words(file, &self.metadata(), &self.word_rows())?;
        if let Some(other) = words.other.first() {
            return Err(format!(
                "--load-red {}: {other}; prepare the data with that model's vocabularies",
                file.display()
            )
            .into());
        }
        let red = Model::new(ModelSpec {
            model_type: ModelType::Red,
            ..spec.clone()
        })?;
        let layout = Arc::new(red.layout());
        let red = checkpoint::load_weights(file, &layout)?.params;
        let own = Arc::clone(params.layout());
        for (at, tensor) in layout.tensors().iter().enumerate() {
            let values = red.get(dsgd::TensorId(at));
            let names: Vec<String> = match tensor.name.strip_prefix("encoder.rnn.") {
                Some(rest) => (0..spec.utter_context)
                    .map(|u| format!("encoder.utterance.{u}.rnn.{rest}"))
                    .collect(),
                None => vec![tensor.name.clone()],
            };
            for name in names {
                let id = own
                    .find(&name)
                    .ok_or_else(|| format!("the model has no {name}"))?;
                params.get_mut(id).copy_from_slice(values);
            }
        }
        Ok(())
    }
}

fn compute(options: &Options, threads: usize) -> Compute {
    Compute {
        threads,
        simd: Simd::Auto,
        precision: options.precision,
    }
}

fn size(cut: &Cut) -> BatchSize {
    BatchSize {
        examples: cut.rows.len() as u64,
        count: cut.target_words as u64,
    }
}

fn stats(loss: Loss, batch: &SentenceBatch) -> Stats {
    let rows = batch.rows as u64;
    Stats {
        loss: loss.nll,
        count: loss.words,
        examples: rows,
        source_tokens: rows * batch.source_len as u64,
        target_tokens: rows * batch.target_len as u64,
    }
}

/// Cuts each source into utterances.
fn split(mut corpus: Corpus, options: &Options) -> TaskResult<Corpus> {
    let word = &options.end_utterance;
    let index = corpus
        .source_vocab
        .as_ref()
        .and_then(|v: &Vocabulary| v.index(word));
    let separator = index.or_else(|| word.parse().ok()).ok_or_else(|| {
        format!(
            "--end-utterance {word}: not a word of the source vocabulary; give the word that \
             stands between two utterances in the data, or its index"
        )
    })?;
    let utterances = Utterances {
        count: options.utter_context,
        separator,
    };
    corpus.train = corpus.train.split_utterances(utterances)?;
    let valid = corpus.valid.map(|valid| valid.split_utterances(utterances));
    corpus.valid = valid.transpose()?;
    Ok(corpus)
}
