"""Affine map of every step, and the product for the gradient of the weights, which the LSTM uses, too."""

import numpy as np

from glasscell.core.blocking import parts
from glasscell.core.buffers import BufferPool
from glasscell.core.products import for_each, matmul
from glasscell.core.types import Array

NARROW_ROWS = 16  # sequences: from here on a step's columns make a product worth its call
FEW_STEPS = 32  # rows of a narrow product
WIDE_OUTPUTS = 64  # and twice as many as sequences: from here on products and losses of rows are faster
ROWS_OUTPUTS = 32  # from here on they are if the inputs are parts of longer rows
STEPS_PER_GEMM = 1 << 20  # numbers of the products that are added up together
MIN_PIECE = 1 << 16  # numbers of a piece, at least, of a sum over rows or of the products of steps
SMALL_GEMM_FLOPS = 1 << 23  # multiplications: up to here, some 0.1 ms, one core is as fast as two


@np.errstate(under="ignore")
def forward(weight: Array, bias: Array, x: Array, buffers: BufferPool | None = None) -> Array:
    """Compute y_t = W x_t + b.

    Parameters
    ----------
    weight : array (O, I)
    bias : array (O,)
    x : array (T, I, B)
    buffers : BufferPool, optional

    Returns
    -------
    array (T, O, B)
        From :func:`in_rows` x, its O outputs also lie side by side in memory.
    """
    if _is_computed_in_rows(x, len(weight)):
        (T, I, B), O = x.shape, len(weight)
        rows = (buffers or BufferPool()).get("y", (T, B, O), x.dtype)
        matmul(x.transpose(0, 2, 1).reshape(T * B, I), weight.T, rows.reshape(T * B, O), bias)
        return rows.transpose(0, 2, 1)
    out = None if buffers is None else buffers.get("y", (len(x), len(weight), x.shape[2]), x.dtype)
    y = batched_matmul(weight, x, out, buffers)
    y += bias[:, None]
    return y


@np.errstate(under="ignore")
def backward(
    weight: Array, x: Array, dy: Array, buffers: BufferPool | None = None, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array, Array]:
    """Compute the derivative of :func:`forward`.

    Parameters
    ----------
    weight : array (O, I)
    x : array (T, I, B)
    dy : array (T, O, B)
    buffers : BufferPool, optional
    out : tuple of array (O, I) and array (O,), optional
        C-contiguous, where dweight and dbias are written. Default: new arrays.

    Returns
    -------
    dx : array (T, I, B)
    dweight : array (O, I)
    dbias : array (O,)
    """
    buffers = buffers or BufferPool()
    dx = buffers.get("dx", x.shape, x.dtype)
    if not _is_computed_in_rows(x, len(weight)):
        batched_matmul(weight.T, dy, dx)
        dweight, dbias = sum_of_outer_products(dy, x, buffers), dy.sum(axis=(0, 2))
        if out is None:
            return dx, dweight, dbias
        out[0][:], out[1][:] = dweight, dbias
        return dx, *out
    (T, I, B), O = x.shape, len(weight)
    dy = in_rows(dy, buffers.scope("dy"))
    x_rows, dy_rows = x.transpose(0, 2, 1).reshape(T * B, I), dy.transpose(0, 2, 1).reshape(T * B, O)
    dweight, dbias = (np.empty(weight.shape, x.dtype), np.empty(O, x.dtype)) if out is None else out
    matmul(dy_rows.T, x_rows, dweight)
    columns = parts(O, dy_rows.size // MIN_PIECE)
    for_each(lambda part: np.add.reduce(dy_rows[:, part], axis=0, out=dbias[part]), columns)
    dx_rows = matmul(dy_rows, weight, buffers.get("dx rows", (T * B, I), x.dtype)).reshape(T, B, I).transpose(0, 2, 1)
    if _has_gaps(x):  # x is part of a tape in rows, whose layer reads the gradient in rows, too
        return dx_rows, dweight, dbias
    dx[:] = dx_rows
    return dx, dweight, dbias


def in_rows(x: Array, buffers: BufferPool) -> Array:
    """Return x (T, I, B) with the I numbers of a step of a sequence side by side in memory.

    Then a product for all steps is one of T·B rows, and what follows reads and writes rows, for instance of logits.
    """
    T, I, B = x.shape
    if B == 1 or I == 1 or is_in_rows(x):
        return x
    rows = buffers.get("rows", (T, B, I), x.dtype).transpose(0, 2, 1)
    rows[:] = x
    return rows


def is_wide(outputs: int, sequences: int) -> bool:
    """Return whether rows are faster for this number of outputs: see :func:`in_rows`."""
    return outputs >= max(WIDE_OUTPUTS, 2 * sequences)


def is_in_rows(x: Array) -> bool:
    """Return whether x (T, I, B) lies in memory as (T, B, I), perhaps with gaps of one size between the rows.

    For one sequence or one number a step, False.
    """
    size, strides = x.itemsize, x.strides
    if strides[1] != size:  # most arrays
        return False
    T, I, B = x.shape
    return bool(B > 1 and I > 1 and strides[2] >= I * size and (T == 1 or strides[0] == B * strides[2]))


def _has_gaps(x: Array) -> bool:
    """Return whether x (T, I, B) in rows is part of longer rows."""
    return bool(x.strides[2] > x.shape[1] * x.itemsize)


def _is_computed_in_rows(x: Array, outputs: int) -> bool:
    """Return whether a product with x (T, I, B) is one of rows."""
    return is_in_rows(x) and (outputs >= ROWS_OUTPUTS or not _has_gaps(x))


def batched_matmul(matrix: Array, x: Array, out: Array | None = None, buffers: BufferPool | None = None) -> Array:
    """Multiply the columns of every step by a matrix.

    Parameters
    ----------
    matrix : array (O, I)
    x : array (T, I, B)
    out : array (T, O, B), optional
    buffers : BufferPool, optional
        For the product of all steps. Default: fresh memory.

    Returns
    -------
    array (T, O, B)
    """
    (T, I, B), O = x.shape, len(matrix)
    y: Array = np.empty((T, O, B), x.dtype) if out is None else out
    if B == 1:  # matmul would multiply a vector at every step
        np.dot(x[:, :, 0], matrix.T, out=y[:, :, 0])
    elif I == 1:  # and is slow at this
        np.multiply(matrix, x, out=y)
    elif T > 1 and x.strides[0] == B * x.itemsize:  # steps lie side by side: one product
        columns = None if buffers is None else buffers.get("columns", (O, T * B), x.dtype)
        product = np.matmul(matrix, x.transpose(1, 0, 2).reshape(I, T * B), out=columns)
        copy_rows(product.reshape(O, T, B).transpose(1, 0, 2), y)
    else:
        matrix = np.ascontiguousarray(matrix)  # a transposed view is slower at every step
        if y.size < 2 * MIN_PIECE:
            np.matmul(matrix, x, out=y)
        else:
            for_each(lambda part: np.matmul(matrix, x[part], out=y[part]), parts(T, y.size // MIN_PIECE))
    return y


def sum_of_outer_products(a: Array, b: Array, buffers: BufferPool) -> Array:
    """Compute Σ a bᵀ over steps and batch: the gradient of the weights of an affine map.

    One product over all T·B columns is much faster for large shapes, because BLAS can use all cores, and for narrow
    batches, where the product of a step would be an outer product of vectors; one sequence needs no copies. For small
    or narrow products, the copies and the waking of BLAS's threads, which occupy other cores for a while, cost more
    than they save: these are computed as one product per step, and summed.

    Parameters
    ----------
    a : array (T, M, B)
    b : array (T, N, B)
    buffers : BufferPool

    Returns
    -------
    array (M, N)
    """
    (T, M, B), N = a.shape, b.shape[1]
    if B == 1:
        return np.asarray(np.dot(a[:, :, 0].T, b[:, :, 0]))
    if B >= NARROW_ROWS and (T * M * N * B <= SMALL_GEMM_FLOPS or min(M, N) <= FEW_STEPS):
        length = max(1, STEPS_PER_GEMM // max(1, M * N))
        total = np.zeros((M, N), a.dtype) if T == 0 else None
        for start in range(0, T, length):
            a_block, b_block = a[start : start + length], b[start : start + length].transpose(0, 2, 1)
            products = np.matmul(a_block, b_block, out=buffers.get("products", (len(a_block), M, N), a.dtype))
            block_sum = np.add.reduce(products, axis=0)
            total = block_sum if total is None else total + block_sum
        return np.asarray(total)
    return np.asarray(np.matmul(_merge_time_and_batch(a, "a", buffers), _merge_time_and_batch(b, "b", buffers).T))


def _merge_time_and_batch(a: Array, name: str, buffers: BufferPool) -> Array:
    """Reshape (T, M, B) to (M, T·B): a view if the memory layout allows it, otherwise a copy."""
    T, M, B = a.shape
    rows = a.transpose(1, 0, 2)
    if T > 1 and a.strides[0] != B * a.itemsize:
        rows = buffers.get(name, (M, T, B), a.dtype)
        copy_rows(a, rows.transpose(1, 0, 2))
    return rows.reshape(M, T * B)


def copy_rows(a: Array, out: Array) -> None:
    """Copy (T, M, B) to another layout; contiguous rows of B numbers are copied as items, in half the time."""
    if a.shape[2] > 1 and a.strides[2] == out.strides[2] == a.itemsize:
        row = np.dtype((np.void, a.shape[2] * a.itemsize))
        a, out = a.view(row), out.view(row)
    out[:] = a
