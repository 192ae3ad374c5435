"""A node of a graph, as the functions see it that say what each operator does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glasscell.convert.onnx.importer.constants import Attributes, UnsupportedNode
from glasscell.convert.onnx.importer.symbolic_values import SymbolicStates, SymbolicTensor, Value
from glasscell.limits import MemoryBudget


@dataclass(frozen=True)
class Node:
    """A node and its inputs.

    Attributes
    ----------
    inputs : sequence of (Constant, Value or None)
    names : sequence of str
        What the graph calls the inputs.
    module : str
        The module that it comes from; empty where the file does not say.
    outputs : int
        How many it gives.
    budget : MemoryBudget
        For numbers that it makes.
    """

    op: str
    inputs: Sequence[Any]
    names: Sequence[str]
    attributes: Attributes
    module: str
    outputs: int
    opset: int
    budget: MemoryBudget

    @property
    def value(self) -> Value:
        """The first input, which must be computed from the graph's."""
        return data(self.inputs[0])

    def given(self, k: int) -> Any:
        """An input, or None."""
        return self.inputs[k] if k < len(self.inputs) else None

    @property
    def owner(self) -> str:
        """The module whose weights it has, or that it comes from."""
        of_weights = (name.rpartition(".")[0] for name in self.names if name.endswith((".weight", ".bias")))
        return next((name for name in of_weights if 0 < len(name) <= 200), self.module)


def data(value: Any) -> Value:
    if not isinstance(value, SymbolicTensor | SymbolicStates | np.ndarray | None):
        raise UnsupportedNode("acts on a part of a function that is no layer")
    if not isinstance(value, SymbolicTensor | SymbolicStates):
        raise UnsupportedNode("acts on what no layer gives, such as a constant, where outputs of layers are expected")
    return value
