"""Whole graphs of ONNX: one that is a chain of layers becomes a :class:`glasscell.Sequential`.

The graph is walked once, node by node. What depends on constants and sizes alone is computed; what an LSTM or a linear
map does becomes a layer; what moves axes about is kept account of in ``views``; anything else is refused by the name of
its node.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper

from glasscell.atomic_files import StrPath
from glasscell.convert.onnx.importer.attributes import check_attributes
from glasscell.convert.onnx.importer.build_model import build, check_all_states, check_starts
from glasscell.convert.onnx.importer.constant_folding import FOLDED, fold
from glasscell.convert.onnx.importer.constants import MAX_AXES, UnsupportedNode, array_of, dtype_of, require_constant
from glasscell.convert.onnx.importer.elementwise_ops import FUNCTIONS
from glasscell.convert.onnx.importer.layer_ops import LAYERS, flattened
from glasscell.convert.onnx.importer.layer_specs import EmbeddingSpec
from glasscell.convert.onnx.importer.model_file import read_model
from glasscell.convert.onnx.importer.node import Node
from glasscell.convert.onnx.importer.selection import as_features
from glasscell.convert.onnx.importer.shape_ops import MOVES
from glasscell.convert.onnx.importer.symbolic_values import (
    Dim,
    LayerNode,
    SymbolicStates,
    SymbolicTensor,
    layers_up_to,
    without_unit_dims,
)
from glasscell.escaping import one_line
from glasscell.layers import Squeeze, Unsqueeze
from glasscell.limits import MemoryBudget
from glasscell.models.sequential import Sequential

STANDARD = ("", "ai.onnx")
OLDEST = 7  # the version of the operators since which they broadcast, and LSTM is as it is

Known = Any  # a Constant, a Value, a part of a function, or None
OPERATORS = {**MOVES, **LAYERS, **FUNCTIONS}

# Operators that no layer here has.
NO_CHAIN = {
    "is quantised": {
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"),
        *("QLinearMatMul", "QLinearConv", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "QLinearAdd"),
    },
    "has another recurrent layer than an LSTM": {"GRU", "RNN"},
    "has loops": {"Loop", "Scan"},
}
DEEPEST = 4  # branches in branches
NODE_BYTES = 1024  # memory for what is known of a node

# Sizes of axes that a file leaves open, in two readings: where they end up in the model, the readings differ.
OPEN_SIZES = ((1009, 10), (1511, 14))


class GraphInterface(NamedTuple):
    """Inputs and outputs of a graph, other than those of the model, by name."""

    starts: list[str]  # inputs that are initial states
    inputs: list[str]  # other ones: numbers of steps
    finals: list[str]  # outputs that are final states


def load(path: StrPath) -> Sequential:
    """Read a model from an ``.onnx`` file.

    Read are graphs that are one chain: perhaps an embedding, LSTMs, then linear maps, activations, and what makes one
    vector of a sequence, with any transposing and reshaping in between, as PyTorch's exporters and others write them.

    Parameters
    ----------
    path : path
        Its weights may be in other files of its folder.

    Returns
    -------
    Sequential
        Arrays are (B, T, I), whatever their order in the graph, also where that gives both axes as one or without an
        axis of size 1. Initial states and numbers of steps that are inputs of the graph are arguments here; sizes that
        it was exported with do not matter.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is damaged, or a node cannot be represented, by name.
    """
    return _loaded(path)[0]


def interface_of(path: StrPath) -> GraphInterface:
    """What else the graph in a file takes and gives that :func:`load` reads."""
    return _loaded(path)[1]


def from_model(model: onnx.ModelProto) -> Sequential:
    """The chain of layers that a model is; see :func:`load`."""
    return _from_model(model)[0]


def _loaded(path: StrPath) -> tuple[Sequential, GraphInterface]:
    model, budget = read_model(path)
    try:
        return _from_model(model, budget.reserved)
    except ValueError as error:
        raise ValueError(f"{Path(path)}: {one_line(error)}") from None


def _from_model(model: onnx.ModelProto, reserved: int = 0) -> tuple[Sequential, GraphInterface]:
    """The model, and what else it takes and gives; `reserved` bytes are taken by its messages."""
    try:
        return _of_readings(model, reserved)
    except ValueError as error:
        what = _what(model)
        raise ValueError(f"{what}{error}") if what else error from None


def _what(model: onnx.ModelProto) -> str:
    """What a model is that no chain of layers can be, by its operators."""
    operators = {node.op_type for node in model.graph.node}
    kinds = [f"{what} ({', '.join(sorted(operators & of))})" for what, of in NO_CHAIN.items() if operators & of]
    return f"the model {' and '.join(kinds)}, which cannot be represented: " if kinds else ""


def _of_readings(model: onnx.ModelProto, reserved: int) -> tuple[Sequential, GraphInterface]:
    readings = [_read(model, count(*sizes), reserved) for sizes in OPEN_SIZES[: 1 + _has_open_sizes(model)]]
    for other, _ in readings[1:]:
        _check_same(readings[0][0], other)
    return readings[0]


def _read(model: onnx.ModelProto, open_sizes: Iterator[int], reserved: int) -> tuple[Sequential, GraphInterface]:
    budget = MemoryBudget(model.ByteSize(), UnsupportedNode)
    budget.reserve(reserved)
    reader = _Reader(model, open_sizes, budget)
    for node in model.graph.node:
        _run(reader, node)
    last, others = reader.result()
    return build(last, budget), others


def _run(reader: _Reader, node: onnx.NodeProto) -> None:
    """Enter what a node gives; what is wrong with it is said with its name."""
    try:
        reader.run(node)
    except UnsupportedNode as refusal:
        raise ValueError(f"the node {name_of(node)} {refusal}") from None
    except MemoryError:
        raise ValueError(f"the node {name_of(node)} needs more memory than there is") from None
    except Exception as error:  # noqa: BLE001 - attributes of any type, shapes that do not fit
        raise ValueError(f"the node {name_of(node)} does not fit together: {error}") from None


def name_of(node: onnx.NodeProto) -> str:
    return f"{(node.name or ', '.join(node.output))[:200]!r} ({node.op_type[:100]})"


def _has_open_sizes(model: onnx.ModelProto) -> bool:
    return any(dim.dim_value <= 0 for value in model.graph.input for dim in value.type.tensor_type.shape.dim)


def _check_same(one: Sequential, other: Sequential) -> None:
    """Refuse a model that is another one for other sizes of the inputs."""
    for name, a, b in zip(one.names, one.config["layers"], other.config["layers"], strict=False):
        if a != b:
            raise ValueError(f"the layer {name!r} depends on how many steps or sequences there are")
    if len(one.layers) != len(other.layers) or one.parameters.shapes != other.parameters.shapes:
        raise ValueError("which layers there are depends on how many steps or sequences there are")
    for name, array in one.parameters.items():
        if not np.array_equal(array, other.parameters[name]):
            raise ValueError(f"the weights {name!r} depend on how many steps or sequences there are")


class _Reader:
    """What is known of each value of the graph so far."""

    def __init__(self, model: onnx.ModelProto, open_sizes: Iterator[int], budget: MemoryBudget) -> None:
        graph = self.graph = model.graph
        self.budget = budget
        if graph.sparse_initializer:
            raise ValueError("the graph has sparse initializers, which cannot be represented")
        if any(function.domain in STANDARD for function in model.functions):
            raise ValueError("the model has functions in the place of ONNX's operators")
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in STANDARD), 0)
        if self.opset < OLDEST:
            raise ValueError(f"the model is for version {self.opset} of ONNX's operators; read are {OLDEST} and later")
        self.values: dict[str, Known] = {"": None}
        for tensor in graph.initializer:
            if tensor.name in self.values:
                raise ValueError(f"there are two tensors {tensor.name!r}")
            self.values[tensor.name] = array_of(tensor)
        named: dict[str, Dim] = {}
        self.inputs: list[str] = []
        self.depth = 0
        for value in graph.input:
            if value.name not in self.values:  # old files list initializers as inputs too
                self.values[value.name] = _input(value, named, open_sizes)
                self.inputs.append(value.name)

    def run(self, node: onnx.NodeProto) -> None:
        """Enter what a node gives."""
        if node.domain not in STANDARD:
            raise UnsupportedNode(f"is of the domain {node.domain!r}, which cannot be represented")
        for name in node.input:
            if name not in self.values:
                raise UnsupportedNode(f"needs a value {name!r} that nothing gives before it")
        for name in node.output:
            if name and name in self.values:
                raise UnsupportedNode(f"gives a value {name!r} that there is already")
        self.budget.reserve(NODE_BYTES)
        inputs = [self.values[name] for name in node.input]
        outputs = self._outputs(node, inputs, {a.name: helper.get_attribute_value(a) for a in node.attribute})
        self.values |= {name: value for name, value in zip(node.output, outputs, strict=False) if name}

    def _outputs(self, node: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Any]:
        op = node.op_type
        if op in OPERATORS or op in FOLDED:
            check_attributes(op, attributes)
        if op == "If":
            return self._branch(node, inputs, attributes)
        computed = any(value is not None and not isinstance(value, np.ndarray) for value in inputs)
        if op in FOLDED and not computed:
            return [*fold(node, inputs, attributes, self.budget)]
        if op == "Shape":
            return [np.array(inputs[0].shape, np.int64)[slice(attributes.get("start"), attributes.get("end"))]]
        if op == "Size":
            return [np.array(prod(inputs[0].shape), np.int64)]
        if op not in OPERATORS:
            raise UnsupportedNode("is an operator that cannot be represented in a chain of layers")
        module = module_of(node)
        given = Node(op, inputs, node.input, attributes, module, len(node.output), self.opset, self.budget)
        outputs = OPERATORS[op](given)
        if isinstance(outputs, SymbolicStates) and outputs.name != module:
            complete = isinstance(inputs[0], SymbolicStates) and inputs[0].name and len(inputs[0].axes) == 2
            outputs = replace(outputs, name=inputs[0].name if complete else module)
        return outputs if isinstance(outputs, list) else [outputs]

    def _branch(self, node: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Any]:
        """What the branch of an If gives whose condition is known, as that of a squeeze of an axis of open size."""
        condition = require_constant(inputs[0])
        if condition.size != 1:
            raise UnsupportedNode(f"has a condition of shape {condition.shape}")
        branch = attributes["then_branch" if condition.item() else "else_branch"]
        self.depth += 1
        if self.depth > DEEPEST:
            raise UnsupportedNode("has branches in branches in branches")
        for tensor in branch.initializer:
            self.values[tensor.name] = array_of(tensor)
        for inside in branch.node:
            self.run(inside)
        self.depth -= 1
        if len(branch.output) != len(node.output):
            raise UnsupportedNode(f"has branches of {len(branch.output)} outputs")
        return [self.values.get(value.name) for value in branch.output]

    def result(self) -> tuple[LayerNode, GraphInterface]:
        """Return the last layer before the output of the graph, and the other inputs and outputs."""
        outputs = {value.name: self.values.get(value.name) for value in self.graph.output}
        views: dict[str, SymbolicTensor] = {}
        states: dict[str, SymbolicStates] = {}
        for name, value in outputs.items():
            if isinstance(value, SymbolicTensor):
                views[name] = value
            elif isinstance(value, SymbolicStates):
                states[name] = value
            elif value is None or isinstance(value, np.ndarray):
                raise ValueError(f"the output {name!r} is not computed from the inputs")
            else:
                raise ValueError(f"the output {name!r} is a part of a function that is no layer")
        if not views and states:
            views, states = _of_states(states)
        if len(views) != 1:
            names = ", ".join(outputs) or "none"
            raise ValueError(f"the graph has the outputs {names}; expected one, and perhaps final states")
        [(name, view)] = views.items()
        view = _squeezed(_with_unsqueeze(_flat(view)))
        _check_output(name, view)
        links = layers_up_to(view.link)
        for other, value in states.items():
            check_all_states(other, value, links)
        starts = check_starts(links, view.source)
        rest = [name for name in self.inputs if name not in (view.source, *starts)]
        assert view.link is not None  # or it would be refused  # noqa: S101
        return view.link, GraphInterface(starts, rest, list(states))


def _input(value: onnx.ValueInfoProto, named: dict[str, Dim], open_sizes: Iterator[int]) -> SymbolicTensor:
    """An input of the graph; an axis whose size is open has an unlikely one."""
    tensor = value.type.tensor_type
    if len(tensor.shape.dim) > MAX_AXES:
        raise ValueError(f"the input {value.name!r} has {len(tensor.shape.dim)} axes")
    axes = []
    for dim in tensor.shape.dim:
        if dim.dim_value > 0:
            atom = Dim(dim.dim_value)
        elif dim.dim_param in named:
            atom = Dim(named[dim.dim_param].size, open=True)
        else:
            atom = Dim(next(open_sizes), open=True)
        if dim.dim_param:
            named.setdefault(dim.dim_param, atom)
        axes.append((atom,))
    try:
        dtype = dtype_of(tensor.elem_type)
    except KeyError:
        raise ValueError(f"the input {value.name!r} is no tensor of a known type") from None
    return SymbolicTensor(None, tuple(axes), (), value.name, dtype)


def module_of(node: onnx.NodeProto) -> str:
    """Return the module that a node comes from: encoder of /encoder/LSTM, or the exporter's note in the metadata."""
    parts = node.name.split("/")[:-1]
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            parts = re.findall(r"'([^']*)'", entry.value)[:-1]
    name = ""
    for part in filter(None, parts):
        inside = not name or part.startswith(f"{name}.")  # some say the whole path in each part
        name = part if inside else f"{name}.{part}"
    return name if len(name) <= 200 else ""


def _of_states(states: dict[str, SymbolicStates]) -> tuple[dict[str, SymbolicTensor], dict[str, SymbolicStates]]:
    """A graph without outputs but states: one, or the one that is a vector; or an LSTM that does not show its own."""
    vectors = [name for name, value in states.items() if len(value.axes) == 2]
    if len(states) > 1 and not (len(vectors) == 1 and states[vectors[0]].kind == "h"):
        lstm = next(iter(states.values())).entries[-1][0]
        return {lstm.source: lstm}, states
    [name] = vectors if len(states) > 1 else states
    rest = {other: value for other, value in states.items() if other != name}
    try:
        return {name: as_features(states[name])}, rest
    except UnsupportedNode as refusal:
        raise ValueError(f"the output {name!r} {refusal}") from None


def _flat(view: SymbolicTensor) -> SymbolicTensor:
    """The output, which may be all features of all steps in one axis."""
    last = without_unit_dims(view.axes[-1]) if view.axes else ()
    if (
        view.time is not None
        and view.features
        and last == (view.time, *without_unit_dims(view.features))
        and view.time.size > 1
    ):
        return flattened(view, view.shape[-1])
    return view


def _with_unsqueeze(view: SymbolicTensor) -> SymbolicTensor:
    """The output of a chain that begins with an axis of features for an input that has none."""
    if not view.bare:
        return view
    links = layers_up_to(view.link)
    if isinstance(links[0].layer, EmbeddingSpec):
        return view
    link: LayerNode | None = LayerNode(None, Unsqueeze(), "")
    for one in links:
        link = replace(one, before=link)
    return replace(view, link=link)


def _squeezed(view: SymbolicTensor) -> SymbolicTensor:
    """The output of a chain whose one feature is no axis at the end."""
    last = without_unit_dims(view.axes[-1]) if view.axes else ()
    # Without an LSTM, time and batch are unknown: any axis but the one feature is one of them.
    of_places = not view.axes or any(dim not in view.features for dim in last)
    if view.link is None or not view.features or without_unit_dims(view.features) or not of_places:
        return view
    return view.through(Squeeze(), "")


def _check_output(name: str, view: SymbolicTensor) -> None:
    if view.link is None:
        raise ValueError(f"the output {name!r} is an input")
    if view.turned is not None:
        raise ValueError(f"the output {name!r} is the other way round")
    for axis in map(without_unit_dims, view.axes):
        own = [atom for atom in axis if atom in view.features]
        if own and len(own) < len(axis):
            raise ValueError(f"the output {name!r} has steps or sequences and features in one axis")
