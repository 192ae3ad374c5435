"""Measure speed compared with PyTorch, ONNX Runtime and JAX: ``python benchmarks/speed``, or ``make bench``.

All libraries do the same work from the same weights; before anything is timed, their results are compared. They are
timed in one process in interleaved rounds, each at its fastest setting, which is found in the same run. Each timing is
long compared with the clock's resolution, and starts when no thread of another library is busy. A ratio is the median
of the ratios of the rounds: whatever slows the machine down for a while slows both down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from glasscell.validation import choice, positive_integer
from speed import cold_start, comparison, gemm, jax, memory, onnx_runtime, pytorch, scaling
from speed.cases import CASES, Case
from speed.results import Benchmark
from speed.shapes import SHAPES, Shape

__all__ = ["DEFAULT", "KINDS", "Benchmark", "has_ratios", "run_benchmarks"]

KINDS = ("training", "training-steps", "load", "forward", "streaming", "cold", "memory", "scaling", "gemm")
DEFAULT = ("training", "training-steps", "forward", "streaming", "cold")
PEERS = {  # the libraries of each comparison; cold is compared with `import numpy`, too
    "training": (pytorch, jax),
    "training-steps": (pytorch,),
    "load": (pytorch,),
    "forward": (pytorch, onnx_runtime, jax),
    "streaming": (pytorch, onnx_runtime),
}


def run_benchmarks(
    kinds: Sequence[str] = DEFAULT,
    shapes: Sequence[Shape] = SHAPES,
    cases: Sequence[Case] = tuple(CASES.values()),
    turns: int = 15,
    log: Callable[[str], object] = lambda _: None,
) -> Iterator[Benchmark]:
    """Yield the benchmarks; each is run when it is requested.

    Parameters
    ----------
    kinds : sequence of str
        Members of `KINDS`.
    shapes : sequence of Shape
        Sizes for training and forward.
    cases : sequence of Case
        Models for training-steps. The other kinds have fixed sizes.
    turns : int
        Number of rounds: timings of each implementation.
    log : callable, optional
        Called with the name of each measurement before it begins.

    Yields
    ------
    Benchmark
    """
    for kind in kinds:
        choice("only", kind, KINDS)
    turns = positive_integer("turns", turns)
    run: dict[str, Callable[[], Benchmark]] = {
        "training": lambda: comparison.training(shapes, turns, log),
        "training-steps": lambda: comparison.whole_models(cases, turns, log),
        "load": lambda: comparison.load(turns, log),
        "forward": lambda: comparison.forward(shapes, turns, log),
        "streaming": lambda: comparison.streaming(turns, log),
        "cold": lambda: cold_start.measure_cold_start(turns, log),
        "memory": lambda: memory.measure_memory(log),
        "scaling": lambda: scaling.measure_scaling(turns, log),
        "gemm": lambda: gemm.measure_gemm(turns, log),
    }
    for kind in KINDS:
        if kind in kinds:
            yield run[kind]()


def has_ratios(kinds: Sequence[str]) -> bool:
    """Return whether a plot of these kinds has content: a library to compare with is installed."""
    return "cold" in kinds or any(not peer.unavailable_reason() for kind in kinds for peer in PEERS.get(kind, ()))
