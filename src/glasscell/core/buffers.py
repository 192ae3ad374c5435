"""Reusable named buffers."""

from collections.abc import Callable, Iterable
from math import prod
from typing import Any, Self, TypeAlias, TypeVar

import numpy as np

from glasscell.core.types import Array

CACHE_LINE_BYTES = 64
GROWTH = 2  # factor on the size of an array that must grow: later ones of other lengths then fit
ALIGN_MIN_BYTES = 1 << 15  # of an array: finding a line's start takes a microsecond, more than it saves for less

StepViews: TypeAlias = list[tuple[Array, ...]]
Value = TypeVar("Value")


class BufferPool:
    """Named arrays, kept from one call to the next.

    Fresh memory is mapped page by page at the first write to each page; at small sizes that can take longer than the
    mathematics. A caller that repeats a pass, such as a training loop, therefore makes one pool and passes it to every
    call. The results of an earlier call with the same pool are overwritten, so that a pool has one user, and the
    default is fresh memory.

    Ownership: only the pass that received a pool writes to its arrays. A forward pass writes the tape, the backward
    pass reads it and writes to other names of the pool. A caller may read the results until the next pass with the
    same pool; nothing else writes to them.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}
        self._largest: dict[str, Array] = {}
        self._scopes: dict[str, Self] = {}
        self._views: dict[str, tuple[tuple[Array, ...], StepViews]] = {}
        self._views_of_steps: dict[str, tuple[tuple[Any, ...], StepViews]] = {}
        self._cache: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
        """Return the array of this name, with arbitrary content.

        Another shape or dtype takes the memory of the largest array of this name so far, if that is large enough.
        """
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            largest, size = self._largest.get(name), prod(shape) * dtype.itemsize
            if largest is None:
                array = self._largest[name] = aligned_empty(shape, dtype)
            else:
                if largest.nbytes < size:  # twice: memory that is never written is never mapped
                    largest = self._largest[name] = aligned_empty((GROWTH * size // dtype.itemsize,), dtype)
                array = largest.reshape(-1).view(np.uint8)[:size].view(dtype).reshape(shape)
            self._arrays[name] = array
        return array

    def get_like(self, name: str, steps: Array) -> Array:
        """Return an array of the shape and dtype of `steps` (T, rows, B), with arbitrary content.

        The numbers of a step of a sequence are adjacent in memory if they are in `steps`.
        """
        T, rows, B = steps.shape
        if numbers_are_adjacent(steps):
            return self.get(f"{name} in rows", (T, B, rows), steps.dtype).transpose(0, 2, 1)
        return self.get(name, steps.shape, steps.dtype)

    def cached(self, name: str, make: Callable[..., Value], *arguments: Any) -> Value:
        """Return ``make(pool, *arguments)``, made again only if one of them differs from those of the last call."""
        entry: tuple[tuple[Any, ...], Value] | None = self._cache.get(name)
        key = make, *arguments
        if entry is None or entry[0] != key:
            entry = self._cache[name] = key, make(self, *arguments)
        return entry[1]

    def step_views(
        self, name: str, arrays: tuple[Array, ...], views: Callable[[], Iterable[tuple[Array, ...]]]
    ) -> StepViews:
        """Return the views of these arrays that a time loop needs at each step, made again only for other arrays.

        Slicing takes a tenth of a microsecond: a dozen views are a tenth of a small step.
        """
        earlier, steps = self._views.get(name, ((), []))
        if len(earlier) != len(arrays) or any(a is not b for a, b in zip(earlier, arrays, strict=True)):
            steps = list(views())
            self._views[name] = (arrays, steps)
        return steps

    def views_of_steps(
        self, name: str, arrays: tuple[Array, ...], count: int, views: Callable[[], Iterable[tuple[Array, ...]]]
    ) -> StepViews:
        """Return the views of at least `count` steps along the first axis of these arrays, made again only for more.

        Arrays of other lengths that begin at the same place, as :meth:`get` returns them, share their views: batches of
        many lengths need no new ones.
        """
        key = tuple(
            (array.__array_interface__["data"][0], array.shape[1:], array.strides, array.dtype) for array in arrays
        )
        memory, steps = self._views_of_steps.get(name, ((), []))
        if memory != key or len(steps) < count:
            steps = list(views())  # they keep the memory in use, so that no other array begins there
            self._views_of_steps[name] = key, steps
        return steps

    def scope(self, name: str) -> Self:
        """Return the separate pool of this name."""
        pool = self._scopes.get(name)
        if pool is None:
            pool = self._scopes[name] = type(self)()
        return pool

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """Copy as an empty pool: copies of the kept views would be views of unused memory."""
        return type(self), ()


def numbers_are_adjacent(steps: Array) -> bool:
    """Return whether the numbers of a step of a sequence, more than one, are adjacent in `steps` (T, rows, B)."""
    return bool(steps.shape[1] > 1 and steps.strides[1] == steps.itemsize)


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[np.floating], min_bytes: int = ALIGN_MIN_BYTES) -> Array:
    """Allocate memory aligned to a cache line, so that SIMD loads and stores do not straddle two lines.

    Arrays of fewer than `min_bytes` bytes are not aligned: it takes a microsecond.
    """
    size = prod(shape) * dtype.itemsize
    if size < min_bytes:
        return np.empty(shape, dtype)
    memory = np.empty(size + CACHE_LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE_BYTES
    array: Array = memory[start : start + size].view(dtype).reshape(shape)
    return array
