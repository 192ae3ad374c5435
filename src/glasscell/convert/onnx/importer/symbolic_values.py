"""Values of a graph that are computed from its inputs, without their numbers.

A graph transposes, reshapes and slices values that a sequence of layers passes on unchanged. Each axis of a value is
therefore a tuple of dimensions (:class:`Dim`), such as time, batch or units, and an operator that moves axes moves
these tuples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np

from glasscell.convert.onnx.importer.constants import MAX_AXES, UnsupportedNode, normalize_axis
from glasscell.convert.onnx.importer.layer_specs import DirectionWeights, LayerSpec


@dataclass(frozen=True, eq=False)
class Dim:
    """A dimension: an axis, or a factor of one. Two dimensions are equal only if they are the same object."""

    size: int
    dynamic: bool = False  # the file leaves the size to the input


Axis = tuple[Dim, ...]


@dataclass(frozen=True, eq=False)
class LayerNode:
    """A layer of the model, linked to the previous one."""

    previous: LayerNode | None
    spec: LayerSpec
    name: str  # of the module that it comes from; empty where the file does not name it


@dataclass(frozen=True)
class SymbolicTensor:
    """The output of a layer, or an input of the graph, with the axes that a node sees.

    Attributes
    ----------
    last_layer : LayerNode or None
        None for an input of the graph.
    axes : tuple of Axis
    features : Axis
        The dimensions of the features, in order; empty until a layer determines them.
    source : str
        The input of the graph that the value is computed from.
    dtype : dtype
    time, batch : Dim, optional
        Unknown until an LSTM determines them.
    lengths : str, optional
        The input of the graph with the length of each sequence.
    reversed_dim : Dim, optional
        The dimension along which the value is the layer's output in reverse order.
    rows, rows_dim : range and Dim, optional
        Of an input for initial states: its selected entries, and their dimension.
    per_sequence : bool
        Whether the value is one vector per sequence.
    cast_ids : bool
        Whether the value is a float input cast to integers: only an embedding accepts it.
    no_feature_axis : bool
        Whether the input has numbers without an axis of features.
    flatten_module : str
        The module that merged steps and features into one axis.
    """

    last_layer: LayerNode | None
    axes: tuple[Axis, ...]
    features: Axis
    source: str
    dtype: np.dtype[Any]
    time: Dim | None = None
    batch: Dim | None = None
    lengths: str | None = None
    reversed_dim: Dim | None = None
    rows: range | None = None
    rows_dim: Dim | None = None
    per_sequence: bool = False
    cast_ids: bool = False
    no_feature_axis: bool = False
    flatten_module: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return sizes(self.axes)

    @property
    def last_spec(self) -> LayerSpec | None:
        """The specification of the last layer."""
        return self.last_layer.spec if self.last_layer else None

    def apply(self, spec: LayerSpec, name: str) -> SymbolicTensor:
        """Return the output of a layer that treats all steps and features alike."""
        return replace(self, last_layer=LayerNode(self.last_layer, spec, name))

    def replace_last(self, spec: LayerSpec, name: str, *, count: int = 1) -> SymbolicTensor:
        """Return the value with one layer in place of the last `count` layers."""
        previous = self.last_layer
        for _ in range(count):
            previous = previous.previous if previous else None
        return replace(self, last_layer=LayerNode(previous, spec, name))


@dataclass(frozen=True)
class SymbolicStates:
    """Final states of LSTMs, with the axes that a node sees.

    Attributes
    ----------
    kind : "h" or "c"
    entries : tuple of (SymbolicTensor, DirectionWeights)
        Output of the LSTM and direction of each entry along `entries_dim`.
    entries_dim, units : Dim
    axes : tuple of Axis
    name : str
        The module whose node moved them last; empty where the file does not name it.
    """

    kind: Literal["h", "c"]
    entries: tuple[tuple[SymbolicTensor, DirectionWeights], ...]
    entries_dim: Dim
    units: Dim
    axes: tuple[Axis, ...]
    name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return sizes(self.axes)


SymbolicValue = SymbolicTensor | SymbolicStates


def sizes(axes: Sequence[Axis]) -> tuple[int, ...]:
    """Return the sizes of axes."""
    return tuple(prod(dim.size for dim in axis) for axis in axes)


def describe_size(axis: Axis) -> str:
    """Return the size of an axis for a message: "?" where the file leaves it to the input."""
    return "?" if any(dim.dynamic for dim in axis) else str(prod(dim.size for dim in axis))


def describe_shape(value: SymbolicValue) -> str:
    """Return the shape of a value for a message: "(?, ?, 3)"."""
    return f"({', '.join(map(describe_size, value.axes))})"


def without_unit_dims(axis: Axis) -> Axis:
    """Return an axis without dimensions of size 1, which reshapes add and remove."""
    return tuple(dim for dim in axis if dim.size != 1)


def layers_up_to(last_layer: LayerNode | None) -> list[LayerNode]:
    """Return the layers from the first to this one."""
    layers = []
    while last_layer is not None:
        layers.append(last_layer)
        last_layer = last_layer.previous
    return layers[::-1]


def with_axes(value: SymbolicValue, axes: Sequence[Axis]) -> SymbolicValue:
    """Return the value with other axes."""
    if len(axes) > MAX_AXES:
        raise UnsupportedNode(f"has an output of {len(axes)} axes")
    return replace(value, axes=tuple(axes))


def replace_axis(value: SymbolicValue, index: int, axis: Axis) -> tuple[Axis, ...]:
    """Return the axes of a value, with another one at `index`."""
    return (*value.axes[:index], axis, *value.axes[index + 1 :])


def transpose(value: SymbolicValue, order: Sequence[int]) -> SymbolicValue:
    """Return a value with its axes in another order."""
    if sorted(order) != list(range(len(value.axes))):
        raise UnsupportedNode(f"puts {len(value.axes)} axes in the order {list(order)}")
    return with_axes(value, [value.axes[k] for k in order])


def reshape(value: SymbolicValue, target: Sequence[int], *, allow_zero: bool) -> SymbolicValue:
    """Return a value reshaped: neighbouring dimensions are grouped into other axes."""
    dims = [dim for axis in value.axes for dim in axis][::-1]
    axes: list[Axis] = []
    for size in _target_shape(value, target, allow_zero=allow_zero):
        group: list[Dim] = []
        group_size = 1
        while dims and (group_size < size or (dims[-1].size == 1 and not group)):
            group.append(dims.pop())
            group_size *= group[-1].size
        if group_size != size:
            raise UnsupportedNode(
                f"reshapes {describe_shape(value)} to {len(target)} axes, which splits or mixes time, batch, features"
            )
        axes.append(tuple(group))
    if without_unit_dims(tuple(dims)):
        raise UnsupportedNode(f"reshapes {describe_shape(value)} to {len(target)} axes of another size")
    if dims and axes:
        axes[-1] = (*axes[-1], *dims[::-1])
    return with_axes(value, axes)


def _target_shape(value: SymbolicValue, target: Sequence[int], *, allow_zero: bool) -> list[int]:
    """Return the shape of a Reshape with its 0 (as before) and -1 (the rest) replaced by sizes."""
    shape = [value.shape[k] if size == 0 and not allow_zero else size for k, size in enumerate(target)]
    first = value.axes[0] if value.axes else ()
    if (
        len(first) == 1
        and first[0].dynamic
        and shape[0] > 0
        and shape[1:2] == [-1]
        and len(shape) == len(value.axes) - 1
    ):
        shape[0] = first[0].size  # (6, -1, 8) of (T, B, 2, 4): PyTorch's exporter wrote its example's T
    if -1 in shape:
        rest = prod(size for size in shape if size != -1)
        shape[shape.index(-1)] = prod(value.shape) // rest if rest else 0
    return shape


def unsqueeze(value: SymbolicValue, indices: Sequence[int]) -> SymbolicValue:
    """Return a value with new axes of size 1 at these indices."""
    rank = len(value.axes) + len(indices)
    new = sorted({normalize_axis(k, rank) for k in indices})
    if len(new) != len(indices):
        raise UnsupportedNode(f"inserts the axes {list(indices)}")
    axes = list(value.axes)
    for index in new:
        axes.insert(index, ())
    return with_axes(value, axes)


def runs_over(axis: Axis, dim: Dim | None) -> bool:
    """Return whether an axis consists of this dimension alone."""
    return dim is not None and (
        without_unit_dims(axis) == (dim,) or (dim.size == 1 and dim in axis and not without_unit_dims(axis))
    )


def same_layers(a: LayerNode | None, b: LayerNode | None) -> bool:
    """Return whether two layers end the same sequence, also if one layer was created twice."""
    while a is not b:
        if a is None or b is None or a.spec != b.spec:
            return False
        a, b = a.previous, b.previous
    return True


def same_values(a: SymbolicTensor, b: SymbolicTensor) -> bool:
    """Return whether two tensors have the same numbers."""
    return same_layers(a.last_layer, b.last_layer) and (
        (a.source, a.axes, a.reversed_dim) == (b.source, b.axes, b.reversed_dim)
    )


def same_axes(a: SymbolicValue, b: SymbolicValue, exclude: int) -> bool:
    """Return whether all axes except one are the same."""
    pairs = zip(a.axes, b.axes, strict=False)
    return len(a.axes) == len(b.axes) and all(
        without_unit_dims(x) == without_unit_dims(y) for k, (x, y) in enumerate(pairs) if k != exclude
    )


def is_features(tensor: SymbolicTensor, index: int) -> bool:
    """Return whether an axis consists of all features in their order."""
    axis = without_unit_dims(tensor.axes[index])
    return axis == without_unit_dims(tensor.features) and bool(
        axis or (tensor.features[-1:] and tensor.features[-1] in tensor.axes[index])
    )


def check_last_is_features(tensor: SymbolicTensor) -> None:
    """Raise an error if the last axis is not, and cannot be, the features."""
    last = without_unit_dims(tensor.axes[-1]) if tensor.axes else ()
    if not tensor.axes or (last != without_unit_dims(tensor.features) if tensor.features else len(last) > 1):
        raise UnsupportedNode("acts on an axis that is not the features in their order")
