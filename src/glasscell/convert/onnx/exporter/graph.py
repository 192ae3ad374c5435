"""Build an ONNX graph node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import helper, numpy_helper

Shape = Sequence[int | str | None]


class Graph:
    """Nodes and their constants.

    Parameters
    ----------
    dtype : dtype
        Of all numbers that are not indices or sizes.
    lengths : str, optional
        The input with the length of each sequence.
    initial_states : mapping of str to two str, optional
        The inputs h and c (L·D, B, H) with the initial states of LSTMs, by the LSTM's name.

    Attributes
    ----------
    module : str
        The layer that is being exported: part of the names of its nodes and weights.
    """

    def __init__(
        self,
        dtype: np.dtype[np.floating],
        lengths: str | None = None,
        initial_states: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self.dtype, self.lengths, self.initial_states, self.module = dtype, lengths, initial_states or {}, ""
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._names = {"x", "y", "lengths"}

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        return self.add_multi_output(op, inputs, 1, **attributes)[0]

    def add_multi_output(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Add a node, and return the names of its outputs."""
        name = self._unique_name(f"/{self.module}/{op}")
        outputs = [f"{name}_output_{k}" for k in range(count)]
        self._nodes.append(helper.make_node(op, inputs, outputs, name=name, **attributes))
        return outputs

    def constant(self, name: str, array: ArrayLike) -> str:
        """Add weights of the layer that is being exported."""
        return self._add_tensor(self._unique_name(f"{self.module}.{name}"), np.asarray(array, self.dtype))

    def number(self, value: float | None) -> str:
        """Add a number of the model's dtype."""
        return self._add_tensor(self._unique_name(f"/{self.module}/number"), np.asarray(value, self.dtype))

    def integers(self, values: Sequence[int]) -> str:
        """Add a list of indices, sizes or axes. Equal short lists are added once."""
        is_short = len(values) < 8
        name = f"/integers_{'_'.join(map(str, values))}" if is_short else self._unique_name(f"/{self.module}/integers")
        return self._add_tensor(name, np.array(values, np.int64))

    def integer(self, value: int) -> str:
        """Add an index."""
        return self._add_tensor(f"/integer_{value}", np.array(value, np.int64))

    def step(self, value: str, index: int) -> str:
        """Add the selection of one step (B, F) from (B, T, F)."""
        return self.add("Gather", [value, self.integer(index)], axis=1)

    def slice(self, value: str, start: int, stop: int, axis: int = -1, step: int | None = None) -> str:
        """Add a slice of an axis."""
        bounds = [start, stop, axis] if step is None else [start, stop, axis, step]
        return self.add("Slice", [value, *(self.integers([number]) for number in bounds)])

    def merge(self, value: str, axis: int, merge: str) -> str:
        """Add the sum, average or product ("multiply") over an axis."""
        if merge == "sum":  # of the three operators, the one whose axes are an input
            return self.add("ReduceSum", [value, self.integers([axis])], keepdims=0)
        op = {"average": "ReduceMean", "multiply": "ReduceProd"}[merge]
        return self.add(op, [value], axes=[axis], keepdims=0)

    def concat(self, module: str, values: Sequence[str], axis: int = 0) -> str:
        """Add the concatenation of values."""
        self.module = module
        return self.add("Concat", values, axis=axis) if len(values) > 1 else values[0]

    def value_info(self, name: str, shape: Shape, dtype: DTypeLike | None = None) -> onnx.ValueInfoProto:
        """Return the type of an input or output; axes that are text or None are dynamic. Default dtype: the model's."""
        numpy_dtype = np.dtype(self.dtype if dtype is None else dtype)
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(numpy_dtype), list(shape))

    def build(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Mapping[str, tuple[str, Shape]]) -> onnx.GraphProto:
        """Return the graph. `outputs` has the value and shape of each output, by the output's name."""
        names = {value: name for name, (value, _) in outputs.items()}
        for node in self._nodes:
            for values in (node.input, node.output):
                values[:] = [names.get(value, value) for value in values]
        types = [self.value_info(name, shape) for name, (_, shape) in outputs.items()]
        return helper.make_graph(self._nodes, "glasscell", list(inputs), types, [*self._tensors.values()])

    def _add_tensor(self, name: str, array: np.ndarray[Any, Any]) -> str:
        if name not in self._tensors:
            self._tensors[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def _unique_name(self, name: str) -> str:
        """Return a name that is not in use, and mark it as used."""
        count, unique = 0, name
        while unique in self._names:
            count += 1
            unique = f"{name}_{count}"
        self._names.add(unique)
        return unique
