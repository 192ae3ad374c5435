"""Sampling of text from a language model, symbol by symbol, on a stream."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import os
from collections.abc import Callable, Iterator, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.core.types import Array, Seed
from glasscell.data.predictions import largest_output
from glasscell.validation import as_generator, non_negative_number, positive_integer

if TYPE_CHECKING:
    from glasscell.data.text.vocabulary import Vocabulary

MIN_TEMPERATURE = 1e-30  # lower ones are 0
DRAWN_AT_ONCE = 256  # random numbers


def sample_text(
    make_push: Callable[[], Callable[[int], Array]],
    vocabulary: Vocabulary,
    prompt: str | bytes,
    length: int,
    temperature: float,
    top_k: int | None,
    seed: Seed | None,
) -> Iterator[str]:
    """Check the arguments of :meth:`LanguageModel.sample`, and return its iterator.

    Parameters
    ----------
    make_push : callable
        When the first text is read, return a function from an id to logits (V,): the step of a stream.
    vocabulary, prompt, length, temperature, top_k, seed
        As in :meth:`LanguageModel.sample`.
    """
    V, length = len(vocabulary), positive_integer("length", length)
    temperature = non_negative_number("temperature", temperature)
    if top_k is not None and positive_integer("top_k", top_k) > V:
        raise ValueError(f"top_k must be at most the {V} symbols of the vocabulary, got {top_k}")
    if not isinstance(prompt, str | bytes):
        raise TypeError(f"prompt must be a str, got a {type(prompt).__name__}")
    ids = vocabulary.encode(prompt, "prompt").tolist()
    if not ids:
        ids = [vocabulary.encode("\n").item() if vocabulary.unit == "bytes" or "\n" in vocabulary else 0]
    draw = _system_numbers if seed is None else as_generator(seed).random
    choose = chooser(V, temperature, top_k, vocabulary.unknown_id)
    return _texts(make_push, vocabulary, ids, length, choose, draw)


def _texts(
    make_push: Callable[[], Callable[[int], Array]],
    vocabulary: Vocabulary,
    ids: Sequence[int],
    length: int,
    choose: Callable[[Array, float], int],
    draw: Callable[[int], Array],
) -> Iterator[str]:
    push, decoder = make_push(), vocabulary.decoder()
    decode = decoder.decode
    for k in ids[:-1]:
        push(k)
    if vocabulary.unit == "words":  # a space after the prompt's last word
        decode(ids[-1])
    k, numbers = ids[-1], list[float]()
    for _ in range(length):
        if not numbers:
            numbers = draw(DRAWN_AT_ONCE).tolist()
        k = choose(push(k), numbers.pop())
        if text := decode(k):
            yield text
    if rest := decoder.finish():
        yield rest


def _system_numbers(count: int) -> Array:
    """Return numbers from [0, 1) of the system's generator: importing numpy.random takes 8 ms."""
    return (np.frombuffer(os.urandom(8 * count), np.uint64) >> 11) * 2.0**-53


def chooser(
    V: int, temperature: float, top_k: int | None = None, excluded: int | None = None
) -> Callable[[Array, float], int]:
    """Return a function that draws a symbol from logits (V,) with a number from [0, 1).

    Parameters
    ----------
    V : int
    temperature : float
    top_k : int, optional
        Default: all symbols.
    excluded : int, optional
        A symbol that is never drawn.

    Raises
    ------
    ValueError
        By the function, if a logit is NaN.
    """
    p, cumulative = np.empty(V), np.empty(V)
    minus_infinity, scale = -np.inf, 1 / temperature if temperature >= MIN_TEMPERATURE else 0.0
    subtract, multiply, exp = np.subtract, np.multiply, np.exp
    maximum, accumulate = np.maximum.reduce, np.add.accumulate
    symbols: Any = None

    def choose(logits: Array, number: float) -> int:
        nonlocal p, cumulative, symbols
        if excluded is not None or top_k is not None:
            logits = logits.astype(np.float64)
            if excluded is not None:
                logits[excluded] = minus_infinity
        if not scale:
            return int(largest_output(logits))
        if top_k is not None and top_k < V:
            symbols = np.argpartition(logits, V - top_k)[V - top_k :]
            logits = logits[symbols]
            p, cumulative = p[:top_k], cumulative[:top_k]
        subtract(logits, maximum(logits), p)
        multiply(p, scale, p)
        exp(p, p)
        accumulate(p, 0, None, cumulative)
        total = cumulative[-1]
        if isnan(total):
            raise ValueError("outputs of the model must be numbers to draw a symbol, got NaN")
        index = int(cumulative.searchsorted(number * total, "right"))
        if index == len(p):  # rounding: the last symbol with a probability above 0
            index = int(np.flatnonzero(p)[-1])
        return index if symbols is None else int(symbols[index])

    return choose
