"""What a task is, whatever computes it."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence, Union

if typing.TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class Batch:
    """Which examples make a batch.

    ``examples`` are their numbers, below :meth:`Task.examples` (or :meth:`Task.validation_examples`). ``seed`` is a
    function of the run's seed, the epoch and the batch: what is random in a batch depends on it alone, so it does not
    matter who computes it. The generators of ``random``, NumPy and torch are seeded with it already.
    """

    examples: Sequence[int]
    number: int
    seed: int = 0
    epoch: int = 0


class Loss:
    """A batch's mean loss, and how many items it is the mean of.

    ``Loss(mean, count=tokens, accuracy=right / tokens)``: every further keyword is a metric, a mean over the same
    items, that is shown beside the loss and has its own curves. At most eight. ``count`` is the number of examples
    where it is not given. Values may be numbers, or arrays and tensors of one element. ``objective`` is what
    PyTorch differentiates, where that is not the mean.
    """

    __slots__ = ("mean", "count", "objective", "metrics")

    def __init__(self, mean: Any, count: Union[int, None] = None, objective: Any = None, **metrics: Any):
        self.mean, self.count, self.objective, self.metrics = mean, count, objective, metrics


class Missing(NotImplementedError):
    """A method that a task has to have."""


class Task:
    """A model with its data.

    Annotated attributes of a subclass are options: ``hidden: int = 128`` is ``--hidden 256`` on the command line and
    ``self.hidden`` here. A ``Path`` among them names a file that travels to workers on other hosts.

    Overridden are at least :meth:`tensors`, :meth:`examples` and :meth:`gradient`.
    """

    #: Examples of a batch.
    batch_size: int
    #: Names of tables (tensors of two dimensions) of which a batch touches few rows, such as embeddings: only these
    #: rows are kept and sent. Their gradients are written by ``g[name][row] += …`` as all others are.
    rows: Sequence[str] = ()
    #: Options of ``dsgd train`` for which this task knows a better default, such as ``["--optimizer", "adam"]``.
    defaults: Sequence[str] = ()
    #: Whether the loss is a mean negative log-likelihood in nats: its exponential is shown.
    perplexity: bool = False
    #: Metrics of which more is better.
    higher: Sequence[str] = ("accuracy", "auc", "bleu", "f1", "precision", "recall")
    #: The metric that the best checkpoint is chosen by; the loss where it is not said.
    best: Union[str, None] = None
    #: Whether workers may share a batch (``--mode split``, the default on one machine): its gradient is then the mean of its
    #: parts', weighted by their examples, as in DistributedDataParallel. False where examples of a batch depend on each
    #: other, as with batch normalization.
    divisible: bool = True

    def __init__(self, **values: Any):
        for name, value in values.items():
            setattr(self, name, value)

    def setup(self) -> None:
        """Opens what is needed to compute; called once in each process, after the options are set."""

    def tensors(self) -> Mapping[str, "numpy.ndarray"]:
        """The model's tensors by name, with their initial values (``float32``)."""
        raise Missing(f"{type(self).__name__}.tensors: return names and initial arrays")

    def examples(self) -> int:
        """Number of training examples."""
        raise Missing(f"{type(self).__name__}.examples: return how many training examples there are")

    def validation_examples(self) -> int:
        """Number of validation examples; 0 where there are none."""
        return 0

    def gradient(self, p: Mapping[str, Any], batch: Batch, g: Mapping[str, Any]) -> Union[float, Loss]:
        """Adds the gradient of the batch's mean loss to ``g``, which is zero, and returns that loss.

        ``p`` and ``g`` hold arrays of the tensors' shapes by name. ``p`` is not written to.
        """
        raise Missing(f"{type(self).__name__}.gradient: add the gradient to g, return the mean loss")

    def evaluate(self, p: Mapping[str, Any], batch: Batch) -> Union[float, Loss]:
        """The mean loss of a batch of validation examples."""
        raise Missing(f"{type(self).__name__}.evaluate: return the mean loss of validation examples")

    def report(self, p: Mapping[str, Any]) -> Mapping[str, Any]:
        """Figures that ``dsgd eval`` shows beside the loss, such as BLEU."""
        return {}

    def describe(self) -> Sequence[str]:
        """Lines about model and data that are shown when a run starts."""
        return ()

    def metadata(self) -> Mapping[str, str]:
        """What a checkpoint must carry besides tensors to be of use alone, such as a vocabulary."""
        return {}


@dataclass
class Option:
    """An option of a task: an annotated attribute."""

    name: str
    kind: Any
    default: Any = None
    is_required: bool = False

    def value(self, text: str) -> Any:
        """What was typed, as the attribute's type has it."""
        kind = self.kind
        if kind is bool:
            words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            if text.lower() not in words:
                raise ValueError(f"--{self.flag} {text}: true or false")
            return words[text.lower()]
        try:
            return kind(text)
        except ValueError:
            name = getattr(kind, "__name__", str(kind))
            raise ValueError(f"--{self.flag} {text}: must be {name}") from None

    @property
    def flag(self) -> str:
        return self.name.replace("_", "-")


#: Attributes of our own classes that are options of every task.
OURS = ("batch_size", "device", "micro_batch", "precision", "loaders", "best")


def options(cls: type) -> Dict[str, Option]:
    """The options of a task: annotated attributes of its class and of those above it."""
    found: Dict[str, Option] = {}
    for level in reversed(cls.__mro__):
        ours = level.__module__.split(".")[0] == __package__
        hints = {} if level is object else typing.get_type_hints(level)
        for name in level.__dict__.get("__annotations__", {}):
            if name.startswith("_") or typing.get_origin(hints[name]) is typing.ClassVar:
                continue
            if ours and name not in OURS:
                continue
            kind = _plain(hints[name])
            if kind not in (bool, int, float, str, Path):
                raise TypeError(f"option {name} of {cls.__name__} is {hints[name]}: bool, int, float, str or Path")
            required = not hasattr(cls, name) and not ours
            found[name] = Option(name, kind, getattr(cls, name, None), required)
    return found


def made(cls: type, typed: Mapping[str, str]) -> Task:
    """A task with the options that were typed."""
    known = options(cls)
    values: Dict[str, Any] = {}
    for name, text in typed.items():
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known)
            flags = ", ".join("--" + known[other].flag for other in near or known)
            hint = f"did you mean {flags}?" if near else f"it has {flags or 'none'}"
            raise ValueError(f"{cls.__name__} has no option --{name.replace('_', '-')}: {hint}")
        values[name] = known[name].value(text)
    for option in known.values():
        if option.name in values:
            continue
        if option.is_required:
            raise ValueError(f"{cls.__name__} needs --{option.flag}")
        if option.kind is Path and option.default is not None:
            values[option.name] = Path(option.default)
    return cls(**values)


def _plain(hint: Any) -> Any:
    """A type, without the None that will do as well."""
    if typing.get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        if len(kinds) == 1:
            return kinds[0]
    return hint
