"""Nodes of a graph: the argument of the functions for operators, modules, and names in messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from glasscell.convert.onnx.importer.constants import Attributes, UnsupportedNode
from glasscell.convert.onnx.importer.symbolic_values import SymbolicStates, SymbolicTensor, SymbolicValue
from glasscell.limits import MemoryBudget

ONNX_DOMAINS = ("", "ai.onnx")
MIN_OPSET = 7  # since this version operators broadcast, and LSTM has its present form
NODE_BYTES = 1024  # memory of a node's values, without arrays
MAX_NAME = 200  # letters of the name of a module


@dataclass(frozen=True)
class Node:
    """A node and its inputs.

    Attributes
    ----------
    inputs : sequence of (Constant, SymbolicValue or None)
    input_names : sequence of str
        Names of the inputs in the graph.
    module : str
        The module that the node comes from; empty where the file does not name it.
    num_outputs : int
    budget : MemoryBudget
        For arrays that the node allocates.
    """

    op: str
    inputs: Sequence[Any]
    input_names: Sequence[str]
    attributes: Attributes
    module: str
    num_outputs: int
    opset: int
    budget: MemoryBudget

    @property
    def value(self) -> SymbolicValue:
        """The first input, which must be computed from the inputs of the graph."""
        return require_symbolic(self.inputs[0])

    def input(self, index: int) -> Any:
        """Return an input. If the node does not have it, None."""
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def weight_module(self) -> str:
        """The module that owns the node's weights. Default: the module that the node comes from."""
        owners = (name.rpartition(".")[0] for name in self.input_names if name.endswith((".weight", ".bias")))
        return next((name for name in owners if 0 < len(name) <= MAX_NAME), self.module)


def require_symbolic(value: Any) -> SymbolicValue:
    """Return a value of a graph, which must be computed from the inputs of the graph."""
    if not isinstance(value, SymbolicTensor | SymbolicStates | np.ndarray | None):
        raise UnsupportedNode("acts on an intermediate value of a function, which no layer computes")
    if not isinstance(value, SymbolicTensor | SymbolicStates):
        raise UnsupportedNode("acts on a constant or a missing input where the output of a layer is expected")
    return value


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's operators that a model uses."""
    opset: int = next((entry.version for entry in model.opset_import if entry.domain in ONNX_DOMAINS), 0)
    if opset < MIN_OPSET:
        raise ValueError(f"the opset of the model must be at least {MIN_OPSET}, got {opset}")
    return opset


@contextmanager
def node_errors(node: onnx.NodeProto) -> Iterator[None]:
    """Raise any error of a node as a ValueError that names it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - attributes of any type, shapes that do not fit
        name = f"{(node.name or ', '.join(map(str, node.output)))[:MAX_NAME]!r} ({node.op_type[:100]})"
        if isinstance(error, UnsupportedNode):
            reason = str(error)
        elif isinstance(error, MemoryError):
            reason = "needs more memory than is available"
        else:
            reason = f"is invalid: {error}"
        raise ValueError(f"the node {name} {reason}") from None


def module_of(node: onnx.NodeProto) -> str:
    """Return the module that a node comes from: encoder of /encoder/LSTM, or the exporter's note in the metadata."""
    parts = node.name.split("/")[:-1]
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            parts = re.findall(r"'([^']*)'", entry.value)[:-1]
    name = ""
    for part in filter(None, parts):
        is_path = not name or part.startswith(f"{name}.")  # some exporters repeat the whole path in each part
        name = part if is_path else f"{name}.{part}"
    return name if len(name) <= MAX_NAME else ""
