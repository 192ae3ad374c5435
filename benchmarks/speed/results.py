"""Results of the benchmarks, and their statistics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp, log
from statistics import median, quantiles
from typing import NamedTuple


class Spread(NamedTuple):
    """A median and its quartiles."""

    median: float
    low: float
    high: float


class Ratio(NamedTuple):
    """Time of another library over Glasscell's: above 1, Glasscell is faster."""

    ours: str
    peer: str
    spread: Spread


@dataclass(frozen=True)
class Implementation:
    """One implementation of a benchmark at one size.

    Attributes
    ----------
    seconds : tuple of float
        One per round.
    peak_mb : float, optional
        Peak memory of its process.
    """

    name: str
    setting: str
    seconds: tuple[float, ...]
    ours: bool = False
    peak_mb: float | None = None


@dataclass(frozen=True)
class Row:
    """One size, and the implementations that were measured at it."""

    what: str
    implementations: tuple[Implementation, ...]

    def ratios(self) -> list[Ratio]:
        """Return the ratios of each other library to each implementation of Glasscell, round by round."""
        return [
            Ratio(ours.name, peer.name, spread([b / a for a, b in zip(ours.seconds, peer.seconds, strict=True)]))
            for ours in self.implementations
            if ours.ours
            for peer in self.implementations
            if not peer.ours
        ]


class Metric(NamedTuple):
    """A single number."""

    what: str
    value: float
    unit: str


@dataclass(frozen=True)
class Benchmark:
    """One kind of benchmark.

    Attributes
    ----------
    kind : str
        As on the command line.
    title : str
    rows : tuple of Row
    metrics : tuple of Metric
    absent : dict of str to str
        The reason by library that was not measured.
    """

    kind: str
    title: str
    rows: tuple[Row, ...] = ()
    metrics: tuple[Metric, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)

    def means(self) -> list[tuple[str, str, float, float]]:
        """Return the geometric mean of each pair's ratios over all sizes, and the least of them."""
        found: dict[tuple[str, str], list[float]] = {}
        for row in self.rows:
            for ratio in row.ratios():
                found.setdefault((ratio.ours, ratio.peer), []).append(ratio.spread.median)
        return [(*pair, geometric_mean(values), min(values)) for pair, values in found.items()]


def spread(values: Iterable[float]) -> Spread:
    """Return the median and the quartiles."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return Spread(*ordered * 3)
    low, _, high = quantiles(ordered, n=4, method="inclusive")
    return Spread(median(ordered), low, high)


def geometric_mean(values: Iterable[float]) -> float:
    """Return the mean of ratios: 1 for 2 and ½."""
    logs = [log(value) for value in values]
    return exp(sum(logs) / len(logs))


def fitted_exponent(sizes: Iterable[float], seconds: Iterable[float]) -> float:
    """Return k of seconds ∝ sizeᵏ, by least squares of the logarithms."""
    x, y = [log(size) for size in sizes], [log(second) for second in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    along = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return along / sum((a - mean_x) ** 2 for a in x)
