"""Fixtures of the ONNX tests: optional packages, Glasscell's importer and exporter, and LSTM nodes."""

import importlib
import importlib.util
import os
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from glasscell.convert.onnx.operator import INPUTS, OUTPUTS
from glasscell.layers import LSTM, BatchNorm, Embedding, Linear


def import_or_skip(name: str) -> ModuleType:
    """Import a module. If it is missing, skip the test, or fail it with GLASSCELL_REQUIRE_ONNX=1."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its dependencies
            return importlib.import_module(name)
    except ImportError:
        package = name.split(".", maxsplit=1)[0]
        if os.environ.get("GLASSCELL_REQUIRE_ONNX"):
            pytest.fail(f"{package} is not installed, and GLASSCELL_REQUIRE_ONNX is set")
        pytest.skip(f"{package} is not installed: pip install {package}")


@pytest.fixture(scope="session")
def onnx() -> ModuleType:
    return import_or_skip("onnx")


@pytest.fixture(scope="session")
def onnxruntime(onnx) -> ModuleType:
    onnxruntime = import_or_skip("onnxruntime")
    onnxruntime.set_default_logger_severity(4)  # errors are raised as exceptions too
    return onnxruntime


@pytest.fixture(scope="session")
def importer(onnx) -> ModuleType:
    return importlib.import_module("glasscell.convert.onnx.importer.graph")


@pytest.fixture(scope="session")
def exporter(onnx) -> ModuleType:
    return importlib.import_module("glasscell.convert.onnx.exporter.model")


@pytest.fixture(scope="session")
def backend(onnx) -> ModuleType:
    """ONNX's backend interface for models of LSTM nodes, from backend.py in this folder."""
    spec = importlib.util.spec_from_file_location("lstm_backend", Path(__file__).with_name("backend.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def run(onnx, onnxruntime):
    """Return a function that checks a model and returns its outputs in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def run(model, x, lengths=None, **states):
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        feeds = {session.get_inputs()[0].name: x}
        feeds |= {} if lengths is None else {"lengths": np.asarray(lengths, np.int32)}
        return session.run(None, feeds | states)

    return run


@pytest.fixture
def randomize(rng):
    """Return a function that sets a model's parameters and statistics to random numbers."""

    def randomize(model):
        model.parameters.vector[:] = rng.uniform(-0.7, 0.7, model.parameters.vector.size)
        for layer in getattr(model, "layers", ()):
            if isinstance(layer, BatchNorm):
                layer.statistics["running_mean"][:] = rng.normal(size=layer.size)
                layer.statistics["running_var"][:] = rng.uniform(0.2, 2, layer.size)
        return model

    return randomize


@pytest.fixture
def draw_inputs(rng):
    """Return a function that draws inputs (B, T, features), or ids (B, T), of a model."""

    def draw_inputs(model, B=3, T=5):
        layers = getattr(model, "layers", [model])
        if isinstance(layers[0], Embedding):
            return rng.integers(0, layers[0].vocabulary_size, (B, T))
        features = next(layer.input_size for layer in layers if isinstance(layer, LSTM | Linear))
        return rng.standard_normal((B, T, features)).astype(model.dtype)

    return draw_inputs


@pytest.fixture
def draw_states(rng):
    """Return a function that draws initial states h and c of an LSTM."""

    def draw_states(lstm, B):
        shape = (len(lstm.options.directions), B, lstm.hidden_size)
        return [rng.uniform(-0.9, 0.9, shape).astype(np.float32) for _ in "hc"]

    return draw_states


@pytest.fixture
def operands(rng):
    """Return a function that draws all inputs of a node: X (T, N, I) of scale 1, weights and states of scale `size`."""

    def operands(T=5, N=3, I=2, H=4, D=1, size=0.5, dtype=np.float64):
        shapes = {
            "X": (T, N, I),
            "W": (D, 4 * H, I),
            "R": (D, 4 * H, H),
            "B": (D, 8 * H),
            "initial_h": (D, N, H),
            "initial_c": (D, N, H),
            "P": (D, 3 * H),
        }
        arrays = {name: size * rng.standard_normal(shape) for name, shape in shapes.items()}
        return {name: array.astype(dtype) for name, array in (arrays | {"X": arrays["X"] / size}).items()}

    return operands


@pytest.fixture(scope="session")
def model_of(onnx):
    """Return a function that builds a model of one LSTM node; the inputs named in `constants` are initializers."""
    helper = onnx.helper

    def value(name, array, shape):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape)

    def model_of(attributes, inputs, *, outputs=OUTPUTS, constants=(), opset=22):
        names = [name if inputs.get(name) is not None else "" for name in INPUTS]
        while not names[-1]:
            names.pop()
        node = helper.make_node(
            "LSTM", names, [name if name in outputs else "" for name in OUTPUTS], name="an LSTM", **attributes
        )
        graph_inputs = [
            value(name, inputs[name], inputs[name].shape) for name in names if name and name not in constants
        ]
        graph_outputs = [value(name, inputs["X"], [None] * (4 if name == "Y" else 3)) for name in outputs]
        initializers = [onnx.numpy_helper.from_array(inputs[name], name) for name in names if name in constants]
        graph = helper.make_graph([node], "one LSTM", graph_inputs, graph_outputs, initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

    return model_of


@pytest.fixture(scope="session")
def graph(onnx):
    """Return a function that builds a model of nodes, tensors by name, and inputs by name and shape.

    A node is a tuple of its operator, inputs, outputs, attributes, name and domain, the last three optional. Names of
    inputs are separated by spaces; a dot is an omitted input. `rank`: of the outputs, which ONNX's checker requires.
    """
    helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT

    def make_node(op, inputs, outputs, attributes=None, name="", domain=""):
        input_names = ["" if input_name == "." else input_name for input_name in inputs.split()]
        return helper.make_node(op, input_names, outputs.split(), name=name, domain=domain, **(attributes or {}))

    def name_nodes(nodes):
        """Name the first node without a name of each operator: ONNX Runtime requires unique names."""
        first = {node.op_type: node for node in reversed(nodes) if not node.name}
        for op, node in first.items():
            node.name = f"the {op}"
        return nodes

    def graph(nodes, tensors=None, inputs=None, outputs=("y",), opset=17, types=None, rank=None):
        shapes, dtypes = inputs or {"x": ["batch", "time", 3]}, types or {}
        output_shape = None if rank is None else [None] * rank
        model_graph = helper.make_graph(
            name_nodes([make_node(*node) for node in nodes]),
            "graph",
            [helper.make_tensor_value_info(name, dtypes.get(name, FLOAT), shape) for name, shape in shapes.items()],
            [helper.make_tensor_value_info(name, FLOAT, output_shape) for name in outputs],
            [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in (tensors or {}).items()],
        )
        versions = [helper.make_opsetid("", opset), helper.make_opsetid("custom", 1)]
        return helper.make_model(model_graph, opset_imports=versions, ir_version=8)

    return graph


INDICES = {"0": np.array([0]), "1": np.array([1]), "2": np.array([2]), "-1": np.array([-1]), "last": np.array(-1)}
INDICES |= {"first": np.array([-(2**63) + 1]), "4": np.array([4]), "near": np.array(1015), "far": np.array([2**61])}


@pytest.fixture
def lstm_weights(rng):
    """Return a function that draws weights of an LSTM node and of a linear map, and indices."""

    def lstm_weights(D=1, inputs=3, size=4):
        shapes = {"W": (D, 4 * size, inputs), "R": (D, 4 * size, size), "B": (D, 8 * size), "V": (2, size), "b": (2,)}
        return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()} | INDICES

    return lstm_weights
