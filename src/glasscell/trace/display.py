"""What all views of a trace share: names, the order of units, ranges of colours, and what is written at each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core.activations import sigmoid
from glasscell.core.types import Array
from glasscell.escaping import escape
from glasscell.trace.data import LayerTrace, TraceData, check_index

GATES = ("i", "f", "o")
NAMES = {
    "x": "what the layer sees",
    "z": "pre-activation",
    "i": "input gate",
    "f": "forget gate",
    "o": "output gate",
    "g": "candidate",
    "c": "cell state",
    "tanh_c": "cell as it is shown",
    "h": "hidden state",
    "h_prev": "hidden state before",
    "c_prev": "cell state before",
    "y": "output",
}

Range = Literal["open and shut", "around zero"]


class ColorScale(NamedTuple):
    """The range of numbers that colours stand for.

    Attributes
    ----------
    low, high : float
    kind : {"open and shut", "around zero"}
        From nothing to all, as a gate; or with a sign, and then ``low = -high``.
    """

    low: float
    high: float
    kind: Range

    def share(self, values: Array) -> Array:
        """Where values are between low, 0, and high, 1; NaN is where 0 is."""
        if self.high == self.low:
            return np.full(np.shape(values), 0.5)
        numbers = np.asarray(values, np.float64)
        numbers = np.where(np.isnan(numbers), 0.0, numbers)
        return np.clip((numbers - self.low) / (self.high - self.low), 0, 1)


class LabelledRow(NamedTuple):
    """A line of the input or the output, a step a column.

    Attributes
    ----------
    name : str
    values : array (T,)
        To colour; NaN where there is nothing.
    texts : tuple of str, optional
        To write, a step each; without them the colours are all that is shown.
    wrong : array (T,) of bool, optional
        Where the answer is not the target.
    expected : tuple of str, optional
        The targets, as they would be written.
    bits : bool
        Whether the texts are bits, of which ``values`` are signs or probabilities.
    """

    name: str
    values: Array
    texts: tuple[str, ...] | None = None
    wrong: NDArray[np.bool_] | None = None
    expected: tuple[str, ...] | None = None
    bits: bool = False


def symbol_name(symbol: str) -> str:
    """In words: "forget gate" of f, "gradient on the forget gate" of d_f, "pre-activation of the candidate" of z_g."""
    if symbol in NAMES:
        return NAMES[symbol]
    if symbol.startswith("d_"):
        return f"gradient on the {symbol_name(symbol[2:])}"
    if symbol.startswith("z_"):
        return f"pre-activation of the {symbol_name(symbol[2:])}"
    return symbol


def resolve_layer(of: TraceData | LayerTrace, layer: int = -1) -> LayerTrace:
    """Return a layer trace, or a layer of a trace of one sequence."""
    found = of if isinstance(of, LayerTrace) else of.one().get_layer(layer)
    if found.axes != "TR":
        raise ValueError("this needs the units and steps of one sequence: of a batch choose trace.sequence(0)")
    if not found.T:
        raise ValueError("there is nothing to draw of a sequence without steps")
    return found


def get_values(layer: LayerTrace, symbol: str) -> Array:
    """A symbol's numbers, (T, rows): also ``z_f`` and ``d_z_f``, the rows of z that are the forget gate's."""
    stem, _, gate = symbol.rpartition("_")
    return layer.of_gate(stem, gate) if stem in ("z", "d_z") else layer.value(symbol)


def units_by_peak(layer: LayerTrace) -> NDArray[np.intp]:
    """All units, by the step at which their cell is largest: what is written early comes first."""
    return np.argsort(np.abs(layer.c).argmax(axis=0), kind="stable")


def select_units(layer: LayerTrace, units: Sequence[int] | NDArray[np.intp] | None) -> NDArray[np.intp]:
    """The units that are asked for, in that order; without a wish all, by their peaks."""
    if units is None:
        return units_by_peak(layer)
    for unit in units:
        check_index("unit", unit, layer.H)
    return np.array([unit % layer.H for unit in units], np.intp)


class HeatMap(NamedTuple):
    """A symbol as it is drawn: values (rows, T), and the numbers of the rows, which are units."""

    symbol: str
    values: Array
    rows: NDArray[np.intp]

    @property
    def scale(self) -> ColorScale:
        """The range of its colours."""
        return scale_of(self.symbol, self.values)


def heat_map_of(layer: LayerTrace, symbol: str, units: NDArray[np.intp]) -> HeatMap:
    """These units of a symbol; one that has no units, such as x, is whole."""
    values = get_values(layer, symbol).T
    rows = units if len(values) == layer.H and symbol not in ("x", "d_x") else np.arange(len(values))
    return HeatMap(symbol, values[rows], rows)


def scale_of(symbol: str, values: Array) -> ColorScale:
    """Gates from 0 to 1, states and candidates from -1 to 1, or as far as they go; gradients as far as they go."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if symbol in GATES and low >= 0:
        return ColorScale(0.0, max(1.0, high), "open and shut")
    least = 0.0 if symbol.startswith("d_") else 1.0
    limit = max(least, -low, high) or 1.0
    return ColorScale(-limit, limit, "around zero")


# What goes in and comes out


def input_rows(trace: TraceData) -> list[LabelledRow]:
    """The input, by feature; or the names of the steps, or the classes, where the input is such."""
    names, x = _step_names(trace), trace.x
    if trace.about.get("copy"):
        return _input_bits(trace)
    if x.ndim == 1:
        texts = names or tuple(str(number) for number in x)
        return [LabelledRow("input", np.full(len(x), np.nan), texts)]
    rows = [LabelledRow(name, x[:, k]) for k, name in enumerate(feature_names(trace, "input_names", x.shape[1], "x"))]
    if names is None:
        return rows
    step = LabelledRow("input", np.full(trace.T, np.nan), names)
    return [step] if _is_one_hot(x) else [step, *rows]


def output_rows(trace: TraceData) -> list[LabelledRow]:
    """The output: bits, classes or numbers, whatever the loss is of; nothing if it is not of steps."""
    if trace.about.get("timeless"):
        return []
    outputs, loss = trace.outputs, trace.about.get("loss")
    names = feature_names(trace, "output_names", outputs.shape[1], "y")
    if trace.about.get("copy") or loss == "binary_cross_entropy":
        return [_predicted_bits(trace, k, name) for k, name in enumerate(names)]
    if loss == "categorical_cross_entropy":
        return [_predicted_classes(trace, names)]
    return [LabelledRow(name, outputs[:, k]) for k, name in enumerate(names)]


def steps_with_target(trace: TraceData) -> NDArray[np.bool_]:
    """At which steps an answer counts, (T,)."""
    if trace.weights is None:
        return np.ones(trace.T, np.bool_)
    weights = np.broadcast_to(trace.weights, trace.targets.shape) if trace.targets is not None else trace.weights
    return np.asarray((weights.reshape(trace.T, -1) > 0).any(axis=1))


def feature_names(trace: TraceData, key: str, size: int, letter: str) -> list[str]:
    """The names that the trace has for its features, or x0, x1, …."""
    names = trace.about.get(key)
    if names is None:
        return [f"{letter}{k}" for k in range(size)] if size != 1 else [letter]
    return [str(name) for name in names]


def probabilities(trace: TraceData) -> Array:
    """Of a 1, or of each class, (…, O): the outputs are logits to the loss."""
    if trace.about.get("loss") != "categorical_cross_entropy":
        return sigmoid(trace.outputs)
    odds = np.exp(trace.outputs - trace.outputs.max(axis=-1, keepdims=True))
    shares: Array = odds / odds.sum(axis=-1, keepdims=True)
    return shares


def _step_names(trace: TraceData) -> tuple[str, ...] | None:
    names = trace.about.get("step_names")
    return None if names is None else tuple(map(str, names))


def _is_one_hot(x: NDArray[Any]) -> bool:
    return bool(((x == 0) | (x == 1)).all() and (x.sum(axis=1) == 1).all())


def _input_bits(trace: TraceData) -> list[LabelledRow]:
    """Of the copy task: the bits, 1 and -1 with silence between, and the delimiter."""
    names = feature_names(trace, "input_names", trace.x.shape[1], "x")
    rows = []
    for name, values in zip(names, trace.x.T, strict=True):
        delimiter = name == "delimiter"
        texts = tuple("·" if v == 0 else "|" if delimiter else str(int(v > 0)) for v in values)
        rows.append(LabelledRow(name, np.where(values == 0, np.nan, values), texts, bits=True))
    return rows


def _predicted_bits(trace: TraceData, k: int, name: str) -> LabelledRow:
    asked, logits = steps_with_target(trace), trace.outputs[:, k]
    values = np.where(asked, probabilities(trace)[:, k], np.nan)
    texts = _mask(asked, logits > 0)
    if trace.targets is None:
        return LabelledRow(name, values, texts, bits=True)
    right = trace.targets[:, k] > 0.5
    return LabelledRow(name, values, texts, asked & ((logits > 0) != right), _mask(asked, right), bits=True)


def _predicted_classes(trace: TraceData, names: list[str]) -> LabelledRow:
    asked, most = steps_with_target(trace), trace.outputs.argmax(axis=1)
    values = np.where(asked, probabilities(trace).max(axis=1), np.nan)
    classes = names if trace.about.get("output_names") is not None else list(map(str, range(len(names))))
    texts = _mask(asked, [classes[k] for k in most])
    if trace.targets is None:
        return LabelledRow("output", values, texts)
    expected = _mask(asked, [classes[k] for k in trace.targets])
    return LabelledRow("output", values, texts, asked & (most != trace.targets), expected)


def _mask(asked: NDArray[np.bool_], answers: Any) -> tuple[str, ...]:
    """The answers that are asked for: classes by name, bits as 0 and 1."""
    return tuple(
        (answer if isinstance(answer, str) else str(int(answer))) if there else ""
        for answer, there in zip(answers, asked, strict=True)
    )


def printable(text: str) -> str:
    """The text with nothing in it that would move a cursor, end a line or colour a terminal."""
    return escape(text.replace("\n", "↵").replace("\t", "→"), "?")


def correct_steps(trace: TraceData) -> bool | None:
    """Whether every answer is its target; None where answers are numbers, or there is no target."""
    wrong = [row.wrong for row in output_rows(trace)]
    return None if not wrong or any(w is None for w in wrong) else not any(w.any() for w in wrong if w is not None)
