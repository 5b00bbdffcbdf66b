//! The sentences of one thread: everything between words and the output layer.
//!
//! A batch is dealt out to the threads in groups of 16 sentences. Sentences do not see each
//! other below the weights' gradients, so threads run from the first source word to the
//! decoder's last output, and all the way back, without waiting for each other.

use std::ops::Range;

use dsgd::{Gradient, Params, TensorId};

use super::cell::{Span, room, zeroed};
use super::network::Network;
use super::stack::{Flow, Pass, StackTrack, State, sized};
use crate::batch::SentenceBatch;
use crate::kernels::transpose::{add_row, groups, put_row, to_panels, to_transposed, zero_row};
use crate::kernels::{GROUP, Isa};

use super::dropout::Dropout;

/// What a thread keeps of its sentences.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// Its rows of the batch.
    pub(crate) rows: Range<usize>,
    /// One a stack of the network.
    pub(crate) stacks: Vec<StackTrack>,
    pub(crate) state: State,
    /// Gradient of the decoder's outputs, transposed.
    pub(crate) d_top: Vec<f32>,
    /// Gradient of each stack's words, transposed; unused for the context.
    d_words: Vec<Vec<f32>>,
    /// Gradient of the last output of each utterance, panels.
    d_ends: Vec<f32>,
    flow: Flow,
}

/// What a pass over a batch needs to know.
#[derive(Clone, Copy)]
pub(crate) struct PassInputs<'a> {
    pub(crate) isa: Isa,
    pub(crate) params: &'a Params,
    pub(crate) batch: &'a SentenceBatch,
    pub(crate) dropout: Option<Dropout>,
}

impl<'a> PassInputs<'a> {
    fn pass(&self, shard: &Shard, stack: usize) -> Pass<'a> {
        let dropout = self.dropout.map(|d| d.stack(stack, shard.rows.start));
        Pass {
            isa: self.isa,
            params: self.params,
            dropout,
        }
    }
}

impl Shard {
    /// Groups of 16 that hold its rows.
    pub(crate) fn groups(&self) -> usize {
        groups(self.rows.len())
    }

    /// The span of one stack of the network.
    pub(crate) fn span(&self, network: &Network, batch: &SentenceBatch, stack: usize) -> Span {
        let steps = if stack == network.decoder() {
            batch.target_len
        } else if Some(stack) == network.context() {
            network.utterances
        } else {
            batch.source_len
        };
        Span {
            steps,
            groups: self.groups(),
        }
    }

    /// Embeds a matrix of words as the input of a stack.
    fn embed(
        &mut self,
        network: &Network,
        inputs: PassInputs<'_>,
        stack: usize,
        table: TensorId,
        words: &[u32],
    ) {
        let span = self.span(network, inputs.batch, stack);
        let (width, features) = (span.width(), network.embedding);
        let table = inputs.params.get(table);
        let track = &mut self.stacks[stack];
        network.stacks[stack].input(span, track);
        let layer = &mut track.layers[0];
        let transposed = room(
            &mut layer.input_transposed,
            groups(features) * GROUP * span.columns(),
        );
        for t in 0..span.steps {
            for lane in 0..width {
                let column = t * width + lane;
                if lane >= self.rows.len() {
                    zero_row(features, transposed, span.columns(), column);
                    continue;
                }
                let word = words[(self.rows.start + lane) * span.steps + t] as usize - 1;
                let row = &table[word * features..(word + 1) * features];
                put_row(row, transposed, span.columns(), column);
            }
        }
        let input = &mut layer.input[..span.columns() * features];
        to_panels(transposed, features, input, span.columns(), 0);
    }

    /// Reads the source; leaves the decoder's initial state in `state`.
    pub(crate) fn encode(&mut self, network: &Network, inputs: PassInputs<'_>) {
        self.stacks
            .resize_with(network.stacks.len(), StackTrack::default);
        for u in 0..network.utterances {
            self.embed(network, inputs, u, network.source, &inputs.batch.sources[u]);
            let span = self.span(network, inputs.batch, u);
            let pass = inputs.pass(self, u);
            network.stacks[u].forward(pass, span, &[], &mut self.stacks[u]);
        }
        let mut last = 0;
        if let Some(context) = network.context() {
            let span = self.span(network, inputs.batch, context);
            let (utterances, own) = self.stacks.split_at_mut(context);
            let input = network.stacks[context].input(span, &mut own[0]);
            let ends = input.chunks_exact_mut(span.width() * network.hidden);
            let steps = inputs.batch.source_len;
            for ((stack, track), to) in network.stacks.iter().zip(utterances).zip(ends) {
                stack.last_output(Span { steps, ..span }, track, to);
            }
            let pass = inputs.pass(self, context);
            network.stacks[context].forward(pass, span, &[], &mut self.stacks[context]);
            last = context;
        }
        let span = self.span(network, inputs.batch, last);
        network.stacks[last].last_state(span, &self.stacks[last], &mut self.state);
    }

    /// Runs the decoder over the target, from `state`.
    pub(crate) fn decode(&mut self, network: &Network, inputs: PassInputs<'_>) {
        let decoder = network.decoder();
        self.embed(
            network,
            inputs,
            decoder,
            network.target,
            &inputs.batch.target,
        );
        let span = self.span(network, inputs.batch, decoder);
        let pass = inputs.pass(self, decoder);
        let initial = std::slice::from_ref(&self.state);
        network.stacks[decoder].forward(pass, span, initial, &mut self.stacks[decoder]);
    }

    /// Transposes what the output layer and the weights' gradients read.
    pub(crate) fn transpose(&mut self, network: &Network, inputs: PassInputs<'_>) {
        for stack in 0..network.stacks.len() {
            let span = self.span(network, inputs.batch, stack);
            network.stacks[stack].transpose(span, &mut self.stacks[stack]);
        }
        let span = self.span(network, inputs.batch, network.decoder());
        zeroed(
            &mut self.d_top,
            groups(network.hidden) * GROUP * span.columns(),
        );
    }

    /// From `d_top` back to the first source word.
    pub(crate) fn backward(&mut self, network: &Network, inputs: PassInputs<'_>) {
        self.d_words.resize_with(network.stacks.len(), Vec::new);
        let decoder = network.decoder();
        let span = self.span(network, inputs.batch, decoder);
        let here = room(&mut self.flow.here, span.columns() * network.hidden);
        to_panels(&self.d_top, network.hidden, here, span.columns(), 0);
        self.go_back(
            network,
            inputs,
            decoder,
            None,
            !network.frozen.target_embedding,
        );

        let state = span.width() * network.hidden;
        let start = &mut self.stacks[decoder].layers[0].cells[0];
        let d_cell = std::mem::take(&mut start.d_cell);
        sized(&mut self.state.hidden, state).copy_from_slice(&start.d_hidden[..state]);
        let encoder = network.context().unwrap_or(0);
        self.seed(network, inputs, encoder);
        let words_wanted = !network.frozen.source_embedding;
        let hred = network.context().is_some();
        self.go_back(
            network,
            inputs,
            encoder,
            Some(&d_cell[..state]),
            hred || words_wanted,
        );
        self.stacks[decoder].layers[0].cells[0].d_cell = d_cell;
        if hred {
            let ends = network.utterances * state;
            room(&mut self.d_ends, ends).copy_from_slice(&self.flow.here[..ends]);
            for u in 0..network.utterances {
                let end = &self.d_ends[u * state..(u + 1) * state];
                sized(&mut self.state.hidden, state).copy_from_slice(end);
                self.seed(network, inputs, u);
                self.go_back(network, inputs, u, None, words_wanted);
            }
        }
    }

    /// Puts `state.hidden` as the gradient of a stack's last output, and zero of the others.
    fn seed(&mut self, network: &Network, inputs: PassInputs<'_>, stack: usize) {
        let span = self.span(network, inputs.batch, stack);
        let len = span.columns() * network.hidden;
        let here = zeroed(&mut self.flow.here, len);
        here[len - self.state.hidden.len()..].copy_from_slice(&self.state.hidden);
    }

    fn go_back(
        &mut self,
        network: &Network,
        inputs: PassInputs<'_>,
        stack: usize,
        d_last_cell: Option<&[f32]>,
        input_wanted: bool,
    ) {
        let span = self.span(network, inputs.batch, stack);
        let pass = inputs.pass(self, stack);
        let (track, flow) = (&mut self.stacks[stack], &mut self.flow);
        network.stacks[stack].backward(pass, span, d_last_cell, input_wanted, track, flow);
        if input_wanted && Some(stack) != network.context() {
            let (features, columns) = (network.embedding, span.columns());
            let words = room(&mut self.d_words[stack], groups(features) * GROUP * columns);
            to_transposed(
                &flow.here[..features * columns],
                features,
                words,
                columns,
                0,
            );
        }
    }

    /// Adds the gradient of the rows of both embeddings.
    pub(crate) fn add_embeddings(
        &self,
        network: &Network,
        batch: &SentenceBatch,
        gradient: &mut Gradient,
    ) {
        for u in (0..network.utterances).filter(|_| !network.frozen.source_embedding) {
            self.add_rows(
                network,
                batch,
                u,
                network.source,
                &batch.sources[u],
                gradient,
            );
        }
        if !network.frozen.target_embedding {
            let decoder = network.decoder();
            self.add_rows(
                network,
                batch,
                decoder,
                network.target,
                &batch.target,
                gradient,
            );
        }
    }

    fn add_rows(
        &self,
        network: &Network,
        batch: &SentenceBatch,
        stack: usize,
        table: TensorId,
        words: &[u32],
        gradient: &mut Gradient,
    ) {
        let span = self.span(network, batch, stack);
        let rows = gradient.tensors_mut()[table.0].as_rows();
        for row in 0..self.rows.len() {
            for t in 0..span.steps {
                let word = words[(self.rows.start + row) * span.steps + t] as usize - 1;
                let column = t * span.width() + row;
                add_row(
                    &self.d_words[stack],
                    span.columns(),
                    column,
                    1.0,
                    rows.row(word),
                );
            }
        }
    }
}
