"""Affine map of every step, and the product for the gradient of the weights, which the LSTM uses, too."""

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.types import Array

NARROW_ROWS = 16  # sequences: from here on a step's columns make a product worth its call
FEW_STEPS = 32  # rows of a narrow product
STEPS_PER_GEMM = 1 << 20  # numbers of the products that are added up together
SMALL_GEMM_FLOPS = 1 << 23  # multiplications: up to here, some 0.1 ms, one core is as fast as two


@np.errstate(under="ignore")
def forward(weight: Array, bias: Array, x: Array) -> Array:
    """Compute y_t = W x_t + b.

    Parameters
    ----------
    weight : array (O, I)
    bias : array (O,)
    x : array (T, I, B)

    Returns
    -------
    array (T, O, B)
    """
    y = batched_matmul(weight, x)
    y += bias[:, None]
    return y


@np.errstate(under="ignore")
def backward(weight: Array, x: Array, dy: Array, buffers: BufferPool | None = None) -> tuple[Array, Array, Array]:
    """Compute the derivative of :func:`forward`.

    Parameters
    ----------
    weight : array (O, I)
    x : array (T, I, B)
    dy : array (T, O, B)
    buffers : BufferPool, optional

    Returns
    -------
    dx : array (T, I, B)
    dweight : array (O, I)
    dbias : array (O,)
    """
    buffers = buffers or BufferPool()
    dx = batched_matmul(weight.T, dy, buffers.get("dx", x.shape, x.dtype))
    return dx, sum_of_outer_products(dy, x, buffers), dy.sum(axis=(0, 2))


def batched_matmul(matrix: Array, x: Array, out: Array | None = None) -> Array:
    """Multiply the columns of every step by a matrix.

    Parameters
    ----------
    matrix : array (O, I)
    x : array (T, I, B)
    out : array (T, O, B), optional

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
        copy_rows((matrix @ x.transpose(1, 0, 2).reshape(I, T * B)).reshape(O, T, B).transpose(1, 0, 2), y)
    else:
        np.matmul(np.ascontiguousarray(matrix), x, out=y)  # a transposed view is slower at every step
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
