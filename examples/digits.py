"""Handwritten-looking digits, by PyTorch. `python digits.py train -n 4`, `dsgd train digits.py -H lab1,lab2`"""

import dsgd, torch.nn as nn, torch.nn.functional as F
from digits_data import train_set, test_set


class Digits(dsgd.torch.Torch):
    hidden: int = 128
    defaults = ["--optimizer", "adam", "--learning-rate", "0.001", "--epochs", "3"]
    def model(self): return nn.Sequential(nn.Flatten(), nn.Linear(256, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 10))
    def data(self): return train_set, test_set
    def loss(self, model, batch):
        scores = model(batch[0])
        return dsgd.Loss(F.cross_entropy(scores, batch[1]), accuracy=(scores.argmax(1) == batch[1]).float().mean())


if __name__ == "__main__": dsgd.main(Digits)
