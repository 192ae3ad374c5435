"""Law: the LSTM operator is the one that ONNX defines, in every attribute, and says what does not fit."""

import functools
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from glasscell.convert.onnx import operator, run_lstm

FOLDER = Path(__file__).parents[3].parent / "shared" / "conformance"
COUNTS = {"onnx_backend_lstm": 6, "ort_lstm_golden": 32}
BIDIRECTIONAL = {"direction": "bidirectional"}


# Others' numbers


@functools.cache
def golden(of):
    """The cases of a set by name, with their tolerances and arrays; none where the set is not there."""
    if not (FOLDER / f"{of}.npz").is_file():
        return {}
    described = json.loads((FOLDER / f"{of}.json").read_text(encoding="utf-8"))
    tolerance = {key: described["tolerance"][key] for key in ("rtol", "atol")}
    with np.load(FOLDER / f"{of}.npz") as arrays:
        return {
            case["name"]: case
            | {"tolerance": case.get("tolerance", tolerance)}
            | {"arrays": {name: arrays[f"{case['name']}/{name}"] for name in case["arrays"]}}
            for case in described["cases"]
        }


CASES = [(of, name) for of in COUNTS for name in golden(of)]
MISSING = pytest.param("", "", marks=pytest.mark.skip("the golden sets are not next to the repository"))
NOTED = {  # their notes say why: rounded or stale literals
    "ONNXRuntime_TestLSTMShorterSeqInMiddle": {"rtol": 0, "atol": 1e-4},
    "ONNXRuntime_TestLSTMZeroSeqInMiddle": {"rtol": 0, "atol": 1e-4},
}


@pytest.mark.parametrize(("of", "name"), CASES or [MISSING])
def test_the_numbers_are_those_of_onnx_and_of_onnxruntime(of, name):
    case = golden(of)[name]
    inputs = {key: array for key, array in case["arrays"].items() if not key.startswith("Y")}
    outputs = run_lstm(case["attrs"], inputs)
    expected = {key: array for key, array in case["arrays"].items() if key.startswith("Y")}
    assert expected
    for key, array in expected.items():
        assert outputs[key].dtype == array.dtype
        np.testing.assert_allclose(outputs[key], array, **NOTED.get(name, case["tolerance"]))


@pytest.mark.skipif(not CASES, reason="the golden sets are not next to the repository")
def test_no_golden_case_is_forgotten():
    """The quirk of onnxruntime, a state of 0 where a sequence has no step, shows in none: they all begin at 0 there."""
    for of, count in COUNTS.items():
        assert len(golden(of)) == count
    for of, name in CASES:
        arrays = golden(of)[name]["arrays"]
        assert (arrays.get("sequence_lens", np.ones(1)) > 0).all() or "initial_h" not in arrays


# The equations, by hand


def by_hand(a, f, g, h, *, clip=np.inf, input_forget=False):
    """The specification's equations over sequences (T, N, I) forward, in float64: Y (T, N, H) and the last H and C."""
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


def assert_by_hand(outputs, expected):
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
                "activation_beta": [0.4, 0.8],  # LeakyRelu has none
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
    ids=["plain", "clip", "input_forget", "both", "activations", "defaults", "parameters", "too few", "left over"],
)
def test_it_computes_the_equations(operands, attributes, functions, options):
    a = operands()
    assert_by_hand(run_lstm(attributes, a), by_hand(a, *functions, **options))


def test_each_direction_has_its_own_activations(operands):
    """Both take their parameters from the same list: first the forward ones, then those of the way back."""
    a = operands(D=2)
    attributes = BIDIRECTIONAL | {
        "activations": ["Sigmoid", "LeakyRelu", "Tanh", "HardSigmoid", "Tanh", "LeakyRelu"],
        "activation_alpha": [0.1, 0.3, 0.2],
        "activation_beta": [0.4],
    }
    outputs = run_lstm(attributes, a)
    forward, back = ({"X": a["X"]} | {name: a[name][d : d + 1] for name in a if name != "X"} for d in (0, 1))
    back["X"] = back["X"][::-1]
    y, y_h, y_c = by_hand(forward, sigmoid, leaky_relu(0.1), np.tanh)
    np.testing.assert_allclose(outputs["Y"][:, 0], y, rtol=1e-12)
    np.testing.assert_allclose(outputs["Y_h"][0], y_h, rtol=1e-12)
    np.testing.assert_allclose(outputs["Y_c"][0], y_c, rtol=1e-12)
    y, y_h, y_c = by_hand(back, hard_sigmoid(0.3, 0.4), np.tanh, leaky_relu(0.2))
    np.testing.assert_allclose(outputs["Y"][:, 1], y[::-1], rtol=1e-12)
    np.testing.assert_allclose(outputs["Y_h"][1], y_h, rtol=1e-12)
    np.testing.assert_allclose(outputs["Y_c"][1], y_c, rtol=1e-12)


# Laws between nodes


def assert_same(ours, theirs):
    """But for rounding: products of another size may be summed in another order."""
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_allclose(ours[name], array, rtol=1e-12, atol=1e-14)


def of_direction(a, d):
    return {name: array if name in ("X", "sequence_lens") else array[d : d + 1] for name, array in a.items()}


LENGTHS = np.array([5, 0, 3], np.int32)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_bidirectional_is_forward_and_reverse_side_by_side(operands, lengths):
    a = operands(D=2) | {"sequence_lens": lengths}
    a = {name: array for name, array in a.items() if array is not None}
    one, other = (
        run_lstm({"direction": "forward"}, of_direction(a, 0)),
        run_lstm({"direction": "reverse"}, of_direction(a, 1)),
    )
    both = {name: np.concatenate([one[name], other[name]], axis=1 if name == "Y" else 0) for name in one}
    assert_same(run_lstm(BIDIRECTIONAL, a), both)


def test_reverse_is_forward_in_mirrored_time(operands):
    a = operands()
    mirrored = run_lstm({}, a | {"X": a["X"][::-1]})
    assert_same(run_lstm({"direction": "reverse"}, a), mirrored | {"Y": mirrored["Y"][::-1]})


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_batchwise_layout_is_the_other_one_transposed(operands, direction):
    a = operands(D=2 if direction == "bidirectional" else 1) | {"sequence_lens": LENGTHS}
    outputs = run_lstm({"direction": direction, "layout": 0}, a)
    batchwise = a | {name: a[name].swapaxes(0, 1) for name in ("X", "initial_h", "initial_c")}
    expected = {name: outputs[name].swapaxes(0, 1) for name in ("Y_h", "Y_c")}
    expected["Y"] = outputs["Y"].transpose(2, 0, 1, 3)
    assert_same(run_lstm({"direction": direction, "layout": 1}, batchwise), expected)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("activations", [["Sigmoid", "Tanh", "Tanh"], ["Softplus", "Affine", "Relu"]])
def test_each_sequence_runs_as_if_it_were_alone(operands, direction, activations):
    D = 2 if direction == "bidirectional" else 1
    a = operands(D=D) | {"sequence_lens": LENGTHS}
    attributes = {"direction": direction, "activations": activations * D}
    outputs = run_lstm(attributes, a)
    for n, length in enumerate(LENGTHS):
        alone = {name: a[name] for name in ("W", "R", "B", "P")} | {"X": a["X"][:length, n : n + 1]}
        alone |= {name: a[name][:, n : n + 1] for name in ("initial_h", "initial_c")}
        expected = run_lstm(attributes, alone)
        np.testing.assert_allclose(outputs["Y"][:length, :, n], expected["Y"][:, :, 0], rtol=1e-12, atol=1e-14)
        assert (outputs["Y"][length:, :, n] == 0).all()
        for name in ("Y_h", "Y_c"):
            np.testing.assert_allclose(outputs[name][:, n], expected[name][:, 0], rtol=1e-12, atol=1e-14)


def test_a_sequence_without_steps_keeps_its_initial_state(operands):
    a = operands() | {"sequence_lens": LENGTHS}
    outputs = run_lstm({}, a)
    np.testing.assert_array_equal(outputs["Y_h"][:, 1], a["initial_h"][:, 1])
    np.testing.assert_array_equal(outputs["Y_c"][:, 1], a["initial_c"][:, 1])


def test_with_coupled_gates_the_forget_gates_weights_are_dead(operands):
    """And with a sigmoid, f = 1 - i is what weights of the other sign give."""
    a, H = operands(), 4
    outputs = run_lstm({"input_forget": 1}, a)
    dead = {name: array.copy() for name, array in a.items()}
    for name, rows in [("W", (2,)), ("R", (2,)), ("B", (2, 6)), ("P", (2,))]:
        for k in rows:
            dead[name][:, k * H : (k + 1) * H] = np.nan
    assert_same(run_lstm({"input_forget": 1}, dead), outputs)
    opposite = {name: array.copy() for name, array in a.items()}
    for name, f, i in [("W", 2, 0), ("R", 2, 0), ("B", 2, 0), ("B", 6, 4), ("P", 2, 0)]:
        opposite[name][:, f * H : (f + 1) * H] = -a[name][:, i * H : (i + 1) * H]
    assert_same(run_lstm({}, opposite), outputs)


# What values may look like


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
def test_attributes_in_other_words(operands, attributes):
    a = operands()
    assert_same(run_lstm(attributes, a), run_lstm({}, a))


@pytest.mark.parametrize("absent", [{}, None, np.zeros(0, np.float32), []], ids=["missing", "None", "(0,)", "[]"])
def test_optional_inputs_may_be_absent(operands, absent):
    a = operands()
    optional = [name for name in operator.INPUTS if name not in ("X", "W", "R")]
    inputs = {name: a[name] for name in ("X", "W", "R")}
    inputs |= absent if isinstance(absent, dict) else dict.fromkeys(optional, absent)
    zeros = {name: np.zeros_like(a[name]) for name in optional if name != "sequence_lens"}
    full = a | zeros | {"sequence_lens": np.full(3, 5)}
    assert_same(run_lstm({}, inputs), run_lstm({}, full))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_the_type_is_kept_and_nothing_is_written_on(operands, dtype, direction):
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


def test_half_precision_is_computed_in_single(operands):
    a = operands(dtype=np.float16)
    single = run_lstm({}, {name: array.astype(np.float32) for name, array in a.items()})
    for name, array in run_lstm({}, a).items():
        assert array.dtype == np.float16
        np.testing.assert_array_equal(array, single[name].astype(np.float16))


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize(("T", "N", "I"), [(0, 2, 3), (3, 0, 3), (3, 2, 0), (0, 0, 0)])
def test_nothing_at_all_is_let_through(operands, layout, T, N, I):
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


def test_nan_runs_through_its_own_sequence(operands):
    a = operands()
    expected = run_lstm({}, a)
    a["X"][2, 1, 0] = np.nan
    outputs = run_lstm({}, a)
    assert np.isnan(outputs["Y"][2:, :, 1]).all()
    assert np.isnan(outputs["Y_h"][:, 1]).all()
    np.testing.assert_array_equal(outputs["Y"][:2], expected["Y"][:2])
    np.testing.assert_allclose(outputs["Y"][:, :, [0, 2]], expected["Y"][:, :, [0, 2]], rtol=1e-12, atol=1e-14)
    behind = run_lstm({}, a | {"sequence_lens": np.array([5, 2, 5], np.int32)})
    assert np.isfinite(behind["Y"]).all()
    assert np.isfinite(behind["Y_c"]).all()


def test_what_overflows_is_infinite_without_a_warning(operands):
    a = operands(T=50, size=30)
    outputs = run_lstm({"activations": ["Relu", "Relu", "Relu"]}, a)
    assert not np.isfinite(outputs["Y"]).all()
    half = {name: array.astype(np.float16) for name, array in operands(size=20).items()}
    assert not np.isfinite(run_lstm({"activations": ["Relu", "Relu", "Relu"]}, half)["Y"]).all()


# What does not fit


@pytest.mark.parametrize(
    ("attributes", "error", "says"),
    [
        ({"output_sequence": 1}, ValueError, "attributes must be among activation_alpha, .*, got 'output_sequence'"),
        (
            {"direction": "backward"},
            ValueError,
            "direction must be one of 'forward', 'reverse', 'bidirectional', got 'backward'",
        ),
        ({"direction": b"\xff"}, ValueError, "direction must be one of 'forward'"),
        ({"direction": 1}, TypeError, "direction must be strings, got 1"),
        (
            {"activations": ["Sigmoid", "Cosh", "Tanh"]},
            ValueError,
            "activations: there is no activation 'Cosh'; known are",
        ),
        (
            {"activations": ["Sigmoid", "Tanh"]},
            ValueError,
            "activations must be 3D = 3 names, f, g and h of each direction, got 2",
        ),
        (
            {"activations": ["Sigmoid"] * 6},
            ValueError,
            "activations must be 3D = 3 names, f, g and h of each direction, got 6",
        ),
        (
            BIDIRECTIONAL | {"activations": ["Tanh"] * 3},
            ValueError,
            "activations must be 3D = 6 names, f, g and h of each direction, got 3",
        ),
        ({"activations": "sigmoid"}, TypeError, "activations must be a list of strings, got 'sigmoid'"),
        ({"activations": ["Tanh", None, "Tanh"]}, TypeError, "activations must be strings, got None"),
        ({"activation_alpha": 0.3}, TypeError, "activation_alpha must be a list of numbers, got 0.3"),
        ({"activation_beta": ["x"]}, TypeError, "activation_beta must be numbers, got 'x'"),
        ({"activation_beta": [True]}, TypeError, "activation_beta must be numbers, got True"),
        (
            {"activations": ["Sigmoid", "Elu", "Tanh"], "activation_alpha": [np.nan]},
            ValueError,
            "activations: alpha of the activation Elu must be finite, and is nan",
        ),
        ({"clip": 0}, ValueError, "clip must be finite and above 0, got 0"),
        ({"clip": -1.0}, ValueError, "clip must be finite and above 0, got -1.0"),
        ({"clip": "1"}, TypeError, "clip must be a number, got '1'"),
        ({"input_forget": 2}, ValueError, "input_forget must be one of 0, 1, got 2"),
        ({"layout": -1}, ValueError, "layout must be one of 0, 1, got -1"),
        ({"hidden_size": 4.0}, TypeError, "hidden_size must be an integer, got 4.0"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be at least 1, got 0"),
        ({"hidden_size": 5}, ValueError, r"R must have shape \(D, 4H, H\) with H = hidden_size = 5, got H = 4"),
        ([("clip", 1.0)], TypeError, "attributes must be a mapping"),
    ],
)
def test_attributes_that_do_not_fit(operands, attributes, error, says):
    with pytest.raises(error, match=says):
        run_lstm(attributes, operands(D=2 if "bidirectional" in dict(attributes).values() else 1))


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        (
            {"Q": zeros(3)},
            ValueError,
            "inputs must be among X, W, R, B, sequence_lens, initial_h, initial_c, P, got 'Q'",
        ),
        ({"X": None}, ValueError, "inputs must have X, W, R, got none named 'X'"),
        ({"R": None}, ValueError, "inputs must have X, W, R, got none named 'R'"),
        ({"X": zeros(0)}, ValueError, r"X must have shape \(T, N, I\), got \(0,\)$"),
        ({"X": zeros(5, 3)}, ValueError, r"X must have shape \(T, N, I\), got \(5, 3\)$"),
        ({"W": zeros(16, 2)}, ValueError, r"W must have shape \(D, 4H, I\), got \(16, 2\)$"),
        ({"R": zeros(16, 4)}, ValueError, r"R must have shape \(D, 4H, H\), got \(16, 4\)$"),
        ({"W": zeros(2, 16, 2)}, ValueError, r"W must have shape \(D, 4H, I\) = \(1, 16, 2\), got \(2, 16, 2\)"),
        ({"W": zeros(1, 16, 3)}, ValueError, r"W must have shape \(D, 4H, I\) = \(1, 16, 2\), got \(1, 16, 3\)"),
        ({"R": zeros(1, 12, 4)}, ValueError, r"R must have shape \(D, 4H, H\) = \(1, 16, 4\), got \(1, 12, 4\)"),
        ({"R": zeros(1, 0, 0)}, ValueError, "H, the last axis of R, must be at least 1, got 0"),
        ({"B": zeros(1, 16)}, ValueError, r"B must have shape \(D, 8H\) = \(1, 32\), got \(1, 16\)"),
        ({"P": zeros(1, 16)}, ValueError, r"P must have shape \(D, 3H\) = \(1, 12\), got \(1, 16\)"),
        ({"initial_h": zeros(3, 4)}, ValueError, r"initial_h must have shape \(D, N, H\) = \(1, 3, 4\), got \(3, 4\)"),
        (
            {"initial_c": zeros(1, 0, 4)},
            ValueError,
            r"initial_c must have shape \(D, N, H\) = \(1, 3, 4\), got \(1, 0, 4\)",
        ),
        ({"sequence_lens": [5, 5]}, ValueError, r"sequence_lens must have shape \(N,\) = \(3,\), got \(2,\)"),
        ({"sequence_lens": [6, 5, 5]}, ValueError, r"sequence_lens must be from 0 to T = 5, got \[6, 5, 5\]"),
        ({"sequence_lens": [5, -1, 5]}, ValueError, r"sequence_lens must be from 0 to T = 5, got \[5, -1, 5\]"),
        ({"sequence_lens": zeros(3)}, TypeError, "sequence_lens must be integers, got dtype float64"),
        (
            {"X": zeros(5, 3, 2, dtype=np.int64)},
            TypeError,
            "X must be float16, float32 or float64, got dtype int64",
        ),
        (
            {"W": zeros(1, 16, 2, dtype=complex)},
            TypeError,
            "W must be float16, float32 or float64, got dtype complex",
        ),
        ({"P": zeros(1, 12, dtype=np.float32)}, TypeError, "P must have the dtype of X, float64, got float32"),
        ({"W": [[1], [2, 3]]}, TypeError, "W must be an array"),
        ({"B": "bias"}, TypeError, "B must be float16, float32 or float64, got dtype <U4"),
    ],
)
def test_inputs_that_do_not_fit(operands, changed, error, says):
    with pytest.raises(error, match=says):
        run_lstm({}, operands() | changed)


def test_in_batchwise_layout_the_shapes_are_named_in_its_order(operands):
    with pytest.raises(ValueError, match=r"initial_h must have shape \(N, D, H\) = \(5, 1, 4\), got \(1, 3, 4\)"):
        run_lstm({"layout": 1}, operands())
    with pytest.raises(ValueError, match=r"X must have shape \(N, T, I\), got \(5,\)"):
        run_lstm({"layout": 1}, operands() | {"X": zeros(5)})


def test_inputs_are_a_mapping(operands):
    with pytest.raises(TypeError, match="inputs must be a mapping of names to arrays"):
        run_lstm({}, list(operands().values()))


# What is imported when


def test_the_operator_needs_numpy_only():
    program = """
import sys
sys.modules["onnx"] = None
import glasscell.convert.onnx as of_onnx
assert not {"safetensors", "google", "onnxruntime"} & set(sys.modules)
assert "load" in dir(of_onnx)
for name in set(of_onnx.__all__) - {"run_lstm"}:
    try:
        getattr(of_onnx, name)
    except ImportError as error:
        assert str(error) == f"glasscell.convert.onnx.{name} needs the onnx package: pip install -e '.[onnx]'"
    else:
        raise AssertionError(name)
try:
    of_onnx.nothing
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "module 'glasscell.convert.onnx' has no attribute 'nothing'"


def test_other_missing_modules_raise_their_error(monkeypatch):
    package = importlib.import_module("glasscell.convert.onnx")
    monkeypatch.setitem(package.LAZY, "nothing", "nowhere")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'glasscell\.convert\.onnx\.nowhere'"):
        package.nothing  # noqa: B018 - the access is the test
