"""The parts of equations with their values: numbers, products and derivatives as text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glasscell.core.activations import Activation
from glasscell.trace.layer_trace import LayerTrace

SIGNIFICANT_DIGITS = 4


@dataclass(frozen=True)
class Equation:
    """An equation ``left = symbols = numbers = value``."""

    left: str
    symbols: str
    numbers: str
    value: float

    def __str__(self) -> str:
        return f"{self.left} = {self.symbols} = {self.numbers} = {number(self.value)}"


def number(value: float) -> str:
    """Return a number with four significant digits and a minus sign (U+2212)."""
    return f"{value:.{SIGNIFICANT_DIGITS}g}".replace("-", "−")


def changed_line(symbol: str, value: float) -> Equation:
    """Return the line of a value after the interventions on its symbol."""
    return Equation(symbol, "intervention", number(value), value)


def new_cell(layer_trace: LayerTrace, t: int, k: int) -> float:
    """Return f·c_prev + i·g: the cell state, before zoneout; after an intervention on it."""
    if "c" in layer_trace.intervened:
        return float(layer_trace.c[t, k])
    return float(layer_trace.f[t, k] * layer_trace.c_prev[t, k] + layer_trace.i[t, k] * layer_trace.g[t, k])


def derivative(function: Activation, value: str, argument: str, a: float, z: float) -> tuple[str, str]:
    """Return the derivative of an activation in symbols and in numbers."""
    if function.name == "Sigmoid":
        return f"{value}·(1 − {value})", f"{number(a)}·(1 − {parenthesised(a)})"
    if function.name == "Tanh":
        return f"(1 − {value}²)", f"(1 − {parenthesised(a)}²)"
    slope = float(function.derivative(np.array(z), np.array(a)))
    return f"{function_name(function)}′({argument})", parenthesised(slope)


def function_name(function: Activation) -> str:
    name = str(function.name)
    return {"Sigmoid": "σ", "Tanh": "tanh"}.get(name, name)


def product(a: float, b: float) -> str:
    return f"{parenthesised(a)}·{parenthesised(b)}"


def parenthesised(value: float) -> str:
    """Return a number, in parentheses if it is negative."""
    return f"({number(value)})" if value < 0 else number(value)
