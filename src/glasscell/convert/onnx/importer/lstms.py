"""Every LSTM node of an ONNX model, which may be any graph: also in the branches of If and the bodies of loops."""

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
from glasscell.convert.onnx.importer.graph import OLDEST, STANDARD, module_of, name_of
from glasscell.convert.onnx.importer.lstm_ops import lstm_plan
from glasscell.convert.onnx.importer.model_file import read_model
from glasscell.escaping import one_line
from glasscell.layers import LSTM
from glasscell.limits import MemoryBudget

MAX_DEPTH = 16  # of graphs in graphs
MAX_FOLDED = 64  # nodes from a constant to a weight
NODE_BYTES = 1024


class Scope(NamedTuple):
    """The values that the nodes of a graph see.

    Attributes
    ----------
    tensors : dict of str to TensorProto
    nodes : dict of str to NodeProto
        Which node makes a value.
    constants : dict of str to array or None
        Those that have been computed; None: it depends on an input.
    outer : Scope, optional
        Of the graph around it.
    """

    tensors: dict[str, onnx.TensorProto]
    nodes: dict[str, onnx.NodeProto]
    constants: dict[str, Constant | None]
    outer: Scope | None


def lstms(path: StrPath) -> dict[str, LSTM]:
    """Read every LSTM in an ``.onnx`` file, whatever else its graph computes.

    Each node is an LSTM of one layer, in one direction or both. Its name is that of the module that it comes from, of
    the node, or of its outputs. Initial states that are constants are learned ones here; others are arguments.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is damaged, or weights of an LSTM depend on the inputs or do not fit, by the name of the node.
    """
    model, budget = read_model(path)
    found: dict[str, LSTM] = {}
    try:
        _check(model)
        for node, scope in _nodes(model.graph, None, budget, 0):
            name = _free(module_of(node) or node.name or next(filter(None, node.output), "lstm"), found)
            found[name] = _lstm(node, scope, budget)
    except ValueError as error:
        raise ValueError(f"{Path(path)}: {one_line(error)}") from None
    except (TypeError, AttributeError) as error:  # names that are no text
        raise ValueError(f"{Path(path)} is damaged: {one_line(error)}") from None
    return found


def _check(model: onnx.ModelProto) -> None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in STANDARD), 0)
    if opset < OLDEST:
        raise ValueError(f"the model is for version {opset} of ONNX's operators; read are {OLDEST} and later")
    for function in model.functions:
        if any(_is_lstm(node) for node in function.node):
            raise ValueError(f"the function {function.name!r} has an LSTM, whose weights are its arguments")


def _nodes(
    graph: onnx.GraphProto, outer: Scope | None, budget: MemoryBudget, depth: int
) -> Iterator[tuple[onnx.NodeProto, Scope]]:
    """Yield the LSTM nodes of a graph and of those in it."""
    if depth > MAX_DEPTH:
        raise ValueError(f"the graph {graph.name!r} is in more than {MAX_DEPTH} others")
    budget.reserve(NODE_BYTES * len(graph.node))
    made = {output: node for node in graph.node for output in node.output if output}
    scope = Scope({tensor.name: tensor for tensor in graph.initializer}, made, {}, outer)
    for node in graph.node:
        if _is_lstm(node):
            yield node, scope
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
                yield from _nodes(inner, scope, budget, depth + 1)


def _is_lstm(node: onnx.NodeProto) -> bool:
    return node.op_type == "LSTM" and node.domain in STANDARD


def _lstm(node: onnx.NodeProto, scope: Scope, budget: MemoryBudget) -> LSTM:
    """Return the layer of a node; an error has its name."""
    try:
        return _built(node, scope, budget)
    except UnsupportedNode as refusal:
        raise ValueError(f"the node {name_of(node)} {refusal}") from None
    except MemoryError:
        raise ValueError(f"the node {name_of(node)} needs more memory than there is") from None
    except Exception as error:  # noqa: BLE001 - attributes of any type, shapes that do not fit
        raise ValueError(f"the node {name_of(node)} does not fit together: {error}") from None


def _built(node: onnx.NodeProto, scope: Scope, budget: MemoryBudget) -> LSTM:
    _, W, R, B, _, h0, c0, P = (*node.input, *[""] * 8)[:8]
    names = {"W": W, "R": R, "B": B, "P": P}
    weights = {key: _constant(name, scope, budget, 0) for key, name in names.items() if name}
    for key, value in weights.items():
        if value is None:
            raise UnsupportedNode(f"has weights {key} that are computed from the inputs")
        budget.reserve(4 * value.nbytes)
    inputs = weights.get("W")
    if inputs is None or inputs.ndim != 3:
        raise UnsupportedNode("has no weights W of three axes")
    starts = (_constant(name, scope, budget, 0) if name else None for name in (h0, c0))
    attributes = _attributes(node)
    batch_first = bool(attributes.get("layout", 0))
    return lstm_plan(attributes, weights, *starts, inputs=inputs.shape[2], batch_first=batch_first).build()


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _constant(name: str, scope: Scope, budget: MemoryBudget, depth: int) -> Constant | None:
    """Return a value that depends on no input, or None."""
    owner: Scope | None = scope
    while owner is not None and name not in owner.tensors and name not in owner.nodes:
        owner = owner.outer
    if owner is None or depth > MAX_FOLDED:
        return None
    if name not in owner.constants:
        owner.constants[name] = None  # until it is computed: also where a graph runs in a circle
        if name in owner.tensors:
            owner.constants[name] = array_of(owner.tensors[name])
        else:
            _fold(owner.nodes[name], owner, budget, depth)
    return owner.constants[name]


def _fold(node: onnx.NodeProto, scope: Scope, budget: MemoryBudget, depth: int) -> None:
    """Compute what a node makes of constants, if it does."""
    if node.op_type not in FOLDED or node.domain not in STANDARD:
        return
    inputs = [_constant(name, scope, budget, depth + 1) if name else None for name in node.input]
    if any(value is None and name for value, name in zip(inputs, node.input, strict=True)):
        return
    attributes = _attributes(node)
    check_attributes(node.op_type, attributes)
    outputs = fold(node, inputs, attributes, budget)
    scope.constants.update(zip(node.output, outputs, strict=False))


def _free(name: str, taken: Mapping[str, object]) -> str:
    """Return a name that is not taken."""
    if name not in taken:
        return name
    k = next(k for k in range(1, len(taken) + 2) if f"{name}_{k}" not in taken)
    return f"{name}_{k}"
