"""The standard LSTM compiled by Numba: the arguments, tapes and gradients of :mod:`glasscell.core.lstm`, faster.

Results have the same bits for any number of threads: each sequence is independent of the others, and the gradient of
the weights is summed over groups of sequences that depend on the sizes only.

A compiler saves what NumPy cannot: a step without calls, which are most of the time of a small step; products that keep
a tile of the result in registers, and read their operands in place or packed once per pass; and threads that divide the
batch for a whole pass, instead of dividing each product of each step.

Arrays (T, rows, B) of this engine lie in memory as (T, B, rows): the numbers of a step of a sequence are adjacent.
Vectors then consist of units, whose number is usually a multiple of their length, and a tile has as many sequences as
there are: 25 of them cost half of what 50 do. The sequences of a thread share no cache line with those of another one.

Calls share only a few worker threads: several threads may call it at once, each with separate buffers, and the
interpreter's lock is released. Numba is imported at the first use, and then compiles for the dtype, once, in about 20
seconds. The compiled code is cached on disk, in ``__pycache__`` of this package or, if that is not writable, in the
user's cache directory; with it, the first use in a process takes a second, a third of which is Numba's import.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from glasscell.core import lstm, lstm_tape
from glasscell.core.blas_threads import max_threads
from glasscell.core.buffers import CACHE_LINE_BYTES, BufferPool, numbers_are_adjacent
from glasscell.core.lstm_inference import InferenceResult
from glasscell.core.numba_engine.batch_slices import SINGLE, BatchSlice, make_slices
from glasscell.core.numba_engine.kernels import SINGLE_BLOCK_STEPS, compile_kernels
from glasscell.core.numba_engine.thread_pool import run_in_parallel
from glasscell.core.types import Array

skips_ended = True  # see glasscell.core.engines.Engine

DEEP_GEMM_K = 128  # sequences and steps of a weight-gradient product, whose operands then stay in the L2 cache
MIN_PARALLEL_FLOPS = 1 << 23  # multiplications of a pass; waking a thread takes as long as a million of them
MANY_THREADS_FACTOR = 16  # times MIN_PARALLEL_FLOPS, from which more than two threads are used
MAX_SINGLE_BYTES = 1 << 25  # weights of a layer that are read for a single sequence
MAX_GROUPS, MIN_GROUP_SIZE = 8, 16  # groups of sequences, and sequences per group: sums over fewer are slow


def is_faster(I: int, H: int, B: int, dtype: np.dtype[np.floating]) -> bool:
    """Return whether this engine is faster than NumPy's for a layer of I inputs and H units, and B sequences.

    Ratio of NumPy's time to this engine's, forward and backward, in float32 on one core: 2 to 4 at H = 16, 1.7 to 2.6
    at 64, 1.4 to 2.4 at 192 and 256, 1.4 to 3.6 at 512. It is .95 for one sequence and weights that no cache holds.
    """
    return B > 1 or 4 * H * (H + I + 1) * np.dtype(dtype).itemsize <= MAX_SINGLE_BYTES


class Tape(lstm_tape.Tape):
    """Tape of arrays in rows, see above; either engine computes gradients from it."""

    @staticmethod
    def _array(buffers: BufferPool, name: str, shape: tuple[int, int, int], dtype: np.dtype[np.floating]) -> Array:
        T, rows, B = shape
        array = buffers.get(f"{name} of rows", (T, B, odd_lines(rows, dtype)), dtype)
        return array[..., :rows].transpose(0, 2, 1)


def forward(
    kernel: Array,
    x: Array,
    h0: Array | float = 0.0,
    c0: Array | float = 0.0,
    buffers: BufferPool | None = None,
    ended: NDArray[np.intp] | None = None,
) -> lstm_tape.Tape:
    """Run a forward pass that keeps its tape, see :func:`glasscell.core.lstm.forward`.

    `ended` (T,), of several sequences only: how many, the first ones, have no step t. It is 0 in the tape.
    """
    buffers = buffers or BufferPool()
    (T, I, B), H = x.shape, len(kernel) // 4
    run = compile_kernels(kernel.dtype.char)
    if B == 1:
        tape = lstm_tape.Tape.begin(kernel, x.shape, h0, c0, buffers)
        tape.write_inputs(x)
        W = buffers.get("kernel transposed", kernel.T.shape, kernel.dtype)
        [(u, z, *views)] = _single_views(tape, buffers)
        run.forward_single(tape.kernel, W, u, z, *views)
        return tape
    tape = buffers.cached("tape", Tape, T, I, H, B, kernel.dtype)  # the compiled pass writes the inputs
    tape.h_with_initial[0], tape.c_with_initial[0], tape.kernel[:] = h0, c0, kernel  # in this order, as in Tape.begin
    W = _packed(tape.kernel, "kernel", buffers, transposed=True)
    slices = _split_batch(T, I, H, B, buffers)
    xs = _rows_or_columns(x, kernel.dtype, slices)
    parts = zip(slices, xs, _slice_views(tape, slices, buffers), strict=True)
    _run([partial(run.forward, W, *x, *views, _ended(s, T, ended)) for s, x, views in parts])
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
    run = compile_kernels(dtype.char)
    x = np.ascontiguousarray(x.transpose(2, 0, 1))  # no copy for most callers, whose arrays have this layout
    if B == 1:
        W = buffers.get("kernel transposed", (H + I + 1, 4 * H), dtype)
        h = buffers.get("forward_inference", (T + 1, H, 1), dtype)
        z = buffers.get("gates of a block", (max(1, min(T, SINGLE_BLOCK_STEPS)), 4 * H), dtype)
        c = np.empty((H, 1), dtype)
        h[0], c[:] = h0, c0
        run.forward_inference_single(np.ascontiguousarray(kernel), W, x, h, z, c)
        return InferenceResult(h[1:], h[-1], c)
    W = _packed(np.ascontiguousarray(kernel), "kernel", buffers, transposed=True)
    y = buffers.get("forward_inference", (B, T, H), dtype)
    u = buffers.get("step inputs of two steps", (2, B, H + I + 1), dtype)
    z = buffers.get("gates of a step", (B, 4 * H), dtype)
    c = np.empty((B, H), dtype)
    c.T[:], u[0, :, :H].T[:], u[:, :, -1] = c0, h0, 1
    gates = z.reshape(B, 4, H).transpose(1, 0, 2)
    parts = [s.sequences for s in _split_batch(T, I, H, B, buffers)]
    _run([partial(run.forward_inference, W, x[s], y[s], u[:, s], z[s], gates[:, s], c[s]) for s in parts])
    return InferenceResult(y.transpose(1, 2, 0), u[T % 2, :, :H].T.copy(), c.T)


def backward(
    tape: lstm_tape.Tape,
    dh: Array,
    dh_T: Array | float = 0.0,
    dc_T: Array | float = 0.0,
    buffers: BufferPool | None = None,
    *,
    dc: Array | None = None,
    need_dx: bool = True,
    dz_steps: Array | None = None,
    ended: NDArray[np.intp] | None = None,
) -> lstm.Gradient:
    """Run a backward pass from a tape of either engine, see :func:`glasscell.core.lstm.backward`.

    With `ended`, see :func:`forward`, gradients on steps that do not exist are not read.
    """
    buffers = buffers or BufferPool()
    T, I, H, B, dtype = tape.T, tape.I, tape.H, tape.B, tape.dtype
    if B == 1:
        return _backward_single(tape, dh, dh_T, dc_T, buffers, dc, dz_steps, need_dx=need_dx)

    dkernel = np.empty_like(tape.kernel)
    dx = buffers.get("dx", (T if need_dx else 0, B, I), dtype)
    du, dc0 = np.zeros((B, H + I if need_dx else H), dtype), np.empty((B, H), dtype)
    dh0 = du[:, :H]
    dh0.T[:], dc0.T[:] = dh_T, dc_T
    W = _packed(tape.kernel[:, : du.shape[1]], "W", buffers)
    slices = _split_batch(T, I, H, B, buffers)
    groups = slices[-1].groups.stop
    size = max(1, -(-B // groups))
    steps = max(1, T if dz_steps is not None else min(T, DEEP_GEMM_K // size))
    group_gradients = dkernel[None] if groups == 1 else buffers.get("dkernel", (groups, *dkernel.shape), dtype)
    dbias = buffers.get("dbias", (groups, 1, 4 * H), dtype)
    dc_rows = rows_of(dh[:0] if dc is None else np.asarray(dc, dtype))
    work, dzs = [], []
    dhs = _rows_or_columns(dh, dtype, slices)
    for s, dh_slice, (u, _, *views) in zip(slices, dhs, _slice_views(tape, slices, buffers), strict=True):
        dz, dgates = buffers.scope(f"slice from {s.sequences.start}").cached("dz", _dz_rows, steps, s.size, H, dtype)
        gradients = *dh_slice, dc_rows[:, s.sequences], du[s.sequences], dc0[s.sequences]
        written = group_gradients[s.groups], dbias[s.groups], dx[:, s.sequences], dz, dgates
        work.append(
            partial(
                compile_kernels(dtype.char).backward, W, u, *views, *gradients, *written, s.edges, _ended(s, T, ended)
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
            dz_steps[:, :, s.sequences] = dz[:T].transpose(0, 2, 1)
    return lstm.Gradient(dkernel, dx.transpose(0, 2, 1), dh0.T, dc0.T)


def _backward_single(
    tape: lstm_tape.Tape,
    dh: Array,
    dh_T: Array | float,
    dc_T: Array | float,
    buffers: BufferPool,
    dc: Array | None,
    dz_steps: Array | None,
    *,
    need_dx: bool,
) -> lstm.Gradient:
    T, H, dtype = tape.T, tape.H, tape.dtype
    dkernel = np.empty_like(tape.kernel)
    dx = buffers.get("dx", (T if need_dx else 0, tape.I, 1), dtype)
    dh0, dc0 = np.empty((2, H, 1), dtype)
    dh0[:], dc0[:] = dh_T, dc_T
    dh = np.ascontiguousarray(dh, dtype)
    dc = dh[:0] if dc is None else np.ascontiguousarray(dc, dtype)
    [(u, _, *views)] = _single_views(tape, buffers)
    W_h, W_x = np.ascontiguousarray(tape.kernel[:, :H]), tape.kernel[:, H:-1]
    steps = max(1, T if dz_steps is not None else min(T, SINGLE_BLOCK_STEPS))
    dz = buffers.get("dz", (1, steps, 4 * H), dtype)
    compile_kernels(dtype.char).backward_single(
        *(W_h, W_x, u, *views, dh.reshape(-1, 1, H), dc.reshape(-1, 1, H)),
        *(dh0.reshape(1, H), dc0.reshape(1, H), dkernel, dx[..., 0], dz, dz.reshape(steps, 4, 1, H)),
    )
    if dz_steps is not None:
        dz_steps[:, :, 0] = dz[0, :T]
    return lstm.Gradient(dkernel, dx, dh0, dc0)


def _slice_views(tape: lstm_tape.Tape, slices: list[BatchSlice], buffers: BufferPool) -> list[tuple[Array, ...]]:
    """Return for each slice u (T, b, K), z (T, b, 4H), gates (T+1, 5, b, H), products (T+1, 3, b, H) and tanh_c."""
    H, arrays = tape.H, (tape.step_inputs, tape.gates, tape.tanh_c)

    def views() -> Iterator[tuple[Array, ...]]:
        step_inputs, gates, tanh_c = (rows_of(array) for array in arrays)
        for s in slices:
            u, z = step_inputs[:-1, s.sequences, 2 * H :], gates[:-1, s.sequences, : 4 * H]
            products = _gates(step_inputs[:, s.sequences, : 3 * H], 3)
            yield u, z, _gates(gates[:, s.sequences], 5), products, tanh_c[:, s.sequences]

    if not all(is_rows(array) for array in arrays):  # a tape of the other engine, of which these are copies
        return list(views())
    return buffers.step_views(f"{len(slices)} slices", arrays, views)


def _single_views(tape: lstm_tape.Tape, buffers: BufferPool) -> list[tuple[Array, ...]]:
    """Return for the only sequence u (1, T, K), z (T, 4H), gates (T+1, 5, 1, H), products (T+1, 3, 1, H) and tanh_c."""

    def views() -> Iterator[tuple[Array, ...]]:
        [(u, z, *others)] = _slice_views(tape, SINGLE, BufferPool())
        yield u.transpose(1, 0, 2), z[:, 0], *others

    return buffers.step_views("single", (tape.step_inputs, tape.gates, tape.tanh_c), views)


def is_rows(array: Array) -> bool:
    """Return whether the numbers of a step of a sequence are adjacent in an array (T, rows, B)."""
    return array.shape[1] <= 1 or numbers_are_adjacent(array)


def rows_of(array: Array) -> Array:
    """Return an array (T, rows, B) as (T, B, rows): a view, or a copy in which the numbers of a step are adjacent."""
    rows = array.transpose(0, 2, 1)
    return rows if is_rows(array) else np.ascontiguousarray(rows)


def odd_lines(count: int, dtype: np.dtype[np.floating]) -> int:
    """Return at least this count of numbers, which fill an odd number of cache lines.

    Lines at the same place in many rows of this length do not compete for the same few places in a cache.
    """
    per_line = CACHE_LINE_BYTES // dtype.itemsize
    return (-(-count // per_line) | 1) * per_line


def _gates(rows: Array, count: int) -> Array:
    """Return rows (T, b, count · H) as (T, count, b, H)."""
    T, b, size = rows.shape
    return rows.reshape(T, b, count, size // count).transpose(0, 2, 1, 3)


def _rows_or_columns(array: Array, dtype: np.dtype[np.floating], slices: list[BatchSlice]) -> list[tuple[Array, Array]]:
    """Return for each slice its part of an array as rows (T, b, R), or as columns (T, R, b); the other is empty."""
    array = np.asarray(array, dtype)
    if is_rows(array):
        rows = array.transpose(0, 2, 1)
        return [(rows[:, s.sequences], array[:0]) for s in slices]
    if array.strides[2] != array.itemsize:
        array = np.ascontiguousarray(array)
    return [(array[:0], array[..., s.sequences]) for s in slices]


def _ended(part: BatchSlice, T: int, ended: NDArray[np.intp] | None) -> NDArray[np.intp]:
    """Return how many sequences of a slice have no step t, (T,)."""
    if ended is None:
        return np.zeros(T, np.intp)
    counts: NDArray[np.intp] = (ended - part.sequences.start).clip(0, part.size)
    return counts


def _dz_rows(buffers: BufferPool, steps: int, b: int, H: int, dtype: np.dtype[np.floating]) -> tuple[Array, Array]:
    """Return memory for dz (steps, b, 4H) of a block of steps, and the same as (steps, 4, b, H)."""
    dz = buffers.get("dz", (steps, b, odd_lines(4 * H, dtype)), dtype)[..., : 4 * H]
    return dz, _gates(dz, 4)


def _run(tasks: Sequence[Callable[[], object]]) -> None:
    """Run all tasks, in worker threads if there is more than one."""
    if len(tasks) == 1:
        tasks[0]()
    else:
        run_in_parallel(tasks)


def _packed(matrix: Array, name: str, buffers: BufferPool, *, transposed: bool = False) -> Array:
    """Return a copy of the matrix (K, N) or its transpose, packed for the kernels."""
    run, (K, N) = compile_kernels(matrix.dtype.char), matrix.shape[::-1] if transposed else matrix.shape
    lanes = run.sizes.lanes
    packed = buffers.get(f"{name} packed", (-(-N // lanes), K, lanes), matrix.dtype)
    (run.pack_transposed if transposed else run.pack)(matrix, packed)
    return packed


def _group_edges(T: int, I: int, H: int, B: int) -> list[int]:
    """Return where groups of sequences begin, whose gradients are summed together, and B; a thread takes whole groups.

    They depend on the sizes only, so that the sum has the same order, and the same bits, for any number of threads.
    """
    work, groups = T * 4 * H * (H + I + 1) * B, 1
    if work >= MIN_PARALLEL_FLOPS:
        max_groups = 2 if work < MANY_THREADS_FACTOR * MIN_PARALLEL_FLOPS else MAX_GROUPS
        groups = max(1, min(max_groups, -(-B // MIN_GROUP_SIZE)))
    return [B * k // groups for k in range(groups + 1)]


def _split_batch(T: int, I: int, H: int, B: int, buffers: BufferPool) -> list[BatchSlice]:
    """Divide the groups of sequences among the available threads."""
    edges = _group_edges(T, I, H, B)
    threads = 1 if len(edges) == 2 else min(max_threads(), len(edges) - 1)
    return buffers.cached("batch slices", make_slices, edges, threads)
