"""Examples of batches, loaded by processes of their own while others are computed."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .seeds import seed_all
from .task import Batch

__all__ = ["Loader"]

#: What a loading process loads for: it is forked, and has it from there.
LOADS: Any = None

Key = Tuple[int, int, int, Tuple[int, ...]]


class Loader:
    """Loads batches of a :class:`dsgd.torch.Torch`, here or by ``processes`` of their own.

    What is random in an example is seeded with the batch's seed, wherever it is loaded: it does not matter how many
    processes there are, nor what was loaded in vain.
    """

    def __init__(self, task: Any, processes: int):
        self.task, self.processes = task, processes
        self.pool: Optional[ProcessPoolExecutor] = None
        self.expected: Dict[Key, Future] = {}

    def expect(self, batches: Sequence[Batch]) -> None:
        """These training batches are likely to be wanted next, in this order."""
        before, self.expected = self.expected, {}
        for batch in batches:
            known = before.pop(key(batch)) if key(batch) in before else None
            self.expected[key(batch)] = known or self.begin(True, batch)
        # Only the newest guess is good.
        for future in before.values():
            future.cancel()

    def load(self, training: bool, batch: Batch) -> List[Any]:
        """The batch, as as many collated parts as it is computed in."""
        if not self.processes:
            return loaded(self.task, training, batch)
        future = self.expected.pop(key(batch), None) if training else None
        for begun in (future, None):
            try:
                return (begun or self.begin(training, batch)).result()
            except BrokenProcessPool:
                # What was killed while it loaded this in advance says nothing of the batch.
                self.pool = None
                if begun is None:
                    raise RuntimeError("a process that loads data was killed, for want of memory perhaps") from None
            except Exception:
                # It fails here as it did there, and here it can be said where.
                break
        return loaded(self.task, training, batch)

    def begin(self, training: bool, batch: Batch) -> Future:
        global LOADS
        if self.pool is None:
            import torch.multiprocessing as multiprocessing

            LOADS = self.task
            context = multiprocessing.get_context("fork")
            self.pool = ProcessPoolExecutor(self.processes, context, begun, (os.getpid(),))
        try:
            return self.pool.submit(load_here, training, batch)
        except BrokenProcessPool:
            # One was killed since: the others have ended with it.
            self.pool = None
            return self.begin(training, batch)


def key(batch: Batch) -> Key:
    return (batch.epoch, batch.number, batch.seed, tuple(batch.examples))


def loaded(task: Any, training: bool, batch: Batch) -> List[Any]:
    """Loads a batch in this process."""
    seed_all(batch.seed)
    data = task.train_data if training else task.valid_data
    return [task.collate([data[i] for i in cut]) for cut in cuts(batch.examples, task.micro_batch if training else None)]


def cuts(examples: Sequence[int], size: Optional[int]) -> List[Sequence[int]]:
    """A batch's examples, so many at a time."""
    size = size or max(1, len(examples))
    return [examples[at : at + size] for at in range(0, len(examples), size)]


def begun(parent: int) -> None:
    """Runs once in each loading process."""
    import torch

    torch.set_num_threads(1)

    def watch() -> None:
        # Who asks for batches may be killed, and its end of the pipe is held by its other children.
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def load_here(training: bool, batch: Batch) -> List[Any]:
    return loaded(LOADS, training, batch)
