//! Inference: encode sources, then extend hypotheses word by word.

use dsgd::Params;

use super::cell::{Span, room};
use super::shard::{PassInputs, Shard};
use super::stack::{Pass, StackTrack, State};
use super::{Error, Model, Workspace, check_words};
use crate::batch::SentenceBatch;
use crate::kernels::product::{Product, Size, Start, panels, straight};
use crate::kernels::softmax::{Exponentials, Largest};
use crate::kernels::transpose::groups;
use crate::kernels::{GROUP, Isa};

/// Words of a panel that are turned into rows and exponentials while they are in the cache.
const WORDS: usize = 256;

/// Where the decoder stands for some hypotheses: the state of each of its layers.
#[derive(Clone, Debug)]
pub struct DecoderState {
    /// Number of hypotheses.
    count: usize,
    hidden_size: usize,
    layers: Vec<State>,
}

impl DecoderState {
    /// Number of hypotheses.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no hypothesis.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The hypotheses of those numbers, in that order; a number may occur several times.
    ///
    /// # Panics
    /// When there is no hypothesis of one of the numbers.
    #[must_use]
    pub fn select(&self, numbers: &[usize]) -> Self {
        assert!(
            numbers.iter().all(|&n| n < self.count),
            "there are {} hypotheses",
            self.count
        );
        let pick = |from: &[f32]| {
            let mut to = vec![0.0; groups(numbers.len()) * GROUP * self.hidden_size];
            for unit in 0..self.hidden_size {
                for (new, &old) in numbers.iter().enumerate() {
                    let at = |n: usize| (n / GROUP * self.hidden_size + unit) * GROUP + n % GROUP;
                    to[at(new)] = from[at(old)];
                }
            }
            to
        };
        let layers = self
            .layers
            .iter()
            .map(|state| State {
                hidden: pick(&state.hidden),
                cell: pick(&state.cell),
            })
            .collect();
        Self {
            count: numbers.len(),
            hidden_size: self.hidden_size,
            layers,
        }
    }
}

impl Model {
    /// Reads `rows` sources of `source_len` words each: one matrix [rows, `source_len`], or for
    /// the hierarchical model one an utterance. The state has one hypothesis a row.
    ///
    /// # Panics
    /// When `params` belong to another layout.
    pub fn encode(
        &self,
        params: &Params,
        sources: &[Vec<u32>],
        rows: usize,
        workspace: &mut Workspace,
    ) -> Result<DecoderState, Error> {
        assert_eq!(
            **params.layout(),
            self.layout,
            "parameters of another model"
        );
        if rows == 0 {
            return Err(Error::ZeroSize("rows of the sources"));
        }
        let batch = SentenceBatch {
            rows,
            first_row: 0,
            source_len: sources.first().map_or(0, |source| source.len() / rows),
            target_len: 1,
            sources: sources.to_vec(),
            target: vec![crate::batch::BOS; rows],
            gold: vec![crate::batch::EOS; rows],
        };
        self.check(&batch)?;
        workspace.shards.resize_with(1, Shard::default);
        let shard = &mut workspace.shards[0];
        shard.rows = 0..rows;
        let inputs = PassInputs {
            isa: workspace.isa,
            params,
            batch: &batch,
            dropout: None,
        };
        shard.encode(&self.network, inputs);
        let len = shard.state.hidden.len();
        let zero = State {
            hidden: vec![0.0; len],
            cell: vec![0.0; len],
        };
        let mut layers = vec![zero; self.spec.layers];
        layers[0] = shard.state.clone();
        Ok(DecoderState {
            count: rows,
            hidden_size: self.spec.hidden_size,
            layers,
        })
    }

    /// Feeds one word to each hypothesis. Returns the natural logarithms of the probabilities
    /// of each next word, [hypotheses, target vocabulary] row-major (column j is the word of
    /// index j + 1), and the state after the words.
    ///
    /// # Panics
    /// When `params` belong to another layout.
    pub fn step<'w>(
        &self,
        params: &Params,
        state: &DecoderState,
        tokens: &[u32],
        workspace: &'w mut Workspace,
    ) -> Result<(&'w [f32], DecoderState), Error> {
        assert_eq!(
            **params.layout(),
            self.layout,
            "parameters of another model"
        );
        check_words("the tokens", tokens, state.count, self.spec.target_size)?;
        if tokens.is_empty() {
            return Ok((&[], state.clone()));
        }
        let (network, span) = (
            &self.network,
            Span {
                steps: 1,
                groups: groups(state.count),
            },
        );
        let mut track = StackTrack::default();
        let stack = &network.stacks[network.decoder()];
        let input = stack.input(span, &mut track);
        let (width, table) = (network.embedding, params.get(network.target));
        for (n, &token) in tokens.iter().enumerate() {
            let row = &table[(token as usize - 1) * width..token as usize * width];
            for (unit, &value) in row.iter().enumerate() {
                input[(n / GROUP * width + unit) * GROUP + n % GROUP] = value;
            }
        }
        let pass = Pass {
            isa: workspace.isa,
            params,
            dropout: None,
        };
        stack.forward(pass, span, &state.layers, &mut track);
        let layers = stack.states(span, &track);
        let top = &layers.last().expect("at least one layer").hidden;
        let log_probs = self.log_softmax(params, top, state.count, workspace);
        Ok((log_probs, DecoderState { layers, ..*state }))
    }

    fn log_softmax<'w>(
        &self,
        params: &Params,
        hidden: &[f32],
        count: usize,
        workspace: &'w mut Workspace,
    ) -> &'w [f32] {
        let (words, depth) = (self.spec.target_size, self.spec.hidden_size);
        let projection = &self.network.projection;
        let logits = room(&mut workspace.logits, groups(count) * GROUP * words);
        Product {
            size: Size {
                rows: words,
                columns: groups(count) * GROUP,
                depth,
            },
            a: params.get(projection.weight),
            left: straight(depth, depth),
            b: hidden,
            right: panels(depth),
            c: &mut *logits,
            out: panels(words),
            start: Start::Bias(params.get(projection.bias)),
        }
        .run(workspace.isa);
        let isa = workspace.isa;
        let log_probs = room(&mut workspace.log_probs, count * words);
        let rows = log_probs.chunks_mut(words * GROUP);
        for (panel, rows) in logits.chunks_exact_mut(words * GROUP).zip(rows) {
            log_softmax_of_panel(isa, panel, rows, words);
        }
        log_probs
    }
}

/// From logits of one panel [words][16] to rows [words] of log-probabilities; leaves exponentials in
/// the panel.
fn log_softmax_of_panel(isa: Isa, panel: &mut [f32], rows: &mut [f32], words: usize) {
    let mut most = [f32::NEG_INFINITY; GROUP];
    isa.run(Largest {
        logits: panel,
        most: &mut most,
    });
    let mut sums = [0.0; GROUP];
    for (number, block) in panel.chunks_mut(WORDS * GROUP).enumerate() {
        for (lane, row) in rows.chunks_exact_mut(words).enumerate() {
            let to = row[number * WORDS..].iter_mut();
            for (to, lanes) in to.zip(block.chunks_exact(GROUP)) {
                *to = lanes[lane];
            }
        }
        let of_block = isa.run(Exponentials {
            logits: block,
            reference: &most,
        });
        for (sum, more) in sums.iter_mut().zip(of_block) {
            *sum += f64::from(more);
        }
    }
    for (lane, row) in rows.chunks_exact_mut(words).enumerate() {
        let log_sum = f64::from(most[lane]) + sums[lane].ln();
        for z in row {
            *z = (f64::from(*z) - log_sum) as f32;
        }
    }
}
