"""The summary of a model: one row for each layer, with its options, output features, parameters and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, NamedTuple

from glasscell.escaping import escape

HEADINGS = ("layer", "type", "outputs", "parameters")
SIZES = ("input_size", "hidden_size", "output_size", "size", "vocabulary_size", "embedding_size")


class SummaryRow(NamedTuple):
    """One layer.

    Attributes
    ----------
    name : str
    type : str
        The class, with its sizes and options.
    outputs : str
        Axes and number of features of its outputs; ``?`` is a number that depends on the inputs.
    parameters : int
        Number of parameters, without shared arrays.
    """

    name: str
    type: str
    outputs: str
    parameters: int


class Summary:
    """The summary of a model. ``print(model.summary())`` shows it as a table.

    Attributes
    ----------
    rows : tuple of SummaryRow
    parameters : int
        Number of parameters of the model; shared arrays count once.
    bytes : int
        Memory of the parameters.
    """

    def __init__(self, rows: tuple[SummaryRow, ...], parameters: int, num_bytes: int, dtype: str) -> None:
        self.rows, self.parameters, self.bytes, self.dtype = rows, parameters, num_bytes, dtype

    def __repr__(self) -> str:
        cells = [HEADINGS, *((*row[:3], f"{row.parameters:,}") for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [_line(row, widths) for row in cells]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        total = f"{self.parameters:,} parameters, {self.bytes:,} bytes ({self.dtype})"
        return "\n".join([lines[0], rule, *lines[1:], rule, total])


def summarize(layers: Mapping[str, Any], parameters: int, num_bytes: int, dtype: str) -> Summary:
    """Return the summary of layers that follow one another."""
    rows: list[SummaryRow] = []
    features: int | None = None
    axes = "B, T"
    for name, layer in layers.items():
        features = layer.output_features(features)
        axes = {"same": axes, "sequence": "B, T", "vector": "B"}[layer.gives]
        last = "" if layer.outputs == "numbers" else f", {'?' if features is None else features}"
        own: Any = getattr(layer, "parameters", None)
        count = 0 if own is None else int(own.vector.size)
        rows.append(SummaryRow(escape(name), _type(layer), f"({axes}{last})", count))
    return Summary(tuple(rows), parameters, num_bytes, dtype)


def _type(layer: Any) -> str:
    """Return the class with its sizes by place, and other options by name unless they have the default."""
    config = layer.config
    defaults = {option.name: option.default for option in signature(type(layer)).parameters.values()}
    sizes = [str(config[name]) for name in SIZES if name in config]
    options = [
        f"{name}={value!r}"
        for name, value in config.items()
        if name not in SIZES and (name not in defaults or value != defaults[name])
    ]
    return f"{type(layer).__name__}({', '.join([*sizes, *options])})"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """Return one row: texts left, numbers right."""
    texts = [cell.ljust(width) for cell, width in zip(cells[:-1], widths[:-1], strict=True)]
    return "  ".join([*texts, cells[-1].rjust(widths[-1])])
