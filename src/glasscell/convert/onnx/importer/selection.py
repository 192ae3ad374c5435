"""Selections of steps, directions and final states, and their concatenation and merging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from glasscell.convert.onnx.importer.constants import UnsupportedNode, normalize_axis
from glasscell.convert.onnx.importer.layer_specs import LayerSpec, LSTMSpec
from glasscell.convert.onnx.importer.lstm_ops import bidirectional_from, merge_spec, reverse_lstm, single_direction
from glasscell.convert.onnx.importer.symbolic_values import (
    Axis,
    Dim,
    LayerNode,
    SymbolicStates,
    SymbolicTensor,
    SymbolicValue,
    describe_size,
    is_features,
    replace_axis,
    runs_over,
    same_axes,
    same_layers,
    with_axes,
    without_unit_dims,
)
from glasscell.layers import Dropout, FinalState, Function, Pool, Step, SwapHalves

Merge = Literal["sum", "average", "multiply"]
MAX_STEPS_FROM_END = 8  # indices as close to the end of an axis of dynamic size are counted from the end

NOT_CONCATENATED = "concatenates values that no sequential model concatenates"


def squeeze(value: SymbolicValue, axes: Sequence[int] | None) -> SymbolicValue:
    """Return a value without these axes of size 1. Default: all axes of size 1."""
    shape = value.shape
    indices = (
        {k for k, n in enumerate(shape) if n == 1} if axes is None else {normalize_axis(k, len(shape)) for k in axes}
    )
    for k in sorted(indices, reverse=True):
        if shape[k] != 1:
            raise UnsupportedNode(f"squeezes an axis of size {shape[k]}")
        value = take_index(value, k, 0, "")
    return value


def take_index(value: SymbolicValue, axis: int, index: int, name: str) -> SymbolicValue:
    """Return the value at one index of an axis, without that axis. `name` is for a layer that this adds."""
    position = normalize_axis(index, value.shape[axis])
    rest = (*value.axes[:axis], *value.axes[axis + 1 :])
    if isinstance(value, SymbolicTensor) and runs_over(value.axes[axis], value.time):
        return _take_step(value, index, rest, name)
    if not without_unit_dims(value.axes[axis]):
        return with_axes(value, rest)
    entry = take_range(value, axis, range(position, position + 1), name)
    return with_axes(entry, [*entry.axes[:axis], *entry.axes[axis + 1 :]])


def take_single(value: SymbolicValue, axis: int, index: int, name: str) -> SymbolicValue:
    """Return the value at one index of an axis, which keeps size 1."""
    entry = take_index(value, axis, index, name)
    return with_axes(entry, [*entry.axes[:axis], (), *entry.axes[axis:]])


def take_range(value: SymbolicValue, axis: int, indices: Sequence[int], name: str) -> SymbolicValue:
    """Return the value at some indices of an axis, in this order."""
    size = value.shape[axis]
    if indices == range(size) or (size == 1 and len(indices) == 1):
        return value
    dims = value.axes[axis]
    if isinstance(value, SymbolicStates) and runs_over(dims, value.entries_dim):
        return _take_entries(value, axis, indices)
    tensor = as_features(value) if isinstance(value, SymbolicStates) else value
    if runs_over(dims, tensor.time) and len(indices) == 1:
        return take_single(tensor, axis, indices[0], name)
    longer = without_unit_dims(dims)
    if indices == range(size - 1, -1, -1) and len(longer) == 1 and longer != without_unit_dims(tensor.features):
        return _reverse_time(tensor, longer[0])
    if tensor.last_layer is None:
        return _take_rows(tensor, axis, indices)
    return _take_features(tensor, axis, indices, name)


def _take_step(tensor: SymbolicTensor, index: int, axes: tuple[Axis, ...], name: str) -> SymbolicTensor:
    """Return one step of a sequence."""
    assert tensor.time is not None  # the caller has compared it with an axis  # noqa: S101
    size = tensor.time.size
    from_end = index in (-1, size - 1) or (tensor.time.dynamic and index >= size - MAX_STEPS_FROM_END)
    step = Step(index - size if from_end and index >= 0 else index)
    check_all_steps_valid(tensor)
    return replace(tensor.apply(step, name), axes=axes, time=None, per_sequence=True)


def check_all_steps_valid(tensor: SymbolicTensor) -> None:
    """Raise an error where a layer over all steps would see invalid or reversed steps."""
    if tensor.lengths is not None:
        raise UnsupportedNode("uses all steps of sequences that have sequence_lens; only final states respect these")
    if tensor.reversed_dim is not None:
        raise UnsupportedNode("uses steps in reverse order")


def _reverse_time(tensor: SymbolicTensor, dim: Dim) -> SymbolicTensor:
    """Return a tensor in reverse order along a dimension."""
    if tensor.lengths is not None:
        raise UnsupportedNode("reverses sequences that have sequence_lens")
    if tensor.reversed_dim is not None and tensor.reversed_dim is not dim:
        raise UnsupportedNode("reverses a second axis")
    if tensor.reversed_dim is dim:
        return replace(tensor, reversed_dim=None)
    if dim is tensor.time and tensor.last_layer is not None and isinstance(tensor.last_layer.spec, LSTMSpec):
        spec = reverse_lstm(tensor.last_layer.spec)
        if spec is not None:
            return replace(tensor, last_layer=replace(tensor.last_layer, spec=spec))
    return replace(tensor, reversed_dim=dim)


def _take_rows(tensor: SymbolicTensor, axis: int, indices: Sequence[int]) -> SymbolicTensor:
    """Return some entries of an input of the graph: of initial states, those of some layers."""
    dims = without_unit_dims(tensor.axes[axis])
    if len(dims) != 1 or not isinstance(indices, range) or indices.step < 1 or tensor.rows_dim not in (None, dims[0]):
        raise UnsupportedNode("selects a part of an input")
    rows = range(tensor.shape[axis]) if tensor.rows is None else tensor.rows
    dim = Dim(len(indices))
    selected = rows[indices.start : indices.stop : indices.step]
    return replace(tensor, axes=replace_axis(tensor, axis, (dim,)), rows=selected, rows_dim=dim)


def _take_entries(states: SymbolicStates, axis: int, indices: Sequence[int]) -> SymbolicStates:
    """Return the states of some layers or directions."""
    dim = Dim(len(indices))
    entries = tuple(states.entries[k] for k in indices)
    return replace(states, entries=entries, entries_dim=dim, axes=replace_axis(states, axis, (dim,)))


def _take_features(tensor: SymbolicTensor, axis: int, indices: Sequence[int], name: str) -> SymbolicTensor:
    """Return the features of one direction, or those of both directions swapped."""
    size, dims = tensor.shape[axis], without_unit_dims(tensor.axes[axis])
    middle = size // 2
    if (
        is_features(tensor, axis)
        and len(indices) == size
        and [*indices] == [*range(size - middle, size), *range(size - middle)]
    ):
        return tensor.apply(SwapHalves(), name)
    halves = [range(middle), range(middle, size)]
    if indices in halves and tensor.features[:1] == dims[:1] and (is_features(tensor, axis) or len(dims) == 1):
        return _take_direction(tensor, halves.index(indices))
    raise UnsupportedNode(
        f"selects a part of an axis of size {describe_size(tensor.axes[axis])}, "
        "which is neither time nor the directions of an LSTM"
    )


# Layers that treat each feature separately: the halves of their features are still the two directions.
POINTWISE = (Dropout, Function, Step, Pool)


def _is_pointwise(spec: LayerSpec) -> bool:
    return isinstance(spec, POINTWISE) and not (isinstance(spec, Function) and "Softmax" in spec.name)


def _take_direction(tensor: SymbolicTensor, direction: int) -> SymbolicTensor:
    """Return the features of one direction of a bidirectional LSTM."""
    above: list[LayerNode] = []
    layer = tensor.last_layer
    while layer is not None and (_is_pointwise(layer.spec) or layer.spec == FinalState("both")):
        above.append(layer)
        layer = layer.previous
    if layer is None or not _has_halves(layer.spec) or len(tensor.features) != 2:
        raise UnsupportedNode("selects a part of the features that is not a direction of an LSTM")
    assert isinstance(layer.spec, LSTMSpec)  # it has halves  # noqa: S101
    layer = replace(layer, spec=single_direction(layer.spec, direction))
    final_state = FinalState(("forward", "reverse")[direction])
    for upper in reversed(above):
        layer = replace(upper, previous=layer, spec=final_state if isinstance(upper.spec, FinalState) else upper.spec)
    return replace(tensor, last_layer=layer, axes=_without_directions(tensor), features=tensor.features[1:])


def _without_directions(tensor: SymbolicTensor) -> tuple[Axis, ...]:
    """Return the axes of a tensor without the dimension of directions, the first of its features."""
    return tuple(tuple(dim for dim in axis if dim is not tensor.features[0]) for axis in tensor.axes)


def _has_halves(spec: LayerSpec) -> bool:
    return isinstance(spec, LSTMSpec) and spec.options.bidirectional and spec.options.merge == "concat"


def concat_directions(a: SymbolicTensor, b: SymbolicTensor, axis: int) -> SymbolicTensor:
    """Return the concatenated features of two LSTMs as those of one bidirectional LSTM."""
    if a.last_layer is None or b.last_layer is None:
        raise UnsupportedNode("joins inputs; a sequential model has one")
    keys = [(tensor.source, tensor.reversed_dim, tensor.time, tensor.lengths, tensor.per_sequence) for tensor in (a, b)]
    if not (keys[0] == keys[1] and same_axes(a, b, axis) and is_features(a, axis) and is_features(b, axis)):
        raise UnsupportedNode(NOT_CONCATENATED)
    if _last_lstm_is_reverse(a.last_layer):
        layer = LayerNode(_merge_twin_layers(b.last_layer, a.last_layer), SwapHalves(), "")
    else:
        layer = _merge_twin_layers(a.last_layer, b.last_layer)
    directions, units = Dim(2), Dim(a.shape[axis])
    axes = replace_axis(a, axis, (directions, units))
    return replace(a, last_layer=layer, axes=axes, features=(directions, units))


def _last_lstm_is_reverse(last_layer: LayerNode) -> bool:
    """Return whether the LSTM nearest to the end of the layers runs in reverse."""
    layer: LayerNode | None = last_layer
    while layer is not None and not isinstance(layer.spec, LSTMSpec):
        layer = layer.previous
    return layer is not None and isinstance(layer.spec, LSTMSpec) and layer.spec.options.reverse


def _merge_twin_layers(forward: LayerNode, reverse: LayerNode) -> LayerNode:
    """Return the layers whose halves are two sequences: LSTMs on the same input, and the same layers after them."""
    above: list[tuple[LayerNode, LayerSpec]] = []
    a: LayerNode | None = forward
    b: LayerNode | None = reverse
    while a is not None and b is not None and not isinstance(a.spec, LSTMSpec):
        above.append((a, _merge_twin_specs(a.spec, b.spec)))
        a, b = a.previous, b.previous
    if a is None or b is None or not same_layers(a.previous, b.previous):
        raise UnsupportedNode("joins the outputs of LSTMs that do not have the same input")
    layer = replace(a, spec=bidirectional_from(a.spec, b.spec))
    for upper, spec in reversed(above):
        layer = replace(upper, previous=layer, spec=spec)
    return layer


def _merge_twin_specs(a: LayerSpec, b: LayerSpec) -> LayerSpec:
    if (a, b) in ((Step(-1), Step(0)), (FinalState("forward"), FinalState("reverse"))):
        return FinalState("both")
    if a == b and _is_pointwise(a):
        return a
    raise UnsupportedNode(NOT_CONCATENATED)


def merge_directions(a: SymbolicTensor, b: SymbolicTensor, merge: Merge) -> SymbolicTensor:
    """Return the merged outputs of two LSTMs as those of one bidirectional LSTM."""
    axis = next((k for k in range(len(a.axes)) if is_features(a, k)), 0)
    concatenated = concat_directions(a, b, axis)
    layer = concatenated.last_layer
    while layer is not None and isinstance(layer.spec, SwapHalves):  # the order does not matter
        layer = layer.previous
    return _merge(replace(concatenated, last_layer=layer), merge)


def reduce_direction_axis(tensor: SymbolicTensor, axis: int, merge: Merge) -> SymbolicTensor:
    """Return the merged outputs of an LSTM whose directions are a separate axis."""
    if not runs_over(tensor.axes[axis], tensor.features[0] if tensor.features else None):
        raise UnsupportedNode("reduces an axis that is neither time nor the directions of an LSTM")
    return _merge(tensor, merge)


def _merge(tensor: SymbolicTensor, merge: Merge) -> SymbolicTensor:
    assert tensor.last_layer is not None  # the callers have checked it  # noqa: S101
    layer = replace(tensor.last_layer, spec=merge_spec(tensor.last_layer.spec, merge))
    return replace(tensor, last_layer=layer, axes=_without_directions(tensor), features=tensor.features[1:])


def concat(values: list[SymbolicStates], axis: int) -> SymbolicValue:
    """Return concatenated states; those of a forward and a reverse LSTM as the states of one bidirectional LSTM."""
    states = concat_states(values, axis)
    layers = [tensor.last_layer for tensor, _ in states.entries]
    if len(values) == 2 and layers[0] is not layers[-1] and states.units in states.axes[axis]:
        return concat_directions(as_features(values[0]), as_features(values[1]), axis)
    return states


def concat_states(values: list[SymbolicStates], axis: int) -> SymbolicStates:
    """Return states of several LSTMs or directions, stacked along the axis of layers, or joined along the units."""
    first = values[0]
    if any(value.kind != first.kind for value in values):
        raise UnsupportedNode("joins hidden with cell states")
    entries = tuple(entry for value in values for entry in value.entries)
    dim = Dim(len(entries))
    same_order = all(_dim_order(value, axis) == _dim_order(first, axis) for value in values)
    if same_order and all(
        runs_over(value.axes[axis], value.entries_dim) or not without_unit_dims(value.axes[axis]) for value in values
    ):
        joined: Axis = (dim,)
    elif same_order and all(len(value.entries) == 1 and runs_over(value.axes[axis], value.units) for value in values):
        joined = (dim, first.units)
    else:
        raise UnsupportedNode("joins final states along another axis than layers or units")
    return replace(first, entries=entries, entries_dim=dim, axes=replace_axis(first, axis, joined))


def _dim_order(states: SymbolicStates, exclude: int) -> list[list[object]]:
    """Return the dimensions of all axes except one, comparable between the states of several LSTMs."""
    keys = {states.entries_dim: "entries", states.units: ("units", states.units.size)}
    return [
        [keys.get(dim, dim) for dim in without_unit_dims(axis)] for k, axis in enumerate(states.axes) if k != exclude
    ]


def as_features(value: SymbolicValue, *, stacked: bool = False) -> SymbolicTensor:
    """Return a value as the output of a layer: final hidden states become that of a FinalState.

    `stacked`: accept the states of both directions as two entries of an axis.
    """
    if isinstance(value, SymbolicTensor):
        if value.rows is not None:
            raise UnsupportedNode("acts on a part of an input")
        return value
    lstm = value.entries[0][0]
    spec = lstm.last_spec
    assert isinstance(spec, LSTMSpec)  # every entry is created from one  # noqa: S101
    if value.kind == "c" or any(tensor.last_layer is not lstm.last_layer for tensor, _ in value.entries):
        raise UnsupportedNode("computes with the cell state, or with states of several layers together")
    stacked = stacked or any(
        without_unit_dims(axis) == without_unit_dims((value.entries_dim, value.units)) for axis in value.axes
    )
    if len(value.entries) > 1 and not stacked:
        raise UnsupportedNode("computes with a stack of states")
    layer = _final_state(lstm.last_layer, spec, [spec.directions.index(key) for _, key in value.entries], value.name)
    features = (value.entries_dim, value.units) if len(value.entries) > 1 else (value.units,)
    return replace(
        lstm, last_layer=layer, axes=value.axes, features=features, time=None, lengths=None, per_sequence=True
    )


def _final_state(lstm: LayerNode | None, spec: LSTMSpec, directions: list[int], name: str) -> LayerNode:
    """Return the layer that selects the final hidden states of these directions."""
    if len(set(directions)) != len(directions):
        raise UnsupportedNode("computes with the final state of one direction twice")
    if not spec.options.bidirectional:
        at_last_step = not spec.options.reverse or spec.options.outputs_in == "processing"
        return LayerNode(lstm, FinalState("forward" if at_last_step else "reverse"), name)
    if len(directions) == 1:
        return LayerNode(lstm, FinalState("both", ("forward", "reverse")[directions[0]]), name)
    layer = LayerNode(lstm, FinalState("both"), name)
    return layer if directions == [0, 1] else LayerNode(layer, SwapHalves(), "")
