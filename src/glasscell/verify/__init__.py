"""Verify Glasscell's results against finite differences, PyTorch, ONNX Runtime and Keras.

>>> from glasscell.verify import verify
>>> checks = verify()  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.layers import LSTM, Embedding, Unsqueeze
from glasscell.layers.kinds import input_size
from glasscell.models import Sequential
from glasscell.validation import as_generator, positive_integer
from glasscell.verify import differences, keras, onnx_runtime, pytorch
from glasscell.verify.cases import draw_case, with_dtype
from glasscell.verify.checks import Check
from glasscell.verify.conditioning import SAFETY, sequential_response

__all__ = ["Check", "iter_checks", "verify"]


def verify(model: LSTM | Sequential | None = None, shape: tuple[int, int] = (4, 12), seed: int = 0) -> list[Check]:
    """Check the library, or one model, against finite differences, PyTorch, ONNX Runtime and Keras.

    Parameters
    ----------
    model : LSTM, Sequential or another model, optional
        Default: the library, on random LSTMs of every kind.
    shape : tuple of int
        B and T of the sequences that a model is checked on. Their values are random.
    seed : int

    Returns
    -------
    list of Check
        In the order of the table that ``glasscell verify`` prints. A skipped check neither holds nor fails, and its
        note states the reason.
    """
    return list(iter_checks(model, shape, seed))


def iter_checks(
    model: LSTM | Sequential | None = None, shape: tuple[int, int] = (4, 12), seed: int = 0
) -> Iterator[Check]:
    """Yield the checks of :func:`verify`, each when it is complete."""
    rng = as_generator(seed)
    B, T = (positive_integer(name, size) for name, size in zip(("B", "T"), shape, strict=True))
    if model is None:
        for reference in (differences, pytorch, onnx_runtime, keras):
            yield from reference.library_checks(rng)
    elif isinstance(model, LSTM):
        yield from _lstm_checks(model, (B, T), rng)
    else:
        yield from _sequential_checks(model.as_sequential(), (B, T), rng)


def _lstm_checks(lstm: LSTM, shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Check]:
    """Check an LSTM on sequences of equal and of variable lengths."""
    exact = with_dtype(lstm, np.float64)
    cases = [draw_case(exact, rng, shape, variable_lengths=variable_lengths) for variable_lengths in (False, True)]
    yield from differences.model_checks(cases)
    yield from pytorch.model_checks(cases)
    yield from onnx_runtime.model_checks(cases)
    yield from keras.model_checks(lstm, cases[0].x, SAFETY * cases[0].response.values)


def _sequential_checks(model: Sequential, shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Check]:
    """Check a Sequential as a whole, and each of its LSTMs."""
    weights = {name: array.astype(np.float64) for name, array in model.to_torch().items()}
    exact = Sequential.from_weights(model.config, weights)
    x = _inputs(exact, shape, rng)
    lstms = [draw_case(layer, rng, shape, variable_lengths=True) for layer in exact.layers if isinstance(layer, LSTM)]
    yield from differences.sequential_checks(exact, x, rng)
    yield from differences.reference_cell_checks(lstms)
    yield from pytorch.model_checks(lstms)
    allowed = SAFETY * sequential_response(exact, x).values
    yield from onnx_runtime.sequential_checks(model, x, allowed)
    yield from keras.model_checks(model, x, allowed)


def _inputs(model: Sequential, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[Any]:
    """Draw random inputs for a model."""
    first = model.layers[0]
    if isinstance(first, Embedding):
        return rng.integers(0, first.vocabulary_size, shape)
    if isinstance(first, Unsqueeze):
        return rng.normal(size=shape)
    return rng.normal(size=(*shape, input_size(model.layers) or 1))
