"""Kernels of :mod:`glasscell.core.numba_engine`: time loops, forward and backward, and the packing of weights.

Plain functions that :func:`compile_kernels` compiles; it also defines the upper-case names in them and the functions
that they call, for a dtype and the processor. Names are those of :mod:`glasscell.core.lstm`. Each kernel runs b
sequences. Its arrays may be parts of larger arrays; the numbers of a step of a sequence are adjacent: a gate of a step
is (b, H), and products of steps are u Wᵀ and dz W. So any number of sequences fills the vectors.
"""

# Numba infers the types, and `compile_kernels` supplies the names that are not defined here.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, name-defined"
# ruff: noqa: F821

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from glasscell.core.numba_engine import cell_math, simd, tiles
from glasscell.core.numba_engine.jit_cache import jit_cached
from glasscell.core.numba_engine.vector import Formula
from glasscell.core.uninterrupted import once_uninterrupted

SINGLE_BLOCK_STEPS = 64  # steps of a single sequence per product with the inputs

Kernel = Callable[..., None]


class Kernels(NamedTuple):
    """Functions of this module, compiled for a dtype."""

    pack: Kernel
    pack_transposed: Kernel
    forward: Kernel
    forward_inference: Kernel
    backward: Kernel
    forward_single: Kernel
    forward_inference_single: Kernel
    backward_single: Kernel
    sizes: tiles.Sizes


@once_uninterrupted
def compile_kernels(char: str) -> Kernels:
    """Compile all kernels for a dtype character, or load them from disk."""
    import numba  # noqa: PLC0415 - takes a third of a second
    from llvmlite import binding  # noqa: PLC0415

    dtype = np.dtype(char)
    sizes = tiles.sizes(binding.get_host_cpu_features(), dtype)
    names = {"__name__": __name__, "ZERO": dtype.type(0), "SINGLE_BLOCK_STEPS": SINGLE_BLOCK_STEPS}
    names |= _formulas(dtype, sizes.lanes) | tiles.intrinsics(sizes)

    def compile_for(
        function: Kernel, *dimensions: int, integers: int = 0, flag: bool = False, gaps: bool = True
    ) -> Kernel:
        """Compile for arrays of these dimensions (negative: read only), strided or not, then of integers, or a flag."""
        layout: Literal["A", "C"] = "A" if gaps else "C"
        array_types = [numba.types.Array(numba.from_dtype(dtype), abs(n), layout, readonly=n < 0) for n in dimensions]
        further = [numba.intp[::1]] * integers + [numba.boolean] * flag
        loop: Kernel = jit_cached(function, numba.void(*array_types, *further), names)
        return loop

    for function in tiles.INLINED:
        names[function.__name__] = jit_cached(function, names=names)
    names["_write_rows"] = jit_cached(_write_rows, names=names)
    names["_product"] = compile_for(tiles.product, -2, -3, 2)
    names["_products"] = compile_for(tiles.products, -3, -2, 2, flag=True)
    names["_transposed_products"] = compile_for(tiles.transposed_products, -3, -3, 2, flag=True)
    names["_product_of_row"] = compile_for(tiles.product_of_row, -3, -2, 2, flag=True)
    return Kernels(
        compile_for(_pack, -2, 3),
        compile_for(_pack_transposed, -2, 3),
        compile_for(_forward, -3, -3, -3, 3, 3, 4, 4, 3, integers=1),
        compile_for(_forward_inference, -3, -3, 3, 3, 2, 3, 2),
        compile_for(_backward, -3, -3, -4, -4, -3, -3, -3, -3, 2, 2, 3, 3, 3, 3, 4, integers=2),
        compile_for(_forward_single, -2, 2, 3, 2, 4, 4, 3),
        compile_for(_forward_inference_single, -2, 2, -3, 3, 2, 2, gaps=False),
        compile_for(_backward_single, -2, -2, -3, -4, -4, -3, -3, -3, 2, 2, 2, 2, 3, 4),
        sizes,
    )


def _formulas(dtype: np.dtype[np.floating], lanes: int) -> dict[str, Any]:
    """Return the elementwise operations that the kernels call, by name."""
    activations = cell_math.activations_for(dtype)
    formulas: dict[str, Formula] = {
        "_gates": partial(cell_math.cell_forward, activations),
        "_gates_without_tape": partial(cell_math.cell_forward_inference, activations),
        "_gates_backward": cell_math.cell_backward,
        "_sum": cell_math.add,
        "_copy_rows": cell_math.identity,
    }
    return {name: simd.elementwise(formula, lanes) for name, formula in formulas.items()}


def _pack_transposed(a, packed):
    """Pack the transpose of a (N, K) by vectors of its columns (N / LANES, K, LANES); the last one is repeated."""
    for vector in range(len(packed)):
        rows = a[vector * LANES : (vector + 1) * LANES]
        for column in range(0, a.shape[1], LANES):
            _transposed_edge_tile(rows, packed[vector], 0, column)


def _pack(a, packed):
    """Pack a (K, N) by vectors of its columns (N / LANES, K, LANES); numbers beyond the last column are arbitrary."""
    N = a.shape[1]
    for vector in range(len(packed)):
        first = vector * LANES
        width = min(LANES, N - first)
        _copy_rows((a[:, first : first + width],), (packed[vector, :, :width],))


def _forward(W, x_rows, x_columns, u, z, gates, products, tanh_c, ended):
    """Wᵀ packed, u (T, b, K), z (T, b, 4H), gates (T + 1, 5, b, H), products (T + 1, 3, b, H), tanh_c (T, b, H).

    Either x_rows (T, b, I) or x_columns (T, I, b) is empty. z shares memory with the first four gates, and the first
    columns of u with the last of the products. The first ended[t] sequences have no step t: all of it is 0.
    """
    H = tanh_c.shape[2]
    for t in range(len(tanh_c)):
        n = ended[t]
        _zero(u[t, :n, H:])
        _zero(z[t, :n])
        for k in range(3):
            _zero(products[t + 1, k, :n])
        _zero(gates[t + 1, 4, :n])
        _zero(tanh_c[t, :n])
        _write_rows(x_rows[:, n:], x_columns[:, :, n:], t, u[t, n:, H:-1])
        for b in range(n, u.shape[1]):
            u[t, b, -1] = 1
        _product(u[t, n:], W, z[t, n:])
        i, f, o, g, c_prev = gates[t, 0, n:], gates[t, 1, n:], gates[t, 2, n:], gates[t, 3, n:], gates[t, 4, n:]
        ig, fc, h = products[t + 1, 0, n:], products[t + 1, 1, n:], products[t + 1, 2, n:]
        _gates((i, f, o, g, c_prev), (i, f, o, g, ig, fc, gates[t + 1, 4, n:], tanh_c[t, n:], h))


def _write_rows(rows, columns, t, z):
    """Write step t of either rows (T, b, R) or columns (T, R, b), which are not empty, to z (b, R)."""
    if len(rows) > 0:
        _copy_rows((rows[t],), (z,))
    else:
        _transpose(columns[t], z)


def _forward_inference(W, x, y, u, z, gates, c):
    """Wᵀ packed, x (b, T, I), y (b, T, H), u (2, b, K), of even and odd steps, c (b, H); z (b, 4H), gates (4, b, H)."""
    T, I = x.shape[1:]
    H = y.shape[2]
    for t in range(T):
        current, h = u[t % 2], u[(t + 1) % 2, :, :H]
        _copy_rows((x[:, t],), (current[:, H : H + I],))
        _product(current, W, z)
        _gates_without_tape((gates[0], gates[1], gates[2], gates[3], c), (c, h))
        _copy_rows((h,), (y[:, t],))


def _backward(
    W, u, gates, products, tanh_c, dh_rows, dh_columns, dc, du, dc_next, dkernel, dbias, dx, dz, dgates, edges, ended
):
    """W packed without the bias, or without W_x if no dx is needed; a tape's u, gates, products, tanh_c.

    Either dh_rows (T, b, H) or dh_columns (T, H, b) is empty; dc (T, b, H) may be. du (b, H + I or H) and
    dc_next (b, H) begin with the gradients on the final state, and 0 for x, and end with those on the initial one.
    Written: dx (T, b, I); dkernel (groups, 4H, K), by groups of sequences that begin at `edges`; dbias (groups, 1, 4H),
    perhaps; dz (steps, b, 4H), which is dgates (steps, 4, b, H), of a block of steps. The first ended[t] sequences have
    no step t: dh and dc of it are not read.
    """
    H = dc_next.shape[1]
    dh_next = du[:, :H]
    T, steps, groups, K = len(tanh_c), len(dz), len(dkernel), dkernel.shape[2]
    columns = K - 1 if (K - 1) % LANES == 0 else K  # the bias alone would need as many operations as LANES inputs
    if T == 0:
        for group in range(groups):
            _zero(dkernel[group])
    for end in range(T, 0, -steps):
        start = max(0, end - steps)
        for t in range(end - 1, start - 1, -1):
            k, n = t - start, ended[t]
            _zero(dz[k, :n])
            dh, dcell = dh_next[n:], dc_next[n:]
            if len(dc) > 0:
                _sum((dcell, dc[t, n:]), (dcell,))
            i, f, o, g = gates[t, 0, n:], gates[t, 1, n:], gates[t, 2, n:], gates[t, 3, n:]
            ig, fc, h = products[t + 1, 0, n:], products[t + 1, 1, n:], products[t + 1, 2, n:]
            di, df, do, dg = dgates[k, 0, n:], dgates[k, 1, n:], dgates[k, 2, n:], dgates[k, 3, n:]
            _write_rows(dh_rows[:, n:], dh_columns[:, :, n:], t, di)
            _gates_backward((di, dh, dcell, i, f, o, g, ig, fc, tanh_c[t, n:], h), (di, df, do, dg, dcell))
            _product(dz[k, n:], W, du[n:])
            if len(dx) > 0:
                _copy_rows((du[:, H:],), (dx[t],))
        for group in range(groups):
            first, last = edges[group], edges[group + 1]
            dz_group, u_group = dz[: end - start, first:last], u[start:end, first:last]
            _transposed_products(dz_group, u_group[:, :, :columns], dkernel[group, :, :columns], end < T)
            if columns < K:
                _transposed_products(u_group[:, :, columns:], dz_group, dbias[group], end < T)
    if columns < K and T > 0:
        for group in range(groups):
            for row in range(dkernel.shape[1]):
                dkernel[group, row, columns] = dbias[group, 0, row]


def _forward_single(kernel, W, u, z, gates, products, tanh_c):
    """Run forward for b = 1: kernel (4H, K), W (K, 4H) for its transpose, u (1, T, K), z (T, 4H).

    The product with h reads its part of W at each step; that with [x; 1] is one product for many steps.
    """
    T, _, H = tanh_c.shape
    _transpose(kernel, W)
    for start in range(0, T, SINGLE_BLOCK_STEPS):
        end = min(T, start + SINGLE_BLOCK_STEPS)
        for t in range(start, end):
            _copy(W[-1:], z[t : t + 1])
        _products(u[:, start:end, H:-1], W[H:-1], z[start:end], True)
        for t in range(start, end):
            _product_of_row(u[:, t : t + 1, :H], W[:H], z[t : t + 1], True)
            i, f, o, g, c_prev = gates[t, 0], gates[t, 1], gates[t, 2], gates[t, 3], gates[t, 4]
            ig, fc, h, c = products[t + 1, 0], products[t + 1, 1], products[t + 1, 2], gates[t + 1, 4]
            _gates((i, f, o, g, c_prev), (i, f, o, g, ig, fc, c, tanh_c[t], h))


def _forward_inference_single(kernel, W, x, h, z, c):
    """Run forward for b = 1, no tape: x (1, T, I), h (T + 1, H, 1) with the initial one, z (steps, 4H), c (H, 1)."""
    T, H, steps = x.shape[1], len(c), len(z)
    hs, cell, gates = h.reshape(1, T + 1, H), c.reshape(1, H), z.reshape(steps, 4, 1, H)
    _transpose(kernel, W)
    for start in range(0, T, steps):
        end = min(T, start + steps)
        for k in range(end - start):
            _copy(W[-1:], z[k : k + 1])
        _products(x[:, start:end], W[H:-1], z[: end - start], True)
        for t in range(start, end):
            k = t - start
            _product_of_row(hs[:, t : t + 1], W[:H], z[k : k + 1], True)
            step_gates = gates[k, 0], gates[k, 1], gates[k, 2], gates[k, 3], cell
            _gates_without_tape(step_gates, (cell, hs[0, t + 1 : t + 2]))


def _backward_single(W_h, W_x, u, gates, products, tanh_c, dh, dc, running_dh, running_dc, dkernel, dx, dz, dgates):
    """Run backward for b = 1: W_h (4H, H), W_x (4H, I), u (1, T, K), dx (T, I), dz (1, steps, 4H)."""
    T, steps = len(tanh_c), dz.shape[1]
    if T == 0:
        _zero(dkernel)
    for end in range(T, 0, -steps):
        start = max(0, end - steps)
        for t in range(end - 1, start - 1, -1):
            k = t - start
            if len(dc) > 0:
                _sum((running_dc, dc[t]), (running_dc,))
            i, f, o, g = gates[t, 0], gates[t, 1], gates[t, 2], gates[t, 3]
            ig, fc, h = products[t + 1, 0], products[t + 1, 1], products[t + 1, 2]
            _gates_backward(
                (dh[t], running_dh, running_dc, i, f, o, g, ig, fc, tanh_c[t], h),
                (dgates[k, 0], dgates[k, 1], dgates[k, 2], dgates[k, 3], running_dc),
            )
            _product_of_row(dz[:, k : k + 1], W_h, running_dh, False)
        _products(dz.transpose(1, 2, 0)[: end - start], u[0, start:end], dkernel, end < T)
        if len(dx) > 0:
            _products(dz[:, : end - start], W_x, dx[start:end], False)
