"""Baselines: the inputs that stand for the absence of information."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.layouts import first_axis_last
from glasscell.core.types import Array
from glasscell.explain.model_inputs import ModelInputs
from glasscell.validation import as_array, finite_array, step_mask


def mean_input(x: ArrayLike, *, lengths: ArrayLike | None = None) -> Array:
    """Return the mean of each feature over all valid steps of a data set: a baseline.

    Parameters
    ----------
    x : array (N, T, I), or list of N arrays (T_n, I)
    lengths : array (N,) of int, optional
        Lengths of sequences in an array. Default: T.

    Returns
    -------
    array (I,) of float64

    Raises
    ------
    ValueError
        If there is no step, a value is not finite, or the numbers of features differ.
    """
    if isinstance(x, list | tuple) and lengths is None:
        entries = [finite_array(f"x[{n}]", entry, np.dtype(np.float64)) for n, entry in enumerate(x)]
        shapes = {entry.shape[1:] for entry in entries}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f"x must be arrays (T_n, I) with one number of features, got {sorted(shapes)}")
        rows = np.concatenate(entries)
    else:
        array = finite_array("x", x, np.dtype(np.float64))
        if array.ndim != 3:
            raise ValueError(f"x must have shape (N, T, I), got {array.shape}")
        valid = step_mask(lengths, None, *array.shape[:2], single=False)
        rows = array.reshape(-1, array.shape[-1]) if valid is None else array[valid.T]
    if not len(rows):
        raise ValueError("x must have at least one step, got none")
    result: Array = rows.mean(axis=0)
    return result


def resolve_baseline(inputs: ModelInputs, baseline: Any) -> Array:
    """Return the numbers (T, F, B) of a baseline, those of x at invalid steps.

    Parameters
    ----------
    inputs : ModelInputs
    baseline : "zeros", number, array, symbol or text
        See :func:`glasscell.explain.integrated_gradients`.

    Raises
    ------
    TypeError, ValueError
        If the shape does not fit, a value is not finite, or a symbol is not in the vocabulary.
    """
    if isinstance(baseline, str) and baseline == "zeros" and inputs.kind != "ids":
        values = np.zeros_like(inputs.values)
    elif inputs.has_id_columns:
        array = finite_array("baseline", inputs.as_model_inputs("baseline", baseline), inputs.model.dtype)
        values = inputs.lookup("baseline", _broadcast(inputs, array, inputs.num_features))
    elif isinstance(baseline, str | bytes) or inputs.kind == "ids":
        values = _of_symbols(inputs, baseline)
    else:
        array = inputs.as_model_inputs("baseline", baseline)
        values = _of_numbers(inputs, array, expand=inputs.kind == "numbers")
    return values if inputs.valid is None else np.where(inputs.valid[:, None], values, inputs.values)


def _of_numbers(inputs: ModelInputs, value: ArrayLike, *, expand: bool = False) -> Array:
    """Return numbers (F,), (T, F) or (B, T, F), or without the axis F, as (T, F, B)."""
    array = finite_array("baseline", value, inputs.model.dtype)
    return _broadcast(inputs, array, inputs.values.shape[1], expand=expand)


def _broadcast(inputs: ModelInputs, array: Array, F: int, *, expand: bool = False) -> Array:
    """Return numbers of one of the allowed shapes as (T, F, B)."""
    T, B = inputs.T, inputs.B
    shapes = {(), (T,), (B, T)} if expand else {(), (F,), (T, F), (B, T, F)}
    letters = "(), (T,) or (B, T)" if expand else "(), (F,), (T, F) or (B, T, F)"
    if array.shape not in shapes or (inputs.single and array.ndim == (2 if expand else 3)):
        raise ValueError(f"baseline must have shape {letters} with (B, T, F) = {(B, T, F)}, got {array.shape}")
    sequences = np.broadcast_to(array[..., None] if expand else array, (B, T, F))
    return np.ascontiguousarray(first_axis_last(sequences))


def _of_symbols(inputs: ModelInputs, baseline: Any) -> Array:
    """Return the vectors (T, F, B) of ids: one for all steps, (T,) or (B, T); or given vectors."""
    if isinstance(baseline, str | bytes):
        if isinstance(baseline, str) and baseline == "zeros":
            return np.zeros_like(inputs.values)
        if inputs.kind != "ids":
            raise ValueError(f"baseline must be 'zeros' or numbers for a model of numbers, got {baseline!r:.100}")
        ids = inputs.as_model_inputs("baseline", baseline)
        ids = ids[0] if len(ids) == 1 else ids
    else:
        ids = as_array("baseline", baseline)
        if ids.dtype.kind == "f":
            return _of_numbers(inputs, ids)
    T, B = inputs.T, inputs.B
    if ids.shape not in ((), (T,), (B, T)) or (inputs.single and ids.ndim == 2):
        raise ValueError(f"baseline must have shape (), (T,) or (B, T) with (B, T) = {(B, T)}, got {ids.shape}")
    symbols: NDArray[Any] = np.broadcast_to(ids, (B, T)).T
    return inputs.lookup("baseline", symbols)
