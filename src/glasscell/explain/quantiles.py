"""Quantiles of a stream of numbers in constant memory: exact for few numbers, then from a histogram."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array

EXACT_VALUES = 1 << 16  # kept before the histogram begins
BINS = 1 << 16  # even: a range that doubles merges pairs of bins


class StreamedQuantiles:
    """Quantiles of numbers that arrive in blocks.

    Up to :data:`EXACT_VALUES` numbers are kept. After that, a histogram of :data:`BINS` equal bins from -R to R counts
    them; R doubles, and pairs of bins merge, when a larger number arrives.

    Attributes
    ----------
    count : int
    low, high : float
        The smallest and the largest number.
    """

    def __init__(self) -> None:
        self.count, self.low, self.high = 0, np.inf, -np.inf
        self._values: list[Array] = []
        self._counts: NDArray[np.int64] | None = None
        self._range = 0.0

    def add(self, values: Array) -> None:
        """Add a block of finite numbers (n,)."""
        if not len(values):
            return
        self.count += len(values)
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        if self._counts is None:
            self._values.append(values.astype(np.float64))
            if self.count > EXACT_VALUES:
                block, self._values = np.concatenate(self._values), []
                self._counts, self._range = np.zeros(BINS, np.int64), max(-self.low, self.high, np.finfo(float).tiny)
                self._bin(block)
        else:
            self._bin(values.astype(np.float64))

    @property
    def error(self) -> float:
        """Largest error of a quantile: 0, or half the width of a bin."""
        return 0.0 if self._counts is None else self._range / BINS

    def quantiles(self, levels: Array) -> Array:
        """Return the quantiles, interpolated linearly between two numbers as in `numpy.quantile`."""
        if self._counts is None:
            exact: Array = np.quantile(np.concatenate(self._values), levels)
            return exact
        ranks = levels * (self.count - 1)
        below = np.floor(ranks)
        first, second = self._ranked(below), self._ranked(np.minimum(below + 1, self.count - 1))
        interpolated: Array = first + (ranks - below) * (second - first)
        return interpolated

    def _bin(self, values: Array) -> None:
        assert self._counts is not None  # noqa: S101 - made by the caller
        while max(-self.low, self.high) > self._range:
            quarter = BINS // 4
            merged = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.pad(merged, quarter)
            self._range *= 2
        index = ((values / self._range + 1) * (BINS // 2)).astype(np.intp)
        self._counts += np.bincount(np.minimum(index, BINS - 1), minlength=BINS)

    def _ranked(self, ranks: Array) -> Array:
        """Return the numbers of these ranks from 0, each as the middle of its bin; the first and the last are exact."""
        assert self._counts is not None  # noqa: S101
        index = np.searchsorted(np.cumsum(self._counts), ranks, side="right")
        middle = (index + 0.5) * (2 * self._range / BINS) - self._range
        numbers: Array = np.clip(middle, self.low, self.high)
        numbers[ranks == 0], numbers[ranks == self.count - 1] = self.low, self.high
        return numbers
