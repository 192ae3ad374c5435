"""Conversion of the inputs of a batch to core's layout."""

from __future__ import annotations

import numpy as np

from glasscell.data.batch import AnyArray, Batch
from glasscell.layers.base import Mask

TO_FEATURE_MAJOR = {1: (0,), 2: (1, 0), 3: (1, 2, 0)}  # axes, for each number of them; np.moveaxis takes 3 µs


def batch_to_feature_major(
    batch: Batch, kind: str, size: int | None, dtype: np.dtype[np.floating]
) -> tuple[AnyArray, Mask | None]:
    """Check the inputs of a batch, and return them and their valid steps in core's layout.

    Parameters
    ----------
    batch : Batch
    kind : {"features", "numbers", "ids"}
        The inputs of the first layer.
    size : int, optional
        Number of features. Default: any.
    dtype : float32 or float64
        That of the model.

    Returns
    -------
    x : array (T, I, B), or (T, B)
        Integers that are no ids are converted to `dtype`.
    mask : array (T, B) of bool, or None
        None: all steps are valid.

    Raises
    ------
    TypeError, ValueError
        If shape or dtype is another one than the first layer takes.
    """
    x = batch.inputs
    if x.ndim != (3 if kind == "features" else 2) or not (kind != "features" or size in (None, x.shape[2])):
        expected = f"(B, T, I) with I = {size}" if kind == "features" else "(B, T)"
        raise ValueError(f"x must have shape {expected}, got {x.shape}")
    is_integer = x.dtype.kind in "iu"
    if not is_integer and (kind == "ids" or x.dtype != dtype):
        raise TypeError(f"x must have dtype {'int' if kind == 'ids' else dtype}, got {x.dtype}")
    x, mask = x.transpose(TO_FEATURE_MAJOR[x.ndim]), None
    if batch.lengths is not None:
        mask = np.arange(len(x))[:, None] < batch.lengths
        mask = None if mask.all() else mask
    return x.astype(dtype) if is_integer and kind != "ids" else x, mask
