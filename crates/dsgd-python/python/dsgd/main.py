"""From a task's class to a run."""

from __future__ import annotations

import inspect
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List, Mapping, Optional

from . import task as tasks
from .run import Run
from .seeds import seed_all
from .task import Batch, Loss, Task

#: Commands that begin a run, or what would be one.
BEGINNING = ("train", "plan")


def main(cls: type) -> None:
    """Makes the class's file a program: ``python digits.py train -n 4 --hidden 256``.

    It becomes ``dsgd train digits.py …``, whose options these are (``python digits.py train --help``).
    """
    script, words = sys.argv[0], sys.argv[1:]
    if words[:1] and words[0] in BEGINNING and not any(word.startswith("--resume") for word in words):
        words = [words[0], script, "--class", cls.__name__, *words[1:]]
    elif words[:1] == ["eval"]:
        words = [*words, script]
    os.environ["DSGD_PYTHON"] = sys.executable
    sys.stdout.flush()
    os.execv(program(), ["dsgd", *(words or ["--help"])])


def train(cls: type, workers: Optional[int] = None, **options: Any) -> Run:
    """Trains and returns the run: ``dsgd.train(Digits, workers=4, epochs=3, hidden=256)``.

    Options are those of ``dsgd train``, with ``_`` for ``-``, and the task's own. The notebook's stop button, or
    Ctrl-C, saves a checkpoint and returns the run as it is then.
    """
    run = Path(options.pop("run_dir", None) or free_run(cls.__name__))
    script = script_of(cls, run)
    words = ["train", script, "--class", cls.__name__, "--plain", "--run-dir", str(run)]
    if workers is not None:
        words += ["-n", str(workers)]
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words.append(f"{flag}={value}")
    environment = {**os.environ, "DSGD_PYTHON": sys.executable}
    running = subprocess.Popen(
        [program(), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    last: List[str] = []
    stopped = False
    while True:
        try:
            for line in running.stdout or ():
                print(line, end="", flush=True)
                last = [*last[-4:], line]
            status = running.wait()
            break
        except KeyboardInterrupt:
            # Once: it saves. Twice: at once.
            stopped = True
            running.send_signal(signal.SIGINT)
    if status != 0 and not stopped:
        raise RuntimeError("".join(last).strip() or f"dsgd ended with status {status}")
    return Run(run)


def script_of(cls: type, run: Path) -> str:
    """The file that workers load the class from. One of a notebook's is in none: it is written beside the run's folder."""
    try:
        script = inspect.getfile(cls)
        if os.path.isfile(script):
            return script
    except (OSError, TypeError):
        pass
    try:
        import cloudpickle  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError(
            f"{cls.__name__} is in no file that workers could load it from: pip install cloudpickle, or write it to one (%%writefile)"
        ) from None
    import base64

    written = run.with_name(run.name + ".py")
    written.parent.mkdir(parents=True, exist_ok=True)
    pickled = base64.b64encode(cloudpickle.dumps(cls)).decode()
    written.write_text(f"import base64\n\nimport cloudpickle\n\n{cls.__name__} = cloudpickle.loads(base64.b64decode({pickled!r}))\n")
    return str(written)


def check(cls: type, **options: Any) -> None:
    """Computes one batch in this process, where a debugger works, and says what it found.

    What it shows: the loss, the gradient's norm, how long it took, and how many bytes a gradient has on its way.
    It also says where a task does what costs or harms: parameters that are changed while computing, and embeddings
    that would be sent whole although few of their rows are touched.
    """
    from . import child as children

    task = tasks.made(cls, {name: str(value) for name, value in options.items()})
    if hasattr(task, "loaders"):
        task.loaders = 0
    task.setup()
    engine = task.engine() if hasattr(task, "engine") else children.Arrays(task)
    tensors = engine.tensors()
    sizes = [max(1, _product(tensor["shape"])) for tensor in tensors]
    numbers = sum(tensor["shape"][0] for tensor in tensors if tensor["rows"])
    params, gradient = (mmap.mmap(-1, 4 * max(1, n)) for n in (sum(sizes), sum(sizes) + numbers))
    engine.share(params, gradient, os.cpu_count() or 1, 0)
    seed_all(1)
    engine.init()
    before = bytes(params)
    size = min(children.batch_size(task), task.examples())
    started = time.perf_counter()
    loss, rows = engine.train(Batch(list(range(size)), 0, 1, 1))
    secs = time.perf_counter() - started
    answer = children.computed(loss, size)
    values = memoryview(gradient).cast("f")
    sent, squares, at = 0, 0.0, 0
    for tensor, elements in zip(tensors, sizes):
        used = rows.get(tensor["name"], 0) * tensor["shape"][1] if tensor["rows"] else elements
        squares += _squares(values[at : at + used])
        sent += 4 * used + 4 * rows.get(tensor["name"], 0)
        at += elements
    print(f"{cls.__name__}: {sum(sizes):,} parameters in {len(tensors)} tensors, {task.examples():,} examples")
    print(f"loss {answer['loss']:.6g} over {answer['count']} items" if answer["loss"] is not None else "the loss is not finite")
    for name, value in answer["metrics"].items():
        print(f"{name} {value:.6g}" if value is not None else f"{name} is not finite")
    print(f"gradient norm {squares ** 0.5:.6g}, {sent:,} bytes to push; a batch of {size} took {secs:.3f} s")
    if bytes(params) != before:
        print("Warning: parameters were changed while the batch was computed: such changes stay with one worker")
    for tensor, elements in zip(tensors, sizes):
        if not tensor["rows"] and len(tensor["shape"]) == 2 and elements >= 1 << 20 and "emb" in tensor["name"]:
            print(f"Note: {tensor['name']} is sent whole, {4 * elements:,} bytes a batch: nn.Embedding(…, sparse=True) sends touched rows")


def program() -> str:
    """The dsgd program: beside this interpreter, else on the PATH."""
    named = os.environ.get("DSGD_PROGRAM")
    beside = Path(sys.executable).parent / "dsgd"
    found = named or (str(beside) if beside.is_file() else shutil.which("dsgd"))
    if not found:
        raise FileNotFoundError("the program dsgd is not on the PATH: pip install dsgd")
    return found


def free_run(name: str) -> Path:
    """A folder of `runs` that is not there yet."""
    number = 1
    while (Path("runs") / f"{name.lower()}-{number}").exists():
        number += 1
    return Path("runs") / f"{name.lower()}-{number}"


def _product(shape: List[int]) -> int:
    result = 1
    for length in shape:
        result *= length
    return result


def _squares(values: Any) -> float:
    try:
        import numpy

        array = numpy.frombuffer(values, "f4").astype("f8")
        return float(array @ array)
    except ImportError:
        return sum(value * value for value in values)
