"""Kill trainings (``kill -9``) and resume them: each must end with the same bits. ``--count 200``.

Three bars: kills at random moments of copy, text and classification trainings; kills before each call of a function of
the operating system while checkpoints are written, and within writes; and, if strace is installed, kills at each system
call of a write. After each kill the training goes on in another process from its folder, until its end: weights,
history and the files in the folder must be those of a training that was not killed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the processes are forked

import numpy as np

import glasscell as gc
from glasscell.core import engines
from glasscell.core.packages import is_installed
from glasscell.training import CheckpointFolder, has_checkpoint
from torture.bars import Bar, report

TEXT = "the cat sat on the mat, and the dog lay on the log; " * 40
MODULES = (
    *("models.copy_lstm", "models.language_model", "models.sequence_classifier", "data.text", "training.fitting"),
    *("training.description", "training.checkpoints", "core.numba_engine"),
)
UPDATES = 24
EVERY = 2  # updates between checkpoints: more than half of the time is spent in writes


def copy() -> tuple[Any, Any, dict[str, Any]]:
    """Return model, data and arguments of a training of the copy task."""
    task = gc.tasks.Copy(6)
    return gc.CopyLSTM(12, task=task, seed=1), task, {"batch_size": 16, "evaluate_every": 5}


def text() -> tuple[Any, Any, dict[str, Any]]:
    """Return those of a language model whose state is carried, with dropout."""
    data = gc.data.TextData(TEXT, steps=10, streams=16, validation=0.1)
    model = gc.LanguageModel(data.vocabulary, embedding_size=8, hidden_size=16, dropout=0.2, seed=1)
    return model, data, {"keep": "best", "evaluate_every": 5}


def classification() -> tuple[Any, Any, dict[str, Any]]:
    """Return those of a classifier of sequences of different lengths."""
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(int(T), 3)) for T in rng.integers(4, 20, 60)]
    y = np.array(["down", "up"])[[int(sequence.sum() > 0) for sequence in x]]
    model = gc.SequenceClassifier(3, ["down", "up"], hidden_size=8, bidirectional=True, dropout=0.1, seed=1)
    return model, (x, y), {"batch_size": 16, "validation": 0.2, "patience": 50}


KINDS = {"copy": copy, "text": text, "classification": classification}


class Result(NamedTuple):
    """Where a training ended: a checksum of weights and history, and the files in its folder."""

    digest: str
    files: tuple[str, ...]


def train(kind: str, engine: str, folder: Path, updates: int = UPDATES, every: int = EVERY) -> Result:
    """Train from the beginning, or from the newest checkpoint of a folder, to the end."""
    if engine == "numpy":
        engines.is_installed = lambda _: False
    model, data, arguments = KINDS[kind]()
    if model.uses_numba(16) != (engine == "numba"):
        raise RuntimeError(f"{kind} is not trained by {engine}")
    arguments |= {"checkpoint": folder, "checkpoint_every": every, "resume": has_checkpoint(folder)}
    history = gc.fit(model, data, updates, **arguments, seed=3)
    digest = hashlib.sha256(model.parameters.vector.tobytes() + repr(history.rows).encode()).hexdigest()
    return Result(digest, tuple(sorted(path.name for path in (folder / "checkpoints").iterdir())))


# Processes


def in_child(work: Callable[[], Result | None]) -> tuple[int, int]:
    """Fork a process that does some work and writes its result to a pipe; return its number and the pipe."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    status = 1
    try:
        os.close(reading)
        result = work()
        os.write(writing, "\n".join((result.digest, *result.files) if result else ("",)).encode())
        status = 0
    except BaseException:  # noqa: BLE001 - printed
        traceback.print_exc()
    os._exit(status)


def result_of(process: int, pipe: int) -> Result | None:
    """Wait for a process; return its result, or None if it was killed."""
    with os.fdopen(pipe) as file:
        lines = file.read().splitlines()
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    if status or not lines:
        raise RuntimeError(f"the process ended with the status {status}")
    return Result(lines[0], tuple(lines[1:]))


class Training(NamedTuple):
    """Kind, engine and length of a training, with its result and duration when it is not killed."""

    kind: str
    engine: str
    updates: int
    every: int
    expected: Result
    seconds: float

    def run(self, folder: Path) -> Result:
        """Run it in this process."""
        return train(self.kind, self.engine, folder, self.updates, self.every)

    def resumes(self, folder: Path) -> bool:
        """Return whether another process goes on to the same bits and files."""
        result = result_of(*in_child(lambda: self.run(folder)))
        if result != self.expected:
            print(f"{self.kind}, {self.engine}: {result} instead of {self.expected}", file=sys.stderr)
        return result == self.expected


def measured(kind: str, engine: str, updates: int, every: int, folder: Path) -> Training:
    """Return a training with its result."""
    results = []
    for number in range(2):  # the first one compiles
        start = time.perf_counter()
        path = folder / f"whole {kind} {engine} {number}"
        results.append(result_of(*in_child(lambda path=path: train(kind, engine, path, updates, every))))
        seconds = time.perf_counter() - start
    assert results[0] is not None  # noqa: S101 - it was not killed
    assert results[0] == results[1]  # noqa: S101 - otherwise nothing is proven
    return Training(kind, engine, updates, every, results[0], seconds)


# Random moments


def random_kills(trainings: list[Training], count: int, rng: random.Random, folder: Path) -> Bar:
    """Kill trainings at random moments, one to three times each."""
    held = kills = 0
    for number in range(count):
        training, path = trainings[number % len(trainings)], folder / f"random {number}"
        for _ in range(rng.randint(1, 3)):
            process, pipe = in_child(lambda training=training, path=path: training.run(path))
            time.sleep(rng.uniform(0, training.seconds))
            os.kill(process, signal.SIGKILL)
            kills += result_of(process, pipe) is None
        held += training.resumes(path)
        shutil.rmtree(path)
    kinds = ", ".join(dict.fromkeys(f"{training.kind} ({training.engine})" for training in trainings))
    name = f"{kills} kill -9 at random moments of {count} trainings: {kinds}"
    return Bar(name, f"{held} of {count} resumed to the same bits", "all", held == count)


# Calls of the operating system, by name


class CallCounter:
    """Kills its process before one of its calls of the operating system, or within a write.

    Parameters
    ----------
    last : int
        Number of the call, from 1. 0: none.
    """

    NAMES = ("open", "fsync", "replace", "unlink", "mkdir", "rmdir", "ftruncate", "write", "close", "scandir", "stat")

    def __init__(self, last: int) -> None:
        self.last, self.count = last, 0
        for name in self.NAMES:
            setattr(os, name, self._counted(getattr(os, name)))
        fdopen = os.fdopen
        os.fdopen = lambda *arguments, **options: _File(fdopen(*arguments, **options), self)  # type: ignore[assignment]

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.next()
            return function(*arguments, **options)

        return call

    def next(self) -> None:
        """Count a call."""
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


class _File:
    """A file whose writes are two, with a call between them."""

    def __init__(self, file: Any, calls: CallCounter) -> None:
        self._file, self._calls = file, calls

    def write(self, content: bytes) -> None:
        half = len(content) // 2
        self._file.write(content[:half])
        self._file.flush()
        self._calls.next()
        self._file.write(content[half:])

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def kills_at_calls(training: Training, stride: int, rng: random.Random, folder: Path) -> Bar:
    """Kill a training before each call, or every `stride`-th one from a random one on."""
    counts = folder / "counts"

    def count(path: Path, last: int) -> Result:
        calls = CallCounter(last)
        result = training.run(path)
        counts.write_text(str(calls.count))
        return result

    assert result_of(*in_child(lambda: count(folder / "counted", 0))) == training.expected  # noqa: S101
    places = range(1 + rng.randrange(stride), int(counts.read_text()) + 1, stride)
    held = 0
    for place in places:
        path = folder / f"call {place}"
        killed = result_of(*in_child(lambda path=path, place=place: count(path, place))) is None
        held += training.resumes(path) and killed
        shutil.rmtree(path)
    name = f"kill -9 before each of {len(places)} calls of a training with its writes, and within writes"
    return Bar(name, f"{held} of {len(places)} resumed to the same bits", "all", held == len(places))


# System calls of one write, with strace


def stopped_before_a_write(training: Training, path: Path, number: int) -> Callable[[], Result]:
    """Return the work of a process that stops before its checkpoint of this number, and ends after it."""

    def work() -> Result:
        save, done = CheckpointFolder.save, Counter[str]()

        def stopping(self: CheckpointFolder, *arguments: Any) -> Path:
            done["saves"] += 1
            if done["saves"] == number:
                os.kill(os.getpid(), signal.SIGSTOP)
            file = save(self, *arguments)
            if done["saves"] == number:
                os._exit(0)
            return file

        CheckpointFolder.save = stopping  # type: ignore[method-assign, assignment]
        return training.run(path)

    return work


def traced(training: Training, path: Path, number: int, inject: str, log: Path) -> None:
    """Run a training until its checkpoint of this number, which strace traces."""
    process, pipe = in_child(stopped_before_a_write(training, path, number))
    os.waitpid(process, os.WUNTRACED)
    command = ["strace", "-qq", "-o", str(log), "-p", str(process), *(["-e", f"inject={inject}"] if inject else [])]
    tracer = subprocess.Popen(command)
    while f"TracerPid:\t{tracer.pid}\n" not in Path(f"/proc/{process}/status").read_text():
        time.sleep(0.01)
    os.kill(process, signal.SIGCONT)
    os.waitpid(process, 0)
    os.close(pipe)
    tracer.wait()


def system_calls(log: Path) -> Iterator[tuple[str, int]]:
    """Yield the name of each system call of a log, and how many of this name there have been."""
    counts: Counter[str] = Counter()
    for name in re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE):
        if name != "exit_group":
            counts[name] += 1
            yield name, counts[name]


def kills_at_system_calls(training: Training, folder: Path) -> Bar:
    """Kill a training at each system call of its third and fifth checkpoint: before and with removals."""
    held = total = 0
    for number in (2, 5):
        log = folder / "calls.log"
        traced(training, folder / f"traced {number}", number, "", log)
        for name, occurrence in list(system_calls(log)):
            path, total = folder / f"system call {total}", total + 1
            traced(training, path, number, f"{name}:signal=SIGKILL:when={occurrence}", folder / "kill.log")
            held += training.resumes(path) and "killed by SIGKILL" in (folder / "kill.log").read_text()
            shutil.rmtree(path)
    name = f"kill -9 at each of {total} system calls of two writes"
    return Bar(name, f"{held} of {total} resumed to the same bits", "all", held == total > 0)


def main(arguments: list[str] | None = None) -> int:
    """Run the proofs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="trainings that are killed at random moments")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    installed = ["numpy", *["numba"] * is_installed("numba")]
    parser.add_argument("--engines", nargs="+", choices=installed, default=installed)
    parser.add_argument("--stride", type=int, default=1, help="kill before every n-th call")
    parser.add_argument("--no-strace", action="store_true", help="leave out the kills at system calls")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)  # noqa: S311 - chooses moments
    for module in MODULES[: None if "numba" in options.engines else -1]:  # imported once, not in each process
        import_module(f"glasscell.{module}")
    with tempfile.TemporaryDirectory() as name:
        return report(bars(options, rng, Path(name)))


def bars(options: argparse.Namespace, rng: random.Random, folder: Path) -> Iterator[Bar]:
    """Yield the three bars."""
    trainings = [measured(kind, engine, UPDATES, EVERY, folder) for engine in options.engines for kind in options.kinds]
    yield random_kills(trainings, options.count, rng, folder)
    short = measured(options.kinds[-1], "numpy", 6, 2, folder / "short")
    yield kills_at_calls(short, options.stride, rng, folder)
    if shutil.which("strace") and not options.no_strace:
        yield kills_at_system_calls(measured(options.kinds[-1], "numpy", 12, 2, folder / "12"), folder)


if __name__ == "__main__":
    sys.exit(main())
