"""Decodability: how well a linear readout of the cells of one step tells a label of the sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.explain.activations import BATCH_SIZE, collect
from glasscell.explain.samples import Halves, Label, Labels, Samples, Which, read_samples, rounding, split_halves
from glasscell.validation import positive_number

RIDGES = (*(10.0**k for k in range(-3, 4)), np.inf)  # to choose from, in units of the mean variance of the cells
SMALLEST_REMAINDER = 1e-12  # of 1 - leverage: a sequence that the readout fits whatever its label is


@dataclass(frozen=True, eq=False, repr=False)
class Decodability:
    """Scores of linear readouts, by label and step.

    Attributes
    ----------
    labels : tuple of str
        Names of the K labels.
    r2, accuracy : array (K, T)
        Scores on the held-out half: 1 - Σ (y - ŷ)² / Σ (y - ȳ)², where ȳ is the mean of the fitted half, and the share
        of sequences whose class is right, which is NaN for numbers. NaN at steps that too few sequences have.
    fitted_r2, fitted_accuracy : array (K, T)
        The same on the half that the readouts were fitted on.
    chance : array (K, T)
        Share of the most frequent class of the held-out half; NaN for numbers.
    fitted, scored : array (n,) and (m,) of int
        The sequences of each half.
    ridge : array (K, T)
        Penalty of each readout, in units of the mean variance of the cells; infinite for the constant readout.
    seed : int
    symbol, layer, source : str
        Names of the symbol and the layer, and where the sequences come from.
    input_steps, output_steps : tuple of int
        Of the bits of a copy task: the step at which each is an input, and that of its answer. Otherwise empty.
    """

    labels: tuple[str, ...]
    r2: Array
    accuracy: Array
    fitted_r2: Array
    fitted_accuracy: Array
    chance: Array
    fitted: NDArray[np.intp]
    scored: NDArray[np.intp]
    ridge: Array
    seed: int
    symbol: str
    layer: str
    source: str
    input_steps: tuple[int, ...] = ()
    output_steps: tuple[int, ...] = ()

    def __repr__(self) -> str:
        K, T = self.r2.shape
        return f"Decodability({K} labels × {T} steps: {self.symbol} of {self.layer}; {self.source})"


def decodability(
    model: Any,
    x: Any,
    labels: Labels | None = None,
    *,
    symbol: str | None = None,
    layer: int = -1,
    which: Which | None = None,
    lengths: ArrayLike | None = None,
    ridge: float | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Decodability:
    """Return how well a linear readout of the cells tells each label, by step.

    For each step and label, a ridge least-squares readout ŷ = w · c_t + b is fitted on one half of the sequences and
    scored on the other half. A label with C > 2 classes has one readout per class, fitted to 0 and 1, and the largest
    one is the prediction; one with two classes has one readout and the threshold ½. Linear readouts of hidden states:
    Alain & Bengio (2016), "Understanding intermediate layers using linear classifier probes".

    Parameters
    ----------
    model : layer or model
        With a layer that can be traced.
    x : Copy or another task, Batch, array (N, T, I), ids or numbers (N, T), or list of N arrays (T_n, I) or (T_n,)
        The sequences. A task provides all inputs or held-out ones, see `which`.
    labels : array (N,), (N, K) or (N, T, K), or mapping of names to arrays (N,) or (N, T), optional
        Values of each sequence, or of each step: floating-point numbers, or classes (integers, truth values, text).
        Default: the bits of a copy task, the targets of another task with one per sequence.
    symbol : str, optional
        A symbol of the layer such as "c", "h", "f" or "z_f". Default: its state, c of an LSTM.
    layer : int
        Number of a layer and direction as in ``model.trace(x).layer``; negative numbers count from the last one.
    which : {"all", "held_out"}, optional
        Inputs of a task. "all" includes those of training. Default: all inputs of a copy task of up to 12 bits, and
        otherwise held-out ones.
    lengths : array (N,) of int, optional
        Lengths of sequences in an array. Default: T.
    ridge : float, optional
        Penalty on the squared weights, in units of the mean variance of the cells. Default: for each label and step one
        of 10⁻³ … 10³ and ∞ by the leave-one-out errors on the fitted half, Allen (1974): the largest one whose mean
        error is within one standard error of the smallest, the rule of Breiman et al. (1984), section 3.4.3.
    seed : int
        Of the split into halves, which does not depend on the order of the sequences.
    batch_size : int
        Sequences of a forward pass.

    Returns
    -------
    Decodability

    Raises
    ------
    TypeError, ValueError
        If a label has another length or one class in a half, if there are fewer than four different sequences, or if
        symbol or layer does not exist.

    Examples
    --------
    >>> import glasscell as gc
    >>> model = gc.CopyLSTM(8, task=gc.tasks.Copy(width=6))  # not trained
    >>> result = gc.explain.decodability(model, model.task)
    >>> result
    Decodability(6 labels × 13 steps: c of l0; all 64 inputs of Copy(width=6), with those of training)
    >>> (result.r2[2, :3] > 0.5).tolist()  # bit 2 is the input of step 2
    [False, False, True]
    """
    penalties = RIDGES if ridge is None else (positive_number("ridge", ridge),)
    samples = read_samples(model, x, labels, lengths, which, needs_labels=True)
    halves = split_halves(samples, seed)
    cells = collect(model, samples, symbol, layer, batch_size)
    scores = _score_steps(cells.values, samples, halves, penalties, model.dtype)
    return Decodability(
        tuple(label.name for label in samples.labels),
        *scores[:5],
        *halves,
        scores.ridge,
        int(seed),
        cells.symbol,
        cells.layer,
        samples.source,
        *(samples.bit_steps if labels is None else ()),
    )


class _Scores(NamedTuple):
    r2: Array
    accuracy: Array
    fitted_r2: Array
    fitted_accuracy: Array
    chance: Array
    ridge: Array


def _score_steps(cells: Array, samples: Samples, halves: Halves, penalties: Sequence[float], dtype: Any) -> _Scores:
    """Fit and score all labels at each step, (K, T) each."""
    T = cells.shape[1]
    result = _Scores(*(np.full((len(samples.labels), T), np.nan) for _ in _Scores._fields))
    for t in range(T):
        step = cells[:, t].astype(np.float64)
        present: NDArray[np.bool_] = np.asarray(np.isfinite(step).all(axis=1))
        fitted, scored = (half[present[half]] for half in halves)
        if min(len(fitted), len(scored)) < 2:
            continue
        readouts = Readouts(step[fitted], rounding(step[fitted], dtype))
        for k, label in enumerate(samples.labels):
            target, classes = _columns(label, t), label.at(t)
            if any(not np.ptp(target[half], axis=0).any() for half in (fitted, scored)):
                continue  # the sequences that have this step are of one class
            weights, bias, result.ridge[k, t] = readouts.fit(target[fitted], penalties)
            for half, r2, accuracy in ((scored, *result[:2]), (fitted, *result[2:4])):
                predicted = step[half] @ weights + bias
                total = np.square(target[half] - target[fitted].mean(axis=0)).sum()
                r2[k, t] = 1 - np.square(target[half] - predicted).sum() / total
                if label.classes:
                    accuracy[k, t] = (_classes(predicted) == classes[half]).mean()
            if label.classes:
                result.chance[k, t] = np.bincount(classes[scored]).max() / len(scored)
    return result


class Readouts:
    """Ridge readouts of the same cells (n, H), from one singular value decomposition.

    Parameters
    ----------
    cells : array (n, H)
    tolerance : array (H,)
        A cell whose standard deviation is at most this has the weight 0: it varies by rounding alone.
    """

    def __init__(self, cells: Array, tolerance: Array) -> None:
        self.mean = cells.mean(axis=0)
        centered = np.where(cells.std(axis=0) > tolerance, cells - self.mean, 0.0)
        self.left, self.singular, self.right = np.linalg.svd(centered, full_matrices=False)
        self.mean_square = float(np.square(centered).sum() / cells.shape[1])  # n times the mean variance

    def fit(self, targets: Array, penalties: Sequence[float]) -> tuple[Array, Array, float]:
        """Return weights (H, C), bias (C,) and the penalty that is chosen by leave-one-out errors."""
        target_mean = targets.mean(axis=0)
        along = self.left.T @ (targets - target_mean)
        if not self.mean_square:
            penalties = (np.inf,)
        errors = np.stack([self._left_out_errors(targets - target_mean, along, penalty) for penalty in penalties])
        excess = errors - errors[errors.mean(axis=1).argmin()]
        is_close = excess.mean(axis=1) <= excess.std(axis=1) / np.sqrt(len(targets))
        penalty = penalties[int(np.flatnonzero(is_close)[-1])]
        scale = self._shrinkage(penalty) / np.where(self.singular > 0, self.singular, 1.0)
        weights = self.right.T @ (scale[:, None] * along)
        return weights, target_mean - self.mean @ weights, penalty

    def _shrinkage(self, penalty: float) -> Array:
        """Return s² / (s² + penalty) of each singular value s."""
        square = np.square(self.singular)
        if np.isinf(penalty):
            return np.zeros_like(square)
        shrinkage: Array = square / (square + penalty * self.mean_square)
        return shrinkage

    def _left_out_errors(self, targets: Array, along: Array, penalty: float) -> Array:
        """Return the squared errors (y - ŷ) / (1 - leverage) on each sequence of the readout of the others, (n,)."""
        shrinkage = self._shrinkage(penalty)
        residuals = targets - self.left @ (shrinkage[:, None] * along)
        leverage = 1 / len(targets) + np.square(self.left) @ shrinkage
        remainder = np.maximum(1 - leverage, SMALLEST_REMAINDER)
        errors: Array = np.square(residuals / remainder[:, None]).sum(axis=1)
        return errors


def _columns(label: Label, t: int) -> Array:
    """Return the targets of the readouts at a step: the numbers, class 1 of two classes, or one column per class."""
    values: Array = label.at(t)[:, None]
    if not label.classes:
        return values
    classes = [1] if len(label.classes) == 2 else np.arange(len(label.classes))
    indicators: Array = (values == classes).astype(np.float64)
    return indicators


def _classes(predicted: Array) -> NDArray[np.intp]:
    """Return the class of the largest readout."""
    return (predicted[:, 0] > 0.5).astype(np.intp) if predicted.shape[1] == 1 else predicted.argmax(axis=1)
