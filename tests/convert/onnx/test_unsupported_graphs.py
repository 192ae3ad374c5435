"""Law: graphs that are not sequences of layers raise errors that name the node; damaged files load or raise errors."""

import numpy as np
import pytest

I, H = 3, 4


@pytest.fixture
def tensors(lstm_weights):
    """Return valid and invalid weights under the names that the graphs below use."""
    second_layer, bidirectional = lstm_weights(inputs=H), lstm_weights(D=2)
    ones = np.ones((1, 4 * H, I))
    return lstm_weights() | {
        "W4": second_layer["W"],
        "Wboth": bidirectional["W"],
        "Rboth": bidirectional["R"],
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


TIME_FIRST = ("Transpose", "x", "X", {"perm": [1, 0, 2]})
LSTM = [TIME_FIRST, ("LSTM", "X W R B", "Y h c", {"hidden_size": H})]
STEPS = [*LSTM, ("Squeeze", "Y 1", "z")]  # (T, B, H)
END = [*STEPS, ("Gather", "z last", "end")]
FINAL = [*LSTM, ("Squeeze", "h 0", "s")]
OF_TWO = ["Relu", "Tanh", "Tanh", "Sigmoid", "Tanh", "Tanh"]


def lstm(inputs="X W R", **attributes):
    """Return the nodes of one LSTM."""
    return [TIME_FIRST, ("LSTM", inputs, "y", attributes)]


BRANCHES = {
    "a residual": (
        [*STEPS, ("LSTM", "z W4 R", "Y2"), ("Squeeze", "Y2 1", "z2"), ("Add", "z z2", "y")],
        r"'the Add' \(Add\) adds the outputs of two layers",
    ),
    "a gate": ([*STEPS, ("Softmax", "z", "s"), ("Mul", "z s", "y")], r"\(Mul\) multiplies the outputs of two layers"),
    "a function that is no layer": (
        [*STEPS, ("Sigmoid", "z", "s"), ("Tanh", "z", "t"), ("Mul", "t s", "y")],
        "the output 'y' is an intermediate value of a function, which no layer computes",
    ),
    "a layer behind such a function": (
        [*STEPS, ("Exp", "z", "e"), ("MatMul", "e V", "y")],
        r"\(MatMul\) acts on an intermediate value of a function, which no layer computes",
    ),
    "a mean of features": (
        [*STEPS, ("ReduceMean", "z", "m", {"axes": [2]}), ("MatMul", "m V", "y")],
        r"\(MatMul\) acts on an intermediate value of a function, which no layer computes",
    ),
    "an encoder and a decoder": (
        [*STEPS, ("LSTM", "z W4 R . . h c", "y", {}, "decoder")],
        r"'decoder' \(LSTM\) has initial states that another layer computes",
    ),
    "the cell state as features": (
        [*LSTM, ("Squeeze", "c 0", "s"), ("Gemm", "s V b", "y", {"transB": 1})],
        r"'the Gemm' \(Gemm\) computes with the cell state",
    ),
    "hidden with cell states": ([*LSTM, ("Concat", "h c", "y", {"axis": 2})], "joins hidden with cell states"),
    "outputs with states": (
        [*END, ("Squeeze", "h 0", "s"), ("Concat", "end s", "y", {"axis": 1})],
        r"\(Concat\) concatenates values that no sequential model",
    ),
    "one direction twice": (
        [*FINAL, ("Concat", "s s", "t", {"axis": 1}), ("Relu", "t", "y")],
        "the final state of one direction twice",
    ),
}
OPERATORS = {
    "a convolution": ([("ConvTranspose", "x V", "y")], r"\(ConvTranspose\) is an operator that cannot be represented"),
    "a convolution that does not fit": ([("Conv", "x V", "y")], r"'the Conv' \(Conv\) has weights of shape \(2, 4\)"),
    "a GRU": ([TIME_FIRST, ("GRU", "X W R", "y")], r"'the GRU' \(GRU\) is an operator that cannot be represented"),
    "a normalisation": ([*STEPS, ("LayerNormalization", "z b", "y")], r"has an array of shape \(2,\) for 4 features"),
    "a softmax of steps": ([*STEPS, ("Softmax", "z", "y", {"axis": 0})], r"\(Softmax\) is over another axis"),
    "a custom domain": ([("LSTM", "x", "y", {}, "", "custom")], r"'the LSTM' \(LSTM\) is of the domain 'custom'"),
    "training": ([*STEPS, ("Dropout", "z half yes", "y")], r"\(Dropout\) drops values: .* exported in training mode"),
    "a cast between layers": ([*STEPS, ("Cast", "z", "y", {"to": 11})], "casts from float32 to float64 between"),
    "a cast of the input": (
        [("Cast", "x", "k", {"to": 7}), ("Cast", "k", "y", {"to": 1})],
        "casts an input from int64 to float32",
    ),
    "ids that an LSTM takes": (
        [("Cast", "x", "k", {"to": 7}), ("Transpose", "k", "X", {"perm": [1, 0, 2]}), *LSTM[1:]],
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
        [*STEPS, ("Transpose", "z", "t", {"perm": [1, 2, 0]}), ("MatMul", "t V", "y")],
        r"\(MatMul\) acts on an axis that is not the features",
    ),
    "an LSTM on one vector": (
        [*END, ("Unsqueeze", "end 0", "e"), ("LSTM", "e W4 R", "y", {}, "second")],
        r"'second' \(LSTM\) has an input that is one vector per sequence",
    ),
    "time and batch changed": (
        [*STEPS, ("Transpose", "z", "t", {"perm": [1, 0, 2]}), ("LSTM", "t W4 R", "y")],
        "has time and batch in another place than the LSTM before it",
    ),
    "the sum of all steps": (
        [*STEPS, ("ReduceSum", "z 0", "y")],
        r"\(ReduceSum\) reduces an axis by an operation that no layer has",
    ),
    "the mean of all": ([*STEPS, ("ReduceMean", "z", "y")], r"\(ReduceMean\) reduces all axes to one number"),
    "some of the features": ([*STEPS, ("Slice", "z 1 2 2", "y")], r"\(Slice\) selects a part of an axis of size 4"),
    "some of the input": ([("Slice", "x 1 2 2", "t"), ("Relu", "t", "y")], "acts on a part of an input"),
    "the batch flipped": (
        [("Slice", "x -1 first 0 -1", "t"), ("Transpose", "t", "X", {"perm": [1, 0, 2]}), *LSTM[1:]],
        r"\(LSTM\) has an input whose batch or features are reversed",
    ),
    "an output flipped": ([*STEPS, ("Slice", "z -1 first 0 -1", "y")], "the output 'y' is in reverse order"),
    "steps and features in one axis": (
        [*STEPS, ("Transpose", "z", "t", {"perm": [1, 2, 0]}), ("Flatten", "t", "y")],
        "the output 'y' has steps or sequences and features in one axis",
    ),
    "an axis too long to be squeezed": ([("Squeeze", "x 2", "y")], r"\(Squeeze\) squeezes an axis of size 3"),
    "an order that is none": ([("Transpose", "x", "y", {"perm": [0, 0, 1]})], r"puts 3 axes in the order \[0, 0, 1\]"),
    "an axis that does not exist": (
        [("Gather", "x last", "y", {"axis": 3})],
        r"\(Gather\) has the axis 3 for a value of 3 axes",
    ),
    "an attribute of another type": ([("Transpose", "x", "y", {"perm": 5})], r"\(Transpose\) is invalid"),
    "a shape that does not fit": ([("Reshape", "x 2", "y")], r"\(Reshape\) reshapes .* to 1 axes, which splits"),
}
VALUES = {
    "that nothing gives": ([("Relu", "a", "y")], r"\(Relu\) has the input 'a', which no earlier node computes"),
    "of a circle": (
        [("Relu", "b_", "a_"), ("Relu", "a_", "b_"), ("Relu", "a_", "y")],
        "has the input 'b_', which no earlier node computes",
    ),
    "given twice": ([("Relu", "x", "y")] * 2, r"\(Relu\) has the output 'y', which is already computed"),
    "a constant as output": ([("Identity", "V", "y")], "the output 'y' is not computed from the inputs"),
    "an input as output": ([("Identity", "x", "y")], "the output 'y' is an input"),
    "no output": ([("Relu", "x", "z")], "the output 'y' is not computed from the inputs"),
}
UNSUPPORTED = {**BRANCHES, **OPERATORS, **LSTMS, **AXES, **VALUES}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_graphs_are_errors(importer, graph, tensors, name):
    nodes, message = UNSUPPORTED[name]
    with pytest.raises(ValueError, match=message):
        importer.from_model(graph(nodes, tensors))


def test_two_inputs_are_errors(importer, graph):
    inputs = {"a": ["batch", "time", 1], "b": ["batch", "time", 2]}
    with pytest.raises(ValueError, match=r"'the Concat' \(Concat\) joins inputs; a sequential model has one"):
        importer.from_model(graph([("Concat", "a b", "y", {"axis": 2})], inputs=inputs))
    with pytest.raises(ValueError, match=r"'the Add' \(Add\) adds the outputs of two layers"):
        importer.from_model(graph([("Add", "a b", "y")], inputs=inputs))


@pytest.mark.parametrize("op", ["Loop", "If"])
def test_branches_and_loops_are_errors(onnx, importer, graph, op):
    helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"])], "inner", [], [helper.make_tensor_value_info("z", FLOAT, None)]
    )
    bodies = {"body": inner} if op == "Loop" else {"then_branch": inner, "else_branch": inner}
    reason = (
        "is an operator that cannot be represented"
        if op == "Loop"
        else "needs a constant where its input is missing or computed"
    )
    with pytest.raises(ValueError, match=rf"'the {op}' \({op}\) {reason}"):
        importer.from_model(graph([(op, "x", "y", bodies)]))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ("Y Y2", "the graph has the outputs Y, Y2; expected one, and optional final states"),
        ("Y2 swapped", "the output 'swapped' has final states in an order that cannot be represented"),
        ("Y h2", "the output 'h2' has final states in an order that cannot be represented"),
        ("", "the graph has the outputs none; expected one"),
    ],
)
def test_unsupported_outputs_are_errors(importer, graph, tensors, outputs, message):
    nodes = [*STEPS, ("LSTM", "z W4 R", "Y2 h2"), ("Concat", "h2 h", "swapped", {"axis": 0})]
    with pytest.raises(ValueError, match=message):
        importer.from_model(graph(nodes, tensors, outputs=outputs.split()))


@pytest.mark.parametrize(
    ("h0", "c0", "message"),
    [
        ("s", "s", "the initial states 's' are not in the order of the layers"),
        ("low", "t", "the initial states 's2' are not in the order of the layers"),
        ("x", "t", r"\(LSTM\) has initial states that are not a separate input"),
        ("s", "ones", r"\(LSTM\) has initial states of which one is an input, and the other a constant"),
        ("s2", "t", r"\(LSTM\) has 2 initial states for 1 directions"),
        ("units", "t", r"\(LSTM\) has initial states that are a part of an input, but not whole layers"),
    ],
)
def test_unsupported_initial_states_are_errors(importer, graph, tensors, h0, c0, message):
    inputs = {"x": [2, 5, I], "s": [1, 2, H], "t": [1, 2, H], "s2": [2, 2, H], "s8": [1, 2, 2 * H]}
    parts = [("Slice", "s2 1 2 0", "low"), ("Slice", "s8 0 4 2", "units")]
    with pytest.raises(ValueError, match=message):
        importer.from_model(graph([TIME_FIRST, *parts, ("LSTM", f"X W R . . {h0} {c0}", "y")], tensors, inputs))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (("Gather", "z last", "y"), r"\(Gather\) uses all steps of sequences that have sequence_lens"),
        (
            ("ReduceMean", "z", "y", {"axes": [0]}),
            r"\(ReduceMean\) uses all steps of sequences that have sequence_lens",
        ),
        (("Slice", "z -1 first 0 -1", "y"), r"\(Slice\) reverses sequences that have sequence_lens"),
        (("LSTM", "z W4 R", "y", {}, "second"), r"'second' \(LSTM\) has other sequence_lens than the LSTM before"),
    ],
)
def test_single_steps_of_sequences_with_lengths_are_errors(onnx, importer, graph, tensors, node, message):
    """The graph selects the last step of the array; a layer would select that of each sequence."""
    inputs = {"x": ["batch", "time", I], "n": ["batch"]}
    nodes = [TIME_FIRST, ("LSTM", "X W R . n", "Y h"), ("Squeeze", "Y 1", "z"), node]
    with pytest.raises(ValueError, match=message):
        importer.from_model(graph(nodes, tensors, inputs, types={"n": onnx.TensorProto.INT32}))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Mul", "z t", "y")], "the layer 'affine' depends on the number of steps or sequences"),
        ([("Gather", "z near", "y")], "the layer 'step' depends on the number of steps or sequences"),
        (
            [("Mul", "V t", "Vt"), ("Transpose", "Vt", "tV"), ("MatMul", "z tV", "y")],
            r"the weights 'linear\.weight' depend on the number of steps or sequences",
        ),
    ],
)
def test_dependence_on_dynamic_sizes_is_an_error(importer, graph, tensors, nodes, message):
    """No number of the model may be computed from the size of a dynamic axis."""
    size = [("Shape", "x", "shape"), ("Gather", "shape 1", "T"), ("Cast", "T", "t", {"to": 1})]
    with pytest.raises(ValueError, match=message):
        importer.from_model(graph([*STEPS, *size, *nodes], tensors))


def test_product_that_two_branches_use_keeps_its_bias(importer, graph, tensors):
    """Two nodes add to one product; only the first is an output."""
    tensors |= {"p": np.float32([1, 2]), "q": np.float32([30, 40]), "M": np.ones((H, 2), np.float32)}
    model = importer.from_model(
        graph([*STEPS, ("MatMul", "z M", "m"), ("Add", "m p", "y"), ("Add", "m q", "r")], tensors)
    )
    np.testing.assert_array_equal(model.layers[-1].parameters["bias"], [1, 2])
