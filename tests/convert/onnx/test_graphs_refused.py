"""Law: what is no chain of layers is refused by the name of its node; no file, however damaged, does anything else."""

import importlib
import tracemalloc
from typing import NamedTuple

import numpy as np
import pytest

I, H = 3, 4
MOST = 40 * 2**20  # bytes that reading a small file may take


class N(NamedTuple):
    """A node. Names are in one text; a point stands for an input that is left out."""

    op: str
    given: str
    gives: str
    attributes: dict = {}  # noqa: RUF012 - never changed
    name: str = ""
    domain: str = ""


@pytest.fixture(scope="module")
def reader(onnx):
    return importlib.import_module("glasscell.convert.onnx.importer.graph")


@pytest.fixture
def graph(onnx):
    """Makes a model of nodes, tensors by name, and inputs by name and shape."""

    def graph(nodes, tensors=None, inputs=None, outputs=("y",), opset=17, types=None):
        helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
        shapes = inputs or {"x": ["batch", "time", I]}
        made = helper.make_graph(
            [
                helper.make_node(
                    node.op,
                    ["" if name == "." else name for name in node.given.split()],
                    node.gives.split(),
                    name=node.name or f"the {node.op}",
                    domain=node.domain,
                    **node.attributes,
                )
                for node in nodes
            ],
            "graph",
            [helper.make_tensor_value_info(name, (types or {}).get(name, FLOAT), of) for name, of in shapes.items()],
            [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
            [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in (tensors or {}).items()],
        )
        versions = [helper.make_opsetid("", opset), helper.make_opsetid("custom", 1)]
        return helper.make_model(made, opset_imports=versions, ir_version=8)

    return graph


@pytest.fixture
def weights(rng):
    """Weights of an LSTM node and of a linear map."""

    def weights(D=1, inputs=I, size=H):
        shapes = {"W": (D, 4 * size, inputs), "R": (D, 4 * size, size), "B": (D, 8 * size), "V": (2, size), "b": (2,)}
        return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()} | PLACES

    return weights


@pytest.fixture
def tensors(weights):
    """The same, and others that do not fit, under the names that the graphs below use."""
    other, both = weights(inputs=H), weights(D=2)
    ones = np.ones((1, 4 * H, I))
    return weights() | {
        "W4": other["W"],
        "Wboth": both["W"],
        "Rboth": both["R"],
        "W64": ones,
        "R64": np.ones((1, 4 * H, H)),
        "Wint": ones.astype(np.int64),
        "Wnan": np.full_like(ones, np.nan, np.float32),
        "lens": np.array([1, 2], np.int32),
        "starts": np.arange(2 * H, dtype=np.float32).reshape(1, 2, H),
        "half": np.float32(0.5),
        "yes": np.array(True),
        "ones": np.ones((1, 2, H), np.float32),
    }


PLACES = {"0": np.array([0]), "1": np.array([1]), "2": np.array([2]), "-1": np.array([-1]), "last": np.array(-1)}
PLACES |= {"first": np.array([-(2**63) + 1]), "4": np.array([H]), "near": np.array(1015), "far": np.array([2**61])}

TURN = N("Transpose", "x", "X", {"perm": [1, 0, 2]})
LSTM = [TURN, N("LSTM", "X W R B", "Y h c", {"hidden_size": H})]
STEPS = [*LSTM, N("Squeeze", "Y 1", "z")]  # (T, B, H)
END = [*STEPS, N("Gather", "z last", "end")]
FINAL = [*LSTM, N("Squeeze", "h 0", "s")]
OF_TWO = ["Relu", "Tanh", "Tanh", "Sigmoid", "Tanh", "Tanh"]


def lstm(given="X W R", **attributes):
    """One LSTM on the turned input."""
    return [TURN, N("LSTM", given, "y", attributes)]


BRANCHES = {
    "a residual": (
        [*STEPS, N("LSTM", "z W4 R", "Y2"), N("Squeeze", "Y2 1", "z2"), N("Add", "z z2", "y")],
        r"'the Add' \(Add\) adds the outputs of two layers",
    ),
    "a gate": ([*STEPS, N("Softmax", "z", "s"), N("Mul", "z s", "y")], r"\(Mul\) multiplies the outputs of two layers"),
    "a function that is no layer": (
        [*STEPS, N("Sigmoid", "z", "s"), N("Tanh", "z", "t"), N("Mul", "t s", "y")],
        "the output 'y' is an intermediate value of a function, which no layer computes",
    ),
    "a layer behind such a function": (
        [*STEPS, N("Exp", "z", "e"), N("MatMul", "e V", "y")],
        r"\(MatMul\) acts on an intermediate value of a function, which no layer computes",
    ),
    "a mean of features": (
        [*STEPS, N("ReduceMean", "z", "m", {"axes": [2]}), N("MatMul", "m V", "y")],
        r"\(MatMul\) acts on an intermediate value of a function, which no layer computes",
    ),
    "an encoder and a decoder": (
        [*STEPS, N("LSTM", "z W4 R . . h c", "y", name="decoder")],
        r"'decoder' \(LSTM\) has initial states that another layer computes",
    ),
    "the cell state as features": (
        [*LSTM, N("Squeeze", "c 0", "s"), N("Gemm", "s V b", "y", {"transB": 1})],
        r"'the Gemm' \(Gemm\) computes with the cell state",
    ),
    "hidden with cell states": ([*LSTM, N("Concat", "h c", "y", {"axis": 2})], "joins hidden with cell states"),
    "outputs with states": (
        [*END, N("Squeeze", "h 0", "s"), N("Concat", "end s", "y", {"axis": 1})],
        r"\(Concat\) concatenates values that no sequential model",
    ),
    "one direction twice": (
        [*FINAL, N("Concat", "s s", "t", {"axis": 1}), N("Relu", "t", "y")],
        "the final state of one direction twice",
    ),
}
OPERATORS = {
    "a convolution": ([N("ConvTranspose", "x V", "y")], r"\(ConvTranspose\) is an operator that cannot be represented"),
    "a convolution that does not fit": ([N("Conv", "x V", "y")], r"'the Conv' \(Conv\) has weights of shape \(2, 4\)"),
    "a GRU": ([TURN, N("GRU", "X W R", "y")], r"'the GRU' \(GRU\) is an operator that cannot be represented"),
    "a normalisation": ([*STEPS, N("LayerNormalization", "z b", "y")], r"has an array of shape \(2,\) for 4 features"),
    "a softmax of steps": ([*STEPS, N("Softmax", "z", "y", {"axis": 0})], r"\(Softmax\) is over another axis"),
    "a custom domain": ([N("LSTM", "x", "y", domain="custom")], r"'the LSTM' \(LSTM\) is of the domain 'custom'"),
    "training": ([*STEPS, N("Dropout", "z half yes", "y")], r"\(Dropout\) drops values: .* exported in training mode"),
    "a cast between layers": ([*STEPS, N("Cast", "z", "y", {"to": 11})], "casts from float32 to float64 between"),
    "a cast of the input": (
        [N("Cast", "x", "k", {"to": 7}), N("Cast", "k", "y", {"to": 1})],
        "casts an input from int64 to float32",
    ),
    "ids that an LSTM takes": (
        [N("Cast", "x", "k", {"to": 7}), TURN._replace(given="k"), *LSTM[1:]],
        "its input has dtype int64",
    ),
}
LSTMS = {
    "an activation that does not exist": (
        lstm(activations=["Sigmoid", "Swish", "Tanh"]),
        r"'the LSTM' \(LSTM\) .*there is no activation 'Swish'",
    ),
    "an attribute that does not exist": (
        lstm(speed=1),
        r"'the LSTM' \(LSTM\) .*attributes must be among .*, got 'speed'",
    ),
    "other activations in one direction": (
        lstm("X Wboth Rboth", direction="bidirectional", activations=OF_TWO),
        "has other activations in one direction than in the other",
    ),
    "W of another size": (lstm("X W4 R"), r"'the LSTM' \(LSTM\) has weights for 4 features, and its input has 3"),
    "R of another size": (lstm("X W Rboth"), r"has weights R of shape \(2, 16, 4\); expected \(1, 16, 4\)"),
    "B of another size": (lstm("X W R b"), r"has weights B of shape \(2,\); expected \(1, 32\)"),
    "another hidden_size": (lstm(hidden_size=5), r"has hidden_size 5, and R of shape \(1, 16, 4\)"),
    "no W": (lstm("X . R"), r"'the LSTM' \(LSTM\) has no weights W"),
    "computed weights": (lstm("X X R"), "has weights W that are missing or computed from the inputs of the graph"),
    "weights that are not finite": (lstm("X Wnan R"), "has weights W with NaN or infinite values"),
    "weights of integers": (lstm("X Wint R"), "has weights W of dtype int64"),
    "weights of another type": (lstm("X W64 R64"), "has weights of dtype float64, and its input has dtype float32"),
    "sequence_lens that cut": (lstm("X W R . lens"), r"\(LSTM\) has sequence_lens that are not an input of the graph"),
    "initial states that differ": (lstm("X W R . . starts"), "constant initial states that differ between sequences"),
    "initial states of another size": (lstm("X W R . . b"), r"states of shape \(2,\); expected D = 1, H = 4"),
}
AXES = {
    "steps as features": (
        [*STEPS, N("Transpose", "z", "t", {"perm": [1, 2, 0]}), N("MatMul", "t V", "y")],
        r"\(MatMul\) acts on an axis that is not the features",
    ),
    "an LSTM on one vector": (
        [*END, N("Unsqueeze", "end 0", "e"), N("LSTM", "e W4 R", "y", name="second")],
        r"'second' \(LSTM\) has an input that is one vector per sequence",
    ),
    "time and batch changed": (
        [*STEPS, N("Transpose", "z", "t", {"perm": [1, 0, 2]}), N("LSTM", "t W4 R", "y")],
        "has time and batch in another place than the LSTM before it",
    ),
    "the sum of all steps": (
        [*STEPS, N("ReduceSum", "z 0", "y")],
        r"\(ReduceSum\) reduces an axis by an operation that no layer has",
    ),
    "the mean of all": ([*STEPS, N("ReduceMean", "z", "y")], r"\(ReduceMean\) reduces all axes to one number"),
    "some of the features": ([*STEPS, N("Slice", "z 1 2 2", "y")], r"\(Slice\) selects a part of an axis of size 4"),
    "some of the input": ([N("Slice", "x 1 2 2", "t"), N("Relu", "t", "y")], "acts on a part of an input"),
    "the batch flipped": (
        [N("Slice", "x -1 first 0 -1", "t"), N("Transpose", "t", "X", {"perm": [1, 0, 2]}), *LSTM[1:]],
        r"\(LSTM\) has an input whose batch or features are reversed",
    ),
    "an output flipped": ([*STEPS, N("Slice", "z -1 first 0 -1", "y")], "the output 'y' is in reverse order"),
    "steps and features in one axis": (
        [*STEPS, N("Transpose", "z", "t", {"perm": [1, 2, 0]}), N("Flatten", "t", "y")],
        "the output 'y' has steps or sequences and features in one axis",
    ),
    "an axis too long to be squeezed": ([N("Squeeze", "x 2", "y")], r"\(Squeeze\) squeezes an axis of size 3"),
    "an order that is none": ([N("Transpose", "x", "y", {"perm": [0, 0, 1]})], r"puts 3 axes in the order \[0, 0, 1\]"),
    "an axis that does not exist": (
        [N("Gather", "x last", "y", {"axis": 3})],
        r"\(Gather\) has the axis 3 for a value of 3 axes",
    ),
    "an attribute of another type": ([N("Transpose", "x", "y", {"perm": 5})], r"\(Transpose\) is invalid"),
    "a shape that does not fit": ([N("Reshape", "x 2", "y")], r"\(Reshape\) reshapes .* to 1 axes, which splits"),
}
VALUES = {
    "that nothing gives": ([N("Relu", "a", "y")], r"\(Relu\) has the input 'a', which no earlier node computes"),
    "of a circle": (
        [N("Relu", "b_", "a_"), N("Relu", "a_", "b_"), N("Relu", "a_", "y")],
        "has the input 'b_', which no earlier node computes",
    ),
    "given twice": ([N("Relu", "x", "y")] * 2, r"\(Relu\) has the output 'y', which is already computed"),
    "a constant as output": ([N("Identity", "V", "y")], "the output 'y' is not computed from the inputs"),
    "an input as output": ([N("Identity", "x", "y")], "the output 'y' is an input"),
    "no output": ([N("Relu", "x", "z")], "the output 'y' is not computed from the inputs"),
}
REFUSED = {**BRANCHES, **OPERATORS, **LSTMS, **AXES, **VALUES}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_chain_of_layers_is_refused_by_name(reader, graph, tensors, name):
    nodes, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        reader.from_model(graph(nodes, tensors))


def test_two_inputs_are_refused(reader, graph):
    inputs = {"a": ["batch", "time", 1], "b": ["batch", "time", 2]}
    with pytest.raises(ValueError, match=r"'the Concat' \(Concat\) joins inputs; a sequential model has one"):
        reader.from_model(graph([N("Concat", "a b", "y", {"axis": 2})], inputs=inputs))
    with pytest.raises(ValueError, match=r"'the Add' \(Add\) adds the outputs of two layers"):
        reader.from_model(graph([N("Add", "a b", "y")], inputs=inputs))


@pytest.mark.parametrize("op", ["Loop", "If"])
def test_branches_and_loops_are_refused(onnx, reader, graph, op):
    helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"])], "inner", [], [helper.make_tensor_value_info("z", FLOAT, None)]
    )
    bodies = {"body": inner} if op == "Loop" else {"then_branch": inner, "else_branch": inner}
    why = (
        "is an operator that cannot be represented"
        if op == "Loop"
        else "needs a constant where its input is missing or computed"
    )
    with pytest.raises(ValueError, match=rf"'the {op}' \({op}\) {why}"):
        reader.from_model(graph([N(op, "x", "y", bodies)]))


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ("Y Y2", "the graph has the outputs Y, Y2; expected one, and optional final states"),
        ("Y2 upside_down", "the output 'upside_down' has final states in an order that cannot be represented"),
        ("Y h2", "the output 'h2' has final states in an order that cannot be represented"),
        ("", "the graph has the outputs none; expected one"),
    ],
)
def test_outputs_that_a_model_has_not_are_refused(reader, graph, tensors, outputs, words):
    nodes = [*STEPS, N("LSTM", "z W4 R", "Y2 h2"), N("Concat", "h2 h", "upside_down", {"axis": 0})]
    with pytest.raises(ValueError, match=words):
        reader.from_model(graph(nodes, tensors, outputs=outputs.split()))


@pytest.mark.parametrize(
    ("h0", "c0", "words"),
    [
        ("s", "s", "the initial states 's' are not in the order of the layers"),
        ("low", "t", "the initial states 's2' are not in the order of the layers"),
        ("x", "t", r"\(LSTM\) has initial states that are not a separate input"),
        ("s", "ones", r"\(LSTM\) has initial states of which one is an input, and the other a constant"),
        ("s2", "t", r"\(LSTM\) has 2 initial states for 1 directions"),
        ("units", "t", r"\(LSTM\) has initial states that are a part of an input, but not whole layers"),
    ],
)
def test_initial_states_that_cannot_be_given_are_refused(reader, graph, tensors, h0, c0, words):
    inputs = {"x": [2, 5, I], "s": [1, 2, H], "t": [1, 2, H], "s2": [2, 2, H], "s8": [1, 2, 2 * H]}
    parts = [N("Slice", "s2 1 2 0", "low"), N("Slice", "s8 0 4 2", "units")]
    with pytest.raises(ValueError, match=words):
        reader.from_model(graph([TURN, *parts, N("LSTM", f"X W R . . {h0} {c0}", "y")], tensors, inputs))


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (N("Gather", "z last", "y"), r"\(Gather\) uses all steps of sequences that have sequence_lens"),
        (
            N("ReduceMean", "z", "y", {"axes": [0]}),
            r"\(ReduceMean\) uses all steps of sequences that have sequence_lens",
        ),
        (N("Slice", "z -1 first 0 -1", "y"), r"\(Slice\) reverses sequences that have sequence_lens"),
        (N("LSTM", "z W4 R", "y", name="second"), r"'second' \(LSTM\) has other sequence_lens than the LSTM before"),
    ],
)
def test_steps_of_sequences_with_lengths_are_refused(onnx, reader, graph, tensors, node, words):
    """A graph takes the last step of all; here it would be each sequence's own."""
    inputs = {"x": ["batch", "time", I], "n": ["batch"]}
    nodes = [TURN, N("LSTM", "X W R . n", "Y h"), N("Squeeze", "Y 1", "z"), node]
    with pytest.raises(ValueError, match=words):
        reader.from_model(graph(nodes, tensors, inputs, types={"n": onnx.TensorProto.INT32}))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([N("Mul", "z t", "y")], "the layer 'affine' depends on the number of steps or sequences"),
        ([N("Gather", "z near", "y")], "the layer 'step' depends on the number of steps or sequences"),
        (
            [N("Mul", "V t", "Vt"), N("Transpose", "Vt", "tV"), N("MatMul", "z tV", "y")],
            r"the weights 'linear\.weight' depend on the number of steps or sequences",
        ),
    ],
)
def test_what_depends_on_the_number_of_steps_is_refused(reader, graph, tensors, nodes, words):
    """Where the sizes of the inputs are open, no number of the model may come from them."""
    size = [N("Shape", "x", "shape"), N("Gather", "shape 1", "T"), N("Cast", "T", "t", {"to": 1})]
    with pytest.raises(ValueError, match=words):
        reader.from_model(graph([*STEPS, *size, *nodes], tensors))


def test_a_map_that_others_use_too_keeps_its_bias(reader, graph, tensors):
    """Two branches add to one product; only the first is an output."""
    tensors |= {"p": np.float32([1, 2]), "q": np.float32([30, 40]), "M": np.ones((H, 2), np.float32)}
    model = reader.from_model(
        graph([*STEPS, N("MatMul", "z M", "m"), N("Add", "m p", "y"), N("Add", "m q", "r")], tensors)
    )
    np.testing.assert_array_equal(model.layers[-1].parameters["bias"], [1, 2])


# Untrusted files


def test_versions_that_are_too_old_or_none(onnx, reader, graph):
    with pytest.raises(ValueError, match="the opset of the model must be at least 7, got 6"):
        reader.from_model(graph([N("Relu", "x", "y")], opset=6))
    with pytest.raises(ValueError, match="got 0"):
        reader.from_model(onnx.ModelProto())


def test_other_kinds_of_files(reader, tmp_path):
    path = tmp_path / "m.onnx"
    for content in (b"", b"\x00" * 100, b"PK\x03\x04" + bytes(100), bytes(range(256)) * 10):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"m\.onnx"):
            reader.load(path)


def tensors_that_lie(onnx):
    TensorProto = onnx.TensorProto
    yield "64 bytes", TensorProto(name="t", dims=[4, 5], data_type=1, raw_data=bytes(64))
    yield "2 values", TensorProto(name="t", dims=[4, 5], data_type=1, float_data=[1, 2])
    yield "64 bytes", TensorProto(name="t", dims=[2**62, 2**62], data_type=1, raw_data=bytes(64))
    yield "the shape", TensorProto(name="t", dims=[-1, 4], data_type=1, raw_data=bytes(64))
    yield "the shape", TensorProto(name="t", dims=[1] * 100, data_type=1, raw_data=bytes(4))
    yield "type STRING", TensorProto(name="t", dims=[1], data_type=8, string_data=[b"a"])
    yield "type number 99", TensorProto(name="t", dims=[1], data_type=99, raw_data=b"a")
    yield "another file", TensorProto(name="t", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)


def test_tensors_whose_shape_is_not_that_of_their_bytes_are_refused(onnx, reader, graph):
    for words, tensor in tensors_that_lie(onnx):
        model = graph([N("Add", "x t", "y")])
        model.graph.initializer.append(tensor)
        with pytest.raises(ValueError, match=f"the tensor 't' .*{words}"):
            reader.from_model(model)
        with pytest.raises(ValueError, match=rf"'the Constant' \(Constant\) .*{words}"):
            reader.from_model(graph([N("Constant", "", "t", {"value": tensor}), N("Add", "x t", "y")]))


def test_numbers_in_other_files_are_those_of_the_file_beside(onnx, reader, graph, weights, tmp_path):
    """Each of the file's bytes at most once, of its real size, and no file elsewhere."""
    from onnx.external_data_helper import set_external_data  # noqa: PLC0415 - optional

    (tmp_path / "inner").mkdir()
    path, data, outside = tmp_path / "inner" / "m.onnx", tmp_path / "inner" / "data", tmp_path / "outside"

    def loaded(*, again=False, **said):
        model = graph([*STEPS, N("Transpose", "z", "y", {"perm": [1, 0, 2]})], weights())
        tensor = next(t for t in model.graph.initializer if t.name == "W")
        W = onnx.numpy_helper.to_array(tensor).tobytes()
        for file in (data, outside):
            file.write_bytes(W)
        set_external_data(tensor, **{"location": "data", "offset": 0, "length": len(W)} | said)
        tensor.ClearField("raw_data")
        if again:
            model.graph.initializer.append(onnx.TensorProto.FromString(tensor.SerializeToString()))
            model.graph.initializer[-1].name = "again"
        path.write_bytes(model.SerializeToString())
        return reader.load(path)

    assert loaded().layers
    (tmp_path / "inner" / "link").symlink_to(outside)
    for said, words in (
        ({"location": "../outside"}, r"in the file '\.\./outside'; expected a file in the model's folder"),
        ({"location": str(outside)}, "expected a file in the model's folder"),
        ({"location": ".."}, "not a regular file in"),
        ({"location": ""}, "expected a file in"),
        ({"location": "link"}, "not a regular file in the model's folder"),
        ({"location": "nothing"}, "not a regular file in the model's folder"),
        ({"offset": 8}, "at byte 8 of 'data', which has"),
        ({"offset": -8}, "'-8' as a number of bytes"),
        ({"length": 2**60}, "which has"),
        ({"length": 4}, "which has"),
    ):
        with pytest.raises(ValueError, match=f"the tensor 'W' .*{words}"):
            loaded(**said)
    with pytest.raises(
        ValueError, match="the tensor 'again' and the tensors before it have more bytes in 'data' than the file"
    ):
        loaded(again=True)


ROWS, COLUMN, ONE = np.zeros((1, 100_000), np.float32), np.zeros((100_000, 1), np.float32), np.zeros(1, np.float32)
FAR = np.array([2**40])
BOMBS = {
    "a constant": ([N("ConstantOfShape", "s", "y")], {"s": FAR}),
    "a shape of the input": ([N("Shape", "x", "s"), N("ConstantOfShape", "s", "y")], {}),
    "an expansion": ([N("Expand", "z s", "y")], {"s": FAR, "z": ONE}),
    "tiles": ([N("Tile", "z s", "y")], {"s": FAR, "z": ONE}),
    "a range": ([N("Range", "a b c", "y")], {"a": np.array(0), "b": FAR[0], "c": np.array(1)}),
    "tens of tens": ([N("Concat", " ".join([f"v{k}"] * 10), f"v{k + 1}", {"axis": 0}) for k in range(9)], {"v0": ROWS}),
    "rows and columns": ([N("Add", "a b", "y")], {"a": ROWS, "b": COLUMN}),
    "one place many times": ([N("Gather", "a k", "y")], {"a": ROWS, "k": np.zeros(100_000, np.int64)}),
    "many copies": ([N("Add", "a o", f"v{k}") for k in range(3000)], {"a": ROWS, "o": ONE}),
}


def most_memory(run):
    """The most bytes that it held at once."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_cannot_ask_for_memory_that_it_is_not_worth(reader, graph, name):
    model = graph(*BOMBS[name], {"x": [2**62, 2**62, 2**62]})

    def refused():
        with pytest.raises(ValueError, match="needs more memory than 3 times the file"):
            reader.from_model(model)

    assert most_memory(refused) < MOST


def test_weights_that_a_thousand_layers_share(reader, graph, weights):
    nodes = [TURN]
    for k in range(1000):
        nodes += [N("LSTM", f"{f'z{k - 1}' if k else 'X'} W R", f"Y{k}"), N("Squeeze", f"Y{k} 1", f"z{k}")]
    model = graph(nodes, weights(inputs=128, size=128), {"x": ["batch", "time", 128]}, outputs=["z999"])

    def refused():
        with pytest.raises(ValueError, match="the model needs more memory than 3 times the file"):
            reader.from_model(model)

    assert most_memory(refused) < MOST


def test_huge_sizes_of_inputs_ask_for_nothing(reader, graph):
    huge = {"x": [2**62, 2**62, 2**62]}
    assert len(reader.from_model(graph([N("Relu", "x", "y")], inputs=huge)).layers) == 1
    for node in (N("Slice", "r 0 far 2", "y"), N("Split", "r", "y z", {"axis": 2})):
        with pytest.raises(ValueError, match=f"a part of an axis of size {2**62}"):
            reader.from_model(graph([N("Relu", "x", "r"), node], PLACES, huge))


def test_deep_graphs(reader, graph):
    """Deeper than Python's stack: a chain of layers, and one of nodes that do nothing."""
    names = ["x", *(f"v{k}" for k in range(1499)), "y"]
    for op, layers in (("Relu", 1500), ("Identity", 1)):
        nodes = [N(op if k else "Relu", names[k], names[k + 1]) for k in range(1500)]
        assert len(reader.from_model(graph(nodes)).layers) == layers


@pytest.fixture
def sample(reader, graph, tensors):
    """A file with a bit of everything."""
    nodes = [
        N("Shape", "x", "shape"),
        N("Gather", "shape 0", "batch"),
        N("Concat", "1 batch 4", "sizes", {"axis": 0}),
        N("Expand", "start sizes", "h0"),
        TURN,
        N("LSTM", "X W R B . h0", "Y h c", {"activations": ["Sigmoid", "LeakyRelu", "Tanh"]}),
        N("Squeeze", "h 0", "s"),
        N("Gemm", "s V b", "u", {"transB": 1}),
        N("Softmax", "u", "y", {"axis": -1}),
    ]
    names = ("W", "R", "B", "V", "b", "0", "1", "4")
    held = {name: tensors[name] for name in names} | {"start": np.ones((1, 1, H), np.float32)}
    model = graph(nodes, held)
    assert len(reader.from_model(model).layers) == 4
    return model.SerializeToString()


def test_truncated_files_are_refused(reader, sample, tmp_path):
    path = tmp_path / "m.onnx"
    for stop in range(0, len(sample) - 20, 7):  # the very end may be missing: it says the other domain's version
        path.write_bytes(sample[:stop])
        with pytest.raises(ValueError, match=r"m\.onnx"):
            reader.load(path)


def test_damaged_files_load_or_are_refused(reader, sample, tmp_path, rng):
    """Flipped bits: another model, or a ValueError, and never much memory."""
    path = tmp_path / "m.onnx"

    def load_damaged():
        for count in rng.choice([1, 1, 2, 8], 250):
            content = bytearray(sample)
            for place in rng.integers(0, len(sample), count):
                content[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(content)
            try:
                reader.load(path)
            except ValueError as error:
                assert "m.onnx" in str(error)  # noqa: PT017 - of those that are refused

    assert most_memory(load_damaged) < MOST
