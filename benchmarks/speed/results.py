"""What came out of the benchmarks, and how it is counted."""

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
    """How many times as long a peer takes: above 1, ours is the faster."""

    ours: str
    peer: str
    spread: Spread


@dataclass(frozen=True)
class Implementation:
    """One implementation of a benchmark at one size.

    Attributes
    ----------
    seconds : tuple of float
        Turn by turn.
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
    """One size, and everyone who measure at it."""

    what: str
    implementations: tuple[Implementation, ...]

    def ratios(self) -> list[Ratio]:
        """Each peer over each of ours, turn by turn: what slows a turn down slows both."""
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
        Who did not benchmark, and why.
    """

    kind: str
    title: str
    rows: tuple[Row, ...] = ()
    metrics: tuple[Metric, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)

    def means(self) -> list[tuple[str, str, float, float]]:
        """For each of ours and each peer the geometric mean of the ratios over all sizes, and the least of them."""
        found: dict[tuple[str, str], list[float]] = {}
        for row in self.rows:
            for ratio in row.ratios():
                found.setdefault((ratio.ours, ratio.peer), []).append(ratio.spread.median)
        return [(*pair, geometric_mean(values), min(values)) for pair, values in found.items()]


def spread(values: Iterable[float]) -> Spread:
    """The median, and the quartiles around it."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return Spread(*ordered * 3)
    low, _, high = quantiles(ordered, n=4, method="inclusive")
    return Spread(median(ordered), low, high)


def geometric_mean(values: Iterable[float]) -> float:
    """The mean of ratios: of 2 and ½ it is 1."""
    logs = [log(value) for value in values]
    return exp(sum(logs) / len(logs))


def fitted_exponent(sizes: Iterable[float], seconds: Iterable[float]) -> float:
    """K of seconds ∝ sizeᵏ, by least squares of the logarithms."""
    x, y = [log(size) for size in sizes], [log(second) for second in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    along = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return along / sum((a - mean_x) ** 2 for a in x)
