"""A straight line through points, by NumPy: a task without a framework. `python line.py train -n 2`"""

import numpy as np

import dsgd

x = np.linspace(-1, 1, 1000, dtype="f4")
y = 3 * x - 2


class Line(dsgd.Task):
    batch_size = 10
    defaults = ["--optimizer", "sgd", "--learning-rate", "0.1", "--epochs", "3"]

    def tensors(self):
        return {"slope": np.zeros(1), "intercept": np.zeros(1)}

    def examples(self):
        return len(x)

    def validation_examples(self):
        return 100

    def gradient(self, p, batch, g):
        i = batch.examples
        error = p["slope"] * x[i] + p["intercept"] - y[i]
        g["slope"] += 2 * np.mean(error * x[i])
        g["intercept"] += 2 * np.mean(error)
        return np.mean(error**2)

    def evaluate(self, p, batch):
        i = batch.examples
        return np.mean((p["slope"] * x[i] + p["intercept"] - y[i]) ** 2)


if __name__ == "__main__":
    dsgd.main(Line)
