"""LLVM code for operations that Numba cannot express: vectorised mathematics and transposition.

LLVM vectorises a loop over many arrays only if it can prove that they do not overlap, and never keeps a tile of a
result in registers. The functions here generate such code: :func:`elementwise` for formulas, which are Python functions
of :class:`~glasscell.core.numba_engine.vector.Vector`. Tiles of products are in
:mod:`glasscell.core.numba_engine.simd_products`.

Arrays may have gaps between rows; the numbers of a row are adjacent. a·b + c may become one fused instruction
("contract"); everything else follows IEEE 754, including NaN and infinities.
"""

# Numba's internals have no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

from glasscell.core.numba_engine.vector import Formula, Vector


class ArrayAccess:
    """Loads and stores of the vectors of an array.

    Parameters
    ----------
    context, builder
        Numba's context and LLVM's builder.
    kind, value
        Numba's type of the array, and its value.
    lanes : int
        Numbers of a vector.
    """

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any, lanes: int) -> None:
        from llvmlite import ir  # noqa: PLC0415
        from numba.core import cgutils  # noqa: PLC0415

        self.builder = builder
        array = context.make_array(kind)(context, builder, value)
        number = context.get_data_type(kind.dtype)
        self.size, self.data = context.get_abi_sizeof(number), array.data
        self.vector = ir.VectorType(number, lanes)
        self.shape = cgutils.unpack_tuple(builder, array.shape)
        self.strides = [
            builder.sdiv(stride, ir.Constant(stride.type, self.size))
            for stride in cgutils.unpack_tuple(builder, array.strides)
        ]

    def load_scalar(self, index: Any) -> Any:
        """Load one number."""
        return self.builder.load(self.builder.gep(self.data, [index]))

    def load(self, index: Any, mask: Any = None) -> Any:
        """Load a vector; with a mask, unselected numbers are 0 and their memory is not accessed."""
        from llvmlite import ir  # noqa: PLC0415

        pointer = self._pointer(index)
        if mask is None:
            return self.builder.load(pointer, align=self.size)
        zero = ir.Constant(self.vector, [0.0] * self.vector.count)
        types_ = [pointer.type, ir.IntType(32), mask.type, self.vector]
        return self.builder.call(
            self._masked("load", self.vector, types_), [pointer, ir.IntType(32)(self.size), mask, zero]
        )

    def store(self, value: Any, index: Any, mask: Any = None) -> None:
        """Store a vector; with a mask, unselected numbers are not written."""
        from llvmlite import ir  # noqa: PLC0415

        pointer = self._pointer(index)
        if mask is None:
            self.builder.store(value, pointer, align=self.size)
            return
        types_ = [self.vector, pointer.type, ir.IntType(32), mask.type]
        self.builder.call(
            self._masked("store", ir.VoidType(), types_), [value, pointer, ir.IntType(32)(self.size), mask]
        )

    def _pointer(self, index: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.data, [index]), self.vector.as_pointer())

    def _masked(self, verb: str, result: Any, types_: list[Any]) -> Any:
        from llvmlite import ir  # noqa: PLC0415
        from numba.core import cgutils  # noqa: PLC0415

        name = f"llvm.masked.{verb}.v{self.vector.count}f{8 * self.size}.p0"
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, types_), name)


def splat(builder: Any, number: Any, lanes: int) -> Any:
    """Return a vector of copies of a number."""
    from llvmlite import ir  # noqa: PLC0415

    nothing = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(builder.insert_element(nothing, number, ir.IntType(32)(0)), nothing, first)


def minimum(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def lane_mask(builder: Any, remaining: Any, lanes: int) -> Any:
    """Return a mask that selects the first `remaining` lanes."""
    from llvmlite import ir  # noqa: PLC0415

    numbers = ir.Constant(ir.VectorType(remaining.type, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, splat(builder, remaining, lanes))


def elementwise(formula: Formula, lanes: int) -> Any:
    """Return a compiled-code function of results = formula(*inputs).

    Its arguments are the tuple of input arrays and the tuple of result arrays, all of one shape (rows, n). An array may
    be in both.

    Parameters
    ----------
    formula : callable
        Function of vectors that returns a tuple of vectors.
    lanes : int
        Numbers per vector.
    """
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        inputs, results = (
            [ArrayAccess(context, builder, kind, value, lanes) for kind, value in zip(types_, values, strict=True)]
            for types_, values in zip(
                signature.args, (cgutils.unpack_tuple(builder, a) for a in arguments), strict=True
            )
        )
        rows, n = results[0].shape
        step = n.type(lanes)
        whole = builder.mul(builder.sdiv(n, step), step)

        def emit(row: Any, column: Any, mask: Any = None) -> None:
            def offset(array: ArrayAccess) -> Any:
                return builder.add(builder.mul(row, array.strides[0]), column)

            values = formula(*(Vector(builder, array.load(offset(array), mask)) for array in inputs))
            for array, value in zip(results, values, strict=True):
                array.store(value.value, offset(array), mask)

        with cgutils.for_range(builder, rows) as row:
            with cgutils.for_range_slice(builder, n.type(0), whole, step, n.type) as (column, _):
                emit(row.index, column)
            with builder.if_then(builder.icmp_signed("<", whole, n)):
                emit(row.index, whole, lane_mask(builder, builder.sub(n, whole), lanes))
        return context.get_dummy_value()

    def typed(typing_context: Any, inputs: Any, results: Any) -> Any:  # noqa: ARG001
        return types.void(inputs, results), generate

    return intrinsic(typed)


def interleavings(lanes: int) -> tuple[Any, Any]:
    """Return the indices that interleave the first, and the last, halves of two vectors."""
    from llvmlite import ir  # noqa: PLC0415

    low, high = (
        ir.Constant(ir.VectorType(ir.IntType(32), lanes), [k // 2 + start + lanes * (k % 2) for k in range(lanes)])
        for start in (0, lanes // 2)
    )
    return low, high


def transposed_tile(lanes: int, *, masked: bool) -> Any:
    """Return a compiled-code function for a square tile, `lanes` by `lanes`, of z = aᵀ.

    Its arguments are a (M, N), z (N, M or more), and the tile's row and column in a. Rows beyond the last repeat the
    last one. Columns beyond the last are not written, which requires a masked tile.
    """
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    low, high = interleavings(lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        A, Z = (
            ArrayAccess(context, builder, kind, value, lanes)
            for kind, value in zip(signature.args[:2], arguments[:2], strict=True)
        )
        row, column = arguments[2:]
        (M, N), width = A.shape, Z.shape[1]
        last = builder.sub(M, M.type(1))
        mask = lane_mask(builder, builder.sub(N, column), lanes) if masked else None
        rows = [minimum(builder, builder.add(row, M.type(r)), last) for r in range(lanes)]
        square = [A.load(builder.add(builder.mul(r, A.strides[0]), column), mask) for r in rows]
        for _ in range(lanes.bit_length() - 1):
            pairs = list(zip(square[: lanes // 2], square[lanes // 2 :], strict=True))
            square = [builder.shuffle_vector(a, b, interleaving) for a, b in pairs for interleaving in (low, high)]
        width_mask = lane_mask(builder, builder.sub(width, row), lanes) if masked else None
        for c, vector in enumerate(square):
            target_row = builder.add(column, N.type(c))
            with builder.if_then(builder.icmp_signed("<", target_row, N)):
                Z.store(vector, builder.add(builder.mul(target_row, Z.strides[0]), row), width_mask)
        return context.get_dummy_value()

    def typed(typing_context: Any, a: Any, z: Any, row: Any, column: Any) -> Any:  # noqa: ARG001
        return types.void(a, z, types.intp, types.intp), generate

    return intrinsic(typed)
