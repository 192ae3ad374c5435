"""Inputs and outputs of a graph: the input and output of the model, initial and final states, and lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx

from glasscell.convert.onnx.importer.build_model import check_state_output, initial_state_inputs
from glasscell.convert.onnx.importer.constants import MAX_AXES, UnsupportedNode, dtype_of
from glasscell.convert.onnx.importer.layer_ops import flatten
from glasscell.convert.onnx.importer.selection import as_features
from glasscell.convert.onnx.importer.symbolic_values import (
    Axis,
    Dim,
    LayerNode,
    SymbolicStates,
    SymbolicTensor,
    layers_up_to,
    without_unit_dims,
)
from glasscell.layers import Squeeze, Unsqueeze


class GraphInterface(NamedTuple):
    """Names of a graph's inputs and outputs other than those of the model.

    Attributes
    ----------
    initial_states : list of str
        Inputs.
    other_inputs : list of str
        Lengths of sequences, and unused inputs.
    final_states : list of str
        Outputs.
    """

    initial_states: list[str]
    other_inputs: list[str]
    final_states: list[str]


def input_tensor(
    value: onnx.ValueInfoProto, named_dims: dict[str, Dim], placeholder_sizes: Iterator[int]
) -> SymbolicTensor:
    """Return an input of the graph. Dynamic axes get a placeholder size, axes of one name the same."""
    tensor = value.type.tensor_type
    if len(tensor.shape.dim) > MAX_AXES:
        raise ValueError(f"the input {value.name!r} has {len(tensor.shape.dim)} axes")
    axes: list[Axis] = []
    for entry in tensor.shape.dim:
        if entry.dim_value > 0:
            dim = Dim(entry.dim_value)
        elif entry.dim_param in named_dims:
            dim = Dim(named_dims[entry.dim_param].size, dynamic=True)
        else:
            dim = Dim(next(placeholder_sizes), dynamic=True)
        if entry.dim_param:
            named_dims.setdefault(entry.dim_param, dim)
        axes.append((dim,))
    try:
        dtype = dtype_of(tensor.elem_type)
    except KeyError:
        raise ValueError(f"the input {value.name!r} is not a tensor of a known type") from None
    return SymbolicTensor(None, tuple(axes), (), value.name, dtype)


def resolve_outputs(outputs: dict[str, Any], inputs: list[str]) -> tuple[LayerNode, GraphInterface]:
    """Return the last layer before the output of a graph, and the further inputs and outputs.

    Parameters
    ----------
    outputs : dict of str to value
        All outputs of the graph.
    inputs : list of str
        All inputs of the graph.

    Raises
    ------
    ValueError
        If the graph has several outputs that are not final states, or an output that no layer computes.
    """
    tensors: dict[str, SymbolicTensor] = {}
    states: dict[str, SymbolicStates] = {}
    for name, value in outputs.items():
        if isinstance(value, SymbolicTensor):
            tensors[name] = value
        elif isinstance(value, SymbolicStates):
            states[name] = value
        elif value is None or isinstance(value, np.ndarray):
            raise ValueError(f"the output {name!r} is not computed from the inputs")
        else:
            raise ValueError(f"the output {name!r} is an intermediate value of a function, which no layer computes")
    if not tensors and states:
        tensors, states = _output_from_states(states)
    if len(tensors) != 1:
        names = ", ".join(outputs) or "none"
        raise ValueError(f"the graph has the outputs {names}; expected one, and optional final states")
    [(name, tensor)] = tensors.items()
    tensor = _with_squeeze(_with_unsqueeze(_with_flatten(tensor)))
    if tensor.last_layer is None:
        raise ValueError(f"the output {name!r} is an input")
    _check_axes(name, tensor)
    layers = layers_up_to(tensor.last_layer)
    for state_name, value in states.items():
        check_state_output(state_name, value, layers)
    initial_states = initial_state_inputs(layers, tensor.source)
    other_inputs = [name for name in inputs if name not in (tensor.source, *initial_states)]
    return tensor.last_layer, GraphInterface(initial_states, other_inputs, list(states))


def _output_from_states(
    states: dict[str, SymbolicStates],
) -> tuple[dict[str, SymbolicTensor], dict[str, SymbolicStates]]:
    """Return the output, and the remaining states, of a graph whose outputs are all states.

    The output is the only state, or the only state that is a vector of h, or the outputs of the LSTM.
    """
    vectors = [name for name, value in states.items() if len(value.axes) == 2]
    if len(states) > 1 and not (len(vectors) == 1 and states[vectors[0]].kind == "h"):
        lstm = next(iter(states.values())).entries[-1][0]
        return {lstm.source: lstm}, states
    [name] = vectors if len(states) > 1 else states
    others = {other: value for other, value in states.items() if other != name}
    try:
        return {name: as_features(states[name])}, others
    except UnsupportedNode as error:
        raise ValueError(f"the output {name!r} {error}") from None


def _with_flatten(tensor: SymbolicTensor) -> SymbolicTensor:
    """Return an output with a Flatten if its last axis has the features of all steps."""
    last = without_unit_dims(tensor.axes[-1]) if tensor.axes else ()
    is_flat = tensor.features and last == (tensor.time, *without_unit_dims(tensor.features))
    if tensor.time is not None and tensor.time.size > 1 and is_flat:
        return flatten(tensor, tensor.shape[-1])
    return tensor


def _with_unsqueeze(tensor: SymbolicTensor) -> SymbolicTensor:
    """Return an output with an Unsqueeze as the first layer if the input has no axis of features."""
    if not tensor.no_feature_axis:
        return tensor
    last_layer = LayerNode(None, Unsqueeze(), "")
    for layer in layers_up_to(tensor.last_layer):
        last_layer = replace(layer, previous=last_layer)
    return replace(tensor, last_layer=last_layer)


def _with_squeeze(tensor: SymbolicTensor) -> SymbolicTensor:
    """Return an output with a Squeeze as the last layer if its single feature is not an axis."""
    last = without_unit_dims(tensor.axes[-1]) if tensor.axes else ()
    # Without an LSTM, time and batch are unknown: any axis but the single feature is one of them.
    no_feature_axis = not tensor.axes or any(dim not in tensor.features for dim in last)
    if tensor.last_layer and tensor.features and not without_unit_dims(tensor.features) and no_feature_axis:
        return tensor.apply(Squeeze(), "")
    return tensor


def _check_axes(name: str, tensor: SymbolicTensor) -> None:
    if tensor.reversed_dim is not None:
        raise ValueError(f"the output {name!r} is in reverse order")
    for axis in map(without_unit_dims, tensor.axes):
        features = [dim for dim in axis if dim in tensor.features]
        if features and len(features) < len(axis):
            raise ValueError(f"the output {name!r} has steps or sequences and features in one axis")
