"""The inputs at which a unit is largest and smallest, in a corpus that is read in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.data.batch import AnyArray
from glasscell.escaping import escape
from glasscell.explain.activations import BATCH_SIZE, run_forward, symbol_values
from glasscell.explain.corpora import Block, Corpus, ToText, read_corpus
from glasscell.explain.quantiles import StreamedQuantiles
from glasscell.explain.samples import Which
from glasscell.validation import non_negative_integer, positive_integer

LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
BLOCK_STEPS = 4096


class Extreme(NamedTuple):
    """One place of a corpus.

    Attributes
    ----------
    value : float
        Of the unit, after this input.
    sequence, step : int
        The place: number of the sequence, and of the step in it.
    before, input, after : str or array (n, I) or (n,)
        The inputs before it, the input itself, and those after it; text for symbols and bits.
    """

    value: float
    sequence: int
    step: int
    before: Any
    input: Any
    after: Any


@dataclass(frozen=True, eq=False, repr=False)
class ExtremeInputs:
    """Where a unit is largest and smallest.

    Attributes
    ----------
    largest, smallest : tuple of Extreme
        From the most extreme one on; two places of one sequence are more than `separation` steps apart.
    levels, quantiles : array (Q,)
        Quantiles of all values.
    quantile_error : float
        Largest error of the quantiles: 0 up to 65536 values, then half the width of a bin of the histogram.
    count : int
        Number of values.
    unit : int
    separation : int
    symbol, layer, source : str
        Names of the symbol and the layer, and where the sequences come from.
    """

    largest: tuple[Extreme, ...]
    smallest: tuple[Extreme, ...]
    levels: Array
    quantiles: Array
    quantile_error: float
    count: int
    unit: int
    separation: int
    symbol: str
    layer: str
    source: str

    def lines(self) -> list[str]:
        """Return one line per place: value, place, and the inputs with the place in brackets."""
        result = []
        for name, places in (("largest", self.largest), ("smallest", self.smallest)):
            for place in places:
                inputs = (place.before, place.input, place.after)
                before, at, after = (escape(str(part).replace("\n", "↵")) for part in inputs)
                where = f"sequence {place.sequence}, step {place.step}"
                result.append(f"{name} {place.value:+.4f} at {where}: {before}[{at}]{after}")
        return result

    def __repr__(self) -> str:
        extent = f"{self.quantiles.min():.4g} to {self.quantiles.max():.4g}" if len(self.quantiles) else "no quantiles"
        where = f"{self.symbol} of unit {self.unit} of {self.layer}"
        return f"ExtremeInputs({where}: {self.count} values, {extent}; {self.source})"


def extreme_inputs(
    model: Any,
    corpus: Any,
    unit: int | Sequence[int],
    symbol: str | None = None,
    *,
    layer: int = -1,
    number: int = 10,
    context: int = 20,
    separation: int | None = None,
    levels: Sequence[float] = LEVELS,
    which: Which | None = None,
    lengths: ArrayLike | None = None,
    block_steps: int = BLOCK_STEPS,
    batch_size: int = BATCH_SIZE,
) -> ExtremeInputs | tuple[ExtremeInputs, ...]:
    """Return the inputs that open and close a gate of a unit most, or fill its cell, in a corpus of any size.

    A view of Strobelt et al. (2018), "LSTMVis: a tool for visual analysis of hidden state dynamics in recurrent neural
    networks". The corpus is read in blocks; of the activations only the extreme ones and a histogram are kept.

    Parameters
    ----------
    model : layer or model
        With a layer that can be traced.
    corpus : str, bytes, iterable of str, array, list of arrays, Batch or task
        A text, or its consecutive pieces, such as an open file, for a model with a vocabulary. A series (T, I), or ids
        or numbers (T,), is one sequence; the state is carried from block to block. Or sequences as in
        :func:`decodability`.
    unit : int, or sequence of int
        Number of the unit, or of several, which share the passes.
    symbol : str, optional
        A symbol of the layer such as "i", "f", "o" or "c". Default: its state, c of an LSTM.
    layer : int
        As in :func:`decodability`.
    number : int
        Of largest and of smallest values.
    context : int
        Number of inputs before and after each place.
    separation : int, optional
        Places of one sequence are more than this many steps apart. Default: `context`.
    levels : sequence of float
        Levels of the quantiles, from 0 to 1.
    which, lengths
        As in :func:`decodability`.
    block_steps : int
        Steps of a block of one sequence.
    batch_size : int
        Sequences of a block of several.

    Returns
    -------
    ExtremeInputs, or a tuple of them for several units

    Raises
    ------
    TypeError, ValueError
        If unit, symbol or layer does not exist, the corpus is empty, a symbol of a text is not in the vocabulary, or
        the model runs backward in time and a sequence is longer than a block.

    Examples
    --------
    >>> import glasscell as gc
    >>> model = gc.CopyLSTM(8, task=gc.tasks.Copy(width=4))  # not trained
    >>> result = gc.explain.extreme_inputs(model, model.task, unit=3, symbol="f", number=2)
    >>> len(result.largest), result.count
    (2, 144)
    """
    number, context = positive_integer("number", number), non_negative_integer("context", context)
    apart = context if separation is None else non_negative_integer("separation", separation)
    fractions = _levels(levels)
    units: list[Any] = list(unit) if isinstance(unit, Sequence | np.ndarray) else [unit]
    if not units:
        raise ValueError("unit must be an integer, or at least one, got none")
    data = read_corpus(
        model,
        corpus,
        lengths=lengths,
        which=which,
        context=context,
        block_steps=positive_integer("block_steps", block_steps),
        batch_size=positive_integer("batch_size", batch_size),
    )
    searches = [_Search(number, apart, context) for _ in units]
    states, names = None, ("", "")
    for block in data.blocks:
        run = run_forward(model, block.inputs, states if block.continues else None, block.lengths)
        trace, states = run.layer(layer), run.states
        values = symbol_values(trace, symbol)
        names = symbol or trace.state, trace.name
        for search, k in zip(searches, units, strict=True):
            search.add(block, values[..., _checked_unit(k, values.shape[-1])])
    found = tuple(
        _result(search, int(k) % values.shape[-1], fractions, names, data)
        for search, k in zip(searches, units, strict=True)
    )
    return found if isinstance(unit, Sequence | np.ndarray) else found[0]


def _levels(levels: Sequence[float]) -> Array:
    array = np.asarray(levels, np.float64).reshape(-1)
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"levels must be from 0 to 1, got {levels!r:.100}")
    return array


def _checked_unit(unit: Any, H: int) -> int:
    if isinstance(unit, bool) or not isinstance(unit, int | np.integer):
        raise TypeError(f"unit must be an integer, got {unit!r:.100}")
    if not -H <= unit < H:
        raise ValueError(f"unit must be from {-H} to {H - 1}, got {unit}")
    return int(unit)


def _result(search: _Search, unit: int, levels: Array, names: tuple[str, str], data: Corpus) -> ExtremeInputs:
    sketch = search.quantiles
    if not sketch.count:
        raise ValueError("corpus must have at least one step, got none")
    largest, smallest = (candidates.places(data.to_text) for candidates in (search.largest, search.smallest))
    quantiles = (sketch.quantiles(levels), sketch.error)
    return ExtremeInputs(
        *(largest, smallest, levels, *quantiles, sketch.count, unit, search.largest.separation, *names, data.source)
    )


class _Search:
    """The extremes and quantiles of one unit."""

    def __init__(self, number: int, separation: int, context: int) -> None:
        self.largest = _Candidates(number, separation, context, sign=1)
        self.smallest = _Candidates(number, separation, context, sign=-1)
        self.quantiles = StreamedQuantiles()

    def add(self, block: Block, values: Array) -> None:
        """Add the values of the unit (B, T) in a block; NaN is no value."""
        self.quantiles.add(values[~np.isnan(values)])
        self.largest.add(block, values)
        self.smallest.add(block, values)


class _Candidates:
    """The largest values of sign · value so far, enough of them that the result is that of all values.

    Each selected place excludes at most 2 · separation others, so `number` separate places are among the
    number · (2 · separation + 1) largest values.
    """

    def __init__(self, number: int, separation: int, context: int, sign: int) -> None:
        self.number, self.separation, self.context, self.sign = number, separation, context, sign
        self.capacity = number * (2 * separation + 1)
        self.entries: list[tuple[float, int, int, AnyArray, int]] = []  # key, sequence, step, inputs, place in them

    def add(self, block: Block, values: Array) -> None:
        """Add the values (B, T) of a block."""
        keys = np.where(np.isnan(values), -np.inf, self.sign * values.astype(np.float64)).ravel()
        lowest = self.entries[-1][0] if len(self.entries) == self.capacity else -np.inf
        chosen: NDArray[np.intp] = np.flatnonzero(keys > lowest)
        chosen = chosen[np.argsort(-keys[chosen], kind="stable")[: self.capacity]]
        B, T = values.shape
        inputs = block.inputs if B > 1 else np.concatenate([block.before, block.inputs[0], block.after])[None]
        offset = len(block.before) if B == 1 else 0
        for place in chosen:
            row, t = divmod(int(place), T)
            end = len(inputs[row]) if block.lengths is None else int(block.lengths[row])
            first = max(0, t + offset - self.context)
            window = inputs[row, first : min(t + offset + self.context + 1, end)].copy()
            at = block.sequence + row, block.start + t
            self.entries.append((float(keys[place]), *at, window, t + offset - first))
        self.entries.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
        del self.entries[self.capacity :]

    def places(self, to_text: ToText | None) -> tuple[Extreme, ...]:
        """Return the first places that are separate from all before them."""
        selected: list[tuple[float, int, int, AnyArray, int]] = []
        for entry in self.entries:
            near = (other for other in selected if other[1] == entry[1])
            if len(selected) < self.number and all(abs(other[2] - entry[2]) > self.separation for other in near):
                selected.append(entry)
        write: Any = (lambda part: part) if to_text is None else to_text
        return tuple(
            Extreme(self.sign * key, sequence, step, write(x[:k]), write(x[k : k + 1]), write(x[k + 1 :]))
            for key, sequence, step, x, k in selected
        )
