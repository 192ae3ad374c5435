"""A graph of ONNX in the making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import helper, numpy_helper

Dims = Sequence[int | str | None]


class Graph:
    """Nodes and their constants.

    Parameters
    ----------
    dtype : dtype
        Of all numbers that are no places or sizes.
    lengths : str, optional
        The input that says how many steps each sequence has.
    starts : mapping of str to two str, optional
        The inputs h and c (L·D, B, H) with which LSTMs begin, by the LSTM's name.

    Attributes
    ----------
    module : str
        The layer that is being written: its name is part of those of nodes and weights.
    """

    def __init__(
        self,
        dtype: np.dtype[np.floating],
        lengths: str | None = None,
        starts: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self.dtype, self.lengths, self.starts, self.module = dtype, lengths, starts or {}, ""
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._names = {"x", "y", "lengths"}

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node with one output; its name."""
        return self.add_some(op, inputs, 1, **attributes)[0]

    def add_some(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """A node with some outputs; their names."""
        name = self._new(f"/{self.module}/{op}")
        outputs = [f"{name}_output_{k}" for k in range(count)]
        self._nodes.append(helper.make_node(op, inputs, outputs, name=name, **attributes))
        return outputs

    def constant(self, name: str, array: ArrayLike) -> str:
        """An array of weights, of the layer that is being written."""
        return self._tensor(self._new(f"{self.module}.{name}"), np.asarray(array, self.dtype))

    def number(self, value: float | None) -> str:
        """A number of the model's dtype."""
        return self._tensor(self._new(f"/{self.module}/number"), np.asarray(value, self.dtype))

    def integers(self, values: Sequence[int]) -> str:
        """Places, sizes or axes; the same ones are there once."""
        name = "/integers_" + "_".join(map(str, values)) if len(values) < 8 else self._new(f"/{self.module}/integers")
        return self._tensor(name, np.array(values, np.int64))

    def integer(self, value: int) -> str:
        """One place."""
        return self._tensor(f"/integer_{value}", np.array(value, np.int64))

    def step(self, value: str, index: int) -> str:
        """One step (B, F) of (B, T, F)."""
        return self.add("Gather", [value, self.integer(index)], axis=1)

    def part(self, value: str, start: int, stop: int) -> str:
        """Some of the last axis."""
        return self.add("Slice", [value, *(self.integers([k]) for k in (start, stop, -1))])

    def merged(self, value: str, axis: int, how: str) -> str:
        """The entries along an axis as their sum, average or product."""
        if how == "sum":  # of the three, the one whose axes are an input
            return self.add("ReduceSum", [value, self.integers([axis])], keepdims=0)
        return self.add({"average": "ReduceMean", "multiply": "ReduceProd"}[how], [value], axes=[axis], keepdims=0)

    def joined(self, module: str, values: Sequence[str], axis: int = 0) -> str:
        """Values side by side."""
        self.module = module
        return self.add("Concat", values, axis=axis) if len(values) > 1 else values[0]

    def info(self, name: str, shape: Dims, dtype: DTypeLike | None = None) -> onnx.ValueInfoProto:
        """An input or output; sizes that are text or None are open."""
        of = np.dtype(self.dtype if dtype is None else dtype)
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(of), list(shape))

    def made(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Mapping[str, tuple[str, Dims]]) -> onnx.GraphProto:
        """The graph; the outputs are values that nodes give under other names."""
        names = {value: name for name, (value, _) in outputs.items()}
        for node in self._nodes:
            for ends in (node.input, node.output):
                ends[:] = [names.get(end, end) for end in ends]
        shown = [self.info(name, shape) for name, (_, shape) in outputs.items()]
        return helper.make_graph(self._nodes, "glasscell", list(inputs), shown, [*self._tensors.values()])

    def _tensor(self, name: str, array: np.ndarray[Any, Any]) -> str:
        if name not in self._tensors:
            self._tensors[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def _new(self, name: str) -> str:
        """A name that is not taken."""
        count, one = 0, name
        while one in self._names:
            count += 1
            one = f"{name}_{count}"
        self._names.add(one)
        return one
