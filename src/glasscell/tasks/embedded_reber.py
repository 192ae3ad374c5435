"""The embedded Reber grammar: Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", experiment 1.

A string of the Reber grammar (Reber 1967) begins with B and ends with E; between them a walk through six states emits
one symbol per transition:

    1: T → 2, P → 3     2: S → 2, X → 4     3: T → 3, V → 5
    4: X → 3, S → 6     5: P → 4, V → 6     6: E, the end

The embedded grammar has two copies of it: B, then T or P, then a whole Reber string, then the same T or P, then E.
Where two symbols are allowed, each has the probability 1/2. The model reads one symbol per step and predicts the next
one. All but one of the predictions need the last three symbols only; the last T or P needs the second symbol.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.core.cached import cached_property
from glasscell.core.layouts import feature_major_zeros
from glasscell.core.types import Array
from glasscell.data.batch import AnyArray, Batch
from glasscell.data.metrics import Metric, WeightedSum
from glasscell.tasks.generated import EndlessTask, check_draw, check_seed, class_outputs
from glasscell.validation import float_dtype, positive_integer

SYMBOLS = "BTPSXVE"  # the features of a step: 1 for its symbol
REBER = (("T2", "P3"), ("S2", "X4"), ("T3", "V5"), ("X3", "S6"), ("P4", "V6"))  # transitions of states 1 to 5


def _embedded_grammar() -> list[dict[str, int]]:
    """Return the transitions of each state of the embedded grammar, the first of which is the start.

    0 –B→ 1 –T→ 2 –B→ (Reber, 7 states) –T→ 18 –E→ 19, the end; and 1 –P→ 3 –B→ (Reber) –P→ 18.
    """
    states: list[dict[str, int]] = [{"B": 1}, {"T": 2, "P": 3}, {"B": 4}, {"B": 11}]
    for first, outer in ((4, "T"), (11, "P")):
        states += [{arrow[0]: first + int(arrow[1:]) - 1 for arrow in arrows} for arrows in REBER]
        states += [{"E": first + 6}, {outer: 18}]
    return [*states, {"E": 19}, {}]


GRAMMAR = _embedded_grammar()
NEXT_STATE = np.array([[state.get(symbol, len(GRAMMAR) - 1) for symbol in SYMBOLS] for state in GRAMMAR])
ALLOWED = np.array([[symbol in state for symbol in SYMBOLS] for state in GRAMMAR])  # (states, symbols)


def allowed_symbols(batch: Batch) -> NDArray[np.bool_]:
    """Return which symbols may follow each step of a batch of strings, (B, T, 7)."""
    ids = batch.inputs.argmax(axis=-1)
    state, allowed = np.zeros(len(ids), np.int64), np.zeros((*ids.shape, len(SYMBOLS)), np.bool_)
    for t in range(ids.shape[1]):
        state = NEXT_STATE[state, ids[:, t]]
        allowed[:, t] = ALLOWED[state]
    return allowed


def is_correct(outputs: Array, batch: Batch) -> NDArray[np.bool_]:
    """Return which strings meet the criterion of the paper, (B,): the allowed symbols have the largest outputs."""
    allowed = allowed_symbols(batch)
    outputs = class_outputs(outputs, batch.targets)
    smallest = np.where(allowed, outputs, np.inf).min(axis=-1)
    largest = np.where(allowed, -np.inf, outputs).max(axis=-1)
    correct: NDArray[np.bool_] = ((smallest > largest) | (_weights(batch) == 0)).all(axis=1)
    return correct


def sequence_accuracy(outputs: Array, batch: Batch) -> WeightedSum:
    """Count strings in which the allowed symbols have the largest outputs at every step."""
    return WeightedSum(float(is_correct(outputs, batch).sum()), float(len(outputs)))


def _weights(batch: Batch) -> AnyArray:
    return np.ones(batch.targets.shape) if batch.weights is None else batch.weights


@dataclass(frozen=True)
class EmbeddedReber(EndlessTask):
    """The embedded Reber grammar: predict the next symbol of a string.

    Hochreiter & Schmidhuber (1997), experiment 1; docs/tasks.md has the details. Inputs are (B, T, 7), one feature per
    symbol, for all symbols of a string but the last; targets are the symbols that follow, (B, T).

    Parameters
    ----------
    num_strings : int
        Number of strings for training, of which batches are drawn with replacement; and as many each for validation and
        for test. No validation string is a training string, and no test string is one of either.
    seed : int
        Of all three.

    Examples
    --------
    >>> import glasscell as gc
    >>> task = gc.tasks.EmbeddedReber(num_strings=4)
    >>> task.training_strings[:2]
    ('BPBPVPXTTTTVVEPE', 'BPBPVVEPE')
    >>> task.make_batch(["BTBPVVETE"]).inputs.shape
    (1, 8, 7)
    """

    num_strings: int = 256
    seed: int = 0

    loss: ClassVar[str] = "categorical_cross_entropy"
    metrics: ClassVar[tuple[Metric, ...]] = (sequence_accuracy,)
    input_size: ClassVar[int] = len(SYMBOLS)
    output_size: ClassVar[int] = len(SYMBOLS)

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_strings", positive_integer("num_strings", self.num_strings))
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def training_strings(self) -> tuple[str, ...]:
        """The strings for training; short ones occur more than once, as in the paper."""
        return self._strings[0]

    @property
    def validation_strings(self) -> tuple[str, ...]:
        """Different strings, none of which is a training string."""
        return self._strings[1]

    @property
    def test_strings(self) -> tuple[str, ...]:
        """Different strings, none of which is a training or validation string."""
        return self._strings[2]

    @cached_property
    def _strings(self) -> tuple[tuple[str, ...], ...]:
        rng = np.random.default_rng(self.seed)
        training = tuple(self.draw_string(rng) for _ in range(self.num_strings))
        seen, others = set(training), list[str]()
        while len(others) < 2 * self.num_strings:
            string = self.draw_string(rng)
            if string not in seen:
                seen.add(string)
                others.append(string)
        return training, tuple(others[: self.num_strings]), tuple(others[self.num_strings :])

    @staticmethod
    def draw_string(rng: np.random.Generator) -> str:
        """Draw a string of the grammar, such as ``BTBPVVETE``."""
        string, state = "", GRAMMAR[0]
        while state:
            symbols = tuple(state)
            symbol = symbols[rng.integers(2)] if len(symbols) == 2 else symbols[0]
            string, state = string + symbol, GRAMMAR[state[symbol]]
        return string

    @staticmethod
    def is_string(string: str) -> bool:
        """Return whether a string belongs to the grammar."""
        state = 0
        for symbol in string:
            if symbol not in GRAMMAR[state]:
                return False
            state = GRAMMAR[state][symbol]
        return state == len(GRAMMAR) - 1

    def make_batch(self, strings: Sequence[str], dtype: DTypeLike = np.float32) -> Batch:
        """Return inputs, targets, weights and lengths for these strings.

        Parameters
        ----------
        strings : sequence of str
            Of the grammar.
        dtype : float32 or float64

        Returns
        -------
        Batch
            Steps after the end of a string are 0, with weight 0.
        """
        for string in strings:
            if not self.is_string(string):
                raise ValueError(f"strings must belong to the embedded Reber grammar, got {string!r}")
        return _batch(*_ids(strings), dtype)

    def batch(self, size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Batch:
        """Return training strings, drawn with replacement.

        Parameters
        ----------
        size : int
            B
        rng : numpy.random.Generator
        dtype : float32 or float64

        Returns
        -------
        Batch
        """
        dtype = check_draw(size, rng, dtype)
        ids, lengths = self._training_ids
        drawn = rng.integers(len(ids), size=size)
        lengths = lengths[drawn]
        return _batch(ids[drawn, : int(lengths.max(initial=0)) + 1], lengths, dtype)

    @cached_property
    def _training_ids(self) -> tuple[AnyArray, NDArray[np.int64]]:
        """Ids and numbers of steps of the training strings: drawing a batch does not read the strings again."""
        return _ids(self.training_strings)

    def validation_batch(self, dtype: DTypeLike = np.float32) -> Batch:
        """Return the validation strings."""
        return self.make_batch(self.validation_strings, dtype)

    def test_batch(self, dtype: DTypeLike = np.float32) -> Batch:
        """Return the test strings."""
        return self.make_batch(self.test_strings, dtype)

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the best predictor that uses the current symbol only, in nats per symbol.

        It predicts how frequently each symbol follows the current one in training; symbols that never follow it there
        make the loss infinite.
        """
        ids, lengths = self._training_ids
        counts = np.zeros((len(SYMBOLS), len(SYMBOLS)))
        valid = np.arange(ids.shape[1] - 1) < lengths[:, None]
        np.add.at(counts, (ids[:, :-1][valid], ids[:, 1:][valid]), 1)
        probabilities = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        with np.errstate(divide="ignore"):
            losses = -np.log(probabilities[batch.inputs.argmax(axis=-1), batch.targets])
        return _mean(losses, batch)

    def loss_with_memory(self, batch: Batch) -> float:
        """Return the smallest expected loss, in nats per symbol: log 2 at steps where two symbols are allowed."""
        return _mean(np.log(np.maximum(allowed_symbols(batch).sum(axis=-1), 1)), batch)


def _ids(strings: Sequence[str]) -> tuple[AnyArray, NDArray[np.int64]]:
    """Return ids (N, T + 1), 0 after the end of a string, and numbers of steps (N,)."""
    lengths = np.array([len(string) - 1 for string in strings], np.int64)
    ids = np.zeros((len(strings), int(lengths.max(initial=0)) + 1), np.int64)
    for row, string in zip(ids, strings, strict=True):
        row[: len(string)] = [SYMBOLS.index(symbol) for symbol in string]
    return ids, lengths


def _batch(ids: AnyArray, lengths: NDArray[np.int64], dtype: DTypeLike) -> Batch:
    """Return a batch for ids (B, T + 1) and numbers of steps (B,)."""
    dtype = float_dtype(dtype)
    B, T = len(ids), ids.shape[1] - 1
    valid = np.arange(T) < lengths[:, None]
    inputs = feature_major_zeros((B, T, len(SYMBOLS)), dtype)
    np.put_along_axis(inputs, ids[:, :-1, None], valid[..., None].astype(dtype), axis=2)
    return Batch(inputs, np.where(valid, ids[:, 1:], 0), valid.astype(dtype), lengths)


def _mean(losses: AnyArray, batch: Batch) -> float:
    """Return the mean over valid steps."""
    valid = _weights(batch) > 0
    return float(losses[valid].mean()) if valid.any() else 0.0
