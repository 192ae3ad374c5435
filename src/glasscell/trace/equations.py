"""Equations of one unit at one step with their values, forward and backward.

The source of each equation is text such as ``c = f·c_prev + i·g``, from which LaTeX and HTML are generated.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from glasscell.core.variants import CellConfig
from glasscell.escaping import escape
from glasscell.trace.backward_equations import backward_equations
from glasscell.trace.data import TraceData
from glasscell.trace.equation_rendering import to_html, to_latex
from glasscell.trace.equation_terms import (
    Equation,
    changed_line,
    function_name,
    new_cell,
    number,
    parenthesised,
    product,
)
from glasscell.trace.layer_trace import LayerTrace, check_index


@dataclass(frozen=True)
class Equations:
    """Equations of one step and unit as :attr:`text`, :attr:`latex` and :attr:`html`; notebooks display the HTML.

    Attributes
    ----------
    title : str
    forward, backward : tuple of Equation
        ``backward`` is empty without a target.
    """

    title: str
    forward: tuple[Equation, ...]
    backward: tuple[Equation, ...]

    @property
    def text(self) -> str:
        """One line per equation, aligned at the equals signs."""
        width = max(len(e.left) for e in self.forward + self.backward)

        def lines(equations: tuple[Equation, ...]) -> Iterator[str]:
            for e in equations:
                yield f"  {str(e).replace(e.left, e.left.rjust(width), 1)}"

        parts = [self.title, *lines(self.forward)]
        if self.backward:
            parts += ["backward", *lines(self.backward)]
        return "\n".join(parts)

    @property
    def latex(self) -> str:
        r"""One ``align*`` environment per direction."""
        return "\n".join(
            "\\begin{align*}\n"
            + " \\\\\n".join(
                f"{to_latex(e.left)} &= {to_latex(e.symbols)} = {to_latex(e.numbers)} = {to_latex(number(e.value))}"
                for e in equations
            )
            + "\n\\end{align*}"
            for equations in (self.forward, self.backward)
            if equations
        )

    @property
    def html(self) -> str:
        """One table per direction: symbols, numbers, value."""
        tables = [f"<p>{html.escape(self.title)}</p>"]
        for name, equations in (("forward", self.forward), ("backward", self.backward)):
            rows = "".join(
                f'<tr><th scope="row">{to_html(e.left)}</th><td>= {to_html(e.symbols)}</td>'
                f"<td>= {to_html(e.numbers)}</td><td>= <b>{to_html(number(e.value))}</b></td></tr>"
                for e in equations
            )
            if rows:
                tables.append(f"<table><caption>{name}</caption>{rows}</table>")
        return "".join(tables)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def equations(trace: TraceData, t: int, unit: int, layer: int = -1) -> Equations:
    """Return the equations of a step and a unit; see :meth:`glasscell.trace.trace.Trace.equations`."""
    layer_trace = trace.require_single_sequence().get_layer(layer)
    check_index("step", t, layer_trace.T)
    check_index("unit", unit, layer_trace.H)
    t, unit = t % layer_trace.T, unit % layer_trace.H
    title = f"step {t}, unit {unit} of {escape(layer_trace.name)}"
    if layer_trace.interventions:
        under = "; ".join(map(escape, layer_trace.interventions))
        title += f", under interventions ({under})"
    other_cell = getattr(layer_trace, "equations", None)  # that of an RNN or a GRU
    if other_cell is not None:
        forward, backward = other_cell(t, unit)
        if layer_trace.interventions:
            forward = [_after_interventions(layer_trace, line) for line in forward]
        return Equations(title, tuple(forward), backward)
    _check_supported(layer_trace)
    return Equations(
        title,
        tuple(_forward(layer_trace, t, unit)),
        tuple(backward_equations(layer_trace, t, unit)) if layer_trace.has_gradients else (),
    )


def _after_interventions(layer_trace: LayerTrace, line: Equation) -> Equation:
    """Return the line of a symbol of an RNN or a GRU, without its terms if an intervention changed one of them."""
    symbols = layer_trace.intervened
    reads_hidden = line.left in ("q", "a_r", "a_z") or (line.left == "z" and len(layer_trace.gates) == 1)
    is_changed = line.left in symbols or ("W_h" in symbols and reads_hidden)
    return changed_line(line.left, line.value) if is_changed else line


def _check_supported(layer_trace: LayerTrace) -> None:
    """Raise ValueError for options without equations here."""
    for name, value in layer_trace.options.unsupported("trace").items():
        raise ValueError(f"equations() does not support an LSTM with {name}={value!r}")


def _forward(layer_trace: LayerTrace, t: int, k: int) -> Iterator[Equation]:
    variant = layer_trace.options.cell_config
    i, f, o, g, c_prev, c, tanh_c = (
        float(layer_trace.value(s)[t, k]) for s in ("i", "f", "o", "g", "c_prev", "c", "tanh_c")
    )
    for gate, value in zip("ifog", (i, f, o, g), strict=True):
        if gate in variant.derived_gates:
            source = variant.derived_gates[gate]
            if source is not None:
                yield Equation(gate, f"1 − {source}", f"1 − {number({'i': i, 'f': f}[source])}", value)
            continue
        z, function = float(layer_trace.gate("z", gate)[t, k]), variant.activation_for(gate)
        if {f"z_{gate}", "W_h"} & layer_trace.intervened:
            yield changed_line(f"z_{gate}", z)
        else:
            yield Equation(f"z_{gate}", *_pre_activation(layer_trace, t, k, gate))
        name = function_name(function)
        untouched = float(function.function(np.array(z))) if gate in layer_trace.intervened else value
        yield Equation(gate, f"{name}(z_{gate})", f"{name}({number(z)})", untouched)
        if gate in layer_trace.intervened:
            yield changed_line(gate, value)
    new_c = f * c_prev + i * g
    factors, values = zip(*_update_terms(variant, f, c_prev, i, g), strict=True)
    update = " + ".join(factors), " + ".join(values)
    zoneout = layer_trace.options.zoneout_cell
    if layer_trace.options.layer_norm == "contrib":
        yield Equation("c", f"N({update[0]})", f"N({update[1]})", c)
    elif zoneout:
        yield Equation("ĉ", *update, new_c)
        mixed = (
            f"{number(zoneout)}·c_prev + {number(1 - zoneout)}·ĉ",
            f"{product(zoneout, c_prev)} + {product(1 - zoneout, new_c)}",
        )
        yield Equation("c", *mixed, c)
    else:
        yield Equation("c", *update, new_c if "c" in layer_trace.intervened else c)
        if "c" in layer_trace.intervened:
            yield changed_line("c", c)
    argument = "N(c)" if layer_trace.options.layer_norm == "haste" else "ĉ" if zoneout else "c"
    name, inner = (
        function_name(variant.output),
        f"N({number(c)})" if argument == "N(c)" else number(new_c if zoneout else c),
    )
    is_hidden_state = "projection" not in layer_trace.weights and not layer_trace.options.zoneout
    yield Equation(
        "h" if is_hidden_state else "m", f"o·{name}({argument})", f"{parenthesised(o)}·{name}({inner})", o * tanh_c
    )
    if "h" in layer_trace.intervened:
        yield changed_line("h", float(layer_trace.h[t, k]))


def _update_terms(config: CellConfig, f: float, c_prev: float, i: float, g: float) -> Iterator[tuple[str, str]]:
    """Yield f·c_prev and i·g in symbols and numbers; a gate that is always 1 is omitted."""
    for gate, value, factor, factor_value in (("f", f, "c_prev", c_prev), ("i", i, "g", g)):
        if config.derived_gates.get(gate, gate) is None:
            yield factor, parenthesised(factor_value)
        else:
            yield f"{gate}·{factor}", product(value, factor_value)


def _pre_activation(layer_trace: LayerTrace, t: int, k: int, gate: str) -> tuple[str, str, float]:
    """Return z of a gate as symbols, numbers and value: the terms of h_prev, x, the bias and peepholes."""
    row, P = layer_trace.gates.index(gate) * layer_trace.H + k, layer_trace.h.shape[-1]
    z, options = float(layer_trace.z[t, row]), layer_trace.options
    W = layer_trace.weights["kernel"][row].astype(np.float64)
    from_h, from_x, b = float(W[:P] @ layer_trace.h_prev[t]), float(W[P:-1] @ layer_trace.x[t]), float(W[-1])
    if options.layer_norm is not None:
        inner = "N(w_h·h_prev) + N(w_x·x) + b" if options.layer_norm == "haste" else "N(w_h·h_prev + w_x·x) + b"
        return inner, f"{number(z - b)} + {parenthesised(b)}", z
    parts = [("w_h·h_prev", from_h), ("w_x·x", from_x), ("b", b)]
    peepholes = layer_trace.weights.get("peepholes")
    if peepholes is not None and gate != "g":
        p = float(peepholes[options.cell_config.peepholes.index(gate) * layer_trace.H + k])
        peephole_input = new_cell(layer_trace, t, k) if gate == "o" else float(layer_trace.c_prev[t, k])
        parts.append(("p·c" if gate == "o" else "p·c_prev", p * peephole_input))
    symbols = " + ".join(symbol for symbol, _ in parts)
    numbers = " + ".join(parenthesised(value) for _, value in parts)
    if options.clip is not None:
        return f"clip({symbols})", f"clip({numbers})", z
    return symbols, numbers, z
