"""Share models among threads: predictions, streams, traces and trainings at the same time. ``--engine numba``.

Every result is compared bit by bit with the one that a single thread computed before. Meanwhile two threads trace the
same models, and one trains other models, which limits the threads of NumPy's BLAS and restores them.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread
from typing import Any, NamedTuple

import numpy as np

import glasscell as gc
from glasscell.core.blas_threads import max_threads
from glasscell.layers import FinalState, Pool
from torture.bars import Bar, report

ENGINES = ("numpy", "numba")
INPUTS = 4  # of each model, of different sizes
PAUSE = 0.02  # seconds between two tasks of a background thread, which shares the interpreter's lock with all others
SWITCH_INTERVAL = 5e-4  # seconds, a tenth of the usual: threads change more often


class Case(NamedTuple):
    """A call whose result is known.

    Attributes
    ----------
    name : str
    call : callable
        Returns an array.
    expected : array
    """

    name: str
    call: Callable[[], np.ndarray]
    expected: np.ndarray

    def differs(self) -> bool:
        """Call, and return whether the result has other bits."""
        result = self.call()
        return result.shape != self.expected.shape or result.tobytes() != self.expected.tobytes()


def shared_models(engine: str) -> dict[str, Any]:
    """Return models of all kinds of recurrent layers; the compiled engine runs the standard ones."""
    lstm: dict[str, Any] = {"engine": engine, "seed": 1}
    return {
        "LSTM": gc.LSTM(3, 8, 2, **lstm),
        "wide LSTM": gc.LSTM(3, 64, **lstm),
        "LSTM with options": gc.LSTM(3, 6, peepholes=True, layer_norm="haste", learn_initial_state=True, **lstm),
        "bidirectional": gc.Sequential([gc.LSTM(3, 6, bidirectional=True, **lstm), FinalState(), gc.Linear(12, 2)]),
        "GRU": gc.Sequential([gc.GRU(3, 6), Pool("max"), gc.Linear(6, 2)]),
        "RNN": gc.RNN(3, 7, seed=1),
        "Embedding": gc.Sequential([gc.Embedding(11, 4), gc.LSTM(4, 8, **lstm), Pool("mean"), gc.Linear(8, 3)]),
    }


def inputs_of(model: Any, rng: np.random.Generator, T: int, B: int | None) -> np.ndarray:
    """Return steps for a model: ids if it begins with an Embedding."""
    batch = () if B is None else (B,)
    first = model.layers[0] if isinstance(model, gc.Sequential) else model
    if isinstance(first, gc.Embedding):
        return rng.integers(0, 11, (*batch, T))
    return rng.normal(size=(*batch, T, 3)).astype(np.float32)


def predictions(models: dict[str, Any], rng: np.random.Generator) -> list[Case]:
    """Return predictions of each model: single sequences, batches, and batches of different lengths."""
    cases = []
    for name, model in models.items():
        for k in range(INPUTS):
            B = (None, 1, 3, 10)[k]
            x = inputs_of(model, rng, T=3 + 2 * k, B=B)
            lengths = None if k < 2 else rng.integers(1, x.shape[1] + 1, B)

            def call(model: Any = model, x: np.ndarray = x, lengths: Any = lengths) -> np.ndarray:
                return np.asarray(model(x, lengths=lengths))

            cases.append(Case(name, call, call()))
    return cases


def traced(models: dict[str, Any], rng: np.random.Generator) -> list[Case]:
    """Return traces of single sequences, with gradients on the gates."""
    cases = []
    for name, model in models.items():
        x = inputs_of(model, rng, T=6, B=None)
        d_outputs = np.ones_like(model(x))

        def call(model: Any = model, x: np.ndarray = x, d_outputs: np.ndarray = d_outputs) -> np.ndarray:
            layer = model.trace(x, d_outputs=d_outputs).layer[0]
            return np.concatenate([layer.h, layer.d_h], axis=-1)

        cases.append(Case(f"trace of {name}", call, call()))
    return cases


class Differences:
    """Number of calls, and the names of those whose results differ.

    Attributes
    ----------
    names : list of str
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._calls = count()

    def check(self, case: Case) -> None:
        """Call, and record a difference or an exception."""
        next(self._calls)
        try:
            if case.differs():
                self.names.append(case.name)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a result
            self.names.append(f"{case.name}: {error!r}")

    @property
    def figure(self) -> str:
        """The number of different results, with the first names."""
        named = f": {', '.join(sorted(set(self.names))[:3])}" if self.names else ""
        return f"{len(self.names)} different{named}"


@contextmanager
def in_background(*tasks: Callable[[], object], pause: float = PAUSE) -> Iterator[None]:
    """Repeat each task in a thread during the block, with pauses of this many seconds."""
    ended = Event()

    def repeat(task: Callable[[], object]) -> None:
        while not ended.wait(pause):
            task()

    threads = [Thread(target=repeat, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def background(models: dict[str, Any], engine: str, differences: Differences, seed: int) -> list[Callable[[], object]]:
    """Return what runs during the measured calls: traces of the shared models, and trainings of others."""
    cases = traced(models, np.random.default_rng([seed, 1]))
    rng = np.random.default_rng([seed, 2])
    x, y = rng.normal(size=(16, 5, 3)), rng.normal(size=(16, 5, 4))

    def train() -> np.ndarray:
        model = gc.LSTM(3, 4, engine=engine, seed=0)
        gc.fit(model, (x, y), 3, loss="squared_error", batch_size=8)
        return model.parameters.vector

    training, numbers = Case("training", train, train()), count()

    def trace() -> None:
        differences.check(cases[next(numbers) % len(cases)])

    return [trace, trace, lambda: differences.check(training)]


def check_predictions(engine: str, threads: int, calls: int, seed: int) -> Bar:
    """Run predictions of the same models in all threads."""
    models, differences = shared_models(engine), Differences()
    cases = predictions(models, np.random.default_rng(seed))

    def work(k: int) -> None:
        for n in range(calls):
            differences.check(cases[(7 * k + n) % len(cases)])

    with in_background(*background(models, engine, differences, seed)), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    name = f"{threads} threads × {calls:,} predictions, {engine}"
    return Bar(name, differences.figure, "0 different", not differences.names)


def check_streams(engine: str, threads: int, number: int, steps: int, seed: int) -> Bar:
    """Push to streams of the same models: each thread has many, and pushes to them in turn."""
    models, differences = shared_models(engine), Differences()
    rng, streamed = np.random.default_rng(seed), []
    for name in sorted(models.keys() - {"bidirectional"}):  # which needs the last step first
        x = inputs_of(models[name], rng, steps, B=None)
        stream = models[name].stream()
        streamed.append((name, models[name], x, np.stack([stream.push(step).copy() for step in x])))

    def work(k: int) -> None:
        own = []
        for n in range(k, number, threads):
            name, model, x, expected = streamed[n % len(streamed)]
            own.append((name, model.stream(), x, expected))
        for t in range(steps):
            for name, stream, x, expected in own:

                def push(stream: Any = stream, step: Any = x[t]) -> np.ndarray:
                    return np.asarray(stream.push(step))

                differences.check(Case(f"stream of {name}", push, expected[t]))

    with in_background(*background(models, engine, differences, seed)), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    name = f"{number:,} streams in {threads} threads, {steps} steps, {engine}"
    return Bar(name, differences.figure, "0 different", not differences.names)


def check_globals(before: tuple[Any, ...]) -> Bar:
    """Compare settings of the process with those before all threads."""
    after = process_settings()
    names = "BLAS threads", "NumPy errors", "warnings"
    changed = [name for name, a, b in zip(names, before, after, strict=True) if a != b]
    return Bar("settings of the process afterwards", ", ".join(changed) or "unchanged", "unchanged", not changed)


def process_settings() -> tuple[Any, ...]:
    """Return the number of BLAS threads, NumPy's error state, and the filters of warnings."""
    return max_threads(), np.geterr(), list(warnings.filters)


def main() -> int:
    """Measure the bars; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, help="default: both")
    parser.add_argument("--threads", type=int, default=64, help="threads of predictions (default: 64)")
    parser.add_argument("--predictions", type=int, default=10_000, help="predictions of a thread (default: 10000)")
    parser.add_argument("--streams", type=int, default=1_000, help="streams in all (default: 1000)")
    parser.add_argument("--stream-threads", type=int, default=32, help="threads of streams (default: 32)")
    parser.add_argument("--steps", type=int, default=100, help="steps of a stream (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL)
    before = process_settings()

    def bars() -> Iterator[Bar]:
        for engine in (options.engine,) if options.engine else ENGINES:
            yield check_predictions(engine, options.threads, options.predictions, options.seed)
            yield check_streams(engine, options.stream_threads, options.streams, options.steps, options.seed)
        yield check_globals(before)

    return report(bars())


if __name__ == "__main__":
    sys.exit(main())
