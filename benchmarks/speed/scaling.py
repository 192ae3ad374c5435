"""Measure how time grows with the length and the number of sequences."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from speed import glasscell_runner
from speed.results import Benchmark, Metric, fitted_exponent
from speed.shapes import Shape
from speed.timing import interleave, repetitions_of
from speed.workload import make_workload

I, H = 32, 64
LENGTHS, BATCHES = (100, 200, 400, 800, 1600), (32, 64, 128, 256, 512)
FIXED_BATCH, FIXED_LENGTH = 16, 25  # B while T grows, T while B grows


def measure_scaling(turns: int, log: Callable[[str], object]) -> Benchmark:
    """Measure the exponents of a training step's time in T and in B, with the default engine."""
    series = {
        "T": ([Shape(I, H, T, FIXED_BATCH) for T in LENGTHS], LENGTHS),
        "B": ([Shape(I, H, FIXED_LENGTH, B) for B in BATCHES], BATCHES),
    }
    metrics = []
    for name, (shapes, sizes) in series.items():
        log(f"scaling in {name}")
        seconds = measure_times(shapes, turns)
        metrics.append(
            Metric(f"time ∝ {name}^k, {name} from {sizes[0]} to {sizes[-1]}: k", fitted_exponent(sizes, seconds), "")
        )
        metrics += [
            Metric(f"{name} = {size}, time a sequence and step", second / (shape.T * shape.B) * 1e6, "µs")
            for shape, size, second in zip(shapes, sizes, seconds, strict=True)
        ]
    return Benchmark(
        "scaling", f"How the time of a training step grows on one thread, I = {I}, H = {H}", metrics=tuple(metrics)
    )


def measure_times(shapes: list[Shape], turns: int) -> list[float]:
    """Return the median seconds of a training step at each shape, in interleaved rounds."""
    contenders = {shape: glasscell_runner.default_contender(make_workload(shape)) for shape in shapes}
    repetitions = {shape: repetitions_of(contender) for shape, contender in contenders.items()}
    times = interleave(contenders, repetitions, turns)
    return [median(times[shape]) for shape in shapes]
