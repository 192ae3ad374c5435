"""LLVM code for tiles of matrix products that stay in registers, see :mod:`glasscell.core.numba_engine.simd`."""

# Numba's internals have no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

from glasscell.core.numba_engine.simd import ArrayAccess, interleavings, lane_mask, minimum, splat


def matmul_tile(rows: int, vectors: int, lanes: int, *, masked: bool, packed: int = 0) -> Any:
    """Return a compiled-code function for a tile, `rows` by `vectors` · `lanes`, of z = Σ over s of a[s] v[s].

    Its arguments are a, v (S·K, N or more) or (S, K, N or more), z (M, N), the tile's row and column in z, and whether
    the sum is added to z. The tile stays in registers for the whole sum; each iteration reads a few vectors of v and a
    number of each row of a. Rows beyond the last repeat the last one. Columns beyond the last are not written, which
    requires a masked tile.

    Parameters
    ----------
    packed : int
        0: a is (S, M, K). Otherwise a is packed by this number of rows, (M / packed, K, packed), and S = 1: then all
        rows of a tile need one address, instead of one each, for which there are too few registers. The tile must start
        at a multiple of `packed`, or be within one group.
    """
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        A, V, Z = (
            ArrayAccess(context, builder, kind, value, lanes)
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        )
        row, column, add = arguments[3:]
        M, N = Z.shape
        integer = M.type
        columns = [builder.add(column, integer(c * lanes)) for c in range(vectors)]
        masks = [lane_mask(builder, builder.sub(N, c), lanes) if masked else None for c in columns]
        last = builder.sub(M, integer(1))
        tile_rows = [minimum(builder, builder.add(row, integer(r)), last) for r in range(rows)]
        offsets = [[builder.add(builder.mul(r, Z.strides[0]), c) for c in columns] for r in tile_rows]
        zero = ir.Constant(Z.vector, [0.0] * lanes)
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in columns] for _ in tile_rows]
        with builder.if_then(add):
            for r in range(rows):
                for c in range(vectors):
                    builder.store(Z.load(offsets[r][c], masks[c]), sums[r][c])

        if packed:
            S, K = integer(1), A.shape[1]
            first = builder.sdiv(row, integer(packed))
            offset = builder.sub(row, builder.mul(first, integer(packed)))
            bases = [
                builder.add(builder.mul(builder.add(first, integer(group)), A.strides[0]), offset)
                for group in range(-(-rows // packed))
            ]

            def offsets_of_a(outer: Any, k: Any) -> list[Any]:  # noqa: ARG001
                along = builder.mul(k, integer(packed))
                groups = [builder.add(base, along) for base in bases]
                return [builder.add(groups[r // packed], integer(r % packed)) for r in range(rows)]

        else:
            S, _, K = A.shape

            def offsets_of_a(outer: Any, k: Any) -> list[Any]:
                start = builder.add(builder.mul(outer, A.strides[0]), k)
                return [builder.add(start, builder.mul(r, A.strides[1])) for r in tile_rows]

        with cgutils.for_range(builder, S) as outer, cgutils.for_range(builder, K) as inner:
            if len(V.strides) == 2:
                v_first = builder.mul(builder.add(builder.mul(outer.index, K), inner.index), V.strides[0])
            else:
                v_first = builder.add(builder.mul(outer.index, V.strides[0]), builder.mul(inner.index, V.strides[1]))
            v_vectors = [V.load(builder.add(v_first, columns[c]), masks[c]) for c in range(vectors)]
            for r, a_offset in enumerate(offsets_of_a(outer.index, inner.index)):
                factor = splat(builder, A.load_scalar(a_offset), lanes)
                for c in range(vectors):
                    product = builder.fmul(factor, v_vectors[c], flags=("contract",))
                    total = builder.fadd(product, builder.load(sums[r][c]), flags=("contract",))
                    builder.store(total, sums[r][c])
        for r in range(rows):
            for c in range(vectors):
                Z.store(builder.load(sums[r][c]), offsets[r][c], masks[c])
        return context.get_dummy_value()

    def typed(typing_context: Any, a: Any, v: Any, z: Any, row: Any, column: Any, add: Any) -> Any:  # noqa: ARG001
        return types.void(a, v, z, types.intp, types.intp, types.boolean), generate

    return intrinsic(typed)


def matmul_column_tile(vectors: int, columns: int, lanes: int, packed: int) -> Any:
    """Return a compiled-code function for a tile, `vectors` · `lanes` by `columns`, of z = a v, with vectors of rows.

    It is for the last columns of z, which would leave most of a vector of columns empty. Its arguments are a, packed by
    `packed` rows (M / packed, K, packed), v (K, N), z (M, N), and the tile's row and column in z. Rows and
    columns beyond the last are not written.

    Parameters
    ----------
    columns : int
        A power of 2, at most `lanes`.
    packed : int
        A divisor of `lanes`.
    """
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    low, high = interleavings(lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        A, V, Z = (
            ArrayAccess(context, builder, kind, value, lanes)
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        )
        row, column = arguments[3:]
        (M, N), K = Z.shape, A.shape[1]
        integer = M.type
        rows = [builder.add(row, integer(r * lanes)) for r in range(vectors)]
        last_group, parts = builder.sub(A.shape[0], integer(1)), lanes // packed

        def base(first: Any, part: int) -> Any:
            group = builder.add(builder.sdiv(first, integer(packed)), integer(part))
            return builder.mul(minimum(builder, group, last_group), A.strides[0])

        bases = [[base(first, part) for part in range(parts)] for first in rows]
        last_column = builder.sub(N, integer(1))
        v_columns = [minimum(builder, builder.add(column, integer(c)), last_column) for c in range(columns)]
        zero = ir.Constant(Z.vector, [0.0] * lanes)
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in v_columns] for _ in rows]
        with cgutils.for_range(builder, K) as inner:
            along = builder.mul(inner.index, integer(packed))
            a_vectors = [
                _joined(builder, [A.load_part(builder.add(b, along), packed) for b in group]) for group in bases
            ]
            v_row = builder.mul(inner.index, V.strides[0])
            for c, v_column in enumerate(v_columns):
                factor = splat(builder, V.load_scalar(builder.add(v_row, v_column)), lanes)
                for r, a_vector in enumerate(a_vectors):
                    product = builder.fmul(factor, a_vector, flags=("contract",))
                    total = builder.fadd(product, builder.load(sums[r][c]), flags=("contract",))
                    builder.store(total, sums[r][c])
        mask = lane_mask(builder, builder.sub(N, column), lanes)
        for r, first in enumerate(rows):
            _store_rows(builder, [builder.load(total) for total in sums[r]], (low, high), Z, first, column, mask)
        return context.get_dummy_value()

    def typed(typing_context: Any, a: Any, v: Any, z: Any, row: Any, column: Any) -> Any:  # noqa: ARG001
        return types.void(a, v, z, types.intp, types.intp), generate

    return intrinsic(typed)


def _joined(builder: Any, parts: list[Any]) -> Any:
    """Return one vector of the numbers of several, whose count is a power of 2."""
    from llvmlite import ir  # noqa: PLC0415

    while len(parts) > 1:
        order = ir.Constant(
            ir.VectorType(ir.IntType(32), 2 * parts[0].type.count), list(range(2 * parts[0].type.count))
        )
        parts = [builder.shuffle_vector(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _store_rows(
    builder: Any, columns: list[Any], interleavings: tuple[Any, Any], Z: ArrayAccess, first: Any, column: Any, mask: Any
) -> None:
    """Store vectors of rows of z, one for each column, from this first row on; a mask of lanes selects columns."""
    from llvmlite import ir  # noqa: PLC0415

    (low, high), count, lanes = interleavings, len(columns), columns[0].type.count
    for _ in range(count.bit_length() - 1):
        pairs = zip(columns[: count // 2], columns[count // 2 :], strict=True)
        columns = [builder.shuffle_vector(a, b, interleaving) for a, b in pairs for interleaving in (low, high)]
    # Now each vector has the numbers of lanes / count rows, one row after the other.
    nothing = ir.Constant(columns[0].type, ir.Undefined)
    for r in range(lanes):
        vector, start = columns[r * count // lanes], r * count % lanes
        selection = [start + c if c < count else start for c in range(lanes)]
        row_numbers = builder.shuffle_vector(
            vector, nothing, ir.Constant(ir.VectorType(ir.IntType(32), lanes), selection)
        )
        target = builder.add(first, first.type(r))
        with builder.if_then(builder.icmp_signed("<", target, Z.shape[0])):
            limit = ir.Constant(mask.type, [c < count for c in range(lanes)])
            Z.store(row_numbers, builder.add(builder.mul(target, Z.strides[0]), column), builder.and_(mask, limit))
