"""Train your own model on the machines you have.

A task is a class: :class:`dsgd.torch.Torch` for a PyTorch model, :class:`dsgd.Task` for anything else that computes
gradients. ``dsgd.main(MyTask)`` makes its file a program: ``python my_task.py train -n 4``.
"""

from .main import check, main, train
from .run import Run, load
from .task import Batch, Loss, Task

__all__ = ["Batch", "Loss", "Run", "Task", "check", "load", "main", "torch", "train"]


def __getattr__(name: str):
    # Loaded when it is first named, so that nothing here needs torch.
    if name == "torch":
        import importlib

        return importlib.import_module(".torch", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
