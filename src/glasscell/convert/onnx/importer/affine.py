"""Operators that scale and shift features: by constants, by statistics of batches, or of the features of each step.

Exporters write a LayerNormalization as one node, or as its mean, variance and quotient: see :class:`PartialLayerNorm`.
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
from glasscell.convert.onnx.importer.layer_specs import BatchNormSpec, LayerNormSpec, LayerSpec, require_weights
from glasscell.convert.onnx.importer.node import Node
from glasscell.convert.onnx.importer.selection import as_features
from glasscell.convert.onnx.importer.symbolic_values import (
    SymbolicTensor,
    describe_size,
    is_features,
    runs_over,
    same_values,
    without_unit_dims,
)
from glasscell.core.types import Array
from glasscell.layers import Rescaling

TUPLE_ITEM_BYTES = 40  # of a number in a tuple
Term = Literal["mean", "x - mean", "(x - mean)²", "variance", "variance + ε", "deviation", "1 / deviation"]


def with_features(tensor: SymbolicTensor, index: int) -> SymbolicTensor:
    """Return a tensor one of whose axes is the features; if they are unknown, the axis becomes them."""
    axis = tensor.axes[index]
    if tensor.features:
        if not is_features(tensor, index):
            raise UnsupportedNode("acts on an axis that is not the features in their order")
        return tensor
    if len(without_unit_dims(axis)) > 1 or not axis or runs_over(axis, tensor.time):
        raise UnsupportedNode("acts on an axis that is not the features in their order")
    return replace(tensor, features=axis)


def check_dtype(tensor: SymbolicTensor, dtype: np.dtype[Any]) -> None:
    """Raise an error for weights whose dtype is not that of the node's input."""
    if tensor.dtype != dtype:
        raise UnsupportedNode(f"has weights of dtype {dtype}, and its input has dtype {tensor.dtype}")


def _per_feature(tensor: SymbolicTensor, array: Constant) -> tuple[SymbolicTensor, Array]:
    """Return a tensor with known features, and an array that broadcasts to it as one number per feature."""
    longer = [k for k, size in enumerate(array.shape) if size > 1]
    if len(longer) != 1 or array.ndim > len(tensor.axes):
        raise UnsupportedNode(f"has an array of shape {array.shape}, which is not one number per feature")
    index = longer[0] + len(tensor.axes) - array.ndim
    if array.size != tensor.shape[index]:
        raise UnsupportedNode(f"has {array.size} numbers for an axis of size {describe_size(tensor.axes[index])}")
    check_dtype(tensor, array.dtype)
    return with_features(tensor, index), array.reshape(-1)


def scale_features(node: Node, tensor: SymbolicTensor, array: Constant) -> SymbolicTensor:
    """Return each feature multiplied by a constant per feature."""
    node.budget.reserve(TUPLE_ITEM_BYTES * array.size)
    with np.errstate(over="ignore"):  # of numbers above those of the dtype, which are an error below
        tensor, numbers = _per_feature(tensor, array.astype(tensor.dtype))
    last = tensor.last_spec
    if isinstance(last, LayerNormSpec) and last.gain is None and last.shift is None:
        return _replace_last(tensor, replace(last, gain=numbers), node)
    return tensor.apply(Rescaling(_as_tuple(numbers)), node.weight_module)


def shift_features(node: Node, tensor: SymbolicTensor, array: Constant) -> SymbolicTensor:
    """Return each feature plus a constant per feature."""
    node.budget.reserve(TUPLE_ITEM_BYTES * array.size)
    tensor, numbers = _per_feature(tensor, array)
    last = tensor.last_spec
    if isinstance(last, LayerNormSpec) and last.shift is None:
        return _replace_last(tensor, replace(last, shift=numbers), node)
    if isinstance(last, Rescaling) and last.offset == 0:
        return _replace_last(tensor, Rescaling(last.scale, _as_tuple(numbers)), node)
    return tensor.apply(Rescaling(1.0, _as_tuple(numbers)), node.weight_module)


def _as_tuple(array: Array) -> tuple[float, ...]:
    if not np.isfinite(array).all():
        raise UnsupportedNode("has NaN or infinite numbers")
    return tuple(array.tolist())


def _replace_last(tensor: SymbolicTensor, spec: LayerSpec, node: Node) -> SymbolicTensor:
    """Return a tensor with another last layer of the same name."""
    assert tensor.last_layer is not None  # the callers have read its specification  # noqa: S101
    return tensor.replace_last(spec, tensor.last_layer.name or node.weight_module)


def _check_per_feature(tensor: SymbolicTensor, axis: int, *arrays: Array) -> None:
    """Raise an error for weights that are not one number per feature, of the input's dtype."""
    for array in arrays:
        if array.shape != (tensor.shape[axis],):
            size = describe_size(tensor.axes[axis])
            raise UnsupportedNode(f"has an array of shape {array.shape} for {size} features")
        check_dtype(tensor, array.dtype)


def batch_normalization(node: Node) -> SymbolicTensor:
    """Apply a BatchNormalization with the statistics of training."""
    if node.attributes.get("training_mode", 0) or not node.attributes.get("spatial", 1):
        raise UnsupportedNode("normalises by the statistics of its batch: the model was exported in training mode")
    tensor = as_features(node.value)
    if len(tensor.axes) < 2:
        raise UnsupportedNode("needs a batch and features")
    tensor = with_features(tensor, 1)
    gain, shift, mean, variance = (
        require_weights(name, node.input(k)) for k, name in enumerate(("scale", "biases", "means", "variances"), 1)
    )
    _check_per_feature(tensor, 1, gain, shift, mean, variance)
    if (variance < 0).any():
        raise UnsupportedNode("has negative variances")
    epsilon = float32_literal(node.attributes.get("epsilon", 1e-5))
    return tensor.apply(BatchNormSpec(gain, shift, mean, variance, epsilon), node.weight_module)


def layer_normalization(node: Node) -> list[SymbolicTensor]:
    """Apply a LayerNormalization over the features."""
    tensor = as_features(node.value)
    last = len(tensor.axes) - 1
    if normalize_axis(node.attributes.get("axis", -1), last + 1) != last or node.num_outputs > 1:
        raise UnsupportedNode("normalises over other axes than the features, or outputs its statistics")
    tensor = with_features(tensor, last)
    gain = require_weights("scale", node.inputs[1])
    shift = None if node.input(2) is None else require_weights("biases", node.input(2))
    _check_per_feature(tensor, last, gain, *([] if shift is None else [shift]))
    epsilon = float32_literal(node.attributes.get("epsilon", 1e-5))
    return [tensor.apply(LayerNormSpec(tensor.shape[last], epsilon, tensor.dtype, gain, shift), node.weight_module)]


@dataclass(frozen=True)
class PartialLayerNorm:
    """A term of (x - mean) / √(variance + ε), with mean and variance over the features of each step.

    Attributes
    ----------
    x : SymbolicTensor
    term : str
    epsilon : float
    """

    x: SymbolicTensor
    term: Term
    epsilon: float = 0.0

    def apply(self, op: str) -> PartialLayerNorm:
        """Return the term that a function makes of this one."""
        terms: dict[tuple[str, Term], Term] = {
            ("Sqrt", "variance + ε"): "deviation",
            ("Reciprocal", "deviation"): "1 / deviation",
        }
        term = terms.get((op, self.term))
        if term is None:
            raise self.unsupported()
        return replace(self, term=term)

    def unsupported(self) -> UnsupportedNode:
        """Return the error for an operation that no layer normalisation has."""
        return UnsupportedNode(f"computes with {self.term} of the features, and not as a layer normalisation does")


def mean_over_features(node: Node) -> PartialLayerNorm | None:
    """Return the mean over the features, or that of (x - mean)². For a mean over another axis, None."""
    value, axes = node.inputs[0], axes_of(node.inputs, node.attributes)
    tensor = value.x if isinstance(value, PartialLayerNorm) else value
    if (
        not isinstance(tensor, SymbolicTensor)
        or axes is None
        or len(axes) != 1
        or not node.attributes.get("keepdims", 1)
    ):
        return None
    last = len(tensor.axes) - 1
    over_features = normalize_axis(axes[0], last + 1) == last and (
        is_features(tensor, last) if tensor.features else len(without_unit_dims(tensor.axes[last])) == 1
    )
    if isinstance(value, PartialLayerNorm):
        if value.term != "(x - mean)²" or not over_features:
            raise value.unsupported()
        return replace(value, term="variance")
    return PartialLayerNorm(with_features(tensor, last), "mean") if over_features and tensor.rows is None else None


NORMALIZED = "(x - mean) / deviation"
TERMS: dict[tuple[str, Any, Any], str] = {
    ("Sub", "x", "mean"): "x - mean",
    ("Mul", "x - mean", "x - mean"): "(x - mean)²",
    ("Pow", "x - mean", 2.0): "(x - mean)²",
    ("Pow", "variance + ε", 0.5): "deviation",
    ("Pow", "variance + ε", -0.5): "1 / deviation",
    ("Div", 1.0, "deviation"): "1 / deviation",
    ("Div", "x - mean", "deviation"): NORMALIZED,
    ("Mul", "x - mean", "1 / deviation"): NORMALIZED,
    ("Mul", "1 / deviation", "x - mean"): NORMALIZED,
}


def combine_terms(node: Node, a: Any, b: Any) -> PartialLayerNorm | SymbolicTensor:
    """Return the next term of a layer normalisation, or the layer when it is complete."""
    terms = [value for value in (a, b) if isinstance(value, PartialLayerNorm)]
    x, epsilon = terms[0].x, max(term.epsilon for term in terms)
    operands = [_operand(value, x) for value in (a, b)]
    if node.op == "Add" and "variance" in operands and float in map(type, operands):
        [epsilon] = (operand for operand in operands if isinstance(operand, float))
        return PartialLayerNorm(x, "variance + ε", epsilon)
    term = TERMS.get((node.op, *operands))
    if term is None or (term == NORMALIZED and epsilon <= 0):
        raise terms[0].unsupported()
    if term == NORMALIZED:
        return x.apply(LayerNormSpec(x.shape[-1], epsilon, x.dtype), node.module)
    return PartialLayerNorm(x, term, epsilon)  # type: ignore[arg-type] # one of them


def _operand(value: Any, x: SymbolicTensor) -> Any:
    """Return an operand as a term of the normalisation of x, or as a number."""
    if isinstance(value, PartialLayerNorm):
        return value.term if same_values(value.x, x) else None
    if isinstance(value, SymbolicTensor):
        return "x" if same_values(value, x) else None
    return scalar(value) if isinstance(value, np.ndarray) else None
