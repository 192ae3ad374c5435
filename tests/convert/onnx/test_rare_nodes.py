"""Law: nodes that exporters seldom write have equal outputs in ONNX Runtime when they are imported."""

import importlib

import numpy as np
import pytest

from glasscell.layers import FinalState, Function, Step
from glasscell.limits import MemoryBudget

ATOL = 2e-6
I, H, B, T = 3, 4, 3, 6
TIME_FIRST = ("Transpose", "x", "X", {"perm": [1, 0, 2]})
STEPS = [TIME_FIRST, ("LSTM", "X W R B", "Y h c", {"hidden_size": H}), ("Squeeze", "Y 1", "z")]
REVERSE = [("LSTM", "X W2 R B", "Y2 h2 c2", {"hidden_size": H, "direction": "reverse"}), ("Squeeze", "Y2 1", "z2")]
BATCH_FIRST = ("Transpose", "out", "y", {"perm": [1, 0, 2]})


def flip(x, y):
    """Return a node that reverses the first axis."""
    return ("Slice", f"{x} -1 first 0 -1", y)


def second(name, x="z", attributes=None):
    """Return an LSTM of one module on the outputs of another, and its outputs (B, T, H)."""
    node = ("LSTM", f"{x} W4 R B", "Y2", {"hidden_size": H} | (attributes or {}), name)
    return [node, ("Squeeze", "Y2 1", "out"), BATCH_FIRST]


def of_module(nodes, name="/rnn/LSTM"):
    """Return the nodes, of which the first LSTM is of a module."""
    return [(*node[:3], {"hidden_size": H}, name) if node[0] == "LSTM" else node for node in nodes]


ONE_MODULE = of_module(STEPS)
GRAPHS = {
    "all features": ([*STEPS, ("Slice", "z 0 4 2", "out"), BATCH_FIRST], ["LSTM"]),
    "one value concatenated": ([*STEPS, ("Concat", "z", "out", {"axis": 0}), BATCH_FIRST], ["LSTM"]),
    "reversed twice": ([flip("x", "r"), flip("r", "s"), ("Relu", "s", "y")], ["Function"]),
    "a scaled bias": (
        [*STEPS, ("Gather", "z last", "end"), ("Gemm", "end V b", "y", {"transB": 1, "beta": 0.5})],
        ["LSTM", "Step", "Linear"],
    ),
    "the sum of a reverse and a forward LSTM": ([*STEPS, *REVERSE, ("Add", "z2 z", "out"), BATCH_FIRST], ["LSTM"]),
    "final states of two LSTMs": (
        [*STEPS, *REVERSE, ("Concat", "h h2", "s", {"axis": 2}), ("Squeeze", "s 0", "y")],
        ["LSTM", "FinalState"],
    ),
    "a number of values": (
        [("Size", "fixed", "n"), ("Cast", "n", "m", {"to": 1}), ("Mul", "x m", "y")],
        ["Function"],
    ),
    "the softplus of PyTorch on one function twice": (
        [
            *[("Relu", "x", "r"), ("Relu", "x", "q"), ("Greater", "r twenty", "more")],
            *[("Softplus", "q", "s"), ("Where", "more r s", "y")],
        ],
        ["Function", "Function"],
    ),
    "padding before the steps": (
        [
            *[("Transpose", "x", "t", {"perm": [0, 2, 1]}), ("Conv", "t k2", "u", {"auto_pad": "SAME_LOWER"})],
            ("Transpose", "u", "y", {"perm": [0, 2, 1]}),
        ],
        ["Conv1D"],
    ),
    "two LSTMs of one module": ([*ONE_MODULE, *second("/rnn/LSTM_1")], ["LSTM"]),
    "two LSTMs, one with initial states": (
        [
            *[
                TIME_FIRST,
                ("LSTM", "X W R B . h0 c0", "Y h c", {"hidden_size": H}, "/rnn/LSTM"),
                ("Squeeze", "Y 1", "z"),
            ],
            *second("/rnn/LSTM_1"),
        ],
        ["LSTM", "LSTM"],
    ),
    "outputs in the order of processing below an LSTM": (
        [
            *[
                TIME_FIRST,
                flip("X", "r"),
                ("LSTM", "r W R B", "Y h c", {"hidden_size": H}, "/rnn/LSTM"),
                ("Squeeze", "Y 1", "z"),
            ],
            *second("/rnn/LSTM_1"),
        ],
        ["LSTM", "LSTM"],
    ),
    "two LSTMs of other activations": (
        [*ONE_MODULE, *second("/rnn/LSTM_1", attributes={"activations": ["Sigmoid", "Relu", "Tanh"]})],
        ["LSTM", "LSTM"],
    ),
    "three LSTMs with other dropout": (
        [
            *ONE_MODULE,
            ("Dropout", "z half", "d", {}, "/rnn/Dropout"),
            *[("LSTM", "d W4 R B", "Y3", {"hidden_size": H}, "/rnn/LSTM_1"), ("Squeeze", "Y3 1", "z3")],
            ("Dropout", "z3 quarter", "e", {}, "/rnn/Dropout_1"),
            *second("/rnn/LSTM_2", "e"),
        ],
        ["LSTM", "Dropout", "LSTM"],
    ),
}


@pytest.fixture
def weights(rng, lstm_weights):
    def draw(*shape):
        return rng.normal(scale=0.5, size=shape).astype(np.float32)

    constants = {"half": 0.5, "quarter": 0.25, "twenty": 20}
    return (
        lstm_weights()
        | {"W2": draw(1, 4 * H, I), "W4": draw(1, 4 * H, H), "k2": draw(2, I, 2)}
        | {name: np.float32(number) for name, number in constants.items()}
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_rare_nodes_have_the_outputs_of_onnxruntime(graph, importer, run, rng, weights, name):
    nodes, kinds = GRAPHS[name]
    read = {input_name for node in nodes for input_name in node[1].split()}
    others = {"h0": [1, B, H], "c0": [1, B, H], "fixed": [2, 5]}
    inputs = {"x": ["batch", "time", I]} | {key: shape for key, shape in others.items() if key in read}
    rank = 2 if kinds[-1] in ("FinalState", "Linear") else 3
    model = graph(nodes, weights, inputs, rank=rank)
    imported = importer.from_model(model)
    assert [type(layer).__name__ for layer in imported.layers] == kinds
    x = rng.standard_normal((B, T, I)).astype(np.float32)
    feeds = {key: rng.standard_normal(inputs[key]).astype(np.float32) for key in inputs if key != "x"}
    states = [(feeds["h0"], feeds["c0"]), None] if "h0" in feeds else None
    [expected] = run(model, x, **feeds)
    np.testing.assert_allclose(imported.forward(x, states)[0], expected, rtol=0, atol=ATOL)


def test_parts_of_one_step_are_steps(graph, importer, weights):
    for output, index in (("first_part", 0), ("second_part", -1)):
        nodes = [*STEPS, ("Split", "z", "first_part second_part", {"axis": 0})]
        model = importer.from_model(graph(nodes, weights, {"x": [B, 2, I]}, outputs=[output]))
        assert model.layers[1:] == (Step(index),)


@pytest.mark.parametrize(
    ("op", "attributes", "name"),
    [
        ("Gelu", {}, "Gelu"),
        ("Gelu", {"approximate": "none"}, "Gelu"),
        ("Gelu", {"approximate": "tanh"}, "GeluTanh"),
        ("Swish", {}, "Silu"),
        ("Swish", {"alpha": 1.0}, "Silu"),
    ],
)
def test_activations_of_new_operators(graph, importer, op, attributes, name):
    assert importer.from_model(graph([(op, "x", "y", attributes)], opset=24)).layers == (Function(name),)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value_float": 2.5}, np.float32(2.5)),
        ({"value_floats": [1.5, 2.5]}, np.float32([1.5, 2.5])),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4])),
    ],
)
def test_constants_of_numbers(onnx, attributes, expected):
    folding = importlib.import_module("glasscell.convert.onnx.importer.constant_folding")
    node = onnx.helper.make_node("Constant", [], ["y"], **attributes)
    [result] = folding.fold(node, [], attributes, MemoryBudget(0))
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def test_empty_axes_and_sizes_of_constants(onnx):
    """A reduction of no axes may be none, and a size of 0 may be the size of an axis, by an attribute."""
    folding = importlib.import_module("glasscell.convert.onnx.importer.constant_folding")
    array, empty = np.arange(6.0).reshape(2, 3), np.zeros((0, 3))
    for op, inputs, attributes, expected in (
        ("ReduceSum", [array], {"noop_with_empty_axes": 1}, array),
        ("ReduceSum", [array], {"noop_with_empty_axes": 0}, [[15.0]]),
        ("Reshape", [empty, np.array([3, 0])], {"allowzero": 1}, np.zeros((3, 0))),
        ("Reshape", [array, np.array([0, 3])], {"allowzero": 0}, array),
    ):
        node = onnx.helper.make_node(op, [f"i{k}" for k in range(len(inputs))], ["y"], **attributes)
        [result] = folding.fold(node, inputs, attributes, MemoryBudget(0))
        assert result.shape == np.shape(expected)
        np.testing.assert_array_equal(result, expected)


def test_the_final_states_of_two_lstms_are_those_of_both_directions(graph, importer, weights):
    nodes, _ = GRAPHS["final states of two LSTMs"]
    lstm, state = importer.from_model(graph(nodes, weights)).layers
    assert lstm.options.bidirectional
    assert state == FinalState("both")
