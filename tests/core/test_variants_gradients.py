"""Law: the backward pass of the general layer is the derivative of its forward pass, and equals PyTorch's."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from case_loops import loop_over
from variant_problems import (
    ALL,
    GATES,
    NORMS,
    SMOOTH,
    Random,
    arguments,
    assert_near,
    backward,
    by_name,
    forward,
    loss,
    own_steps,
    with_arguments,
)


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


@loop_over("k", range(72))
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


@loop_over("layer_norm", NORMS)
@loop_over("gates", GATES, ids=str)
@loop_over("projection_bias", [True, False])
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
