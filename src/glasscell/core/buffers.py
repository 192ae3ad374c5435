"""Memory that is used again."""

from collections.abc import Callable, Iterable
from math import prod
from typing import Self, TypeAlias

import numpy as np

from glasscell.core.types import Array

CACHE_LINE_BYTES, ALIGN_MIN_BYTES = 64, 1 << 15  # bytes: of a line of the cache, and what is not worth looking for one

StepViews: TypeAlias = list[tuple[Array, ...]]


class BufferPool:
    """Named arrays, kept from one call to the next.

    Fresh memory is handed out a page at a time, at the first touch of each page: at small sizes that can take longer
    than the mathematics. A caller who runs the same pass again and again, such as a training loop, therefore makes
    one ``BufferPool`` and gives it to every call. What an earlier call with the same buffers returned is then gone:
    no other caller shares them, and why the default is fresh memory.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}
        self._parts: dict[str, Self] = {}
        self._views: dict[str, tuple[tuple[Array, ...], StepViews]] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
        """Return the array of this name, its content arbitrary; a new one if there is none of this shape and dtype."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._arrays[name] = aligned_empty(shape, dtype)
        return array

    def step_views(
        self, name: str, arrays: tuple[Array, ...], views: Callable[[], Iterable[tuple[Array, ...]]]
    ) -> StepViews:
        """Return the views of these arrays that a time loop needs, step by step; kept while the arrays are the same.

        Slicing costs a tenth of a microsecond each time: with a dozen views a step that is a tenth of a small step.
        """
        of, steps = self._views.get(name, ((), []))
        if len(of) != len(arrays) or any(a is not b for a, b in zip(of, arrays, strict=True)):
            steps = list(views())
            self._views[name] = (arrays, steps)
        return steps

    def scope(self, name: str) -> Self:
        """Return separate buffers for one part of the computation."""
        if name not in self._parts:
            self._parts[name] = type(self)()
        return self._parts[name]

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """Copy as an empty pool: copies of the kept views would be views of unused memory."""
        return type(self), ()


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
