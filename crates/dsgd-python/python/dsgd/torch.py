"""PyTorch models as tasks."""

from __future__ import annotations

import mmap
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import nn

from .loading import Loader, cuts
from .seeds import seed_all
from .task import Batch, Loss, Missing, Task

__all__ = ["Torch"]


class Torch(Task):
    """A PyTorch model with its data.

    ::

        class Digits(dsgd.torch.Torch):
            hidden: int = 128
            def model(self): return nn.Sequential(nn.Flatten(), nn.Linear(784, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 10))
            def data(self):  return train_set, test_set
            def loss(self, model, batch): return F.cross_entropy(model(batch[0]), batch[1])

    Trained are the parameters that require a gradient; tied ones once. An ``nn.Embedding(sparse=True)`` is kept and sent
    by its touched rows. The optimizer is the run's (``--optimizer``, or :attr:`defaults`).
    """

    batch_size = 32
    #: ``"bf16"`` computes in :class:`torch.autocast` of bfloat16.
    precision: Optional[str] = None
    #: Examples that are computed at once; a batch's gradient is added up of so many. All of a batch where it is None.
    micro_batch: Optional[int] = None
    #: Processes of each worker that load examples while it computes, as a ``DataLoader``'s; 0 loads them in between.
    loaders: int = 0
    #: Where it computes: ``"cpu"``, ``"cuda"``, ``"mps"``; a GPU where there is one if it is None.
    device: Optional[str] = None

    def model(self) -> nn.Module:
        """The model, with its initial values. Called once in each process."""
        raise Missing(f"{type(self).__name__}.model: return a torch.nn.Module")

    def data(self) -> Tuple[Any, Any]:
        """Training and validation data, each with ``len()`` and ``[i]``; the second may be None."""
        raise Missing(f"{type(self).__name__}.data: return (training data, validation data or None)")

    def collate(self, rows: List[Any]) -> Any:
        """A batch from examples."""
        return torch.utils.data.default_collate(rows)

    def loss(self, model: nn.Module, batch: Any) -> Union[torch.Tensor, Loss]:
        """The batch's mean loss, as a tensor or in a :class:`dsgd.Loss`. By default what the model itself calls so."""
        return model(**batch).loss

    def group(self, name: str, p: nn.Parameter) -> Dict[str, Any]:
        """How steps change a parameter: ``{"rate": 0.1}`` multiplies the learning rate, ``{"decay": False}`` takes weight
        decay away. Vectors, such as biases and the weights of normalization, do not decay."""
        return {"decay": p.dim() > 1}

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer of torch's with which workers take their own steps, in place of the run's (``--optimizer``): what is
        sent is what its steps have changed. Its state, learning rate and schedule are its own, one for each worker, and
        end with it. The mode is then ``local`` unless another is typed."""
        raise Missing(f"{type(self).__name__}.optimizer: the run's steps are taken")

    def lengths(self, data: Any) -> Optional[Sequence[int]]:
        """A number for each example: those of a batch have the same, so nothing has to be padded. None where any
        examples make a batch."""
        return None

    def evaluate_batch(self, model: nn.Module, batch: Any) -> Union[torch.Tensor, Loss]:
        """The mean loss of validation examples, without a gradient; :meth:`loss` where it is not overridden."""
        return self.loss(model, batch)

    def figures(self, model: nn.Module) -> Mapping[str, Any]:
        """Figures that ``dsgd eval`` shows beside the loss, such as BLEU."""
        return {}

    def setup(self) -> None:
        self.train_data, self.valid_data = self.data()
        for data in (self.train_data, self.valid_data):
            if data is not None and not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
                raise TypeError(f"{type(data).__name__} has no len() and [i]: streams have no numbers; index it")

    def examples(self) -> int:
        return len(self.train_data)

    def validation_examples(self) -> int:
        return 0 if self.valid_data is None else len(self.valid_data)

    def engine(self) -> "Engine":
        engine = Engine(self)
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in engine.module.modules()):
            # A batch's examples depend on each other.
            self.divisible = False
        if engine.steps:
            # Half a step twice is no step.
            self.divisible = False
            # What is added needs no state at the server.
            proposed = {"--mode": "local", "--optimizer": "sgd"}
            for option in proposed.keys() - set(self.defaults):
                self.defaults = [option, proposed[option], *self.defaults]
        return engine


class Engine:
    """Computes a :class:`Torch` task with parameters and gradients in shared memory."""

    def __init__(self, task: Torch):
        self.task = task
        for name, value, least in (("micro_batch", task.micro_batch, 1), ("loaders", task.loaders, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}: {least} or more")
        model = task.model()
        #: What computes; of a model that torch.compile has wrapped, the names are those of the one inside.
        self.module = model
        self.own = own = getattr(model, "_orig_mod", model)
        named = [(name, p) for name, p in own.named_parameters() if p.requires_grad]
        if not named:
            raise ValueError("no parameter of the model requires a gradient")
        self.named: List[Tuple[str, nn.Parameter]] = named
        self.added = [(name, b) for name, b in persistent_buffers(own) if b.is_floating_point()]
        self.tables = {
            f"{prefix}.weight" if prefix else "weight"
            for prefix, m in own.named_modules()
            if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.sparse
        }
        #: Whether the task takes steps with an optimizer of its own.
        self.steps = type(task).optimizer is not Torch.optimizer
        if self.steps and self.tables:
            raise ValueError(f"optimizer() changes whole tensors: let {sorted(self.tables)[0]} not be sparse")
        self.device = torch.device("cpu")
        self.loader = Loader(task, task.loaders)

    def frameworks(self) -> Dict[str, str]:
        return {"torch": torch.__version__}

    def tensors(self) -> List[Dict[str, Any]]:
        def rule(name: str, p: nn.Parameter) -> Dict[str, Any]:
            return {"added": True} if self.steps else self.task.group(name, p)

        trained = [{"name": n, "shape": list(p.shape), "rows": n in self.tables, **rule(n, p)} for n, p in self.named]
        return trained + [{"name": n, "shape": list(b.shape), "rows": False, "added": True} for n, b in self.added]

    def lengths(self) -> Dict[str, Any]:
        task = self.task
        sets = {"lengths": task.train_data, "validation_lengths": task.valid_data}
        found = {name: task.lengths(data) for name, data in sets.items() if data is not None}
        return {name: [int(length) for length in lengths] for name, lengths in found.items() if lengths is not None}

    def share(self, params: mmap.mmap, gradient: mmap.mmap, threads: int, slot: int) -> None:
        torch.set_num_threads(threads)
        self.device = device(self.task.device, slot)
        # Kept alive as long as the views of them.
        self.regions = (params, gradient)
        self.module.to(self.device)
        at = 0

        def views(tensor: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
            """Where its values are in the shared memory, and where its gradient is to be."""

            def view(region: mmap.mmap) -> torch.Tensor:
                count = tensor.numel()
                if count == 0:
                    return torch.empty(tensor.shape)
                return torch.frombuffer(region, dtype=torch.float32, offset=4 * at, count=count).view(tensor.shape)

            return view(params), view(gradient)

        # Parameters whose memory is the shared one, those that are copied from and to it, and tables by their rows.
        self.views: List[Tuple[str, nn.Parameter, torch.Tensor, torch.Tensor]] = []
        self.shared, self.copied, self.sparse = [], [], []
        for name, p in self.named:
            here, to = views(p)
            self.views.append((name, p, here, to))
            # What is shared is read here: whoever takes steps has values of its own.
            is_shared = self.device.type == "cpu" and p.dtype == torch.float32 and not self.steps
            if is_shared:
                here.copy_(p.detach())
                p.data = here
            else:
                self.copied.append((p, here))
            if name in self.tables:
                self.sparse.append((name, p, to))
            else:
                self.shared.append((p, to, is_shared))
            at += p.numel()
        self.gradients = [to for _, to, is_shared in self.shared if is_shared]
        self.buffers: List[Tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        # Asked for anew: moving a module to a device makes other ones.
        buffers = dict(self.own.named_buffers())
        for name, _ in self.added:
            self.buffers.append((buffers[name], *views(buffers[name])))
            at += buffers[name].numel()
        # Anew for each place: what was tried before is no part of the run.
        self.optimizer = self.task.optimizer(self.module) if self.steps else None
        numbers = 4 * at
        self.numbers: Dict[str, torch.Tensor] = {}
        for name, p in self.named:
            if name in self.tables:
                self.numbers[name] = torch.frombuffer(gradient, dtype=torch.int32, offset=numbers, count=len(p))
                numbers += 4 * len(p)

    def init(self) -> None:
        # A model that was loaded from files has its values; others are made of the seed.
        model = self.task.model()
        model = getattr(model, "_orig_mod", model)
        fresh = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name, _, here, _ in self.views:
            here.copy_(fresh[name].detach())
        for (name, _), (_, here, _) in zip(self.added, self.buffers):
            here.copy_(fresh[name])

    def train(self, batch: Batch, following: Sequence[Batch] = ()) -> Tuple[Any, Dict[str, int]]:
        parts = self.loader.load(True, batch)
        self.loader.expect(following)
        self.set_mode(True)
        self.fetch()
        self.zero()
        # However much was random in loading.
        seed_all(batch.seed)
        total = None
        for rows, cut in zip(parts, cuts(batch.examples, self.task.micro_batch)):
            loss = self.compute(self.task.loss, rows)
            objective = loss
            if isinstance(loss, Loss):
                objective = loss.mean if loss.objective is None else loss.objective
            share = len(cut) / len(batch.examples)
            (objective * share if len(parts) > 1 else objective).backward()
            total = added(total, detached(loss, len(cut)))
        return total, self.store()

    def evaluate(self, batch: Batch) -> Any:
        [rows] = self.loader.load(False, batch)
        self.set_mode(False)
        self.fetch()
        seed_all(batch.seed)
        with torch.no_grad():
            loss = self.compute(self.task.evaluate_batch, rows)
        return detached(loss, len(batch.examples))

    def report(self) -> Mapping[str, Any]:
        self.set_mode(False)
        self.fetch()
        with torch.no_grad():
            return self.task.figures(self.module)

    def compute(self, loss: Any, rows: Any) -> Any:
        rows = moved(rows, self.device)
        if self.task.precision == "bf16":
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                return loss(self.module, rows)
        return loss(self.module, rows)

    def set_mode(self, training: bool) -> None:
        """Only where it changes: parts of a model may have been set otherwise by the user."""
        if self.module.training != training:
            self.module.train(training)

    def fetch(self) -> None:
        """Brings parameters to where they are computed with."""
        for p, here in self.copied:
            p.data.copy_(here)
        for buffer, here, _ in self.buffers:
            buffer.copy_(here)

    def zero(self) -> None:
        if self.gradients:
            torch._foreach_zero_(self.gradients)
        for p, to, is_shared in self.shared:
            p.grad = to if is_shared else None
        for _, p, _ in self.sparse:
            p.grad = None

    def store(self) -> Dict[str, int]:
        """Brings gradients to where they are read; says how many rows of each table there are."""
        if self.optimizer is not None:
            self.step(self.optimizer)
        else:
            for p, to, _ in self.shared:
                if p.grad is None:
                    to.zero_()
                elif p.grad is not to:
                    to.copy_(p.grad)
        rows = {}
        for name, p, to in self.sparse:
            rows[name] = 0
            if p.grad is not None:
                grad = p.grad.coalesce()
                numbers, values = grad.indices()[0], grad.values()
                rows[name] = len(numbers)
                self.numbers[name][: len(numbers)] = numbers
                to.view(-1)[: values.numel()] = values.reshape(-1)
            p.grad = None
        for buffer, here, to in self.buffers:
            # What the batch has added.
            to.copy_(buffer)
            to.sub_(here)
        return rows

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """A step of the task's own optimizer: what it has changed is what is sent."""
        optimizer.step()
        for _, p, here, to in self.views:
            to.copy_(p.data)
            to.sub_(here)
            if not torch.isfinite(to.sum()):
                raise ValueError("a step of optimizer() is not finite")


def device(wanted: Optional[str], slot: int) -> torch.device:
    """The device of a worker: GPUs of a host are dealt out to its workers in turn."""
    if wanted is None:
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        return torch.device("cuda", slot % max(1, torch.cuda.device_count()))
    return torch.device(wanted)


def persistent_buffers(module: nn.Module) -> List[Tuple[str, torch.Tensor]]:
    saved = module.state_dict(keep_vars=True)
    return [(name, value) for name, value in module.named_buffers() if name in saved]


def moved(batch: Any, to: torch.device) -> Any:
    """A batch on a device."""
    if to.type == "cpu":
        return batch
    if hasattr(batch, "to"):
        return batch.to(to)
    if isinstance(batch, Mapping):
        return {key: moved(value, to) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        values = [moved(value, to) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)
    return batch


def detached(loss: Any, examples: int) -> Loss:
    """A loss as numbers."""
    if loss is None:
        raise TypeError("loss returned None: return the batch's mean loss")
    if not isinstance(loss, Loss):
        loss = Loss(loss)

    def number(value: Any) -> float:
        return float(value.detach() if isinstance(value, torch.Tensor) else value)

    values = {name: number(value) for name, value in loss.metrics.items()}
    return Loss(number(loss.mean), examples if loss.count is None else int(loss.count), **values)


def added(sum: Optional[Loss], more: Loss) -> Loss:
    """The mean over the items of both."""
    if sum is None:
        return more
    counts = (sum.count or 0, more.count or 0)

    def mean(a: float, b: float) -> float:
        return (a * counts[0] + b * counts[1]) / max(1, counts[0] + counts[1])

    metrics = {name: mean(sum.metrics[name], more.metrics[name]) for name in sum.metrics}
    return Loss(mean(sum.mean, more.mean), counts[0] + counts[1], **metrics)
