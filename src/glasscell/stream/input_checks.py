"""Validate the arguments of a push, and write the input block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.stream.arena import Mask
from glasscell.validation import real_array

InputCheck = Callable[..., None]  # (x), or (x, mask of the inactive streams of a batch)


def float_input_check(input_buffer: Array, batch: int | None, *, feature_axis: bool) -> InputCheck:
    """Return the function that checks the features of a step and writes them to the input block.

    Parameters
    ----------
    input_buffer : array (I,) or (n, I)
        The input block; in a batch its transpose.
    batch : int, optional
    feature_axis : bool
        Whether inputs have an axis of features.
    """
    dtype, rows, zero = input_buffer.dtype, input_buffer.T, np.zeros((), input_buffer.dtype)
    shape = input_buffer.shape
    letters = "(I,)" if batch is None else "(n, I)"
    if not feature_axis:
        shape, letters = shape[:-1], "()" if batch is None else "(n,)"
        input_buffer = input_buffer.reshape(shape)
    ndarray = np.ndarray

    def check(x: Any, inactive: Mask | None = None) -> None:
        if type(x) is not ndarray or x.dtype is not dtype or x.shape != shape:
            x, _ = real_array("x", x, dtype)
            if x.shape != shape:
                raise ValueError(f"x must have shape {letters} = {shape}, got {x.shape}")
        input_buffer[...] = x
        if inactive is not None:
            np.copyto(rows, zero, where=inactive)

    return check


def id_input_check(input_buffer: Array, table: Array, batch: int | None, id_mask: Mask | None) -> InputCheck:
    """Return the function that checks ids, and writes their rows of the table to the input block.

    Parameters
    ----------
    input_buffer : array (E,) or (n, E)
    table : array (V, E)
    batch : int, optional
    id_mask : array of bool, optional
        Receives True for ids other than 0.
    """
    shape = () if batch is None else (batch,)
    V = len(table)
    rows = np.empty(input_buffer.shape, input_buffer.dtype)

    def check(x: Any, inactive: Mask | None = None) -> None:
        ids = np.asarray(x)
        if ids.dtype.kind == "f" and np.array_equal(ids, np.trunc(ids)):
            ids = ids.astype(np.int64)  # as Embedding.forward accepts them
        if ids.dtype.kind not in "iu":
            raise TypeError(f"x must be integers, the ids of an Embedding, got dtype {ids.dtype}")
        if ids.shape != shape:
            expected = "one id" if batch is None else f"ids of shape (n,) = ({batch},)"
            raise ValueError(f"x must be {expected}, got shape {ids.shape}")
        if inactive is not None:
            ids = np.where(inactive, ids.dtype.type(0), ids)
        if not (ids.min() >= 0 and ids.max() < V):
            raise ValueError(f"x must be ids from 0 to {V - 1}, got {ids.min()} to {ids.max()}")
        np.take(table, ids, axis=0, out=rows, mode="clip")
        input_buffer[...] = rows
        if id_mask is not None:
            np.not_equal(ids, 0, id_mask)

    def check_single(x: Any, inactive: Mask | None = None) -> None:
        del inactive
        if type(x) is int and 0 <= x < V:
            input_buffer[...] = table[x]
            if id_mask is not None:
                id_mask[0] = x != 0
        else:
            check(x)

    return check if batch is not None else check_single


def finite_check(input_block: Array, raise_error: Callable[[], None]) -> Callable[[], None]:
    """Return a call that raises an error unless all inputs are finite.

    NaN and infinity times 0 are NaN, and so is any sum that contains them; for finite numbers the sum is 0.
    """
    values = input_block.reshape(-1)
    zeros, dot = np.zeros_like(values), np.dot

    def check() -> None:
        if dot(values, zeros):  # NaN is true
            raise_error()

    return check


def active_mask(active: ArrayLike, batch: int | None) -> Mask:
    """Validate the mask of active streams."""
    if batch is None:
        raise ValueError("active must be None for a single stream; a batch is model.stream(n)")
    mask = np.asarray(active)
    if mask.dtype != np.bool_:
        raise TypeError(f"active must be an array of bool, got dtype {mask.dtype}")
    if mask.shape != (batch,):
        raise ValueError(f"active must have shape (n,) = ({batch},), got {mask.shape}")
    return mask


def check_out(out: Array, outputs: Array) -> None:
    """Raise an error unless `out` is a writable array of the shape and dtype of the outputs."""
    dtype = getattr(out, "dtype", type(out).__name__)
    if dtype != outputs.dtype:
        raise TypeError(f"out must be an array of {outputs.dtype}, got {dtype}")
    if out.shape != outputs.shape:
        letters = "(O,)" if outputs.ndim == 1 else "(n, O)"
        raise ValueError(f"out must have shape {letters} = {outputs.shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")
