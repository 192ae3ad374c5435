"""The forms of X: tables, arrays of sequences, and lists of sequences of different lengths."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from glasscell.core.types import Array
from glasscell.data.entries import as_entries
from glasscell.validation import check_not_masked

Sequences: TypeAlias = "Array | list[Array]"
DTYPES = (np.float64, np.float32)  # the first one replaces all others


def is_table(X: Any) -> bool:
    """Return whether X is a table (n, T), and not an array (n, T, F) or a list of sequences of different lengths."""
    if isinstance(X, list | tuple):
        if not X:
            raise ValueError("X must have at least one sequence, got none")
        ndim = np.ndim(X[0])
        return ndim < 2 and not (ndim == 1 and len({np.shape(entry)[:1] for entry in X}) > 1)
    return getattr(X, "ndim", 2) != 3 and not _is_array_of_sequences(X)


def read_sequences(estimator: Any, X: Any, *, reset: bool) -> Sequences:
    """Validate X as scikit-learn does, and return sequences (n, T, F), or a list of arrays (T_i, F).

    Parameters
    ----------
    estimator : estimator
        With `reset`, its ``n_features_in_`` and ``feature_names_in_`` are set; otherwise X is compared with them.
    X : array (n, T, F) or (n, T), or list of arrays (T_i, F) or (T_i,)
        A table (n, T) has sequences of one feature.
    reset : bool

    Raises
    ------
    TypeError, ValueError
        If X is no such thing, is empty or not finite, or has other features than X in ``fit``.
    """
    for entry in X if isinstance(X, list | tuple) else [X]:
        check_not_masked("X", entry)
    if is_table(X):
        table = _read_table(estimator, X, reset=reset)
        return table[:, :, None]
    if getattr(X, "ndim", None) == 3:
        sequences: Sequences = check_array(X, dtype=DTYPES, allow_nd=True, estimator=estimator, input_name="X")
    else:
        sequences = _read_list(X)
    if min(map(len, sequences)) < 1:
        raise ValueError("X must have at least one step in each sequence, got a sequence without steps")
    features = sequences[0].shape[1]
    if features < 1:
        raise ValueError("X must have at least one feature, got sequences of shape (T, 0)")
    if reset:
        estimator.n_features_in_, estimator.fitted_on_table_ = features, False
        vars(estimator).pop("feature_names_in_", None)
    elif features != estimator.model_.input_size:
        raise ValueError(
            f"X has {features} features, but {type(estimator).__name__} is expecting {estimator.model_.input_size} "
            "features as input"
        )
    return sequences


def _read_table(estimator: Any, X: Any, *, reset: bool) -> Array:
    """Return a table (n, T)."""
    if isinstance(X, list | tuple) and isinstance(X[0], np.ndarray):
        X = np.asarray(X)  # of the dtype of its rows; scikit-learn reads lists as float64
    if reset or estimator.fitted_on_table_:
        table: Array = validate_data(estimator, X, reset=reset, dtype=DTYPES)
        estimator.fitted_on_table_ = True
        return table
    table = check_array(X, dtype=DTYPES, estimator=estimator, input_name="X")
    F = estimator.model_.input_size
    if F != 1:
        raise ValueError(
            f"X must be an array (n, T, {F}) or a list of arrays (T_i, {F}), as in fit, got shape {table.shape}"
        )
    return table


def _read_list(X: Any) -> Sequences:
    """Return a list of sequences; an array if all have one length."""
    entries = as_entries("X", [np.asarray(entry) for entry in X])
    arrays = [entry[:, None] if entry.ndim == 1 else entry for entry in entries]
    for k, array in enumerate(arrays):
        if array.ndim != 2:
            raise ValueError(f"X must be a list of arrays (T_i, F) or (T_i,), got shape {array.shape} in sequence {k}")
        if array.shape[1] != arrays[0].shape[1]:
            widths = f"{arrays[0].shape[1]} in sequence 0 and {array.shape[1]} in sequence {k}"
            raise ValueError(f"X must have the same number of features in all sequences, got {widths}")
    dtype = np.float32 if all(array.dtype == np.float32 for array in arrays) else np.float64
    arrays = [array.astype(dtype, copy=False) for array in arrays]
    return np.stack(arrays) if len({len(array) for array in arrays}) == 1 else arrays


def _is_array_of_sequences(X: Any) -> bool:
    """Return whether X is an array (n,) of objects that are sequences."""
    is_objects = getattr(X, "ndim", None) == 1 and getattr(getattr(X, "dtype", None), "kind", "") == "O"
    return is_objects and len(X) > 0 and np.ndim(X[0]) > 0
