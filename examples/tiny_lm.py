"""A small language model: a transformer of two layers that learns the letters of a text.

`dsgd train examples/tiny_lm.py --text README.md -n 2`
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import dsgd


class Pieces(torch.utils.data.Dataset):
    """Overlapping pieces of a text, as numbers of its bytes."""

    def __init__(self, text, length):
        self.bytes, self.length = torch.tensor(list(text)), length

    def __len__(self):
        return (len(self.bytes) - 1) // (self.length // 2) - 1

    def __getitem__(self, index):
        start = index * (self.length // 2)
        return self.bytes[start : start + self.length + 1]


class Transformer(nn.Module):
    def __init__(self, width, length):
        super().__init__()
        self.letters, self.places = nn.Embedding(256, width), nn.Embedding(length, width)
        nn.init.normal_(self.letters.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, 256, bias=False)
        self.output.weight = self.letters.weight  # tied: it is trained, and travels, once

    def forward(self, letters):
        x = self.letters(letters) + self.places(torch.arange(letters.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(letters.shape[1])
        return self.output(self.norm(self.layers(x, mask, is_causal=True)))


class TinyLM(dsgd.torch.Torch):
    text: Path
    width: int = 64
    length: int = 64
    batch_size = 16
    perplexity = True
    defaults = ["--optimizer", "adamw", "--learning-rate", "0.003", "--weight-decay", "0.1", "--epochs", "4"]

    def data(self):
        text = Path(self.text).read_bytes()
        cut = len(text) * 9 // 10
        return Pieces(text[:cut], self.length), Pieces(text[cut:], self.length)

    def model(self):
        return Transformer(self.width, self.length)

    def loss(self, model, letters):
        scores = model(letters[:, :-1])
        return dsgd.Loss(F.cross_entropy(scores.flatten(0, 1), letters[:, 1:].flatten()), count=letters[:, 1:].numel())


if __name__ == "__main__":
    dsgd.main(TinyLM)
