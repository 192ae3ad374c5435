"""Products inside the kernels of :mod:`glasscell.core.numba_engine`, tile by tile, and packing and transposition.

Plain functions that :func:`glasscell.core.numba_engine.kernels.compile_kernels` compiles.
"""

# Numba infers the types, and `compile_kernels` supplies the names that are not defined here.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, name-defined"
# ruff: noqa: F821

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from glasscell.core.numba_engine import simd, simd_products

LARGE_MATRIX = 1 << 19  # numbers: not in the L2 cache, which is then left to the columns, read again for each tile


class Sizes(NamedTuple):
    """Sizes of vectors and tiles.

    Attributes
    ----------
    lanes : int
        Numbers per SIMD vector.
    rows : int
        Rows of a tile of two vectors.
    packed_rows : int
        Rows of a matrix that are packed together, and of a tile of two vectors if the matrix is packed.
    """

    lanes: int
    rows: int
    packed_rows: int

    def rows_to_pack(self, size: int) -> int:
        """Return the number of rows that are packed together in a matrix of this size."""
        return self.rows if size > LARGE_MATRIX else self.packed_rows


def sizes(cpu: Mapping[str, bool], dtype: np.dtype[np.floating]) -> Sizes:
    """Return the sizes for a processor with these features: 32 registers, or 16."""
    if cpu.get("avx512f"):
        return Sizes(64 // dtype.itemsize, 12, 8)
    return Sizes((32 if cpu.get("avx") else 16) // dtype.itemsize, 6, 6)


def intrinsics(tile_sizes: Sizes) -> dict[str, Any]:
    """Return the sizes and tiles that the functions of this module use, by name; edge tiles have fewer columns."""
    lanes, rows, packed = tile_sizes
    names: dict[str, Any] = {"LANES": lanes, "ROWS": rows, "PACKED_ROWS": packed}
    row_tiles = {"_square": (rows, 2), "_short": (rows, 1), "_wide": (1, 8), "_half": (1, 4)}
    packed_tiles = {"_square": (packed, 2), "_tall": (2 * packed, 1), "_short": (packed, 1)}
    for masked in (False, True):
        edge = "_edge" * masked
        for name, size in row_tiles.items():
            names[f"_rows{name}{edge}_tile"] = simd_products.matmul_tile(*size, lanes, masked=masked)
        for name, size in packed_tiles.items():
            names[f"{name}{edge}_tile"] = simd_products.matmul_tile(*size, lanes, masked=masked, packed=packed)
        for name, size in {"_low": (rows // 2, 4), "_square": (rows, 2), "_short": (rows, 1)}.items():
            names[f"_large{name}{edge}_tile"] = simd_products.matmul_tile(*size, lanes, masked=masked, packed=rows)
        names[f"_transposed{edge}_tile"] = simd.transposed_tile(lanes, masked=masked)
    if has_column_tiles(tile_sizes):
        names["_half_columns_tile"] = simd_products.matmul_column_tile(2, lanes // 2, lanes, packed)
        names["_quarter_columns_tile"] = simd_products.matmul_column_tile(4, lanes // 4, lanes, packed)
    return names


def has_column_tiles(tile_sizes: Sizes) -> bool:
    """Return whether vectors of rows consist of whole groups of packed rows."""
    return tile_sizes.lanes % tile_sizes.packed_rows == 0


def last_columns(tile_sizes: Sizes) -> Callable[..., None]:
    """Return the function for the columns that do not fill a vector."""
    return _column_tiles if has_column_tiles(tile_sizes) else _masked_tiles


def product(a, v, z):
    """Write a v to z: a packed, v (K, N), z (M, N)."""
    if a.shape[2] != PACKED_ROWS:
        _product_of_large(a, v, z)
        return
    M, N = z.shape
    column = 0
    while N - column >= 2 * LANES:
        for row in range(0, M, PACKED_ROWS):
            _square_tile(a, v, z, row, column, False)
        column += 2 * LANES
    if N - column >= LANES:
        pairs = M // (2 * PACKED_ROWS) * 2 * PACKED_ROWS
        for row in range(0, pairs, 2 * PACKED_ROWS):
            _tall_tile(a, v, z, row, column, False)
        for row in range(pairs, M, PACKED_ROWS):
            _short_tile(a, v, z, row, column, False)
        column += LANES
    if column < N:
        _last_columns(a, v, z, column)


def _product_of_large(a, v, z):
    """Write a v to z: a packed by ROWS rows, more than else, so that v is read fewer times."""
    M, N = z.shape
    column = 0
    while N - column >= 4 * LANES:
        for row in range(0, M, ROWS // 2):
            _large_low_tile(a, v, z, row, column, False)
        column += 4 * LANES
    if N - column >= 2 * LANES:
        for row in range(0, M, ROWS):
            _large_square_tile(a, v, z, row, column, False)
        column += 2 * LANES
    if N - column > LANES:
        for row in range(0, M, ROWS):
            _large_square_edge_tile(a, v, z, row, column, False)
    elif column < N:
        for row in range(0, M, ROWS):
            _large_short_edge_tile(a, v, z, row, column, False)


def _masked_tiles(a, v, z, column):
    """Write the columns from this one on, fewer than a vector, with masked vectors."""
    M = z.shape[0]
    pairs = M // (2 * PACKED_ROWS) * 2 * PACKED_ROWS
    for row in range(0, pairs, 2 * PACKED_ROWS):
        _tall_edge_tile(a, v, z, row, column, False)
    for row in range(pairs, M, PACKED_ROWS):
        _short_edge_tile(a, v, z, row, column, False)


def _column_tiles(a, v, z, column):
    """Write the columns from this one on, fewer than a vector: up to three quarters of one by vectors of rows."""
    M, N = z.shape
    if N - column > 3 * LANES // 4:
        _masked_tiles(a, v, z, column)
        return
    if N - column > LANES // 4:
        for row in range(0, M, 2 * LANES):
            _half_columns_tile(a, v, z, row, column)
        column += LANES // 2
    if column < N:
        for row in range(0, M, 4 * LANES):
            _quarter_columns_tile(a, v, z, row, column)


def products(a, v, z, add):
    """Write Σ over s of a[s] v[s] to z, or add it: a (S, M, K), v (S·K, N) or (S, K, N), z (M, N).

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


def pack(a, packed):
    """Pack a (M, K) as (groups, K, rows), with the rows of a tile adjacent; repeat the last row to fill a group."""
    rows = packed.shape[2]
    for group in range(len(packed)):
        rows_of_group = a[group * rows : (group + 1) * rows]
        for row in range(0, rows, LANES):
            for column in range(0, a.shape[1], LANES):
                _transposed_edge_tile(rows_of_group, packed[group], row, column)


def pack_columns(a, packed):
    """Pack the transpose of a (K, M) as :func:`pack`."""
    groups, K, rows = packed.shape
    M = a.shape[1]
    for group in range(groups):
        first = group * rows
        for k in range(K):
            for r in range(rows):
                packed[group, k, r] = a[k, min(first + r, M - 1)]


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


INLINED = (_transpose, _copy, _zero, _masked_tiles, _product_of_large)  # compiled into their callers
