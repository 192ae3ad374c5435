"""The standard LSTM compiled by Numba: the arguments, tapes and gradients of :mod:`glasscell.core.lstm`, faster.

Results have the same bits for any number of threads: each sequence is independent of the others, and the gradient of
the weights is summed over groups of sequences that depend on the sizes only.

A compiler saves what NumPy cannot: a step without calls, which are most of the time of a small step; products that keep
a tile of the result in registers, and read their operands in place or packed once per pass; and threads that divide the
batch for a whole pass, instead of dividing each product of each step.

Calls share only a few worker threads: several threads may call it at once, each with separate buffers, and the
interpreter's lock is released. Numba is imported at the first use, and then compiles for the dtype, once, in about 20
seconds. The compiled code is cached on disk, in ``__pycache__`` of this package or, if that is not writable, in the
user's cache directory; with it, the first use in a process takes a second, a third of which is Numba's import.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from types import EllipsisType
from typing import NamedTuple

import numpy as np

from glasscell.core import lstm
from glasscell.core.blas_threads import max_threads
from glasscell.core.buffers import BufferPool
from glasscell.core.lstm_inference import InferenceResult
from glasscell.core.numba_engine.kernels import SINGLE_BLOCK_STEPS, compile_kernels
from glasscell.core.numba_engine.thread_pool import run_in_parallel
from glasscell.core.types import Array

DEEP_GEMM_K = 128  # columns of a weight-gradient product, whose operands then stay in the L2 cache
MIN_PARALLEL_FLOPS = 1 << 23  # multiplications of a pass; waking a thread takes as long as a million of them
MANY_THREADS_FACTOR = 16  # times MIN_PARALLEL_FLOPS, from which more than two threads are used
MAX_GROUPS, MIN_GROUP_SIZE = 8, 16  # groups of sequences, and sequences per group: sums over fewer are slow


def is_faster(I: int, H: int, B: int, dtype: np.dtype[np.floating]) -> bool:  # noqa: ARG001 - the same for both
    """Return whether this engine is faster than NumPy's for a layer of I inputs and H units, and B sequences.

    Ratio of NumPy's time to this engine's, forward and backward, in float32 on two cores: 3 to 6 at H = 16, 1.1 to 3.2
    at 64, 1.2 to 2 at 128, 1.1 to 1.4 at 256, but .8 to 1.1 there with 2 to 8 sequences: a few sequences fill a SIMD
    vector badly, and with more units the saved calls matter less.
    """
    return not (1 < B <= 8 and H >= 192)


class BatchSlice(NamedTuple):
    """Slice of a batch of B sequences.

    Attributes
    ----------
    start, end : int
        The sequences of the slice; `end` is exclusive.
    B : int
    """

    start: int
    end: int
    B: int

    @property
    def is_full(self) -> bool:
        """Whether the slice contains all sequences."""
        return self.end - self.start == self.B

    @property
    def size(self) -> int:
        """The number of sequences, b."""
        return self.end - self.start

    @property
    def columns(self) -> tuple[EllipsisType, slice]:
        """The index of its columns in an array (…, B)."""
        return ..., slice(self.start, self.end)

    def rows(self, array: Array, H: int) -> Array:
        """Return its columns of an array (…, k·H, B), or all of an array (…, k·H, b), as (…, k, r, n).

        That is (…, k, H, b), or (…, k, 1, H·b) if the slice is the full batch, whose blocks are contiguous.
        """
        *before, rows, columns = array.shape
        if self.is_full:
            return array.reshape(*before, rows // H, 1, H * columns)
        by_unit = array.reshape(*before, rows // H, H, columns)
        return by_unit if columns == self.size else by_unit[self.columns]


FULL_BATCH_OF_ONE = BatchSlice(0, 1, 1)


def forward(
    kernel: Array,
    x: Array,
    h0: Array | float = 0.0,
    c0: Array | float = 0.0,
    buffers: BufferPool | None = None,
) -> lstm.Tape:
    """Run a forward pass that keeps its tape, see :func:`glasscell.core.lstm.forward`."""
    buffers = buffers or BufferPool()
    (T, I, B), H = x.shape, len(kernel) // 4
    tape = buffers.cached("tape", lstm.Tape, T, I, H, B, kernel.dtype)
    tape.h_with_initial[0], tape.c_with_initial[0] = h0, c0  # first, as in lstm.Tape.begin
    tape.kernel[:], tape.x[:], tape.u[:, -1] = kernel, x, 1
    run = compile_kernels(tape.dtype.char)
    if tape.B == 1:
        W = buffers.get("kernel transposed", kernel.T.shape, kernel.dtype)
        [(u, z, *views)] = _slice_views(tape, [FULL_BATCH_OF_ONE], buffers)
        run.forward_single(tape.kernel, W, u.transpose(2, 0, 1), z[..., 0], *views)
        return tape
    W = _pack_matrix(tape.kernel, "kernel", buffers)
    slices = _split_batch(tape.B, _group_size(tape.T, tape.I, tape.H, tape.B, run.sizes.lanes))
    _run([partial(run.forward, W, *views) for views in _slice_views(tape, slices, buffers)])
    return tape


def forward_inference(
    kernel: Array,
    x: Array,
    h0: Array | float = 0.0,
    c0: Array | float = 0.0,
    buffers: BufferPool | None = None,
) -> InferenceResult:
    """Run a forward pass without a tape, see :func:`glasscell.core.lstm_inference.forward_inference`."""
    buffers = buffers or BufferPool()
    (T, I, B), H, dtype = x.shape, len(kernel) // 4, kernel.dtype
    run, steps = compile_kernels(dtype.char), max(1, min(T, SINGLE_BLOCK_STEPS))
    if B == 1:
        W = buffers.get("kernel transposed", (H + I + 1, 4 * H), dtype)
        h = buffers.get("forward_inference", (T + 1, H, 1), dtype)
        z = buffers.get("gates of a block", (steps, 4 * H), dtype)
        c = np.empty((H, 1), dtype)
        h[0], c[:] = h0, c0
        x = np.ascontiguousarray(x.transpose(2, 0, 1))
        run.forward_inference_single(np.ascontiguousarray(kernel), W, x, h, z, c)
        return InferenceResult(h[1:], h[-1], c)
    W = _pack_matrix(np.ascontiguousarray(kernel), "kernel", buffers)
    x = np.ascontiguousarray(x.transpose(2, 0, 1))  # no copy for most callers, whose arrays have this layout
    y = buffers.get("forward_inference", (B, T, H), dtype)
    final_h, final_c = np.empty((2, H, B), dtype)
    final_h[:], final_c[:] = h0, c0
    work, last_h = [], []
    for s in _split_batch(B, _group_size(T, I, H, B, run.sizes.lanes)):
        scope, sequences = buffers.scope(f"slice from {s.start}"), slice(s.start, s.end)
        u = scope.get("step inputs of two steps", (2, H + I + 1, s.size), dtype)
        z = scope.get("gates of a step", (4 * H, s.size), dtype)
        u[0, :H], u[:, -1] = final_h[s.columns], 1
        views = u, s.rows(u[:, :H], H)[:, 0], z, s.rows(z, H), s.rows(final_c, H)[0]
        work.append(partial(run.forward_inference, W, x[sequences], y[sequences], *views))
        last_h.append(u[T % 2, :H])
    _run(work)
    np.concatenate(last_h, axis=1, out=final_h)
    return InferenceResult(y.transpose(1, 2, 0), final_h, final_c)


def backward(
    tape: lstm.Tape,
    dh: Array,
    dh_T: Array | float = 0.0,
    dc_T: Array | float = 0.0,
    buffers: BufferPool | None = None,
    *,
    dc: Array | None = None,
    need_dx: bool = True,
    dz_steps: Array | None = None,
) -> lstm.Gradient:
    """Run a backward pass from a tape of either engine, see :func:`glasscell.core.lstm.backward`."""
    buffers = buffers or BufferPool()
    T, I, H, B, dtype = tape.T, tape.I, tape.H, tape.B, tape.dtype
    dkernel = np.empty_like(tape.kernel)
    dx = buffers.get("dx", (T if need_dx else 0, I, B), dtype)
    dh0, dc0 = np.empty((2, H, B), dtype)
    dh0[:], dc0[:] = dh_T, dc_T
    dh = np.ascontiguousarray(dh, dtype)
    dc = dh[:0] if dc is None else np.ascontiguousarray(dc, dtype)
    if B == 1:
        _backward_single(tape, dh, dc, (dh0, dc0), dkernel, dx, buffers, dz_steps)
        return lstm.Gradient(dkernel, dx, dh0, dc0)

    run = compile_kernels(dtype.char)
    columns = {"W_h": tape.kernel[:, :H], "W_x": tape.kernel[:, H:-1] if need_dx else tape.kernel[:, :0]}
    W_h, W_x = (_pack_matrix(W, f"{name} transposed", buffers, transposed=True) for name, W in columns.items())
    size = _group_size(T, I, H, B, run.sizes.lanes)
    slices = _split_batch(B, size)
    steps = max(1, T if dz_steps is not None else min(T, DEEP_GEMM_K // size))
    groups = max(1, -(-B // size))
    group_gradients = dkernel[None] if groups == 1 else buffers.get("dkernel", (groups, *dkernel.shape), dtype)
    work, dzs = [], []
    for s, (u, _, *views) in zip(slices, _slice_views(tape, slices, buffers), strict=True):
        scope = buffers.scope(f"slice from {s.start}")
        slice_groups = group_gradients[s.start // size : max(1, -(-s.end // size))]
        dz = scope.get("dz", (steps, 4 * H, s.size), dtype)
        u_T = scope.get("u_T", (steps, s.size, H + I + 1), dtype)
        gradients = *(s.rows(d, H)[:, 0] for d in (dh, dc)), s.rows(dh0, H)[0], dh0[s.columns], s.rows(dc0, H)[0]
        work.append(
            partial(
                run.backward, W_h, W_x, u, *views, *gradients, slice_groups, dx[s.columns], dz, s.rows(dz, H), u_T, size
            )
        )
        dzs.append(dz)
    _run(work)
    if groups > 1:
        np.add(group_gradients[0], group_gradients[1], out=dkernel)
        for group_gradient in group_gradients[2:]:
            dkernel += group_gradient
    if dz_steps is not None:
        for s, dz in zip(slices, dzs, strict=True):
            dz_steps[s.columns] = dz[:T]
    return lstm.Gradient(dkernel, dx, dh0, dc0)


def _backward_single(
    tape: lstm.Tape,
    dh: Array,
    dc: Array,
    running: tuple[Array, Array],
    dkernel: Array,
    dx: Array,
    buffers: BufferPool,
    dz_steps: Array | None,
) -> None:
    T, H, dtype = tape.T, tape.H, tape.dtype
    [(u, _, *views)] = _slice_views(tape, [FULL_BATCH_OF_ONE], buffers)
    W_h, W_x = np.ascontiguousarray(tape.kernel[:, :H]), tape.kernel[:, H:-1]
    steps = max(1, T if dz_steps is not None else min(T, SINGLE_BLOCK_STEPS))
    dz = buffers.get("dz", (1, steps, 4 * H), dtype)
    compile_kernels(dtype.char).backward_single(
        *(W_h, W_x, u.transpose(2, 0, 1), *views, dh.reshape(-1, 1, H), dc.reshape(-1, 1, H)),
        *(d.reshape(1, H) for d in running),
        *(dkernel, dx[..., 0], dz, dz.reshape(steps, 4, 1, H)),
    )
    if dz_steps is not None:
        dz_steps[:, :, 0] = dz[0, :T]


def _slice_views(tape: lstm.Tape, slices: list[BatchSlice], buffers: BufferPool) -> list[tuple[Array, ...]]:
    """Return per slice u (T, K, b), z (T, 4H, b), gates (T+1, 5, r, n), products (T+1, 3, r, n), tanh_c (T, r, n)."""
    H = tape.H

    def views() -> Iterator[tuple[Array, ...]]:
        for s in slices:
            u, z = tape.u[s.columns], tape.gates[:-1, : 4 * H][s.columns]
            yield u, z, s.rows(tape.gates, H), s.rows(tape.step_inputs[:, : 3 * H], H), s.rows(tape.tanh_c, H)[:, 0]

    return buffers.step_views(f"{len(slices)} slices", (tape.step_inputs, tape.gates, tape.tanh_c), views)


def _run(tasks: Sequence[Callable[[], object]]) -> None:
    """Run all tasks, in worker threads if there is more than one."""
    if len(tasks) == 1:
        tasks[0]()
    else:
        run_in_parallel(tasks)


def _pack_matrix(matrix: Array, name: str, buffers: BufferPool, *, transposed: bool = False) -> Array:
    """Return a copy of the matrix or its transpose, packed for the kernels."""
    run, (M, K) = compile_kernels(matrix.dtype.char), matrix.shape[::-1] if transposed else matrix.shape
    rows = run.sizes.rows_to_pack(matrix.size)
    packed = buffers.get(f"{name} packed", (-(-M // rows), K, rows), matrix.dtype)
    (run.pack_columns if transposed else run.pack)(matrix, packed)
    return packed


def _group_size(T: int, I: int, H: int, B: int, lanes: int) -> int:
    """Return the number of sequences per group, whose gradients are summed together; a thread takes whole groups.

    It depends on the sizes only, so that the sum has the same order, and the same bits, for any number of threads.
    """
    work = T * 4 * H * (H + I + 1) * B
    if work < MIN_PARALLEL_FLOPS:
        return max(1, B)
    max_groups = 2 if work < MANY_THREADS_FACTOR * MIN_PARALLEL_FLOPS else MAX_GROUPS
    size = max(1, -(-B // max(1, min(max_groups, -(-B // MIN_GROUP_SIZE)))))
    return size if size <= lanes else lanes * -(-size // lanes)


def _split_batch(B: int, size: int) -> list[BatchSlice]:
    """Divide the groups of sequences among the available threads."""
    if size >= B:
        return [BatchSlice(0, B, B)]
    groups = -(-B // size)
    count = min(max_threads(), groups)
    edges = [min(B, groups * k // count * size) for k in range(count + 1)]
    return [BatchSlice(start, end, B) for start, end in pairwise(edges)]
