"""Products inside the kernels of :mod:`glasscell.core.numba_engine`, tile by tile, and transposition.

Plain functions that :func:`glasscell.core.numba_engine.kernels.compile_kernels` compiles.
"""

# Numba infers the types, and `compile_kernels` supplies the names that are not defined here.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, name-defined"
# ruff: noqa: F821

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from glasscell.core.numba_engine import simd, simd_products


class Sizes(NamedTuple):
    """Sizes of vectors and tiles.

    Attributes
    ----------
    lanes : int
        Numbers per SIMD vector.
    rows : int
        Rows of a tile of two vectors, whose rows are far apart in memory.
    max_rows, max_vectors : int
        Rows and vectors of the largest tile whose rows are sequences.
    """

    lanes: int
    rows: int
    max_rows: int
    max_vectors: int


def sizes(cpu: Mapping[str, bool], dtype: np.dtype[np.floating]) -> Sizes:
    """Return the sizes for a processor with these features: 32 registers, or 16."""
    if cpu.get("avx512f"):
        return Sizes(64 // dtype.itemsize, 12, 6, 4)
    return Sizes((32 if cpu.get("avx") else 16) // dtype.itemsize, 6, 6, 2)


def intrinsics(tile_sizes: Sizes) -> dict[str, Any]:
    """Return the sizes and tiles that the functions of this module use, by name; edge tiles have fewer columns."""
    lanes, rows, max_rows, max_vectors = tile_sizes
    names: dict[str, Any] = {"LANES": lanes, "ROWS": rows, "MAX_ROWS": max_rows, "MAX_VECTORS": max_vectors}
    row_tiles = {"_square": (rows, 2), "_short": (rows, 1), "_wide": (1, 8), "_half": (1, 4)}
    for masked in (False, True):
        edge = "_edge" * masked
        for name, size in row_tiles.items():
            names[f"_rows{name}{edge}_tile"] = simd_products.matmul_tile(*size, lanes, masked=masked)
        names[f"_transposed{edge}_tile"] = simd.transposed_tile(lanes, masked=masked)
    names["_rows_tile"] = simd_products.rows_tile(max_rows, max_vectors, lanes)
    names["_transposed_rows_tile"] = simd_products.transposed_rows_tile(max_rows, max_vectors, lanes)
    return names


def product(a, v, z):
    """Write a v to z: a (M, K), v packed (N / LANES, K, LANES), z (M, N).

    The rows, and the vectors of columns, are divided evenly among as few tiles as possible.
    """
    M, vectors = len(z), len(v)
    panels, tiles = -(-vectors // MAX_VECTORS), -(-M // MAX_ROWS)
    for panel in range(panels):
        first, last = vectors * panel // panels, vectors * (panel + 1) // panels
        for tile in range(tiles):
            row, end = M * tile // tiles, M * (tile + 1) // tiles
            _rows_tile(a, v, z, (row, end - row, first, last - first))


def transposed_products(a, v, z, add):
    """Write Σ over s of a[s]ᵀ v[s] to z, or add it: a (S, K, M), v (S, K, N), z (M, N).

    Row by row of tiles: v stays in the L2 cache, and the columns of a in the L1 cache.
    """
    M, N = z.shape
    vectors = -(-N // LANES)
    panels, tiles = -(-vectors // MAX_VECTORS), -(-M // MAX_ROWS)
    for tile in range(tiles):
        row, end = M * tile // tiles, M * (tile + 1) // tiles
        for panel in range(panels):
            first, last = vectors * panel // panels, vectors * (panel + 1) // panels
            _transposed_rows_tile(a, v, z, (row, end - row, first, last - first), add)


def products(a, v, z, add):
    """Write Σ over s of a[s] v[s] to z, or add it: a (S, M, K), v (S·K, N), z (M, N).

    Row by row of tiles: v stays in the L2 cache, and the rows of a in the L1 cache.
    """
    M, N = z.shape
    pairs = N // (2 * LANES) * 2 * LANES
    for row in range(0, M, ROWS):
        for column in range(0, pairs, 2 * LANES):
            _rows_square_tile(a, v, z, row, column, add)
        if N - pairs > LANES:
            _rows_square_edge_tile(a, v, z, row, pairs, add)
        elif pairs < N:
            _rows_short_edge_tile(a, v, z, row, pairs, add)


def product_of_row(a, v, z, add):
    """Write a[0] v to z, or add it: a (1, 1, K), v (K, N), z (1, N)."""
    N = z.shape[1]
    for column in range(0, N, 8 * LANES):
        if N - column >= 8 * LANES:
            _rows_wide_tile(a, v, z, 0, column, add)
        elif N - column > 4 * LANES:
            _rows_wide_edge_tile(a, v, z, 0, column, add)
        elif N - column == 4 * LANES:
            _rows_half_tile(a, v, z, 0, column, add)
        else:
            _rows_half_edge_tile(a, v, z, 0, column, add)


def _transpose(a, z):
    """Write aᵀ to z."""
    M, N = a.shape
    for column in range(0, N, LANES):
        for row in range(0, M, LANES):
            if M - row >= LANES and N - column >= LANES:
                _transposed_tile(a, z, row, column)
            else:
                _transposed_edge_tile(a, z, row, column)


def _copy(a, z):
    """Write a (M, N) to z: `z[:] = a` takes seconds to compile."""
    for row in range(a.shape[0]):
        for b in range(a.shape[1]):
            z[row, b] = a[row, b]


def _zero(z):
    for row in range(z.shape[0]):
        for k in range(z.shape[1]):
            z[row, k] = ZERO


INLINED = (_transpose, _copy, _zero)  # compiled into their callers
