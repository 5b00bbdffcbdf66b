"""A step of a millisecond, by dsgd and in a plain loop: what exchange, words and update cost.

    python tools/bench/peers/small_step.py PROGRAM      # such as target/release/dsgd; prints five pairs and their median
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "crates/dsgd-python/python"))

import torch
import torch.nn as nn
import torch.nn.functional as F

import dsgd

EXAMPLES, SIZE, EPOCHS = 6400, 40, 20
PICTURES = torch.randn(EXAMPLES, 256, generator=torch.Generator().manual_seed(1))
CLASSES = torch.randint(0, 10, (EXAMPLES,), generator=torch.Generator().manual_seed(2))


class Small(dsgd.torch.Torch):
    batch_size = SIZE

    def model(self):
        return nn.Sequential(nn.Linear(256, 384), nn.ReLU(), nn.Linear(384, 90), nn.ReLU(), nn.Linear(90, 10))

    def data(self):
        return range(EXAMPLES), None

    def collate(self, rows):
        return PICTURES[rows], CLASSES[rows]

    def loss(self, model, batch):
        return F.cross_entropy(model(batch[0]), batch[1])


def loop() -> float:
    """Steps a second of a plain loop, with what a run does: shuffled batches, clipping, AdaGrad, the loss as a number."""
    torch.set_num_threads(1)
    task = Small()
    model, order = task.model(), list(range(EXAMPLES))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
    begun = time.perf_counter()
    for epoch in range(EPOCHS + 1):
        if epoch == 1:
            begun = time.perf_counter()
        random.shuffle(order)
        for at in range(0, EXAMPLES, SIZE):
            optimizer.zero_grad()
            loss = task.loss(model, task.collate(order[at : at + SIZE]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
            optimizer.step()
            loss.item()
    return EPOCHS * EXAMPLES // SIZE / (time.perf_counter() - begun)


def run(program: str) -> float:
    """Steps a second of a run with one worker, without its first epoch."""
    with tempfile.TemporaryDirectory() as folder:
        words = [program, "train", __file__, "--python", sys.executable, "-n", "1", "--threads", "1", "--plain"]
        words += ["--epochs", str(EPOCHS + 1), "--save-every", "1000000", "--run-dir", folder + "/run"]
        subprocess.run(words, check=True, capture_output=True)
        events = [json.loads(line) for line in open(folder + "/run/events.jsonl")]
    at = [event["at_secs"] for event in events if event["event"] == "step"]
    first = EXAMPLES // SIZE
    return (len(at) - first) / (at[-1] - at[first - 1])


if __name__ == "__main__":
    shares = []
    for _ in range(5):
        ours, plain = run(sys.argv[1]), loop()
        shares.append(ours / plain)
        print(f"loop {plain:.0f} steps/s, dsgd {ours:.0f}: {shares[-1]:.2f}")
    print(f"median {statistics.median(shares):.2f}")
