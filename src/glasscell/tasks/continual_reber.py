"""The continual embedded Reber grammar: Gers, Schmidhuber & Cummins (2000), "Learning to Forget", section 4.

Strings of the embedded Reber grammar (see :mod:`glasscell.tasks.embedded_reber`) follow one another without end, and
nothing marks where one begins: ``BTBPVVETEBPBTXSEPE…``. The model is never reset. It reads one symbol per step and
predicts *all* symbols that may come next: targets are 1 for the one or two allowed symbols and 0 for the others.

- A training stream of the paper ends with its first error, or after 100,000 symbols. Here it does not end at an error,
  since many streams are trained at a time: each has `stream_length` symbols, in windows of `steps` symbols, and the
  state is carried from window to window. An epoch is one stream per sequence of a batch.
- The paper's limit of 0.49 can be read as one of |error|, or of its square, hence |error| < 0.7. Here it is |error| <
  0.49, so that each output is on the right side of 1/2; `tolerance` sets another limit.
- Targets are the possible symbols, as in the paper's description of the task, and not the single symbol that follows.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.core.activations import sigmoid
from glasscell.core.layouts import feature_major_zeros
from glasscell.core.types import Array
from glasscell.data.batch import AnyArray, Batch
from glasscell.data.metrics import Metric, WeightedSum
from glasscell.tasks.embedded_reber import ALLOWED, GRAMMAR, SYMBOLS
from glasscell.tasks.generated import (
    TEST,
    VALIDATION,
    GeneratedTask,
    check_draw,
    check_generator,
    check_seed,
    outputs_like,
)
from glasscell.validation import positive_integer, positive_number

TOLERANCE = 0.49  # largest absolute error of each output of a correct prediction
STREAM_LENGTH = 100_000  # symbols of a stream without errors, in the paper
GOOD_LENGTH = 1000  # mean length of the ten test streams of a good solution, in the paper
TEST_STREAMS = 10
BLOCK = 1000  # symbols that are drawn at a time

LAST = len(GRAMMAR) - 1  # the state after E, which is the start of the next string
CHOICES = [(list(state) * 2)[:2] for state in GRAMMAR[:LAST]]  # both are the same where one symbol is allowed
SYMBOL = np.array([[SYMBOLS.index(symbol) for symbol in pair] for pair in CHOICES])  # (states, 2)
NEXT = np.array([[GRAMMAR[k][symbol] % LAST for symbol in pair] for k, pair in enumerate(CHOICES)])

Push = Callable[[Array], Array]


def correct_steps(outputs: Array, batch: Batch, tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """Return at which steps the errors of all outputs are below the tolerance, (B, T), from logits (B, T, 7)."""
    errors: AnyArray = np.abs(_sigmoid(outputs_like(outputs, batch.targets)) - batch.targets)
    correct: NDArray[np.bool_] = errors.max(axis=-1) < tolerance
    return correct


def is_correct(outputs: Array, batch: Batch, tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """Return which streams of a batch have no error, (B,)."""
    errors: AnyArray = np.abs(_sigmoid(outputs_like(outputs, batch.targets)) - batch.targets)
    correct: NDArray[np.bool_] = errors.max(axis=(1, 2)) < tolerance
    return correct


def symbol_accuracy(outputs: Array, batch: Batch) -> WeightedSum:
    """Count steps at which all outputs are within 0.49 of their targets."""
    correct = correct_steps(outputs, batch)
    return WeightedSum(float(correct.sum()), float(correct.size))


def error_free_length(
    push: Push, rng: np.random.Generator, *, limit: int = STREAM_LENGTH, tolerance: float = TOLERANCE
) -> int:
    """Return how many symbols of a new stream are predicted before the first error. Nothing is reset.

    Parameters
    ----------
    push : function
        Takes one symbol, an array (7,) of float32, and returns the logits of the next symbols, (7,), such as
        ``model.stream().push``.
    rng : numpy.random.Generator
        The stream is drawn from it, in blocks of 1000 symbols.
    limit : int
        Largest number of symbols.
    tolerance : float
        Largest absolute error of an output.

    Returns
    -------
    int
        0 to `limit`.
    """
    check_generator(rng)
    limit, tolerance = positive_integer("limit", limit), positive_number("tolerance", tolerance)
    state, done = np.zeros(1, np.int64), 0
    symbols = np.eye(len(SYMBOLS), dtype=np.float32)
    while done < limit:
        ids, states = walk(state, rng, min(BLOCK, limit - done))
        for symbol, allowed in zip(ids[0], ALLOWED[states[0]], strict=True):
            outputs = np.asarray(push(symbols[symbol]))
            if outputs.shape != (len(SYMBOLS),):
                raise ValueError(f"push must return {len(SYMBOLS)} logits, got an array of shape {outputs.shape}")
            if not (np.abs(_sigmoid(outputs) - allowed) < tolerance).all():
                return done
            done += 1
        state = states[:, -1]
    return done


def rating(lengths: Sequence[int], limit: int = STREAM_LENGTH) -> Literal["perfect", "good", "failed"]:
    """Return how the paper rates a model by the lengths of its test streams.

    Perfect: all streams have `limit` symbols. Good: their mean is above 1000.
    """
    if len(lengths) < 1:
        raise ValueError("lengths must have at least one stream, got none")
    if min(lengths) >= limit:
        return "perfect"
    return "good" if sum(lengths) > GOOD_LENGTH * len(lengths) else "failed"


@dataclass(frozen=True)
class ContinualReber(GeneratedTask):
    """The continual embedded Reber grammar: predict the possible next symbols of a stream without resets.

    Gers, Schmidhuber & Cummins (2000), section 4; docs/tasks.md has the details. Inputs are (B, T, 7), one feature per
    symbol; targets are (B, T, 7), 1 for the symbols that may follow. Batches continue one another.

    Parameters
    ----------
    steps : int
        T, the symbols of a batch; gradients do not reach further back.
    stream_length : int
        Symbols of a training stream, a multiple of `steps`; the largest length of a test stream. The paper has 100,000.
    seed : int
        Of the streams for validation and test.

    Raises
    ------
    TypeError, ValueError
        If an argument is no integer, or out of range.

    Examples
    --------
    >>> import glasscell as gc
    >>> task = gc.tasks.ContinualReber(steps=25)
    >>> task.strings(task.test_batch(1))
    ['BTBTSXSETEBTBTXXTTTTTTTVV']
    """

    steps: int = 50
    stream_length: int = STREAM_LENGTH
    seed: int = 0

    loss: ClassVar[str] = "binary_cross_entropy"
    metrics: ClassVar[tuple[str | Metric, ...]] = (symbol_accuracy,)
    endless: ClassVar[bool] = False  # an epoch is one stream per sequence: a resumed training draws it again
    input_size: ClassVar[int] = len(SYMBOLS)
    output_size: ClassVar[int] = len(SYMBOLS)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", positive_integer("steps", self.steps))
        object.__setattr__(self, "stream_length", positive_integer("stream_length", self.stream_length))
        if self.stream_length % self.steps:
            raise ValueError(f"stream_length must be a multiple of steps = {self.steps}, got {self.stream_length}")
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def num_batches(self) -> int:
        """Number of batches of an epoch."""
        return self.stream_length // self.steps

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Iterator[Batch]:
        """Yield the windows of `size` new streams, each of which continues the one before."""
        dtype = check_draw(size, rng, dtype)
        return self._windows(size, np.random.default_rng(rng.integers(2**63, size=2)), dtype)

    def _windows(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        dtype = check_draw(size, rng, dtype)
        state = np.zeros(size, np.int64)
        for k in range(self.num_batches):
            ids, states = walk(state, rng, self.steps)
            state = states[:, -1]
            yield _batch(ids, states, dtype)._replace(continues=k > 0)

    def batch(self, size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Batch:
        """Return the first window of `size` new streams.

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
        return next(self._windows(size, rng, dtype))

    def validation(self, size: int, dtype: DTypeLike = np.float32) -> list[Batch]:
        """Return ten windows of 32 streams, each of which continues the one before; or all if there are fewer."""
        del size
        return list(islice(self._windows(32, np.random.default_rng([self.seed, VALIDATION]), dtype), 10))

    def strings(self, batch: Batch) -> list[str]:
        """Return the symbols of each stream of a batch, such as ``BTBPVVETEBP…``."""
        return ["".join(SYMBOLS[k] for k in row) for row in batch.inputs.argmax(axis=-1)]

    def test_stream_lengths(
        self, new_push: Callable[[], Push], num_streams: int = TEST_STREAMS, tolerance: float = TOLERANCE
    ) -> tuple[int, ...]:
        """Return the :func:`error_free_length` of each test stream.

        Parameters
        ----------
        new_push : function
            Called before each stream; returns the `push` of a stream with its initial state, such as
            ``lambda: model.stream().push``.
        num_streams : int
            10 in the paper.
        tolerance : float
            Largest absolute error of an output.
        """
        generators = [
            np.random.default_rng([self.seed, TEST, k]) for k in range(positive_integer("num_streams", num_streams))
        ]
        return tuple(
            error_free_length(new_push(), rng, limit=self.stream_length, tolerance=tolerance) for rng in generators
        )

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the best predictor that uses the current symbol only, in nats per output.

        It predicts, for each current symbol, how frequently each symbol may follow in an endless stream.
        """
        probabilities = next_symbol_frequencies()[batch.inputs.argmax(axis=-1)]
        with np.errstate(divide="ignore"):
            losses = np.where(batch.targets > 0.5, -np.log(probabilities), -np.log1p(-probabilities))
        return float(losses.mean()) if losses.size else 0.0


@lru_cache(maxsize=1)
def next_symbol_frequencies() -> NDArray[np.float64]:
    """Return for each symbol how frequently each symbol is allowed after it in an endless stream, (7, 7).

    From the stationary distribution of the states of the grammar.
    """
    transitions = np.zeros((LAST, LAST))
    np.add.at(transitions, (np.arange(LAST)[:, None], NEXT), 0.5)
    equations = np.vstack([transitions.T - np.eye(LAST), np.ones(LAST)])  # π P = π, Σ π = 1
    stationary = np.linalg.lstsq(equations, np.append(np.zeros(LAST), 1.0), rcond=None)[0]
    reached = np.zeros((len(SYMBOLS), LAST))  # frequency of a symbol that leads to a state
    np.add.at(reached, (SYMBOL, NEXT), stationary[:, None] / 2)
    frequencies: NDArray[np.float64] = reached @ ALLOWED[:LAST] / reached.sum(axis=1, keepdims=True)
    return np.clip(frequencies, 0, 1)


def walk(state: AnyArray, rng: np.random.Generator, steps: int) -> tuple[AnyArray, AnyArray]:
    """Draw symbols from the states (B,), and return their ids and the states after them, both (B, steps)."""
    choices = rng.integers(2, size=(steps, len(state)))
    ids, states = np.empty((steps, len(state)), np.int64), np.empty((steps, len(state)), np.int64)
    for t, choice in enumerate(choices):
        ids[t] = SYMBOL[state, choice]
        states[t] = state = NEXT[state, choice]
    return ids.T, states.T


def _batch(ids: AnyArray, states: AnyArray, dtype: DTypeLike) -> Batch:
    inputs = feature_major_zeros((*ids.shape, len(SYMBOLS)), dtype)
    targets = feature_major_zeros(inputs.shape, dtype)
    np.put_along_axis(inputs, ids[..., None], 1, axis=2)
    targets[...] = ALLOWED[states]
    return Batch(inputs, targets)


def _sigmoid(logits: Array) -> Array:
    return sigmoid(np.asarray(logits, np.float64))
