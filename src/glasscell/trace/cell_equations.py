"""The equations of a step of an RNN or a GRU with numbers; those of an LSTM are in :mod:`glasscell.trace.equations`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from glasscell.trace.equation_terms import Equation, changed_line, number, parenthesised
from glasscell.trace.layer_trace import LayerTrace

Line = tuple[str, str, str, float]  # left, symbols, numbers, value


def equations_of(layer: LayerTrace, t: int, k: int) -> tuple[tuple[Equation, ...], tuple[Equation, ...]]:
    """Return the equations of step t and unit k, forward and, with a target, backward."""
    gru = len(layer.gates) == 3
    lines = (_gru_forward, _gru_backward) if gru else (_rnn_forward, _rnn_backward)
    forward, backward = (tuple(Equation(*line) for line in part(layer, t, k)) for part in lines)
    return forward, backward


def _at(layer: LayerTrace, t: int, k: int, *names: str) -> list[float]:
    """Return the values of symbols at step t of unit k."""
    return [float(layer.value(name)[t, k]) for name in names]


def _sums(layer: LayerTrace, t: int, row: int) -> tuple[float, float, float]:
    """Return the parts of a pre-activation from h_prev, x and the bias."""
    W, H = layer.weights["kernel"][row].astype(np.float64), layer.H
    return float(W[:H] @ layer.value("h_prev")[t]), float(W[H:-1] @ layer.value("x")[t]), float(W[-1])


def _config(layer: LayerTrace) -> dict[str, Any]:
    """Return the options of an RNN or a GRU."""
    options: Any = layer.options
    return dict(options.config)


def _reset_after(layer: LayerTrace) -> bool:
    return _config(layer).get("reset_after", True) is True


def _rnn_forward(layer: LayerTrace, t: int, k: int) -> Iterator[Line]:
    z, h = _at(layer, t, k, "z", "h")
    relu = _config(layer).get("nonlinearity") == "relu"
    yield "z", "w_h·h_prev + w_x·x + b", " + ".join(map(parenthesised, _sums(layer, t, k))), z
    yield ("h", "max(0, z)", f"max(0, {number(z)})", h) if relu else ("h", "tanh(z)", f"tanh({number(z)})", h)


def _rnn_backward(layer: LayerTrace, t: int, k: int) -> Iterator[Line]:
    if not layer.has_gradients:
        return
    z, d_y, d_h, d_z = _at(layer, t, k, "z", "d_y", "d_h", "d_z")
    rest = "the_rest" if {"h", "W_h"} & layer.intervened else "w_hᵀ·d_z_next"
    yield "d_h", f"d_y + {rest}", f"{parenthesised(d_y)} + {parenthesised(d_h - d_y)}", d_h
    if _config(layer).get("nonlinearity") == "relu":
        slope = float(z > 0)
        symbols, numbers = "[h > 0]", str(int(slope))
    else:
        h = float(np.tanh(z))  # before an intervention on h
        symbols, numbers, slope = "(1 − h²)", f"(1 − {parenthesised(h)}²)", 1 - h * h
    yield from _through_activation(layer, ("h", "z", "d_z"), symbols, numbers, slope, (d_h, d_z))


def _through_activation(
    layer: LayerTrace, names: tuple[str, str, str], symbols: str, numbers: str, slope: float, d: tuple[float, float]
) -> Iterator[Line]:
    """Yield the line from the gradient on the value of an activation to that on its argument.

    With interventions, there is a line for the gradient on a value before them, which is found from what it results in.

    Parameters
    ----------
    names : tuple of str
        Symbols of the value and of the argument, and of the gradient on the argument.
    symbols, numbers, slope
        The derivative of the activation.
    d : tuple of float
        The gradients on the value that acted, and on the argument before interventions on it.
    """
    value, argument, gradient = names
    d_value, d_argument = d
    if {value, argument} <= layer.intervened:
        yield _changed(gradient, d_argument)
        return
    if value in layer.intervened:
        d_value = d_argument / slope if slope else 0.0
        if slope:
            yield _changed(f"d_{value}", d_value)
    result = d_value * slope if argument in layer.intervened else d_argument
    yield gradient, f"d_{value}·{symbols}", f"{parenthesised(d_value)}·{numbers}", result
    if argument in layer.intervened:
        yield _changed(gradient, d_argument)


def _changed(symbol: str, value: float) -> Line:
    line = changed_line(symbol, value)
    return line.left, line.symbols, line.numbers, line.value


def _gru_forward(layer: LayerTrace, t: int, k: int) -> Iterator[Line]:
    H = layer.H
    r, z, q, n, h, h_prev = _at(layer, t, k, "r", "z", "q", "n", "h", "h_prev")
    a = layer.value("a")[t].astype(np.float64).reshape(3, H)[:, k]
    for row, (gate, value) in enumerate((("r", r), ("z", z))):
        numbers = " + ".join(map(parenthesised, _sums(layer, t, row * H + k)))
        yield f"a_{gate}", "w_h·h_prev + w_x·x + b", numbers, float(a[row])
        yield gate, f"σ(a_{gate})", f"σ({number(float(a[row]))})", value
    from_h, from_x, b = _sums(layer, t, 2 * H + k)
    if _reset_after(layer):
        recurrent = float(layer.weights["recurrent_bias"][k])
        yield "q", "w_h·h_prev + b", f"{parenthesised(from_h)} + {parenthesised(recurrent)}", q
        through = "r·q", f"{parenthesised(r)}·{parenthesised(q)}"
    else:
        yield "q", "r·h_prev", f"{parenthesised(r)}·{parenthesised(h_prev)}", q
        through = "w_h·q", parenthesised(float(a[2]) - from_x - b)
    yield (
        "a_n",
        f"w_x·x + b + {through[0]}",
        f"{parenthesised(from_x)} + {parenthesised(b)} + {through[1]}",
        float(a[2]),
    )
    yield "n", "tanh(a_n)", f"tanh({number(float(a[2]))})", n
    yield (
        "h",
        "(1 − z)·n + z·h_prev",
        f"(1 − {parenthesised(z)})·{parenthesised(n)} + {parenthesised(z)}·{parenthesised(h_prev)}",
        h,
    )


def _gru_backward(layer: LayerTrace, t: int, k: int) -> Iterator[Line]:
    if not layer.has_gradients:
        return
    r, z, q, n, h_prev, d_y, d_h = _at(layer, t, k, "r", "z", "q", "n", "h_prev", "d_y", "d_h")
    d_n, d_z, d_q, d_r = _at(layer, t, k, "d_n", "d_z", "d_q", "d_r")
    a, d_a = (layer.value(name)[t].astype(np.float64).reshape(3, layer.H)[:, k] for name in ("a", "d_a"))
    yield "d_h", "d_y + the_rest", f"{parenthesised(d_y)} + {parenthesised(d_h - d_y)}", d_h
    if "h" in layer.intervened:
        read = [pair for gate, *pair in (("n", 1 - z, d_n), ("z", h_prev - n, d_z)) if gate not in layer.intervened]
        factor, d_gate = max(read, key=lambda pair: abs(pair[0]), default=(0.0, 0.0))
        d_h = d_gate / factor if factor else 0.0
        yield _changed("d_h", d_h)
    numbers = f"{parenthesised(d_h)}·(1 − {parenthesised(z)})"
    yield _with_rest(layer, "n", ("d_h·(1 − z)", numbers, d_h * (1 - z)), d_n)
    numbers = f"{parenthesised(d_h)}·({number(h_prev)} − {parenthesised(n)})"
    yield _with_rest(layer, "z", ("d_h·(h_prev − n)", numbers, d_h * (h_prev - n)), d_z)
    activated = float(np.tanh(a[2]))  # before an intervention on n
    slope = f"(1 − {parenthesised(activated)}²)"
    yield from _through_activation(
        layer, ("n", "a_n", "d_a_n"), "(1 − n²)", slope, 1 - activated * activated, (d_n, float(d_a[2]))
    )
    if "q" in layer.intervened:
        yield _changed("d_q", d_q)
    elif _reset_after(layer):
        yield "d_q", "d_a_n·r", f"{parenthesised(float(d_a[2]))}·{parenthesised(r)}", d_q
    else:
        yield "d_q", "w_hᵀ·d_a_n", number(d_q), d_q
    name, d, factor = ("d_a_n·q", float(d_a[2]), q) if _reset_after(layer) else ("d_q·h_prev", d_q, h_prev)
    yield _with_rest(layer, "r", (name, f"{parenthesised(d)}·{parenthesised(factor)}", d * factor), d_r)
    for gate, row, d in (("z", 1, d_z), ("r", 0, d_r)):
        activated = float(1 / (1 + np.exp(-a[row])))
        slope = f"{parenthesised(activated)}·(1 − {parenthesised(activated)})"
        derivative = activated * (1 - activated)
        gradients = d, float(d_a[row])
        yield from _through_activation(
            layer, (gate, f"a_{gate}", f"d_a_{gate}"), f"{gate}·(1 − {gate})", slope, derivative, gradients
        )


def _with_rest(layer: LayerTrace, gate: str, part: tuple[str, str, float], value: float) -> Line:
    """Return the line of the gradient on a gate; under interventions, what else is in it is the rest."""
    symbols, numbers, result = part
    rest = value - result
    if layer.interventions and abs(rest) > 1e-5 * max(abs(value), abs(result)):
        return f"d_{gate}", f"{symbols} + the_rest", f"{numbers} + {parenthesised(rest)}", value
    return f"d_{gate}", symbols, numbers, value
