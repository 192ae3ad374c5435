"""Law: ONNX's conformance tests of LSTM pass, and models with other operators raise errors that name the node."""

import importlib
import unittest
import warnings

import numpy as np
import pytest

from glasscell.convert.onnx import run_lstm
from glasscell.convert.onnx.operator import OUTPUTS

LSTM_TESTS = ["batchwise", "bidirectional", "defaults", "reverse", "with_initial_bias", "with_peepholes"]


@pytest.fixture(scope="module")
def make_runner(onnx, backend):
    """Return a function that creates ONNX's runner of backend tests.

    The runner computes the expected outputs of all operators when it is created, which takes half a minute: here only
    those of LSTM.
    """
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        tests = importlib.import_module("onnx.backend.test")
        loader = importlib.import_module("onnx.backend.test.loader")
        patch.setattr(loader, "import_recursive", lambda package: importlib.import_module(f"{package.__name__}.lstm"))
        yield lambda: tests.BackendTest(backend, __name__)


@pytest.fixture
def ran(backend, monkeypatch):
    """Record the calls of `run_lstm`."""
    calls = []

    def record(*arguments):
        calls.append(arguments)
        return run_lstm(*arguments)

    monkeypatch.setattr(backend, "run_lstm", record)
    return calls


def result_of(case):
    """Return unittest's result of one test."""
    result = unittest.TestResult()
    case.run(result)
    assert result.testsRun == 1
    return result


# ONNX's conformance tests


def test_all_lstm_tests_are_listed(make_runner):
    """ONNX's module of test cases exports as many; the runner has each for the CPU and for CUDA."""
    cases = importlib.import_module("onnx.backend.test.case.node.lstm")
    exports = [name for name in vars(cases.LSTM) if name.startswith("export")]
    names = {
        name for name in vars(make_runner().test_cases["OnnxBackendNodeModelTest"]) if name.startswith("test_lstm")
    }
    assert len(exports) == len(LSTM_TESTS) >= 6
    assert names == {f"test_lstm_{name}_{device}" for name in LSTM_TESTS for device in ("cpu", "cuda")}


@pytest.mark.parametrize("name", LSTM_TESTS)
def test_conformance_test_passes(name, make_runner, ran):
    tests = make_runner().include("test_lstm").test_cases["OnnxBackendNodeModelTest"]
    result = result_of(tests(f"test_lstm_{name}_cpu"))
    assert not result.errors
    assert not result.failures
    assert not result.skipped
    assert len(ran) == 1
    [(_, reason)] = result_of(tests(f"test_lstm_{name}_cuda")).skipped
    assert reason == "Backend doesn't support device CUDA"
    assert len(ran) == 1


def test_conformance_tests_fail_on_wrong_numbers(make_runner, backend, monkeypatch):
    monkeypatch.setattr(backend, "run_lstm", lambda *a: {name: -array for name, array in run_lstm(*a).items()})
    tests = make_runner().include("test_lstm").test_cases["OnnxBackendNodeModelTest"]
    assert result_of(tests("test_lstm_reverse_cpu")).failures


def test_conformance_tests_of_other_models_are_skipped(make_runner, ran):
    """The runner checks the compatibility of models that it reads from files."""
    tests = make_runner().test_cases["OnnxBackendPyTorchOperatorModelTest"]
    names = [name for name in vars(tests) if name.startswith("test_") and name.endswith("_cpu")]
    assert len(names) > 20
    for name in names:
        [(_, reason)] = result_of(tests(name)).skipped
        assert reason == "Not compatible with backend"
    assert not ran


# Models and nodes


def assert_same(outputs, expected):
    assert len(outputs) == len(expected)
    for output, reference in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(output, reference)


def test_model_of_one_node(operands, model_of, backend):
    a = operands(dtype=np.float32)
    model = model_of({"hidden_size": 4, "clip": 0.5}, a, constants=("W", "R", "P"))
    expected = [*run_lstm({"clip": 0.5}, a).values()]
    names = ["X", "B", "initial_h", "initial_c"]
    prepared = backend.prepare(model)
    assert prepared.inputs == names
    assert prepared.outputs == [*OUTPUTS]
    for outputs in (
        prepared.run([a[name] for name in names]),
        prepared.run({name: a[name] for name in names}),
        backend.run_model(model, tuple(a[name] for name in names)),
        backend.Backend.run_model(model, [a[name] for name in names], "CPU"),
    ):
        assert isinstance(outputs, tuple)
        assert_same(outputs, expected)
        np.testing.assert_array_equal(outputs["Y_h"], expected[1])


def test_constants_may_be_listed_as_inputs(onnx, operands, model_of, backend):
    """Files of IR version 3 and earlier do so."""
    a = operands(dtype=np.float32)
    model = model_of({"hidden_size": 4}, a, constants=("W", "R", "B"))
    listed = model_of({"hidden_size": 4}, a)
    del model.graph.input[:]
    model.graph.input.extend(listed.graph.input)
    prepared = backend.prepare(model)
    assert prepared.inputs == ["X", "initial_h", "initial_c", "P"]
    assert_same(prepared.run([a[name] for name in prepared.inputs]), [*run_lstm({}, a).values()])


@pytest.fixture
def encoder_decoder(onnx, operands):
    """Return a model of an encoder and a decoder, its inputs, and its expected outputs.

    The encoder's final state is the decoder's initial state. Weights are Constant nodes, the encoder's W is an input.
    """
    helper = onnx.helper
    first, second = (operands(T, 3, 2, 4, dtype=np.float32) for T in (5, 6))
    lens = np.array([5, 2, 0], np.int32)
    nodes = [
        helper.make_node("Constant", [], [f"{name}_{k}"], value=onnx.numpy_helper.from_array(a[name]))
        for k, a in [(1, first), (2, second)]
        for name in ("W", "R", "B")
        if (name, k) != ("W", 1)
    ]
    nodes.append(helper.make_node("Constant", [], ["lens_64"], value_ints=lens.tolist()))
    nodes.append(helper.make_node("LSTM", ["X", "W_1", "R_1", "B_1", "lens"], ["", "h", "c"], "encoder", hidden_size=4))
    nodes.append(
        helper.make_node(
            "LSTM", ["X_2", "W_2", "R_2", "B_2", "", "h", "c"], ["Y"], "decoder", hidden_size=4, direction="reverse"
        )
    )
    inputs = [helper.make_tensor_value_info(name, 1, [None] * 3) for name in ("X", "X_2", "W_1")]
    outputs = [
        helper.make_tensor_value_info(*info)
        for info in [("Y", 1, [None] * 4), ("c", 1, [None] * 3), ("lens_64", 7, [3])]
    ]
    graph = helper.make_graph(
        nodes, "encoder and decoder", inputs, outputs, [onnx.numpy_helper.from_array(lens, "lens")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=8)
    weights = ("X", "W", "R", "B")
    encoded = run_lstm({}, {name: first[name] for name in weights} | {"sequence_lens": lens})
    states = {"initial_h": encoded["Y_h"], "initial_c": encoded["Y_c"]}
    decoded = run_lstm({"direction": "reverse"}, {name: second[name] for name in weights} | states)
    return model, [first["X"], second["X"], first["W"]], [decoded["Y"], encoded["Y_c"], lens]


def test_model_of_two_nodes(encoder_decoder, backend, ran):
    model, inputs, expected = encoder_decoder
    assert backend.is_compatible(model)
    prepared = backend.prepare(model)
    for _ in range(2):
        assert_same(prepared.run(inputs), expected)
    assert len(ran) == 4


def test_model_of_two_nodes_equals_onnxruntime(encoder_decoder, onnxruntime):
    model, inputs, expected = encoder_decoder
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(None, dict(zip(("X", "X_2", "W_1"), inputs, strict=True)))
    # a sequence of length 0 has a zero state in onnxruntime, and here without an initial state
    for reference, output in zip(expected, outputs, strict=True):
        np.testing.assert_allclose(reference, output, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("attribute", "value", "dtype"),
    [("value_float", 0.5, np.float32), ("value_floats", [0.5, 2], np.float32), ("value_int", 3, np.int64)],
)
def test_constants_of_other_attributes(attribute, value, dtype, onnx, backend):
    node = onnx.helper.make_node("Constant", [], ["constant"], **{attribute: value})
    graph = onnx.helper.make_graph([node], "g", [], [onnx.helper.make_tensor_value_info("constant", 1, None)])
    [constant] = backend.BackendRep(graph).run([])
    assert constant.dtype == dtype
    np.testing.assert_array_equal(constant, value)


def test_single_node(onnx, operands, backend):
    a = operands() | {"sequence_lens": np.array([5, 0, 3], np.int32)}
    expected = run_lstm({"direction": "reverse"}, {name: a[name] for name in ("X", "W", "R", "P")})
    names = ["x", "w", "r", "", "", "", "", "p"]
    node = onnx.helper.make_node("LSTM", names, ["", "last", "cell"], direction="reverse", hidden_size=4)
    values = [a["X"], a["W"], a["R"], a["P"]]
    all_inputs = [*values[:3], None, None, None, None, a["P"]]
    named = dict(zip(["x", "w", "r", "p"], values, strict=True))
    for inputs in (values, all_inputs, named):
        outputs = backend.run_node(node, inputs)
        assert_same(outputs, [expected["Y_h"], expected["Y_c"]])
        np.testing.assert_array_equal(outputs["cell"], expected["Y_c"])
    assert_same(backend.run_node(node, values, opset_version=14), [expected["Y_h"], expected["Y_c"]])


# Errors


def test_cpu_is_the_only_device(backend, operands, model_of):
    assert backend.supports_device("CPU")
    assert backend.supports_device("CPU:0")
    assert not backend.supports_device("CUDA")
    model = model_of({"hidden_size": 4}, operands())
    assert backend.is_compatible(model, "CPU")
    assert not backend.is_compatible(model, "CUDA")
    with pytest.raises(ValueError, match="device must be 'CPU', got 'CUDA'"):
        backend.prepare(model, "CUDA")
    with pytest.raises(ValueError, match="device must be 'CPU', got 'CUDA:1'"):
        backend.run_node(model.graph.node[0], [], "CUDA:1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "squash"}, "the node 'squash' is of the operator Relu; supported are LSTM and Constant"),
        ({}, "the node with the outputs y is of the operator Relu"),
        ({"domain": "com.example"}, "the node with the outputs y is of the operator com.example.Relu"),
    ],
)
def test_other_operators_are_errors(options, message, onnx, backend):
    helper = onnx.helper
    node = helper.make_node("Relu", ["x"], ["y"], **options)
    x, y = (helper.make_tensor_value_info(name, 1, [2]) for name in "xy")
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]))
    assert not backend.is_compatible(model)
    with pytest.raises(ValueError, match=message):
        backend.prepare(model)
    with pytest.raises(ValueError, match=message):
        backend.run_node(node, [np.zeros(2)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": 2}, "the node 'an LSTM': layout must be one of 0, 1, got 2"),
        ({"activations": ["Cosh"] * 3}, "the node 'an LSTM': activations: there is no activation 'Cosh'"),
        ({"output_sequence": 1}, "the node 'an LSTM': attributes must be among .*, got 'output_sequence'"),
    ],
)
def test_invalid_attributes_are_errors(change, message, operands, model_of, backend):
    model = model_of({"hidden_size": 4} | change, operands())
    assert not backend.is_compatible(model)
    with pytest.raises(ValueError, match=message):
        backend.prepare(model)
    with pytest.raises(ValueError, match=message):
        backend.run_node(model.graph.node[0], [])


def test_other_domains_and_numbers_of_outputs_are_errors(onnx, operands, model_of, backend):
    model = model_of({"hidden_size": 4}, operands())
    model.graph.node[0].domain = "com.example"
    assert not backend.is_compatible(model)
    model.graph.node[0].domain = ""
    assert backend.is_compatible(model)
    model.graph.node[0].output.append("more")
    with pytest.raises(ValueError, match="the node 'an LSTM' has more inputs or outputs than an LSTM"):
        backend.prepare(model)


def test_constants_that_are_not_arrays_are_errors(onnx, backend):
    helper = onnx.helper
    node = helper.make_node("Constant", [], ["text"], "message", value_string="abc")
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("text", 8, None)])
    with pytest.raises(ValueError, match="the node 'message' is a Constant of value_string, which is not supported"):
        backend.prepare(helper.make_model(graph))
    graph = helper.make_graph([], "g", [], [])
    values = helper.make_tensor("sparse", 1, [1], [1.0])
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, helper.make_tensor("at", 7, [1], [0]), [3]))
    with pytest.raises(ValueError, match="sparse initializers"):
        backend.prepare(helper.make_model(graph))


def test_invalid_models_are_errors(onnx, operands, model_of, backend):
    model = model_of({"hidden_size": 4}, operands())
    model.graph.node[0].input[1] = "nowhere"
    with pytest.raises(onnx.checker.ValidationError, match="nowhere"):
        backend.prepare(model)


def test_invalid_nodes_are_errors(onnx, operands, backend):
    node = onnx.helper.make_node("LSTM", ["x", "w"], ["y"])
    with pytest.raises(onnx.checker.ValidationError, match="input size 2 not in range"):
        backend.run_node(node, [operands()["X"], operands()["W"]])


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([], ValueError, "inputs must be 2 arrays, X, B, got 0"),
        ([0, 0, 0], ValueError, "inputs must be 2 arrays, X, B, got 3"),
        ({}, ValueError, "inputs must be X, B, got none"),
        ({"X": 0, "b": 0}, ValueError, "inputs must be X, B, got X, b"),
        (np.zeros((2, 3)), TypeError, "inputs must be a list of arrays or a mapping, got ndarray"),
        ("XB", TypeError, "inputs must be a list of arrays or a mapping, got str"),
        ([np.zeros((5, 3)), None], ValueError, r"the node 'an LSTM': X must have shape \(T, N, I\), got \(5, 3\)"),
        (["X", None], TypeError, "the node 'an LSTM': X must be float16, float32 or float64"),
    ],
)
def test_invalid_inputs_are_errors(inputs, error, message, operands, model_of, backend):
    a = {name: array for name, array in operands().items() if name in ("X", "W", "R", "B")}
    prepared = backend.prepare(model_of({"hidden_size": 4}, a, constants=("W", "R")))
    with pytest.raises(error, match=message):
        prepared.run(inputs)
