"""Digits as somebody might write them: glyphs of 5 by 7 dots, moved, slanted and with noise, in pictures of 16 by 16."""

import torch

GLYPHS = [
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00010 00100 01000 11111",
    "11111 00010 00100 00010 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
]
DOTS = torch.tensor([[[float(dot) for dot in row] for row in glyph.split()] for glyph in GLYPHS])


class Digits(torch.utils.data.Dataset):
    """Pictures `[1, 16, 16]` and which digit each is; the number of a picture decides what it looks like."""

    def __init__(self, length, first):
        self.length, self.first = length, first

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        random = torch.Generator().manual_seed(self.first + index)
        digit = int(torch.randint(10, (1,), generator=random))
        turn = 0.5 * torch.rand(4, generator=random) - 0.25
        place = torch.tensor([[[1.4 + turn[0], turn[1], turn[2]], [turn[1], 1.4 + turn[0], turn[3]]]])
        grid = torch.nn.functional.affine_grid(place, (1, 1, 16, 16), align_corners=False)
        picture = torch.nn.functional.grid_sample(DOTS[digit][None, None], grid, align_corners=False)[0]
        return picture + 0.2 * torch.randn(1, 16, 16, generator=random), digit


train_set, test_set = Digits(4000, 0), Digits(1000, 1_000_000)
