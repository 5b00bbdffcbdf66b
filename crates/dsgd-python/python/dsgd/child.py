"""The process that computes: orders come as lines of JSON over the socket that is its standard input.

``docs/child.md`` has the conversation. Started by dsgd as ``python -m dsgd.child SCRIPT``.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import mmap
import os
import select
import signal
import socket
import sys
import sysconfig
import threading
import traceback
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set

from . import task as tasks
from .seeds import seed_all
from .task import Batch, Loss, Task

PROTOCOL = 1

#: Folders of what was installed.
INSTALLED = {"site-packages", "dist-packages"}


class Wrong(Exception):
    """What is wrong with a script, in words that need no traceback."""


class Child:
    """A task that was loaded, and what it computes with. A method for each order; keys that are not known are ignored."""

    def __init__(self, script: Path):
        self.script = script
        self.task: Any = None
        self.engine: Any = None

    def load(self, protocol: int, options: Mapping[str, str], **order: Any) -> Dict[str, Any]:
        if protocol != PROTOCOL:
            raise Wrong(f"this package speaks version {PROTOCOL} of the conversation, not {protocol}")
        module = imported(self.script)
        cls = task_class(module, order.get("class"))
        try:
            task = tasks.made(cls, options)
        except (TypeError, ValueError) as error:
            raise Wrong(str(error)) from None
        batch_size(task)
        task.setup()
        self.task = task
        self.engine = task.engine() if hasattr(task, "engine") else Arrays(task)
        values = tasks.options(cls)
        files = {
            name: str(getattr(task, name))
            for name, option in values.items()
            if option.kind is Path and getattr(task, name) is not None
        }
        for name, path in files.items():
            if not os.path.isfile(path):
                raise Wrong(f"--{values[name].flag} {path}: there is no such file")
        return {
            "task": cls.__name__,
            "python": ".".join(map(str, sys.version_info[:3])),
            "executable": sys.executable,
            "frameworks": self.engine.frameworks(),
            "tensors": self.engine.tensors(),
            "examples": int(task.examples()),
            "validation_examples": int(task.validation_examples()),
            **self.engine.lengths(),
            "batch_size": batch_size(task),
            "divisible": bool(task.divisible),
            "loaders": int(getattr(task, "loaders", 0)),
            "perplexity": bool(task.perplexity),
            "higher": list(task.higher),
            "best": task.best,
            "defaults": [str(word) for word in task.defaults],
            "describe": [str(line) for line in task.describe()],
            "metadata": {str(key): str(value) for key, value in task.metadata().items()},
            "files": files,
            "needs": needs(self.script.parent.resolve()),
        }

    def share(self, params: str, gradient: str, threads: int, slot: int, **_: Any) -> Dict[str, Any]:
        self.engine.share(mapped(params), mapped(gradient), threads, slot)
        return {}

    def init(self, seed: int, **_: Any) -> Dict[str, Any]:
        seed_all(seed)
        self.engine.init()
        return {}

    def train(self, epoch: int, batch: int, seed: int, examples: List[int], **order: Any) -> Dict[str, Any]:
        following = [Batch(b["examples"], b["batch"], b["seed"], b["epoch"]) for b in order.get("next", ())]
        loss, rows = self.engine.train(Batch(examples, batch, seed, epoch), following)
        return {**computed(loss, len(examples)), "rows": rows}

    def evaluate(self, batch: int, examples: List[int], **_: Any) -> Dict[str, Any]:
        return computed(self.engine.evaluate(Batch(examples, batch, batch)), len(examples))

    def report(self, **_: Any) -> Dict[str, Any]:
        return {"figures": {str(name): str(value) for name, value in self.engine.report().items()}}

    def bundle(self, to: str, **_: Any) -> Dict[str, Any]:
        bundle(Path(to), self.script)
        return {}


class Arrays:
    """Computes a :class:`dsgd.Task`, with NumPy."""

    def __init__(self, task: Task):
        import numpy

        self.np, self.task = numpy, task
        self.initial = {name: numpy.asarray(value, "f4") for name, value in task.tensors().items()}
        for name in task.rows:
            if name not in self.initial or self.initial[name].ndim != 2:
                raise Wrong(f"rows names {name}, which is no tensor of two dimensions")

    def frameworks(self) -> Dict[str, str]:
        return {"NumPy": self.np.__version__}

    def tensors(self) -> List[Dict[str, Any]]:
        return [
            {"name": name, "shape": list(value.shape), "rows": name in self.task.rows}
            for name, value in self.initial.items()
        ]

    def lengths(self) -> Dict[str, Any]:
        return {}

    def share(self, params: mmap.mmap, gradient: mmap.mmap, threads: int, slot: int) -> None:
        at = 0
        self.p, self.g, self.places = {}, {}, {}
        for name, value in self.initial.items():
            def view(region: mmap.mmap) -> Any:
                return self.np.frombuffer(region, "f4", value.size, 4 * at).reshape(value.shape)

            self.p[name] = view(params)
            self.p[name].flags.writeable = False
            # A table has an array of its own, of which the touched rows are packed.
            self.g[name] = self.np.zeros_like(value) if name in self.task.rows else view(gradient)
            self.places[name] = at
            at += value.size
        numbers = 4 * at
        self.numbers = {}
        for name in self.initial:
            if name in self.task.rows:
                self.numbers[name] = self.np.frombuffer(gradient, "u4", len(self.initial[name]), numbers)
                numbers += 4 * len(self.initial[name])
        self.params, self.gradient = params, gradient

    def init(self) -> None:
        for name, value in self.task.tensors().items():
            p = self.p[name]
            p.flags.writeable = True
            p[...] = value
            p.flags.writeable = False

    def train(self, batch: Batch, following: Sequence[Batch] = ()) -> tuple:
        seed_all(batch.seed)
        for name, g in self.g.items():
            g[...] = 0
        loss = self.task.gradient(self.p, batch, self.g)
        rows = {}
        for name, numbers in self.numbers.items():
            g = self.g[name]
            touched = self.np.flatnonzero(g.any(axis=1))
            rows[name] = len(touched)
            numbers[: len(touched)] = touched
            into = self.np.frombuffer(self.gradient, "f4", len(touched) * g.shape[1], 4 * self.places[name])
            into[...] = g[touched].reshape(-1)
        return loss, rows

    def evaluate(self, batch: Batch) -> Any:
        seed_all(batch.seed)
        return self.task.evaluate(self.p, batch)

    def report(self) -> Mapping[str, Any]:
        return self.task.report(self.p)


def computed(loss: Any, examples: int) -> Dict[str, Any]:
    """A loss as it is answered."""
    if loss is None:
        raise TypeError("the loss is None: return the batch's mean loss")
    if not isinstance(loss, Loss):
        loss = Loss(loss)
    count = examples if loss.count is None else int(loss.count)
    metrics = {name: number(value) for name, value in loss.metrics.items()}
    return {"loss": number(loss.mean), "count": count, "metrics": metrics}


def number(value: Any) -> Optional[float]:
    """JSON has no number that is not finite."""
    value = float(value)
    return value if math.isfinite(value) else None


def batch_size(task: Task) -> int:
    size = getattr(task, "batch_size", None)
    if not isinstance(size, int) or size < 1:
        raise Wrong(f"{type(task).__name__} needs batch_size, how many examples a batch has; it is {size!r}")
    return size


def mapped(path: str) -> mmap.mmap:
    """A file, mapped to be read and written; an empty one has a byte of its own."""
    fd = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        return mmap.mmap(fd, size) if size else mmap.mmap(-1, 1)
    finally:
        os.close(fd)


def imported(script: Path) -> Any:
    """The script as a module, under its own name, so that what it defines can be pickled."""
    sys.path.insert(0, str(script.parent))
    name = script.stem
    if not name.isidentifier():
        name = "script"
    spec = importlib.util.spec_from_file_location(name, script)
    if spec is None or spec.loader is None:
        raise Wrong(f"{script} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def task_class(module: Any, name: Optional[str]) -> type:
    """The task's class: the one that is named, else the only one that the script defines and nothing derives from."""
    found = {
        value.__name__: value
        for value in vars(module).values()
        # One that was pickled in a notebook is still that of the notebook.
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ in (module.__name__, "__main__")
    }
    file = Path(module.__file__).name
    if name is not None:
        if name not in found:
            raise Wrong(f"{file} has no task {name}; it has {', '.join(found) or 'none'}")
        return found[name]
    last = [cls for cls in found.values() if not any(cls in other.__mro__[1:] for other in found.values())]
    if not last:
        raise Wrong(f"{file} has no task: define a class derived from dsgd.Task or dsgd.torch.Torch")
    if len(last) > 1:
        raise Wrong(f"{file} has several tasks: {', '.join(c.__name__ for c in last)}; choose by --class NAME")
    return last[0]


def own_modules(folder: Path) -> Dict[str, Path]:
    """Modules that were imported from the script's folder, by their place in it."""
    # Of a script in a home folder Python itself may lie below it, and this package does.
    libraries = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    libraries.add(Path(__file__).resolve().parent)
    found = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        # Some modules of torch's have the name of a file that is not there.
        if not file or not file.endswith(".py") or not os.path.isfile(file):
            continue
        path = Path(file).resolve()
        # A library's file may be a link to elsewhere, and elsewhere one to it.
        parents = {*path.parents, *Path(file).absolute().parents}
        is_library = INSTALLED & set(path.parts) or libraries & parents
        if folder in path.parents and not is_library:
            found[str(path.relative_to(folder))] = path
    return found


def needs(folder: Path) -> List[str]:
    """Modules that the script and its own modules import and that have to be installed: what those import is theirs."""
    found: Set[str] = set()
    for path in own_modules(folder).values():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                found.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])

    def is_installed(name: str) -> bool:
        # What is imported in a branch that was not taken is not needed.
        origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None) or ""
        return bool(INSTALLED & set(Path(origin).parts))

    return sorted(filter(is_installed, found))


def bundle(to: Path, script: Path) -> None:
    """Writes the script's own modules to a zip file: the same modules make the same bytes."""
    folder = script.parent.resolve()
    modules = own_modules(folder)
    modules[script.name] = script
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(modules.items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def unpacked(code: Path) -> Path:
    """The folder that holds the modules of a bundle."""
    place = code.absolute().with_suffix("")
    if not place.is_dir():
        new = place.with_name(f"{place.name}.{os.getpid()}")
        with zipfile.ZipFile(code) as archive:
            archive.extractall(new)
        try:
            new.rename(place)
        except OSError:
            # Another worker was faster.
            if not place.is_dir():
                raise
    return place


def failure(error: BaseException, script: Path) -> Dict[str, Any]:
    """What went wrong, where in the user's own code, and Python's own words for whoever reads them."""
    if isinstance(error, (Wrong, tasks.Missing)):
        return {"error": str(error), "where": "", "traceback": ""}
    # Ours come first, and are of no interest.
    shown = error.__traceback__
    while shown is not None and os.path.dirname(shown.tb_frame.f_code.co_filename) == os.path.dirname(__file__):
        shown = shown.tb_next
    text = "".join(traceback.format_exception(type(error), error, shown or error.__traceback__))
    frames = traceback.extract_tb(error.__traceback__)
    folder = str(script.parent.resolve())
    own = [frame for frame in frames if os.path.realpath(frame.filename).startswith(folder)]
    where = ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{os.path.basename(error.filename)}:{error.lineno}"
    elif own:
        last = own[-1]
        where = f"{os.path.basename(last.filename)}:{last.lineno} in {last.name}"
    text_of = error.msg if isinstance(error, SyntaxError) else str(error)
    message = text_of.strip().splitlines()
    words = f"{type(error).__name__}: {message[0]}" if message else type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        words += f"; {sys.executable} runs it, --python PATH chooses another"
    return {"error": words[:900], "where": where, "traceback": text}


def main(argv: List[str]) -> None:
    script = Path(argv[0])
    if argv[1:2] == ["--code"]:
        script = unpacked(Path(argv[2])) / script.name
    # Whoever started this answers Ctrl-C; a batch system signals every process of a step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=end_with, args=(server,), daemon=True).start()
    child = Child(script)
    for line in server.makefile("rb"):
        try:
            order = json.loads(line)
            answer = getattr(child, order.pop("do"))(**order)
        except BaseException as error:  # noqa: B902 - SystemExit of the user's code, too
            failed = failure(error, script)
            sys.stderr.write(failed["traceback"])
            answer = {"failed": failed}
        server.sendall(json.dumps(answer).encode() + b"\n")
    os._exit(0)


def end_with(server: socket.socket) -> None:
    """Ends this process when the other end of the socket is closed: nobody waits for an answer then, whatever is being
    computed."""
    poll = select.poll()
    # Only its end, which is always reported.
    poll.register(server, 0)
    poll.poll()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
