"""Measure a training step as a fraction of the peak of this machine's matrix products."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np

from speed import glasscell_runner, threads
from speed.contenders import Contender
from speed.results import Benchmark, Metric, spread
from speed.shapes import Shape
from speed.timing import calibrated, interleave, repetitions_of
from speed.workload import make_workload

SHAPES = (Shape(256, 512, 50, 64), Shape(64, 128, 100, 32))
SIZES = (1024, 1536)  # of square matrices: large enough for the peak


def measure_gemm(turns: int, log: Callable[[str], object]) -> Benchmark:
    """Measure the floating-point operations per second of a training step, relative to the best product's."""
    metrics = []
    for shape in SHAPES:
        log(f"fraction of the GEMM peak {shape}")
        implementations: dict[str, list[Contender]] = {}
        for contender in glasscell_runner.training(make_workload(shape), updates=1):
            implementations.setdefault(contender.name, []).append(contender)
        chosen = {
            implementation: calibrated(contenders, rounds=3) for implementation, contenders in implementations.items()
        }
        contenders = {implementation: contender for implementation, (contender, _) in chosen.items()}
        repetitions = {implementation: count for implementation, (_, count) in chosen.items()}
        products = {f"product of {size}": product(size) for size in SIZES}
        repetitions |= {name: repetitions_of(contender) for name, contender in products.items()}
        times = interleave(contenders | products, repetitions, turns)
        flops = {name: 2.0 * size**3 for name, size in zip(products, SIZES, strict=True)}
        peaks = [max(flops[name] / times[name][turn] for name in products) for turn in range(turns)]
        metrics.append(Metric(f"{shape}: peak of float32 products", median(peaks) / 1e9, "GFLOP/s"))
        for implementation in contenders:
            fractions = [
                operations(shape) / second / peak for second, peak in zip(times[implementation], peaks, strict=True)
            ]
            metrics.append(Metric(f"{shape}: {implementation}, fraction of the peak", spread(fractions).median, ""))
    return Benchmark("gemm", "A training step as a fraction of the peak of matrix products", metrics=tuple(metrics))


def product(size: int) -> Contender:
    """Return a contender that computes one large product with all threads."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(size, size)).astype(np.float32) for _ in range(2))
    out = np.empty_like(a)
    setting, context = threads.blas_settings()[-1]
    return Contender("product", setting, lambda: np.dot(a, b, out=out), {}, context)


def operations(shape: Shape) -> float:
    """Return the operations of the products in a training pass of the LSTM: once forward, twice backward."""
    I, H, T, B, _ = shape
    return 3.0 * 2 * T * B * 4 * H * (I + H)
