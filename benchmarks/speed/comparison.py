"""Compare training, forward passes and streams in this process, in interleaved rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    return _measure_shapes(
        "training", title, shapes, turns, log, lambda workload: glasscell_runner.training(workload, UPDATES), makers
    )


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
    absent = engines().absent
    makers: list[Callable[..., Iterable[Contender]]] = [partial(training_steps.ours, updates=UPDATES)]
    if why := pytorch.unavailable_reason():
        absent |= {"PyTorch": why}
    else:
        makers.append(partial(training_steps.theirs, updates=UPDATES))
    rows = []
    for case in cases:
        log(f"{kind} {case}")
        rows.append(Row(str(case), measure(case, makers, turns, **options)))
    return Benchmark(kind, title, tuple(rows), absent=absent)


def forward(shapes: Iterable[Shape], turns: int, log: Log) -> Benchmark:
    """Measure inference of whole sequences."""
    makers: dict[str, tuple[str, Make]] = {
        "PyTorch": (pytorch.unavailable_reason(), pytorch.forward),
        "ONNX Runtime": (onnx_runtime.unavailable_reason(), onnx_runtime.forward),
        "JAX": (jax.unavailable_reason(), jax.forward),
    }
    return _measure_shapes(
        "forward",
        "Whole sequences forward, inference only, float32",
        shapes,
        turns,
        log,
        glasscell_runner.forward,
        makers,
    )


def streaming(turns: int, log: Log) -> Benchmark:
    """Measure one step of one stream."""
    makers: dict[str, tuple[str, Make]] = {
        "PyTorch": (pytorch.unavailable_reason(), lambda workload: pytorch.streaming(workload, STEPS)),
        "ONNX Runtime": (onnx_runtime.unavailable_reason(), lambda workload: onnx_runtime.streaming(workload, STEPS)),
    }
    title = "One step of one stream, I = 8, float32"
    return _measure_shapes(
        "streaming", title, STREAMS, turns, log, lambda workload: glasscell_runner.streaming(workload, STEPS), makers
    )


def _measure_shapes(
    kind: str,
    title: str,
    shapes: Iterable[Shape],
    turns: int,
    log: Log,
    make_ours: Make,
    peers: dict[str, tuple[str, Make]],
) -> Benchmark:
    absent = {name: why for name, (why, _) in peers.items() if why}
    absent |= engines().absent
    makers = [make_ours, *(make for not_here, make in peers.values() if not not_here)]
    rows = []
    for shape in shapes:
        what = f"H = {shape.H}" if kind == "streaming" else str(shape)
        log(f"{kind} {what}")
        rows.append(Row(what, measure(make_workload(shape), makers, turns)))
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
    best = {name: calibrated(settings, rounds, **options) for name, settings in implementations.items()}
    chosen = {name: contender for name, (contender, _) in best.items()}
    repetitions = {name: count for name, (_, count) in best.items()}
    times = interleave(chosen, repetitions, turns)
    return tuple(
        Implementation(name, chosen[name].setting, tuple(seconds), ours=name.startswith("Glasscell"))
        for name, seconds in times.items()
    )
