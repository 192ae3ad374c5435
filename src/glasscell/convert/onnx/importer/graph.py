"""Import ONNX graphs that compute a sequence of layers as a :class:`glasscell.Sequential`.

The graph is traversed once, node by node. Nodes that depend on constants and sizes alone are evaluated; LSTMs, linear
maps and other layers are recorded; operators that move axes change the axes of a symbolic value; any other operator is
an error that names its node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from glasscell.atomic_files import StrPath
from glasscell.convert.onnx.importer.attributes import check_attributes
from glasscell.convert.onnx.importer.build_model import build
from glasscell.convert.onnx.importer.constant_folding import FOLDED, fold
from glasscell.convert.onnx.importer.constants import UnsupportedNode, array_of, require_constant
from glasscell.convert.onnx.importer.elementwise_ops import ELEMENTWISE_HANDLERS
from glasscell.convert.onnx.importer.graph_interface import GraphInterface, input_tensor, resolve_outputs
from glasscell.convert.onnx.importer.layer_ops import LAYER_HANDLERS
from glasscell.convert.onnx.importer.model_file import read_model
from glasscell.convert.onnx.importer.node import (
    NODE_BYTES,
    ONNX_DOMAINS,
    Node,
    module_of,
    node_errors,
    opset_of,
)
from glasscell.convert.onnx.importer.shape_ops import SHAPE_HANDLERS
from glasscell.convert.onnx.importer.symbolic_values import Dim, LayerNode, SymbolicStates
from glasscell.escaping import one_line
from glasscell.limits import MemoryBudget
from glasscell.models.sequential import Sequential

HANDLERS = {**SHAPE_HANDLERS, **LAYER_HANDLERS, **ELEMENTWISE_HANDLERS}

# Kinds of models that the import does not support, by their operators.
UNSUPPORTED_MODELS = {
    "is quantised": {
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"),
        *("QLinearMatMul", "QLinearConv", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "QLinearAdd"),
    },
    "has other recurrent layers than LSTMs": {"GRU", "RNN"},
    "has loops": {"Loop", "Scan"},
}
MAX_BRANCH_DEPTH = 4  # branches in branches

# Sizes for the dynamic axes of two readings: models that depend on such a size differ between them.
PLACEHOLDER_SIZES = ((1009, 10), (1511, 14))


def load(path: StrPath) -> Sequential:
    """Read a model from an ``.onnx`` file.

    The graph must be a sequence of layers: an optional embedding, LSTMs, linear maps, convolutions, normalisations,
    activations, and reductions of a sequence to one vector, with any transposing and reshaping in between, as PyTorch's
    and other exporters write them.

    Parameters
    ----------
    path : path
        Weights may be in other files of the same folder.

    Returns
    -------
    Sequential
        Arrays are (B, T, I), whatever their order in the graph, also where the graph merges both axes or lacks an
        axis of size 1. Initial states and lengths that are inputs of the graph are arguments of the model. Sizes of
        batch and time in the graph do not matter.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, or a node cannot be represented. The message names the node.
    """
    return _load(path)[0]


def interface_of(path: StrPath) -> GraphInterface:
    """Return the further inputs and outputs of the graph in a file that :func:`load` reads."""
    return _load(path)[1]


def from_model(model: onnx.ModelProto) -> Sequential:
    """Return the layers of an ONNX model; see :func:`load`."""
    return _from_model(model)[0]


def _load(path: StrPath) -> tuple[Sequential, GraphInterface]:
    model, budget = read_model(path)
    try:
        return _from_model(model, budget.reserved)
    except ValueError as error:
        raise ValueError(f"{Path(path)}: {one_line(error)}") from None


def _from_model(model: onnx.ModelProto, reserved: int = 0) -> tuple[Sequential, GraphInterface]:
    """Return the layers of a model, and its further inputs and outputs.

    `reserved`: bytes that parsing the file has reserved.
    """
    try:
        readings = [
            _read(model, count(*sizes), reserved) for sizes in PLACEHOLDER_SIZES[: 1 + _has_dynamic_axes(model)]
        ]
        for other, _ in readings[1:]:
            _check_same(readings[0][0], other)
        return readings[0]
    except ValueError as error:
        reason = _unsupported_reason(model)
        raise ValueError(f"{reason}{error}") if reason else error from None


def _unsupported_reason(model: onnx.ModelProto) -> str:
    """Return why the operators of a model are unsupported, or ""."""
    operators = {node.op_type for node in model.graph.node}
    reasons = [
        f"{description} ({', '.join(sorted(operators & unsupported))})"
        for description, unsupported in UNSUPPORTED_MODELS.items()
        if operators & unsupported
    ]
    return f"the model {' and '.join(reasons)}, which the import from ONNX does not support: " if reasons else ""


def _read(model: onnx.ModelProto, placeholder_sizes: Iterator[int], reserved: int) -> tuple[Sequential, GraphInterface]:
    budget = MemoryBudget(model.ByteSize(), UnsupportedNode)
    budget.reserve(reserved)
    reader = _GraphReader(model, placeholder_sizes, budget)
    for node in model.graph.node:
        with node_errors(node):
            reader.read(node)
    last_layer, interface = reader.result()
    return build(last_layer, budget), interface


def _has_dynamic_axes(model: onnx.ModelProto) -> bool:
    return any(dim.dim_value <= 0 for value in model.graph.input for dim in value.type.tensor_type.shape.dim)


def _check_same(model: Sequential, other: Sequential) -> None:
    """Raise an error if the sizes of the inputs change a model."""
    for name, a, b in zip(model.names, model.config["layers"], other.config["layers"], strict=False):
        if a != b:
            raise ValueError(f"the layer {name!r} depends on the number of steps or sequences")
    if len(model.layers) != len(other.layers) or model.parameters.shapes != other.parameters.shapes:
        raise ValueError("the layers depend on the number of steps or sequences")
    for name, array in model.parameters.items():
        if not np.array_equal(array, other.parameters[name]):
            raise ValueError(f"the weights {name!r} depend on the number of steps or sequences")


class _GraphReader:
    """The values of a graph, by name, as its nodes are read in order."""

    def __init__(self, model: onnx.ModelProto, placeholder_sizes: Iterator[int], budget: MemoryBudget) -> None:
        graph = self.graph = model.graph
        self.budget = budget
        if graph.sparse_initializer:
            raise ValueError("the graph has sparse initializers, which cannot be represented")
        if any(function.domain in ONNX_DOMAINS for function in model.functions):
            raise ValueError("the model has functions in place of ONNX's operators")
        self.opset = opset_of(model)
        self.values: dict[str, Any] = {"": None}  # constants, symbolic values, intermediate functions, or None
        self.inputs: list[str] = []
        self.branch_depth = 0
        for tensor in graph.initializer:
            if tensor.name in self.values:
                raise ValueError(f"two tensors have the name {tensor.name!r}")
            self.values[tensor.name] = array_of(tensor)
        named_dims: dict[str, Dim] = {}
        for value in graph.input:
            if value.name not in self.values:  # old files list initializers as inputs too
                self.values[value.name] = input_tensor(value, named_dims, placeholder_sizes)
                self.inputs.append(value.name)

    def read(self, node: onnx.NodeProto) -> None:
        """Add the outputs of a node to the values."""
        if node.domain not in ONNX_DOMAINS:
            raise UnsupportedNode(f"is of the domain {node.domain!r}, which cannot be represented")
        for name in node.input:
            if name not in self.values:
                raise UnsupportedNode(f"has the input {name!r}, which no earlier node computes")
        for name in node.output:
            if name and name in self.values:
                raise UnsupportedNode(f"has the output {name!r}, which is already computed")
        self.budget.reserve(NODE_BYTES)
        inputs = [self.values[name] for name in node.input]
        outputs = self._outputs(node, inputs, {a.name: helper.get_attribute_value(a) for a in node.attribute})
        self.values |= {name: value for name, value in zip(node.output, outputs, strict=False) if name}

    def _outputs(self, node: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Any]:
        op = node.op_type
        if op in HANDLERS or op in FOLDED:
            check_attributes(op, attributes)
        if op == "If":
            return self._branch(node, inputs, attributes)
        if op in FOLDED and all(value is None or isinstance(value, np.ndarray) for value in inputs):
            return [*fold(node, inputs, attributes, self.budget)]
        if op == "Shape":
            return [np.array(inputs[0].shape, np.int64)[slice(attributes.get("start"), attributes.get("end"))]]
        if op == "Size":
            return [np.array(prod(inputs[0].shape), np.int64)]
        if op not in HANDLERS:
            raise UnsupportedNode("is an operator that cannot be represented in a sequential model")
        module = module_of(node)
        outputs = HANDLERS[op](
            Node(op, inputs, node.input, attributes, module, len(node.output), self.opset, self.budget)
        )
        if isinstance(outputs, SymbolicStates) and outputs.name != module:
            is_vector = isinstance(inputs[0], SymbolicStates) and inputs[0].name and len(inputs[0].axes) == 2
            outputs = replace(outputs, name=inputs[0].name if is_vector else module)
        return outputs if isinstance(outputs, list) else [outputs]

    def _branch(self, node: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Any]:
        """Return the outputs of an If whose condition is constant, such as that of squeezing a dynamic axis."""
        condition = require_constant(inputs[0])
        if condition.size != 1:
            raise UnsupportedNode(f"has a condition of shape {condition.shape}")
        branch = attributes["then_branch" if condition.item() else "else_branch"]
        self.branch_depth += 1
        if self.branch_depth > MAX_BRANCH_DEPTH:
            raise UnsupportedNode(f"has branches nested deeper than {MAX_BRANCH_DEPTH}")
        for tensor in branch.initializer:
            self.values[tensor.name] = array_of(tensor)
        for inner in branch.node:
            self.read(inner)
        self.branch_depth -= 1
        if len(branch.output) != len(node.output):
            raise UnsupportedNode(f"has branches of {len(branch.output)} outputs")
        return [self.values.get(value.name) for value in branch.output]

    def result(self) -> tuple[LayerNode, GraphInterface]:
        """Return the last layer before the output of the graph, and the further inputs and outputs."""
        return resolve_outputs({value.name: self.values.get(value.name) for value in self.graph.output}, self.inputs)
