"""Interrupt computations at random moments, and check everything that is computed afterwards.

    python benchmarks/interrupts.py --interrupts 1000
    python benchmarks/interrupts.py --engine numpy

Half of the interrupts are Ctrl-C (SIGINT, sent by another thread), half an exception of an alarm's handler; a fifth
come in pairs, microseconds apart, so that the second one hits what cleans up after the first. They hit forward passes,
backward passes, inference, training and streams. After each one the same computation is made again, with the same model
and buffers, and compared bit by bit with an undisturbed one. An interrupted training must leave the weights of a whole
number of updates, and an interrupted push the state before or after it. Exits with 1 if anything differs. POSIX only.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread

import numpy as np

import glasscell as gc
from glasscell.core.buffers import BufferPool
from glasscell.layers import LSTMState

PAIRS = 0.2  # of all interrupts
APART = 30e-6  # seconds between the two of a pair, at most
Arrays = list[np.ndarray]


class AlarmError(Exception):
    """Exception that the handler of an alarm raises."""


class Interrupts:
    """Signals at random moments, counted as their handlers run."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.raised = rng, 0

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Install the handlers during the block."""

        def on(kind: type[BaseException]) -> Callable[..., None]:
            def handler(*_: object) -> None:
                self.raised += 1
                raise kind

            return handler

        kinds = {signal.SIGINT: KeyboardInterrupt, signal.SIGALRM: AlarmError}
        old = {number: signal.signal(number, on(kind)) for number, kind in kinds.items()}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def during(self, action: Callable[[], object], seconds: float) -> None:
        """Repeat the action until it is interrupted, once or twice, within `seconds`."""
        first, second = self.rng.permutation([signal.SIGINT, signal.SIGALRM])
        pair = self.rng.random() < PAIRS
        delay, apart = self.rng.uniform(0, seconds), self.rng.uniform(0, APART)

        ready: list[bool] = []

        def send() -> None:
            while not ready:
                time.sleep(1e-5)
            time.sleep(delay)
            os.kill(os.getpid(), first)
            if pair:
                time.sleep(apart)
                os.kill(os.getpid(), second)

        sender, before = Thread(target=send), self.raised
        sender.start()
        kinds = KeyboardInterrupt, AlarmError
        for _ in range(3):  # the second one may hit where the first one has just been caught
            with suppress(*kinds), suppress(*kinds):
                ready.append(True)
                while self.raised - before < 1 + pair:
                    action()
        sender.join()


@dataclass
class Subject:
    """Computation that is interrupted.

    Attributes
    ----------
    action : callable
        What is interrupted.
    left : callable
        What is wrong with what an interrupt left behind: a message, or None.
    results : callable
        Makes the computation again, with the same model and buffers, and returns its results.
    """

    action: Callable[[], object]
    left: Callable[[], str | None]
    results: Callable[[], Arrays]


def nothing_left() -> None:
    """Do nothing: a pass keeps no state to check."""


def passes(engine: str | None, rng: np.random.Generator) -> dict[str, Subject]:
    """Forward, backward and inference of one layer that two threads share, with separate buffers."""
    lstm = gc.LSTM(16, 64, seed=0, engine=engine)
    x, other = rng.normal(size=(2, 50, 16, 64)).astype(np.float32)  # in columns (T, I, B)
    dh, other_dh = rng.normal(size=(2, 50, 64, 64)).astype(np.float32)
    buffers = {name: BufferPool() for name in ("forward", "backward", "run")}
    gradients = lstm.parameters.zeros_like()

    def forward(x: np.ndarray) -> Arrays:
        h, _, _, tape = lstm.forward_feature_major(x, buffers=buffers["forward"])
        return [h, tape.final_state.c]

    def run(x: np.ndarray) -> Arrays:
        result = lstm.forward_feature_major(x, buffers=buffers["run"], keep_tape=False)
        return [result.outputs, *result.state.c]

    def backward(tape: object, dh: np.ndarray) -> Arrays:
        dx, start = lstm.backward_with_state(tape, dh, None, gradients, buffers["backward"])
        return [gradients.vector, dx, *start.h, *start.c]

    tape = lstm.forward_feature_major(x).tape
    return {
        "forward": Subject(lambda: forward(other), nothing_left, lambda: forward(x)),
        "backward": Subject(lambda: backward(tape, other_dh), nothing_left, lambda: backward(tape, dh)),
        "run": Subject(lambda: run(other), nothing_left, lambda: run(x)),
    }


def training(engine: str | None) -> dict[str, Subject]:
    """Train a model briefly, with passes that two threads share."""
    task, updates = gc.tasks.Copy(8), 6
    model = gc.CopyLSTM(task=task, hidden_size=32, seed=0)
    model._lstm = gc.LSTM(  # noqa: SLF001 - it takes no engine itself
        *(model.lstm.input_size, 32), seed=None, engine=engine, parameters=model.parameters.subset("lstm.")
    )
    ids = np.random.default_rng(0).integers(600, size=(2 * 32, 20))
    words = gc.Sequential([gc.Embedding(600, 16), gc.LSTM(16, 32, engine=engine), gc.Linear(32, 600)], seed=0)
    options = {"loss": "categorical_cross_entropy", "optimizer": gc.SGD(0.1), "batch_size": 32}
    return {
        "fit": training_of(model, task, updates, batch_size=64),
        "fit of a wide softmax": training_of(words, (ids, ids[:, ::-1]), updates, **options),
    }


def training_of(model: gc.Sequential, data: object, updates: int, **options: object) -> Subject:
    """Train a model again and again: what is left must be its weights after a whole number of updates."""
    vector, start = model.parameters.vector, model.parameters.vector.copy()
    known = {start.tobytes()}

    def fit(callbacks: tuple[Callable[[object], None], ...] = ()) -> Arrays:
        vector[:] = start
        gc.fit(model, data, updates, callbacks=callbacks, **options)
        return [vector]

    fit((lambda _: known.add(vector.tobytes()),))

    def left() -> str | None:
        return None if vector.tobytes() in known else "weights of no whole number of updates"

    return Subject(fit, left, fit)


def streams(engine: str | None, rng: np.random.Generator) -> dict[str, Subject]:
    """Streams of several kinds; each runs through the same steps again and again."""
    models = {
        "stream": gc.LSTM(8, 32, engine=engine),
        "stream of three layers": gc.Sequential([gc.LSTM(8, 32, 3, engine=engine), gc.Linear(32, 5)]),
        "stream with layer norm": gc.LSTM(8, 16, 2, layer_norm="haste"),
        "streams that step together": gc.LSTM(8, 16, 2, engine=engine),
    }
    return {name: stream_of(model, 3 if "together" in name else None, rng) for name, model in models.items()}


def stream_of(model: gc.LSTM | gc.Sequential, batch: int | None, rng: np.random.Generator) -> Subject:
    """One stream: any state that is left must be one of those between two steps."""
    stream, steps = model.stream(batch), 40
    x = rng.normal(size=(steps, *(() if batch is None else (batch,)), 8)).astype(np.float32)
    active = None if batch is None else rng.random((steps, batch)) < 0.7

    def push(k: int) -> np.ndarray:
        return stream.push(x[k]) if active is None else stream.push(x[k], active=active[k])

    def state() -> bytes:
        pairs = [stream.state] if isinstance(stream.state, LSTMState) else stream.state
        return b"".join(array.tobytes() for pair in pairs for array in pair)

    def results() -> Arrays:
        stream.reset()
        return [push(k).copy() for k in range(steps)]

    stream.reset()
    known = {state()}
    for k in range(steps):
        push(k)
        known.add(state())

    def action() -> None:
        stream.reset()
        for k in range(steps):
            push(k)

    return Subject(action, lambda: None if state() in known else "a state between two steps", results)


def trial(subject: Subject, interrupts: Interrupts, count: int) -> list[str]:
    """Interrupt the computation `count` times, and return the errors."""
    for _ in range(3):
        start = time.perf_counter()
        expected = [array.copy() for array in subject.results()]
        seconds = time.perf_counter() - start
    wrong = []
    with interrupts.handled():
        for _ in range(count):
            interrupts.during(subject.action, 2 * seconds)
            if message := subject.left():
                wrong.append(message)
            if not all(map(np.array_equal, subject.results(), expected)):
                wrong.append("another result")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interrupts", type=int, default=1000, help="of each kind of computation (default 1000)")
    parser.add_argument("--engine", choices=["numpy", "numba"], help="default: the one that is chosen")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, engine = np.random.default_rng(arguments.seed), arguments.engine
    interrupts, failed = Interrupts(rng), False
    for name, subject in (passes(engine, rng) | training(engine) | streams(engine, rng)).items():
        start, before = time.perf_counter(), interrupts.raised
        wrong = trial(subject, interrupts, arguments.interrupts)
        failed |= bool(wrong)
        seconds, raised = time.perf_counter() - start, interrupts.raised - before
        print(
            f"{name:28} {raised:6} exceptions, {len(wrong):4} wrong {set(wrong) or ''} in {seconds:.0f} s", flush=True
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
