"""The equations of a step of an RNN or a GRU with numbers; those of an LSTM are in :mod:`glasscell.trace.equations`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from glasscell.trace.equation_terms import Equation, number, parenthesised
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
    h, d_y, d_h, d_z = _at(layer, t, k, "h", "d_y", "d_h", "d_z")
    yield "d_h", "d_y + w_hᵀ·d_z_next", f"{parenthesised(d_y)} + {parenthesised(d_h - d_y)}", d_h
    if _config(layer).get("nonlinearity") == "relu":
        yield "d_z", "d_h·[h > 0]", f"{parenthesised(d_h)}·{int(h > 0)}", d_z
    else:
        yield "d_z", "d_h·(1 − h²)", f"{parenthesised(d_h)}·(1 − {parenthesised(h)}²)", d_z


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
    d_a = layer.value("d_a")[t].astype(np.float64).reshape(3, layer.H)[:, k]
    yield "d_h", "d_y + the_rest", f"{parenthesised(d_y)} + {parenthesised(d_h - d_y)}", d_h
    yield "d_n", "d_h·(1 − z)", f"{parenthesised(d_h)}·(1 − {parenthesised(z)})", d_n
    yield "d_z", "d_h·(h_prev − n)", f"{parenthesised(d_h)}·({number(h_prev)} − {parenthesised(n)})", d_z
    yield "d_a_n", "d_n·(1 − n²)", f"{parenthesised(d_n)}·(1 − {parenthesised(n)}²)", float(d_a[2])
    if _reset_after(layer):
        yield "d_q", "d_a_n·r", f"{parenthesised(float(d_a[2]))}·{parenthesised(r)}", d_q
        yield "d_r", "d_a_n·q", f"{parenthesised(float(d_a[2]))}·{parenthesised(q)}", d_r
    else:
        yield "d_q", "w_hᵀ·d_a_n", number(d_q), d_q
        yield "d_r", "d_q·h_prev", f"{parenthesised(d_q)}·{parenthesised(h_prev)}", d_r
    for gate, value, d, d_gate in (("z", z, d_z, d_a[1]), ("r", r, d_r, d_a[0])):
        numbers = f"{parenthesised(d)}·{parenthesised(value)}·(1 − {parenthesised(value)})"
        yield f"d_a_{gate}", f"d_{gate}·{gate}·(1 − {gate})", numbers, float(d_gate)
