"""ONNX's interface for what runs models, for graphs of LSTM nodes: ``onnx.backend.base``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper
from onnx.backend import base

from glasscell.convert.onnx.operator import INPUTS, OUTPUTS, run_lstm, settings_of


class Backend(base.Backend):
    """Runs models whose nodes are LSTMs, one or more, and constants, on the CPU.

    A model with another operator is refused with a ValueError that names the node. (ONNX's runner takes its own
    ``BackendIsNotSupposedToImplementIt`` for a test that passed: nothing here raises that.)
    """

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether it is the CPU."""
        return device.split(":", maxsplit=1)[0] == "CPU"

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:  # noqa: ARG003 - ONNX's
        """Whether :meth:`prepare` would take a valid model."""
        try:
            BackendRep(model.graph)
        except (TypeError, ValueError):
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> "BackendRep":
        """The model, ready to be run on inputs.

        Raises
        ------
        ValueError
            If a node is neither an LSTM nor a constant, or an LSTM has attributes that it cannot have, or the device
            is not the CPU.
        onnx.checker.ValidationError
            If the model is not a valid one.
        """
        _check_device(cls, device)
        prepared = BackendRep(model.graph)
        super().prepare(model, device, **kwargs)  # ONNX's own checks
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
            In the order of the node's inputs; those that it omits, whose name is empty, are None or not there.
        device, outputs_info, kwargs
            As in ONNX's interface: "CPU", passed over, and perhaps ``opset_version``.

        Returns
        -------
        tuple of array
            The outputs that the node names, also by these names.
        """
        _check_device(cls, device)
        _check_lstm(node)
        super().run_node(node, inputs, device, outputs_info, **kwargs)  # ONNX's own checks
        names = list(node.input)
        if isinstance(inputs, Mapping) or len(inputs) != len(names):
            names = [name for name in names if name]
        return _outputs([name for name in node.output if name], _run(node, _named(names, inputs)))


class BackendRep(base.BackendRep):
    """A graph of LSTM nodes and constants, ready to be run.

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

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:  # noqa: ARG002 - ONNX's
        """Run the graph.

        Parameters
        ----------
        inputs : sequence of array, or mapping of name to array
            Those of the graph that have no initializer.

        Returns
        -------
        tuple of array
            The outputs of the graph, also by their names.
        """
        values: dict[str, Any] = self._constants | _named(self.inputs, inputs)
        for node in self._nodes:
            values |= _run(node, values)
        return _outputs(self.outputs, values)


is_compatible, prepare, run_model = Backend.is_compatible, Backend.prepare, Backend.run_model
run_node, supports_device = Backend.run_node, Backend.supports_device


def _check_device(backend: type[Backend], device: str) -> None:
    if not backend.supports_device(device):
        raise ValueError(f"device is {device!r}; supported is 'CPU'")


def _check_lstm(node: NodeProto) -> None:
    """Refuse what is not an LSTM node, or has attributes that it cannot have."""
    if not _is(node, "LSTM"):
        op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise ValueError(f"{_name(node)} is of the operator {op}; supported are LSTM and Constant")
    if len(node.input) > len(INPUTS) or len(node.output) > len(OUTPUTS):
        raise ValueError(f"{_name(node)} has more inputs or outputs than an LSTM: {[*node.input]}, {[*node.output]}")
    try:
        settings_of(_attributes(node))
    except (TypeError, ValueError) as error:
        raise _of_node(node, error) from error


def _is(node: NodeProto, op_type: str) -> bool:
    return node.op_type == op_type and node.domain in ("", "ai.onnx")


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _constant(node: NodeProto) -> NDArray[Any]:
    """The value of a Constant node, which has one attribute."""
    attributes = _attributes(node)
    if "value" in attributes:
        return numpy_helper.to_array(attributes["value"])
    for name, dtype in CONSTANTS.items():
        if name in attributes:
            return np.asarray(attributes[name], dtype)
    raise ValueError(f"{_name(node)} is a Constant of {', '.join(attributes) or 'nothing'}, which is not supported")


CONSTANTS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def _run(node: NodeProto, values: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """An LSTM node's outputs by name, from whatever is known by name."""
    inputs = {of: values[name] for of, name in zip(INPUTS, node.input, strict=False) if name}
    try:
        outputs = run_lstm(_attributes(node), inputs)
    except (TypeError, ValueError) as error:
        raise _of_node(node, error) from error
    return {name: outputs[of] for of, name in zip(OUTPUTS, node.output, strict=False) if name}


def _named(names: Sequence[str], inputs: Any) -> dict[str, ArrayLike]:
    """The inputs by name, if they are all there."""
    if isinstance(inputs, Mapping):
        if set(inputs) != set(names):
            raise ValueError(f"the inputs are {', '.join(inputs) or 'none'}; expected {', '.join(names) or 'none'}")
        return dict(inputs)
    if isinstance(inputs, str) or not isinstance(inputs, Sequence):
        raise TypeError(f"inputs must be a list of arrays, or a mapping, and is a {type(inputs).__name__}")
    if len(inputs) != len(names):
        raise ValueError(f"{len(inputs)} inputs were given; expected {len(names)}: {', '.join(names)}")
    return dict(zip(names, inputs, strict=True))


def _outputs(names: Sequence[str], values: Mapping[str, Any]) -> tuple[Any, ...]:
    """A tuple that also knows its parts by name."""
    return base.namedtupledict("Outputs", names)(*(values[name] for name in names))


def _of_node(node: NodeProto, error: Exception) -> Exception:
    """The same error, which says the node."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"{_name(node)}: {error}")


def _name(node: NodeProto) -> str:
    """A node without a name is known by its outputs."""
    outputs = ", ".join(filter(None, node.output))
    return f"the node {node.name!r}" if node.name else f"the node with the outputs {outputs}"
