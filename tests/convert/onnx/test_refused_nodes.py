"""Law: a node that no layer represents is an error that names the node, and what it has that no layer has."""

import importlib

import numpy as np
import pytest

I, H = 3, 4


@pytest.fixture
def tensors(lstm_weights):
    """Return weights of LSTMs, of linear maps and of convolutions, under the names that the graphs below use."""
    float32 = {
        "M": np.ones((H, 2)),
        "V19": np.ones((2, 19)),
        "fifteen": np.arange(15),
        "tiny": [1e-40, 1, 1],
        "axes4": np.ones((1, 1, 1, 1)),
        "column": np.ones((2, 1)),
        "cube": np.ones((1, 2, H)),
        "half": 0.5,
        "twenty": 20,
        "v": np.ones(H),
        "negative": -np.ones(H),
        "three": np.ones(I),
        "k1": np.ones((2, I, 1)),
        "k5": np.ones((2, I, 5)),
        "k11": np.ones((2, I, 1, 1)),
        "k12": np.ones((2, I, 1, 2)),
        "kH": np.ones((2, H, 1)),
        "small": np.ones((1, 2, H)),
    }
    integers = {
        "order": [0, 2, 1],
        "mixed": [10, 4, I],
        "25": [2, 5],
        "2,15": [2, 15],
        "00": [0, 0],
        "many": np.arange(40),
    }
    weights = lstm_weights() | {"W4": lstm_weights(inputs=H)["W"]}
    weights |= {f"{name}both": array for name, array in lstm_weights(D=2).items() if name in "WR"}
    weights |= {name: np.asarray(array, np.float32) for name, array in float32.items()}
    weights |= {name: np.asarray(array, np.int64) for name, array in integers.items()}
    return weights | {"R64": np.ones((1, 4 * H, H)), "yes": np.array(True), "both": np.array([True, True])}


TIME_FIRST = ("Transpose", "x", "X", {"perm": [1, 0, 2]})
LSTM = [TIME_FIRST, ("LSTM", "X W R B", "Y h c")]
STEPS = [*LSTM, ("Squeeze", "Y 1", "z")]  # (T, B, H)
END = [*STEPS, ("Gather", "z last", "end")]
TWICE = [*STEPS, ("LSTM", "X W R", "Y2 h2"), ("Squeeze", "Y2 1", "z2")]
TWINS = [*STEPS, ("LSTM", "X W R", "Y2 h2", {"direction": "reverse"}), ("Squeeze", "Y2 1", "z2")]
BOTH = [TIME_FIRST, ("LSTM", "X Wboth Rboth", "Y h", {"direction": "bidirectional"})]
MEAN = [*STEPS, ("ReduceMean", "z", "m", {"axes": [2]}), ("Sub", "z m", "d")]


def flip(x, y, axis="0"):
    """Return a node that reverses an axis."""
    return ("Slice", f"{x} -1 first {axis} -1", y)


NORMALISATIONS = {
    "numbers of steps and features in one axis": (
        [("Reshape", "x 2,15", "r"), ("Mul", "r fifteen", "y")],
        r"\(Mul\) acts on an axis that is not the features in their order",
    ),
    "a quotient above all numbers": ([("Div", "x tiny", "y")], r"\(Div\) has NaN or infinite numbers"),
    "a batch in training": (
        [("BatchNormalization", "x v v v v", "y", {"training_mode": 1})],
        r"\(BatchNormalization\) normalises by the statistics of its batch",
    ),
    "a batch of numbers": (
        [("BatchNormalization", "u v v v v", "y")],
        r"\(BatchNormalization\) needs a batch and features",
    ),
    "negative variances": (
        [*END, ("BatchNormalization", "end v v v negative", "y")],
        r"\(BatchNormalization\) has negative variances",
    ),
    "a normalisation of steps": (
        [*STEPS, ("LayerNormalization", "z v", "y", {"axis": 1})],
        r"\(LayerNormalization\) normalises over other axes than the features",
    ),
    "the root of a mean": ([*MEAN, ("Sqrt", "m", "y")], r"\(Sqrt\) computes with mean of the features, and not as a"),
    "the mean of a difference": (
        [*MEAN, ("ReduceMean", "d", "y", {"axes": [2]}, "second")],
        r"'second' \(ReduceMean\) computes with x - mean of the features",
    ),
    "a product with a mean": ([*MEAN, ("Mul", "m z", "y")], r"\(Mul\) computes with mean of the features"),
}
CONSTANTS = {
    "a cast to text": ([("Cast", "V", "t", {"to": 8}), ("Relu", "x", "y")], r"\(Cast\) .*STRING"),
    "indices of a constant that are no integers": (
        [("Gather", "V b", "t"), ("Relu", "x", "y")],
        r"\(Gather\) needs integers as indices, and has float32",
    ),
    "a constant without a value": (
        [("Constant", "", "t"), ("Relu", "x", "y")],
        r"\(Constant\) holds no numbers",
    ),
    "a shape of real numbers": (
        [("Reshape", "x b", "y")],
        r"\(Reshape\) needs a list of integers, and has an array \(2,\) of float32",
    ),
    "two rates": ([("Dropout", "x b", "y")], r"\(Dropout\) needs one number, and has an array \(2,\) of float32"),
    "parts that are not the whole": (
        [*STEPS, ("Split", "z 25", "y w", {"axis": 2})],
        r"\(Split\) splits an axis into 2 parts whose sizes do not add up",
    ),
    "a function of a constant": ([("Relu", "V", "y")], r"\(Relu\) acts on a constant or a missing input"),
    "columns of a table": (
        [("Gather", "V x", "y", {"axis": 1})],
        r"\(Gather\) gathers from a constant, and not rows of a table",
    ),
}
ARITHMETIC = {
    "a sum with nothing": ([*STEPS, ("Add", "z .", "y")], r"\(Add\) computes with a value that is not the output of a"),
    "a difference of two layers": (
        [*TWICE, ("Sub", "z z2", "y")],
        r"\(Sub\) subtracts the outputs of two layers, and a sequential model has one",
    ),
    "a reciprocal": ([*STEPS, ("Div", "half z", "y")], "the output 'y' is an intermediate value of a function"),
    "a number that adds axes": ([*STEPS, ("Mul", "z axes4", "y")], r"\(Mul\) adds axes to the 3 of a layer's output"),
    "a comparison": ([*STEPS, ("Greater", "z half", "y")], r"\(Greater\) compares values"),
    "a selection": ([*STEPS, ("Where", "yes z z", "y")], r"\(Where\) selects elements by a condition"),
    "a selection of another function": (
        [*STEPS, ("Greater", "z twenty", "more"), ("Relu", "z", "r"), ("Where", "more z r", "y")],
        r"\(Where\) selects elements by a condition",
    ),
    "another Gelu": ([("Gelu", "x", "y", {"approximate": "erf"})], r"\(Gelu\) has approximate = b'erf'; expected"),
    "another Swish": ([("Swish", "x", "y", {"alpha": 2.0})], r"\(Swish\) has alpha = 2\.0; expected 1"),
}
LSTMS = {
    "an activation of Glasscell alone": (
        [TIME_FIRST, ("LSTM", "X W R", "y", {"activations": ["Sigmoid", "Silu", "Tanh"]})],
        r"\(LSTM\) .*activations must be among .*, got 'Silu'",
    ),
    "features in another axis": (
        [*STEPS, ("Transpose", "z", "t", {"perm": [1, 2, 0]}), ("LSTM", "t W4 R", "y", {}, "second")],
        r"'second' \(LSTM\) has an input whose last axis is not the features in their order",
    ),
    "time and batch in one axis": (
        [("Reshape", "x4 mixed", "X"), ("LSTM", "X W R", "y")],
        r"\(LSTM\) has an input whose axes are mixed",
    ),
    "reversed sequences with lengths": (
        [TIME_FIRST, flip("X", "r"), ("LSTM", "r W R . n", "y")],
        r"\(LSTM\) has reversed sequences, whose padding comes first",
    ),
    "initial states of thousands of layers": (
        [TIME_FIRST, ("LSTM", "X W R . . s5000 s5000", "y")],
        r"\(LSTM\) has initial states of shape \(5000, 1, 4\)",
    ),
    "R of another dtype": (
        [TIME_FIRST, ("LSTM", "X W R64", "y")],
        r"\(LSTM\) has weights R of dtype float64, and W of float32",
    ),
    "a reverse LSTM on reversed sequences": (
        [TIME_FIRST, flip("X", "r"), ("LSTM", "r W R", "y", {"direction": "reverse"})],
        r"\(LSTM\) runs in reverse over reversed sequences",
    ),
    "two forward LSTMs": (
        [*TWICE, ("Concat", "z z2", "y", {"axis": 2})],
        r"\(Concat\) joins LSTMs that are not the two directions of one layer",
    ),
    "an LSTM, and one whose outputs are reversed": (
        [
            *STEPS,
            flip("X", "r"),
            ("LSTM", "r W R", "Y2"),
            ("Squeeze", "Y2 1", "z2"),
            ("Concat", "z z2", "y", {"axis": 2}),
        ],
        r"\(Concat\) joins LSTMs that are not the two directions of one layer",
    ),
    "directions of two functions": (
        [*TWINS, ("Relu", "z", "a"), ("Tanh", "z2", "b2"), ("Concat", "a b2", "y", {"axis": 2})],
        r"\(Concat\) concatenates values that no sequential model",
    ),
    "outputs in two orders of axes": (
        [*TWINS, ("Transpose", "z2", "t", {"perm": [1, 0, 2]}), ("Concat", "z t", "y", {"axis": 2})],
        r"\(Concat\) concatenates values that no sequential model",
    ),
    "the sum of directions of a function": (
        [*BOTH, ("Relu", "Y", "r"), ("ReduceSum", "r 1", "y")],
        r"\(ReduceSum\) merges values that are not the two directions of an LSTM",
    ),
    "the sum of features": (
        [*STEPS, ("ReduceSum", "z 2", "y")],
        r"\(ReduceSum\) reduces an axis that is neither time nor the directions",
    ),
    "states joined along the batch": (
        [*TWICE, ("Concat", "h h2", "y", {"axis": 1})],
        r"\(Concat\) joins final states along another axis than layers or units",
    ),
    "a function of stacked states": ([*BOTH, ("Relu", "h", "y")], r"\(Relu\) computes with a stack of states"),
}
LINEAR_MAPS = {
    "a transposed input": (
        [*END, ("Gemm", "end V b", "y", {"transA": 1, "transB": 1})],
        r"\(Gemm\) does not multiply vectors with a matrix",
    ),
    "weights of three axes": ([*STEPS, ("MatMul", "z cube", "y")], r"\(MatMul\) multiplies with an array of shape"),
    "weights for another number of steps": (
        [
            *STEPS,
            ("Transpose", "z", "t", {"perm": [1, 0, 2]}),
            ("Flatten", "t", "f"),
            ("Gemm", "f V19 b", "y", {"transB": 1}),
        ],
        r"\(Gemm\) has weights for 19 features, and an input of shape \(2, 20\)",
    ),
    "a bias of sequences": (
        [*STEPS, ("MatMul", "z M", "m"), ("Add", "m column", "y")],
        r"\(Add\) adds an array of shape \(2, 1\) to 2 features",
    ),
}
SELECTIONS = {
    "a mean of reversed steps": (
        [*STEPS, flip("z", "r"), ("ReduceMean", "r", "y", {"axes": [0]})],
        r"\(ReduceMean\) uses steps in reverse order",
    ),
    "two reversed axes": ([flip("x", "r"), flip("r", "y", "1")], r"\(Slice\) reverses a second axis"),
    "features of the input in another order": (
        [("Gather", "x order", "y", {"axis": 2})],
        r"\(Gather\) selects a part of an input",
    ),
    "half of the outputs of a linear map": (
        [*STEPS, ("MatMul", "z M", "m"), ("Slice", "m 0 1 2", "y")],
        r"\(Slice\) selects a part of the features that is not a direction",
    ),
    "a Tile of fewer axes": ([*STEPS, ("Tile", "z 2", "y")], r"\(Tile\) repeats 3 axes \[2\] times"),
    "more axes than NumPy has": ([("Unsqueeze", "x many", "y")], r"\(Unsqueeze\) has an output of 43 axes"),
    "an axis inserted twice": ([("Unsqueeze", "x 00", "y")], r"\(Unsqueeze\) inserts the axes \[0, 0\]"),
    "a shape without the features": (
        [("Reshape", "x 25", "y")],
        r"\(Reshape\) reshapes \(2, 5, 3\) to 2 axes of another size",
    ),
}
WINDOWS = {
    "windows over two axes": ([("Conv", "w k11", "y")], r"\(Conv\) has windows over other axes than time"),
    "windows over an axis of size 1": ([("Conv", "w1 k12", "y")], r"\(Conv\) has windows over other axes than time"),
    "windows of two axes over one": ([("Conv", "w3 k11", "y")], r"\(Conv\) has windows of \(1, 1\) on an input of 3"),
    "a padding of another name": (
        [("Conv", "w3 k1", "y", {"auto_pad": "SAME"})],
        r"\(Conv\) has auto_pad SAME$",
    ),
    "windows longer than sequences": ([("Conv", "w3 k5", "y")], r"\(Conv\) has windows of 5 steps in sequences of 2"),
    "another kernel_shape": (
        [("Conv", "w3 k1", "y", {"kernel_shape": [2]})],
        r"\(Conv\) has kernel_shape \(2,\), and weights of \(1,\)",
    ),
    "weights for other features": (
        [("Conv", "w3 kH", "y")],
        r"\(Conv\) has weights \(2, 4, 1\) in 1 groups, and an input of shape \(7, 3, 2\)",
    ),
}
REFUSED = {**NORMALISATIONS, **CONSTANTS, **ARITHMETIC, **LSTMS, **LINEAR_MAPS, **SELECTIONS, **WINDOWS}
INPUTS = {
    "x": [2, 5, I],
    "x4": [2, 5, 4, I],
    "n": [2],
    "s5000": [5000, 1, H],
    "u": [H],
    "w": [7, I, 2, 6],
    "w1": [7, I, 6, 1],
    "w3": [7, I, 2],
}


@pytest.mark.parametrize("name", REFUSED)
def test_nodes_that_no_layer_represents_are_errors(onnx, importer, graph, tensors, name):
    nodes, message = REFUSED[name]
    read = {input_name for node in nodes for input_name in node[1].split()}
    inputs = {key: shape for key, shape in INPUTS.items() if key in read}
    with pytest.raises(ValueError, match=message):
        importer.from_model(graph(nodes, tensors, inputs or {"x": INPUTS["x"]}, types={"n": onnx.TensorProto.INT32}))


def branch(onnx, nodes, outputs=("y",), tensors=None):
    """Return the graph of a branch of an If."""
    values = [onnx.helper.make_empty_tensor_value_info(name) for name in outputs]
    arrays = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in (tensors or {}).items()]
    return onnx.helper.make_graph([onnx.helper.make_node(*node) for node in nodes], "branch", [], values, arrays)


def if_node(onnx, then, otherwise, condition="yes", name="y"):
    return ("If", condition, name, {"then_branch": then, "else_branch": otherwise})


def test_branches_that_no_sequence_of_layers_represents_are_errors(onnx, importer, graph, tensors):
    relu = branch(onnx, [("Relu", ["x"], ["z"])], ["z"])
    nested = relu
    for depth in range(5):
        values = {"then_branch": nested, "else_branch": relu}
        nested = onnx.helper.make_graph(
            [onnx.helper.make_node("If", ["yes"], [f"n{depth}"], f"nested {depth}", **values)],
            "branch",
            [],
            [onnx.helper.make_empty_tensor_value_info(f"n{depth}")],
        )
    two = branch(onnx, [("Relu", ["x"], ["z"]), ("Relu", ["z"], ["z2"])], ["z", "z2"])
    for node, message in (
        (if_node(onnx, relu, relu, "both"), r"'the If' \(If\) has a condition of shape \(2,\)"),
        (if_node(onnx, nested, relu), r"\(If\) has branches nested deeper than 4"),
        (if_node(onnx, two, relu), r"'the If' \(If\) has branches of 2 outputs"),
    ):
        with pytest.raises(ValueError, match=message):
            importer.from_model(graph([node], tensors))


def test_a_branch_has_constants_of_its_own(onnx, importer, graph, tensors):
    then = branch(onnx, [("Mul", ["x", "factor"], ["z"])], ["z"], {"factor": np.float32(2.5)})
    otherwise = branch(onnx, [("Relu", ["x"], ["z"])], ["z"])
    [layer] = importer.from_model(graph([if_node(onnx, then, otherwise)], tensors)).layers
    assert (layer.name, layer.alpha, layer.beta) == ("Affine", 2.5, 0)


def test_a_number_of_layers_that_depends_on_the_number_of_steps_is_an_error(onnx, importer, graph, tensors):
    one = branch(onnx, [("Relu", ["x"], ["z"])], ["z"])
    two = branch(onnx, [("Relu", ["x"], ["z"]), ("Relu", ["z"], ["z2"])], ["z2"])
    nodes = [("Shape", "x", "shape"), ("Gather", "shape 1", "T"), ("Less", "T limit", "yes_")]
    model = graph([*nodes, if_node(onnx, one, two, "yes_")], tensors | {"limit": np.array([1100])})
    with pytest.raises(ValueError, match="the layers depend on the number of steps or sequences"):
        importer.from_model(model)


def test_graphs_that_are_not_read_are_errors(onnx, importer, graph, tensors):
    def changed(change):
        model = graph([("Relu", "x", "y")], tensors)
        change(model)
        return model

    def same_name(model):
        model.graph.initializer.append(model.graph.initializer[0])

    def sparse(model):
        model.graph.sparse_initializer.add()

    def function(model):
        model.functions.append(onnx.FunctionProto(name="Relu", domain=""))

    def many_axes(model):
        model.graph.input[0].type.tensor_type.shape.dim.extend([onnx.TensorShapeProto.Dimension(dim_value=1)] * 40)

    for change, message in (
        (same_name, f"two tensors have the name '{next(iter(tensors))}'"),
        (sparse, "the graph has sparse initializers, which cannot be represented"),
        (function, "the model has functions in place of ONNX's operators"),
        (many_axes, "the input 'x' has 43 axes"),
    ):
        with pytest.raises(ValueError, match=message):
            importer.from_model(changed(change))


@pytest.fixture
def of_lstms(onnx, tmp_path):
    """Return a function that writes a model, and reads the LSTMs of the file."""
    lstms = importlib.import_module("glasscell.convert.onnx.importer.lstms").lstms

    def of_lstms(model):
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        return lstms(path)

    return of_lstms


def test_lstms_of_functions_and_without_weights_are_errors(onnx, graph, tensors, of_lstms):
    model = graph([("LSTM", "x . R", "y")], tensors)
    with pytest.raises(ValueError, match=r"m\.onnx: the node 'the LSTM' \(LSTM\) has no weights W of three axes"):
        of_lstms(model)
    model = graph([("LSTM", "x W R", "y")], tensors)
    model.functions.append(onnx.FunctionProto(name="act", node=[onnx.helper.make_node("Relu", ["a"], ["b"])]))
    [lstm] = of_lstms(model).values()
    assert (lstm.input_size, lstm.hidden_size) == (I, H)
    model.functions.append(onnx.FunctionProto(name="cell", node=[onnx.helper.make_node("LSTM", ["a"], ["b"])]))
    with pytest.raises(ValueError, match="the function 'cell' has an LSTM, whose weights are its arguments"):
        of_lstms(model)


def test_graphs_in_too_many_graphs_are_errors(onnx, graph, of_lstms):
    def nested(depth):
        inner = branch(onnx, [("Relu", ["x"], ["y"])])
        for _ in range(depth):
            inner = onnx.helper.make_graph(
                [onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner)], "outer", [], []
            )
        return graph([("If", "x", "y", {"then_branch": inner})])

    assert of_lstms(nested(15)) == {}
    with pytest.raises(ValueError, match="the graph 'branch' is nested in more than 16 graphs"):
        of_lstms(nested(16))


def test_files_that_are_damaged_are_errors(onnx, importer, graph, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08" + b"\xff" * 12)
    with pytest.raises(ValueError, match=r"m\.onnx .*an integer does not end"):
        importer.load(path)
    (tmp_path / "data").write_bytes(bytes(8))
    for changes in ({"dims": [-1]}, {"dims": [1], "data_type": onnx.TensorProto.STRING}):
        model = graph([("Add", "x t", "y")])
        tensor = model.graph.initializer.add(name="t", data_location=onnx.TensorProto.EXTERNAL, **changes)
        tensor.external_data.add(key="location", value="data")
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match="the tensor 't' has a type or shape that cannot be read from another"):
            importer.load(path)


def test_a_node_for_which_memory_is_missing_is_named(onnx, importer):
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="act")
    with pytest.raises(ValueError, match=r"the node 'act' \(Relu\) needs more memory than is available"):  # noqa: SIM117
        with importer.node_errors(node):
            raise MemoryError
