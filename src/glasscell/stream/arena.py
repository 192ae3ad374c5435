"""Where the columns of a stream lie: side by side, so that no layer copies what another one wrote.

Each block of rows, the outputs of one layer, is followed by a row of 1, and an LSTM's h lies right behind its inputs::

    x 1 h⁽¹⁾ 1 h⁽²⁾ 1 …

The column [x; 1; h⁽¹⁾] of the first layer is then a view, [h⁽¹⁾; 1; h⁽²⁾] of the second another, and so is what a
linear layer behind them multiplies with [W b]: its bias costs no extra call.
"""

from collections.abc import Callable
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array

Call: TypeAlias = Callable[[], object]
Mask: TypeAlias = NDArray[np.bool_]

CACHE_LINE_BYTES = 64  # bytes
EXTRA_ROWS = 5  # times the rows for other arrays of the stages: more than a standard LSTM needs


def aligned(shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """An array of 0 that begins with a line of the cache: a matrix is multiplied up to a quarter faster there."""
    size = prod(shape) * dtype.itemsize
    raw = np.zeros(size + CACHE_LINE_BYTES, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE_BYTES
    array: Array = raw[start : start + size].view(dtype).reshape(shape)
    return array


class Arena:
    """Rows of one array, handed out in order, and other arrays behind them.

    All of it lies in one vector: what a push changes is copied, and put back, by one instruction.

    Parameters
    ----------
    rows : int
        How many there will be, those of 1 included.
    batch : int, optional
        n, the columns of every array: (rows, n). Default: one stream, whose arrays are (rows,): a product with
        a vector is quicker than one with a matrix of one column.
    dtype : float32 or float64
    size : int, optional
        Numbers of the vector. Default: as many as plain LSTMs need. What it has no place for lies elsewhere: then
        `needed` is larger, and the memory must be made again with it.
    """

    def __init__(self, rows: int, batch: int | None, dtype: np.dtype[np.floating], size: int | None = None) -> None:
        self.batch, self.dtype = batch, dtype
        self.needed = 0
        self._vector = aligned(((1 + EXTRA_ROWS) * rows * (batch or 1) if size is None else size,), dtype)
        self._rows = self.allocate(rows)
        self._starts: list[int] = []
        self._end = 0

    def allocate(self, rows: int) -> Array:
        """Allocate an array of this many rows, all 0."""
        shape, line = (rows,) if self.batch is None else (rows, self.batch), CACHE_LINE_BYTES // self.dtype.itemsize
        start, self.needed = self.needed, self.needed + -(-prod(shape) // line) * line
        if self.needed > len(self._vector):
            return np.zeros(shape, self.dtype)
        return self._vector[start : start + prod(shape)].reshape(shape)

    @property
    def vector(self) -> Array | None:
        """All that has been handed out; None if there was no place for it."""
        return None if self.needed > len(self._vector) else self._vector[: self.needed]

    def mask(self) -> Mask:
        """A truth for each stream; (1,) for one, which broadcasts over rows just as well."""
        return np.ones(self.batch or 1, np.bool_)

    def broadcast_weight(self, values: Array) -> Array:
        """A weight with one number a row, for each stream: NumPy would allocate where it broadcasts."""
        return values.copy() if self.batch is None else np.repeat(values[:, None], self.batch, axis=1)

    def next_block(self, rows: int) -> Array:
        """The next rows, and behind them one of 1."""
        start, self._end = self._end, self._end + rows + 1
        self._starts.append(start)
        self._rows[self._end - 1] = 1
        return self._rows[start : self._end - 1]

    def last_block_with_bias_row(self) -> Array:
        """The last block and its row of 1: what an affine map multiplies."""
        return self._rows[self._starts[-1] : self._end]

    def last_two_blocks_with_bias_row(self) -> Array:
        """The last two blocks and the row of 1 between them: what an LSTM multiplies, once its h has its block."""
        return self._rows[self._starts[-2] : self._end - 1]
