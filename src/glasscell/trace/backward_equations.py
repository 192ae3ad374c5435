"""Backward equations of one unit of an LSTM at one step, with their values."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from glasscell.trace.equation_terms import (
    Equation,
    changed_line,
    derivative,
    new_cell,
    number,
    parenthesised,
    product,
)
from glasscell.trace.layer_trace import LayerTrace


def backward_equations(layer_trace: LayerTrace, t: int, k: int) -> Iterator[Equation]:
    """Yield the equations of ``step_backward`` of :mod:`glasscell.core.cell`, from h to z.

    Where an intervention acted on a symbol, the gradient on the value after it is followed by that on the value before
    it, which the next equations read. That is found from what they result in; it has no line where nothing reads it.
    """
    variant = layer_trace.options.cell_config
    d_c = yield from _backward_to_c(layer_trace, t, k)
    for gate in ("i", "f", "g"):
        if gate in variant.gates:
            yield _with_rest(layer_trace, gate, t, k, *_through_c(layer_trace, t, k, gate, d_c))
    for gate in (gate for gate in "ifog" if gate in variant.gates):
        yield from _backward_to_z(layer_trace, t, k, gate)


def _backward_to_z(layer_trace: LayerTrace, t: int, k: int, gate: str) -> Iterator[Equation]:
    """Yield the equations from a gate to its z."""
    variant, intervened = layer_trace.options.cell_config, layer_trace.intervened
    function = variant.activation_for(gate)
    value, z, d = (
        float(v[t, k]) for v in (layer_trace.value(gate), layer_trace.gate("z", gate), layer_trace.value(f"d_{gate}"))
    )
    d_z, name = float(layer_trace.gate("d_z", gate)[t, k]), f"d_z_{gate}"
    if {gate, f"z_{gate}"} <= intervened:
        yield changed_line(name, d_z)
        return
    if gate in intervened:
        value = float(function.function(np.array(z)))  # of the activation, before the intervention
    slope = float(function.derivative(np.array(z), np.array(value)))
    symbols, numbers = derivative(function, gate, f"z_{gate}", value, z)
    if variant.clip is not None and abs(z) >= variant.clip:
        symbols, numbers, slope = f"{symbols}·0", f"{numbers}·0", 0.0  # the derivative of clip is 0 there
    if gate in intervened:
        d = d_z / slope if slope else 0.0
        if slope:
            yield changed_line(f"d_{gate}", d)
    result = d * slope if f"z_{gate}" in intervened else d_z
    yield Equation(name, f"d_{gate}·{symbols}", f"{parenthesised(d)}·{numbers}", result)
    if f"z_{gate}" in intervened:
        yield changed_line(name, d_z)


def _with_rest(
    layer_trace: LayerTrace, gate: str, t: int, k: int, symbols: str, numbers: str, result: float
) -> Equation:
    """Return the line of the gradient on a gate; one that the next step holds has a part from there."""
    value = float(layer_trace.value(f"d_{gate}")[t, k])
    rest = value - result
    if gate in layer_trace.intervened and abs(rest) > 1e-5 * max(abs(value), abs(result)):
        return Equation(f"d_{gate}", f"{symbols} + the_rest", f"{numbers} + {parenthesised(rest)}", value)
    return Equation(f"d_{gate}", symbols, numbers, value)


def _backward_to_c(layer_trace: LayerTrace, t: int, k: int) -> Generator[Equation, None, float]:
    """Yield the equations from h to o and c; m is o·tanh c, which differs from h with a projection or zoneout.

    Return the gradient on c that the gates read: before an intervention on it.
    """
    intervened = layer_trace.intervened
    options = layer_trace.options
    o, tanh_c, d_o, d_tanh_c, d_c = (
        float(layer_trace.value(name)[t, k]) for name in ("o", "tanh_c", "d_o", "d_tanh_c", "d_c")
    )
    if "projection" in layer_trace.weights or options.zoneout:
        d_output = layer_trace.d_h[t] * (1 - options.zoneout)
        name, d_m = (
            "d_m",
            float(
                (d_output @ layer_trace.weights["projection"] if "projection" in layer_trace.weights else d_output)[k]
            ),
        )
        yield Equation("d_m", "from_h", number(d_m), d_m)
    else:
        name, d_m, outside = "d_h", float(layer_trace.d_h[t, k]), float(layer_trace.d_y[t, k])
        numbers = f"{parenthesised(outside)} + {parenthesised(d_m - outside)}"
        rest = "the_rest" if {"h", "W_h"} & intervened else "w_hᵀ·d_z_next"
        yield Equation("d_h", f"d_y + {rest}", numbers, d_m)
        if "h" in intervened:
            d_m = d_tanh_c / o if o else d_o / tanh_c if tanh_c else 0.0
            yield changed_line("d_h", d_m)
    yield _with_rest(layer_trace, "o", t, k, f"{name}·tanh_c", product(d_m, tanh_c), d_m * tanh_c)
    yield Equation("d_tanh_c", f"{name}·o", product(d_m, o), d_tanh_c)
    if options.cell_config.normalises_cell:
        yield Equation("d_c", "through_N + the_rest", number(d_c), d_c)
        return d_c
    new_c = new_cell(layer_trace, t, k)
    function = options.cell_config.output
    slope = float(function.derivative(np.array(new_c), np.array(tanh_c)))
    symbols, numbers = derivative(function, "tanh_c", "c", tanh_c, new_c)
    rest, later = number(d_c - d_tanh_c * slope), "f_next·d_c_next"
    if not options.is_standard or "c" in intervened:
        later = "the_rest"
    yield Equation("d_c", f"d_tanh_c·{symbols} + {later}", f"{parenthesised(d_tanh_c)}·{numbers} + ({rest})", d_c)
    if "c" not in intervened:
        return d_c
    factors = {"i": "g", "f": "c_prev", "g": "i"}
    read = [
        (float(layer_trace.value(factor)[t, k]), float(layer_trace.value(f"d_{gate}")[t, k]))
        for gate, factor in factors.items()
        if gate in options.cell_config.gates and gate not in intervened and (gate == "g" or options.coupled is None)
    ]
    factor, d_gate = max(read, key=lambda pair: abs(pair[0]), default=(0.0, 0.0))
    if not factor:
        return 0.0
    yield changed_line("d_c", d_gate / factor)
    return d_gate / factor


def _through_c(layer_trace: LayerTrace, t: int, k: int, gate: str, d_c: float) -> tuple[str, str, float]:
    """Return the gradient on i, f or g: dL/dc times the factor of the gate in c = f·c_prev + i·g."""
    partner, other = {"i": ("g", "c_prev"), "f": ("c_prev", "g"), "g": ("i", "")}[gate]
    value = float(layer_trace.value(partner)[t, k])
    if layer_trace.options.coupled is None or gate == "g":
        return f"d_c·{partner}", product(d_c, value), d_c * value
    coupled_value = float(layer_trace.value(other)[t, k])  # the factor of the coupled gate
    numbers = f"{parenthesised(d_c)}·({number(value)} − {parenthesised(coupled_value)})"
    return f"d_c·({partner} − {other})", numbers, d_c * (value - coupled_value)
