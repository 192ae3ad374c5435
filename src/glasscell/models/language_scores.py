"""How well a language model predicts a text: nats, bits, perplexity, and the most surprising passages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from glasscell.core.activations import softmax_terms
from glasscell.core.buffers import BufferPool
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.text.id_storage import StoredIds
from glasscell.data.text.text_data import TextPart
from glasscell.data.text.vocabulary import Unit, Vocabulary
from glasscell.models.protocol import ForwardPass
from glasscell.validation import non_negative_integer, positive_integer

STEPS = 256  # symbols of a window


class Passage(NamedTuple):
    """A passage of a text.

    Attributes
    ----------
    start : int
        Position of its first symbol.
    text : str
    nats : float
        Mean of -log p over its symbols.
    """

    start: int
    text: str
    nats: float


@dataclass(frozen=True)
class Score:
    """How well a model predicts a text.

    Attributes
    ----------
    unit : str
        Of the model: characters, bytes or words.
    symbols : int
        Number of predicted symbols.
    nats : float
        Mean of -log p of each symbol, in nats.
    passages : tuple of Passage
        The most surprising passages, the first one most of all.
    """

    unit: Unit
    symbols: int
    nats: float
    passages: tuple[Passage, ...]

    @property
    def bits(self) -> float:
        """The mean in bits."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(nats), infinite where it is too large for a float."""
        try:
            return math.exp(self.nats)
        except OverflowError:
            return math.inf


class Infers(Protocol):
    """A model, or an ensemble of models."""

    def infer(self, batch: Batch, states: Any, buffers: BufferPool) -> ForwardPass:
        """Return outputs and states of a batch."""
        ...


def score_ids(
    model: Infers,
    vocabulary: Vocabulary,
    ids: StoredIds,
    *,
    streams: int = 1,
    passages: int = 5,
    width: int = 60,
    progress: Callable[[int], None] | None = None,
) -> Score:
    """Return the score of a text, of which one window is in memory at a time; see :meth:`LanguageModel.score`."""
    B, unit = positive_integer("streams", streams), vocabulary.unit
    length = len(ids) // B - 1
    if length < 1:
        raise ValueError(f"text must have at least two {unit} for each of {B} streams, got {len(ids)}")
    finder = PassageFinder(non_negative_integer("passages", passages), positive_integer("width", width), B)
    part = TextPart(ids, [b * (length + 1) for b in range(B)], length, STEPS)
    states, buffers, total, done = None, BufferPool(), 0.0, 0
    with np.errstate(over="ignore", under="ignore"):
        for batch in part:
            result = model.infer(batch, states, buffers)
            states = result.states
            losses = symbol_losses(result.outputs, batch.targets)
            total += float(losses.sum(dtype=np.float64))
            finder.add(losses, [start + 1 + done for start in part.starts])
            done += losses.shape[1]
            if progress is not None:
                progress(done * B)
    found = []
    for mean, start in finder.best():
        text = vocabulary.decode(ids.rows([start], min(finder.width, length)))
        found.append(Passage(start, text, mean))
    return Score(unit, length * B, total / (length * B), tuple(found))


def symbol_losses(logits: Array, targets: NDArray[np.integer]) -> Array:
    """Return -log p of each target (B, T), from logits (B, T, V)."""
    shifted, _, total = softmax_terms(logits)
    chosen = np.take_along_axis(shifted, targets[..., None], -1)
    result: Array = (np.log(total) - chosen)[..., 0]
    return result


class PassageFinder:
    """Finds the windows of a text with the largest mean loss, from losses that come in blocks.

    The first window is the one with the largest mean, each next one the largest that overlaps none before. A window
    overlaps 2 width - 1 of them, so that all are among the (count - 1) (2 width - 1) + 1 largest, which are kept.

    Parameters
    ----------
    count : int
        Number of windows, which do not overlap.
    width : int
        Symbols of a window; of the whole text if that is shorter.
    streams : int
        Rows of the losses, each of another part of the text.
    """

    def __init__(self, count: int, width: int, streams: int) -> None:
        self.count, self.width = count, width
        self._kept = (count - 1) * (2 * width - 1) + 1
        self._tails = [np.zeros(0)] * streams
        self._tail_starts = [0] * streams
        self._means, self._starts = np.zeros(0), np.zeros(0, np.intp)

    def add(self, losses: Array, starts: list[int]) -> None:
        """Add the losses (B, T) of symbols from these positions on; the last width - 1 of each row are kept."""
        if not self.count:
            return
        means, places = [self._means], [self._starts]
        for row, start in enumerate(starts):
            values = np.concatenate([self._tails[row], losses[row].astype(np.float64)])
            first = start - len(self._tails[row])
            used = max(0, len(values) - self.width + 1)  # windows that begin here are complete
            self._tails[row], self._tail_starts[row] = values[used:], first + used
            if used:
                sums = np.concatenate([[0.0], np.cumsum(values)])
                means.append((sums[self.width :] - sums[: -self.width]) / self.width)
                places.append(np.arange(first, first + used))
        self._means, self._starts = np.concatenate(means), np.concatenate(places)
        if len(self._means) > self._kept:
            largest = np.argpartition(self._means, -self._kept)[-self._kept :]
            self._means, self._starts = self._means[largest], self._starts[largest]

    def best(self) -> list[tuple[float, int]]:
        """Return mean and position of the windows, the largest mean first; of short parts of a text, all of each."""
        if not self.count:
            return []
        if len(self._means):
            found = list(zip(self._means.tolist(), self._starts.tolist(), strict=True))
            return _without_overlaps(found, self.count, self.width)
        parts = zip(self._tails, self._tail_starts, strict=True)
        return sorted([(float(tail.mean()), start) for tail, start in parts if len(tail)], reverse=True)[: self.count]


def _without_overlaps(found: list[tuple[float, int]], count: int, width: int) -> list[tuple[float, int]]:
    kept: list[tuple[float, int]] = []
    for mean, start in sorted(found, reverse=True):
        if len(kept) < count and all(abs(start - other) >= width for _, other in kept):
            kept.append((mean, start))
    return kept
