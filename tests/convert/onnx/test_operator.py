"""Law: the LSTM operator is the one that ONNX defines, with every attribute; invalid arguments are errors."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

from glasscell.convert.onnx import operator, run_lstm

BIDIRECTIONAL = {"direction": "bidirectional"}


# Equations of the specification


def by_equations(a, f, g, h, *, clip=np.inf, input_forget=False):
    """Return Y (T, N, H), Y_h and Y_c of a forward node by the specification's equations, in float64."""
    a = {name: array[0] if name != "X" else array for name, array in a.items()}
    a = {name: array.astype(np.float64) for name, array in a.items()}
    W = dict(zip("iofc", np.split(a["W"], 4), strict=True))
    R = dict(zip("iofc", np.split(a["R"], 4), strict=True))
    b = dict(zip("iofc", np.split(a["B"][: a["B"].size // 2] + a["B"][a["B"].size // 2 :], 4), strict=True))
    P = dict(zip("iof", np.split(a["P"], 3), strict=True))
    H, C, Y = a["initial_h"], a["initial_c"], []
    for x in a["X"]:
        z = {gate: x @ W[gate].T + H @ R[gate].T + b[gate] for gate in "iofc"}
        i = f(np.clip(z["i"] + P["i"] * C, -clip, clip))
        forget = 1 - i if input_forget else f(np.clip(z["f"] + P["f"] * C, -clip, clip))
        C = forget * C + i * g(np.clip(z["c"], -clip, clip))
        H = f(np.clip(z["o"] + P["o"] * C, -clip, clip)) * h(C)
        Y.append(H)
    return np.array(Y), H, C


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def hard_sigmoid(alpha, beta):
    return lambda z: np.clip(alpha * z + beta, 0, 1)


def leaky_relu(alpha):
    return lambda z: np.where(z >= 0, z, alpha * z)


def scaled_tanh(alpha, beta):
    return lambda z: alpha * np.tanh(beta * z)


def assert_by_equations(outputs, expected):
    for name, array in zip(operator.OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(
            outputs[name], array[:, None] if name == "Y" else array[None], rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize(
    ("attributes", "functions", "options"),
    [
        ({}, (sigmoid, np.tanh, np.tanh), {}),
        ({"clip": 0.3}, (sigmoid, np.tanh, np.tanh), {"clip": 0.3}),
        ({"input_forget": 1}, (sigmoid, np.tanh, np.tanh), {"input_forget": True}),
        (
            {"input_forget": True, "clip": np.float32(0.25)},
            (sigmoid, np.tanh, np.tanh),
            {"input_forget": True, "clip": 0.25},
        ),
        ({"activations": ["Tanh", "Sigmoid", "Softsign"]}, (np.tanh, sigmoid, lambda z: z / (1 + abs(z))), {}),
        (
            {"activations": ["HardSigmoid", "LeakyRelu", "ScaledTanh"]},
            (hard_sigmoid(0.2, 0.5), leaky_relu(0.01), scaled_tanh(1, 1)),
            {},
        ),
        (
            {
                "activations": ["HardSigmoid", "LeakyRelu", "ScaledTanh"],
                "activation_alpha": [0.3, 0.2, 0.9],
                "activation_beta": [0.4, 0.8],  # LeakyRelu does not have one
            },
            (hard_sigmoid(0.3, 0.4), leaky_relu(0.2), scaled_tanh(0.9, 0.8)),
            {},
        ),
        (
            {"activations": ["Sigmoid", "LeakyRelu", "ScaledTanh"], "activation_alpha": (0.3,)},
            (sigmoid, leaky_relu(0.3), scaled_tanh(1, 1)),
            {},
        ),
        (
            {"activations": ["Sigmoid", "LeakyRelu", "Tanh"], "activation_alpha": [0.3, 5], "activation_beta": [7]},
            (sigmoid, leaky_relu(0.3), np.tanh),
            {},
        ),
    ],
    ids=["default", "clip", "input_forget", "both", "activations", "defaults", "parameters", "too few", "left over"],
)
def test_outputs_equal_the_equations(operands, attributes, functions, options):
    a = operands()
    assert_by_equations(run_lstm(attributes, a), by_equations(a, *functions, **options))


def test_directions_with_different_activations(operands):
    """Both take their parameters from the same list: first the forward direction, then the reverse one."""
    a = operands(D=2)
    attributes = BIDIRECTIONAL | {
        "activations": ["Sigmoid", "LeakyRelu", "Tanh", "HardSigmoid", "Tanh", "LeakyRelu"],
        "activation_alpha": [0.1, 0.3, 0.2],
        "activation_beta": [0.4],
    }
    outputs = run_lstm(attributes, a)
    forward, reverse = ({"X": a["X"]} | {name: a[name][d : d + 1] for name in a if name != "X"} for d in (0, 1))
    reverse["X"] = reverse["X"][::-1]
    y, y_h, y_c = by_equations(forward, sigmoid, leaky_relu(0.1), np.tanh)
    np.testing.assert_allclose(outputs["Y"][:, 0], y, rtol=1e-12)
    np.testing.assert_allclose(outputs["Y_h"][0], y_h, rtol=1e-12)
    np.testing.assert_allclose(outputs["Y_c"][0], y_c, rtol=1e-12)
    y, y_h, y_c = by_equations(reverse, hard_sigmoid(0.3, 0.4), np.tanh, leaky_relu(0.2))
    np.testing.assert_allclose(outputs["Y"][:, 1], y[::-1], rtol=1e-12)
    np.testing.assert_allclose(outputs["Y_h"][1], y_h, rtol=1e-12)
    np.testing.assert_allclose(outputs["Y_c"][1], y_c, rtol=1e-12)


# Relations between nodes


def assert_same(results, references):
    """Compare up to rounding: products of another size may be summed in another order."""
    assert results.keys() == references.keys()
    for name, array in references.items():
        assert results[name].dtype == array.dtype
        np.testing.assert_allclose(results[name], array, rtol=1e-12, atol=1e-14)


def select_direction(a, d):
    return {name: array if name in ("X", "sequence_lens") else array[d : d + 1] for name, array in a.items()}


LENGTHS = np.array([5, 0, 3], np.int32)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_bidirectional_is_forward_and_reverse(operands, lengths):
    a = operands(D=2) | {"sequence_lens": lengths}
    a = {name: array for name, array in a.items() if array is not None}
    forward, reverse = (
        run_lstm({"direction": "forward"}, select_direction(a, 0)),
        run_lstm({"direction": "reverse"}, select_direction(a, 1)),
    )
    expected = {name: np.concatenate([forward[name], reverse[name]], axis=1 if name == "Y" else 0) for name in forward}
    assert_same(run_lstm(BIDIRECTIONAL, a), expected)


def test_reverse_is_forward_on_reversed_sequences(operands):
    a = operands()
    reversed_outputs = run_lstm({}, a | {"X": a["X"][::-1]})
    assert_same(run_lstm({"direction": "reverse"}, a), reversed_outputs | {"Y": reversed_outputs["Y"][::-1]})


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_layouts_are_transposed(operands, direction):
    a = operands(D=2 if direction == "bidirectional" else 1) | {"sequence_lens": LENGTHS}
    outputs = run_lstm({"direction": direction, "layout": 0}, a)
    batchwise = a | {name: a[name].swapaxes(0, 1) for name in ("X", "initial_h", "initial_c")}
    expected = {name: outputs[name].swapaxes(0, 1) for name in ("Y_h", "Y_c")}
    expected["Y"] = outputs["Y"].transpose(2, 0, 1, 3)
    assert_same(run_lstm({"direction": direction, "layout": 1}, batchwise), expected)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("activations", [["Sigmoid", "Tanh", "Tanh"], ["Softplus", "Affine", "Relu"]])
def test_sequences_are_independent(operands, direction, activations):
    D = 2 if direction == "bidirectional" else 1
    a = operands(D=D) | {"sequence_lens": LENGTHS}
    attributes = {"direction": direction, "activations": activations * D}
    outputs = run_lstm(attributes, a)
    for n, length in enumerate(LENGTHS):
        single = {name: a[name] for name in ("W", "R", "B", "P")} | {"X": a["X"][:length, n : n + 1]}
        single |= {name: a[name][:, n : n + 1] for name in ("initial_h", "initial_c")}
        expected = run_lstm(attributes, single)
        np.testing.assert_allclose(outputs["Y"][:length, :, n], expected["Y"][:, :, 0], rtol=1e-12, atol=1e-14)
        assert (outputs["Y"][length:, :, n] == 0).all()
        for name in ("Y_h", "Y_c"):
            np.testing.assert_allclose(outputs[name][:, n], expected[name][:, 0], rtol=1e-12, atol=1e-14)


def test_sequence_of_length_0_keeps_its_initial_state(operands):
    a = operands() | {"sequence_lens": LENGTHS}
    outputs = run_lstm({}, a)
    np.testing.assert_array_equal(outputs["Y_h"][:, 1], a["initial_h"][:, 1])
    np.testing.assert_array_equal(outputs["Y_c"][:, 1], a["initial_c"][:, 1])


def test_coupled_gates_ignore_the_weights_of_the_forget_gate(operands):
    """With a sigmoid, f = 1 - i equals a forget gate with the negated weights of the input gate."""
    a, H = operands(), 4
    outputs = run_lstm({"input_forget": 1}, a)
    without_forget_gate = {name: array.copy() for name, array in a.items()}
    for name, rows in [("W", (2,)), ("R", (2,)), ("B", (2, 6)), ("P", (2,))]:
        for k in rows:
            without_forget_gate[name][:, k * H : (k + 1) * H] = np.nan
    assert_same(run_lstm({"input_forget": 1}, without_forget_gate), outputs)
    negated = {name: array.copy() for name, array in a.items()}
    for name, f, i in [("W", 2, 0), ("R", 2, 0), ("B", 2, 0), ("B", 6, 4), ("P", 2, 0)]:
        negated[name][:, f * H : (f + 1) * H] = -a[name][:, i * H : (i + 1) * H]
    assert_same(run_lstm({}, negated), outputs)


# Accepted values


@pytest.mark.parametrize(
    "attributes",
    [
        {"activations": ["sigmoid", "TANH", "tAnH"]},
        {"activations": [b"Sigmoid", b"tanh", b"Tanh"], "direction": b"forward"},
        {"activations": (), "activation_alpha": [], "activation_beta": ()},
        {"activations": np.array(["sigmoid", "tanh", "tanh"]), "direction": "FORWARD"},
        {"direction": "Forward", "hidden_size": 4, "input_forget": 0, "layout": 0, "clip": 9999.0},
        {"hidden_size": np.int64(4), "clip": None, "activations": None, "layout": False},
    ],
)
def test_equivalent_attributes(operands, attributes):
    a = operands()
    assert_same(run_lstm(attributes, a), run_lstm({}, a))


@pytest.mark.parametrize("absent", [{}, None, np.zeros(0, np.float32), []], ids=["missing", "None", "(0,)", "[]"])
def test_optional_inputs_may_be_omitted(operands, absent):
    a = operands()
    optional = [name for name in operator.INPUTS if name not in ("X", "W", "R")]
    inputs = {name: a[name] for name in ("X", "W", "R")}
    inputs |= absent if isinstance(absent, dict) else dict.fromkeys(optional, absent)
    zeros = {name: np.zeros_like(a[name]) for name in optional if name != "sequence_lens"}
    full = a | zeros | {"sequence_lens": np.full(3, 5)}
    assert_same(run_lstm({}, inputs), run_lstm({}, full))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_dtype_is_kept_and_inputs_are_not_modified(operands, dtype, direction):
    a = operands(D=2 if direction == "bidirectional" else 1, dtype=dtype) | {"sequence_lens": LENGTHS}
    before = {name: array.copy() for name, array in a.items()}
    outputs = run_lstm({"direction": direction}, a)
    for array in outputs.values():
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        assert not any(np.shares_memory(array, other) for other in a.values())
        array[:] = 7
    for name, array in before.items():
        np.testing.assert_array_equal(a[name], array)


def test_half_precision_is_computed_in_float32(operands):
    a = operands(dtype=np.float16)
    single = run_lstm({}, {name: array.astype(np.float32) for name, array in a.items()})
    for name, array in run_lstm({}, a).items():
        assert array.dtype == np.float16
        np.testing.assert_array_equal(array, single[name].astype(np.float16))


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize(("T", "N", "I"), [(0, 2, 3), (3, 0, 3), (3, 2, 0), (0, 0, 0)])
def test_empty_inputs_are_accepted(operands, layout, T, N, I):
    a = operands(T, N, I, H=2, D=2)
    if layout:
        a |= {name: a[name].swapaxes(0, 1) for name in ("X", "initial_h", "initial_c")}
    for lengths in (None, np.zeros(N, np.int64)):
        outputs = run_lstm(BIDIRECTIONAL | {"layout": layout}, a | {"sequence_lens": lengths})
        assert outputs["Y"].shape == ((N, T, 2, 2) if layout else (T, 2, N, 2))
        assert outputs["Y_h"].shape == outputs["Y_c"].shape == a["initial_h"].shape
        if T == 0:
            np.testing.assert_array_equal(outputs["Y_h"], a["initial_h"])
            np.testing.assert_array_equal(outputs["Y_c"], a["initial_c"])


def test_nan_stays_in_its_sequence(operands):
    a = operands()
    expected = run_lstm({}, a)
    a["X"][2, 1, 0] = np.nan
    outputs = run_lstm({}, a)
    assert np.isnan(outputs["Y"][2:, :, 1]).all()
    assert np.isnan(outputs["Y_h"][:, 1]).all()
    np.testing.assert_array_equal(outputs["Y"][:2], expected["Y"][:2])
    np.testing.assert_allclose(outputs["Y"][:, :, [0, 2]], expected["Y"][:, :, [0, 2]], rtol=1e-12, atol=1e-14)
    after_end = run_lstm({}, a | {"sequence_lens": np.array([5, 2, 5], np.int32)})
    assert np.isfinite(after_end["Y"]).all()
    assert np.isfinite(after_end["Y_c"]).all()


def test_overflow_is_infinite_without_a_warning(operands):
    a = operands(T=50, size=30)
    outputs = run_lstm({"activations": ["Relu", "Relu", "Relu"]}, a)
    assert not np.isfinite(outputs["Y"]).all()
    half = {name: array.astype(np.float16) for name, array in operands(size=20).items()}
    assert not np.isfinite(run_lstm({"activations": ["Relu", "Relu", "Relu"]}, half)["Y"]).all()


# Imports


def test_the_operator_needs_numpy_only():
    program = """
import sys
sys.modules["onnx"] = None
import glasscell.convert.onnx as onnx_package
assert not {"safetensors", "google", "onnxruntime"} & set(sys.modules)
assert "load" in dir(onnx_package)
for name in set(onnx_package.__all__) - {"run_lstm"}:
    try:
        getattr(onnx_package, name)
    except ImportError as error:
        assert str(error) == f"glasscell.convert.onnx.{name} needs the onnx package: pip install 'glasscell[onnx]'"
    else:
        raise AssertionError(name)
try:
    onnx_package.nothing
except AttributeError as error:
    print(error)
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == "module 'glasscell.convert.onnx' has no attribute 'nothing'"


def test_other_missing_modules_raise_their_error(monkeypatch):
    package = importlib.import_module("glasscell.convert.onnx")
    monkeypatch.setitem(package.LAZY, "nothing", "nowhere")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'glasscell\.convert\.onnx\.nowhere'"):
        package.nothing  # noqa: B018 - the access is the test
