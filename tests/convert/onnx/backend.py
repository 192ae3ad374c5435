"""ONNX's backend interface (``onnx.backend.base``) for graphs of LSTM nodes: runs ONNX's conformance tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper
from onnx.backend import base

from glasscell.convert.onnx.operator import INPUTS, OUTPUTS, parse_attributes, run_lstm

CONSTANT_DTYPES = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


class Backend(base.Backend):
    """Run models whose nodes are LSTMs and constants, on the CPU.

    Models with another operator raise a ValueError that names the node. ONNX's runner counts its own
    ``BackendIsNotSupposedToImplementIt`` as a passed test: nothing here raises that.
    """

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Return whether the device is the CPU."""
        return device.split(":", maxsplit=1)[0] == "CPU"

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:  # noqa: ARG003 - ONNX's signature
        """Return whether :meth:`prepare` accepts a valid model."""
        try:
            BackendRep(model.graph)
        except (TypeError, ValueError):
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> "BackendRep":
        """Return the model, ready to run on inputs.

        Raises
        ------
        ValueError
            If a node is neither an LSTM nor a constant, an LSTM has invalid attributes, or the device is not the CPU.
        onnx.checker.ValidationError
            If the model is invalid.
        """
        _check_device(cls, device)
        prepared = BackendRep(model.graph)
        super().prepare(model, device, **kwargs)  # checks the model
        return prepared

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one LSTM node.

        Parameters
        ----------
        node : onnx.NodeProto
        inputs : sequence of array, or mapping of name to array
            In the order of the node's inputs. Inputs with an empty name are None, or left out.
        device, outputs_info, kwargs
            As in ONNX's interface: "CPU", ignored, and ``opset_version``.

        Returns
        -------
        tuple of array
            The outputs that the node names, also available by these names.
        """
        _check_device(cls, device)
        _check_lstm(node)
        super().run_node(node, inputs, device, outputs_info, **kwargs)  # checks the node
        names = list(node.input)
        if isinstance(inputs, Mapping) or len(inputs) != len(names):
            names = [name for name in names if name]
        return _outputs([name for name in node.output if name], _run(node, _by_name(names, inputs)))


class BackendRep(base.BackendRep):
    """A graph of LSTM nodes and constants, ready to run.

    Parameters
    ----------
    graph : onnx.GraphProto
    """

    def __init__(self, graph: GraphProto) -> None:
        if graph.sparse_initializer:
            raise ValueError("the graph has sparse initializers, which are not supported")
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._nodes = [node for node in graph.node if not _is(node, "Constant")]
        for node in graph.node:
            if _is(node, "Constant"):
                self._constants[node.output[0]] = _constant(node)
            else:
                _check_lstm(node)
        self.inputs = [value.name for value in graph.input if value.name not in self._constants]
        self.outputs = [value.name for value in graph.output]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:  # noqa: ARG002 - ONNX's signature
        """Run the graph.

        Parameters
        ----------
        inputs : sequence of array, or mapping of name to array
            The inputs of the graph that have no initializer.

        Returns
        -------
        tuple of array
            The outputs of the graph, also available by their names.
        """
        values: dict[str, Any] = self._constants | _by_name(self.inputs, inputs)
        for node in self._nodes:
            values |= _run(node, values)
        return _outputs(self.outputs, values)


is_compatible, prepare, run_model = Backend.is_compatible, Backend.prepare, Backend.run_model
run_node, supports_device = Backend.run_node, Backend.supports_device


def _check_device(backend: type[Backend], device: str) -> None:
    if not backend.supports_device(device):
        raise ValueError(f"device must be 'CPU', got {device!r}")


def _check_lstm(node: NodeProto) -> None:
    """Raise an error for a node that is not an LSTM, or has invalid attributes."""
    if not _is(node, "LSTM"):
        op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise ValueError(f"{_name(node)} is of the operator {op}; supported are LSTM and Constant")
    if len(node.input) > len(INPUTS) or len(node.output) > len(OUTPUTS):
        raise ValueError(f"{_name(node)} has more inputs or outputs than an LSTM: {[*node.input]}, {[*node.output]}")
    try:
        parse_attributes(_attributes(node))
    except (TypeError, ValueError) as error:
        raise _with_node(node, error) from error


def _is(node: NodeProto, op_type: str) -> bool:
    return node.op_type == op_type and node.domain in ("", "ai.onnx")


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _constant(node: NodeProto) -> NDArray[Any]:
    """Return the value of a Constant node, which has one attribute."""
    attributes = _attributes(node)
    if "value" in attributes:
        return numpy_helper.to_array(attributes["value"])
    for name, dtype in CONSTANT_DTYPES.items():
        if name in attributes:
            return np.asarray(attributes[name], dtype)
    raise ValueError(f"{_name(node)} is a Constant of {', '.join(attributes) or 'nothing'}, which is not supported")


def _run(node: NodeProto, values: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return an LSTM node's outputs by name, from the graph's values by name."""
    inputs = {key: values[name] for key, name in zip(INPUTS, node.input, strict=False) if name}
    try:
        outputs = run_lstm(_attributes(node), inputs)
    except (TypeError, ValueError) as error:
        raise _with_node(node, error) from error
    return {name: outputs[key] for key, name in zip(OUTPUTS, node.output, strict=False) if name}


def _by_name(names: Sequence[str], inputs: Any) -> dict[str, ArrayLike]:
    """Return the inputs by name, if they are complete."""
    if isinstance(inputs, Mapping):
        if set(inputs) != set(names):
            raise ValueError(f"inputs must be {', '.join(names) or 'none'}, got {', '.join(inputs) or 'none'}")
        return dict(inputs)
    if isinstance(inputs, str) or not isinstance(inputs, Sequence):
        raise TypeError(f"inputs must be a list of arrays or a mapping, got {type(inputs).__name__}")
    if len(inputs) != len(names):
        raise ValueError(f"inputs must be {len(names)} arrays, {', '.join(names)}, got {len(inputs)}")
    return dict(zip(names, inputs, strict=True))


def _outputs(names: Sequence[str], values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a tuple whose items are also available by name."""
    return base.namedtupledict("Outputs", names)(*(values[name] for name in names))


def _with_node(node: NodeProto, error: Exception) -> Exception:
    """Return the same error with the node in its message."""
    error_type = TypeError if isinstance(error, TypeError) else ValueError
    return error_type(f"{_name(node)}: {error}")


def _name(node: NodeProto) -> str:
    """Return a node's name for a message; a node without a name is described by its outputs."""
    outputs = ", ".join(filter(None, node.output))
    return f"the node {node.name!r}" if node.name else f"the node with the outputs {outputs}"
