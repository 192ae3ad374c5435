"""Functions of one number that exporters write as several nodes: x · σ(x), or x · ½ (1 + erf(x / √2)).

What such nodes compute is kept as its values at some samples; as soon as these are those of a known function, it is
that function. An expression that never is one is refused by whatever takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from math import erf
from typing import Any, NamedTuple

import numpy as np

from glasscell.convert.onnx.importer.constants import UnsupportedNode
from glasscell.convert.onnx.importer.symbolic_values import SymbolicTensor, same_values
from glasscell.core.activations import activation
from glasscell.core.types import Array
from glasscell.layers import Function

SAMPLES = np.concatenate([np.linspace(-12, 12, 97), np.logspace(-4, 4, 17), -np.logspace(-3.5, 3.5, 15)])
NAMES = ("Silu", "Gelu", "GeluTanh", "Selu", "Softsign", "Softplus", "Relu", "Sigmoid", "Tanh")
RTOL, ATOL = 1e-6, 1e-7  # constants such as √2 are in float32
LAYERS = 4  # functions of one chain that an expression may consist of
COST = (LAYERS + 1) * SAMPLES.nbytes  # bytes that a node needs, at most


class Form(NamedTuple):
    """A function of each number of a view: its values, in float64, at `SAMPLES`."""

    of: SymbolicTensor
    values: Array


@dataclass(frozen=True)
class Pointwise:
    """A function of each number of a view that is no layer yet.

    Attributes
    ----------
    forms : tuple of Form
        It as a function of one view, and of those of which that is a function.
    """

    forms: tuple[Form, ...]


UNARY: dict[str, Callable[[Array], Array]] = {
    "Abs": np.abs,
    "Neg": np.negative,
    "Exp": np.exp,
    "Sqrt": np.sqrt,
    "Reciprocal": lambda x: 1 / x,
    "Erf": lambda x: np.array([erf(number) for number in x]),
}
BINARY: dict[str, Callable[[Any, Any], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
}


def of_one(op: str, value: SymbolicTensor | Pointwise, module: str) -> SymbolicTensor | Pointwise:
    """A function of one value."""
    if op not in UNARY and activation(op).alpha is not None:
        raise UnsupportedNode("is a function with parameters, of a part of another function")
    function = UNARY[op] if op in UNARY else activation(op).function
    return _settled([Form(of, _quiet(function, values)) for of, values in _forms(value)], module)


def of_two(op: str, a: Any, b: Any, module: str) -> SymbolicTensor | Pointwise | None:
    """A function of two values, of which one may be a number; None if they are not functions of the same view."""
    function = BINARY[op]
    if not isinstance(a, SymbolicTensor | Pointwise):
        return _settled([Form(of, _quiet(function, a, values)) for of, values in _forms(b)], module)
    if not isinstance(b, SymbolicTensor | Pointwise):
        return _settled([Form(of, _quiet(function, values, b)) for of, values in _forms(a)], module)
    common = [
        Form(first.of, _quiet(function, first.values, second.values))
        for first in _forms(a)
        for second in _forms(b)
        if same_values(first.of, second.of)
    ]
    return _settled(common, module) if common else None


def _forms(value: SymbolicTensor | Pointwise) -> tuple[Form, ...]:
    """The value as a function of itself, of what its last function is of, and so on."""
    if isinstance(value, Pointwise):
        return value.forms
    forms = [Form(value, SAMPLES)]
    functions: list[Callable[[Array], Array]] = []
    view = value
    while view.link and isinstance(view.link.layer, Function) and len(forms) <= LAYERS:
        layer = view.link.layer
        if layer.name in ("Softmax", "LogSoftmax"):
            break
        functions.insert(0, activation(*_parameters(layer)).function)
        view = replace(view, link=view.link.before)
        forms.append(Form(view, reduce(lambda values, function: _quiet(function, values), functions, SAMPLES)))
    return tuple(forms)


def _parameters(layer: Function) -> tuple[str, float | None, float | None]:
    return layer.name, layer.alpha, layer.beta


def _settled(forms: Sequence[Form], module: str) -> SymbolicTensor | Pointwise:
    """The function as a layer, if it is one that is known."""
    for of, values in forms:
        for name, known in _known().items():
            if np.isfinite(values).all() and np.allclose(values, known, rtol=RTOL, atol=ATOL):
                return of.through(Function(name), module)
    return Pointwise(tuple(forms))


def _quiet(function: Callable[..., Array], *operands: Any) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(function(*operands), np.float64)


@cache
def _known() -> dict[str, Array]:
    return {name: _quiet(activation(name).function, SAMPLES) for name in NAMES}
