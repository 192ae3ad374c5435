"""How near a training step comes to the most that this machine's matrix products give."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np

from glasscell.bench import ours, threads
from glasscell.bench.entrants import Entrant
from glasscell.bench.results import Figure, Race, spread
from glasscell.bench.shapes import Shape
from glasscell.bench.timing import calibrated, repetitions_of, take_turns
from glasscell.bench.work import work_of

SHAPES = (Shape(256, 512, 50, 64), Shape(64, 128, 100, 32))
SIZES = (1024, 1536)  # of square matrices: large enough for the peak


def gemm(turns: int, say: Callable[[str], object]) -> Race:
    """Floating-point operations a second of our training step, as a fraction of the best product's."""
    figures = []
    for shape in SHAPES:
        say(f"fraction of the GEMM peak {shape}")
        sides: dict[str, list[Entrant]] = {}
        for entrant in ours.training(work_of(shape), updates=1):
            sides.setdefault(entrant.side, []).append(entrant)
        chosen = {side: calibrated(entrants, rounds=3) for side, entrants in sides.items()}
        entrants = {side: entrant for side, (entrant, _) in chosen.items()}
        repetitions = {side: count for side, (_, count) in chosen.items()}
        products = {f"product of {size}": product(size) for size in SIZES}
        repetitions |= {name: repetitions_of(entrant) for name, entrant in products.items()}
        times = take_turns(entrants | products, repetitions, turns)
        flops = {name: 2.0 * size**3 for name, size in zip(products, SIZES, strict=True)}
        peaks = [max(flops[name] / times[name][turn] for name in products) for turn in range(turns)]
        figures.append(Figure(f"{shape}: peak of float32 products", median(peaks) / 1e9, "GFLOP/s"))
        for side in entrants:
            fractions = [operations(shape) / second / peak for second, peak in zip(times[side], peaks, strict=True)]
            figures.append(Figure(f"{shape}: {side}, fraction of the peak", spread(fractions).median, ""))
    return Race("gemm", "A training step as a fraction of the peak of matrix products", figures=tuple(figures))


def product(size: int) -> Entrant:
    """One large product, at all threads."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(size, size)).astype(np.float32) for _ in range(2))
    out = np.empty_like(a)
    setting, during = threads.of_blas()[-1]
    return Entrant("product", setting, lambda: np.dot(a, b, out=out), {}, during)


def operations(shape: Shape) -> float:
    """What the products of a training pass of the LSTM need at least: once forward, twice backward."""
    I, H, T, B, _ = shape
    return 3.0 * 2 * T * B * 4 * H * (I + H)
