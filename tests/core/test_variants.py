"""Every quantity of the general layer matches its equations, for all options, and `backward` is the derivative.

The equations are written here two more times: in a direct form, for one sequence at a time, and in PyTorch, which
differentiates them automatically.
"""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from glasscell.core import lstm, variants
from glasscell.core.activations import ACTIVATIONS, activation
from glasscell.core.buffers import BufferPool
from glasscell.core.time_order import scatter_add_final
from glasscell.core.variants import CellConfig, DropoutMasks

DTYPES = [np.float32, np.float64]
ALL = tuple(ACTIVATIONS)
SMOOTH = ("Sigmoid", "Tanh", "Affine", "ScaledTanh", "Softplus")
NORMS = (None, "haste", "tflite", "contrib")
GATES = ({}, {"coupled": "input"}, {"coupled": "forget"}, {"forget_gate": False})


class Problem(NamedTuple):
    variant: CellConfig
    weights: dict
    x: np.ndarray
    h0: np.ndarray
    c0: np.ndarray
    noise: DropoutMasks
    lengths: np.ndarray | None
    dh: np.ndarray
    dc: np.ndarray
    dh_end: np.ndarray
    dc_end: np.ndarray


class Random:
    """Draws problems. Whatever is not said to be something is drawn too; nothing is constant, and hardly anything 0."""

    def __init__(self, rng, dtype=np.float64):
        self.rng, self.dtype = rng, dtype

    def one_of(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def normal(self, *shape, scale=1.0):
        return (scale * self.rng.normal(size=shape)).astype(self.dtype)

    def uniform(self, low, high, *shape):
        return self.rng.uniform(low, high, size=shape).astype(self.dtype)

    def activation(self, name):
        """With its own defaults half of the time."""
        own = ACTIVATIONS[name]
        if self.one_of(True, False):
            return activation(name)
        alpha = None if own.alpha is None else self.rng.uniform(0.2, 0.9)
        beta = None if own.beta is None else self.rng.uniform(0.2, 0.9)
        return activation(name, alpha, beta)

    def variant(self, names, **given):
        drawn = {
            "gate": self.activation(self.one_of(*names)),
            "candidate": self.activation(self.one_of(*names)),
            "output": self.activation(self.one_of(*names)),
            "clip": self.one_of(None, None, self.rng.uniform(0.4, 1.5)),
            "layer_norm": self.one_of(*NORMS),
            "epsilon": self.rng.uniform(0.01, 0.3),
            **({} if {"coupled", "forget_gate"} & given.keys() else self.one_of(*GATES)),
        }
        return CellConfig(**drawn | given)

    def share(self, rows, T, B):
        """Of what is new: all, a part, nothing; one number for all, a mask, or numbers in between."""
        return self.one_of(
            1.0,
            float(self.rng.uniform(0.1, 0.9)),
            self.one_of(0.0, 0.5),
            self.rng.integers(0, 2, size=(T, rows, B)).astype(self.dtype),
            self.uniform(0, 1, T, rows, B),
        )

    def noise(self, T, P, H, B):
        recurrent = self.one_of(
            1.0, 0.7, (self.rng.random((P, B)) < 0.6).astype(self.dtype) / self.dtype(0.6), self.uniform(0.5, 1.5, P, B)
        )
        return DropoutMasks(recurrent, self.share(P, T, B), self.share(H, T, B))

    def problem(self, names=ALL, *, smallest=(1, 1, 2, 1, 1), spread=3, noise=True, ragged=None, **given):
        """`smallest`: T, I, H, P, B, or up to `spread` more of each; `given`: of the variant."""
        T, I, H, P, B = (int(self.rng.integers(low, low + spread + 1)) for low in smallest)
        variant = self.variant(names, **given)
        projection = self.one_of(True, False)
        options = {key: self.one_of(True, False) for key in ("peepholes", "projection_bias")}
        shapes = variant.shapes(I, H, P if projection else None, **options)
        P = P if projection else H
        weights = {name: self.normal(*shape, scale=0.6) for name, shape in shapes.items()}
        for name in weights.keys() & {"gain", "gain_x", "gain_h", "gain_c"}:
            weights[name] += self.dtype(1)
        ragged = self.one_of(True, False) if ragged is None else ragged
        lengths = self.rng.integers(0, T + 1, size=B) if ragged else None
        return Problem(
            variant,
            weights,
            self.normal(T, I, B),
            self.normal(P, B),
            self.normal(H, B),
            self.noise(T, P, H, B) if noise else DropoutMasks(),
            lengths,
            self.normal(T, P, B),
            self.normal(T, H, B),
            self.normal(P, B),
            self.normal(H, B),
        )


def forward(p):
    return variants.forward(p.variant, p.weights, p.x, p.h0, p.c0, p.noise, p.lengths)


def own_steps(p):
    """Which steps are a sequence's own: (T, 1, B)."""
    T, _, B = p.x.shape
    lengths = np.full(B, T) if p.lengths is None else p.lengths
    return np.arange(T)[:, None, None] < lengths


def backward(p, tape, buffers=None):
    """Of all outputs and of the final state, which for a sequence that ends early is the one at its end."""
    if p.lengths is None:
        return variants.backward(tape, p.dh, p.dh_end, p.dc_end, p.dc, buffers)
    dh, dc = (np.where(own_steps(p), d, d.dtype.type(0)) for d in (p.dh, p.dc))
    dh0, dc0 = scatter_add_final(dh, p.dh_end, p.lengths), scatter_add_final(dc, p.dc_end, p.lengths)
    gradient = variants.backward(tape, dh, dc=dc, buffers=buffers)
    return gradient._replace(dh0=gradient.dh0 + dh0, dc0=gradient.dc0 + dc0)


def loss(p, tape):
    """What :func:`backward` is the gradient of."""
    valid = own_steps(p)
    steps = np.sum(valid * p.dh * tape.h) + np.sum(valid * p.dc * tape.c)
    return steps + np.vdot(p.dh_end, tape.h_with_initial[-1]) + np.vdot(p.dc_end, tape.c_with_initial[-1])


def arguments(p):
    """All that can be differentiated, by name."""
    return {**p.weights, "x": p.x, "h0": p.h0, "c0": p.c0}


def with_arguments(p, changed):
    return p._replace(
        weights={name: changed.get(name, weight) for name, weight in p.weights.items()},
        **{name: changed[name] for name in ("x", "h0", "c0") if name in changed},
    )


def by_name(gradient):
    return {**gradient.dweights, "x": gradient.dx, "h0": gradient.dh0, "c0": gradient.dc0}


def arrays_of(tape):
    """All that a tape holds, by name."""
    values = {}
    for name, value in (item for item in vars(tape).items() if item[0] != "lengths"):
        if isinstance(value, np.ndarray):
            values[name] = value
        elif name == "weights":
            values |= value
        elif isinstance(value, tuple):
            values |= {f"{name}.{k}": array for k, array in enumerate(value) if isinstance(array, np.ndarray)}
    return values


def assert_near(result, expected, tolerance, floor=0.0):
    """Name by name and shape by shape; norm-wise: the largest difference against the largest value.

    `floor` is the share of the largest value of all names that every name has at least.
    """
    assert result.keys() == expected.keys()
    least = floor * max(np.abs(array).max(initial=0) for array in expected.values())
    for name in result:
        a, b = np.asarray(result[name]), np.asarray(expected[name])
        assert a.shape == b.shape, name
        difference = np.abs(a - b).max(initial=0)
        assert difference <= tolerance * np.abs(b).max(initial=least), f"{name} differs by {difference}"


def assert_equal(result, expected):
    assert result.keys() == expected.keys()
    for name in result:
        np.testing.assert_array_equal(result[name], expected[name], err_msg=name)


# The equations, one sequence at a time

FORMULAS = {  # of one number and the two parameters
    "Sigmoid": lambda z, *_: 1 / (1 + math.exp(-z)) if z > 0 else math.exp(z) / (1 + math.exp(z)),
    "Tanh": lambda z, *_: math.tanh(z),
    "Relu": lambda z, *_: max(0.0, z),
    "Affine": lambda z, a, b: a * z + b,
    "LeakyRelu": lambda z, a, _: z if z > 0 else a * z,
    "ThresholdedRelu": lambda z, a, _: z if z > a else 0.0,
    "ScaledTanh": lambda z, a, b: a * math.tanh(b * z),
    "HardSigmoid": lambda z, a, b: max(0.0, min(1.0, a * z + b)),
    "Elu": lambda z, a, _: z if z > 0 else a * (math.exp(z) - 1),
    "Softsign": lambda z, *_: z / (1 + abs(z)),
    "Softplus": lambda z, *_: max(z, 0.0) + math.log(1 + math.exp(-abs(z))),
}


def gate_order(v):
    """The order of the gates in the rows of the kernel."""
    if not v.forget_gate:
        return "iog"
    return {None: "ifog", "input": "iog", "forget": "fog"}[v.coupled]


def each(activation, z):
    return np.array([FORMULAS[activation.name](v, activation.alpha, activation.beta) for v in z])


def N(a, epsilon):
    mean = sum(a) / len(a)
    return (a - mean) / math.sqrt(sum((a - mean) ** 2) / len(a) + epsilon)


def step(v, w, x, h_prev, c_prev, r, k_h, k_c):
    """One step of one sequence; all are vectors."""
    H, P = len(c_prev), len(h_prev)
    W_h, W_x, b = w["kernel"][:, :P], w["kernel"][:, P:-1], w["kernel"][:, -1]
    names = gate_order(v)
    rows = {name: slice(k * H, (k + 1) * H) for k, name in enumerate(names)}
    if v.layer_norm is None:
        z = W_x @ x + W_h @ (r * h_prev) + b
    elif v.layer_norm == "haste":
        z = w["gain_x"] * N(W_x @ x, v.epsilon) + w["gain_h"] * N(W_h @ (r * h_prev), v.epsilon) + b
    else:
        z = W_x @ x + W_h @ (r * h_prev)

    def gate(name, seen):
        a = z[rows[name]]
        if "peepholes" in w and name != "g":
            a = a + w["peepholes"][names.replace("g", "").index(name) * H :][:H] * seen
        if v.layer_norm in ("tflite", "contrib"):
            a = w["gain"][rows[name]] * N(a, v.epsilon) + b[rows[name]]
        if v.clip is not None:
            a = np.array([max(-v.clip, min(v.clip, value)) for value in a])
        z[rows[name]] = a
        return each(v.candidate if name == "g" else v.gate, a)

    if v.coupled == "input":
        i = gate("i", c_prev)
        f = 1 - i
    elif v.coupled == "forget":
        f = gate("f", c_prev)
        i = 1 - f
    elif not v.forget_gate:
        i, f = gate("i", c_prev), np.ones(H)
    else:
        i, f = gate("i", c_prev), gate("f", c_prev)
    g = gate("g", None)
    new_c = f * c_prev + i * g
    if v.layer_norm == "contrib":
        new_c = w["gain_c"] * N(new_c, v.epsilon) + w["shift_c"]
    o = gate("o", new_c)
    read = w["gain_c"] * N(new_c, v.epsilon) + w["shift_c"] if v.layer_norm == "haste" else new_c
    output = each(v.output, read)
    new_h = o * output
    if "projection" in w:
        new_h = w["projection"] @ new_h
    if "projection_bias" in w:
        new_h = new_h + w["projection_bias"]
    c = (1 - k_c) * c_prev + k_c * new_c
    h = (1 - k_h) * h_prev + k_h * new_h
    return {
        "z": z,
        "i": i,
        "f": f,
        "o": o,
        "g": g,
        "new_c": new_c,
        "output_activation_input": read,
        "output": output,
        "c": c,
        "h": h,
    }


def steps_of(p, b):
    """All steps of sequence b up to its end."""

    def sequence_problem(share, t):
        return share[t, :, b] if isinstance(share, np.ndarray) else share

    T, _, B = p.x.shape
    h = np.broadcast_to(p.h0, (p.dh.shape[1], B))[:, b]
    c = np.broadcast_to(p.c0, (p.dc.shape[1], B))[:, b]
    r = p.noise.recurrent[:, b] if isinstance(p.noise.recurrent, np.ndarray) else p.noise.recurrent
    values = [{"h": h, "c": c}]
    for t in range(T if p.lengths is None else p.lengths[b]):
        shares = sequence_problem(p.noise.new_h, t), sequence_problem(p.noise.new_c, t)
        values.append(step(p.variant, p.weights, p.x[t, :, b], values[-1]["h"], values[-1]["c"], r, *shares))
    return values


def assert_is_the_equations(p, tape, tolerance=1e-11):
    T, _, B = p.x.shape
    names = ("z", "i", "f", "o", "g", "new_c", "output_activation_input", "output", "c", "h")
    expected = {name: getattr(tape, name).copy() for name in names}
    cells, h_with_initial = tape.c_with_initial.copy(), tape.h_with_initial.copy()
    for b in range(B):
        values = steps_of(p, b)
        for t, of_step in enumerate(values[1:]):
            for name, value in of_step.items():
                expected[name][t, :, b] = value
        for t in range(T + 1):
            at = values[min(t, len(values) - 1)]  # an ended sequence stays as it is
            cells[t, :, b], h_with_initial[t, :, b] = at["c"], at["h"]
    expected |= {
        "c": cells[1:],
        "h": h_with_initial[1:],
        "c_with_initial": cells,
        "h_with_initial": h_with_initial,
        "tanh_c": expected["output"],
    }
    assert_near({name: getattr(tape, name) for name in expected}, expected, tolerance)


@pytest.mark.parametrize("k", range(180))
def test_every_quantity_of_every_step_matches_the_equations(k, rng):
    """All sixteen pairs of normalisation and gates in turn, and each activation in each place."""
    draw = Random(rng)
    arguments = {"layer_norm": NORMS[k % 4], **GATES[k // 4 % 4]}
    arguments |= {
        place: draw.activation(ALL[(k + s) % 11]) for place, s in [("gate", 0), ("candidate", 4), ("output", 7)]
    }
    p = draw.problem(**arguments)
    print(p.variant, sorted(p.weights), p.noise, p.lengths)
    tape = forward(p)
    assert tape.h.shape == p.dh.shape
    assert tape.c.shape == p.dc.shape
    assert_is_the_equations(p, tape)
    np.testing.assert_array_equal(tape.x, p.x)


@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
@pytest.mark.parametrize("layer_norm", NORMS[1:])
def test_epsilon_is_that_of_the_configuration(layer_norm, epsilon, rng):
    p = Random(rng).problem(layer_norm=layer_norm, epsilon=epsilon)
    assert_is_the_equations(p, forward(p))


@pytest.mark.parametrize("gates", GATES, ids=str)
@pytest.mark.parametrize("layer_norm", NORMS)
def test_sizes_of_1_match_the_equations(layer_norm, gates, rng):
    """One unit, one input, one sequence; of one row alone the normalised value is 0."""
    p = Random(rng).problem(smallest=(3, 1, 1, 1, 1), spread=0, layer_norm=layer_norm, **gates)
    assert_is_the_equations(p, forward(p))


def test_initial_states_may_broadcast(rng):
    p = Random(rng).problem()
    for h0, c0 in [(0.3, -0.2), (p.h0[:, :1], p.c0[:, :1]), (p.h0[:1], 0.0)]:
        moved = p._replace(h0=h0, c0=c0)
        assert_is_the_equations(moved, forward(moved))


def test_default_initial_states_and_masks_have_no_effect(rng):
    p = Random(rng).problem(noise=False, ragged=False)
    p = p._replace(h0=np.zeros_like(p.h0), c0=np.zeros_like(p.c0))
    assert_equal(arrays_of(variants.forward(p.variant, p.weights, p.x)), arrays_of(forward(p)))


def test_the_default_configuration_is_the_standard_layer():
    config = CellConfig()
    assert (config.gate.name, config.candidate.name, config.output.name) == ("Sigmoid", "Tanh", "Tanh")
    assert (config.coupled, config.forget_gate, config.clip, config.layer_norm, config.epsilon) == (
        None,
        True,
        None,
        None,
        1e-5,
    )


def test_masks_are_the_identity_only_if_all_are_1():
    assert DropoutMasks().is_identity
    ones = np.ones((1, 1, 1))
    assert not any(
        DropoutMasks()._replace(**{part: loud}).is_identity
        for part in DropoutMasks._fields
        for loud in (0.5, 0.0, ones)
    )


def test_names_and_shapes_of_the_weights():
    def shapes(coupled=None, layer_norm=None, **options):
        return CellConfig(coupled=coupled, layer_norm=layer_norm).shapes(3, 5, **options)

    assert shapes() == {"kernel": (20, 9)}
    assert shapes("input", P=2) == {"kernel": (15, 6), "projection": (2, 5)}
    assert shapes(P=2, projection_bias=True) == {"kernel": (20, 6), "projection": (2, 5), "projection_bias": (2,)}
    assert shapes(peepholes=True)["peepholes"] == (15,)
    assert shapes("forget", peepholes=True)["peepholes"] == (10,)
    cell_shapes = {"gain_c": (5,), "shift_c": (5,)}
    assert shapes(layer_norm="haste") == {"kernel": (20, 9), "gain_x": (20,), "gain_h": (20,), **cell_shapes}
    assert shapes(layer_norm="tflite") == {"kernel": (20, 9), "gain": (20,)}
    assert shapes("forget", "contrib") == {"kernel": (15, 9), "gain": (15,), **cell_shapes}
    variants_of_gates = [CellConfig(**gates) for gates in GATES]
    assert [v.gates for v in variants_of_gates] == [tuple(gate_order(v)) for v in variants_of_gates]
    assert [v.peepholes for v in variants_of_gates] == [("i", "f", "o"), ("i", "o"), ("f", "o"), ("i", "o")]
    assert CellConfig(forget_gate=False).shapes(3, 5, peepholes=True) == {"kernel": (15, 9), "peepholes": (10,)}


# With all of it off


@pytest.mark.parametrize(("T", "I", "H", "B"), [(0, 2, 3, 2), (1, 1, 1, 1), (6, 3, 4, 5), (4, 3, 5, 20), (5, 2, 3, 0)])
def test_without_options_it_matches_the_standard_layer(T, I, H, B, rng):
    draw = Random(rng)
    kernel, x, h0, c0 = draw.normal(4 * H, H + I + 1), draw.normal(T, I, B), draw.normal(H, B), draw.normal(H, B)
    dh, dc, dh_end, dc_end = draw.normal(T, H, B), draw.normal(T, H, B), draw.normal(H, B), draw.normal(H, B)
    result, plain = variants.forward(CellConfig(), {"kernel": kernel}, x, h0, c0), lstm.forward(kernel, x, h0, c0)
    names = ("x", "i", "f", "o", "g", "c", "tanh_c", "h", "c_with_initial", "h_with_initial", "kernel")
    assert_near({name: getattr(result, name) for name in names}, {name: getattr(plain, name) for name in names}, 1e-12)
    for arguments in (None, dc):
        gradient = by_name(variants.backward(result, dh, dh_end, dc_end, arguments))
        expected = lstm.backward(plain, dh, dh_end, dc_end, dc=arguments)
        assert_near(gradient, dict(zip(("kernel", "x", "h0", "c0"), expected, strict=True)), 1e-12)


@pytest.mark.parametrize("coupled", ["input", "forget"])
def test_coupled_gates_equal_independent_gates_with_negated_weights(coupled, rng):
    """1 - σ(z) = σ(-z)."""
    p = Random(rng).problem(coupled=coupled, gate=activation("Sigmoid"), layer_norm=None)
    H = len(p.c0)

    def with_both(weight):
        turned = [weight[:H], -weight[:H]] if coupled == "input" else [-weight[:H], weight[:H]]
        return np.concatenate([*turned, weight[H:]])

    weights = p.weights | {name: with_both(p.weights[name]) for name in ("kernel", "peepholes") if name in p.weights}
    result, expected = forward(p), forward(p._replace(variant=replace(p.variant, coupled=None), weights=weights))
    names = ("i", "f", "o", "g", "c", "h")
    assert_near(
        {name: getattr(result, name) for name in names}, {name: getattr(expected, name) for name in names}, 1e-12
    )


def test_no_forget_gates_equal_forget_gates_that_are_always_open(rng):
    """σ(z) rounds to 1 for z = 50: everything that both have is equal to rounding."""
    p = Random(rng).problem(forget_gate=False, gate=activation("Sigmoid"), layer_norm=None, clip=None)
    H = len(p.c0)

    def with_forget_rows(name, weight):
        rows = np.zeros_like(weight[:H])
        if name == "kernel":
            rows[:, -1] = 50
        return np.concatenate([weight[:H], rows, weight[H:]])

    changed = {name: with_forget_rows(name, p.weights[name]) for name in ("kernel", "peepholes") if name in p.weights}
    other = p._replace(variant=replace(p.variant, forget_gate=True), weights=p.weights | changed)
    tapes = forward(p), forward(other)
    assert (tapes[0].f == 1).all()
    assert_near(*({name: getattr(tape, name) for name in ("i", "f", "o", "g", "c", "h")} for tape in tapes), 1e-12)
    gradients = [by_name(backward(q, tape)) for q, tape in zip((p, other), tapes, strict=True)]
    for name in changed:
        gradients[1][name] = np.delete(gradients[1][name], slice(H, 2 * H), axis=0)
    assert_near(*gradients, 1e-12)


# Backward is the derivative of forward


def sides(tape):
    """On which side of all kinks and jumps every number lies."""
    v, values = tape.config, []
    for applied, z in [
        *((v.activation_for(gate), tape.z[:, tape.gate_rows(gate)]) for gate in v.gates),
        (v.output, tape.output_activation_input),
    ]:
        kinks = [applied.alpha] if applied.name == "ThresholdedRelu" else [0.0]
        if applied.name == "HardSigmoid":
            kinks = [-applied.beta / applied.alpha, (1 - applied.beta) / applied.alpha]
        values += [z > kink for kink in kinks if applied.name not in SMOOTH]
    if v.clip is not None:
        values += [tape.z == v.clip, tape.z == -v.clip]
    return np.concatenate([side.ravel() for side in values]) if values else np.zeros(0)


def moved(p, directions, s):
    given = arguments(p)
    return with_arguments(p, {name: given[name] + s * direction for name, direction in directions.items()})


def error_of_slope(p, directions, slope, step=1e-4):
    """Of the gradient along these directions, relative to its size, which is no less than a hundredth of the whole's.

    None where a kink lies in between.
    """
    here = forward(p)
    for s in (-2 * step, 2 * step):
        if (sides(forward(moved(p, directions, s))) != sides(here)).any():
            return None
    gradient = by_name(backward(p, here))
    result = sum(np.vdot(gradient[name], direction) for name, direction in directions.items())
    numeric = slope(lambda s: loss(p, forward(moved(p, directions, s))), step)
    sizes = {name: np.linalg.norm(array) for name, array in gradient.items()}
    size = max(math.hypot(*(sizes[name] for name in directions)), math.hypot(*sizes.values()) / 100)
    return abs(result - numeric) / size if size else abs(numeric)


@pytest.mark.parametrize("k", range(72))
def test_backward_is_the_derivative_along_any_direction(k, slope, rng):
    """All arguments at once; half of the problems with kinks, none of which may lie within the difference."""
    draw = Random(rng)
    for _ in range(200):
        p = draw.problem(SMOOTH if k // 16 % 2 else ALL, layer_norm=NORMS[k % 4], **GATES[k // 4 % 4])
        directions = {name: rng.normal(size=array.shape) for name, array in arguments(p).items()}
        error = error_of_slope(p, directions, slope)
        if error is not None:
            break
    print(p.variant, sorted(p.weights), p.noise, p.lengths)
    assert error <= 1e-7


@pytest.mark.parametrize("layer_norm", NORMS)
@pytest.mark.parametrize("gates", GATES, ids=str)
@pytest.mark.parametrize("projection_bias", [True, False])
def test_backward_is_the_derivative_in_every_argument(projection_bias, gates, layer_norm, slope, rng):
    """One after the other, with all kinds of weights there."""
    draw = Random(rng)
    p = draw.problem(SMOOTH, smallest=(3, 2, 3, 2, 2), layer_norm=layer_norm, clip=None, **gates)
    T, I, B = p.x.shape
    H, P = len(p.c0), 3
    shapes = p.variant.shapes(I, H, P, peepholes=True, projection_bias=projection_bias)
    p = p._replace(
        weights={name: draw.normal(*shape, scale=0.6) for name, shape in shapes.items()},
        noise=draw.noise(T, P, H, B),
        h0=draw.normal(P, B),
        dh=draw.normal(T, P, B),
        dh_end=draw.normal(P, B),
    )
    print(p.variant, p.noise, p.lengths)
    for name, array in arguments(p).items():
        assert error_of_slope(p, {name: rng.normal(size=array.shape)}, slope) <= 1e-7, name


# PyTorch, which derives the gradients


def activation_of_torch(activation, torch):
    F, alpha, beta = torch.nn.functional, activation.alpha, activation.beta
    return {
        "Sigmoid": torch.sigmoid,
        "Tanh": torch.tanh,
        "Relu": F.relu,
        "Affine": lambda z: alpha * z + beta,
        "LeakyRelu": lambda z: F.leaky_relu(z, alpha),
        "ThresholdedRelu": lambda z: F.threshold(z, alpha, 0),
        "ScaledTanh": lambda z: alpha * torch.tanh(beta * z),
        "HardSigmoid": lambda z: torch.clamp(alpha * z + beta, 0, 1),
        "Elu": lambda z: F.elu(z, alpha),
        "Softsign": F.softsign,
        "Softplus": F.softplus,
    }[activation.name]


def run_torch(p, arguments, torch):
    """Outputs and cells (T, B, rows) and the final state, by PyTorch, batch first."""
    v, w = p.variant, SimpleNamespace(**{"gain_c": None, "peepholes": None, "projection": None} | arguments)
    sigma, tau, phi = (activation_of_torch(activation, torch) for activation in (v.gate, v.candidate, v.output))
    H, P = len(p.c0), len(p.h0)

    def norm(a, gain, shift=None):
        return torch.nn.functional.layer_norm(a, a.shape[-1:], gain, shift, v.epsilon)

    def share(k, t):
        return torch.tensor(k[t].T) if isinstance(k, np.ndarray) else k

    def peephole(k, c):
        return 0.0 if w.peepholes is None else w.peepholes[k * H : (k + 1) * H] * c

    def bounded(a, k):
        """Of the k-th block of rows of the kernel."""
        if v.layer_norm in ("tflite", "contrib"):
            block = slice(k * H, (k + 1) * H)
            a = norm(a, w.gain[block], b[block])
        return a if v.clip is None else torch.clamp(a, -v.clip, v.clip)

    W_h, W_x, b = w.kernel.split([P, p.x.shape[1], 1], dim=1)
    b = b[:, 0]
    r = torch.tensor(p.noise.recurrent.T) if isinstance(p.noise.recurrent, np.ndarray) else p.noise.recurrent
    h, c, hs, cs = w.h0.T, w.c0.T, [], []
    for t in range(len(p.x)):
        from_x, from_h = w.x[t].T @ W_x.T, (h * r) @ W_h.T
        if v.layer_norm == "haste":
            z = norm(from_x, w.gain_x) + norm(from_h, w.gain_h, b)
        else:
            z = from_x + from_h + (b if v.layer_norm is None else 0)
        blocks = z.chunk(len(z.T) // H, dim=1)
        first = sigma(bounded(blocks[0] + peephole(0, c), 0))
        if v.coupled == "input":
            i, f = first, 1 - first
        elif v.coupled == "forget":
            i, f = 1 - first, first
        elif not v.forget_gate:
            i, f = first, 1.0
        else:
            i, f = first, sigma(bounded(blocks[1] + peephole(1, c), 1))
        at = len(blocks) - 2  # o, and behind it g
        new_c = f * c + i * tau(bounded(blocks[at + 1], at + 1))
        if v.layer_norm == "contrib":
            new_c = norm(new_c, w.gain_c, w.shift_c)
        o = sigma(bounded(blocks[at] + peephole(at, new_c), at))
        new_h = o * phi(norm(new_c, w.gain_c, w.shift_c) if v.layer_norm == "haste" else new_c)
        if w.projection is not None:
            new_h = torch.nn.functional.linear(new_h, w.projection, arguments.get("projection_bias"))
        k_h, k_c = share(p.noise.new_h, t), share(p.noise.new_c, t)
        on = torch.tensor(own_steps(p)[t].T)
        c = torch.where(on, k_c * new_c + (1 - k_c) * c, c)
        h = torch.where(on, k_h * new_h + (1 - k_h) * h, h)
        hs.append(h)
        cs.append(c)
    return torch.stack(hs), torch.stack(cs), h, c


@pytest.mark.parametrize("k", range(72))
def test_values_and_gradients_match_pytorch(k, torch, rng):
    p = Random(rng).problem(layer_norm=NORMS[k % 4], **GATES[k // 4 % 4])
    print(p.variant, sorted(p.weights), p.noise, p.lengths)
    given = {name: torch.tensor(array, requires_grad=True) for name, array in arguments(p).items()}
    hs, cs, h, c = run_torch(p, given, torch)
    valid = own_steps(p).swapaxes(1, 2)
    weighed = [(hs, valid * p.dh.swapaxes(1, 2)), (cs, valid * p.dc.swapaxes(1, 2)), (h, p.dh_end.T), (c, p.dc_end.T)]
    sum((tensor * torch.tensor(d.copy())).sum() for tensor, d in weighed).backward()

    tape = forward(p)
    values = {"h": tape.h, "c": tape.c, "h_end": tape.h_with_initial[-1], "c_end": tape.c_with_initial[-1]}
    torch_values = dict(
        zip(values, (tensor.detach().numpy().swapaxes(-2, -1) for tensor in (hs, cs, h, c)), strict=True)
    )
    assert_near(values, torch_values, 1e-11)
    expected = {
        name: np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy() for name, tensor in given.items()
    }
    assert_near(by_name(backward(p, tape)), expected, 1e-9)


# Laws


def some(rng, **arguments):
    """A problem of some size."""
    draw = Random(rng, arguments.pop("dtype", np.float64))
    p = draw.problem(**{"smallest": (4, 2, 3, 2, 3)} | arguments)
    for name in p.weights.keys() & {"kernel", "peepholes"}:
        p.weights[name] *= draw.dtype(0.4)  # or a cell that is squared at every step, as by Relu, becomes too large
    return p


@pytest.mark.parametrize("layer_norm", NORMS)
def test_results_permute_with_the_batch(layer_norm, rng):
    p = some(rng, layer_norm=layer_norm, ragged=True)
    new = rng.permutation(p.x.shape[-1])

    def permuted(value):
        return value[..., new] if isinstance(value, np.ndarray) else value

    other = Problem(
        p.variant, p.weights, *map(permuted, p[2:5]), DropoutMasks(*map(permuted, p.noise)), *map(permuted, p[6:])
    )
    tape, other_tape = forward(p), forward(other)
    assert_near(
        {"h": other_tape.h, "c_with_initial": other_tape.c_with_initial},
        {"h": permuted(tape.h), "c_with_initial": permuted(tape.c_with_initial)},
        1e-12,
    )
    expected = by_name(backward(p, tape))
    expected |= {name: permuted(expected[name]) for name in ("x", "h0", "c0")}
    assert_near(by_name(backward(other, other_tape)), expected, 1e-11)


@pytest.mark.parametrize("layer_norm", NORMS)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_two_halves_with_carried_state_equal_the_whole(at, layer_norm, rng):
    p = some(rng, layer_norm=layer_norm, ragged=False)

    def half(part):
        noise = [share[part] if isinstance(share, np.ndarray) else share for share in p.noise[1:]]
        return p._replace(x=p.x[part], dh=p.dh[part], dc=p.dc[part], noise=DropoutMasks(p.noise.recurrent, *noise))

    one, two = half(slice(at)), half(slice(at, None))
    first_tape = forward(one)
    two = two._replace(h0=first_tape.h_with_initial[-1], c0=first_tape.c_with_initial[-1])
    second_tape, whole = forward(two), forward(p)
    assert_near(
        {name: np.concatenate([getattr(first_tape, name), getattr(second_tape, name)]) for name in ("z", "h", "c")},
        {name: getattr(whole, name) for name in ("z", "h", "c")},
        1e-12,
    )
    late = backward(two, second_tape)
    early = backward(one._replace(dh_end=late.dh0, dc_end=late.dc0), first_tape)
    together = {name: early.dweights[name] + late.dweights[name] for name in p.weights}
    together |= {"x": np.concatenate([early.dx, late.dx]), "h0": early.dh0, "c0": early.dc0}
    assert_near(together, by_name(backward(p, whole)), 1e-11)


@pytest.mark.parametrize("layer_norm", NORMS)
def test_later_steps_have_no_influence(layer_norm, rng):
    p = some(rng, smallest=(6, 2, 3, 2, 3), layer_norm=layer_norm, ragged=False)
    tape = forward(p)
    other = p.x.copy()
    other[3:] = rng.normal(size=other[3:].shape)
    other_tape = forward(p._replace(x=other))
    assert_equal({"h": tape.h[:3], "c": tape.c[:3]}, {"h": other_tape.h[:3], "c": other_tape.c[:3]})
    dh, dc = p.dh.copy(), p.dc.copy()
    dh[3:] = dc[3:] = 0
    gradient = variants.backward(tape, dh, dc=dc)
    assert not gradient.dx[3:].any()


@pytest.mark.parametrize("layer_norm", NORMS)
@pytest.mark.parametrize("names", [("Sigmoid", "Tanh"), ("Relu", "Affine"), ("Softplus",)])
def test_steps_after_the_end_have_no_effect(names, layer_norm, rng):
    """A sequence that ends early is one without the steps behind: outputs, states, and all gradients."""
    p = some(rng, names=names, smallest=(5, 2, 3, 2, 4), layer_norm=layer_norm, ragged=True)
    p.lengths[:2] = 0, 3
    tape = forward(p)
    whole = by_name(backward(p, tape))
    assert not whole["x"][~np.repeat(own_steps(p), p.x.shape[1], axis=1)].any()
    alone = {name: np.zeros_like(array) for name, array in whole.items()}
    for b, length in enumerate(p.lengths):

        def cut(value, b=b, length=length):
            """Sequence b alone, as long as it is."""
            if not isinstance(value, np.ndarray):
                return value
            return value[..., b : b + 1] if value.ndim < 3 else value[:length, :, b : b + 1]

        sequence_problem = Problem(
            p.variant, p.weights, *map(cut, p[2:5]), DropoutMasks(*map(cut, p.noise)), None, *map(cut, p[7:])
        )
        tape_b = forward(sequence_problem)
        states = {"h": tape.h_with_initial[: length + 1, :, b], "c": tape.c_with_initial[: length + 1, :, b]}
        assert_near(states, {"h": tape_b.h_with_initial[..., 0], "c": tape_b.c_with_initial[..., 0]}, 1e-11)
        for states_after_end in (tape.h_with_initial[length:, :, b], tape.c_with_initial[length:, :, b]):
            np.testing.assert_array_equal(
                states_after_end, np.broadcast_to(states_after_end[0], states_after_end.shape)
            )
        for name, array in by_name(backward(sequence_problem, tape_b)).items():
            if name == "x":
                alone[name][:length, :, b] = array[..., 0]
            elif name in ("h0", "c0"):
                alone[name][:, b] = array[:, 0]
            else:
                alone[name] += array
    assert_near(whole, alone, 1e-10)


@pytest.mark.parametrize("layer_norm", NORMS)
def test_values_in_the_padding_have_no_effect(layer_norm, rng):
    p = some(rng, smallest=(6, 2, 3, 2, 4), layer_norm=layer_norm, ragged=True)
    p.lengths[:2] = 0, 3
    other = p._replace(x=np.where(own_steps(p), p.x, 100 * rng.normal(size=p.x.shape)))
    tape, other_tape = forward(p), forward(other)
    assert_near({"h": other_tape.h, "c": other_tape.c}, {"h": tape.h, "c": tape.c}, 1e-13)
    assert_near(by_name(backward(other, other_tape)), by_name(backward(p, tape)), 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_unbounded_activations_do_not_overflow_after_the_end(dtype, rng):
    """Without the ends the same weights take the states beyond all numbers."""
    draw = Random(rng, dtype)
    variant = CellConfig(*map(activation, ("Relu", "Affine", "Affine")))
    weights = {"kernel": draw.uniform(0.3, 0.8, 12, 6)}
    x, lengths = draw.uniform(0, 1, 30, 2, 4), np.array([0, 1, 2, 3])
    with pytest.warns(RuntimeWarning):
        variants.forward(variant, weights, x)
    valid = np.arange(30)[:, None, None] < lengths
    assert_nothing_is_out_of_bounds(variant, weights, np.where(valid, x, dtype(0)), lengths)


@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_state_does_not_overflow_after_the_end(dtype, peepholes):
    """It is a number, and its square, which another step would need, is none."""
    variant = CellConfig(activation("Relu"))
    weights = {name: np.ones(shape, dtype) for name, shape in variant.shapes(1, 1, peepholes=peepholes).items()}
    large = np.full((1, 2), np.sqrt(np.finfo(dtype).max) * dtype(10))
    x, lengths = np.zeros((3, 1, 2), dtype), np.array([0, 0])
    assert_nothing_is_out_of_bounds(variant, weights, x, lengths, large)


def assert_nothing_is_out_of_bounds(variant, weights, x, lengths, state=0.0):
    with np.errstate(all="raise"):
        tape = variants.forward(variant, weights, x, state, state, lengths=lengths)
        dh = np.where(np.arange(len(x))[:, None, None] < lengths, np.ones_like(tape.h), tape.dtype.type(0))
        gradient = variants.backward(tape, dh, dc=dh)
    assert np.isfinite(tape.h_with_initial).all()
    assert np.isfinite(tape.c_with_initial).all()
    assert all(np.isfinite(array).all() for array in by_name(gradient).values())


def test_backward_is_linear_in_the_gradients_on_the_outputs(rng):
    p = some(rng)
    tape, names = forward(p), ("dh", "dc", "dh_end", "dc_end")
    other = p._replace(**{name: rng.normal(size=getattr(p, name).shape) for name in names})
    both = p._replace(**{name: 2 * getattr(p, name) - getattr(other, name) for name in names})
    one, two = by_name(backward(p, tape)), by_name(backward(other, tape))
    assert_near(by_name(backward(both, tape)), {name: 2 * one[name] - two[name] for name in one}, 1e-11)


def test_gradients_on_outputs_and_states_are_optional(rng):
    p = some(rng, ragged=False)
    tape = forward(p)
    zeros = p._replace(dc=np.zeros_like(p.dc), dh_end=np.zeros_like(p.dh_end), dc_end=np.zeros_like(p.dc_end))
    assert_equal(by_name(variants.backward(tape, p.dh)), by_name(backward(zeros, tape)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer_norm", NORMS)
def test_zero_steps_return_the_state_and_its_gradient(layer_norm, dtype, rng):
    p = some(rng, layer_norm=layer_norm, ragged=False, noise=False, dtype=dtype)
    p = p._replace(x=p.x[:0], dh=p.dh[:0], dc=p.dc[:0])
    tape = forward(p)
    assert_equal({"h": tape.h_with_initial, "c": tape.c_with_initial}, {"h": p.h0[None], "c": p.c0[None]})
    zeros = {name: np.zeros_like(weight) for name, weight in p.weights.items()}
    assert_equal(by_name(backward(p, tape)), {**zeros, "x": p.x, "h0": p.dh_end, "c0": p.dc_end})


@pytest.mark.parametrize("layer_norm", NORMS)
def test_an_empty_batch_has_zero_gradients(layer_norm, rng):
    p = some(rng, layer_norm=layer_norm, noise=False)
    none = [value[..., :0] if isinstance(value, np.ndarray) else value for value in p[2:]]
    p = Problem(p.variant, p.weights, *none)
    gradient = backward(p, forward(p))
    zeros = {name: np.zeros_like(weight) for name, weight in p.weights.items()}
    assert_equal(by_name(gradient), {**zeros, "x": p.x, "h0": p.h0, "c0": p.c0})


# Memory


def test_a_pass_reads_nothing_of_an_earlier_pass_in_the_same_buffers(poison, rng):
    """All memory is NaN before every pass."""
    buffers, draw = BufferPool(), Random(rng)
    for _ in range(20):
        p = draw.problem(smallest=(0, 1, 2, 1, draw.one_of(0, 14)))
        tape = forward(p)
        poison(buffers)
        assert_equal(by_name(backward(p, tape, buffers)), by_name(backward(p, tape)))


@pytest.mark.parametrize("layer_norm", NORMS)
def test_arguments_and_the_tape_are_not_modified(layer_norm, rng):
    p = some(rng, layer_norm=layer_norm)
    noise = [share for share in p.noise if isinstance(share, np.ndarray)]
    given = [*arguments(p).values(), *noise, p.dh, p.dc, p.dh_end, p.dc_end]
    for array in given if p.lengths is None else [*given, p.lengths]:
        array.flags.writeable = False
    tape = forward(p)
    for array in arrays_of(tape).values():
        array.flags.writeable = False
    first = by_name(backward(p, tape))
    assert_equal(by_name(backward(p, tape)), first)


def test_earlier_results_never_change(rng):
    p, other = some(rng), some(rng)
    tape = forward(p)
    gradient = by_name(backward(p, tape))
    before = arrays_of(tape) | {f"d{name}": array for name, array in gradient.items()}
    kept = {name: array.copy() for name, array in before.items()}
    backward(other, forward(other))
    backward(p, tape)
    backward(p, forward(p))
    assert_equal(before, kept)


def test_the_tape_is_independent_of_the_arguments(rng):
    p = some(rng)
    tape = forward(p)
    gradient = by_name(backward(p, tape))
    for array in arguments(p).values():
        array[:] = np.nan
    assert_equal(by_name(backward(p, tape)), gradient)


# Numbers


@pytest.mark.parametrize("k", range(44))
def test_float32_is_preserved_and_close_to_float64(k, rng):
    """In all that the tape holds and all gradients: a sum with one float64 would show in the dtype."""
    draw = Random(rng, np.float32)
    smallest = (1, 1, 3, 1, 1 + 15 * (k // 4 % 2))
    p = draw.problem((ALL[k % 11], "Sigmoid", "Tanh"), smallest=smallest, layer_norm=NORMS[k % 4], **GATES[k // 4 % 4])
    print(p.variant, sorted(p.weights), p.noise, p.lengths)
    tape = forward(p)
    gradient = by_name(backward(p, tape))
    assert {array.dtype for array in (*arrays_of(tape).values(), *gradient.values())} == {np.dtype(np.float32)}

    def exact(value):
        if isinstance(value, dict):
            return {name: exact(of_name) for name, of_name in value.items()}
        return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value

    exact_problem = Problem(p.variant, *map(exact, p[1:5]), DropoutMasks(*map(exact, p.noise)), *map(exact, p[6:]))
    exact_tape = forward(exact_problem)
    assert_near({"h": tape.h, "c": tape.c}, {"h": exact_tape.h, "c": exact_tape.c}, 5e-6)
    assert_near(gradient, by_name(backward(exact_problem, exact_tape)), 5e-5, floor=0.01)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer_norm", NORMS)
@pytest.mark.parametrize("size", [1e-30, 1e4, 1e15])
def test_inputs_of_usual_size_raise_no_floating_point_error(size, layer_norm, dtype, rng):
    """Up to the root of the largest number, since a variance is a square."""
    p = some(rng, names=("Sigmoid", "Tanh", "HardSigmoid", "Softsign"), layer_norm=layer_norm, dtype=dtype)
    p.x[:] *= dtype(size)
    with np.errstate(all="raise"):
        tape = forward(p)
        gradient = backward(p, tape)
    assert all(np.isfinite(array).all() for array in (tape.h, tape.c, *by_name(gradient).values()))


def test_gradients_after_the_end_reach_the_final_state(rng, slope):
    """There the state stays as it is: a gradient on it, or on the last of all, is one on the state at the end."""
    T, I, H, B = 5, 2, 3, 4
    variant, lengths = CellConfig(activation("Softplus"), layer_norm="haste"), np.array([3, 5, 0, 1])
    weights = {name: rng.normal(size=shape) for name, shape in variant.shapes(I, H, peepholes=True).items()}
    x, dh, dc = (rng.normal(size=(T, rows, B)) for rows in (I, H, H))
    h0, c0, dh_T, dc_T = rng.normal(size=(4, H, B))
    along_h, along_c = rng.normal(size=(2, H, B))

    def loss(s):
        tape = variants.forward(variant, weights, x, h0 + s * along_h, c0 + s * along_c, lengths=lengths)
        return (
            (dh * tape.h).sum()
            + (dc * tape.c).sum()
            + (dh_T * tape.h_with_initial[-1]).sum()
            + (dc_T * tape.c_with_initial[-1]).sum()
        )

    gradient = variants.backward(variants.forward(variant, weights, x, h0, c0, lengths=lengths), dh, dh_T, dc_T, dc)
    expected = (gradient.dh0 * along_h).sum() + (gradient.dc0 * along_c).sum()
    np.testing.assert_allclose(slope(loss), expected, rtol=1e-8)


@pytest.mark.parametrize("share", [0, 1, np.float64(0.3), np.float32(0.3), np.array(0.3)])
def test_masks_may_be_any_number_and_preserve_the_dtype(share, rng):
    weights = {"kernel": rng.normal(size=(12, 6)).astype(np.float32)}
    x = rng.normal(size=(4, 2, 2)).astype(np.float32)
    noise = variants.DropoutMasks(new_h=share, new_c=share)
    tape = variants.forward(CellConfig(), weights, x, masks=noise)
    gradient = variants.backward(tape, np.ones_like(tape.h), np.float64(1.0), np.ones((3, 2)))
    for array in (tape.h, tape.c, gradient.dx, gradient.dh0, gradient.dc0, gradient.dweights["kernel"]):
        assert array.dtype == np.float32


def test_masks_may_change_after_the_forward_pass(rng):
    weights, x = {"kernel": rng.normal(size=(12, 6))}, rng.normal(size=(4, 2, 2))
    mask = rng.integers(0, 2, (4, 3, 2)).astype(float)
    tape = variants.forward(CellConfig(), weights, x, masks=variants.DropoutMasks(new_h=mask))
    before = variants.backward(tape, np.ones_like(tape.h)).dx
    mask[:] = 7
    np.testing.assert_array_equal(variants.backward(tape, np.ones_like(tape.h)).dx, before)
