//! The encoder–decoder: tensors, loss, gradient, and steps of inference.
//!
//! [`Model`] knows the wiring and owns no numbers; parameters come from the library, and all
//! buffers live in a [`Workspace`], which grows to the largest batch seen and is then reused.
//!
//! The loss of a batch is `(Σ -log p(wanted word)) / rows`, summed over all positions that
//! want a word: padding is neither projected nor counted. Formulas stand at the kernels
//! ([`crate::kernels`]) and at each [`LayerType`].
//!
//! What this leaves out: attention, and beam search, which is built on [`Model::step`].

pub mod bench;
mod cell;
mod decode;
mod dropout;
mod network;
mod projection;
mod shard;
mod spec;
mod stack;
mod weights;
mod workspace;

use dsgd::{Gradient, Layout, Params};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::batch::{PAD, SentenceBatch};
use crate::kernels::GROUP;
use crate::kernels::dispatch::each;
use crate::kernels::transpose::groups;

pub use decode::DecoderState;
pub use network::Frozen;
pub use spec::{Error, LayerType, ModelSpec, ModelType};
pub use workspace::Workspace;

use dropout::Dropout;
use network::Network;
use projection::{Kept, Top};
use shard::PassInputs;

/// Negative log-likelihood of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Summed over all wanted words, in nats.
    pub nll: f64,
    /// Wanted words: perplexity is exp(nll / words).
    pub words: u64,
}

/// An encoder–decoder of a given shape.
#[derive(Clone, Debug)]
pub struct Model {
    spec: ModelSpec,
    layout: Layout,
    network: Network,
}

impl Model {
    /// A model of that shape.
    ///
    /// ```
    /// use seq2seq::model::{LayerType, Model, ModelSpec, ModelType};
    /// let spec = ModelSpec {
    ///     layer_type: LayerType::Lstm,
    ///     model_type: ModelType::Red,
    ///     layers: 2,
    ///     word_vec_size: 300,
    ///     hidden_size: 300,
    ///     source_size: 28_721,
    ///     target_size: 42_787,
    ///     utter_context: 2,
    ///     dropout: 0.3,
    /// };
    /// assert_eq!(Model::new(spec)?.layout().len(), 37_219_687);
    /// # Ok::<(), seq2seq::model::Error>(())
    /// ```
    pub fn new(spec: ModelSpec) -> Result<Self, Error> {
        spec.validate()?;
        let mut layout = Layout::new();
        let network = Network::declare(&mut layout, &spec);
        Ok(Self {
            spec,
            layout,
            network,
        })
    }

    /// The same model with some tensors not trained.
    #[must_use]
    pub fn freeze(mut self, frozen: Frozen) -> Self {
        self.network.frozen = frozen;
        self
    }

    /// Its shape.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Its tensors; embeddings are tables of which a batch touches few rows.
    pub fn layout(&self) -> Layout {
        self.layout.clone()
    }

    /// Bytes of what a [`Workspace`] keeps of a batch between the way forward and the way back, for so many
    /// rows and words of source and target: a little less than it grows to.
    pub fn workspace_bytes(&self, rows: usize, lengths: [usize; 2]) -> u64 {
        self.network.track_floats(rows, lengths).saturating_mul(4)
    }

    /// Every parameter uniform in (-`param_init`, `param_init`); a function of the seed alone.
    pub fn init(&self, seed: u64, param_init: f32, params: &mut Params) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for value in params.flat_mut() {
            // The middle of one of 2²⁴ equal steps.
            let unit = ((random.next_u32() >> 8) as f32 + 0.5) / 16_777_216.0;
            *value = (2.0 * unit - 1.0) * param_init;
        }
    }

    /// Loss of a batch with dropout, and its gradient (of the loss divided by the batch's rows)
    /// added to `gradient`. `dropout_seed` decides the masks, whatever the number of threads.
    ///
    /// # Panics
    /// When `params` or `gradient` belong to another layout.
    pub fn gradient(
        &self,
        params: &Params,
        batch: &SentenceBatch,
        dropout_seed: u64,
        workspace: &mut Workspace,
        gradient: &mut Gradient,
    ) -> Result<Loss, Error> {
        assert_eq!(
            **gradient.layout(),
            self.layout,
            "a gradient of another model"
        );
        let dropout = Dropout::new(self.spec.dropout, dropout_seed, batch.first_row);
        self.run(params, batch, dropout, workspace, Some(gradient))
    }

    /// Loss of a batch, without dropout.
    ///
    /// # Panics
    /// When `params` belong to another layout.
    pub fn loss(
        &self,
        params: &Params,
        batch: &SentenceBatch,
        workspace: &mut Workspace,
    ) -> Result<Loss, Error> {
        self.run(params, batch, None, workspace, None)
    }

    fn run(
        &self,
        params: &Params,
        batch: &SentenceBatch,
        dropout: Option<Dropout>,
        workspace: &mut Workspace,
        mut gradient: Option<&mut Gradient>,
    ) -> Result<Loss, Error> {
        assert_eq!(
            **params.layout(),
            self.layout,
            "parameters of another model"
        );
        self.check(batch)?;
        let Workspace {
            isa,
            compute,
            shards,
            projection,
            kept,
            nll,
            ..
        } = workspace;
        let (isa, threads, network) = (*isa, compute.threads, &self.network);
        let inputs = PassInputs {
            isa,
            params,
            batch,
            dropout,
        };
        workspace::deal(batch.rows, threads, shards);
        each(&mut *shards, |shard| {
            shard.encode(network, inputs);
            shard.decode(network, inputs);
            shard.transpose(network, inputs);
        });
        keep(batch, shards, kept);
        nll.clear();
        nll.resize(batch.rows, 0.0);
        let decoder = network.decoder();
        let mut tops: Vec<_> = shards
            .iter_mut()
            .map(|shard| {
                let span = shard.span(network, batch, decoder);
                let top = shard.stacks[decoder]
                    .layers
                    .last()
                    .expect("at least one layer");
                Top {
                    hidden: &top.cells[0].hidden_transposed,
                    columns: span.columns() + span.width(),
                    skip: span.width(),
                    d_hidden: &mut shard.d_top,
                }
            })
            .collect();
        let out = gradient.as_deref_mut();
        network.projection.run(
            isa,
            compute.precision,
            threads,
            params,
            kept,
            &mut tops,
            nll,
            out,
            projection,
        );
        if let Some(gradient) = gradient {
            each(&mut *shards, |shard| shard.backward(network, inputs));
            network.add_weights(isa, threads, batch, shards, gradient);
            for shard in &*shards {
                shard.add_embeddings(network, batch, gradient);
            }
        }
        Ok(Loss {
            nll: nll.iter().sum(),
            words: kept.len() as u64,
        })
    }

    /// Whether a batch has the shape that it says and words of the vocabularies only.
    fn check(&self, batch: &SentenceBatch) -> Result<(), Error> {
        for (name, size) in [
            ("rows of a batch", batch.rows),
            ("source_len of a batch", batch.source_len),
            ("target_len of a batch", batch.target_len),
        ] {
            if size == 0 {
                return Err(Error::ZeroSize(name));
            }
        }
        let (found, expected) = (batch.sources.len(), self.spec.utterances());
        if found != expected {
            return Err(Error::BatchShape {
                name: "the list of sources",
                found,
                expected,
            });
        }
        for source in &batch.sources {
            let len = batch.rows * batch.source_len;
            check_words("a source", source, len, self.spec.source_size)?;
        }
        let len = batch.rows * batch.target_len;
        check_words("the target", &batch.target, len, self.spec.target_size)?;
        check_words("the wanted output", &batch.gold, len, self.spec.target_size)
    }
}

fn check_words(
    name: &'static str,
    words: &[u32],
    expected: usize,
    size: usize,
) -> Result<(), Error> {
    if words.len() != expected {
        return Err(Error::BatchShape {
            name,
            found: words.len(),
            expected,
        });
    }
    match words
        .iter()
        .find(|&&word| word == 0 || word as usize > size)
    {
        Some(&index) => Err(Error::WordIndex { name, index, size }),
        None => Ok(()),
    }
}

/// Lists the positions that want a word, step by step within each shard.
fn keep(batch: &SentenceBatch, shards: &[shard::Shard], kept: &mut Vec<Kept>) {
    kept.clear();
    for (number, shard) in shards.iter().enumerate() {
        let width = groups(shard.rows.len()) * GROUP;
        for t in 0..batch.target_len {
            for row in shard.rows.clone() {
                let gold = batch.gold[row * batch.target_len + t];
                if gold != PAD {
                    let column = t * width + row - shard.rows.start;
                    kept.push(Kept {
                        shard: number,
                        column,
                        row,
                        gold: gold as usize - 1,
                    });
                }
            }
        }
    }
}
