"""Validate the inputs of a step map: constant ones and sequences, of features, numbers or ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.validation import finite_array, positive_integer, prepare_inputs


class StepInputs:
    """The inputs that a model takes.

    Parameters
    ----------
    kind : {"features", "numbers", "ids"}
        Whether a step has I features, is a number, or an integer.
    features : int, optional
        I. Default: any.
    """

    def __init__(self, kind: str, features: int | None) -> None:
        self._kind, self._features = kind, features

    def constant(self, name: str, x: ArrayLike) -> NDArray[Any]:
        """Return one input, (I,) or a number, as (1, I, 1) or (1, 1)."""
        array = np.asarray(x) if self._kind == "ids" else finite_array(name, x, np.dtype(np.float64))
        self._check(name, array, 1 if self._kind == "features" else 0)
        return self._prepare(array[None])

    def constants(self, name: str, x: ArrayLike) -> tuple[list[NDArray[Any]], int | None]:
        """Return the constant input of each sequence, as :meth:`constant`, and B; None without a batch axis."""
        axes = 1 if self._kind == "features" else 0
        array = np.asarray(x)
        if array.ndim == axes + 1 and array.dtype.kind in "biuf":
            return [self.constant(name, row) for row in array], len(array)
        return [self.constant(name, x)], None

    def sequence(self, x: ArrayLike, steps: int | None) -> NDArray[Any]:
        """Return one sequence, or `steps` times a constant input, as (T, I, 1) or (T, 1)."""
        array = np.asarray(x) if self._kind == "ids" else finite_array("x", x, np.dtype(np.float64))
        axes = 2 if self._kind == "features" else 1
        if array.ndim == axes - 1:
            if steps is None:
                raise ValueError("steps must be passed with a constant x, got None")
            constant = self.constant("x", array)
            return np.repeat(constant, positive_integer("steps", steps), axis=0)
        self._check("x", array, axes)
        if steps is not None:
            raise ValueError(f"steps must be None for a sequence x, got {steps!r}")
        if not len(array):
            raise ValueError("x must have at least one step, got none")
        return self._prepare(array)

    def sequences(
        self, x: ArrayLike, steps: int | None, lengths: ArrayLike | None
    ) -> tuple[list[NDArray[Any]], int | None]:
        """Return each of the sequences, (T, …) or (B, T, …), as :meth:`sequence`, and B; None without a batch axis.

        Raises
        ------
        TypeError, ValueError
            If the inputs do not fit the model, or a length is not from 1 to T.
        """
        array = np.asarray(x)
        if array.ndim != (3 if self._kind == "features" else 2) or array.dtype.kind not in "biuf":
            if lengths is not None:
                raise ValueError(f"lengths must be None unless x has a batch axis, got {lengths!r:.100}")
            return [self.sequence(x, steps)], None
        if steps is not None:
            raise ValueError(f"steps must be None for sequences x, got {steps!r}")
        if not len(array):
            raise ValueError("x must have at least one sequence, got none")
        B, T = array.shape[:2]
        if not T:
            raise ValueError("x must have at least one step, got none")
        counts = np.full(B, T) if lengths is None else np.asarray(lengths)
        if counts.dtype.kind not in "iu":
            raise TypeError(f"lengths must be integers, got dtype {counts.dtype}")
        if counts.shape != (B,) or (counts < 1).any() or (counts > T).any():
            raise ValueError(
                f"lengths must be one from 1 to {T} for each of {B} sequences, got {counts.tolist()!r:.100}"
            )
        return [self.sequence(row[:length], None) for row, length in zip(array, counts, strict=True)], B

    def _check(self, name: str, array: NDArray[Any], axes: int) -> None:
        """Raise ValueError unless the input has this number of axes, and the features of the model."""
        has_features = self._kind == "features"
        if self._kind == "ids" and array.dtype.kind not in "iuf":
            raise TypeError(f"{name} must be ids of symbols, which are integers, got dtype {array.dtype}")
        if array.ndim == axes and not (has_features and self._features not in (None, array.shape[-1])):
            return
        if not axes:
            raise ValueError(f"{name} must be one {self._kind.removesuffix('s')}, got shape {array.shape}")
        letters = ["T"] * (axes - has_features) + ["I"] * has_features
        size = f" with I = {self._features}" if has_features and self._features is not None else ""
        raise ValueError(f"{name} must have shape ({', '.join(letters)}{',' * (axes == 1)}){size}, got {array.shape}")

    def _prepare(self, array: NDArray[Any]) -> NDArray[Any]:
        x, _, _ = prepare_inputs(array, None, None, self._features, np.dtype(np.float64), self._kind)
        return np.asarray(x)


def at_each_step(x: NDArray[Any]) -> NDArray[Any]:
    """Return the inputs of one sequence, (T, I, 1) or (T, 1), as columns, (1, I, T) or (1, T)."""
    return x.swapaxes(0, -1)


def repeat_columns(x: NDArray[Any], N: int) -> NDArray[Any]:
    """Return a constant input, (1, I, 1) or (1, 1), as N columns."""
    return np.broadcast_to(x, (*x.shape[:-1], N))
