//! The encoder–decoder as a task of dsgd.

use std::sync::Arc;

use dsgd::{
    Batch, BatchSize, Compute, Gradient, Manifest, Metric, Params, Seat, Snapshot, Stats, Task,
    TaskCommand, TaskResult, WordRows, checkpoint,
};

use crate::batch::SentenceBatch;
use crate::commands;
use crate::data::utterances::Utterances;
use crate::data::{Corpus, Cut, Dataset, Vocabulary, vectors};
use crate::kernels::{self, GROUP, Simd};
use crate::model::{Frozen, Loss, Model, ModelSpec, ModelType, Workspace};
use crate::options::Options;
use crate::score::score_validation;
use crate::translator::metadata;

/// Translation or dialogue by an encoder–decoder.
pub struct Seq2Seq {
    options: Options,
    corpus: Corpus,
    model: Model,
    manifest: Manifest,
}

/// What one worker computes with.
struct Worker<'a> {
    task: &'a Seq2Seq,
    workspace: Workspace,
    batch: SentenceBatch,
}

impl Compute for Worker<'_> {
    fn gradient(
        &mut self,
        batch: Batch,
        params: &Snapshot,
        into: &mut Gradient,
    ) -> TaskResult<Stats> {
        let Seq2Seq { corpus, model, .. } = self.task;
        corpus.train.fill(batch.index, &mut self.batch)?;
        let rows = batch.part.rows(self.batch.rows, GROUP);
        if rows.is_empty() {
            return Ok(Stats::default());
        }
        self.batch.keep(rows);
        let (sentences, workspace) = (&self.batch, &mut self.workspace);
        let loss = model.gradient(params, sentences, batch.seed, workspace, into)?;
        Ok(stats(loss, sentences))
    }

    fn evaluate(&mut self, batch: usize, params: &Snapshot) -> TaskResult<Stats> {
        let Seq2Seq { corpus, model, .. } = self.task;
        let valid = corpus.valid.as_ref();
        let valid = valid.ok_or("there are no validation data")?;
        valid.fill(batch, &mut self.batch)?;
        let loss = model.loss(params, &self.batch, &mut self.workspace)?;
        Ok(stats(loss, &self.batch))
    }
}

impl dsgd::Model for Seq2Seq {
    fn manifest(&self) -> &Manifest {
        &self.manifest
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

    fn compute(&self, seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        Ok(Box::new(Worker {
            task: self,
            workspace: Workspace::new(kernels(&self.options, seat.threads))?,
            batch: SentenceBatch::default(),
        }))
    }

    fn compute_bytes(&self, _threads: usize) -> u64 {
        let bytes = |cut: &Cut| {
            let lengths = [cut.source_len, cut.target_len];
            self.model.workspace_bytes(cut.rows.len(), lengths)
        };
        let cuts = self.corpus.train.cuts().iter();
        cuts.map(bytes).max().unwrap_or(0)
    }
}

impl Task for Seq2Seq {
    const ABOUT: &'static str = "encoder–decoder for translation and dialogue";
    type Options = Options;

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
        Workspace::new(kernels(options, 1))?;
        let manifest = manifest(options, &corpus, &model);
        Ok(Self {
            options: options.clone(),
            corpus,
            model,
            manifest,
        })
    }

    fn commands() -> Vec<TaskCommand> {
        commands::commands()
    }

    fn report(&self, params: &Params, threads: usize) -> TaskResult<Vec<(String, String)>> {
        let Options {
            beam_k, max_bleu, ..
        } = self.options;
        let workspace = &mut Workspace::new(kernels(&self.options, threads))?;
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
        let words =
            checkpoint::compare_words(file, &self.manifest.metadata, &self.manifest.word_rows)?;
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

/// What is known of the model without computing.
fn manifest(options: &Options, corpus: &Corpus, model: &Model) -> Manifest {
    let valid = corpus.valid.as_ref();
    let sizes = |data: &Dataset| data.cuts().iter().map(size).collect();
    let kind = if options.is_built_in() {
        metadata::NUMBERS
    } else {
        metadata::TEXT
    };
    Manifest {
        validation_batches: valid.map_or(0, Dataset::len),
        batch_sizes: sizes(&corpus.train),
        validation_sizes: valid.map(sizes).unwrap_or_default(),
        most_parts: most_parts(&corpus.train),
        metadata: metadata::metadata(
            model.spec(),
            corpus.source_vocab.as_ref(),
            corpus.target_vocab.as_ref(),
            kind,
            &options.end_utterance,
        ),
        metrics: vec![Metric::perplexity()],
        // Padding is counted, too: it is computed.
        units: ["source tokens", "target tokens"].into(),
        word_rows: word_rows(),
        about: about(corpus, model),
        ..Manifest::new(model.layout(), corpus.train.len())
    }
}

/// Lines about model and data.
fn about(corpus: &Corpus, model: &Model) -> Vec<String> {
    let (spec, train) = (model.spec(), corpus.train.counts());
    let layer_type = format!("{:?}", spec.layer_type).to_lowercase();
    let model_type = format!("{:?}", spec.model_type).to_lowercase();
    let layers = if spec.layers == 1 { "layer" } else { "layers" };
    let mut lines = vec![
        format!(
            "{model_type} of {} {layer_type} {layers} of {} units, word vectors of {}, dropout {}",
            spec.layers, spec.hidden_size, spec.word_vec_size, spec.dropout
        ),
        format!("vocabularies of {}", corpus.sizes),
        format!(
            "training data: {} sentence pairs in {} batches",
            train.sentences, train.batches
        ),
    ];
    if let Some(valid) = &corpus.valid {
        let valid = valid.counts();
        lines.push(format!(
            "validation data: {} sentence pairs in {} batches",
            valid.sentences, valid.batches
        ));
    }
    lines.extend(corpus.left_out.iter().cloned());
    lines
}

/// Rows of the model that belong to words.
fn word_rows() -> Vec<WordRows> {
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

fn kernels(options: &Options, threads: usize) -> kernels::Compute {
    kernels::Compute {
        threads,
        simd: Simd::Auto,
        precision: options.precision,
    }
}

/// As many as the largest batch has groups of rows; of smaller ones some parts are empty.
fn most_parts(data: &Dataset) -> usize {
    let groups = data.cuts().iter().map(|cut| cut.rows.len().div_ceil(GROUP));
    groups.max().unwrap_or(1)
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
        units: [batch.source_len, batch.target_len].map(|length| rows * length as u64),
        ..Stats::default()
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
