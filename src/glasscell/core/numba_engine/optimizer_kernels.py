"""The updates of optimisers through Numba: one pass over memory, and the same numbers as NumPy's bit by bit.

NumPy makes ten passes over a piece that is in the cache, which at a million weights is a third of the speed, and at
some thousands a tenth. Every operation here is rounded as NumPy rounds it, none is joined with another: whether Numba
is there does not show in a result.
"""

# Numba infers the types.
# mypy: disable-error-code="no-untyped-def"

from collections.abc import Callable
from typing import Any

import numpy as np

from glasscell.core.numba_engine.jit_cache import jit_cached
from glasscell.core.uninterrupted import once_uninterrupted

Update = Callable[..., None]


@once_uninterrupted
def adam(char: str) -> Update:
    """Compile :func:`_adam` for a dtype, given by its char, or read it from disk."""
    import numba  # noqa: PLC0415 - takes a third of a second

    number: Any = numba.from_dtype(np.dtype(char))
    changes, given = (numba.types.Array(number, 1, "C", readonly=readonly) for readonly in (False, True))
    signature = numba.void(changes, given, changes, changes, *[number] * 4)
    update: Update = jit_cached(_adam, signature)
    return update


def _adam(theta, d, M, S, beta1, beta2, epsilon, step):
    for k in range(len(theta)):
        M[k] = M[k] * beta1 + d[k]
        S[k] = S[k] * beta2 + d[k] * d[k]
        theta[k] -= M[k] / (np.sqrt(S[k]) + epsilon) * step
