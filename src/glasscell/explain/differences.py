"""Differences of units between classes: which unit holds a label at which step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.explain.activations import BATCH_SIZE, collect
from glasscell.explain.label_index import entry_index, label_index
from glasscell.explain.samples import Label, Labels, Which, read_samples, rounding
from glasscell.explain.statistics import CORRECTIONS, Correction, adjust_p, share_p, t_test_p
from glasscell.validation import choice, probability

LEVEL = 0.05  # of significance


@dataclass(frozen=True, eq=False, repr=False)
class UnitDifferences:
    """Differences of each unit between the classes of each label, at each step.

    Attributes
    ----------
    labels : tuple of str
        Names of the K labels.
    difference : array (K, T, H)
        Of two classes: mean of the unit in the second class minus that in the first, E[c | 1] - E[c | 0]. Of numbers:
        change of the mean per standard deviation of the label, by least squares. NaN for more than two classes.
    share : array (K, T, H)
        Share of the unit's variance between the classes, η², or explained by the number, r².
    p : array (K, T, H)
        Two-sided p-values: of two classes, Welch's t test; of more classes and of numbers, the F test of the share. NaN
        where too few sequences have this step: of two classes, fewer than two in one.
    adjusted_p : array (K, T, H)
        p-values after the correction for the number of tests.
    is_significant : array (K, T, H) of bool
        Whether the adjusted p-value is at most the level.
    level : float
    correction : str
    tests : int
        Number of tests: all labels, steps and units with a p-value.
    symbol, layer, source : str
        Names of the symbol and the layer, and where the sequences come from.
    input_steps, output_steps : tuple of int
        Of the bits of a copy task: the step at which each is an input, and that of its answer. Otherwise empty.
    """

    labels: tuple[str, ...]
    difference: Array
    share: Array
    p: Array
    adjusted_p: Array
    is_significant: NDArray[np.bool_]
    level: float
    correction: Correction
    tests: int
    symbol: str
    layer: str
    source: str
    input_steps: tuple[int, ...] = ()
    output_steps: tuple[int, ...] = ()

    def holders(self, label: int | str, step: int) -> NDArray[np.intp]:
        """Return the units that differ significantly at a step, from the largest share of variance to the smallest.

        Parameters
        ----------
        label : int or str
            Number or name of the label.
        step : int
            Negative values count from the end.

        Raises
        ------
        TypeError, ValueError
            If the label or the step does not exist.
        """
        k, t = label_index("label", label, self.labels), entry_index("step", step, self.p.shape[1])
        is_significant = self.is_significant[k, t]
        share = np.where(is_significant, self.share[k, t], 0.0)
        return np.argsort(-share, kind="stable")[: int(is_significant.sum())]

    def __repr__(self) -> str:
        K, T, H = self.p.shape
        found = f"{self.is_significant.sum()} of {self.tests} significant at {self.level:g} ({self.correction})"
        sizes = f"{K} labels × {T} steps × {H} units"
        return f"UnitDifferences({sizes}: {found}; {self.symbol} of {self.layer}; {self.source})"


def unit_differences(
    model: Any,
    x: Any,
    labels: Labels | None = None,
    *,
    symbol: str | None = None,
    layer: int = -1,
    which: Which | None = None,
    lengths: ArrayLike | None = None,
    level: float = LEVEL,
    correction: Correction = "benjamini-hochberg",
    batch_size: int = BATCH_SIZE,
) -> UnitDifferences:
    """Return by how much each unit differs between the classes of each label, at each step, and whether significantly.

    Two classes: Welch (1947), "The generalization of Student's problem when several different population variances are
    involved". More classes, and numbers: the F test of one-way analysis of variance, and of regression. The p-values of
    all labels, steps and units are corrected together. They treat the sequences as a sample; differences of the size of
    rounding errors count as none.

    Parameters
    ----------
    model, x, labels, symbol, layer, which, lengths, batch_size
        As in :func:`decodability`.
    level : float
        Of significance, above 0 and below 1.
    correction : {"benjamini-hochberg", "bonferroni"}
        Of the p-values: the false discovery rate, Benjamini & Hochberg (1995), "Controlling the false discovery rate",
        or the probability of any false discovery.

    Returns
    -------
    UnitDifferences

    Raises
    ------
    TypeError, ValueError
        If a label has another length or one class, one of two classes has fewer than two sequences, there are fewer
        sequences than classes, or symbol or layer does not exist.

    Examples
    --------
    >>> import glasscell as gc
    >>> model = gc.CopyLSTM(8, task=gc.tasks.Copy(width=4))  # not trained
    >>> result = gc.explain.unit_differences(model, model.task)
    >>> result.difference.shape  # bits, steps, units
    (4, 9, 8)
    >>> bool(result.is_significant[2, :2].any())  # bit 2 is the input of step 2
    False
    """
    choice("correction", correction, CORRECTIONS)
    if not probability("level", level):
        raise ValueError("level must be above 0 and below 1, got 0")
    samples = read_samples(model, x, labels, lengths, which, needs_labels=True)
    for label in samples.labels:
        if len(label.classes) == 2 and np.bincount(label.values.ravel()).min() < 2:
            raise ValueError(f"labels must have at least two sequences of each class, got one in {label.name!r}")
        if len(samples) <= max(2, len(label.classes)):
            least = max(2, len(label.classes)) + 1
            raise ValueError(f"x must have at least {least} sequences for the label {label.name!r}, got {len(samples)}")
    cells = collect(model, samples, symbol, layer, batch_size)
    values = cells.values.astype(np.float64)
    tolerance = rounding(cells.values.reshape(-1, values.shape[-1]), model.dtype)
    tests = [_test(values, label, tolerance) for label in samples.labels]
    difference, share, p = (np.stack(arrays) for arrays in zip(*tests, strict=True))
    adjusted = adjust_p(p, correction)
    return UnitDifferences(
        tuple(label.name for label in samples.labels),
        difference,
        share,
        p,
        adjusted,
        adjusted <= level,
        float(level),
        correction,
        int((~np.isnan(p)).sum()),
        cells.symbol,
        cells.layer,
        samples.source,
        *(samples.bit_steps if labels is None else ()),
    )


class _Test(NamedTuple):
    difference: Array  # (T, H)
    share: Array  # (T, H)
    p: Array  # (T, H)


def _test(values: Array, label: Label, tolerance: Array) -> _Test:
    """Return the differences of values (N, T, H) and their tests; up to `tolerance` (H,) they are rounding errors."""
    valid = ~np.isnan(values)
    values = np.where(valid, values, 0.0)
    labels = label.values[:, None, None] if label.values.ndim == 1 else label.values[:, :, None]
    if not label.classes:
        return _regression(values, valid, labels, tolerance)
    groups = [_moments(values, valid & (labels == k)) for k in range(len(label.classes))]
    total = _moments(values, valid)
    between = sum(group.number * np.square(group.mean - total.mean) for group in groups)
    between = np.where(between > total.number * np.square(tolerance), between, 0.0)
    squares = between + sum(group.squares for group in groups)
    share = np.divide(between, squares, out=np.zeros_like(squares), where=between > 0)
    numbers = np.stack([group.number for group in groups])
    if len(groups) > 2:
        present = (numbers > 0).sum(axis=0)
        p = share_p(share, np.maximum(present - 1, 1), np.maximum(total.number - present, 1))
        enough = (present >= 2) & (total.number > present)
        return _Test(np.full(share.shape, np.nan), share, np.where(enough, p, np.nan))
    enough = numbers.min(axis=0) >= 2
    difference = groups[1].mean - groups[0].mean
    p = np.where(np.abs(difference) <= tolerance, 1.0, _welch_p(difference, *groups))
    return _Test(np.where(enough, difference, np.nan), share, np.where(enough, p, np.nan))


class _Moments(NamedTuple):
    """Number of sequences, mean, and sum of squares about it, (T, H) each."""

    number: Array
    mean: Array
    squares: Array


def _moments(values: Array, valid: NDArray[np.bool_]) -> _Moments:
    """Return the moments of the valid values."""
    count = valid.sum(axis=0).astype(np.float64)
    mean = (values * valid).sum(axis=0) / np.maximum(count, 1)
    return _Moments(count, mean, (np.square(values - mean) * valid).sum(axis=0))


def _welch_p(difference: Array, first: _Moments, second: _Moments) -> Array:
    """Return the p-values of Welch's t test; 0 for different means without variance."""
    errors = [group.squares / np.maximum(group.number * (group.number - 1), 1) for group in (first, second)]
    error = errors[0] + errors[1]
    freedom = sum(
        np.square(part) / np.maximum(group.number - 1, 1) for part, group in zip(errors, (first, second), strict=True)
    )
    varies = freedom > 0
    t = np.divide(difference, np.sqrt(error), out=np.zeros_like(error), where=varies)
    degrees = np.divide(np.square(error), freedom, out=np.ones_like(error), where=varies)
    return np.where(varies, t_test_p(t, degrees), np.where(difference == 0, 1.0, 0.0))


def _regression(values: Array, valid: NDArray[np.bool_], numbers: Array, tolerance: Array) -> _Test:
    """Return the regression of values on a number; `difference` is the slope times its standard deviation."""
    moments = _moments(values, valid)
    labels = np.where(valid, numbers, 0.0)
    label_moments = _moments(labels, valid)
    centered = (labels - label_moments.mean) * valid
    covariance = (centered * (values - moments.mean)).sum(axis=0)
    spread = np.sqrt(label_moments.squares * moments.number)
    difference = np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0)
    product = moments.squares * label_moments.squares
    is_real = (np.abs(difference) > tolerance) & (product > 0)
    share = np.divide(np.square(covariance), product, out=np.zeros_like(product), where=is_real)
    enough = (moments.number > 2) & (label_moments.squares > 0)
    p = share_p(np.minimum(share, 1.0), 1, np.maximum(moments.number - 2, 1))
    return _Test(np.where(enough, difference, np.nan), np.minimum(share, 1.0), np.where(enough, p, np.nan))
