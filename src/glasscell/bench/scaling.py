"""Whether time grows linearly with the length and the number of sequences."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from glasscell.bench import ours
from glasscell.bench.results import Figure, Race, fitted_exponent
from glasscell.bench.shapes import Shape
from glasscell.bench.timing import repetitions_of, take_turns
from glasscell.bench.work import work_of

I, H = 32, 64
LENGTHS, BATCHES = (100, 200, 400, 800, 1600), (32, 64, 128, 256, 512)
OF_LENGTHS, OF_BATCHES = 16, 25  # B while T grows, T while B grows


def scaling(turns: int, say: Callable[[str], object]) -> Race:
    """The exponents of time in T and in B, of a training step with the default engine."""
    series = {
        "T": ([Shape(I, H, T, OF_LENGTHS) for T in LENGTHS], LENGTHS),
        "B": ([Shape(I, H, OF_BATCHES, B) for B in BATCHES], BATCHES),
    }
    figures = []
    for name, (shapes, sizes) in series.items():
        say(f"scaling in {name}")
        seconds = times_of(shapes, turns)
        figures.append(
            Figure(f"time ∝ {name}^k, {name} from {sizes[0]} to {sizes[-1]}: k", fitted_exponent(sizes, seconds), "")
        )
        figures += [
            Figure(f"{name} = {size}, time a sequence and step", second / (shape.T * shape.B) * 1e6, "µs")
            for shape, size, second in zip(shapes, sizes, seconds, strict=True)
        ]
    return Race(
        "scaling", f"How the time of a training step grows on one thread, I = {I}, H = {H}", figures=tuple(figures)
    )


def times_of(shapes: list[Shape], turns: int) -> list[float]:
    """Median seconds of a training step at each shape, all in turns."""
    entrants = {shape: ours.by_itself(work_of(shape)) for shape in shapes}
    repetitions = {shape: repetitions_of(entrant) for shape, entrant in entrants.items()}
    times = take_turns(entrants, repetitions, turns)
    return [median(times[shape]) for shape in shapes]
