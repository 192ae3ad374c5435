"""Render the text of equations as LaTeX and HTML, which write ∂c for ∂L/∂c, d_c in the text."""

from __future__ import annotations

import html
import re

_TOKEN = re.compile(
    r"intervention|tanh_c²|d_z_next|d_c_next|d_z_[ifog]|d_a_[rzn]|d_tanh_c|d_[a-z]|z_[ifog]|a_[rzn]|tanh_c|[hc]_prev|f_next|from_h|the_rest|through_N|w_h|w_x|tanh|−|·|σ|ᵀ|ĉ|²|′|\d(?:\.\d+)?e[−+]?\d+"
)
_LATEX = {
    "intervention": r"\text{intervention}",
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


_HTML = {
    "intervention": "intervention",
    "tanh_c²": "tanh² <i>c</i>",
    "tanh_c": "tanh <i>c</i>",
    "d_tanh_c": "∂tanh <i>c</i>",
    "from_h": "from <i>h</i>",
    "the_rest": "the rest",
    "through_N": "through N",
}


def to_latex(text: str) -> str:
    """Return an expression such as ``f·c_prev`` as LaTeX, without dollars."""

    def change(match: re.Match[str]) -> str:
        token = match.group()
        if token in _LATEX:
            return _LATEX[token]
        if token[0].isdigit():
            mantissa, exponent = token.replace("−", "-").replace("+", "").split("e")
            return rf"{mantissa} \times 10^{{{int(exponent)}}}"
        head, *rest = token.split("_", 1)
        if head == "d":
            return rf"\partial {to_latex(rest[0])}"
        return f"{head}_{rest[0]}"

    return _TOKEN.sub(change, text)


def to_html(text: str) -> str:
    """Return an expression such as ``f·c_prev`` as escaped HTML."""

    def change(match: re.Match[str]) -> str:
        token = match.group()
        if token in _HTML:
            return _HTML[token]
        if "_" not in token:
            return token
        head, *rest = token.split("_")
        if head == "d":
            return f"∂<i>{rest[0]}</i>" + "".join(f"<sub>{part}</sub>" for part in rest[1:])
        return f"<i>{head}</i><sub>{'t−1' if rest[0] == 'prev' else rest[0]}</sub>"

    return _TOKEN.sub(change, html.escape(text))
