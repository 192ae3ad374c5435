"""Operators that are layers: an embedding, LSTMs, linear maps, dropout, and reductions over all steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any, Literal

import numpy as np

from glasscell.convert.onnx.importer.affine import (
    PartialLayerNorm,
    batch_normalization,
    check_dtype,
    layer_normalization,
    mean_over_features,
)
from glasscell.convert.onnx.importer.constants import (
    Constant,
    UnsupportedNode,
    axes_of,
    float32_literal,
    normalize_axis,
    require_constant,
    scalar,
)
from glasscell.convert.onnx.importer.layer_specs import EmbeddingSpec, InitialStateInput, LinearSpec, require_weights
from glasscell.convert.onnx.importer.lstm_ops import InitialStates, conjugate_by_reversal, lstm_spec
from glasscell.convert.onnx.importer.node import Node, require_symbolic
from glasscell.convert.onnx.importer.selection import Merge, as_features, check_all_steps_valid, reduce_direction_axis
from glasscell.convert.onnx.importer.symbolic_values import (
    Dim,
    SymbolicStates,
    SymbolicTensor,
    SymbolicValue,
    check_last_is_features,
    describe_shape,
    replace_axis,
    runs_over,
    with_axes,
    without_unit_dims,
)
from glasscell.convert.onnx.importer.windows import convolution, covers_all_steps, pooling
from glasscell.layers import Dropout, Flatten, Pool

POOLS: dict[str, Literal["mean", "max"]] = {
    **dict.fromkeys(("ReduceMean", "GlobalAveragePool", "AveragePool"), "mean"),
    **dict.fromkeys(("ReduceMax", "GlobalMaxPool", "MaxPool"), "max"),
}
MERGES: dict[str, Merge] = {"ReduceSum": "sum", "ReduceMean": "average", "ReduceProd": "multiply"}
MAX_STATES = 4096  # entries of an initial state: layers times directions


def embedding(node: Node, table: Constant, ids: SymbolicTensor, axis: int) -> SymbolicTensor:
    """Apply a Gather from a table at the inputs of the graph."""
    if axis != 0 or table.ndim != 2 or ids.last_layer is not None or ids.rows is not None:
        raise UnsupportedNode("gathers from a constant, and not rows of a table at the ids of an input")
    spec = EmbeddingSpec(require_weights("vectors", table))
    features = (Dim(table.shape[1]),)
    vectors = ids.apply(spec, node.weight_module)
    return replace(vectors, axes=(*ids.axes, features), features=features, dtype=spec.dtype, cast_ids=False)


def _lstm(node: Node) -> list[SymbolicValue]:
    x, W, R, B, lengths, h0, c0, P = (*node.inputs, *[None] * 8)[:8]
    batch_first = bool(node.attributes.get("layout", 0))
    time_axis, batch_axis = (1, 0) if batch_first else (0, 1)
    before = as_features(require_symbolic(x))
    tensor = _identify_axes(before, time_axis, batch_axis)
    tensor = _with_lengths(tensor, lengths, time_axis, is_first=before.time is None)
    node.budget.reserve(0 if B is None else require_constant(B).nbytes)  # for the sum of its two biases
    spec = lstm_spec(
        node.attributes,
        {"W": W, "R": R, "B": B, "P": P},
        _initial_states(h0, tensor, int(batch_first)),
        _initial_states(c0, tensor, int(batch_first)),
        input_size=prod(dim.size for dim in tensor.features),
        batch_first=batch_first,
    )
    check_dtype(tensor, spec.dtype)
    if tensor.reversed_dim is not None:
        tensor, spec = replace(tensor, reversed_dim=None), conjugate_by_reversal(spec)
    directions, units = Dim(spec.options.num_directions), Dim(spec.options.hidden_size)
    time, batch, D, H = tensor.axes[time_axis], tensor.axes[batch_axis], (directions,), (units,)
    y_axes = (batch, time, D, H) if batch_first else (time, D, batch, H)
    state_axes = (batch, D, H) if batch_first else (D, batch, H)
    y = replace(tensor.apply(spec, node.module), axes=y_axes, features=(directions, units))
    entries = tuple((y, weights) for weights in spec.directions)
    return [y, *(SymbolicStates(kind, entries, directions, units, state_axes) for kind in ("h", "c"))]


def _identify_axes(tensor: SymbolicTensor, time_axis: int, batch_axis: int) -> SymbolicTensor:
    """Return the input of an LSTM with known time, batch and features, which must be those of earlier layers."""
    if len(tensor.axes) != 3 or tensor.per_sequence:
        description = "that is one vector per sequence" if tensor.per_sequence else f"of {len(tensor.axes)} axes"
        raise UnsupportedNode(f"has an input {description}")
    time_dims, batch_dims, feature_dims = (without_unit_dims(tensor.axes[k]) for k in (time_axis, batch_axis, 2))
    if (feature_dims != without_unit_dims(tensor.features)) if tensor.features else len(feature_dims) > 1:
        raise UnsupportedNode("has an input whose last axis is not the features in their order")
    if len(time_dims) > 1 or len(batch_dims) > 1:
        raise UnsupportedNode("has an input whose axes are mixed")
    for known, dims in ((tensor.time, time_dims), (tensor.batch, batch_dims)):
        if known is not None and without_unit_dims((known,)) != dims:
            raise UnsupportedNode("has time and batch in another place than the LSTM before it")
    time = tensor.time or (*time_dims, *tensor.axes[time_axis], Dim(1))[0]
    if tensor.reversed_dim not in (None, time):
        raise UnsupportedNode("has an input whose batch or features are reversed")
    batch = (*batch_dims, Dim(1))[0]
    no_feature_axis = tensor.no_feature_axis or not (tensor.features or tensor.axes[2])
    features = tensor.features or tensor.axes[2] or (Dim(1),)
    return replace(tensor, time=time, batch=batch, features=features, no_feature_axis=no_feature_axis)


def _with_lengths(tensor: SymbolicTensor, lengths: Any, time_axis: int, *, is_first: bool) -> SymbolicTensor:
    """Return the input of an LSTM with the input of the graph that has the lengths of the sequences."""
    source = None
    if (
        isinstance(lengths, SymbolicTensor)
        and lengths.last_layer is None
        and lengths.rows is None
        and lengths.reversed_dim is None
    ):
        source = lengths.source
    elif lengths is not None and (
        isinstance(lengths, SymbolicTensor | SymbolicStates) or (lengths != tensor.shape[time_axis]).any()
    ):
        raise UnsupportedNode("has sequence_lens that are not an input of the graph")
    if source is not None and tensor.reversed_dim is not None:
        raise UnsupportedNode("has reversed sequences, whose padding comes first")
    if not is_first and source != tensor.lengths:
        raise UnsupportedNode("has other sequence_lens than the LSTM before it")
    return replace(tensor, lengths=source)


def _initial_states(value: Any, tensor: SymbolicTensor, axis: int) -> InitialStates:
    """Return initial states, which must be a constant or an input of the graph."""
    if value is None or isinstance(value, np.ndarray):
        return value
    if not isinstance(value, SymbolicTensor) or value.last_layer is not None:
        raise UnsupportedNode("has initial states that another layer computes")
    if value.source == tensor.source or value.reversed_dim is not None or len(value.axes) != 3:
        raise UnsupportedNode("has initial states that are not a separate input")
    rows = range(value.shape[axis]) if value.rows is None else value.rows
    single = len(rows) == 1 and not without_unit_dims(value.axes[axis])  # its axis may have been removed and inserted
    if value.rows is not None and not (single or runs_over(value.axes[axis], value.rows_dim)):
        raise UnsupportedNode("has initial states that are a part of an input, but not whole layers")
    if len(rows) > MAX_STATES:
        raise UnsupportedNode(f"has initial states of shape {describe_shape(value)}")
    return [InitialStateInput(value.source, row) for row in rows]


def _gemm(node: Node) -> SymbolicValue:
    tensor, weight = as_features(node.value), require_weights("weights", node.inputs[1])
    if node.attributes.get("transA", 0) or len(tensor.axes) != 2 or weight.ndim != 2:
        raise UnsupportedNode("does not multiply vectors with a matrix of weights")
    weight = weight if node.attributes.get("transB", 0) else weight.T
    alpha, beta = (float32_literal(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    bias = None if node.input(2) is None else require_weights("biases", node.input(2))
    if bias is not None and beta != 1:
        node.budget.reserve(bias.nbytes)
        bias = bias * weight.dtype.type(beta)
    return _linear(node, tensor, weight, bias, alpha)


def _matmul(node: Node) -> SymbolicValue:
    tensor, weight = as_features(node.value), require_weights("weights", node.inputs[1])
    if weight.ndim != 2:
        raise UnsupportedNode(f"multiplies with an array of shape {weight.shape}")
    return _linear(node, tensor, weight.T, None)


def _linear(
    node: Node, tensor: SymbolicTensor, weight: Constant, bias: Constant | None, scale: float = 1.0
) -> SymbolicTensor:
    O, I = weight.shape
    tensor, weight = _flatten_steps(node, tensor, weight)
    check_last_is_features(tensor)
    check_dtype(tensor, weight.dtype)
    if tensor.shape[-1] != I:
        raise UnsupportedNode(f"has weights for {I} features, and an input of shape {describe_shape(tensor)}")
    spec = LinearSpec(weight, None if bias is None else _bias(tensor, bias, O), scale)
    features = (Dim(O),)
    return replace(tensor.apply(spec, node.weight_module), axes=(*tensor.axes[:-1], features), features=features)


def _flatten_steps(node: Node, tensor: SymbolicTensor, weight: Constant) -> tuple[SymbolicTensor, Constant]:
    """Return a tensor whose last axis has the features of all steps as the output of a Flatten.

    Where the axis has features first and time second, the weights are permuted instead.
    """
    last, features = without_unit_dims(tensor.axes[-1]) if tensor.axes else (), without_unit_dims(tensor.features)
    is_flat = tensor.time is not None and features and last in ((tensor.time, *features), (*features, tensor.time))
    if tensor.time is None or tensor.time.size == 1 or not is_flat:
        return tensor, weight
    O, I = weight.shape
    F = prod(dim.size for dim in features)
    T = I // F if tensor.time.dynamic else tensor.time.size  # the weights, not a placeholder, determine a dynamic size
    if T * F != I:
        raise UnsupportedNode(f"has weights for {I} features, and an input of shape {describe_shape(tensor)}")
    if last == (*features, tensor.time):
        node.budget.reserve(weight.nbytes)
        weight = weight.reshape(O, F, T).swapaxes(1, 2).reshape(O, I)
    return flatten(tensor, I), weight


def flatten(tensor: SymbolicTensor, size: int) -> SymbolicTensor:
    """Return a tensor whose last axis has the features of all steps as one vector of this size."""
    check_all_steps_valid(tensor)
    flat = (Dim(size),)
    flattened = tensor.apply(Flatten(), tensor.flatten_module)
    return replace(flattened, axes=(*tensor.axes[:-1], flat), features=flat, time=None, per_sequence=True)


def _bias(tensor: SymbolicTensor, bias: Constant, O: int) -> Constant:
    """Return a bias (O,) from an array that is the same at every step."""
    if bias.shape[-1:] not in ((), (bias.size,)) or bias.size not in (1, O) or bias.ndim > len(tensor.axes):
        raise UnsupportedNode(f"adds an array of shape {bias.shape} to {O} features")
    return np.broadcast_to(bias.reshape(-1), (O,))


def add_bias(node: Node, tensor: SymbolicTensor, spec: LinearSpec, array: Constant) -> SymbolicTensor:
    """Return the output of a linear map plus an array, which becomes its bias."""
    check_last_is_features(tensor)
    bias = _bias(tensor, array, len(spec.weight))
    assert tensor.last_layer is not None  # it has this specification  # noqa: S101
    node.budget.reserve(bias.nbytes)
    biased = replace(spec, bias=bias if spec.bias is None else spec.bias + bias)
    return tensor.replace_last(biased, node.weight_module or tensor.last_layer.name)


def _dropout(node: Node) -> SymbolicValue:
    if node.input(2) is not None and bool(require_constant(node.input(2))):
        raise UnsupportedNode("drops values: the model was exported in training mode")
    ratio = node.input(1)
    rate = float32_literal(node.attributes.get("ratio", 0.5)) if ratio is None else scalar(ratio)
    return as_features(node.value).apply(Dropout(rate), node.module)


def _pool(node: Node) -> SymbolicValue | list[SymbolicTensor]:
    """Apply a pool over all axes after the first two, or over windows of steps."""
    if not covers_all_steps(node, node.value.shape[2:]):
        return pooling(node)
    return _reduce_axes(node, [*range(2, len(node.value.axes))], keepdims=True)


def _reduce(node: Node) -> SymbolicValue | PartialLayerNorm:
    """Apply a reduction over all steps, both directions, or the features of a layer normalisation."""
    mean = mean_over_features(node) if node.op == "ReduceMean" else None
    if mean is not None:
        return mean
    return _reduce_axes(node, axes_of(node.inputs, node.attributes), keepdims=bool(node.attributes.get("keepdims", 1)))


def _reduce_axes(node: Node, axes: list[int] | None, *, keepdims: bool) -> SymbolicValue:
    if not axes:
        raise UnsupportedNode("reduces all axes to one number")
    value = node.value
    reduced = {normalize_axis(axis, len(value.axes)) for axis in axes}
    stacked = isinstance(value, SymbolicStates) and any(runs_over(value.axes[k], value.entries_dim) for k in reduced)
    tensor = as_features(value, stacked=stacked)
    for axis in reduced:
        tensor = _reduce_axis(node.op, tensor, axis, node.module)
        tensor = replace(tensor, axes=replace_axis(tensor, axis, ()))
    return tensor if keepdims else with_axes(tensor, [dims for k, dims in enumerate(tensor.axes) if k not in reduced])


def _reduce_axis(op: str, tensor: SymbolicTensor, axis: int, module: str) -> SymbolicTensor:
    """Return a tensor reduced over an axis, which it still has."""
    if runs_over(tensor.axes[axis], tensor.time) and op in POOLS:
        check_all_steps_valid(tensor)
        return replace(tensor.apply(Pool(POOLS[op]), module), time=None, per_sequence=True)
    if not without_unit_dims(tensor.axes[axis]):
        return tensor
    if op not in MERGES or runs_over(tensor.axes[axis], tensor.time):
        raise UnsupportedNode("reduces an axis by an operation that no layer has")
    return reduce_direction_axis(tensor, axis, MERGES[op])


LAYER_HANDLERS: dict[str, Callable[[Node], Any]] = {
    "LSTM": _lstm,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Dropout": _dropout,
    "Conv": convolution,
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum", "ReduceProd"), _reduce),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool"), _pool),
}
