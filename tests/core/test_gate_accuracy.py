"""σ and tanh have full relative precision, even for small results, in every place that computes them.

Errors are relative: a bound on the absolute error in float32 would not detect an error of σ(-16) = 1.1e-7.
"""

from importlib.util import find_spec

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.core import cell, losses, lstm, lstm_inference, numba_engine, variants
from glasscell.core.activations import activation, sigmoid, tanh
from glasscell.core.variants import CellConfig
from glasscell.layers import Function

DTYPES = [np.float32, np.float64]
LONG = np.longdouble
ULPS = 4
ENGINES = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(find_spec("numba") is None, reason="no Numba"))]
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@np.errstate(over="ignore", under="ignore")
def exact_sigmoid(z):
    return 1 / (1 + np.exp(-z.astype(LONG)))


@np.errstate(under="ignore")
def exact_tanh(z):
    e = np.expm1(-2 * np.abs(z.astype(LONG)))
    return -np.copysign(LONG(1), z) * e / (e + 2)


def assert_ulps(values, exact, bound=ULPS):
    """At most this far from the exact values, in units of the last place, where those are normal numbers."""
    dtype = values.dtype
    assert np.isfinite(values).all()
    normal = np.abs(exact) >= np.finfo(dtype).tiny
    ulp = np.spacing(np.abs(exact[normal]).astype(dtype)).astype(LONG)
    error = np.abs(values[normal].astype(LONG) - exact[normal]) / ulp
    assert error.max() <= bound, f"{error.max()} units"
    assert (np.abs(values[~normal]) <= np.finfo(dtype).tiny).all()


def arguments(rng, dtype):
    """Numbers of all sizes of which σ or tanh is neither 0 nor 1, some beyond, and where a formula changes."""
    end = 87 if dtype == np.float32 else 708
    sizes = [
        rng.uniform(0, end, 20_000),
        rng.uniform(0, 20, 20_000),
        10 ** rng.uniform(np.log10(np.finfo(dtype).tiny) + 1, 0, 20_000),
        np.log(2) * (np.arange(0, end) + 0.5),
        [0, 8, 12, 16, 30, 80, 87.3, 89, 103, 700, 705, 708.3, 711, 745, 1e4, 1e30],
    ]
    z = np.concatenate(sizes).astype(dtype)
    return np.concatenate([z, -z, np.nextafter(z, dtype(0))])


def kernel_of(dtype):
    """H = 1: i, f, o and g are functions of the one input itself."""
    return np.array([[0, 1, 0]] * 4, dtype)


def of_the_functions(z):
    return sigmoid(z), tanh(z)


def of_the_page(z):
    zero = np.zeros_like(z[None])
    step = cell.step(kernel_of(z.dtype), z[None], zero, zero)
    return np.concatenate([step.i, step.f, step.o]), step.g


def of_a_tape(tape, z):
    return np.concatenate([tape.i, tape.f, tape.o], axis=1).reshape(-1, z.size), tape.g.reshape(1, -1)


def of_the_fast_code(z):
    return of_a_tape(lstm.forward(kernel_of(z.dtype), z[None, None]), z)


def of_the_general_layer(z):
    return of_a_tape(variants.forward(CellConfig(), {"kernel": kernel_of(z.dtype)}, z[None, None]), z)


def of_the_compiled_code(z):
    pytest.importorskip("numba")
    return of_a_tape(numba_engine.forward(kernel_of(z.dtype), z[None, None]), z)


def of_the_compiled_code_for_one_sequence(z):
    """A unit for each number: there is one sequence, and its vectors are the units."""
    pytest.importorskip("numba")
    H = z.size
    kernel = np.zeros((4 * H, H + 1), z.dtype)
    kernel[:, -1] = np.tile(z, 4)
    tape = numba_engine.forward(kernel, np.zeros((1, 0, 1), z.dtype))
    return of_a_tape(tape, z)


def of_functions_in_a_stream(z):
    layers = [gc.Linear(1, 1, dtype=z.dtype), Function("Sigmoid")], [gc.Linear(1, 1, dtype=z.dtype), Function("Tanh")]
    values = []
    for chain in layers:
        chain[0].parameters.vector[:] = 1, 0
        with np.errstate(all="raise"):
            values.append(gc.Sequential(chain).stream(batch=z.size).push(z[:, None]).ravel())
    return values


EVALUATED = [
    of_the_functions,
    of_the_page,
    of_the_fast_code,
    of_the_general_layer,
    of_the_compiled_code,
    of_the_compiled_code_for_one_sequence,
    of_functions_in_a_stream,
]


@every_dtype
@pytest.mark.parametrize("evaluated", EVALUATED)
def test_sigmoid_and_tanh_are_exact_to_4_units_in_the_last_place(evaluated, dtype, rng):
    z = arguments(rng, dtype)
    if evaluated is of_the_compiled_code_for_one_sequence:
        z = z[:: z.size // 700]
    with np.errstate(all="raise"):
        sigmoids, tanhs = evaluated(z)
    for values in np.atleast_2d(sigmoids):
        assert_ulps(values, exact_sigmoid(z))
    for values in np.atleast_2d(tanhs):
        assert_ulps(values, exact_tanh(z))
    large = z > 1e3
    assert (np.atleast_2d(sigmoids)[:, large] == 1).all()
    assert (np.atleast_2d(sigmoids)[:, z < -1e3] == 0).all()


@every_dtype
def test_the_step_in_python_matches_the_compiled_one(dtype, rng):
    """The compiled step of a stream, as the function of Python that it is made of."""
    from glasscell.core.numba_engine.stream_step import make_step  # noqa: PLC0415

    z = arguments(rng, dtype)[::400]
    H = z.size
    weight = np.zeros((1 + H, 4 * H), dtype)
    weight[0] = np.concatenate([-z, -z, -z, z])
    column, gates = np.ones(1 + H, dtype), np.zeros(5 * H, dtype)
    column[1:] = 0
    with np.errstate(all="raise", under="ignore"):
        assert make_step(np.dtype(dtype))(weight, column, gates, 0)
    for values in gates[: 3 * H].reshape(3, H):
        assert_ulps(values, exact_sigmoid(z))
    assert_ulps(gates[3 * H : 4 * H], exact_tanh(z))


# Layers: what a user sees of a gate that is nearly shut


def steps_of(kernel, x, units):
    """Outputs (T, H) and cells of one sequence x (T, I), in long doubles: the equations."""
    kernel, x = kernel.astype(LONG), x.astype(LONG)
    h, c, hs, cs = np.zeros(units, LONG), np.zeros(units, LONG), [], []
    for x_t in x:
        z_i, z_f, z_o, z_g = np.split(kernel @ np.concatenate([h, x_t, [LONG(1)]]), 4)
        c = c / (1 + np.exp(-z_f)) + np.tanh(z_g) / (1 + np.exp(-z_i))
        h = np.tanh(c) / (1 + np.exp(-z_o))
        hs.append(h)
        cs.append(c)
    return np.array(hs), np.array(cs)


def biases(kind, dtype, H, rng):
    """Of i, f, o, g: one gate nearly shut, or chrono initialisation (Tallec & Ollivier 2018) for 1e6 steps."""
    if kind == "chrono":
        forget = np.log(rng.uniform(1, 1e6 - 1, H))
        return np.concatenate([-forget, forget, np.zeros(2 * H)]).astype(dtype)
    gate, bias = kind
    of_gates = np.zeros((4, H))
    of_gates["ifo".index(gate)] = bias
    return of_gates.ravel().astype(dtype)


SHUT = {
    np.float32: [
        ("i", -8),
        ("i", -12),
        ("i", -16),
        ("i", -30),
        ("i", -80),
        ("f", -16),
        ("f", -80),
        ("o", -80),
        "chrono",
    ],
    np.float64: [("i", -40), ("i", -700), ("f", -40), ("f", -700), ("o", -700), "chrono"],
}
CASES = [(dtype, kind) for dtype, kinds in SHUT.items() for kind in kinds]


def layer(dtype, kind, engine, rng, **options):
    """Small weights next to the biases: of a sum of -80 and 0.01 a rounding error is 4e-6."""
    I, H = 3, 40
    model = gc.LSTM(I, H, dtype=dtype, engine=engine, **options)
    kernel = rng.uniform(-0.1, 0.1, size=(4 * H, H + I + 1)).astype(dtype)
    kernel[:, -1] = biases(kind, dtype, H, rng)
    kernel[3 * H :, H:] = rng.choice([-1, 1], (H, I + 1)) * rng.uniform(0.2, 1, (H, I + 1))
    model.parameters["kernel_l0"][:] = kernel
    return model, kernel, rng.normal(size=(2, 12, I)).astype(dtype)


def outputs_of(model, x):
    """All ways to the outputs of a batch (B, T, I), by name."""
    one, several = model.stream(), model.stream(batch=len(x))
    forward, _, _ = model.forward(x)
    return {
        "forward": forward,
        "forward of one": np.stack([model.forward(part)[0] for part in x]),
        "run": model.infer(x)[0],
        "run of one": np.stack([model.infer(part)[0] for part in x]),
        "stream": np.stack([[one.push(step).copy() for step in part] for part in x if one.reset() is None]),
        "streams": np.stack([several.push(x[:, t]).copy() for t in range(x.shape[1])], axis=1),
    }


@loop_over("options", [{}, {"peepholes": True}], ids=["plain", "general"])
@pytest.mark.parametrize("engine", ENGINES)
@loop_over(("dtype", "kind"), CASES)
def test_outputs_of_a_nearly_closed_gate_have_full_precision(dtype, kind, engine, options, rng):
    model, kernel, x = layer(dtype, kind, engine, rng, **options)
    if options:
        model.parameters["peepholes_l0"][:] = 0
    exact = np.stack([steps_of(kernel, part, 40)[0] for part in x])
    bound = 8 * max(8, np.abs(kernel[:, -1]).max()) * np.finfo(dtype).eps  # z is rounded: by ε/2 of the bias, at least
    size = np.linalg.norm(exact, axis=(0, 1))
    assert (size > np.finfo(dtype).tiny).all()
    for name, y in outputs_of(model, x).items():
        error = np.linalg.norm(y - exact, axis=(0, 1)) / size  # of each unit
        assert error.max() <= bound, (name, error.max() / bound)


@loop_over("options", [{}, {"peepholes": True}], ids=["plain", "general"])
@pytest.mark.parametrize("engine", ENGINES)
@loop_over(("dtype", "kind"), [case for case in CASES if case[0] is np.float32])
def test_gradients_through_a_nearly_closed_gate_are_precise(dtype, kind, engine, options, rng):
    """Row by row of the kernel: those of a gate that is shut are so small that in a norm of all they are not seen."""
    model, _, x = layer(dtype, kind, engine, rng, **options)
    exact = gc.LSTM(3, 40, dtype=np.float64, engine="numpy", **options)
    exact.parameters.vector[:] = model.parameters.vector
    gradients = []
    for compared in (model, exact):
        if options:
            compared.parameters["peepholes_l0"][:] = 0
        y, _, tape = compared.forward(x.astype(compared.dtype))
        gradients.append(
            compared.backward(tape, np.cos(np.arange(y.size)).reshape(y.shape).astype(compared.dtype))[2]["kernel_l0"]
        )
    size, error = (np.linalg.norm(part, axis=1).reshape(4, 40) for part in (gradients[1], gradients[0] - gradients[1]))
    if kind == "chrono":  # 1 - f is 1e-6, and not even PyTorch has its digits
        size, error = np.delete(size, 1, axis=0), np.delete(error, 1, axis=0)
    seen = size > 10 * np.finfo(dtype).tiny
    assert seen.mean() > 0.7
    assert (error[seen] / size[seen]).max() <= 1e-4


@every_dtype
@pytest.mark.parametrize("coupled", ["input", "forget"])
def test_a_coupled_gate_has_full_precision(coupled, dtype, rng):
    z = rng.uniform(0, 80 if dtype == np.float32 else 700, 1000).astype(dtype)
    kernel = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0.5]], dtype)
    tape = variants.forward(CellConfig(coupled=coupled), {"kernel": kernel}, z[None, None], c0=1.0)
    small = tape.f if coupled == "input" else tape.i
    assert_ulps(small.ravel(), exact_sigmoid(-z))
    model = gc.LSTM(1, 1, coupled=coupled, dtype=dtype)
    model.parameters["kernel_l0"][:] = kernel
    stream = model.stream(batch=z.size)
    stream.state = gc.LSTMState(np.zeros((1, z.size, 1), dtype), np.ones((1, z.size, 1), dtype))
    stream.push(z[:, None])
    np.testing.assert_allclose(stream.state.c.ravel(), tape.c.ravel(), rtol=4 * np.finfo(dtype).eps)


# What is made of σ and e^z


@every_dtype
@pytest.mark.parametrize("target", [0, 1])
def test_the_gradient_of_a_nearly_certain_prediction_has_full_precision(target, dtype, rng):
    z = arguments(rng, dtype)
    _, gradient = losses.binary_cross_entropy(z, np.full_like(z, target))
    exact = -exact_sigmoid(-z) if target else exact_sigmoid(z)
    bound = np.abs(exact) >= np.finfo(dtype).tiny * z.size
    assert_ulps(gradient[bound], exact[bound] / z.size, ULPS + 1)  # and one for the mean


@every_dtype
@pytest.mark.parametrize(
    ("name", "exact"), [("Softplus", exact_sigmoid), ("Softsign", lambda z: 1 / (1 + np.abs(z)) ** 2)]
)
def test_derivatives_far_from_0_have_full_precision(name, exact, dtype, rng):
    z = arguments(rng, dtype)
    activated = activation(name)
    with np.errstate(all="raise"):
        slopes = activated.derivative(z, activated.function(z))
    assert_ulps(slopes, exact(z.astype(LONG)))


@every_dtype
def test_softmax_of_a_nearly_impossible_class_has_full_precision(dtype, rng):
    """In a layer, and in a stream."""
    x = rng.uniform(0, 80 if dtype == np.float32 else 700, (300, 6)).astype(dtype)
    odds = np.exp(x.astype(LONG) - x.max(axis=1, keepdims=True))
    exact = odds / odds.sum(axis=1, keepdims=True)
    readout = gc.Linear(6, 6, dtype=dtype)
    readout.parameters["weight"][:], readout.parameters["bias"][:] = np.eye(6), 0
    pushed = gc.Sequential([readout, Function("Softmax")]).stream(batch=len(x)).push(x)
    for values in (Function("Softmax").forward(x)[0], pushed):
        # x - max x is rounded: by half a unit of up to 80, or of up to 700.
        np.testing.assert_allclose(values, exact, rtol=(64 if dtype == np.float32 else 512) * np.finfo(dtype).eps)


@every_dtype
def test_inference_divides_as_the_forward_pass_with_a_tape(dtype, rng):
    """With every gate nearly shut: same bits."""
    kernel, x = rng.normal(size=(20, 9)).astype(dtype), rng.normal(size=(9, 3, 4)).astype(dtype)
    kernel[:15, -1] -= 14
    np.testing.assert_array_equal(lstm_inference.forward_inference(kernel, x).h, lstm.forward(kernel, x).h)
