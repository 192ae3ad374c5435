"""Read every LSTM node of an ONNX model, also those in branches of If and bodies of loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from onnx import helper

from glasscell.atomic_files import StrPath
from glasscell.convert.onnx.importer.attributes import check_attributes
from glasscell.convert.onnx.importer.constant_folding import FOLDED, fold
from glasscell.convert.onnx.importer.constants import Constant, UnsupportedNode, array_of
from glasscell.convert.onnx.importer.lstm_ops import lstm_spec
from glasscell.convert.onnx.importer.model_file import read_model
from glasscell.convert.onnx.importer.node import NODE_BYTES, ONNX_DOMAINS, module_of, node_errors, opset_of
from glasscell.escaping import one_line
from glasscell.layers import LSTM
from glasscell.limits import MemoryBudget

MAX_DEPTH = 16  # of graphs in graphs
MAX_FOLDED = 64  # nodes from a constant to a weight


class Scope(NamedTuple):
    """Values that the nodes of a graph can use.

    Attributes
    ----------
    tensors : dict of str to TensorProto
    nodes : dict of str to NodeProto
        The node that computes a value.
    constants : dict of str to array or None
        Computed constants. None: the value depends on an input.
    outer : Scope, optional
        The scope of the enclosing graph.
    """

    tensors: dict[str, onnx.TensorProto]
    nodes: dict[str, onnx.NodeProto]
    constants: dict[str, Constant | None]
    outer: Scope | None


def lstms(path: StrPath) -> dict[str, LSTM]:
    """Read every LSTM in an ``.onnx`` file; the rest of its graph may be anything.

    Each node is an LSTM of one layer, in one direction or both. Its name is that of the module that it comes from, of
    the node, or of its outputs. Constant initial states become learned ones; others are arguments of the LSTM.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, or weights of an LSTM depend on the inputs or do not fit. The message names the node.
    """
    model, budget = read_model(path)
    layers: dict[str, LSTM] = {}
    try:
        opset_of(model)  # raises an error for old versions
        _check_functions(model)
        for node, scope in _nodes(model.graph, None, budget, 0):
            name = _unique_name(module_of(node) or node.name or next(filter(None, node.output), "lstm"), layers)
            with node_errors(node):
                layers[name] = _build(node, scope, budget)
    except ValueError as error:
        raise ValueError(f"{Path(path)}: {one_line(error)}") from None
    except (TypeError, AttributeError) as error:  # names that are not text
        raise ValueError(f"{Path(path)} is damaged: {one_line(error)}") from None
    return layers


def _check_functions(model: onnx.ModelProto) -> None:
    for function in model.functions:
        if any(_is_lstm(node) for node in function.node):
            raise ValueError(f"the function {function.name!r} has an LSTM, whose weights are its arguments")


def _nodes(
    graph: onnx.GraphProto, outer: Scope | None, budget: MemoryBudget, depth: int
) -> Iterator[tuple[onnx.NodeProto, Scope]]:
    """Yield the LSTM nodes of a graph and of the graphs in it."""
    if depth > MAX_DEPTH:
        raise ValueError(f"the graph {graph.name!r} is nested in more than {MAX_DEPTH} graphs")
    budget.reserve(NODE_BYTES * len(graph.node))
    nodes = {output: node for node in graph.node for output in node.output if output}
    scope = Scope({tensor.name: tensor for tensor in graph.initializer}, nodes, {}, outer)
    for node in graph.node:
        if _is_lstm(node):
            yield node, scope
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
                yield from _nodes(inner, scope, budget, depth + 1)


def _is_lstm(node: onnx.NodeProto) -> bool:
    return node.op_type == "LSTM" and node.domain in ONNX_DOMAINS


def _build(node: onnx.NodeProto, scope: Scope, budget: MemoryBudget) -> LSTM:
    """Return the layer of a node."""
    _, W, R, B, _, h0, c0, P = (*node.input, *[""] * 8)[:8]
    names = {"W": W, "R": R, "B": B, "P": P}
    weights = {key: _constant(name, scope, budget, 0) for key, name in names.items() if name}
    for key, value in weights.items():
        if value is None:
            raise UnsupportedNode(f"has weights {key} that are computed from the inputs of the graph")
        budget.reserve(4 * value.nbytes)
    kernel = weights.get("W")
    if kernel is None or kernel.ndim != 3:
        raise UnsupportedNode("has no weights W of three axes")
    states = (_constant(name, scope, budget, 0) if name else None for name in (h0, c0))
    attributes = _attributes(node)
    batch_first = bool(attributes.get("layout", 0))
    return lstm_spec(attributes, weights, *states, input_size=kernel.shape[2], batch_first=batch_first).build()


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _constant(name: str, scope: Scope, budget: MemoryBudget, depth: int) -> Constant | None:
    """Return a constant. If the value depends on an input, None."""
    owner: Scope | None = scope
    while owner is not None and name not in owner.tensors and name not in owner.nodes:
        owner = owner.outer
    if owner is None or depth > MAX_FOLDED:
        return None
    if name not in owner.constants:
        owner.constants[name] = None  # until it is computed: ends the recursion in a cyclic graph
        if name in owner.tensors:
            owner.constants[name] = array_of(owner.tensors[name])
        else:
            _fold(owner.nodes[name], owner, budget, depth)
    return owner.constants[name]


def _fold(node: onnx.NodeProto, scope: Scope, budget: MemoryBudget, depth: int) -> None:
    """Compute the outputs of a node whose inputs are constants."""
    if node.op_type not in FOLDED or node.domain not in ONNX_DOMAINS:
        return
    inputs = [_constant(name, scope, budget, depth + 1) if name else None for name in node.input]
    if any(value is None and name for value, name in zip(inputs, node.input, strict=True)):
        return
    attributes = _attributes(node)
    check_attributes(node.op_type, attributes)
    outputs = fold(node, inputs, attributes, budget)
    scope.constants.update(zip(node.output, outputs, strict=False))


def _unique_name(name: str, names: Mapping[str, object]) -> str:
    """Return a name that is not in use."""
    if name not in names:
        return name
    k = next(k for k in range(1, len(names) + 2) if f"{name}_{k}" not in names)
    return f"{name}_{k}"
