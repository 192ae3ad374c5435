"""Nothing left to doubt: what Glasscell computes, checked here and now against everything that can check it.

>>> from glasscell.verify import verify
>>> claims = verify()  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.layers import LSTM, Embedding, Unsqueeze
from glasscell.layers.kinds import input_size
from glasscell.models import CopyLSTM, Sequential
from glasscell.validation import as_generator, positive_integer
from glasscell.verify import differences, keras, onnx_runtime, pytorch
from glasscell.verify.cases import case, with_dtype
from glasscell.verify.checks import Check
from glasscell.verify.conditioning import SAFETY, chain_response

__all__ = ["Check", "checks", "verify"]


def verify(
    model: LSTM | Sequential | CopyLSTM | None = None, shape: tuple[int, int] = (4, 12), seed: int = 0
) -> list[Check]:
    """Check the library, or one model, against finite differences, PyTorch, ONNX Runtime and Keras.

    Parameters
    ----------
    model : LSTM, Sequential or CopyLSTM, optional
        Without one, the library: on LSTMs of every kind, drawn at random.
    shape : tuple of int
        B and T of the sequences that a model is checked on; their values are drawn at random.
    seed : int

    Returns
    -------
    list of Claim
        In the order of the table that ``glasscell verify`` prints. One that could not be checked says why; it neither
        holds nor fails.
    """
    return list(checks(model, shape, seed))


def checks(
    model: LSTM | Sequential | CopyLSTM | None = None, shape: tuple[int, int] = (4, 12), seed: int = 0
) -> Iterator[Check]:
    """The claims of :func:`verify`, each as soon as it is checked."""
    rng = as_generator(seed)
    B, T = (positive_integer(name, size) for name, size in zip(("B", "T"), shape, strict=True))
    if model is None:
        for side in (differences, pytorch, onnx_runtime, keras):
            yield from side.library_claims(rng)
    elif isinstance(model, LSTM):
        yield from _of_lstm(model, (B, T), rng)
    else:
        yield from _of_chain(model.as_sequential() if isinstance(model, CopyLSTM) else model, (B, T), rng)


def _of_lstm(lstm: LSTM, shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Check]:
    """One LSTM: sequences of full length, and ragged ones."""
    exact = with_dtype(lstm, np.float64)
    cases = [case(exact, rng, shape, ragged=ragged) for ragged in (False, True)]
    yield from differences.model_claims(cases)
    yield from pytorch.checked(cases)
    yield from onnx_runtime.checked(cases)
    yield from keras.model_claims(lstm, cases[0].x, SAFETY * cases[0].response.values)


def _of_chain(chain: Sequential, shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Check]:
    """A chain of layers as a whole, and its LSTMs one by one."""
    weights = {name: array.astype(np.float64) for name, array in chain.to_torch().items()}
    exact = Sequential.from_weights(chain.config, weights)
    x = _inputs(exact, shape, rng)
    lstms = [case(layer, rng, shape, ragged=True) for layer in exact.layers if isinstance(layer, LSTM)]
    yield from differences.chain_claims(exact, x, rng)
    yield from differences.reference_cell_checks(lstms)
    yield from pytorch.checked(lstms)
    allowed = SAFETY * chain_response(exact, x).values
    yield from onnx_runtime.chain_claims(chain, x, allowed)
    yield from keras.model_claims(chain, x, allowed)


def _inputs(chain: Sequential, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[Any]:
    """Sequences that the chain takes, drawn at random."""
    first = chain.layers[0]
    if isinstance(first, Embedding):
        return rng.integers(0, first.vocabulary_size, shape)
    if isinstance(first, Unsqueeze):
        return rng.normal(size=shape)
    return rng.normal(size=(*shape, input_size(chain.layers) or 1))
