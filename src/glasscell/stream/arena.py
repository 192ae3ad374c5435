"""Memory of a stream: blocks of rows side by side, so that a layer reads the outputs of the previous one in place.

Each block, the outputs of one layer, is followed by a row of 1, and an LSTM's h follows its inputs::

    x 1 h⁽¹⁾ 1 h⁽²⁾ 1 …

The column [x; 1; h⁽¹⁾] of the first layer is a view, and so is [h⁽¹⁾; 1; h⁽²⁾] of the second. A linear layer multiplies
[W b] by a block and its row of 1: the bias costs no additional call.
"""

from collections.abc import Callable
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from glasscell.core.buffers import CACHE_LINE_BYTES, aligned_empty
from glasscell.core.types import Array

Call: TypeAlias = Callable[[], object]
Mask: TypeAlias = NDArray[np.bool_]

EXTRA_ROWS = 5  # times the rows of blocks, for other arrays of the stages: more than a standard LSTM needs


class Arena:
    """Blocks of rows of one array, and other arrays after them.

    All of it is in one vector: one instruction copies or restores everything that a push changes.

    Parameters
    ----------
    rows : int
        Number of rows of all blocks, rows of 1 included.
    batch : int, optional
        n, the number of columns of every array: (rows, n). Default: a single stream, whose arrays are (rows,). Its
        products are matrix-vector products, which are faster than products with a matrix of one column.
    dtype : float32 or float64
    size : int, optional
        Length of the vector. Default: enough for standard LSTMs. Arrays that do not fit are allocated elsewhere; `fits`
        is then False, and the arena must be created again with `needed` as its size.

    Attributes
    ----------
    needed : int
        Length of the vector that holds all arrays so far.
    """

    def __init__(self, rows: int, batch: int | None, dtype: np.dtype[np.floating], size: int | None = None) -> None:
        self.batch, self.dtype = batch, dtype
        self.needed = 0
        self._vector = aligned_empty(((1 + EXTRA_ROWS) * rows * (batch or 1) if size is None else size,), dtype, 0)
        self._vector.fill(0)
        self._rows = self.allocate(rows)
        self._starts: list[int] = []
        self._end = 0

    def allocate(self, rows: int) -> Array:
        """Allocate an array of this number of rows, all 0."""
        shape, line = (rows,) if self.batch is None else (rows, self.batch), CACHE_LINE_BYTES // self.dtype.itemsize
        start, self.needed = self.needed, self.needed + -(-prod(shape) // line) * line
        if not self.fits:
            return np.zeros(shape, self.dtype)
        return self._vector[start : start + prod(shape)].reshape(shape)

    @property
    def fits(self) -> bool:
        """Whether the vector holds all arrays."""
        return self.needed <= len(self._vector)

    @property
    def vector(self) -> Array:
        """The vector that holds all arrays, if they fit."""
        return self._vector[: self.needed]

    def mask(self) -> Mask:
        """Allocate a mask with one element per stream; (1,) for a single stream."""
        return np.ones(self.batch or 1, np.bool_)

    def broadcast_weight(self, values: Array) -> Array:
        """Return weights (rows,) in the shape of an array: NumPy allocates memory where it broadcasts."""
        return values.copy() if self.batch is None else np.repeat(values[:, None], self.batch, axis=1)

    def next_block(self, rows: int) -> Array:
        """Return the next block; a row of 1 follows it."""
        start, self._end = self._end, self._end + rows + 1
        self._starts.append(start)
        self._rows[self._end - 1] = 1
        return self._rows[start : self._end - 1]

    def last_block_with_bias_row(self) -> Array:
        """Return the last block and its row of 1: the operand of an affine map."""
        return self._rows[self._starts[-1] : self._end]

    def last_two_blocks_with_bias_row(self) -> Array:
        """Return the last two blocks and the row of 1 between them: the operand of an LSTM whose h is the last."""
        return self._rows[self._starts[-2] : self._end - 1]
