"""Inputs of batches in core's layout."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import numpy as np
from numpy.typing import DTypeLike

from glasscell.core.layouts import first_axis_last
from glasscell.data.batch import AnyArray, Batch
from glasscell.layers.base import Mask


def batch_to_feature_major(batch: Batch, kind: str, size: int | None, dtype: DTypeLike) -> tuple[AnyArray, Mask | None]:
    """Check the inputs of a batch; return them, of `dtype` unless they are ids, and their mask, in core's layout."""
    x = batch.inputs
    if x.ndim != (3 if kind == "features" else 2) or not (kind != "features" or size in (None, x.shape[2])):
        expected = f"(B, T, I) with I = {size}" if kind == "features" else "(B, T)"
        raise ValueError(f"x must have shape {expected}, got {x.shape}")
    is_integer = x.dtype.kind in "iu"
    if not is_integer and (kind == "ids" or x.dtype != dtype):
        raise TypeError(f"x must have dtype {'int' if kind == 'ids' else dtype}, got {x.dtype}")
    x, mask = first_axis_last(x), None
    if batch.lengths is not None:
        mask = np.arange(len(x))[:, None] < batch.lengths
        mask = None if mask.all() else mask
    return x.astype(dtype) if is_integer and kind != "ids" else x, mask
