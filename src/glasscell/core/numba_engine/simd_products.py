"""LLVM code for tiles of matrix products that stay in registers, see :mod:`glasscell.core.numba_engine.simd`."""

# Numba's internals have no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

from glasscell.core.numba_engine.simd import ArrayAccess, lane_mask, minimum, splat


def matmul_tile(rows: int, vectors: int, lanes: int, *, masked: bool) -> Any:
    """Return a compiled-code function for a tile, `rows` by `vectors` · `lanes`, of z = Σ over s of a[s] v[s].

    Its arguments are a (S, M, K), v (S·K, N), z (M, N), the tile's row and column in z, and whether the sum is added
    to z. The tile stays in registers for the whole sum; each iteration reads a few vectors of v and a number of each
    row of a. Rows beyond the last repeat the last one. Columns beyond the last are neither read nor written, which
    requires a masked tile.
    """
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        A, V, Z = _accesses(context, builder, signature, arguments, lanes)
        row, column, add = arguments[3:]
        M, N = Z.shape
        integer = M.type
        columns = [builder.add(column, integer(c * lanes)) for c in range(vectors)]
        masks = [lane_mask(builder, builder.sub(N, c), lanes) if masked else None for c in columns]
        last = builder.sub(M, integer(1))
        tile_rows = [minimum(builder, builder.add(row, integer(r)), last) for r in range(rows)]
        sums = _Sums(builder, Z, tile_rows, columns, masks)
        with builder.if_then(add):
            sums.load()
        S, _, K = A.shape
        with cgutils.for_range(builder, S) as outer, cgutils.for_range(builder, K) as inner:
            v_start = builder.mul(builder.add(builder.mul(outer.index, K), inner.index), V.strides[0])
            a_start = builder.add(builder.mul(outer.index, A.strides[0]), inner.index)
            v_vectors = sums.load_columns(V, v_start)
            for r, tile_row in enumerate(tile_rows):
                a_offset = builder.add(a_start, builder.mul(tile_row, A.strides[1]))
                sums.add_product(r, A.load_scalar(a_offset), v_vectors)
        sums.store()
        return context.get_dummy_value()

    def typed(typing_context: Any, a: Any, v: Any, z: Any, row: Any, column: Any, add: Any) -> Any:  # noqa: ARG001
        return types.void(a, v, z, types.intp, types.intp, types.boolean), generate

    return intrinsic(typed)


def rows_tile(max_rows: int, max_vectors: int, lanes: int) -> Any:
    """Return a compiled-code function for a tile of z = a v, with v packed by vectors of columns.

    Its arguments are a (M, K), v packed (N / lanes, K, lanes), z (M, N), and a tuple for the tile: its first row and
    number of rows, its first vector and number of vectors. Columns beyond the last are not written.

    Parameters
    ----------
    max_rows, max_vectors : int
        Size of the largest tile. There is one loop for each smaller size, too, and the sums of each stay in registers.
    """
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        A, V, Z = _accesses(context, builder, signature, arguments, lanes)
        row, rows, first, vectors = cgutils.unpack_tuple(builder, arguments[3])

        def emit(rows: int, vectors: int) -> None:
            sums = _Sums.of_tile(builder, Z, (row, rows), (first, vectors))
            a_rows = [builder.mul(r, A.strides[0]) for r in sums.rows]
            v_starts = [builder.mul(builder.add(first, first.type(c)), V.strides[0]) for c in range(vectors)]
            with cgutils.for_range(builder, A.shape[1]) as inner:
                along = builder.mul(inner.index, V.strides[1])
                v_vectors = [V.load(builder.add(start, along)) for start in v_starts]
                for r, a_row in enumerate(a_rows):
                    sums.add_product(r, A.load_scalar(builder.add(a_row, inner.index)), v_vectors)
            sums.store()

        _for_each_size(builder, (rows, max_rows), (vectors, max_vectors), emit)
        return context.get_dummy_value()

    def typed(typing_context: Any, a: Any, v: Any, z: Any, tile: Any) -> Any:  # noqa: ARG001
        return types.void(a, v, z, tile), generate

    return intrinsic(typed)


def transposed_rows_tile(max_rows: int, max_vectors: int, lanes: int) -> Any:
    """Return a compiled-code function for a tile of z = Σ over s of a[s]ᵀ v[s].

    Its arguments are a (S, K, M), v (S, K, N), z (M, N), the tuple of :func:`rows_tile`, and whether the sum is added
    to z. Columns beyond the last are neither read nor written.
    """
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        A, V, Z = _accesses(context, builder, signature, arguments, lanes)
        row, rows, first, vectors = cgutils.unpack_tuple(builder, arguments[3])

        def emit(rows: int, vectors: int) -> None:
            sums = _Sums.of_tile(builder, Z, (row, rows), (first, vectors))
            with builder.if_then(arguments[4]):
                sums.load()
            S, K, _ = A.shape
            with cgutils.for_range(builder, S) as outer, cgutils.for_range(builder, K) as inner:
                a_start, v_start = (
                    builder.add(builder.mul(outer.index, X.strides[0]), builder.mul(inner.index, X.strides[1]))
                    for X in (A, V)
                )
                v_vectors = sums.load_columns(V, v_start)
                for r, a_row in enumerate(sums.rows):
                    sums.add_product(r, A.load_scalar(builder.add(a_start, a_row)), v_vectors)
            sums.store()

        _for_each_size(builder, (rows, max_rows), (vectors, max_vectors), emit)
        return context.get_dummy_value()

    def typed(typing_context: Any, a: Any, v: Any, z: Any, tile: Any, add: Any) -> Any:  # noqa: ARG001
        return types.void(a, v, z, tile, types.boolean), generate

    return intrinsic(typed)


class _Sums:
    """The sums of a tile, which stay in registers.

    Attributes
    ----------
    rows, columns : list
        The number of each row, and of the first column of each vector.
    masks : list
        Masks of the columns of each vector, None for all of them.
    """

    def __init__(self, builder: Any, Z: ArrayAccess, rows: list[Any], columns: list[Any], masks: list[Any]) -> None:
        from llvmlite import ir  # noqa: PLC0415
        from numba.core import cgutils  # noqa: PLC0415

        self.builder, self.Z, self.lanes = builder, Z, Z.vector.count
        self.rows, self.columns, self.masks = rows, columns, masks
        zero = ir.Constant(Z.vector, [0.0] * self.lanes)
        self._sums = [[cgutils.alloca_once_value(builder, zero) for _ in columns] for _ in rows]

    @classmethod
    def of_tile(cls, builder: Any, Z: ArrayAccess, rows: tuple[Any, int], vectors: tuple[Any, int]) -> Self:
        """Return the sums of a tile by its first row and number of rows, its first vector and number of vectors."""
        (row, row_count), (first, vector_count) = rows, vectors
        integer, lanes = row.type, Z.vector.count
        start = builder.mul(first, integer(lanes))
        columns = [builder.add(start, integer(c * lanes)) for c in range(vector_count)]
        last_mask = lane_mask(builder, builder.sub(Z.shape[1], columns[-1]), lanes)
        masks = [*[None] * (vector_count - 1), last_mask]
        return cls(builder, Z, [builder.add(row, integer(r)) for r in range(row_count)], columns, masks)

    def load_columns(self, V: ArrayAccess, start: Any) -> list[Any]:
        """Return the vectors of the tile's columns in a row of V, which begins at this offset."""
        return [
            V.load(self.builder.add(start, column), mask) for column, mask in zip(self.columns, self.masks, strict=True)
        ]

    def add_product(self, r: int, number: Any, vectors: list[Any]) -> None:
        """Add the products of a number and these vectors to row r of the tile."""
        factor = splat(self.builder, number, self.lanes)
        for total, vector in zip(self._sums[r], vectors, strict=True):
            product = self.builder.fmul(factor, vector, flags=("contract",))
            self.builder.store(self.builder.fadd(product, self.builder.load(total), flags=("contract",)), total)

    def load(self) -> None:
        """Begin with the numbers in Z."""
        for offset, mask, total in self._places():
            self.builder.store(self.Z.load(offset, mask), total)

    def store(self) -> None:
        """Write the sums to Z."""
        for offset, mask, total in self._places():
            self.Z.store(self.builder.load(total), offset, mask)

    def _places(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield the offset in Z and the mask of each sum, and the sum."""
        for r, sums in zip(self.rows, self._sums, strict=True):
            z_row = self.builder.mul(r, self.Z.strides[0])
            for column, mask, total in zip(self.columns, self.masks, sums, strict=True):
                yield self.builder.add(z_row, column), mask, total


def _accesses(context: Any, builder: Any, signature: Any, arguments: Any, lanes: int) -> list[ArrayAccess]:
    """Return the access to the first three arguments, which are arrays."""
    return [
        ArrayAccess(context, builder, kind, value, lanes)
        for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
    ]


def _for_each_size(
    builder: Any, rows: tuple[Any, int], vectors: tuple[Any, int], emit: Callable[[int, int], None]
) -> None:
    """Emit code for each number of rows and of vectors, from 1 to a maximum, of which one is run."""
    (row_count, max_rows), (vector_count, max_vectors) = rows, vectors
    for v in range(1, max_vectors + 1):
        with builder.if_then(builder.icmp_signed("==", vector_count, vector_count.type(v))):
            for r in range(1, max_rows + 1):
                with builder.if_then(builder.icmp_signed("==", row_count, row_count.type(r))):
                    emit(r, v)
