"""The equations of a step with its numbers put in, forward and backward, for one unit.

They are written once, as text such as ``c = f·c_prev + i·g``; LaTeX and HTML are generated from it. There ∂c
stands for ∂L/∂c, which the text calls d_c.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from glasscell.core.activations import Activation
from glasscell.escaping import escape
from glasscell.trace.data import LayerTrace, TraceData, check_index

DIGITS = 4  # of a number


@dataclass(frozen=True)
class Equation:
    """``left = symbols = numbers = value``: what it is, of which it is made, with the numbers, and what that is."""

    left: str
    symbols: str
    numbers: str
    value: float

    def __str__(self) -> str:
        return f"{self.left} = {self.symbols} = {self.numbers} = {number(self.value)}"


@dataclass(frozen=True)
class Equations:
    """Of one step and unit: :attr:`text`, :attr:`latex` and :attr:`html`; a notebook shows the last.

    Attributes
    ----------
    title : str
    forward, backward : tuple of Equation
        Backward ones only where there is a target.
    """

    title: str
    forward: tuple[Equation, ...]
    backward: tuple[Equation, ...]

    @property
    def text(self) -> str:
        """Lines, the equals signs below each other."""
        width = max(len(one.left) for one in self.forward + self.backward)

        def lines(equations: tuple[Equation, ...]) -> Iterator[str]:
            for one in equations:
                yield f"  {str(one).replace(one.left, one.left.rjust(width), 1)}"

        parts = [self.title, *lines(self.forward)]
        if self.backward:
            parts += ["backward, from the last line to the first", *lines(self.backward)]
        return "\n".join(parts)

    @property
    def latex(self) -> str:
        r"""An ``align*`` of the forward ones, and one of the backward ones."""
        return "\n".join(
            "\\begin{align*}\n"
            + " \\\\\n".join(
                f"{_latex(one.left)} &= {_latex(one.symbols)} = {_latex(one.numbers)} = {_latex(number(one.value))}"
                for one in equations
            )
            + "\n\\end{align*}"
            for equations in (self.forward, self.backward)
            if equations
        )

    @property
    def html(self) -> str:
        """A table for each direction: symbols, numbers, value."""
        tables = [f"<p>{html.escape(self.title)}</p>"]
        for name, equations in (("forward", self.forward), ("backward", self.backward)):
            rows = "".join(
                f'<tr><th scope="row">{_html(one.left)}</th><td>= {_html(one.symbols)}</td>'
                f"<td>= {_html(one.numbers)}</td><td>= <b>{_html(number(one.value))}</b></td></tr>"
                for one in equations
            )
            if rows:
                tables.append(f"<table><caption>{name}</caption>{rows}</table>")
        return "".join(tables)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def equations(trace: TraceData, t: int, unit: int, layer: int = -1) -> Equations:
    """The equations of step t and a unit; see :meth:`glasscell.trace.trace.Trace.equations`."""
    of = trace.require_single_sequence().get_layer(layer)
    check_index("step", t, of.T)
    check_index("unit", unit, of.H)
    _check_explained(of)
    t, unit = t % of.T, unit % of.H
    title = f"step {t}, unit {unit} of {escape(of.name)}"
    return Equations(title, tuple(_forward(of, t, unit)), tuple(_backward(of, t, unit)) if of.has_gradients else ())


def _check_explained(of: LayerTrace) -> None:
    """Refuse options whose equations are not known."""
    for name, value in of.options.unsupported("trace").items():
        raise ValueError(f"the equations of an LSTM with {name}={value!r} are not known")


def number(value: float) -> str:
    """Four digits, with a true minus sign."""
    shown = f"{value:.{DIGITS}g}"
    return shown.replace("-", "−")


def _forward(of: LayerTrace, t: int, k: int) -> Iterator[Equation]:
    variant = of.options.cell_config
    i, f, o, g, c_prev, c, tanh_c = (float(of.value(s)[t, k]) for s in ("i", "f", "o", "g", "c_prev", "c", "tanh_c"))
    for gate, value in zip("ifog", (i, f, o, g), strict=True):
        if gate in variant.derived_gates:
            source = variant.derived_gates[gate]
            if source is not None:
                yield Equation(gate, f"1 − {source}", f"1 − {number({'i': i, 'f': f}[source])}", value)
            continue
        symbols, numbers, z = _sum(of, t, k, gate)
        name = _function(variant.activation_for(gate))
        yield Equation(f"z_{gate}", symbols, numbers, z)
        yield Equation(gate, f"{name}(z_{gate})", f"{name}({number(z)})", value)
    new_c = f * c_prev + i * g
    made = "f·c_prev + i·g", f"{_times(f, c_prev)} + {_times(i, g)}"
    if variant.derived_gates.get("f", "") is None:
        made = "c_prev + i·g", f"{number(c_prev)} + {_times(i, g)}"
    kept = of.options.zoneout_cell
    if of.options.layer_norm == "contrib":
        yield Equation("c", f"N({made[0]})", f"N({made[1]})", c)
    elif kept:
        yield Equation("ĉ", *made, new_c)
        mixed = f"{number(kept)}·c_prev + {number(1 - kept)}·ĉ", f"{_times(kept, c_prev)} + {_times(1 - kept, new_c)}"
        yield Equation("c", *mixed, c)
    else:
        yield Equation("c", *made, c)
    shown = "N(c)" if of.options.layer_norm == "haste" else "ĉ" if kept else "c"
    name, inner = _function(variant.output), f"N({number(c)})" if shown == "N(c)" else number(new_c if kept else c)
    plain = "projection" not in of.weights and not of.options.zoneout
    yield Equation("h" if plain else "m", f"o·{name}({shown})", f"{_parenthesised(o)}·{name}({inner})", o * tanh_c)


def _sum(of: LayerTrace, t: int, k: int, gate: str) -> tuple[str, str, float]:
    """What z of a gate is the sum of, by where it comes from."""
    row, P = of.gates.index(gate) * of.H + k, of.h.shape[-1]
    z, options = float(of.z[t, row]), of.options
    W = of.weights["kernel"][row].astype(np.float64)
    from_h, from_x, b = float(W[:P] @ of.h_prev[t]), float(W[P:-1] @ of.x[t]), float(W[-1])
    if options.layer_norm is not None:
        inner = "N(w_h·h_prev) + N(w_x·x) + b" if options.layer_norm == "haste" else "N(w_h·h_prev + w_x·x) + b"
        return inner, f"{number(z - b)} + {_parenthesised(b)}", z
    parts = [("w_h·h_prev", from_h), ("w_x·x", from_x), ("b", b)]
    peepholes = of.weights.get("peepholes")
    if peepholes is not None and gate != "g":
        p = float(peepholes[options.cell_config.peepholes.index(gate) * of.H + k])
        seen = float(of.c_prev[t, k])
        if gate == "o":
            seen = float(of.f[t, k] * of.c_prev[t, k] + of.i[t, k] * of.g[t, k])
        parts.append(("p·c" if gate == "o" else "p·c_prev", p * seen))
    symbols = " + ".join(symbol for symbol, _ in parts)
    numbers = " + ".join(_parenthesised(value) for _, value in parts)
    if options.clip is not None:
        return f"clip({symbols})", f"clip({numbers})", z
    return symbols, numbers, z


def _backward(of: LayerTrace, t: int, k: int) -> Iterator[Equation]:
    """The lines of the cell page's ``step_backward``, from h to z."""
    variant = of.options.cell_config
    yield from _backward_to_c(of, t, k)
    for gate in ("i", "f", "g"):
        if gate in variant.gates:
            yield Equation(f"d_{gate}", *_through_c(of, t, k, gate), float(of.value(f"d_{gate}")[t, k]))
    for gate in (gate for gate in "ifog" if gate in variant.gates):
        value, z, d = (float(v[t, k]) for v in (of.value(gate), of.gate("z", gate), of.value(f"d_{gate}")))
        symbols, written = _slope(variant.activation_for(gate), gate, f"z_{gate}", value, z)
        if variant.clip is not None and abs(z) >= variant.clip:
            symbols, written = f"{symbols}·0", f"{written}·0"  # at the clip z is what it is, whatever moves
        d_z = float(of.gate("d_z", gate)[t, k])
        yield Equation(f"d_z_{gate}", f"d_{gate}·{symbols}", f"{_parenthesised(d)}·{written}", d_z)


def _backward_to_c(of: LayerTrace, t: int, k: int) -> Iterator[Equation]:
    """From h to o and c; m is o·tanh c, which is h but for a projection or zoneout."""
    options = of.options
    o, tanh_c, d_o, d_tanh_c, d_c = (float(of.value(name)[t, k]) for name in ("o", "tanh_c", "d_o", "d_tanh_c", "d_c"))
    if "projection" in of.weights or options.zoneout:
        d_shown = of.d_h[t] * (1 - options.zoneout)
        name, d_m = "d_m", float((d_shown @ of.weights["projection"] if "projection" in of.weights else d_shown)[k])
        yield Equation("d_m", "from_h", number(d_m), d_m)
    else:
        name, d_m, outside = "d_h", float(of.d_h[t, k]), float(of.d_y[t, k])
        numbers = f"{_parenthesised(outside)} + {_parenthesised(d_m - outside)}"
        yield Equation("d_h", "d_y + w_hᵀ·d_z_next", numbers, d_m)
    yield Equation("d_o", f"{name}·tanh_c", _times(d_m, tanh_c), d_o)
    yield Equation("d_tanh_c", f"{name}·o", _times(d_m, o), d_tanh_c)
    if options.cell_config.normalises_cell:
        yield Equation("d_c", "through_N + the_rest", number(d_c), d_c)
        return
    read = float(of.f[t, k] * of.c_prev[t, k] + of.i[t, k] * of.g[t, k])
    function = options.cell_config.output
    slope = float(function.derivative(np.array(read), np.array(tanh_c)))
    symbols, written = _slope(function, "tanh_c", "c", tanh_c, read)
    rest, later = number(d_c - d_tanh_c * slope), "f_next·d_c_next" if options.is_standard else "the_rest"
    yield Equation("d_c", f"d_tanh_c·{symbols} + {later}", f"{_parenthesised(d_tanh_c)}·{written} + ({rest})", d_c)


def _through_c(of: LayerTrace, t: int, k: int, gate: str) -> tuple[str, str]:
    """What the gradient on i, f or g is: dL/dc times what the gate is multiplied with in c = f·c_prev + i·g."""
    partner, other = {"i": ("g", "c_prev"), "f": ("c_prev", "g"), "g": ("i", "")}[gate]
    d_c, value = float(of.d_c[t, k]), float(of.value(partner)[t, k])
    if of.options.coupled is None or gate == "g":
        return f"d_c·{partner}", _times(d_c, value)
    less = float(of.value(other)[t, k])  # of the gate that is one minus this one
    return f"d_c·({partner} − {other})", f"{_parenthesised(d_c)}·({number(value)} − {_parenthesised(less)})"


def _slope(function: Activation, value: str, argument: str, a: float, z: float) -> tuple[str, str]:
    """The derivative of an activation, in symbols and in numbers."""
    if function.parameters[0] == "Sigmoid":
        return f"{value}·(1 − {value})", f"{number(a)}·(1 − {_parenthesised(a)})"
    if function.parameters[0] == "Tanh":
        return f"(1 − {value}²)", f"(1 − {_parenthesised(a)}²)"
    slope = float(function.derivative(np.array(z), np.array(a)))
    return f"{_function(function)}′({argument})", _parenthesised(slope)


def _function(function: Activation) -> str:
    name = str(function.parameters[0])
    return {"Sigmoid": "σ", "Tanh": "tanh"}.get(name, name)


def _times(a: float, b: float) -> str:
    return f"{_parenthesised(a)}·{_parenthesised(b)}"


def _parenthesised(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)


# Rendering as LaTeX and HTML

_TOKEN = re.compile(
    r"tanh_c²|d_z_next|d_c_next|d_z_[ifog]|d_tanh_c|d_[a-z]|z_[ifog]|tanh_c|[hc]_prev|f_next|from_h|the_rest|through_N|w_h|w_x|tanh|−|·|σ|ᵀ|ĉ|²|′|\d(?:\.\d+)?e[−+]?\d+"
)
_LATEX = {
    "tanh_c²": r"\tanh^2 c",
    "tanh_c": r"\tanh c",
    "h_prev": "h_{t-1}",
    "c_prev": "c_{t-1}",
    "f_next": "f_{t+1}",
    "d_c_next": r"\partial c_{t+1}",
    "from_h": r"\text{from } h",
    "the_rest": r"\text{the rest}",
    "through_N": r"\text{through } N",
    "d_z_next": r"\partial z_{t+1}",
    "tanh": r"\tanh ",
    "−": "-",
    "·": r"\cdot ",
    "σ": r"\sigma ",
    "ᵀ": r"^\top ",
    "ĉ": r"\hat c",
    "²": "^2",
    "′": "'",
}


_WORDS = {
    "tanh_c²": "tanh² <i>c</i>",
    "tanh_c": "tanh <i>c</i>",
    "d_tanh_c": "∂tanh <i>c</i>",
    "from_h": "from <i>h</i>",
    "the_rest": "the rest",
    "through_N": "through N",
}


def _latex(text: str) -> str:
    def change(match: re.Match[str]) -> str:
        token = match.group()
        if token in _LATEX:
            return _LATEX[token]
        if token[0].isdigit():
            mantissa, exponent = token.replace("−", "-").replace("+", "").split("e")
            return rf"{mantissa} \times 10^{{{int(exponent)}}}"
        head, *rest = token.split("_", 1)
        if head == "d":
            return rf"\partial {_latex(rest[0])}"
        return f"{head}_{rest[0]}"

    return _TOKEN.sub(change, text)


def _html(text: str) -> str:
    def change(match: re.Match[str]) -> str:
        token = match.group()
        if token in _WORDS:
            return _WORDS[token]
        if "_" not in token:
            return token
        head, *rest = token.split("_")
        if head == "d":
            return f"∂<i>{rest[0]}</i>" + "".join(f"<sub>{part}</sub>" for part in rest[1:])
        return f"<i>{head}</i><sub>{'t−1' if rest[0] == 'prev' else rest[0]}</sub>"

    return _TOKEN.sub(change, html.escape(text))
