"""Every quantity of the general layer matches its equations, which are written here for one sequence at a time."""

import math
from dataclasses import replace

import numpy as np
import pytest
from case_loops import loop_over
from variant_problems import ALL, GATES, NORMS, Random, arrays_of, assert_equal, assert_near, backward, by_name, forward

from glasscell.core import lstm, variants
from glasscell.core.activations import activation
from glasscell.core.variants import CellConfig, DropoutMasks

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


@loop_over("k", range(180))
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


@loop_over("gates", GATES, ids=str)
@loop_over("layer_norm", NORMS)
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
