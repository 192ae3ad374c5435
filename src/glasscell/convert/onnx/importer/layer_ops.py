"""Operators that are layers: an embedding, LSTMs, linear maps, dropout, and one vector of all steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any, Literal

import numpy as np

from glasscell.convert.onnx.importer.affine import (
    Moment,
    batch_normalization,
    check_type,
    layer_normalization,
    mean_of_features,
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
from glasscell.convert.onnx.importer.layer_specs import EmbeddingSpec, InitialStateInput, LinearSpec, weights_of
from glasscell.convert.onnx.importer.lstm_ops import Initial, conjugate_by_reversal, lstm_plan
from glasscell.convert.onnx.importer.node import Node, data
from glasscell.convert.onnx.importer.selection import Merge, as_features, check_in_time, reduce_direction_axis
from glasscell.convert.onnx.importer.symbolic_values import (
    Dim,
    LayerNode,
    SymbolicStates,
    SymbolicTensor,
    Value,
    check_last_is_features,
    describe_shape,
    runs_over,
    with_axes,
    without_unit_dims,
)
from glasscell.convert.onnx.importer.windows import convolution, covers_all, pooling
from glasscell.layers import Dropout, Flatten, Pool

POOLS: dict[str, Literal["mean", "max"]] = {
    **dict.fromkeys(("ReduceMean", "GlobalAveragePool", "AveragePool"), "mean"),
    **dict.fromkeys(("ReduceMax", "GlobalMaxPool", "MaxPool"), "max"),
}
MERGES: dict[str, Merge] = {"ReduceSum": "sum", "ReduceMean": "average", "ReduceProd": "multiply"}
MOST_STATES = 4096  # entries of an initial state: layers times directions


def embedding(node: Node, table: Constant, symbols: SymbolicTensor, axis: int) -> SymbolicTensor:
    if axis != 0 or table.ndim != 2 or symbols.link is not None or symbols.rows is not None:
        raise UnsupportedNode("looks up something else than the inputs' symbols in a table")
    plan = EmbeddingSpec(weights_of("vectors", table))
    features = (Dim(table.shape[1]),)
    view = symbols.through(plan, node.owner)
    return replace(view, axes=(*symbols.axes, features), features=features, dtype=plan.dtype, symbols=False)


def _lstm(node: Node) -> list[Value]:
    x, W, R, B, lengths, h0, c0, P = (*node.inputs, *[None] * 8)[:8]
    batch_first = bool(node.attributes.get("layout", 0))
    steps, batch = (1, 0) if batch_first else (0, 1)
    before = as_features(data(x))
    view = _with_lengths(_in_time(before, steps, batch), lengths, steps, first=before.time is None)
    node.budget.reserve(0 if B is None else require_constant(B).nbytes)  # for the sum of its two biases
    plan = lstm_plan(
        node.attributes,
        {"W": W, "R": R, "B": B, "P": P},
        _initial(h0, view, int(batch_first)),
        _initial(c0, view, int(batch_first)),
        inputs=prod(atom.size for atom in view.features),
        batch_first=batch_first,
    )
    check_type(view, plan.dtype)
    if view.turned is not None:
        view, plan = replace(view, turned=None), conjugate_by_reversal(plan)
    ways, units = Dim(plan.options.num_directions), Dim(plan.options.hidden_size)
    of_time, of_batch = view.axes[steps], view.axes[batch]
    y_axes = (of_batch, of_time, (ways,), (units,)) if batch_first else (of_time, (ways,), of_batch, (units,))
    state_axes = (of_batch, (ways,), (units,)) if batch_first else ((ways,), of_batch, (units,))
    y = replace(view.through(plan, node.module), axes=y_axes, features=(ways, units))
    entries = tuple((y, way) for way in plan.ways)
    return [y, *(SymbolicStates(kind, entries, ways, units, state_axes) for kind in ("h", "c"))]


def _in_time(view: SymbolicTensor, steps: int, batch: int) -> SymbolicTensor:
    """The input of an LSTM: which axes are time and batch, if they are what they were before."""
    if len(view.axes) != 3 or view.alone:
        raise UnsupportedNode(
            f"has an input {'that is one vector a sequence' if view.alone else f'of {len(view.axes)} axes'}"
        )
    of_time, of_batch, of_features = (without_unit_dims(view.axes[k]) for k in (steps, batch, 2))
    if (of_features != without_unit_dims(view.features)) if view.features else len(of_features) > 1:
        raise UnsupportedNode("has an input whose last axis is not the features in their order")
    if len(of_time) > 1 or len(of_batch) > 1:
        raise UnsupportedNode("has an input whose axes are mixed")
    for before, now in ((view.time, of_time), (view.batch, of_batch)):
        if before is not None and without_unit_dims((before,)) != now:
            raise UnsupportedNode("has time and batch in another place than the LSTM before it")
    time = view.time or (*of_time, *view.axes[steps], Dim(1))[0]
    if view.turned not in (None, time):
        raise UnsupportedNode("runs over sequences whose batch or features are the other way round")
    of_batch = of_batch or (Dim(1),)
    bare = view.bare or not (view.features or view.axes[2])
    features = view.features or view.axes[2] or (Dim(1),)
    return replace(view, time=time, batch=of_batch[0], features=features, bare=bare)


def _with_lengths(view: SymbolicTensor, lengths: Any, steps: int, *, first: bool) -> SymbolicTensor:
    """The same, and which input says how many steps each sequence has."""
    source = None
    if isinstance(lengths, SymbolicTensor) and lengths.link is None and lengths.rows is None and lengths.turned is None:
        source = lengths.source
    elif lengths is not None and (
        isinstance(lengths, SymbolicTensor | SymbolicStates) or (lengths != view.shape[steps]).any()
    ):
        raise UnsupportedNode("has sequence_lens that are no input of the graph")
    if source is not None and view.turned is not None:
        raise UnsupportedNode("runs over sequences that are the other way round, padding first")
    if not first and source != view.lengths:
        raise UnsupportedNode("has other sequence_lens than the LSTM before it")
    return replace(view, lengths=source)


def _initial(value: Any, view: SymbolicTensor, axis: int) -> Initial:
    """An initial state, if it is a constant or an input of the graph."""
    if value is None or isinstance(value, np.ndarray):
        return value
    if not isinstance(value, SymbolicTensor) or value.link is not None:
        raise UnsupportedNode("begins with states that another layer computes")
    if value.source == view.source or value.turned is not None or len(value.axes) != 3:
        raise UnsupportedNode("begins with states that are no input of their own")
    rows = range(value.shape[axis]) if value.rows is None else value.rows
    one = len(rows) == 1 and not without_unit_dims(value.axes[axis])  # its axis may have come and gone
    if value.rows is not None and not (one or runs_over(value.axes[axis], value.cut)):
        raise UnsupportedNode("begins with a part of an input that is not of some layers")
    if len(rows) > MOST_STATES:
        raise UnsupportedNode(f"begins with states of shape {describe_shape(value)}")
    return [InitialStateInput(value.source, row) for row in rows]


def _gemm(node: Node) -> Value:
    view, weight = as_features(node.value), weights_of("weights", node.inputs[1])
    if node.attributes.get("transA", 0) or len(view.axes) != 2 or weight.ndim != 2:
        raise UnsupportedNode("multiplies something else than vectors with a matrix of weights")
    weight = weight if node.attributes.get("transB", 0) else weight.T
    alpha, beta = (float32_literal(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    bias = None if node.given(2) is None else weights_of("biases", node.given(2))
    if bias is not None and beta != 1:
        node.budget.reserve(bias.nbytes)
        bias = bias * weight.dtype.type(beta)
    return _linear(node, view, weight, bias, alpha)


def _matmul(node: Node) -> Value:
    view, weight = as_features(node.value), weights_of("weights", node.inputs[1])
    if weight.ndim != 2:
        raise UnsupportedNode(f"multiplies with an array of shape {weight.shape}")
    return _linear(node, view, weight.T, None)


def _linear(
    node: Node, view: SymbolicTensor, weight: Constant, bias: Constant | None, scale: float = 1.0
) -> SymbolicTensor:
    O, I = weight.shape
    view, weight = _of_flat(node, view, weight)
    check_last_is_features(view)
    check_type(view, weight.dtype)
    if view.shape[-1] != I:
        raise UnsupportedNode(f"has weights for {I} features, and its input has the shape {describe_shape(view)}")
    plan = LinearSpec(weight, None if bias is None else _per_feature(view, bias, O), scale)
    features = (Dim(O),)
    return replace(view.through(plan, node.owner), axes=(*view.axes[:-1], features), features=features)


def _of_flat(node: Node, view: SymbolicTensor, weight: Constant) -> tuple[SymbolicTensor, Constant]:
    """The features of all steps in one axis as what a Flatten gives; in another order, with the weights in that one."""
    last, features = without_unit_dims(view.axes[-1]) if view.axes else (), without_unit_dims(view.features)
    flat = view.time is not None and features and last in ((view.time, *features), (*features, view.time))
    if view.time is None or view.time.size == 1 or not flat:
        return view, weight
    O, I = weight.shape
    F = prod(atom.size for atom in features)
    steps = I // F if view.time.open else view.time.size  # an open size is not the one that the weights are for
    if steps * F != I:
        raise UnsupportedNode(f"has weights for {I} features, and its input has the shape {describe_shape(view)}")
    if last == (*features, view.time):  # time is last: the weights move instead
        node.budget.reserve(weight.nbytes)
        weight = weight.reshape(O, F, steps).swapaxes(1, 2).reshape(O, I)
    return flattened(view, I), weight


def flattened(view: SymbolicTensor, size: int) -> SymbolicTensor:
    """The features of all steps as one vector of this size, in the last axis."""
    check_in_time(view)
    flat = (Dim(size),)
    new = view.through(Flatten(), view.flat)
    return replace(new, axes=(*view.axes[:-1], flat), features=flat, time=None, alone=True)


def _per_feature(view: SymbolicTensor, bias: Constant, O: int) -> Constant:
    """A bias (O,), if an array is one at every step."""
    if bias.shape[-1:] not in ((), (bias.size,)) or bias.size not in (1, O) or bias.ndim > len(view.axes):
        raise UnsupportedNode(f"adds an array of shape {bias.shape} to {O} features")
    return np.broadcast_to(bias.reshape(-1), (O,))


def with_bias(node: Node, view: SymbolicTensor, plan: LinearSpec, array: Constant) -> SymbolicTensor:
    """A linear map to whose outputs an array is added."""
    check_last_is_features(view)
    bias = _per_feature(view, array, len(plan.weight))
    assert view.link is not None  # it is the plan's  # noqa: S101
    node.budget.reserve(bias.nbytes)
    new = replace(plan, bias=bias if plan.bias is None else plan.bias + bias)
    return replace(view, link=LayerNode(view.link.before, new, node.owner or view.link.name))


def _dropout(node: Node) -> Value:
    if node.given(2) is not None and bool(require_constant(node.given(2))):
        raise UnsupportedNode("drops out: the model was exported in training mode")
    ratio = node.given(1)
    rate = float32_literal(node.attributes.get("ratio", 0.5)) if ratio is None else scalar(ratio)
    return as_features(node.value).through(Dropout(rate), node.module)


def _pool(node: Node) -> Value | list[SymbolicTensor]:
    """One of all steps, as convolutional networks do it: over all axes but two; or one of each window."""
    if not covers_all(node, node.value.shape[2:]):
        return pooling(node)
    return _over(node, [*range(2, len(node.value.axes))], keep=True)


def _reduce(node: Node) -> Value | Moment:
    """One of all steps, or of both directions; or the mean of all features, for their normalisation."""
    mean = mean_of_features(node) if node.op == "ReduceMean" else None
    if mean is not None:
        return mean
    return _over(node, axes_of(node.inputs, node.attributes), keep=bool(node.attributes.get("keepdims", 1)))


def _over(node: Node, axes: list[int] | None, *, keep: bool) -> Value:
    if not axes:
        raise UnsupportedNode("makes one number of all")
    value = node.value
    gone = {normalize_axis(axis, len(value.axes)) for axis in axes}
    stacked = isinstance(value, SymbolicStates) and any(runs_over(value.axes[axis], value.along) for axis in gone)
    view = as_features(value, stacked=stacked)
    for axis in gone:
        view = _reduced(node.op, view, axis, node.module)
        view = replace(view, axes=tuple(() if k == axis else group for k, group in enumerate(view.axes)))
    return view if keep else with_axes(view, [group for k, group in enumerate(view.axes) if k not in gone])


def _reduced(op: str, view: SymbolicTensor, axis: int, module: str) -> SymbolicTensor:
    """One of an axis, which is not yet gone."""
    if runs_over(view.axes[axis], view.time) and op in POOLS:
        check_in_time(view)
        return replace(view.through(Pool(POOLS[op]), module), time=None, alone=True)
    if not without_unit_dims(view.axes[axis]):
        return view
    if op not in MERGES or runs_over(view.axes[axis], view.time):
        raise UnsupportedNode("reduces an axis in a way that no layer supports")
    return reduce_direction_axis(view, axis, MERGES[op])


LAYERS: dict[str, Callable[[Node], Any]] = {
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
