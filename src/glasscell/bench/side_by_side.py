"""Races in this process: training, forward, streaming. Everyone in turns, each at its best setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from glasscell.bench import jax, onnx_runtime, ours, pytorch
from glasscell.bench.engines import engines
from glasscell.bench.entrants import Entrant, check_same
from glasscell.bench.results import Race, Row, Side
from glasscell.bench.shapes import STREAMS, Shape
from glasscell.bench.timing import calibrated, take_turns
from glasscell.bench.work import Work, work_of

ROUNDS = 5  # of the settings of one side, to find the fastest
UPDATES = 5  # that must come out alike
STEPS = 4  # of a stream that must come out alike
Say = Callable[[str], object]
Make = Callable[[Work], Iterable[Entrant]]


def training(shapes: Iterable[Shape], turns: int, say: Say) -> Race:
    """One update of LSTM → Linear."""
    makers: dict[str, tuple[str, Make]] = {
        "PyTorch": (pytorch.why_not(), lambda work: pytorch.training(work, UPDATES)),
        "JAX": (jax.why_not(), lambda work: jax.training(work, UPDATES)),
    }
    title = "A training step: forward, squared error, backward, clipping, Adam; LSTM → Linear(8), float32"
    return _race("training", title, shapes, turns, say, lambda work: ours.training(work, UPDATES), makers)


def forward(shapes: Iterable[Shape], turns: int, say: Say) -> Race:
    """Whole sequences, inference only."""
    makers: dict[str, tuple[str, Make]] = {
        "PyTorch": (pytorch.why_not(), pytorch.forward),
        "ONNX Runtime": (onnx_runtime.why_not(), onnx_runtime.forward),
        "JAX": (jax.why_not(), jax.forward),
    }
    return _race(
        "forward", "Whole sequences forward, inference only, float32", shapes, turns, say, ours.forward, makers
    )


def streaming(turns: int, say: Say) -> Race:
    """One step of one stream."""
    makers: dict[str, tuple[str, Make]] = {
        "PyTorch": (pytorch.why_not(), lambda work: pytorch.streaming(work, STEPS)),
        "ONNX Runtime": (onnx_runtime.why_not(), lambda work: onnx_runtime.streaming(work, STEPS)),
    }
    title = "One step of one stream, I = 8, float32"
    return _race("streaming", title, STREAMS, turns, say, lambda work: ours.streaming(work, STEPS), makers)


def _race(
    kind: str,
    title: str,
    shapes: Iterable[Shape],
    turns: int,
    say: Say,
    make_ours: Make,
    peers: dict[str, tuple[str, Make]],
) -> Race:
    absent = {name: why for name, (why, _) in peers.items() if why}
    absent |= engines().absent
    makers = [make_ours, *(make for not_here, make in peers.values() if not not_here)]
    rows = []
    for shape in shapes:
        what = f"H = {shape.H}" if kind == "streaming" else str(shape)
        say(f"{kind} {what}")
        rows.append(Row(what, raced(work_of(shape), makers, turns)))
    return Race(kind, title, tuple(rows), absent=absent)


def raced(work: Work, makers: Iterable[Make], turns: int, **options: Any) -> tuple[Side, ...]:
    """Everyone's times on one work; the first of `makers` makes ours."""
    entrants = [entrant for make in makers for entrant in make(work)]
    check_same(entrants)
    sides: dict[str, list[Entrant]] = {}
    for entrant in entrants:
        sides.setdefault(entrant.side, []).append(entrant)
    rounds = min(ROUNDS, turns)
    best = {name: calibrated(settings, rounds, **options) for name, settings in sides.items()}
    chosen = {name: entrant for name, (entrant, _) in best.items()}
    repetitions = {name: count for name, (_, count) in best.items()}
    times = take_turns(chosen, repetitions, turns)
    return tuple(
        Side(name, chosen[name].setting, tuple(seconds), ours=name.startswith("Glasscell"))
        for name, seconds in times.items()
    )
