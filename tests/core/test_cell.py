"""`step` computes the textbook equations, and `step_backward` their derivative in every argument."""

import math

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core.cell import GATES, step, step_backward

H, I, B = 4, 3, 2


def arguments(rng, B=B):
    shapes = {"W": (4 * H, H + I + 1), "x": (I, B), "h_prev": (H, B), "c_prev": (H, B)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def upstream(rng, B=B):
    """Gradients on h and c, as if from the rest of a network."""
    return rng.normal(size=(H, B)), rng.normal(size=(H, B))


def textbook(W, x, h_prev, c_prev):
    """One unit of one sequence at a time, in Python's own numbers; the gates come in the order i f o g."""
    units = {}
    for b in range(x.shape[1]):
        u = [*h_prev[:, b], *x[:, b], 1]
        z = [sum(w * v for w, v in zip(row, u, strict=True)) for row in W]
        for k in range(H):
            i, f, o = (1 / (1 + math.exp(-z[gate * H + k])) for gate in range(3))
            g = math.tanh(z[3 * H + k])
            c = f * c_prev[k, b] + i * g
            units[k, b] = {"i": i, "f": f, "o": o, "g": g, "c": c, "tanh_c": math.tanh(c), "h": o * math.tanh(c)}
    return units


def test_a_step_computes_the_textbook_equations(rng):
    given = arguments(rng)
    step_now = step(**given)
    for (k, b), unit in textbook(**given).items():
        for name, value in unit.items():
            assert getattr(step_now, name)[k, b] == pytest.approx(value, rel=0, abs=1e-14), name


def test_a_step_does_not_modify_its_arguments(rng):
    given = arguments(rng)
    step_now = step(**given)
    np.testing.assert_array_equal(step_now.u, np.concatenate([given["h_prev"], given["x"], np.ones((1, B))]))
    np.testing.assert_array_equal(step_now.c_prev, given["c_prev"])


@pytest.mark.parametrize("name", ["W", "x", "h_prev", "c_prev"])
def test_backward_is_the_derivative_in_every_argument(name, slope, rng):
    given, (dh, dc) = arguments(rng), upstream(rng)
    direction = rng.normal(size=given[name].shape)

    def loss(s):
        moved = step(**given | {name: given[name] + s * direction})
        return np.vdot(dh, moved.h) + np.vdot(dc, moved.c)

    gradient = getattr(step_backward(given["W"], step(**given), dh, dc), f"d{name}")
    assert abs(np.vdot(gradient, direction) - slope(loss)) <= 1e-10 * np.linalg.norm(gradient)


@pytest.mark.parametrize("name", [*GATES, "c"])
def test_backward_names_the_derivative_in_every_gate(name, slope, rng):
    given, (dh, dc) = arguments(rng), upstream(rng)
    now = step(**given)
    direction = rng.normal(size=(H, B))

    def loss(s):
        value = {gate: getattr(now, gate) for gate in GATES}
        value["c"] = value["f"] * now.c_prev + value["i"] * value["g"]
        if name in GATES:
            value[name] = value[name] + s * direction
            value["c"] = value["f"] * now.c_prev + value["i"] * value["g"]
        else:
            value["c"] = value["c"] + s * direction
        return np.vdot(dh, value["o"] * np.tanh(value["c"])) + np.vdot(dc, value["c"])

    gradient = getattr(step_backward(given["W"], now, dh, dc), f"d{name}")
    assert abs(np.vdot(gradient, direction) - slope(loss)) <= 1e-10 * np.linalg.norm(gradient)


def test_dz_is_the_gradient_on_the_bias_of_one_sequence(rng):
    given, (dh, dc) = arguments(rng, B=1), upstream(rng, B=1)
    gradient = step_backward(given["W"], step(**given), dh, dc)
    np.testing.assert_array_equal(gradient.dz[:, 0], gradient.dW[:, -1])


@loop_over("dtype", [np.float32, np.float64])
@loop_over("B", [0, 1, 3])
def test_dtype_is_preserved_for_any_batch(B, dtype, rng):
    given = {name: array.astype(dtype) for name, array in arguments(rng, B).items()}
    now = step(**given)
    gradient = step_backward(given["W"], now, *(d.astype(dtype) for d in upstream(rng, B)))
    assert {array.dtype for array in (*now, *gradient)} == {np.dtype(dtype)}
    assert now.h.shape == gradient.dh_prev.shape == (H, B)
    assert gradient.dx.shape == (I, B)


def test_a_step_and_its_gradient_match_pytorch(torch, rng):
    given, (dh, dc) = arguments(rng), upstream(rng)
    result = step(**given)
    gradient = step_backward(given["W"], result, dh, dc)

    i_f_g_o = np.r_[0 : 2 * H, 3 * H : 4 * H, 2 * H : 3 * H]
    kernel = given["W"][i_f_g_o]
    expected = torch.nn.LSTMCell(I, H, dtype=torch.float64)
    second_bias = rng.normal(size=4 * H)  # their two biases add up to ours
    weights = [kernel[:, H:-1], kernel[:, :H], kernel[:, -1] - second_bias, second_bias]
    for parameter, weight in zip(expected.parameters(), weights, strict=True):
        parameter.data = torch.tensor(weight)
    x, h_prev, c_prev = (torch.tensor(given[name].T, requires_grad=True) for name in ("x", "h_prev", "c_prev"))
    h, c = expected(x, (h_prev, c_prev))
    (h * torch.tensor(dh.T) + c * torch.tensor(dc.T)).sum().backward()

    dW = gradient.dW[i_f_g_o]
    pairs = [
        (result.h.T, h.detach()),
        (result.c.T, c.detach()),
        (gradient.dx.T, x.grad),
        (gradient.dh_prev.T, h_prev.grad),
        (gradient.dc_prev.T, c_prev.grad),
        (dW[:, H:-1], expected.weight_ih.grad),
        (dW[:, :H], expected.weight_hh.grad),
        (dW[:, -1], expected.bias_ih.grad),
    ]
    for a, b in pairs:
        np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-12)
