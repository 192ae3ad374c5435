"""Compare training, forward passes and streams in this process, in interleaved rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from speed import busy, glasscell_runner, jax, onnx_runtime, pytorch, training_steps
from speed.cases import CASES, Case
from speed.contenders import Contender, check_same
from speed.engines import engines
from speed.results import Benchmark, Implementation, Row
from speed.shapes import STREAMS, Shape
from speed.timing import calibrated, interleave
from speed.workload import Workload, make_workload

ROUNDS = 5  # of the settings of one implementation, to find the fastest
UPDATES = 5  # that must come out alike
STEPS = 4  # of a stream that must come out alike
Log = Callable[[str], object]
Make = Callable[[Workload], Iterable[Contender]]
W = TypeVar("W")


def training(shapes: Iterable[Shape], turns: int, log: Log) -> Benchmark:
    """Measure one update of LSTM → Linear."""
    makers: dict[str, tuple[str, Make]] = {
        "PyTorch": (pytorch.unavailable_reason(), lambda workload: pytorch.training(workload, UPDATES)),
        "JAX": (jax.unavailable_reason(), lambda workload: jax.training(workload, UPDATES)),
    }
    title = "A training step: forward, squared error, backward, clipping, Adam; LSTM → Linear(8), float32"
    ours = partial(glasscell_runner.training, updates=UPDATES)
    return _measure_all("training", title, _workloads(shapes), turns, log, ours, makers)


def whole_models(cases: Iterable[Case], turns: int, log: Log) -> Benchmark:
    """Measure one update of whole models, as `fit` makes it."""
    title = "A training step of `fit`: forward, cross-entropy, backward, clipping, optimiser; float32"
    return _measure_cases("training-steps", title, cases, turns, log)


def load(turns: int, log: Log) -> Benchmark:
    """Measure one update while other processes keep every core busy."""
    title = f"A training step on a busy machine: with {busy.describe()}, all threads of each library"
    with busy.processes():
        return _measure_cases(
            "load", title, [CASES["characters"]], min(turns, ROUNDS), log, settings=busy.all_threads, shortest=0.0
        )


def _measure_cases(kind: str, title: str, cases: Iterable[Case], turns: int, log: Log, **options: Any) -> Benchmark:
    ours, theirs = (partial(make, updates=UPDATES) for make in (training_steps.ours, training_steps.theirs))
    makers = {"PyTorch": (pytorch.unavailable_reason(), theirs)}
    return _measure_all(kind, title, ((str(case), case) for case in cases), turns, log, ours, makers, **options)


def forward(shapes: Iterable[Shape], turns: int, log: Log) -> Benchmark:
    """Measure inference of whole sequences."""
    makers: dict[str, tuple[str, Make]] = {
        "PyTorch": (pytorch.unavailable_reason(), pytorch.forward),
        "ONNX Runtime": (onnx_runtime.unavailable_reason(), onnx_runtime.forward),
        "JAX": (jax.unavailable_reason(), jax.forward),
    }
    title = "Whole sequences forward, inference only, float32"
    return _measure_all("forward", title, _workloads(shapes), turns, log, glasscell_runner.forward, makers)


def streaming(turns: int, log: Log) -> Benchmark:
    """Measure one step of one stream."""
    makers: dict[str, tuple[str, Make]] = {
        "PyTorch": (pytorch.unavailable_reason(), lambda workload: pytorch.streaming(workload, STEPS)),
        "ONNX Runtime": (onnx_runtime.unavailable_reason(), lambda workload: onnx_runtime.streaming(workload, STEPS)),
    }
    title = "One step of one stream, I = 8, float32"
    workloads = ((f"H = {shape.H}", make_workload(shape)) for shape in STREAMS)
    ours = partial(glasscell_runner.streaming, steps=STEPS)
    return _measure_all("streaming", title, workloads, turns, log, ours, makers)


def _workloads(shapes: Iterable[Shape]) -> Iterator[tuple[str, Workload]]:
    """Yield the label and the workload of each shape."""
    for shape in shapes:
        yield str(shape), make_workload(shape)


def _measure_all(
    kind: str,
    title: str,
    workloads: Iterable[tuple[str, W]],
    turns: int,
    log: Log,
    make_ours: Callable[[W], Iterable[Contender]],
    peers: Mapping[str, tuple[str, Callable[[W], Iterable[Contender]]]],
    **options: Any,
) -> Benchmark:
    """Measure all workloads, by their labels; `peers` have a reason why they cannot be used, or ""."""
    absent = {name: why for name, (why, _) in peers.items() if why} | engines().absent
    makers = [make_ours, *(make for why, make in peers.values() if not why)]
    rows = []
    for label, workload in workloads:
        log(f"{kind} {label}")
        rows.append(Row(label, measure(workload, makers, turns, **options)))
    return Benchmark(kind, title, tuple(rows), absent=absent)


def measure(
    workload: W,
    makers: Iterable[Callable[[W], Iterable[Contender]]],
    turns: int,
    settings: Callable[[Iterable[Contender]], Iterable[Contender]] = list,
    **options: Any,
) -> tuple[Implementation, ...]:
    """Measure all implementations on one workload, each at its fastest setting of those that `settings` selects."""
    contenders = [contender for make in makers for contender in make(workload)]
    check_same(contenders)
    contenders = list(settings(contenders))
    implementations: dict[str, list[Contender]] = {}
    for contender in contenders:
        implementations.setdefault(contender.name, []).append(contender)
    rounds = min(ROUNDS, turns)
    best = {name: calibrated(candidates, rounds, **options) for name, candidates in implementations.items()}
    chosen = {name: contender for name, (contender, _) in best.items()}
    repetitions = {name: count for name, (_, count) in best.items()}
    times = interleave(chosen, repetitions, turns)
    return tuple(
        Implementation(name, chosen[name].setting, tuple(seconds), ours=name.startswith("Glasscell"))
        for name, seconds in times.items()
    )
