"""Means of the outputs of several models: of probabilities, or of values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal, TypeAlias

import numpy as np

from glasscell.core.activations import sigmoid, softmax_terms
from glasscell.core.types import Array

Outputs: TypeAlias = Literal["classes", "bits", "values"]


def mean(outputs: Sequence[Array], kind: Outputs) -> Array:
    """Return the mean over models of probabilities, or of values, in their dtype; sums are in float64.

    Parameters
    ----------
    outputs : sequence of M arrays of one shape
        Logits of classes along the last axis, logits of bits, or values. Those of one model are not converted to
        float64: the result has the bits of its probabilities.
    kind : {"classes", "bits", "values"}

    Raises
    ------
    ValueError
        If shapes differ.
    """
    if len(outputs) == 1:
        return _probabilities(outputs[0], kind)
    with np.errstate(under="ignore"):
        result: Array = _mean_and_squares(outputs, kind)[0].astype(outputs[0].dtype)
    return result


def deviation(outputs: Sequence[Array], kind: Outputs) -> Array:
    """Return the standard deviation over at least two models, with divisor M - 1; arguments as of :func:`mean`."""
    with np.errstate(under="ignore"):
        _, squares = _mean_and_squares(outputs, kind)
        result: Array = np.sqrt(squares / (len(outputs) - 1)).astype(outputs[0].dtype)
    return result


def mean_as_outputs(outputs: Sequence[Array], kind: Outputs) -> Array:
    """Return the mean in the form of outputs: log-probabilities, logits of bits, or values. Arguments as of `mean`.

    Outputs of one model are returned as they are. The sums are of logarithms: probabilities near 0 and 1 stay exact.
    """
    if len(outputs) == 1:
        return outputs[0]
    if kind == "values":
        return mean(outputs, kind)
    _check_shapes(outputs)
    result: Array
    with np.errstate(under="ignore", over="ignore", divide="ignore"):  # the logarithm of a probability may be -∞
        logits = [entry.astype(np.float64) for entry in outputs]
        if kind == "classes":
            result = _log_sum([_log_probabilities(entry) for entry in logits]) - np.log(len(logits))
        else:
            terms = [np.log1p(np.exp(-np.abs(entry))) for entry in logits]
            ones, zeros = (
                _log_sum([np.minimum(sign * entry, 0) - term for entry, term in zip(logits, terms, strict=True)])
                for sign in (1, -1)
            )
            result = ones - zeros
        return result.astype(outputs[0].dtype)


def _probabilities(outputs: Array, kind: Outputs) -> Array:
    """Return the probabilities of logits, or a copy of values."""
    if kind == "values":
        return outputs.copy()
    with np.errstate(under="ignore"):
        if kind == "bits":
            return sigmoid(outputs)
        _, exponentials, total = softmax_terms(outputs)
        result: Array = exponentials / total
        return result


def _log_probabilities(logits: Array) -> Array:
    shifted, _, total = softmax_terms(logits)
    result: Array = shifted - np.log(total)
    return result


def _log_sum(logarithms: Sequence[Array]) -> Array:
    """Return the logarithm of the sum over models of numbers, from theirs."""
    largest = np.maximum(reduce(np.maximum, logarithms), np.finfo(np.float64).min)  # finite: -∞ + ∞ is NaN
    result: Array = largest + np.log(sum(np.exp(entry - largest) for entry in logarithms))
    return result


def _check_shapes(outputs: Sequence[Array]) -> None:
    shapes = [entry.shape for entry in outputs]
    if len({*shapes}) > 1:
        raise ValueError(f"members must have outputs of one shape, got {shapes[0]} and others")


def _mean_and_squares(outputs: Sequence[Array], kind: Outputs) -> tuple[Array, Array]:
    """Return the mean, and the sum of squared differences from it, in float64, by Welford's update."""
    _check_shapes(outputs)
    result, squares = np.zeros(()), np.zeros(())
    for count, entry in enumerate(outputs, start=1):
        values = _probabilities(entry.astype(np.float64), kind)
        difference = values - result
        result = result + difference / count
        squares = squares + difference * (values - result)
    return result, squares
