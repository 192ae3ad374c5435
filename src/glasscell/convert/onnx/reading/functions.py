"""Operators that do the same at every place: activations, and arithmetic with numbers or of an LSTM's directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from glasscell.convert.onnx.reading.constants import Constant, Refusal, axis_of, decimal, known, scalar
from glasscell.convert.onnx.reading.layer_nodes import with_bias
from glasscell.convert.onnx.reading.node import Node, data
from glasscell.convert.onnx.reading.parts import as_features, made_one
from glasscell.convert.onnx.reading.plans import LinearPlan, weights_of
from glasscell.convert.onnx.reading.views import Link, States, Value, View, check_last_is_features, same_values
from glasscell.layers import Function

ACTIVATIONS = (
    *("Relu", "Sigmoid", "Tanh", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Elu", "Softsign", "Softplus"),
    *("Softmax", "LogSoftmax"),
)
LARGE = 20.0  # above it softplus is the identity, to 2e-9


@dataclass(frozen=True)
class Partial:
    """A part of a function that exporters write out: of x / (1 + |x|), or of x > 20 ? x : softplus(x)."""

    of: View
    what: Literal["|x|", "1 + |x|", "x is large"]


def _add(node: Node) -> Value | Partial:
    for one, other in (node.inputs, node.inputs[::-1]):
        if isinstance(one, Partial):
            return replace(one, what="1 + |x|") if one.what == "|x|" and scalar(other) == 1 else _lost(one)
    if all(isinstance(value, View | States) for value in node.inputs):
        return _of_two(node, "sum", "adds the outputs of two layers, and a chain has one")
    value, constant = _and_constant(node)
    view, array = as_features(value), weights_of("numbers", constant)
    plan = view.link.layer if view.link else None
    if isinstance(plan, LinearPlan) and (array.size > 1 or (array.ndim and plan.bias is None)):
        return with_bias(node, view, plan, array)
    return _affine(node, view, 1.0, _number(view, array))


def _sub(node: Node) -> Value:
    value, constant = _and_constant(node)
    number = _number(value, constant)
    scale, number = (1.0, -number) if value is node.inputs[0] else (-1.0, number)
    return _affine(node, as_features(value), scale, number)


def _mul(node: Node) -> Value:
    if all(isinstance(value, View | States) for value in node.inputs):
        return _of_two(node, "multiply", "multiplies the outputs of two layers, and a chain has one")
    value, constant = _and_constant(node)
    return _affine(node, as_features(value), _number(value, constant), 0.0)


def _div(node: Node) -> Value:
    below = node.inputs[1]
    if isinstance(below, Partial):
        same = below.what == "1 + |x|" and same_values(as_features(node.value), below.of)
        return below.of.through(Function("Softsign"), node.module) if same else _lost(below)
    value, constant = node.value, _number(node.value, below)
    return _affine(node, as_features(value), 1 / constant, 0.0)


def _abs(node: Node) -> Partial:
    return Partial(as_features(node.value), "|x|")


def _greater(node: Node) -> Partial:
    if scalar(node.inputs[1]) < LARGE:
        raise Refusal("compares, and a chain of layers has no branches")
    return Partial(as_features(node.value), "x is large")


def _where(node: Node) -> Value:
    condition, x, otherwise = node.inputs
    if isinstance(condition, Partial) and isinstance(otherwise, View) and otherwise.link:
        of = condition.of
        same = same_values(as_features(data(x)), of) and same_values(replace(otherwise, link=otherwise.link.before), of)
        if same and otherwise.link.layer == Function("Softplus"):
            return otherwise
    raise Refusal("chooses place by place, and a chain of layers has no branches")


def _lost(partial: Partial) -> Any:
    raise Refusal(f"computes something with {partial.what} that is no layer")


def _and_constant(node: Node) -> tuple[Value, Constant]:
    a, b = node.inputs
    return (data(a), known(b)) if isinstance(a, View | States) else (data(b), known(a))


def _number(value: Value, constant: Any) -> float:
    """A number that every place of a value meets."""
    if known(constant).ndim > len(value.axes):
        raise Refusal(f"gives more axes than the {len(value.axes)} of a layer's output")
    return scalar(constant)


def _of_two(node: Node, how: Any, refusal: str) -> View:
    try:
        a, b = (as_features(data(value)) for value in node.inputs)
        return made_one(a, b, how)
    except Refusal:
        raise Refusal(refusal) from None


def _affine(node: Node, view: View, alpha: float, beta: float) -> View:
    """αx + β; nodes of one module that make one function together become that."""
    last, before = _of_module(view.link, node.module)
    if node.op == "Add" and last.name == "Affine" and last.beta == 0:
        return _instead(view, 1, Function("Affine", last.alpha, beta), node.module)
    if node.op == "Mul" and last.name == "Tanh" and before.name == "Affine" and before.beta == 0:
        return _instead(view, 2, Function("ScaledTanh", alpha, before.alpha), node.module)
    return view.through(Function("Affine", alpha, beta), node.module)


def _of_module(link: Link | None, module: str) -> list[Function]:
    """The last two functions, if they come from this module; another one in the place of those that do not."""
    functions: list[Function] = []
    while link and module and link.name == module and isinstance(link.layer, Function) and len(functions) < 2:
        functions.append(link.layer)
        link = link.before
    return [*functions, *[Function("Relu")] * 2][:2]


def _instead(view: View, links: int, function: Function, module: str) -> View:
    """A function instead of the last links."""
    link = view.link
    for _ in range(links):
        link = link.before if link else None
    return replace(view, link=Link(link, function, module))


def _function(node: Node) -> Value:
    view = as_features(node.value)
    if node.op not in ("Softmax", "LogSoftmax"):
        alpha, beta = (decimal(node.attributes[k]) if k in node.attributes else None for k in ("alpha", "beta"))
        return view.through(Function(node.op, alpha, beta), node.module)
    last = len(view.axes) - 1
    if axis_of(node.attributes.get("axis", -1 if node.opset >= 13 else 1), last + 1) != last:
        raise Refusal("is over another axis than the last")
    check_last_is_features(view)
    return replace(view.through(Function(node.op), node.module), features=view.features or view.axes[-1])


FUNCTIONS: dict[str, Callable[[Node], Value | Partial]] = {
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Abs": _abs,
    "Greater": _greater,
    "Where": _where,
    **dict.fromkeys(ACTIVATIONS, _function),
}
