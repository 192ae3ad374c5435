"""How fast it is, beside the others: `glasscell bench`.

Everyone does the same work, from the same weights; that it is the same is checked before anything is timed. They take
turns in one process, each at the fastest of its settings, found in the same run; each timing is long against the clock,
and waits until no thread of another library is busy. A ratio is the median of the ratios of the turns: what makes a
machine slow for a while makes both sides slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from glasscell.bench import cold, gemm, jax, memory, onnx_runtime, pytorch, scaling, side_by_side
from glasscell.bench.results import Race
from glasscell.bench.shapes import SHAPES, Shape
from glasscell.validation import choice, positive_integer

__all__ = ["DEFAULT", "KINDS", "Race", "races", "with_ratios"]

KINDS = ("training", "forward", "streaming", "cold", "memory", "scaling", "gemm")
DEFAULT = ("training", "forward", "streaming", "cold")
PEERS = {  # the libraries that each is compared with, where there are some; cold has `import numpy` besides
    "training": (pytorch, jax),
    "forward": (pytorch, onnx_runtime, jax),
    "streaming": (pytorch, onnx_runtime),
}


def races(
    kinds: Sequence[str] = DEFAULT,
    shapes: Sequence[Shape] = SHAPES,
    turns: int = 15,
    say: Callable[[str], object] = lambda _: None,
) -> Iterator[Race]:
    """Run races, each as it is asked for.

    Parameters
    ----------
    kinds : sequence of str
        Of `KINDS`.
    shapes : sequence of Shape
        For training and forward; the others have their own.
    turns : int
        Of everyone in each race.
    say : callable, optional
        Is told what is about to be timed.

    Yields
    ------
    Race
    """
    for kind in kinds:
        choice("only", kind, KINDS)
    turns = positive_integer("turns", turns)
    run: dict[str, Callable[[], Race]] = {
        "training": lambda: side_by_side.training(shapes, turns, say),
        "forward": lambda: side_by_side.forward(shapes, turns, say),
        "streaming": lambda: side_by_side.streaming(turns, say),
        "cold": lambda: cold.cold(turns, say),
        "memory": lambda: memory.memory(say),
        "scaling": lambda: scaling.scaling(turns, say),
        "gemm": lambda: gemm.gemm(turns, say),
    }
    for kind in KINDS:
        if kind in kinds:
            yield run[kind]()


def with_ratios(kinds: Sequence[str]) -> bool:
    """Return whether one of these kinds compares with something that can be used here, so that a plot has content."""
    return "cold" in kinds or any(not peer.why_not() for kind in kinds for peer in PEERS.get(kind, ()))
