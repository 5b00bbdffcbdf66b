"""The demo in PyTorch: an LSTM encoder-decoder for translation, from the files that `dsgd data prepare` writes.

`dsgd train examples/seq2seq.py --train demo-train.hdf5 --valid demo-val.hdf5`. The model is that of
`dsgd train --layer-type fast`, and so are its tensors' names: a checkpoint of either is `--train-from` of the other.
"""

from pathlib import Path

import h5py
import torch
from torch import nn
from torch.nn import functional as F

import dsgd

BLANK = 1  # what sentences are padded with; words are numbered from 1


class Sentences(torch.utils.data.Dataset):
    """Pairs of sentences, and what the decoder is to say: `(source, target, target_output)`."""

    def __init__(self, file):
        with h5py.File(file) as data:
            self.sizes = int(data["source_size"][0]), int(data["target_size"][0])
            sides = [torch.from_numpy(data[name][:]).long() for name in ("source", "target", "target_output")]
        rows = (tuple(row[row != BLANK] - 1 for row in rows) for rows in zip(*sides))
        # Nothing is to be said after the last word.
        self.rows = [(source, target[: len(wanted)], wanted) for source, target, wanted in rows]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class Layer(nn.Module):
    """An LSTM layer of one bias a gate."""

    def __init__(self, width, units):
        super().__init__()
        for name, shape in {"weight_ih": (4 * units, width), "weight_hh": (4 * units, units), "bias": (4 * units,)}.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape).uniform_(-0.1, 0.1)))
        self.register_buffer("no_bias", torch.zeros(4 * units), persistent=False)

    def forward(self, words, state=None):
        if state is None:
            state = (words.new_zeros(1, words.shape[1], self.weight_hh.shape[1]),) * 2
        weights = [self.weight_ih, self.weight_hh, self.bias, self.no_bias]
        out, *state = torch._VF.lstm(words, state, weights, True, 1, 0.0, self.training, False, False)
        return out, tuple(state)


class Stack(nn.Module):
    """Layers over word vectors, with dropout between them. The state that is given begins the lowest layer."""

    def __init__(self, words, width, units, layers, dropout):
        super().__init__()
        self.embedding = nn.Embedding(words, width, sparse=True)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.rnn = nn.ModuleList(Layer(units if at else width, units) for at in range(layers))
        self.dropout = dropout

    def forward(self, words, state=None):
        x = self.embedding(words.t())
        for at, layer in enumerate(self.rnn):
            x, top = layer(F.dropout(x, self.dropout, self.training and at > 0), None if at else state)
        return x, top


class Translator(nn.Module):
    def __init__(self, sizes, width, units, layers, dropout):
        super().__init__()
        self.encoder = Stack(sizes[0], width, units, layers, dropout)
        self.decoder = Stack(sizes[1], width, units, layers, dropout)
        self.output = nn.Linear(units, sizes[1])
        for p in self.output.parameters():
            nn.init.uniform_(p, -0.1, 0.1)

    def forward(self, source, target):
        return self.decoder(target, self.encoder(source)[1])[0]


class Seq2Seq(dsgd.torch.Torch):
    train: Path
    valid: Path
    hidden_size: int = 300
    word_vec_size: int = 300
    num_layers: int = 2
    dropout: float = 0.3
    batch_size = 64
    perplexity = True

    def data(self):
        torch.set_float32_matmul_precision("medium")
        return Sentences(self.train), Sentences(self.valid)

    def model(self):
        return Translator(self.train_data.sizes, self.word_vec_size, self.hidden_size, self.num_layers, self.dropout)

    def lengths(self, data):
        return [len(source) for source, _, _ in data.rows]

    def collate(self, rows):
        source, target, wanted = zip(*rows)
        padded = (nn.utils.rnn.pad_sequence(side, batch_first=True) for side in (target, wanted))
        return torch.stack(source), *padded

    def loss(self, model, batch):
        source, target, wanted = batch
        keep = wanted.t() != 0
        out, gold = model(source, target)[keep], wanted.t()[keep]
        # Summed over words, divided by sentences, as the demo does.
        total = F.cross_entropy(model.output(out), gold, reduction="sum")
        return dsgd.Loss(total / len(gold), count=len(gold), objective=total / len(source))


if __name__ == "__main__":
    dsgd.main(Seq2Seq)
