"""Names, order of units, color scales and texts per step, shared by all views of a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core.activations import sigmoid, softmax_terms
from glasscell.core.types import Array
from glasscell.data.predictions import has_largest_output, has_right_sign
from glasscell.escaping import escape
from glasscell.trace.data import TraceData
from glasscell.trace.layer_trace import LayerTrace, check_index

GATES = ("i", "f", "o")
NAMES = {
    "x": "layer input",
    "z": "pre-activation",
    "i": "input gate",
    "f": "forget gate",
    "o": "output gate",
    "g": "candidate",
    "c": "cell state",
    "tanh_c": "tanh of the cell state",
    "h": "hidden state",
    "h_prev": "previous hidden state",
    "c_prev": "previous cell state",
    "y": "output",
}

ScaleKind = Literal["sequential", "diverging"]


class ColorScale(NamedTuple):
    """The range of a color scale.

    Attributes
    ----------
    low, high : float
    kind : {"sequential", "diverging"}
        From low to high, as for a gate; or symmetric around zero, with ``low = -high``.
    """

    low: float
    high: float
    kind: ScaleKind

    def share(self, values: Array) -> Array:
        """Return the position of values between low (0) and high (1), clipped; NaN counts as 0."""
        if self.high == self.low:
            return np.full(np.shape(values), 0.5)
        numbers = np.asarray(values, np.float64)
        numbers = np.where(np.isnan(numbers), 0.0, numbers)
        return np.clip((numbers - self.low) / (self.high - self.low), 0, 1)


class LabelledRow(NamedTuple):
    """One row of the input or the output, one column per step.

    Attributes
    ----------
    name : str
    values : array (T,)
        Determine the colors; NaN for no color.
    texts : tuple of str, optional
        One per step. Default: no texts, colors only.
    wrong : array (T,) of bool, optional
        Whether the prediction differs from the target.
    expected : tuple of str, optional
        The targets as texts.
    bits : bool
        Whether the texts are bits; then ``values`` are their signs or probabilities.
    """

    name: str
    values: Array
    texts: tuple[str, ...] | None = None
    wrong: NDArray[np.bool_] | None = None
    expected: tuple[str, ...] | None = None
    bits: bool = False


def symbol_name(symbol: str, names: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the name of a symbol; `names` has those that are different from an LSTM's.

    Examples
    --------
    >>> symbol_name("d_f"), symbol_name("z_g")
    ('gradient on the forget gate', 'pre-activation of the candidate')
    """
    if symbol in names or symbol in NAMES:
        return names.get(symbol) or NAMES[symbol]
    if symbol.startswith("d_"):
        return f"gradient on the {symbol_name(symbol[2:], names)}"
    if symbol.startswith(("z_", "a_")):
        return f"pre-activation of the {symbol_name(symbol[2:], names)}"
    return symbol


def resolve_layer(source: TraceData | LayerTrace, layer: int = -1) -> LayerTrace:
    """Return a layer trace, or a layer of a trace of one sequence with at least one step."""
    layer_trace = source if isinstance(source, LayerTrace) else source.require_single_sequence().get_layer(layer)
    if layer_trace.axes != "TR":
        raise ValueError("a view needs all units and steps of one sequence: choose trace.sequence(0) of a batch")
    if not layer_trace.T:
        raise ValueError("a view needs at least one step, got a sequence without steps")
    return layer_trace


def get_values(layer: LayerTrace, symbol: str) -> Array:
    """Return the values of a symbol, (T, rows); ``z_f`` and ``d_z_f`` are the rows of z of the forget gate."""
    stem, _, gate = symbol.rpartition("_")
    return layer.gate(stem, gate) if stem in layer.gate_rows else layer.value(symbol)


def units_by_peak(layer: LayerTrace) -> NDArray[np.intp]:
    """Return all units, ordered by the step of their largest cell state: values written early come first."""
    return np.argsort(np.abs(layer.value(layer.state)).argmax(axis=0), kind="stable")


def select_units(layer: LayerTrace, units: Sequence[int] | NDArray[np.intp] | None) -> NDArray[np.intp]:
    """Return units in the given order. Default: all units, ordered by their peaks."""
    if units is None:
        return units_by_peak(layer)
    for unit in units:
        check_index("unit", unit, layer.H)
    return np.array([unit % layer.H for unit in units], np.intp)


class HeatMap(NamedTuple):
    """The values of a symbol (rows, T), and the number of each row: its unit."""

    symbol: str
    values: Array
    rows: NDArray[np.intp]
    name: str
    is_gate: bool

    @property
    def scale(self) -> ColorScale:
        """The color scale of the values."""
        return scale_of(self.symbol, self.values, is_gate=self.is_gate)


def heat_map_of(layer: LayerTrace, symbol: str, units: NDArray[np.intp]) -> HeatMap:
    """Return a symbol for selected units; a symbol without units, such as x, has all rows."""
    values = get_values(layer, symbol).T
    rows = units if len(values) == layer.H and symbol not in ("x", "d_x") else np.arange(len(values))
    name = symbol_name(symbol, layer.symbol_names)
    return HeatMap(symbol, values[rows], rows, name, is_gate=symbol in layer.gate_symbols)


def scale_of(symbol: str, values: Array, *, is_gate: bool | None = None) -> ColorScale:
    """Return the scale of a symbol: at least [0, 1] for gates, at least [-1, 1] for states, fitted for gradients."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if (symbol in GATES if is_gate is None else is_gate) and low >= 0:
        return ColorScale(0.0, max(1.0, high), "sequential")
    minimum = 0.0 if symbol.startswith("d_") else 1.0
    limit = max(minimum, -low, high) or 1.0
    return ColorScale(-limit, limit, "diverging")


# Input and output


class StepMarks(NamedTuple):
    """Texts and delimiters of the steps of a sequence.

    Attributes
    ----------
    texts : tuple of str
        Of each step: bits of the input, "|" for the delimiter, bits of the target; or the names of the steps. Empty if
        there are none.
    delimiters : tuple of int
        The steps with a delimiter.
    """

    texts: tuple[str, ...] = ()
    delimiters: tuple[int, ...] = ()


def step_marks(trace: TraceData) -> StepMarks:
    """Return the bits and the delimiter of a copy task, or the names of the steps."""
    if not trace.about.get("copy"):
        return StepMarks(_step_names(trace) or ())
    rows = _input_bits(trace)
    delimiters = [row.values > 0 for row in rows if row.name == "delimiter"]
    is_delimiter = delimiters[0] if delimiters else np.zeros(trace.T, np.bool_)
    inputs = [row.texts or () for row in rows if row.name != "delimiter"]
    targets = [row.expected or () for row in output_rows(trace)] if trace.about["copy"]["mode"] == "recall" else []
    texts = [
        "|" if is_delimiter[t] else "".join(row[t].strip("·") for row in (*inputs, *targets)) for t in range(trace.T)
    ]
    return StepMarks(tuple(texts), tuple(map(int, np.flatnonzero(is_delimiter))))


def input_rows(trace: TraceData) -> list[LabelledRow]:
    """Return the rows of the input: bits of the copy task, ids, names of steps, or features."""
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
    """Return the rows of the output: bits, classes or numbers, depending on the loss; none without a time axis."""
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
    """Return whether a step counts in the loss, (T,)."""
    if trace.weights is None:
        return np.ones(trace.T, np.bool_)
    weights = np.broadcast_to(trace.weights, trace.targets.shape) if trace.targets is not None else trace.weights
    return np.asarray((weights.reshape(trace.T, -1) > 0).any(axis=1))


def feature_names(trace: TraceData, key: str, size: int, letter: str) -> list[str]:
    """Return the feature names of the trace. Default: x0, x1, …."""
    names = trace.about.get(key)
    if names is None:
        return [f"{letter}{k}" for k in range(size)] if size != 1 else [letter]
    return [str(name) for name in names]


def probabilities(trace: TraceData) -> Array:
    """Return the probability of a 1, or of each class, (…, O); the outputs are logits."""
    if trace.about.get("loss") != "categorical_cross_entropy":
        return sigmoid(trace.outputs)
    _, exponentials, total = softmax_terms(trace.outputs)
    return exponentials / total


def _step_names(trace: TraceData) -> tuple[str, ...] | None:
    names = trace.about.get("step_names")
    return None if names is None else tuple(map(str, names))


def _is_one_hot(x: NDArray[Any]) -> bool:
    return bool(((x == 0) | (x == 1)).all() and (x.sum(axis=1) == 1).all())


def _input_bits(trace: TraceData) -> list[LabelledRow]:
    """Return the rows of the copy task's input: the bits, 1 and -1 or 0 for none, and the delimiter."""
    names = feature_names(trace, "input_names", trace.x.shape[1], "x")
    rows = []
    for name, values in zip(names, trace.x.T, strict=True):
        delimiter = name == "delimiter"
        texts = tuple("·" if v == 0 else "|" if delimiter else str(int(v > 0)) for v in values)
        rows.append(LabelledRow(name, np.where(values == 0, np.nan, values), texts, bits=True))
    return rows


def _predicted_bits(trace: TraceData, k: int, name: str) -> LabelledRow:
    has_target, logits = steps_with_target(trace), trace.outputs[:, k]
    values = np.where(has_target, probabilities(trace)[:, k], np.nan)
    texts = _mask(has_target, ["NaN" if np.isnan(logit) else logit > 0 for logit in logits])
    if trace.targets is None:
        return LabelledRow(name, values, texts, bits=True)
    target = trace.targets[:, k] > 0.5
    wrong = has_target & ~has_right_sign(logits, target)
    return LabelledRow(name, values, texts, wrong, _mask(has_target, target), bits=True)


def _predicted_classes(trace: TraceData, names: list[str]) -> LabelledRow:
    has_target, outputs = steps_with_target(trace), trace.outputs
    values = np.where(has_target, probabilities(trace).max(axis=1), np.nan)
    classes = names if trace.about.get("output_names") is not None else list(map(str, range(len(names))))
    most, is_nan = outputs.argmax(axis=1), np.asarray(np.isnan(outputs).any(axis=1))
    texts = _mask(has_target, ["NaN" if nan else classes[k] for k, nan in zip(most, is_nan, strict=True)])
    if trace.targets is None:
        return LabelledRow("output", values, texts)
    expected = _mask(has_target, [classes[k] for k in trace.targets])
    return LabelledRow("output", values, texts, has_target & ~has_largest_output(outputs, trace.targets), expected)


def _mask(has_target: NDArray[np.bool_], labels: Any) -> tuple[str, ...]:
    """Return labels as texts, bits as 0 and 1; "" at steps without a target."""
    return tuple(
        (label if isinstance(label, str) else str(int(label))) if counts else ""
        for label, counts in zip(labels, has_target, strict=True)
    )


def escape_control_characters(text: str) -> str:
    """Return the text without characters that move a cursor, end a line or color a terminal."""
    return escape(text.replace("\n", "↵").replace("\t", "→"), "?")


def all_steps_correct(trace: TraceData) -> bool | None:
    """Return whether every prediction is its target; None for real numbers, and without a target."""
    wrong = [row.wrong for row in output_rows(trace)]
    return None if not wrong or any(w is None for w in wrong) else not any(w.any() for w in wrong if w is not None)


def block_means(values: Array, rows: int, columns: int) -> Array:
    """Return the means of blocks of rows and columns, (rows, columns); blocks at the ends may be smaller."""
    for axis, size in ((0, rows), (1, columns)):
        if size > 1 and values.shape[axis]:
            starts = np.arange(0, values.shape[axis], size)
            counts = np.diff([*starts, values.shape[axis]]).reshape(-1, *[1] * (1 - axis))
            with np.errstate(invalid="ignore"):  # of infinite values
                values = np.add.reduceat(values.astype(np.float64), starts, axis=axis) / counts
    return values
