"""A run's folder, and a checkpoint, read."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Union

#: How a checkpoint's kinds of numbers are called by NumPy and by torch.
KINDS = {"F32": ("<f4", "float32"), "F64": ("<f8", "float64"), "I64": ("<i8", "int64"), "U8": ("u1", "uint8")}


class Run:
    """A run's folder, while it goes on or afterwards."""

    def __init__(self, folder: Union[str, Path]):
        self.path = Path(folder)
        if not self.path.is_dir():
            raise FileNotFoundError(f"{self.path} is no run: there is no such folder")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def events(self) -> Iterator[Dict[str, Any]]:
        """Everything that has happened so far, as ``events.jsonl`` has it."""
        file = self.path / "events.jsonl"
        if not file.is_file():
            return
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                # The last one may be written just now.
                if line.endswith("\n"):
                    yield json.loads(line)

    def history(self) -> List[Dict[str, Any]]:
        """A record for each epoch that is done, in order: ``epoch``, ``learning_rate``, ``train`` and ``valid`` (a dict of
        means each: ``loss`` and the task's metrics by name)."""
        metrics: List[Dict[str, Any]] = []
        epochs: Dict[int, Dict[str, Any]] = {}
        for event in self.events():
            if event["event"] == "run_started":
                metrics = event["metrics"]
            elif event["event"] == "epoch_finished":
                record = {"epoch": event["epoch"], "learning_rate": event.get("learning_rate")}
                for name, key in (("train", "train"), ("valid", "validation")):
                    if event.get(key):
                        record[name] = _means(event[key], metrics)
                epochs[event["epoch"]] = record
        return [epochs[epoch] for epoch in sorted(epochs)]

    def checkpoint(self, which: str = "best") -> Path:
        """File of the best checkpoint, or of the ``"last"`` one."""
        if which not in ("best", "last"):
            raise ValueError(f"{which!r}: best or last")
        state = ".state.safetensors"
        files = [f for f in self.path.glob("*.safetensors") if not f.name.endswith(state)]
        newest = max(files, key=lambda file: file.stat().st_mtime_ns, default=None)
        if newest is None:
            raise FileNotFoundError(f"{self.path} holds no checkpoint")
        if which == "best":
            own = newest.with_name(newest.name[: -len(".safetensors")] + state)
            best = _best(own) if own.is_file() else None
            if best and (self.path / best).is_file():
                return self.path / best
        return newest

    def state_dict(self, which: str = "best") -> Dict[str, Any]:
        """Tensors of a checkpoint by name: of torch where that is loaded or can be, else of NumPy."""
        return load(self.checkpoint(which))

    def load_into(self, model: Any, which: str = "best") -> Any:
        """Gives a torch model a checkpoint's values; tensors that were not trained keep theirs."""
        unknown = model.load_state_dict(self.state_dict(which), strict=False).unexpected_keys
        if unknown:
            raise KeyError(f"the model has no {', '.join(unknown)}")
        return model


def load(path: Union[str, Path]) -> Dict[str, Any]:
    """Tensors of a checkpoint by name: a ``.safetensors`` file, or a run's folder for its best one.

    They are torch's where torch can be imported, else NumPy's. Nothing is executed.
    """
    path = Path(path)
    if path.is_dir():
        path = Run(path).checkpoint()
    header, start = _header(path)
    with path.open("rb") as file:
        file.seek(start)
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in KINDS:
            raise ValueError(f"{path}: {name} holds {entry['dtype']}, which is not read here; the package safetensors does")
        begin, end = entry["data_offsets"]
        tensors[name] = _tensor(data, KINDS[entry["dtype"]], begin, end, entry["shape"])
    return tensors


def _tensor(data: bytearray, kinds: Tuple[str, str], begin: int, end: int, shape: List[int]) -> Any:
    try:
        import torch
    except ImportError:
        import numpy

        return numpy.frombuffer(data, kinds[0], offset=begin, count=(end - begin) // numpy.dtype(kinds[0]).itemsize).reshape(shape)
    kind = getattr(torch, kinds[1])
    if begin == end:
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(data, dtype=kind, offset=begin, count=(end - begin) // kind.itemsize).view(shape)


def _header(path: Path) -> Tuple[Dict[str, Any], int]:
    """What a safetensors file says of its tensors, and where they begin."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError(f"{path} is no safetensors file")
        return json.loads(file.read(length)), 8 + length


def _best(state: Path) -> Any:
    """Name of the best checkpoint, as the newest one's state has it."""
    metadata = _header(state)[0].get("__metadata__", {})
    for value in metadata.values():
        try:
            found = json.loads(value)
        except ValueError:
            continue
        if isinstance(found, dict) and found.get("best"):
            return found["best"]
    return None


def _means(stats: Dict[str, Any], metrics: List[Dict[str, Any]]) -> Dict[str, Any]:
    count = max(1, stats["count"])
    means = {"loss": stats["loss"] / count if stats["loss"] is not None else float("nan")}
    sums = stats.get("sums", [])
    for metric in metrics:
        place = metric["value"]
        if isinstance(place, dict) and "sum" in place:
            at = place["sum"]
            means[metric["name"]] = (sums[at] if at < len(sums) and sums[at] is not None else 0.0) / count
    return means
