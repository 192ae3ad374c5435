"""What the tests of ONNX share: its packages where they are, and nodes of its LSTM operator."""

import importlib
import importlib.util
import os
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from glasscell.convert.onnx.operator import INPUTS, OUTPUTS


def imported(name: str) -> ModuleType:
    """The module, or a skipped test; with GLASSCELL_REQUIRE_ONNX=1, or a failed one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages beneath it, while they are imported
            return importlib.import_module(name)
    except ImportError:
        package = name.split(".", maxsplit=1)[0]
        if os.environ.get("GLASSCELL_REQUIRE_ONNX"):
            pytest.fail(f"{package} is not installed, and GLASSCELL_REQUIRE_ONNX is set")
        pytest.skip(f"{package} is not installed: pip install {package}")


@pytest.fixture(scope="session")
def onnx() -> ModuleType:
    return imported("onnx")


@pytest.fixture(scope="session")
def onnxruntime(onnx) -> ModuleType:
    onnxruntime = imported("onnxruntime")
    onnxruntime.set_default_logger_severity(4)  # what it refuses it says in an exception
    return onnxruntime


@pytest.fixture(scope="session")
def backend(onnx) -> ModuleType:
    """ONNX's interface of backends, for models of LSTM nodes: backend.py in this folder."""
    spec = importlib.util.spec_from_file_location("lstm_backend", Path(__file__).with_name("backend.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def operands(rng):
    """Makes all inputs of a node: X (T, N, I) of size 1, and weights and states of a smaller size."""

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
        drawn = {name: size * rng.standard_normal(shape) for name, shape in shapes.items()}
        return {name: array.astype(dtype) for name, array in (drawn | {"X": drawn["X"] / size}).items()}

    return operands


@pytest.fixture(scope="session")
def model_of(onnx):
    """Makes a model of one LSTM node, with the inputs in `constants` inside it."""
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
        fed = [value(name, inputs[name], inputs[name].shape) for name in names if name and name not in constants]
        given = [value(name, inputs["X"], [None] * (4 if name == "Y" else 3)) for name in outputs]
        inside = [onnx.numpy_helper.from_array(inputs[name], name) for name in names if name in constants]
        graph = helper.make_graph([node], "one LSTM", fed, given, inside)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

    return model_of
