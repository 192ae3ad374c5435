"""Conversion of a model's inputs and outputs between users' arrays and core's layout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.layers.base import Mask
from glasscell.validation import check_finite, from_feature_major, real_array, step_mask


def prepare_inputs(
    x: ArrayLike,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    kind: str,
    size: int | None,
    dtype: np.dtype[np.floating],
    *,
    copy: bool,
) -> tuple[Any, Mask | None, bool]:
    """Validate the inputs of a model.

    Parameters
    ----------
    x, lengths, mask
        As in :meth:`glasscell.Sequential.forward`.
    kind : {"features", "numbers", "ids"}
        The inputs of the first layer.
    size : int, optional
        Number of features. Default: any.
    dtype : float32 or float64
    copy : bool
        Whether the result must be independent of x.

    Returns
    -------
    x : array (T, I, B), or (T, B)
        0 at invalid steps.
    mask : array (T, B) of bool, or None
        None: all steps are valid.
    single : bool
        Whether there was no batch axis.
    """
    array = np.asarray(x) if kind == "ids" else real_array("x", x, dtype)[0]
    time = array.shape[:-1] if kind == "features" else array.shape
    if len(time) not in (1, 2) or (kind == "features" and size not in (None, array.shape[-1])):
        shapes = "(B, T, I) or (T, I)" if kind == "features" else "(B, T) or (T,)"
        features = f" with I = {size} features" if size is not None and kind == "features" else ""
        raise ValueError(f"x must have shape {shapes}{features}, got {array.shape}")
    single = len(time) == 1
    if single:
        array = array[None]
    valid = step_mask(lengths, mask, 1 if single else time[0], time[-1], single=single)
    columns = np.moveaxis(array, 0, -1)
    if valid is not None:
        steps = valid[:, None] if kind == "features" else valid
        columns = np.where(steps, columns, array.dtype.type(0))
    if kind != "ids":
        values = np.moveaxis(columns, -1, 0)
        check_finite("x", values[0] if single else values, np.asarray(x))
    return np.array(columns, order="C") if copy else columns, valid, single


def to_user(columns: Array, *, single: bool) -> Array:
    """Return a copy of an array in core's layout, batch first, or without a batch axis."""
    if columns.ndim == 3:
        return from_feature_major(columns, single=single)
    return (columns[..., 0] if single else np.moveaxis(columns, -1, 0)).copy()
