"""Classes and bits that outputs predict. NaN predicts none: it is never right, and has no label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array


def has_right_sign(logits: Array, targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where logits are on the side of targets 0 or 1; NaN is on neither side."""
    return np.where(targets > 0.5, logits > 0, logits <= 0)


def has_largest_output(outputs: Array, targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where the class of the target has the largest of the outputs (..., K); never with NaN."""
    classes, has_number = _largest(outputs)
    right: NDArray[np.bool_] = (classes == targets) & has_number
    return right


def largest_output(outputs: Array) -> NDArray[np.intp]:
    """Return the classes (...) of the largest outputs (..., K), logits or probabilities.

    Raises
    ------
    ValueError
        If an output is NaN.
    """
    classes, has_number = _largest(outputs)
    _check(has_number)
    return classes


def bits_of_signs(logits: Array) -> NDArray[np.bool_]:
    """Return where logits are above 0.

    Raises
    ------
    ValueError
        If one is NaN.
    """
    _check(~np.isnan(logits))
    ones: NDArray[np.bool_] = logits > 0
    return ones


def _largest(outputs: Array) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the classes of the largest outputs, and where there is one: `argmax` takes NaN for it."""
    classes = outputs.argmax(axis=-1)
    largest = np.take_along_axis(outputs, np.expand_dims(classes, -1), axis=-1)[..., 0]
    return classes, ~np.isnan(largest)


def _check(has_number: NDArray[np.bool_]) -> None:
    if not np.all(has_number):
        number, size = int(np.count_nonzero(~has_number)), int(np.size(has_number))
        raise ValueError(
            f"outputs of the model must be numbers to predict a class or bit, got NaN for {number} of {size}"
        )
