"""What :mod:`glasscell.core.compiled` compiles: the time loop, forward and backward, and the product inside it.

Plain functions, which only :func:`engine` gives to Numba; the capital names in them are constants of a dtype and of
the processor, see there. Shapes and names are those of :mod:`glasscell.core.lstm`. All of it is in one file, because
Numba's cache on disk is out of date when, and only when, the file of the function has changed.
"""

# Numba infers the types of the loops, and `engine` supplies the names that are not defined here.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, name-defined"
# ruff: noqa: F821

from collections.abc import Callable
from functools import cache, partial
from types import FunctionType
from typing import Any, Literal, get_args

import numpy as np

# tanh x ≈ x P(x²) / Q(x²) up to EDGE, and ±1 beyond. Of each dtype: EDGE, P, Q, the highest power first. It is the
# rational function that equals tanh x at the positive ones of 2n Chebyshev points of [-EDGE, EDGE], n its coefficients.
# Wrong by 2.2e-8 and 9.3e-17 of the value, and with rounding by 2.7e-7 and 7e-16.
TANH = {
    "float32": (
        9.02,
        (2.9426571e-11, 9.81171442e-08, 3.98225669e-05, 0.00432702856, 0.140240585, 0.999999978),
        (2.49085713e-09, 2.38347531e-06, 0.000482098329, 0.0288517098, 0.473573844, 1),
    ),
    "float64": (
        19.07,
        (
            -3.5966996280864654e-34,
            2.7480292719935511e-29,
            9.2582822997800795e-25,
            6.0615090106489394e-21,
            1.5428376319560514e-17,
            1.9052397888673342e-14,
            1.2632426724702462e-11,
            4.6996170764721596e-09,
            9.8558388545130659e-07,
            0.00011269392941213617,
            0.0064571457693859855,
            0.15497734748443778,
            0.99999999999999989,
        ),
        (
            6.8349465250374277e-27,
            8.6243524878821093e-23,
            3.3799767747701508e-19,
            5.8870785964717333e-16,
            5.2824757675948759e-13,
            2.6160820022385786e-10,
            7.319554317729228e-08,
            1.1412273384503312e-05,
            0.00093753691373312366,
            0.035894039375309897,
            0.48831068081777079,
            1,
        ),
    ),
}

DEEP = 256  # terms of a sum at a time: what a column of tiles reads of v is then 32 KB, which stays in the first cache
PANEL = 32  # columns of dzᵀ that are kept side by side, for the same reason

Loop = Callable[..., None]
Layout = Literal["A", "C"]  # of an array: any, or contiguous


@cache
def engine(char: str) -> tuple[Loop, Loop]:
    """:func:`_forward` and :func:`_backward`, compiled for a dtype, given by its char, or read from disk."""
    import numba  # noqa: PLC0415 - takes a third of a second
    from llvmlite import binding  # noqa: PLC0415

    dtype = np.dtype(char)
    real = dtype.type
    edge, numerator, denominator = TANH[dtype.name]
    cpu = binding.get_host_cpu_features()
    width, rows = (64, 8) if cpu.get("avx512f") else (32, 4) if cpu.get("avx") else (16, 8)  # of 32, 16, 32 registers
    lanes = width // dtype.itemsize
    names: dict[str, Any] = {
        "__name__": __name__,
        "ZERO": real(0),
        "HALF": real(0.5),
        "ONE": real(1),
        "EDGE": real(edge),
        "NUMERATOR": tuple(map(real, numerator)),
        "DENOMINATOR": tuple(map(real, denominator)),
        "DEEP": DEEP,
        "PANEL": PANEL,
        "ROWS": rows,
        "COLUMNS": 2 * lanes,
        "WIDE": 8 * lanes,
        "_tile": _tile_of(rows, 2, lanes, masked=False),
        "_edge_tile": _tile_of(rows, 2, lanes, masked=True),
        "_narrow_tile": _tile_of(2 * rows, 1, lanes, masked=True),
        "_wide_tile": _tile_of(1, 8, lanes, masked=False),
        "_wide_edge_tile": _tile_of(1, 8, lanes, masked=True),
    }
    jit: Any = partial(
        numba.njit,
        nogil=True,
        error_model="numpy",  # with a check for division by 0 LLVM would not vectorise
        fastmath={"contract"},  # a·b + c may be one instruction; all else is as IEEE says, NaN and infinities too
    )
    number: Any = numba.from_dtype(dtype)

    def compiled(function: Loop, *signature: Any, cache: bool = False) -> Loop:
        loop: Loop = jit(*signature, cache=cache)(FunctionType(function.__code__, names, function.__name__))
        return loop

    def array(dimensions: int, layout: Layout = "C", *, readonly: bool = False) -> Any:
        return numba.types.Array(number, dimensions, layout, readonly=readonly)

    two, three = array(2), array(3)
    any_two, any_three, given_two, given_three = (
        array(dimensions, layout, readonly=True) for layout in get_args(Layout) for dimensions in (2, 3)
    )
    for function in (_tanh, _gates, _gates_backward, _transpose):
        names[function.__name__] = compiled(function)
    # For arrays with gaps and without, so that they are compiled once: that takes seconds.
    names["_copy"] = compiled(_copy, numba.void(any_three, array(3, "A")), cache=True)
    names["_product"] = compiled(_product, numba.void(any_three, any_two, array(2, "A"), numba.boolean), cache=True)
    forward = numba.void(given_two, two, *[three] * 3, any_three, three, numba.intp)
    backward = numba.void(*[given_two] * 2, *[given_three] * 5, *[two] * 4, *[three] * 3)
    return compiled(_forward, forward, cache=True), compiled(_backward, backward, cache=True)


def _forward(kernel, W, columns, gates, tanh_c, x, h, T):
    """In as many pieces as memory is given for; x and h are empty if that is for all T steps: for a tape."""
    length, H, B = tanh_c.shape
    n, rows = H * B, columns.shape[1]
    flat_gates, flat_columns = gates.reshape(len(gates), 5 * n), columns.reshape(len(columns), rows * B)
    by_sequence, gates_by_sequence = columns.transpose(2, 0, 1), gates.transpose(2, 0, 1)
    if B == 1:
        _transpose(kernel, W)
    for start in range(0, T, max(length, 1)):
        steps = min(length, T - start)
        if start > 0:
            _copy(columns[length:, 2 * H : 3 * H], columns[:1, 2 * H : 3 * H])
            _copy(gates[length:, 4 * H :], gates[:1, 4 * H :])
        if len(x) > 0:
            _copy(x[start : start + steps], columns[:steps, 3 * H :])
        if B == 1:  # W [h; x; 1] reads all of W at each step: that of [x; 1] is one product for all steps
            _product(by_sequence[:, :steps, 3 * H :], W[H:], gates_by_sequence[0, :steps, : 4 * H], False)
        for t in range(steps):
            before, after = flat_gates[t], flat_columns[t + 1]
            if B == 1:  # transposed, so that the vectors lie along z
                _product(by_sequence[:, t : t + 1, 2 * H : 3 * H], W[:H], before[: 4 * H].reshape(1, 4 * H), True)
            else:
                _product(kernel.reshape(1, 4 * H, kernel.shape[1]), columns[t, 2 * H :], gates[t, : 4 * H], False)
            i, f, o = before[:n], before[n : 2 * n], before[2 * n : 3 * n]
            g, c_prev, c = before[3 * n : 4 * n], before[4 * n :], flat_gates[t + 1, 4 * n :]
            ig, fc, h_t = after[:n], after[n : 2 * n], after[2 * n : 3 * n]
            _gates(before[: 3 * n], i, f, o, g, c_prev, ig, fc, c, tanh_c[t].reshape(n), h_t)
        if len(h) > 0:
            _copy(columns[1 : steps + 1, 2 * H : 3 * H], h[start:])


def _backward(W_h, W_x, columns, gates, tanh_c, dh, dc, running_dh, running_dc, dkernel, dkernel_T, dx, dz, dz_T):
    """W_h and W_x are transposed unless B = 1. The weights' gradient is a product for each block of steps."""
    T, H, B = tanh_c.shape
    n = H * B
    flat_gates, flat_columns = gates.reshape(T + 1, 5 * n), columns.reshape(T + 1, columns.shape[1] * B)
    flat_dh, flat_dc, flat_dz = running_dh.reshape(n), running_dc.reshape(n), dz.reshape(len(dz), 4 * n)
    length = dz_T.shape[1] // max(B, 1)
    by_sequence = dz.transpose(2, 0, 1)
    dkernel[:] = ZERO
    dkernel_T[:] = ZERO
    for end in range(T, 0, -length):
        steps = min(length, end)
        for k in range(steps - 1, -1, -1):
            t, slot = end - steps + k, min(k, len(dz) - 1)
            running_dh += dh[t]
            if len(dc) > 0:
                running_dc += dc[t]
            before, after, dz_t = flat_gates[t], flat_columns[t + 1], flat_dz[slot]
            i, f, o, g = before[:n], before[n : 2 * n], before[2 * n : 3 * n], before[3 * n : 4 * n]
            ig, fc, h = after[:n], after[n : 2 * n], after[2 * n : 3 * n]
            dz_i, dz_f, dz_o, dz_g = dz_t[:n], dz_t[n : 2 * n], dz_t[2 * n : 3 * n], dz_t[3 * n :]
            _gates_backward(i, f, o, g, ig, fc, tanh_c[t].reshape(n), h, flat_dh, flat_dc, dz_i, dz_f, dz_o, dz_g)
            if B == 1:
                _product(by_sequence[:, k : k + 1], W_h, running_dh.reshape(1, H), False)
            else:
                _product(W_h.reshape(1, H, 4 * H), dz[slot], running_dh, False)
                if len(dx) > 0:
                    _product(W_x.reshape(1, len(W_x), 4 * H), dz[slot], dx[t], False)
                for p in range(len(dz_T)):
                    _transpose(dz[slot, p * PANEL : (p + 1) * PANEL], dz_T[p, k * B : (k + 1) * B])
        block = slice(end - steps, end)
        if B == 1:
            _product(dz[:steps], columns[block, 2 * H :, 0], dkernel, True)
            if len(dx) > 0:
                _product(by_sequence[:, :steps], W_x, dx.transpose(2, 0, 1)[0, block], False)
        for p in range(len(dz_T)):
            _product(columns[block, 2 * H :], dz_T[p], dkernel_T[:, p * PANEL : (p + 1) * PANEL], True)
    if B != 1:
        _transpose(dkernel_T, dkernel)


def _gates(i_f_o, i, f, o, g, c_prev, ig, fc, c, tanh_c, h):
    """All of a step but its product. Short loops: LLVM vectorises only what needs few checks for overlap."""
    for k in range(len(i_f_o)):
        i_f_o[k] = HALF * _tanh(HALF * i_f_o[k]) + HALF
    for k in range(len(g)):
        g[k] = _tanh(g[k])
    for k in range(len(g)):
        ig[k] = i[k] * g[k]
    for k in range(len(g)):
        fc[k] = f[k] * c_prev[k]
        c[k] = ig[k] + fc[k]
    for k in range(len(g)):
        tanh_c[k] = _tanh(c[k])
        h[k] = o[k] * tanh_c[k]


def _gates_backward(i, f, o, g, ig, fc, tanh_c, h, dh, dc, dz_i, dz_f, dz_o, dz_g):
    """The chain rule as :func:`glasscell.core.lstm._write_factors` has it; dc becomes that of the step before."""
    for k in range(len(h)):
        dc[k] += dh[k] * (o[k] - h[k] * tanh_c[k])
    for k in range(len(h)):
        dz_o[k] = dh[k] * (ONE - o[k]) * h[k]
    for k in range(len(h)):
        dz_i[k] = dc[k] * (ONE - i[k]) * ig[k]
    for k in range(len(h)):
        dz_g[k] = dc[k] * (i[k] - ig[k] * g[k])
    for k in range(len(h)):
        dz_f[k] = dc[k] * (ONE - f[k]) * fc[k]
        dc[k] *= f[k]


def _tanh(x):
    x = EDGE if x > EDGE else x  # noqa: FURB136 - min and max would lose NaN
    x = -EDGE if x < -EDGE else x  # noqa: FURB136
    square = x * x
    p, q = NUMERATOR[0], DENOMINATOR[0]
    for k in range(1, len(NUMERATOR)):
        p = p * square + NUMERATOR[k]
    for k in range(1, len(DENOMINATOR)):
        q = q * square + DENOMINATOR[k]
    y = x * p / q
    y = ONE if y > ONE else y  # noqa: FURB136
    return -ONE if y < -ONE else y  # noqa: FURB136


def _product(a, v, z, add):
    """Write Σ over s of a[s] v[s] to z, or add it; a (S, M, K), v (S·K, N or more), z (M, N), each row contiguous."""
    M, N = z.shape
    if M == 1:
        for column in range(0, N, WIDE):
            if column + WIDE <= N:
                _wide_tile(a, v, z, 0, column, add)
            else:
                _wide_edge_tile(a, v, z, 0, column, add)
        return
    K = a.shape[2]
    length = min(K, DEEP) if len(a) == 1 else K
    for k in range(0, K, max(length, 1)):  # so that a column of tiles finds its part of v in the first cache
        part, rows, more = a[:, :, k : k + length], v[k:], add or k > 0
        for column in range(0, N, COLUMNS):
            if N - column <= COLUMNS // 2:  # half as wide, twice as high
                for row in range(0, M, 2 * ROWS):
                    _narrow_tile(part, rows, z, row, column, more)
                break
            for row in range(0, M, ROWS):
                if column + COLUMNS <= N:
                    _tile(part, rows, z, row, column, more)
                else:
                    _edge_tile(part, rows, z, row, column, more)


def _transpose(a, z):
    """Write aᵀ to z: eight rows of a at a time, since memory is written a line of the cache at a time."""
    last = len(a) // 8 * 8
    for r in range(0, last, 8):
        a0, a1, a2, a3, a4, a5, a6, a7 = a[r], a[r + 1], a[r + 2], a[r + 3], a[r + 4], a[r + 5], a[r + 6], a[r + 7]
        for c in range(a.shape[1]):
            line = z[c]
            line[r], line[r + 1], line[r + 2], line[r + 3] = a0[c], a1[c], a2[c], a3[c]
            line[r + 4], line[r + 5], line[r + 6], line[r + 7] = a4[c], a5[c], a6[c], a7[c]
    for r in range(last, len(a)):
        for c in range(a.shape[1]):
            z[c, r] = a[r, c]


def _copy(a, z):
    """Write a to z, which may be longer: `z[:] = a` takes seconds to compile."""
    for t in range(a.shape[0]):
        for row in range(a.shape[1]):
            for b in range(a.shape[2]):
                z[t, row, b] = a[t, row, b]


def _tile_of(rows: int, vectors: int, lanes: int, *, masked: bool) -> Any:  # noqa: PLR0915
    """A function for compiled code: a tile, `rows` by `vectors` · `lanes`, of z = Σ over s of a[s] v[s].

    Its arguments are a (S, M, K), v (S·K, N or more), z (M, N), the tile's place in z, and whether z is added to.
    The tile stays in registers through the whole sum, each turn of which reads a few vectors of v and a number of each
    row of a. Rows beyond the last are the last again; columns beyond the last are left alone, which only a masked tile
    can. LLVM does not find this by itself: hence its own language here, for this one function.
    """
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.get_data_type(signature.args[0].dtype)
        bytes_of = context.get_abi_sizeof(number)
        integer, boolean, short = ir.IntType(64), ir.IntType(1), ir.IntType(32)
        vector, mask = ir.VectorType(number, lanes), ir.VectorType(boolean, lanes)
        A, V, Z = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        )
        row, column, add = arguments[3:]
        S, M, K = cgutils.unpack_tuple(builder, A.shape)
        _, N = cgutils.unpack_tuple(builder, Z.shape)
        a_step, a_row, v_row, z_row = (
            builder.sdiv(cgutils.unpack_tuple(builder, array.strides)[axis], integer(bytes_of))
            for array, axis in ((A, 0), (A, 1), (V, 0), (Z, 0))
        )
        last_row = builder.sub(M, integer(1))
        columns = [builder.add(column, integer(c * lanes)) for c in range(vectors)]

        def splat(value: Any) -> Any:
            nothing = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
            one = builder.insert_element(nothing, value, short(0))
            return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(short, lanes), [0] * lanes))

        def at(data: Any, k: Any) -> Any:
            return builder.bitcast(builder.gep(data, [k]), vector.as_pointer())

        if masked:
            lane_numbers = ir.Constant(ir.VectorType(integer, lanes), list(range(lanes)))
            masks = [builder.icmp_signed("<", lane_numbers, splat(builder.sub(N, c))) for c in columns]
            name = f"v{lanes}f{8 * bytes_of}.p0"
            load_type = ir.FunctionType(vector, [vector.as_pointer(), short, mask, vector])
            store_type = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), short, mask])
            load_masked = cgutils.get_or_insert_function(builder.module, load_type, f"llvm.masked.load.{name}")
            store_masked = cgutils.get_or_insert_function(builder.module, store_type, f"llvm.masked.store.{name}")
        zero = ir.Constant(vector, [0.0] * lanes)

        def load(place: Any, c: int) -> Any:
            if masked:
                return builder.call(load_masked, [place, short(bytes_of), masks[c], zero])
            return builder.load(place, align=bytes_of)

        def store(value: Any, place: Any, c: int) -> None:
            if masked:
                builder.call(store_masked, [value, place, short(bytes_of), masks[c]])
            else:
                builder.store(value, place, align=bytes_of)

        def lower(k: Any) -> Any:
            return builder.select(builder.icmp_signed("<", k, last_row), k, last_row)

        tile_rows = [lower(builder.add(row, integer(r))) for r in range(rows)]
        places = [[at(Z.data, builder.add(builder.mul(r, z_row), c)) for c in columns] for r in tile_rows]
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in columns] for _ in tile_rows]
        with builder.if_then(add):
            for r in range(rows):
                for c in range(vectors):
                    builder.store(load(places[r][c], c), sums[r][c])
        with cgutils.for_range(builder, S) as outer:
            of_step = builder.mul(outer.index, a_step)
            a_rows = [builder.add(of_step, builder.mul(r, a_row)) for r in tile_rows]
            with cgutils.for_range(builder, K) as inner:
                v_first = builder.mul(builder.add(builder.mul(outer.index, K), inner.index), v_row)
                of_v = [load(at(V.data, builder.add(v_first, columns[c])), c) for c in range(vectors)]
                for r in range(rows):
                    factor = splat(builder.load(builder.gep(A.data, [builder.add(a_rows[r], inner.index)])))
                    for c in range(vectors):
                        product = builder.fmul(factor, of_v[c], flags=("contract",))
                        total = builder.fadd(product, builder.load(sums[r][c]), flags=("contract",))
                        builder.store(total, sums[r][c])
        for r in range(rows):
            for c in range(vectors):
                store(builder.load(sums[r][c]), places[r][c], c)
        return context.get_dummy_value()

    def tile(typing_context: Any, a: Any, v: Any, z: Any, row: Any, column: Any, add: Any) -> Any:  # noqa: ARG001
        return types.void(a, v, z, types.intp, types.intp, types.boolean), generate

    return intrinsic(tile)
