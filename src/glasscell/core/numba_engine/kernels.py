"""Kernels of :mod:`glasscell.core.numba_engine`: time loops, forward and backward.

Plain functions that :func:`compile_kernels` compiles; it also defines the upper-case names in them and the functions
that they call, for a dtype and the processor. Names are those of :mod:`glasscell.core.lstm`. Each kernel runs b
sequences; its arrays may be columns of larger arrays.

A gate of a step is (H, b), or one contiguous row (1, H·b) for a full batch. Both are written (r, n) here.
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
    pack_columns: Kernel
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
        """Compile for arrays of these dimensions (negative: read only), strided or not, then integers and a flag."""
        layout: Literal["A", "C"] = "A" if gaps else "C"
        array_types = [numba.types.Array(numba.from_dtype(dtype), abs(n), layout, readonly=n < 0) for n in dimensions]
        loop: Kernel = jit_cached(
            function, numba.void(*array_types, *[numba.intp] * integers, *[numba.boolean] * flag), names
        )
        return loop

    for function in tiles.INLINED:
        names[function.__name__] = jit_cached(function, names=names)
    names["_last_columns"] = jit_cached(tiles.last_columns(sizes), names=names)
    names["_product"] = compile_for(tiles.product, -3, -2, 2)
    names["_products"] = compile_for(tiles.products, -3, -2, 2, flag=True)
    names["_products_of_steps"] = compile_for(tiles.products, -3, -3, 2, flag=True)
    names["_product_of_row"] = compile_for(tiles.product_of_row, -3, -2, 2, flag=True)
    return Kernels(
        compile_for(tiles.pack, -2, 3),
        compile_for(tiles.pack_columns, -2, 3),
        compile_for(_forward, -3, 3, 3, 4, 4, 3),
        compile_for(_forward_inference, -3, -3, 3, 3, 3, 2, 3, 2),
        compile_for(_backward, -3, -3, -3, -4, -4, -3, -3, -3, 2, 2, 2, 3, 3, 3, 4, 3, integers=1),
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
    }
    return {name: simd.elementwise(formula, lanes) for name, formula in formulas.items()}


def _forward(W, u, z, gates, products, tanh_c):
    """W packed, u (T, K, b), z (T, 4H, b), gates (T + 1, 5, r, n), products (T + 1, 3, r, n), tanh_c (T, r, n).

    z shares memory with the first four gates, and the first rows of u with the last of the products.
    """
    for t in range(len(tanh_c)):
        _product(W, u[t], z[t])
        i, f, o, g, c_prev = gates[t, 0], gates[t, 1], gates[t, 2], gates[t, 3], gates[t, 4]
        ig, fc, h, c = products[t + 1, 0], products[t + 1, 1], products[t + 1, 2], gates[t + 1, 4]
        _gates((i, f, o, g, c_prev), (i, f, o, g, ig, fc, c, tanh_c[t], h))


def _forward_inference(W, x, y, u, u_h, z, gates, c):
    """W packed, x (b, T, I), y (b, T, H), u (2, K, b), of even and odd steps, begins with u_h (2, r, n), c (r, n).

    z (4H, b) is the gates of a step (4, r, n). x and y have the memory layout of inference: sequence, step, feature.
    """
    T, I = x.shape[1:]
    H = y.shape[2]
    for t in range(T):
        current, following = u[t % 2], u[(t + 1) % 2]
        _transpose(x[:, t], current[H : H + I])
        _product(W, current, z)
        _gates_without_tape((gates[0], gates[1], gates[2], gates[3], c), (c, u_h[(t + 1) % 2]))
        _transpose(following[:H], y[:, t])


def _backward(
    W_h, W_x, u, gates, products, tanh_c, dh, dc, running_dh, dh_rows, running_dc, dkernel, dx, dz, dgates, u_T, size
):
    """W_hᵀ, W_xᵀ packed; a tape's u, gates, products, tanh_c; dh, dc, running_dh, running_dc (…, r, n); dx (T, I, b).

    running_dh is dh_rows (H, b), dz (steps, 4H, b) is dgates (steps, 4, r, n); u_T (steps, b, K) is the factor of the
    weights' gradient, dkernel (groups, 4H, K), for a block of steps; each group has `size` sequences.
    """
    T, (steps, _, b), groups = len(tanh_c), dz.shape, len(dkernel)
    if T == 0:
        for group in range(groups):
            _zero(dkernel[group])
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
            _product(W_h, dz[k], dh_rows)
            if len(dx) > 0:
                _product(W_x, dz[k], dx[t])
            _transpose(u[t], u_T[k])
        for group in range(groups):
            first, last = group * size, min(b, (group + 1) * size)
            _products_of_steps(dz[: end - start, :, first:last], u_T[:, first:last], dkernel[group], end < T)


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
