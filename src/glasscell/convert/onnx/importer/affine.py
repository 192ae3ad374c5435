"""Operators that scale and shift features: by constants, by statistics of batches, or of the features of each step.

Exporters write a LayerNormalization as one node, or as its mean, variance and quotient: see :class:`Moment`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from glasscell.convert.onnx.importer.constants import (
    Constant,
    UnsupportedNode,
    axes_of,
    float32_literal,
    normalize_axis,
    scalar,
)
from glasscell.convert.onnx.importer.layer_specs import BatchNormPlan, LayerNormPlan, weights_of
from glasscell.convert.onnx.importer.node import Node
from glasscell.convert.onnx.importer.selection import as_features
from glasscell.convert.onnx.importer.symbolic_values import (
    LayerNode,
    SymbolicTensor,
    describe_size,
    is_features,
    runs_over,
    same_values,
    without_unit_dims,
)
from glasscell.core.types import Array
from glasscell.layers import Rescaling

FLOAT_BYTES = 40  # of a number in a tuple
What = Literal["mean", "x - mean", "(x - mean)²", "variance", "variance + ε", "deviation", "1 / deviation"]


def with_features(view: SymbolicTensor, axis: int) -> SymbolicTensor:
    """The view, one of whose axes is the features: if that is not known yet, the axis becomes them."""
    group = view.axes[axis]
    if view.features:
        if not is_features(view, axis):
            raise UnsupportedNode("acts on an axis that is not the features in their order")
        return view
    if len(without_unit_dims(group)) > 1 or not group or runs_over(group, view.time):
        raise UnsupportedNode("acts on an axis that is not the features in their order")
    return replace(view, features=group)


def _of_features(view: SymbolicTensor, array: Constant) -> tuple[SymbolicTensor, Array]:
    """The view with its features known, and an array that broadcasts to it as one number for each of them."""
    longer = [k for k, size in enumerate(array.shape) if size > 1]
    if len(longer) != 1 or array.ndim > len(view.axes):
        raise UnsupportedNode(f"has an array of shape {array.shape}, which is not one number for each feature")
    axis = longer[0] + len(view.axes) - array.ndim
    if array.size != view.shape[axis]:
        raise UnsupportedNode(f"has {array.size} numbers for an axis of size {describe_size(view.axes[axis])}")
    check_type(view, array.dtype)
    return with_features(view, axis), array.reshape(-1)


def scaled(node: Node, view: SymbolicTensor, array: Constant) -> SymbolicTensor:
    """Return each feature multiplied by a constant per feature."""
    node.budget.reserve(FLOAT_BYTES * array.size)
    view, numbers = _of_features(view, array.astype(view.dtype))
    last = view.link.layer if view.link else None
    if isinstance(last, LayerNormPlan) and last.gain is None and last.shift is None:
        return _instead(view, replace(last, gain=numbers), node)
    return view.through(Rescaling(_numbers(numbers)), node.owner)


def moved(node: Node, view: SymbolicTensor, array: Constant) -> SymbolicTensor:
    """Return each feature plus a constant per feature."""
    node.budget.reserve(FLOAT_BYTES * array.size)
    view, numbers = _of_features(view, array)
    last = view.link.layer if view.link else None
    if isinstance(last, LayerNormPlan) and last.shift is None:
        return _instead(view, replace(last, shift=numbers), node)
    if isinstance(last, Rescaling) and last.offset == 0:
        return _instead(view, Rescaling(last.scale, _numbers(numbers)), node)
    return view.through(Rescaling(1.0, _numbers(numbers)), node.owner)


def _numbers(array: Array) -> tuple[float, ...]:
    if not np.isfinite(array).all():
        raise UnsupportedNode("has NaN or infinite numbers")
    return tuple(array.tolist())


def _instead(view: SymbolicTensor, plan: Any, node: Node) -> SymbolicTensor:
    """The view with another last layer."""
    assert view.link is not None  # it is the one of the last layer  # noqa: S101
    return replace(view, link=LayerNode(view.link.before, plan, view.link.name or node.owner))


def check_type(view: SymbolicTensor, dtype: np.dtype[Any]) -> None:
    """Refuse weights of another type than that of the numbers."""
    if view.dtype != dtype:
        raise UnsupportedNode(f"has weights of dtype {dtype}, and its input has dtype {view.dtype}")


def batch_normalization(node: Node) -> SymbolicTensor:
    """A BatchNormalization with the statistics of training."""
    if node.attributes.get("training_mode", 0) or not node.attributes.get("spatial", 1):
        raise UnsupportedNode("normalises by the statistics of its batch: the model was exported in training mode")
    view = as_features(node.value)
    if len(view.axes) < 2:
        raise UnsupportedNode("needs a batch and features")
    view = with_features(view, 1)
    gain, shift, mean, variance = (
        weights_of(name, node.given(k)) for k, name in enumerate(("scale", "biases", "means", "variances"), 1)
    )
    F = view.shape[1]
    for array in (gain, shift, mean, variance):
        if array.shape != (F,):
            raise UnsupportedNode(f"has an array of shape {array.shape} for {describe_size(view.axes[1])} features")
        check_type(view, array.dtype)
    if (variance < 0).any():
        raise UnsupportedNode("has variances below 0")
    plan = BatchNormPlan(gain, shift, mean, variance, float32_literal(node.attributes.get("epsilon", 1e-5)))
    return view.through(plan, node.owner)


def layer_normalization(node: Node) -> list[SymbolicTensor]:
    """A LayerNormalization over the features."""
    view = as_features(node.value)
    last = len(view.axes) - 1
    if normalize_axis(node.attributes.get("axis", -1), last + 1) != last or node.outputs > 1:
        raise UnsupportedNode("normalises over other axes than the features, or gives its statistics")
    view = with_features(view, last)
    gain = weights_of("scale", node.inputs[1])
    shift = None if node.given(2) is None else weights_of("biases", node.given(2))
    for array in (gain, *([] if shift is None else [shift])):
        if array.shape != (view.shape[last],):
            raise UnsupportedNode(f"has an array of shape {array.shape} for {describe_size(view.axes[last])} features")
        check_type(view, array.dtype)
    plan = LayerNormPlan(
        view.shape[last], float32_literal(node.attributes.get("epsilon", 1e-5)), view.dtype, gain, shift
    )
    return [view.through(plan, node.owner)]


@dataclass(frozen=True)
class Moment:
    """A part of (x - mean) / √(variance + ε), mean and variance over the features of each step.

    Attributes
    ----------
    of : View
        x.
    what : str
    epsilon : float
    """

    of: SymbolicTensor
    what: What
    epsilon: float = 0.0

    def after(self, op: str) -> Moment:
        """What a function makes of it."""
        following: dict[tuple[str, What], What] = {
            ("Sqrt", "variance + ε"): "deviation",
            ("Reciprocal", "deviation"): "1 / deviation",
        }
        what = following.get((op, self.what))
        if what is None:
            raise UnsupportedNode(f"computes something with {self.what} that is no layer")
        return replace(self, what=what)


def mean_of_features(node: Node) -> Moment | None:
    """The mean over the features, or that of (x - mean)²; None if it is over another axis."""
    value, axes = node.inputs[0], axes_of(node.inputs, node.attributes)
    view = value.of if isinstance(value, Moment) else value
    if not isinstance(view, SymbolicTensor) or axes is None or len(axes) != 1 or not node.attributes.get("keepdims", 1):
        return None
    last = len(view.axes) - 1
    of_features = normalize_axis(axes[0], last + 1) == last and (
        is_features(view, last) if view.features else len(without_unit_dims(view.axes[last])) == 1
    )
    if isinstance(value, Moment):
        if value.what != "(x - mean)²" or not of_features:
            raise UnsupportedNode(f"computes something with {value.what} that is no layer")
        return replace(value, what="variance")
    return Moment(with_features(view, last), "mean") if of_features and view.rows is None else None


NORMALISED = "(x - mean) / deviation"
FOLLOWING: dict[tuple[str, Any, Any], str] = {
    ("Sub", "x", "mean"): "x - mean",
    ("Mul", "x - mean", "x - mean"): "(x - mean)²",
    ("Pow", "x - mean", 2.0): "(x - mean)²",
    ("Pow", "variance + ε", 0.5): "deviation",
    ("Pow", "variance + ε", -0.5): "1 / deviation",
    ("Div", 1.0, "deviation"): "1 / deviation",
    ("Div", "x - mean", "deviation"): NORMALISED,
    ("Mul", "x - mean", "1 / deviation"): NORMALISED,
    ("Mul", "1 / deviation", "x - mean"): NORMALISED,
}


def moment_of_two(node: Node, a: Any, b: Any) -> Moment | SymbolicTensor:
    """The next part of a normalisation, or its end."""
    moments = [value for value in (a, b) if isinstance(value, Moment)]
    of, epsilon = moments[0].of, max(moment.epsilon for moment in moments)
    known = [_known(value, of) for value in (a, b)]
    if node.op == "Add" and "variance" in known and float in map(type, known):
        [epsilon] = (value for value in known if isinstance(value, float))
        return Moment(of, "variance + ε", epsilon)
    what = FOLLOWING.get((node.op, *known))
    if what is None or (what == NORMALISED and epsilon <= 0):
        raise UnsupportedNode(f"computes something with {moments[0].what} that is no layer")
    if what == NORMALISED:
        return of.through(LayerNormPlan(of.shape[-1], epsilon, of.dtype), node.module)
    return Moment(of, what, epsilon)  # type: ignore[arg-type] # one of them


def _known(value: Any, of: SymbolicTensor) -> Any:
    """An operand as a part of the normalisation of a view, or as a number."""
    if isinstance(value, Moment):
        return value.what if same_values(value.of, of) else None
    if isinstance(value, SymbolicTensor):
        return "x" if same_values(value, of) else None
    return scalar(value) if isinstance(value, np.ndarray) else None
