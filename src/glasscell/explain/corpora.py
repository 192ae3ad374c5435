"""Corpora in blocks: texts, series and sets of sequences that need not fit into memory with their activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.data.batch import AnyArray, Batch
from glasscell.explain.activations import blocks
from glasscell.explain.samples import Which, input_kind, read_samples
from glasscell.tasks.copy import Copy
from glasscell.tasks.generated import EndlessTask
from glasscell.validation import type_name

ToText = Callable[[AnyArray], str]


class Block(NamedTuple):
    """Inputs of one forward pass.

    Attributes
    ----------
    inputs : array (B, T, I) or (B, T)
    lengths : array (B,) of int, optional
    sequence : int
        Number of the first sequence.
    start : int
        Number of the first step in its sequence.
    before, after : array
        Inputs before and after the block, if it is a part of one sequence.
    continues : bool
        Whether the state of the block before is carried over.
    """

    inputs: AnyArray
    lengths: NDArray[np.intp] | None
    sequence: int
    start: int
    before: AnyArray
    after: AnyArray
    continues: bool


class Corpus(NamedTuple):
    """Blocks of a corpus, and a function that writes inputs as text, if they are symbols or bits."""

    blocks: Iterator[Block]
    to_text: ToText | None
    source: str


def read_corpus(
    model: Any,
    corpus: Any,
    *,
    lengths: ArrayLike | None,
    which: Which | None,
    context: int,
    block_steps: int,
    batch_size: int,
) -> Corpus:
    """Return the blocks of a corpus.

    Parameters
    ----------
    model : layer or model
    corpus : str, bytes, iterable of str or bytes, array, list of arrays, Batch or task
        A text, or its consecutive pieces, is one sequence; so is an array without an axis of sequences.
    lengths, which
        As in :func:`read_samples`.
    context : int
        Steps before and after a block.
    block_steps, batch_size : int
        Steps of a block of one sequence, and sequences of a block of several.
    """
    vocabulary, kind = getattr(model, "vocabulary", None), input_kind(model)
    to_text: ToText | None = None if vocabulary is None or kind != "ids" else vocabulary.decode
    if isinstance(corpus, str | bytes):
        corpus = [corpus]
    if isinstance(corpus, EndlessTask | Batch):
        if isinstance(corpus, Copy):
            to_text = CopyText(corpus.bits_per_step)
        return _sequences(model, corpus, lengths, which, batch_size, to_text)
    is_array = hasattr(corpus, "__array__")
    if not is_array:
        if not isinstance(corpus, Iterable):
            raise TypeError(f"corpus must be a text, arrays, a batch or a task, got {type_name(corpus)}")
        pieces = iter(corpus)
        first = next(pieces, None)
        if isinstance(first, str | bytes):
            if to_text is None:
                raise TypeError("corpus must be numbers or ids for a model without a vocabulary, got a text")
            _check_alone(lengths, which)
            ids = _encoded(vocabulary, chain([first], pieces))
            return Corpus(_parts(model, ids, context, block_steps), to_text, "a text")
        if first is None:
            raise ValueError("corpus must have at least one step, got none")
        corpus = [first, *pieces]
    if is_array and np.ndim(corpus) == (2 if kind == "features" else 1):
        _check_alone(lengths, which)
        sequence = np.asarray(corpus)
        if not len(sequence):
            raise ValueError("corpus must have at least one step, got none")
        source = f"one sequence of {len(sequence)} steps"
        return Corpus(_parts(model, iter([sequence]), context, block_steps), to_text, source)
    return _sequences(model, corpus, lengths, which, batch_size, to_text)


class CopyText:
    """Writes inputs of a copy task: bits as 0 and 1, the delimiter as ``|``, silent steps as ``.``."""

    def __init__(self, bits_per_step: int) -> None:
        self.bits = bits_per_step

    def __call__(self, inputs: AnyArray) -> str:
        """Return the text of inputs (T, I)."""
        return "".join("|" if row[-1] > 0 else self._bits(row[: self.bits]) for row in inputs)

    def _bits(self, row: AnyArray) -> str:
        return "".join("." if value == 0 else str(int(value > 0)) for value in row)


def _check_alone(lengths: ArrayLike | None, which: Which | None) -> None:
    if lengths is not None or which is not None:
        raise ValueError("lengths and which must be None for one sequence")


def _sequences(
    model: Any, corpus: Any, lengths: ArrayLike | None, which: Which | None, batch_size: int, to_text: ToText | None
) -> Corpus:
    """Return sets of whole sequences as blocks."""
    samples = read_samples(model, corpus, None, lengths, which, needs_labels=False)

    def generate() -> Iterator[Block]:
        for rows in blocks(len(samples), batch_size):
            batch = samples.rows(rows)
            nothing = batch.inputs[0, :0]
            yield Block(batch.inputs, batch.lengths, rows.start, 0, nothing, nothing, continues=False)

    return Corpus(generate(), to_text, samples.source)


def _encoded(vocabulary: Any, pieces: Iterable[Any]) -> Iterator[AnyArray]:
    """Yield the ids of each piece of a text."""
    for number, piece in enumerate(pieces):
        if not isinstance(piece, str | bytes):
            raise TypeError(f"corpus must be pieces of text, got {type_name(piece)} as piece {number}")
        yield vocabulary.encode(piece, "corpus" if number == 0 else f"piece {number} of corpus")


def _parts(model: Any, pieces: Iterator[AnyArray], context: int, block_steps: int) -> Iterator[Block]:
    """Yield one sequence in blocks, each with the inputs before and after it."""
    size, start, before = max(block_steps, context, 1), 0, None
    regular = _regular(pieces, size)
    current = next(regular, None)
    if current is None:
        raise ValueError("corpus must have at least one step, got none")
    while current is not None:
        following = next(regular, None)
        if following is not None and getattr(model, "runs_backward", False):
            raise ValueError(
                f"corpus must be sequences of at most block_steps = {block_steps} steps for a model that runs "
                "backward in time, got a longer one"
            )
        nothing = current[:0]
        after = nothing if following is None else following[:context]
        head = nothing if before is None else before
        yield Block(current[None], None, 0, start, head, after, continues=start > 0)
        start, before = start + len(current), current[max(0, len(current) - context) :]
        current = following


def _regular(pieces: Iterator[AnyArray], size: int) -> Iterator[AnyArray]:
    """Yield the steps of all pieces in blocks of `size`, the last of which may be shorter."""
    kept: list[AnyArray] = []
    count = 0
    for piece in pieces:
        kept.append(piece)
        count += len(piece)
        if count >= size:
            joined = kept[0] if len(kept) == 1 else np.concatenate(kept)
            whole = count // size * size
            yield from (joined[k : k + size] for k in range(0, whole, size))
            kept, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(kept)
