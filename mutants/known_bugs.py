"""Eighteen bugs of published LSTM code, as changes of this code.

A bug is planted in every place with the same equation: the reference cell, the fast code, the general variant, the
layers. It counts as caught if it is caught in all of them.
"""

from dataclasses import dataclass
from itertools import combinations

CELL, LSTM, GRADIENTS, LOOPS, LINEAR, DEFINITION, LOOP, BACKPROP = (
    "core/cell.py",
    "core/lstm.py",
    "core/step_gradients.py",
    "core/numba_engine/kernels.py",
    "core/linear.py",
    "core/variants/config.py",
    "core/variants/forward_pass.py",
    "core/variants/backward_pass.py",
)
PASSES, DIRECTION_BASE, RECURRENT_LAYER, DIRECTION, INITIALIZATION, PARAMETERS, SEQUENCES, READOUT = (
    "layers/lstm_passes.py",
    "layers/lstm_direction_base.py",
    "layers/recurrent_layer.py",
    "layers/lstm_direction.py",
    "recurrent/initialization.py",
    "core/parameters.py",
    "core/time_order.py",
    "layers/linear.py",
)

NAMES = {
    1: "gate gradients never written (all zero)",
    2: "gradient buffer seeded with the parameters (W + dW)",
    3: "recurrent weight gradient taken with h_t for h_{t-1}",
    4: "the first time step not backpropagated",
    5: "σ(2x) for σ(x)",
    6: "a forget bias of the wrong sign or size",
    7: "h = o·c without tanh",
    8: "two gates swapped (i↔o, f↔g, …)",
    9: "a bias's gradient wrong while biases are tested at zero only",
    10: "the input gradient dropped between layers",
    11: "the cell gradient not multiplied by f",
    12: "a bidirectional backward that returns nothing",
    13: "the reverse direction starting at the padding",
    14: "an accumulator not reset between two backward calls",
    15: "all gates initialised alike because the generator was re-seeded",
    16: "the same buffer returned again, so that a second call changes the first one's result",
    17: "gradients through the final state ignored",
    18: "the previous step's dc computed with the new dh",
}


@dataclass(frozen=True)
class Bug:
    """A bug in one place.

    Attributes
    ----------
    where : str
        Description.
    edits : tuple of (file, old, new)
        Text that occurs exactly once in a file, and its replacement.
    raises : str, optional
        How a test may notice it other than by comparing; only a bug that returns nothing is noticed so.
    """

    number: int
    where: str
    edits: tuple[tuple[str, str, str], ...]
    raises: str | None = None


def bug(number: int, where: str, *edits: tuple[str, str, str], raises: str | None = None) -> Bug:
    """In the order of reading."""
    return Bug(number, where, edits, raises)


def _swaps() -> list[Bug]:
    found = []
    for one, other in combinations("ifog", 2):
        order, name = tuple("ifog".translate(str.maketrans(one + other, other + one))), f"{one}↔{other}"
        names = ", ".join(f"z_{gate}" for gate in order)
        rows = ["ifog".index(gate) for gate in order]
        take = f"kernel.reshape(4, len(kernel) // 4, -1)[{rows}].reshape(kernel.shape)"
        found += [
            bug(8, f"{name}, page", (CELL, "z_i, z_f, z_o, z_g = np.split", f"{names} = np.split")),
            bug(8, f"{name}, page backward", (CELL, "[dz_i, dz_f, dz_o, dz_g]", f"[{names.replace('z_', 'dz_')}]")),
            bug(8, f"{name}, fast code", (LSTM, "W = kernel.copy(", f"W = {take}.copy(")),
            bug(
                8,
                f"{name}, general layer, forward and backward alike",
                (DEFINITION, "for gate in GATES if", f"for gate in {order} if"),
                (DEFINITION, "return self.gates[:-1]", 'return tuple(gate for gate in "ifo" if gate in self.gates)'),
            ),
        ]
    return found


ZEROS = tuple(
    (BACKPROP, f"self.{name} = np.empty", f"self.{name} = np.zeros")
    for name in ("dz", "dsum", "da_h", "d_activation_input", "dh_new")
)

BUGS = [
    bug(
        1, "page", (CELL, "dz = np.concatenate([dz_i, dz_f, dz_o, dz_g])", "dz = np.zeros((4 * len(dh), dh.shape[1]))")
    ),
    bug(1, "fast code, i", (LSTM, "multiply(factors_i, running_dc, factors_i)", "factors_i.fill(0)")),
    bug(1, "fast code, f", (LSTM, "multiply(factors_f, running_dc, factors_f)", "factors_f.fill(0)")),
    bug(1, "fast code, o and g", (LSTM, "multiply(factors_o_g, dh_dc, factors_o_g)", "factors_o_g.fill(0)")),
    bug(1, "general layer", (BACKPROP, "gradients.dz[t, rows] = dz", "gradients.dz[t, rows] = 0")),
    bug(1, "layer", (DIRECTION_BASE, "views[full][:] = d[", "_ = d[")),
    bug(2, "page", (CELL, "dW = dz @ u.T", "dW = W + dz @ u.T")),
    bug(2, "fast code", (LSTM, "dkernel = products if", "dkernel = tape.kernel + products if")),
    bug(
        2,
        "general layer, recurrent weights",
        (BACKPROP, "dkernel[:, :P] = sum_of", "dkernel[:, :P] = tape.kernel[:, :P] + sum_of"),
    ),
    bug(
        2,
        "general layer, projection",
        (BACKPROP, 'd["projection"] = sum_of', 'd["projection"] = weights["projection"] + sum_of'),
    ),
    bug(
        2,
        "affine map",
        (
            LINEAR,
            "dweight, dbias = sum_of_outer_products(dy, x, buffers)",
            "dweight, dbias = weight + sum_of_outer_products(dy, x, buffers)",
        ),
        (
            LINEAR,
            "matmul(dy_rows.T, x_rows, dweight)",
            "np.add(weight, dy_rows.T @ x_rows, out=dweight)",
        ),
    ),
    bug(
        2,
        "layer",
        (
            DIRECTION_BASE,
            "d = dweights[name]",
            "d = dweights[name] + (self.weights()[name] if self.options.bias else 0)",
        ),
    ),
    bug(
        2,
        "parameters",
        (
            PARAMETERS,
            "return type(self)(self.shapes, self.vector.dtype)",
            "return type(self)(self.shapes, self.vector.dtype, self.vector.copy())",
        ),
    ),
    bug(3, "page", (CELL, "dW = dz @ u.T", "dW = dz @ np.concatenate([step.h, u[len(dh) :]]).T")),
    bug(
        3,
        "fast code",
        (
            LSTM,
            "products = sum_of_outer_products(dz_columns[:n], tape.u[start:end], buffers)",
            "u = tape.u[start:end].copy()\n        u[:, :H] = tape.h[start:end]\n"
            "        products = sum_of_outer_products(dz_columns[:n], u, buffers)",
        ),
    ),
    bug(
        3,
        "general layer",
        (BACKPROP, "tape.masks.drop(tape.h_with_initial[:-1])", "tape.masks.drop(tape.h_with_initial[1:])"),
    ),
    bug(
        4,
        "fast code, gradients of step 1 lost",
        (
            LSTM,
            "        products = sum_of_outer",
            "        if not start:\n            dz_columns[:1] = 0\n        products = sum_of_outer",
        ),
    ),
    bug(
        4,
        "fast code, initial state",
        (
            LSTM,
            "return Gradient(dkernel, dx, from_next, running_dc)",
            "return Gradient(dkernel, dx, 0 * from_next, 0 * running_dc)",
        ),
    ),
    bug(4, "general layer", (BACKPROP, "reversed(range(tape.T))", "reversed(range(1, tape.T))"), *ZEROS),
    bug(5, "activation", ("core/activations.py", "np.exp(-z)", "np.exp(-2 * z)")),
    bug(5, "fast code", (LSTM, "W[: 3 * len(W) // 4] *= -1", "W[: 3 * len(W) // 4] *= -2")),
    bug(
        5,
        "fast code, one gate of three",
        (LSTM, "W[: 3 * len(W) // 4] *= -1", "W[: 3 * len(W) // 4] *= -1\n    W[len(W) // 2 : 3 * len(W) // 4] *= 2"),
    ),
    bug(6, "sign", (INITIALIZATION, "+= sign * forget_bias", "-= sign * forget_bias")),
    bug(6, "sign where gates are coupled", (INITIALIZATION, 'gate == "f" else -1', 'gate == "f" else 1')),
    bug(6, "size", (INITIALIZATION, "+= sign * forget_bias", "+= 2 * sign * forget_bias")),
    bug(6, "of another gate", (INITIALIZATION, 'derived_gates.get("f", "f")', 'derived_gates.get("f", "o")')),
    bug(6, "left out", (INITIALIZATION, "+= sign * forget_bias", "+= 0")),
    bug(7, "page", (CELL, "h = o * tanh_c", "h = o * c")),
    bug(7, "fast code", (LSTM, "divide(tanh_c, inverse_o, h)", "divide(c, inverse_o, h)")),
    bug(7, "general layer", (LOOP, "h = tape.o[t] * tape.output[t]", "h = tape.o[t] * activation_input")),
    *_swaps(),
    bug(9, "page", (CELL, "dW = dz @ u.T", "dW = dz @ u.T + W * (np.arange(len(u)) == len(u) - 1)")),
    bug(
        9,
        "fast code",
        (LSTM, "return Gradient(dkernel,", "dkernel[:, -1] += tape.kernel[:, -1]\n    return Gradient(dkernel,"),
    ),
    bug(
        9,
        "general layer",
        (BACKPROP, "dkernel[:, -1] = _merge_steps", "dkernel[:, -1] = tape.kernel[:, -1] + _merge_steps"),
    ),
    bug(
        9,
        "general layer, projection",
        (BACKPROP, 'd["projection_bias"] = ', 'd["projection_bias"] = weights["projection_bias"] + '),
    ),
    bug(9, "general layer, shift of the cell", (BACKPROP, 'd["shift_c"] = ', 'd["shift_c"] = weights["shift_c"] + ')),
    bug(
        9,
        "readout",
        (
            READOUT,
            "        return dx if d_outputs.ndim > 2",
            "        if out is not None and self.bias:\n            out[1][:] += self.parameters['bias']\n"
            "        return dx if d_outputs.ndim > 2",
        ),
    ),
    bug(
        10,
        "between layers",
        (PASSES, "dy = dx[0] if D == 1 else dx[0] + dx[1]", "dy = (dx[0] if D == 1 else dx[0] + dx[1]) * (not first)"),
    ),
    bug(10, "between layers, of one direction", (PASSES, "else dx[0] + dx[1]", "else dx[0] + dx[1] * (not first)")),
    bug(
        10,
        "fast code",
        (LSTM, "batched_matmul(tape.kernel[:, H:-1].T, dz_columns[:n], dx[start:end], buffers)", "dx[start:end] = 0"),
    ),
    bug(10, "general layer", (BACKPROP, "return d, dx\n", "return d, 0 * dx\n")),
    bug(11, "page", (CELL, "dc_prev = dc * f", "dc_prev = dc")),
    bug(11, "fast code", (LSTM, "multiply(running_dc, f, running_dc)", "pass")),
    bug(11, "general layer", (BACKPROP, "dc_prev = dc_prev + dc_new * f", "dc_prev = dc_prev + dc_new")),
    bug(
        12,
        "layer",
        (
            RECURRENT_LAYER,
            "d_final_state, gradients, step_gradients=step_gradients)\n",
            "d_final_state, gradients, step_gradients=step_gradients)\n"
            "        if self.num_states[1] > 1:\n            return None\n",
        ),
        raises="TypeError",
    ),
    bug(
        12,
        "nothing for the reverse direction",
        ("recurrent/merging.py", "return [dy[:, :P], dy[:, P:]]", "return [dy[:, :P], 0 * dy[:, P:]]"),
    ),
    bug(
        12,
        "no initial states",
        (
            PASSES,
            "d_initial[:0] = d_initial_of_layer",
            "d_initial[:0] = [(0 * h, 0 * c) for h, c in d_initial_of_layer]",
        ),
    ),
    bug(
        13,
        "order of processing",
        (SEQUENCES, "np.where(k < lengths, lengths - 1 - k, k)", "np.broadcast_to(T - 1 - k, in_time.shape)"),
    ),
    bug(
        13,
        "layer",
        (
            DIRECTION,
            "if order is not None:\n            return x if",
            "if order is not None and not self.reverse:\n            return x if",
        ),
    ),
    bug(
        13,
        "mask ignored",
        (
            PASSES,
            "time_order(mask, reverse=one.reverse)",
            "time_order(mask | one.reverse, reverse=one.reverse)",
        ),
    ),
    bug(
        14,
        "fast code",
        (
            LSTM,
            "dkernel = products if end == T else np.add(dkernel, products, out=dkernel)",
            'dkernel = buffers._arrays["dkernel"] = buffers._arrays.get("dkernel", 0) + products',
        ),
    ),
    bug(14, "layer", (DIRECTION_BASE, "views[full][:] = d[", "views[full][:] += d[")),
    bug(
        14,
        "readout",
        (LINEAR, "out[0][:], out[1][:] = dweight, dbias", "out[0][:], out[1][:] = dweight, out[1] + dbias"),
        (
            LINEAR,
            "np.add.reduce(dy_rows[:, part], axis=0, out=dbias[part])",
            "np.add(dbias[part], dy_rows[:, part].sum(axis=0), out=dbias[part])",
        ),
    ),
    bug(
        14,
        "learned initial state",
        (
            PASSES,
            "[:] = d.sum(axis=1) * tape.learned_initial_state",
            "[:] += d.sum(axis=1) * tape.learned_initial_state",
        ),
    ),
    bug(
        14,
        "layer, kept by the object",
        (
            RECURRENT_LAYER,
            "gradients = self.parameters.zeros_like()",
            "kept = self.parameters.zeros_like()\n        gradients = self.parameters.zeros_like()\n"
            '        self.__dict__.setdefault("_kept", []).append(gradients)',
        ),
        (
            RECURRENT_LAYER,
            "return dx, self.state_to_user(d_initial, single=tape.unbatched), gradients",
            "kept.vector[:] = sum(one.vector for one in self._kept)\n"
            "        return dx, self.state_to_user(d_initial, single=tape.unbatched), kept",
        ),
    ),
    bug(
        15,
        "gates",
        (
            INITIALIZATION,
            "        rows = slice(start, start + H)\n",
            "        rows = slice(start, start + H)\n        rng = np.random.default_rng(0)\n",
        ),
    ),
    bug(
        15,
        "layers",
        (
            INITIALIZATION,
            "_kernel(options, view, initializer, rng)",
            "_kernel(options, view, initializer, np.random.default_rng(0))",
        ),
    ),
    bug(
        15,
        "gates, uniform",
        (
            INITIALIZATION,
            "kernel[:] = uniform(rng, kernel.shape, H**-0.5)",
            "kernel[:] = np.tile(uniform(rng, (H, kernel.shape[1]), H**-0.5), (len(kernel) // H, 1))",
        ),
    ),
    bug(
        16,
        "fast code, forward",
        (
            LSTM,
            "    buffers = buffers or BufferPool()\n    tape = Tape.begin(",
            '    buffers = buffers or forward.__dict__.setdefault("shared", BufferPool())\n    tape = Tape.begin(',
        ),
    ),
    bug(
        16,
        "fast code, backward",
        (
            LSTM,
            "    buffers = buffers or BufferPool()\n    T, H, B",
            '    buffers = buffers or backward.__dict__.setdefault("shared", BufferPool())\n    T, H, B',
        ),
    ),
    bug(
        16,
        "affine map",
        (
            LINEAR,
            "    buffers = buffers or BufferPool()\n",
            '    buffers = buffers or backward.__dict__.setdefault("shared", BufferPool())\n',
        ),
    ),
    bug(
        16,
        "general layer",
        (BACKPROP, "buffers or BufferPool())", 'backward.__dict__.setdefault("shared", BufferPool()))'),
    ),
    bug(
        16,
        "layer, tape",
        (
            PASSES,
            "buffers = BufferPool() if buffers is None else buffers\n        if not keep_tape:",
            'buffers = self.__dict__.setdefault("_shared", BufferPool())\n        if not keep_tape:',
        ),
    ),
    bug(
        16,
        "layer, gradients",
        (
            RECURRENT_LAYER,
            "gradients = self.parameters.zeros_like()",
            'gradients = self.__dict__.setdefault("_kept", self.parameters.zeros_like())',
        ),
    ),
    bug(17, "page", (CELL, "tanh_derivative(tanh_c) + dc_next", "tanh_derivative(tanh_c)")),
    bug(17, "fast code, h", (LSTM, "from_next[:] = dh_T", "from_next[:] = 0")),
    bug(17, "fast code, c", (LSTM, "running_dc[:] = dc_T", "running_dc[:] = 0")),
    bug(
        17,
        "general layer, h",
        (BACKPROP, "running_dh[:], running_dc[:] = dh_T, dc_T", "running_dh[:], running_dc[:] = 0, dc_T"),
    ),
    bug(
        17,
        "general layer, c",
        (BACKPROP, "running_dh[:], running_dc[:] = dh_T, dc_T", "running_dh[:], running_dc[:] = dh_T, 0"),
    ),
    bug(
        17,
        "where sequences end",
        (SEQUENCES, "gradient[lengths[nonempty] - 1, :, nonempty] += d_end[:, nonempty].T", "pass"),
    ),
    bug(17, "layer", (PASSES, "ZERO_STATE if d_final is None else (d_final.h[k], d_final.c[k])", "ZERO_STATE")),
    bug(
        18,
        "page",
        (
            CELL,
            "dh_prev, dx = du[:H], du[H:-1]",
            "dh_prev, dx = du[:H], du[H:-1]\n    dc_prev = (dh_prev * o * tanh_derivative(tanh_c) + dc_next) * f",
        ),
    ),
    bug(
        18,
        "fast code",
        (
            LSTM,
            "dot(W_h, dz, from_next)",
            "dot(W_h, dz, from_next)\n                running_dc += f * factor_c * (from_next - running_dh)",
        ),
    ),
    bug(
        18,
        "general layer",
        (
            BACKPROP,
            "return dh_prev + masks.drop(dh_read), dc_prev",
            "new_dh = dh_prev + masks.drop(dh_read)\n"
            "    change = new_dh - dh\n"
            '    if "projection" in tape.weights:\n        change = tape.weights["projection"].T @ change\n'
            "    slope = config.output.derivative(tape.output_activation_input[t], tape.output[t])\n"
            "    return new_dh, dc_prev + f * o * slope * change",
        ),
    ),
    bug(
        18,
        "compiled, batch",
        (
            LOOPS,
            "            _product(dz[k, n:], W, du[n:])\n",
            "            before = dh + (dh_rows[t, n:] if len(dh_rows) > 0 else dh_columns[t, :, n:].T)\n"
            "            _product(dz[k, n:], W, du[n:])\n"
            "            dcell += f * (o - h * tanh_c[t, n:]) * (dh - before)\n",
        ),
    ),
    bug(
        18,
        "compiled, one sequence",
        (
            LOOPS,
            "            _product_of_row(dz[:, k : k + 1], W_h, running_dh, False)\n",
            "            before = running_dh + dh[t]\n"
            "            _product_of_row(dz[:, k : k + 1], W_h, running_dh, False)\n"
            "            running_dc += f * (o - h * tanh_c[t]) * (running_dh - before)\n",
        ),
    ),
    bug(
        18,
        "gradients of every step",
        (
            GRADIENTS,
            "dc[t] += dc[t + 1] * tape.f[t + 1]",
            "of_dh = tape.o[t + 1] - tape.h[t + 1] * tape.tanh_c[t + 1]\n"
            "        dc[t] += (dc[t + 1] + (dh[t] - dh[t + 1]) * of_dh) * tape.f[t + 1]",
        ),
    ),
]
