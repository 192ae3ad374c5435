"""Law: layers in graphs of other exporters have equal outputs when they are imported; errors name nodes and kinds."""

import importlib

import numpy as np
import pytest

from glasscell.layers import Embedding, Function

ATOL = 2e-6
I, H, B, T = 3, 4, 3, 6


@pytest.fixture
def weights(rng):
    shapes = {"W": (1, 4 * H, I), "R": (1, 4 * H, H), "B": (1, 8 * H), "table": (7, I), "v": (H,), "u": (H,)}
    arrays = {name: rng.normal(scale=0.5, size=shape).astype(np.float32) for name, shape in shapes.items()}
    return arrays | {"0": np.array([0]), "1": np.array([1]), "one": np.array(1), "half": np.float32(0.5)}


TIME_FIRST = ("Transpose", "e", "X", {"perm": [1, 0, 2]})
TIME_LAST = ("Transpose", "z", "t", {"perm": [1, 2, 0]})
POOL = {"kernel_shape": [3], "strides": [2]}
STEPS = [TIME_FIRST, ("LSTM", "X W R B", "Y h c", {"hidden_size": H}), ("Squeeze", "Y 1", "z", {})]


def test_float_ids_of_an_embedding(onnx, graph, importer, run, rng, weights):
    """tf2onnx exports an Embedding with a Cast."""
    nodes = [("Cast", "x", "k", {"to": 6}), ("Gather", "table k", "e", {}), *STEPS, ("Squeeze", "h 0", "y", {})]
    model = graph(nodes, weights, {"x": ["n", T]}, rank=2)
    ids = rng.integers(0, 7, (B, T))
    imported = importer.from_model(model)
    assert isinstance(imported.layers[0], Embedding)
    np.testing.assert_allclose(imported(ids), run(model, ids.astype(np.float32))[0], rtol=0, atol=ATOL)


def test_arithmetic_with_a_constant_per_feature(onnx, graph, importer, run, rng, weights):
    """Before and after an LSTM, as either operand, and along the axis of the features."""
    input_scale = np.float32([1.0, -2.0, 0.5])
    transposes = [("Transpose", "z", "zt", {"perm": [1, 2, 0]}), ("Transpose", "t", "y", {"perm": [2, 0, 1]})]
    columns = {"vt": weights["v"][:, None], "ut": weights["u"][None, :, None]}
    for before, after in (
        ([("Div", "x w", "e", {})], [("Mul", "z v", "a", {}), ("Add", "u a", "y", {})]),
        ([("Sub", "w x", "e", {})], [("Sub", "z v", "a", {}), ("Mul", "u a", "y", {})]),
        (
            [("Identity", "x", "e", {})],
            [transposes[0], ("Mul", "vt zt", "a", {}), ("Add", "a ut", "t", {}), transposes[1]],
        ),
    ):
        model = graph([*before, *STEPS, *after], weights | {"w": input_scale} | columns, {"x": ["n", "t", I]}, rank=3)
        x = rng.standard_normal((B, T, I)).astype(np.float32)
        expected = run(model, x)[0]
        np.testing.assert_allclose(importer.from_model(model)(x).swapaxes(0, 1), expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Mul", "z table", "y", {})], r"\(Mul\) has an array of shape \(7, 3\), which is not one number per feature"),
        ([("Mul", "z w", "y", {})], r"\(Mul\) has 3 numbers for an axis of size 4"),
        ([("Div", "z u0", "y", {})], r"\(Div\) divides by 0"),
        ([TIME_LAST, ("Add", "t b", "y", {})], "an axis that is not the features"),
        ([("BatchNormalization", "z v v v v", "y", {})], "an axis that is not the features"),
        ([("Exp", "z", "e1", {}), ("LeakyRelu", "e1", "y", {})], "a function with parameters, inside another"),
        ([("Mul", "z z", "y", {})], "the output 'y' is an intermediate value of a function, which no layer computes"),
        ([("Selu", "z", "y", {"alpha": 1.5})], r"\(Selu\) has alpha = 1\.5"),
        ([("Conv", "z k", "y", {})], "an axis that is not the features"),
        (
            [TIME_LAST, ("MaxPool", "t", "y", POOL | {"dilations": [2]})],
            "has dilations, which pooling layers do not support",
        ),
        ([TIME_LAST, ("MaxPool", "t", "y", POOL | {"ceil_mode": 1})], "a last window of fewer steps"),
        ([("Tile", "z two", "y", {})], r"\(Tile\) repeats values that no sequential model repeats"),
    ],
)
def test_operations_of_no_layer_are_errors(onnx, graph, importer, weights, nodes, message):
    tensors = weights | {"w": np.ones(3, np.float32), "u0": np.float32([1, 0, 1, 1]), "b": np.ones(T, np.float32)}
    tensors |= {"k": np.ones((2, B, 1), np.float32), "two": np.array([2, 1, 1])}
    model = graph([("Identity", "x", "e", {}), *STEPS, *nodes], tensors, {"x": [B, T, I]})
    with pytest.raises(ValueError, match=message):
        importer.from_model(model)


def test_branch_with_a_constant_condition(onnx, graph, importer, run, rng, weights):
    """PyTorch exports the squeeze of a dynamic axis so."""
    helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
    value = [helper.make_tensor_value_info("inner", FLOAT, [None] * 3)]
    branches = {
        f"{name}_branch": helper.make_graph([helper.make_node(op, inputs, ["inner"])], name, [], value)
        for name, op, inputs in (("then", "Squeeze", ["z", "one"]), ("else", "Relu", ["z"]))
    }
    condition = [("Shape", "z", "s", {}), ("Gather", "s 1", "n", {}), ("Equal", "n 1", "is", {})]
    nodes = [("Identity", "x", "e", {}), *STEPS, *condition, ("If", "is", "y", branches)]
    model = graph(nodes, weights | {"one": np.array([1])}, {"x": ["n", "t", I]}, rank=3)
    imported = importer.from_model(model)
    x = rng.standard_normal((B, T, I)).astype(np.float32)
    np.testing.assert_allclose(imported(x).swapaxes(0, 1), run(model, x)[0], rtol=0, atol=ATOL)
    assert imported.layers[-1] == Function("Relu")


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (
            "GRU",
            r"the model has other recurrent layers than LSTMs \(GRU\), which the import .* does not support: the node",
        ),
        ("RNN", r"the model has other recurrent layers than LSTMs \(RNN\)"),
        ("DynamicQuantizeLSTM", r"the model is quantised \(DynamicQuantizeLSTM\)"),
        ("MatMulInteger", r"the model is quantised \(MatMulInteger\)"),
        ("Scan", r"the model has loops \(Scan\)"),
    ],
)
def test_errors_describe_unsupported_models(onnx, graph, importer, weights, op, message):
    """Also if the first unsupported node is another one."""
    nodes = [
        ("Identity", "x", "e", {}),
        *STEPS,
        ("Exp", "z", "e1", {}),
        ("MatMul", "e1 W", "y", {}),
        (op, "z W R", "q", {}),
    ]
    with pytest.raises(ValueError, match=message):
        importer.from_model(graph(nodes, weights, {"x": ["n", "t", I]}))


def test_import_time_of_nested_functions_is_linear(onnx, graph, importer, weights):
    """Each node of an unknown function takes as much work as the previous one."""
    work = []
    for count in (100, 200, 400):
        nodes = [("Identity", "x", "e", {}), *STEPS, ("Exp", "z", "f0", {})]
        nodes += [("Mul", f"f{k} f{k}" if k % 2 else f"f{k} z", f"f{k + 1}", {}) for k in range(count)]
        nodes += [("Identity", f"f{count}", "y", {})]
        calls = []
        pointwise = importlib.import_module("glasscell.convert.onnx.importer.pointwise")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                pointwise, "_evaluate", lambda f, *a, call=pointwise._evaluate, log=calls: log.append(1) or call(f, *a)
            )
            with pytest.raises(ValueError, match="an intermediate value of a function"):
                importer.from_model(graph(nodes, weights, {"x": [B, T, I]}))
        work.append(len(calls))
    assert work[2] - work[1] <= 2.3 * (work[1] - work[0])


@pytest.mark.parametrize("op", ["Squeeze", "Sigmoid", "Conv", "Softmax"])
def test_unknown_attributes_are_errors(onnx, graph, importer, weights, op):
    """A later version of the operator may define them."""
    model = graph([("Identity", "x", "e", {}), *STEPS, (op, "z", "y", {"gentle": 1})], weights, {"x": [B, T, I]})
    with pytest.raises(ValueError, match=rf"\({op}\) has the attribute 'gentle', which is not supported"):
        importer.from_model(model)


def test_attributes_of_every_supported_operator_are_listed(onnx, graph, importer):
    """Those of the newest opset of the installed onnx, and those of old versions."""
    attributes = importlib.import_module("glasscell.convert.onnx.importer.attributes")
    folding = importlib.import_module("glasscell.convert.onnx.importer.constant_folding")
    old = {"axes", "ratio", "spatial", "starts", "ends", "steps", "split"}
    unsupported = {"value_string", "value_strings", "sparse_value"}
    operators = {*importer.HANDLERS, *folding.FOLDED, "If"} - {"LSTM"}
    for op in operators:
        supported = attributes.ATTRIBUTES.get(op, set())
        standard = set(onnx.defs.get_schema(op).attributes) if onnx.defs.has(op) else supported
        assert standard - unsupported <= supported, op
        assert supported - standard <= old, op
    assert attributes.ATTRIBUTES.keys() <= operators
