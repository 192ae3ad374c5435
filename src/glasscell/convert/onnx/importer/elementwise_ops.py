"""Elementwise operators: activations, and arithmetic with constants or with the directions of an LSTM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glasscell.convert.onnx.importer.affine import PartialLayerNorm, combine_terms, scale_features, shift_features
from glasscell.convert.onnx.importer.constants import (
    Constant,
    UnsupportedNode,
    float32_literal,
    normalize_axis,
    require_constant,
    scalar,
)
from glasscell.convert.onnx.importer.layer_ops import add_bias
from glasscell.convert.onnx.importer.layer_specs import LinearSpec, require_weights
from glasscell.convert.onnx.importer.node import Node, require_symbolic
from glasscell.convert.onnx.importer.pointwise import NODE_BYTES, UNARY, Pointwise, apply_binary, apply_unary
from glasscell.convert.onnx.importer.selection import Merge, as_features, merge_directions
from glasscell.convert.onnx.importer.symbolic_values import (
    LayerNode,
    SymbolicStates,
    SymbolicTensor,
    SymbolicValue,
    check_last_is_features,
    same_values,
)
from glasscell.layers import Function

ACTIVATIONS = (
    *("Relu", "Sigmoid", "Tanh", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Elu", "Softsign", "Softplus"),
    *("Softmax", "LogSoftmax"),
)
SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}  # the defaults of the operator
SOFTPLUS_THRESHOLD = 20.0  # above it softplus is the identity, to 2e-9

Result = SymbolicValue | Pointwise | PartialLayerNorm


@dataclass(frozen=True)
class AboveThreshold:
    """The condition of x > 20 ? x : softplus(x)."""

    x: SymbolicTensor


def _arithmetic(node: Node) -> Result:
    """Apply an arithmetic operator to two values."""
    a, b = (as_features(value) if isinstance(value, SymbolicStates) else value for value in node.inputs)
    if isinstance(a, PartialLayerNorm) or isinstance(b, PartialLayerNorm):
        return combine_terms(node, a, b)
    if {type(a), type(b)} == {SymbolicTensor, np.ndarray} and node.op in WITH_CONSTANT:
        return WITH_CONSTANT[node.op](node, a, b)
    return _combine(node, a, b)


def _combine(node: Node, a: Any, b: Any) -> Result:
    """Return a function of one tensor, or the directions of an LSTM merged."""
    node.budget.reserve(NODE_BYTES)
    a, b = (scalar(value) if isinstance(value, np.ndarray) else value for value in (a, b))
    if not isinstance(a, float | SymbolicTensor | Pointwise) or not isinstance(b, float | SymbolicTensor | Pointwise):
        raise UnsupportedNode("computes with a value that is not the output of a layer")
    result = apply_binary(node.op, a, b, node.module)
    if result is not None:
        return result
    verb, merge = BETWEEN_LAYERS.get(node.op, ("combines", None))
    error = UnsupportedNode(f"{verb} the outputs of two layers, and a sequential model has one")
    if merge is None:
        raise error
    try:
        first, second = (as_features(require_symbolic(value)) for value in node.inputs)
        return merge_directions(first, second, merge)
    except UnsupportedNode:
        raise error from None


# A verb for messages, and how the operator merges the directions of an LSTM.
BETWEEN_LAYERS: dict[str, tuple[str, Merge | None]] = {
    "Add": ("adds", "sum"),
    "Mul": ("multiplies", "multiply"),
    "Sub": ("subtracts", None),
    "Div": ("divides", None),
}


def _add(node: Node, a: Any, b: Any) -> SymbolicTensor:
    tensor, constant = _tensor_and_constant(a, b)
    array = require_weights("numbers", constant)
    spec = tensor.last_spec
    if isinstance(spec, LinearSpec) and (array.size > 1 or (array.ndim and spec.bias is None)):
        return add_bias(node, tensor, spec, array)
    return shift_features(node, tensor, array) if array.size > 1 else _affine(node, tensor, 1.0, _number(tensor, array))


def _sub(node: Node, a: Any, b: Any) -> SymbolicTensor:
    tensor, constant = _tensor_and_constant(a, b)
    array = require_weights("numbers", constant)
    if array.size > 1:
        if tensor is a:
            return shift_features(node, tensor, -array)
        return shift_features(node, scale_features(node, tensor, -np.ones_like(array)), array)
    number = _number(tensor, array)
    return _affine(node, tensor, 1.0, -number) if tensor is a else _affine(node, tensor, -1.0, number)


def _mul(node: Node, a: Any, b: Any) -> SymbolicTensor:
    tensor, constant = _tensor_and_constant(a, b)
    array = require_weights("numbers", constant)
    return scale_features(node, tensor, array) if array.size > 1 else _affine(node, tensor, _number(tensor, array), 0.0)


def _div(node: Node, a: Any, b: Any) -> Result:
    if not isinstance(a, SymbolicTensor):
        return _combine(node, a, b)
    array = require_weights("numbers", b)
    if not array.all():
        raise UnsupportedNode("divides by 0")
    if array.size > 1:
        return scale_features(node, a, 1 / array.astype(np.float64))
    return _affine(node, a, 1 / _number(a, b), 0.0)


WITH_CONSTANT: dict[str, Callable[[Node, Any, Any], Result]] = {"Add": _add, "Sub": _sub, "Mul": _mul, "Div": _div}


def _tensor_and_constant(a: Any, b: Any) -> tuple[SymbolicTensor, Constant]:
    return (a, require_constant(b)) if isinstance(a, SymbolicTensor) else (b, require_constant(a))


def _number(value: SymbolicValue, constant: Any) -> float:
    """Return a constant that is one number and adds no axes to the value."""
    if require_constant(constant).ndim > len(value.axes):
        raise UnsupportedNode(f"adds axes to the {len(value.axes)} of a layer's output")
    return scalar(constant)


def _affine(node: Node, tensor: SymbolicTensor, alpha: float, beta: float) -> SymbolicTensor:
    """Return αx + β; consecutive nodes of one module become one function."""
    last, before = _last_functions(tensor.last_layer, node.module)
    if node.op == "Add" and last.name == "Affine" and last.beta == 0:
        return tensor.replace_last(Function("Affine", last.alpha, beta), node.module)
    if node.op == "Mul" and last.name == "Tanh" and before.name == "Affine" and before.beta == 0:
        return tensor.replace_last(Function("ScaledTanh", alpha, before.alpha), node.module, count=2)
    return tensor.apply(Function("Affine", alpha, beta), node.module)


def _last_functions(layer: LayerNode | None, module: str) -> list[Function]:
    """Return the last two functions, the last first; Relu in place of functions of other modules."""
    functions: list[Function] = []
    while layer and module and layer.name == module and isinstance(layer.spec, Function) and len(functions) < 2:
        functions.append(layer.spec)
        layer = layer.previous
    return [*functions, *[Function("Relu")] * 2][:2]


def _greater(node: Node) -> AboveThreshold:
    if scalar(node.inputs[1]) < SOFTPLUS_THRESHOLD:
        raise UnsupportedNode("compares values, and a sequential model has no branches")
    return AboveThreshold(as_features(node.value))


def _where(node: Node) -> SymbolicValue:
    condition, if_true, if_false = node.inputs
    if isinstance(condition, AboveThreshold) and isinstance(if_false, SymbolicTensor) and if_false.last_layer:
        argument = replace(if_false, last_layer=if_false.last_layer.previous)
        same = all(same_values(tensor, condition.x) for tensor in (as_features(require_symbolic(if_true)), argument))
        if same and if_false.last_spec == Function("Softplus"):
            return if_false
    raise UnsupportedNode("selects elements by a condition, and a sequential model has no branches")


def _activation(node: Node) -> Result:
    if isinstance(node.inputs[0], Pointwise):
        node.budget.reserve(NODE_BYTES)
        return apply_unary(node.op, node.inputs[0], node.module)
    tensor = as_features(node.value)
    if node.op not in ("Softmax", "LogSoftmax"):
        alpha, beta = (float32_literal(node.attributes[k]) if k in node.attributes else None for k in ("alpha", "beta"))
        return tensor.apply(Function(node.op, alpha, beta), node.module)
    last = len(tensor.axes) - 1
    if normalize_axis(node.attributes.get("axis", -1 if node.opset >= 13 else 1), last + 1) != last:
        raise UnsupportedNode("is over another axis than the last")
    check_last_is_features(tensor)
    return replace(tensor.apply(Function(node.op), node.module), features=tensor.features or tensor.axes[-1])


def _unary(node: Node) -> Result:
    value = node.inputs[0]
    if isinstance(value, PartialLayerNorm):
        return value.apply(node.op)
    node.budget.reserve(NODE_BYTES)
    return apply_unary(node.op, value if isinstance(value, Pointwise) else as_features(node.value), node.module)


def _selu(node: Node) -> SymbolicValue:
    for name, default in SELU.items():
        if not np.isclose(node.attributes.get(name, default), default, rtol=1e-6):
            raise UnsupportedNode(f"has {name} = {node.attributes[name]}; expected {default}")
    return as_features(node.value).apply(Function("Selu"), node.module)


def _gelu(node: Node) -> SymbolicValue:
    names = {b"none": "Gelu", b"tanh": "GeluTanh"}
    name = names.get(node.attributes.get("approximate", b"none"))
    if name is None:
        raise UnsupportedNode(f"has approximate = {node.attributes['approximate']!r}; expected 'none' or 'tanh'")
    return as_features(node.value).apply(Function(name), node.module)


def _swish(node: Node) -> SymbolicValue:
    if node.attributes.get("alpha", 1.0) != 1:
        raise UnsupportedNode(f"has alpha = {node.attributes['alpha']}; expected 1")
    return as_features(node.value).apply(Function("Silu"), node.module)


ELEMENTWISE_HANDLERS: dict[str, Callable[[Node], Any]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow"), _arithmetic),
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(ACTIVATIONS, _activation),
    "Greater": _greater,
    "Where": _where,
    "Selu": _selu,
    "Gelu": _gelu,
    "Swish": _swish,
}
