"""Operators that do the same at every place: activations, and arithmetic with numbers or of an LSTM's directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glasscell.convert.onnx.importer.affine import Moment, moment_of_two, moved, scaled
from glasscell.convert.onnx.importer.constants import (
    Constant,
    UnsupportedNode,
    float32_literal,
    normalize_axis,
    require_constant,
    scalar,
)
from glasscell.convert.onnx.importer.layer_ops import with_bias
from glasscell.convert.onnx.importer.layer_specs import LinearSpec, weights_of
from glasscell.convert.onnx.importer.node import Node, data
from glasscell.convert.onnx.importer.pointwise import COST, UNARY, Pointwise, of_one, of_two
from glasscell.convert.onnx.importer.selection import Merge, as_features, merge_directions
from glasscell.convert.onnx.importer.symbolic_values import (
    LayerNode,
    SymbolicStates,
    SymbolicTensor,
    Value,
    check_last_is_features,
    same_values,
)
from glasscell.layers import Function

ACTIVATIONS = (
    *("Relu", "Sigmoid", "Tanh", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Elu", "Softsign", "Softplus"),
    *("Softmax", "LogSoftmax"),
)
SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}  # the defaults of the operator
LARGE = 20.0  # above it softplus is the identity, to 2e-9

Result = Value | Pointwise | Moment


@dataclass(frozen=True)
class Large:
    """Where a view is large: a part of x > 20 ? x : softplus(x)."""

    of: SymbolicTensor


def _two(node: Node) -> Result:
    """An operator of two values that is arithmetic."""
    a, b = (as_features(value) if isinstance(value, SymbolicStates) else value for value in node.inputs)
    if isinstance(a, Moment) or isinstance(b, Moment):
        return moment_of_two(node, a, b)
    constants = [value for value in (a, b) if isinstance(value, np.ndarray)]
    if constants and isinstance(a, SymbolicTensor) | isinstance(b, SymbolicTensor):
        return ARITHMETIC[node.op](node, a, b) if node.op in ARITHMETIC else _computed(node, a, b)
    return _computed(node, a, b)


def _computed(node: Node, a: Any, b: Any) -> Result:
    """A function of one view, or both directions of an LSTM as one."""
    node.budget.reserve(COST)
    a, b = (scalar(value) if isinstance(value, np.ndarray) else value for value in (a, b))
    if not isinstance(a, float | SymbolicTensor | Pointwise) or not isinstance(b, float | SymbolicTensor | Pointwise):
        raise UnsupportedNode("computes with what no layer gives")
    one = of_two(node.op, a, b, node.module)
    if one is not None:
        return one
    verb, how = OF_TWO.get(node.op, ("combines", None))
    refusal = f"{verb} the outputs of two layers, and a chain has one"
    if how is None:
        raise UnsupportedNode(refusal)
    try:
        first, second = (as_features(data(value)) for value in node.inputs)
        return merge_directions(first, second, how)
    except UnsupportedNode:
        raise UnsupportedNode(refusal) from None


OF_TWO: dict[str, tuple[str, Merge | None]] = {
    "Add": ("adds", "sum"),
    "Mul": ("multiplies", "multiply"),
    "Sub": ("subtracts", None),
    "Div": ("divides", None),
}


def _add(node: Node, a: Any, b: Any) -> SymbolicTensor:
    view, constant = _and_constant(a, b)
    array = weights_of("numbers", constant)
    plan = view.link.layer if view.link else None
    if isinstance(plan, LinearSpec) and (array.size > 1 or (array.ndim and plan.bias is None)):
        return with_bias(node, view, plan, array)
    return moved(node, view, array) if array.size > 1 else _affine(node, view, 1.0, _number(view, array))


def _sub(node: Node, a: Any, b: Any) -> SymbolicTensor:
    view, constant = _and_constant(a, b)
    array = weights_of("numbers", constant)
    first = view is a
    if array.size > 1:
        return moved(node, view, -array) if first else moved(node, scaled(node, view, -np.ones_like(array)), array)
    number = _number(view, array)
    return _affine(node, view, 1.0, -number) if first else _affine(node, view, -1.0, number)


def _mul(node: Node, a: Any, b: Any) -> SymbolicTensor:
    view, constant = _and_constant(a, b)
    array = weights_of("numbers", constant)
    return scaled(node, view, array) if array.size > 1 else _affine(node, view, _number(view, array), 0.0)


def _div(node: Node, a: Any, b: Any) -> Result:
    if not isinstance(a, SymbolicTensor):
        return _computed(node, a, b)
    array = weights_of("numbers", b)
    if not array.all():
        raise UnsupportedNode("divides by 0")
    return scaled(node, a, 1 / array.astype(np.float64)) if array.size > 1 else _affine(node, a, 1 / _number(a, b), 0.0)


ARITHMETIC: dict[str, Callable[[Node, Any, Any], Result]] = {"Add": _add, "Sub": _sub, "Mul": _mul, "Div": _div}


def _greater(node: Node) -> Large:
    if scalar(node.inputs[1]) < LARGE:
        raise UnsupportedNode("compares, and a chain of layers has no branches")
    return Large(as_features(node.value))


def _where(node: Node) -> Value:
    condition, x, otherwise = node.inputs
    if isinstance(condition, Large) and isinstance(otherwise, SymbolicTensor) and otherwise.link:
        of = condition.of
        same = same_values(as_features(data(x)), of) and same_values(replace(otherwise, link=otherwise.link.before), of)
        if same and otherwise.link.layer == Function("Softplus"):
            return otherwise
    raise UnsupportedNode("chooses place by place, and a chain of layers has no branches")


def _and_constant(a: Any, b: Any) -> tuple[SymbolicTensor, Constant]:
    return (a, require_constant(b)) if isinstance(a, SymbolicTensor) else (b, require_constant(a))


def _number(value: Value, constant: Any) -> float:
    """A number that every place of a value meets."""
    if require_constant(constant).ndim > len(value.axes):
        raise UnsupportedNode(f"gives more axes than the {len(value.axes)} of a layer's output")
    return scalar(constant)


def _affine(node: Node, view: SymbolicTensor, alpha: float, beta: float) -> SymbolicTensor:
    """αx + β; nodes of one module that make one function together become that."""
    last, before = _of_module(view.link, node.module)
    if node.op == "Add" and last.name == "Affine" and last.beta == 0:
        return _replace_last(view, 1, Function("Affine", last.alpha, beta), node.module)
    if node.op == "Mul" and last.name == "Tanh" and before.name == "Affine" and before.beta == 0:
        return _replace_last(view, 2, Function("ScaledTanh", alpha, before.alpha), node.module)
    return view.through(Function("Affine", alpha, beta), node.module)


def _of_module(link: LayerNode | None, module: str) -> list[Function]:
    """The last two functions, if they come from this module; another one in the place of those that do not."""
    functions: list[Function] = []
    while link and module and link.name == module and isinstance(link.layer, Function) and len(functions) < 2:
        functions.append(link.layer)
        link = link.before
    return [*functions, *[Function("Relu")] * 2][:2]


def _replace_last(view: SymbolicTensor, links: int, function: Function, module: str) -> SymbolicTensor:
    """A function instead of the last links."""
    link = view.link
    for _ in range(links):
        link = link.before if link else None
    return replace(view, link=LayerNode(link, function, module))


def _function(node: Node) -> Result:
    if isinstance(node.inputs[0], Pointwise):
        node.budget.reserve(COST)
        return of_one(node.op, node.inputs[0], node.module)
    view = as_features(node.value)
    if node.op not in ("Softmax", "LogSoftmax"):
        alpha, beta = (float32_literal(node.attributes[k]) if k in node.attributes else None for k in ("alpha", "beta"))
        return view.through(Function(node.op, alpha, beta), node.module)
    last = len(view.axes) - 1
    if normalize_axis(node.attributes.get("axis", -1 if node.opset >= 13 else 1), last + 1) != last:
        raise UnsupportedNode("is over another axis than the last")
    check_last_is_features(view)
    return replace(view.through(Function(node.op), node.module), features=view.features or view.axes[-1])


def _unary(node: Node) -> Result:
    value = node.inputs[0]
    if isinstance(value, Moment):
        return value.after(node.op)
    node.budget.reserve(COST)
    return of_one(node.op, value if isinstance(value, Pointwise) else as_features(node.value), node.module)


def _selu(node: Node) -> Value:
    for name, usual in SELU.items():
        if not np.isclose(node.attributes.get(name, usual), usual, rtol=1e-6):
            raise UnsupportedNode(f"has {name} = {node.attributes[name]}, and a Selu has {usual}")
    return as_features(node.value).through(Function("Selu"), node.module)


def _gelu(node: Node) -> Value:
    names = {b"none": "Gelu", b"tanh": "GeluTanh"}
    name = names.get(node.attributes.get("approximate", b"none"))
    if name is None:
        raise UnsupportedNode(f"has approximate = {node.attributes['approximate']!r}")
    return as_features(node.value).through(Function(name), node.module)


def _swish(node: Node) -> Value:
    if node.attributes.get("alpha", 1.0) != 1:
        raise UnsupportedNode(f"has alpha = {node.attributes['alpha']}, and a SiLU has none")
    return as_features(node.value).through(Function("Silu"), node.module)


FUNCTIONS: dict[str, Callable[[Node], Any]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow"), _two),
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(ACTIVATIONS, _function),
    "Greater": _greater,
    "Where": _where,
    "Selu": _selu,
    "Gelu": _gelu,
    "Swish": _swish,
}
