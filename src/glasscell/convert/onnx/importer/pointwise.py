"""Functions of one number that exporters write as several nodes: x · σ(x), or x · ½ (1 + erf(x / √2)).

The function that such nodes compute is stored as its values at some samples. As soon as these equal those of a known
function, the nodes become that function. Operators that receive another expression are unsupported.
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
RECOGNIZED = ("Silu", "Gelu", "GeluTanh", "Selu", "Softsign", "Softplus", "Relu", "Sigmoid", "Tanh")
RTOL, ATOL = 1e-6, 1e-7  # constants such as √2 are float32
MAX_FUNCTIONS = 4  # consecutive functions that an expression may consist of
NODE_BYTES = (MAX_FUNCTIONS + 1) * SAMPLES.nbytes  # memory of a node, at most


class SampledFunction(NamedTuple):
    """A function of each number of a tensor: its values, in float64, at `SAMPLES`."""

    argument: SymbolicTensor
    values: Array


@dataclass(frozen=True)
class Pointwise:
    """A function of each number of a tensor that is not a known function yet.

    Attributes
    ----------
    candidates : tuple of SampledFunction
        The same values as functions of several tensors: the last one, the one that this is a function of, and so on.
    """

    candidates: tuple[SampledFunction, ...]


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


def apply_unary(op: str, value: SymbolicTensor | Pointwise, module: str) -> SymbolicTensor | Pointwise:
    """Return a function of one value."""
    if op not in UNARY and activation(op).alpha is not None:
        raise UnsupportedNode("is a function with parameters, inside another function")
    function = UNARY[op] if op in UNARY else activation(op).function
    return _recognize([SampledFunction(x, _evaluate(function, values)) for x, values in _candidates(value)], module)


def apply_binary(op: str, a: Any, b: Any, module: str) -> SymbolicTensor | Pointwise | None:
    """Return a function of two values, one of which may be a number.

    If they are not functions of the same tensor, None.
    """
    function = BINARY[op]
    if not isinstance(a, SymbolicTensor | Pointwise):
        results = [SampledFunction(x, _evaluate(function, a, values)) for x, values in _candidates(b)]
    elif not isinstance(b, SymbolicTensor | Pointwise):
        results = [SampledFunction(x, _evaluate(function, values, b)) for x, values in _candidates(a)]
    else:
        results = [
            SampledFunction(first.argument, _evaluate(function, first.values, second.values))
            for first in _candidates(a)
            for second in _candidates(b)
            if same_values(first.argument, second.argument)
        ]
    return _recognize(results, module) if results else None


def _candidates(value: SymbolicTensor | Pointwise) -> tuple[SampledFunction, ...]:
    """Return a value as a function of itself, of the argument of its last function, and so on."""
    if isinstance(value, Pointwise):
        return value.candidates
    candidates = [SampledFunction(value, SAMPLES)]
    functions: list[Callable[[Array], Array]] = []
    tensor = value
    while tensor.last_layer and isinstance(tensor.last_layer.spec, Function) and len(candidates) <= MAX_FUNCTIONS:
        function = tensor.last_layer.spec
        if function.name in ("Softmax", "LogSoftmax"):
            break
        functions.insert(0, activation(function.name, function.alpha, function.beta).function)
        tensor = replace(tensor, last_layer=tensor.last_layer.previous)
        candidates.append(SampledFunction(tensor, reduce(lambda x, f: _evaluate(f, x), functions, SAMPLES)))
    return tuple(candidates)


def _recognize(candidates: Sequence[SampledFunction], module: str) -> SymbolicTensor | Pointwise:
    """Return the layer of a known function; other functions unchanged."""
    for argument, values in candidates:
        for name, expected in _known_values().items():
            if np.isfinite(values).all() and np.allclose(values, expected, rtol=RTOL, atol=ATOL):
                return argument.apply(Function(name), module)
    return Pointwise(tuple(candidates))


def _evaluate(function: Callable[..., Array], *operands: Any) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(function(*operands), np.float64)


@cache
def _known_values() -> dict[str, Array]:
    return {name: _evaluate(activation(name).function, SAMPLES) for name in RECOGNIZED}
