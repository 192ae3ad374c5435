"""Sentences that are computed from results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glasscell.core.types import Array

CARRIED_SHARE = 0.1  # smallest share of a unit that the information is handed to
WRITTEN_PART = 0.5  # a unit is written if its share is at least this part of the largest one at that step
MAX_WRITTEN, MAX_HANDED = 3, 4  # units that a sentence lists


def relay_sentence(name: str, carried: Array, written_at: int, read_at: int, read: str) -> str:
    """Return the path of the information of an input in words.

    Rules: it is *written* into the units with at least half of the largest share at the first step at which the cells
    change, at most three, from the largest share on. It is *handed* to the other units that carry at least 10 % at a
    later step up to the output: the four with the largest shares, in the order in which they first carry 10 %. It is
    *read* at the step of its output.

    Parameters
    ----------
    name : str
        Of the input.
    carried : array (T, H)
        Shares of the units.
    written_at, read_at : int
        Steps; -1 as in :class:`~glasscell.explain.Relay`.
    read : str
        Name of the place at which it is read.

    Examples
    --------
    >>> import numpy as np
    >>> carried = np.zeros((4, 10))
    >>> carried[0, [8, 3]], carried[1:3, 9], carried[2, 2] = (0.6, 0.4), 0.9, 0.1
    >>> relay_sentence("bit 0", carried, 0, 3, "step 3")
    'bit 0 is written into units 8 and 3, handed to 9 and 2, and read at step 3'
    """
    at = f"read at {read}" if read.startswith("step") else f"read by {read}"
    if written_at < 0:
        return f"{name} does not change the cells"
    shares = carried[written_at]
    if not np.any(carried):
        return f"{name} does not change its output"
    order = [int(unit) for unit in np.argsort(-shares, kind="stable")]
    written = [unit for unit in order if shares[unit] >= max(WRITTEN_PART * shares.max(), CARRIED_SHARE)][:MAX_WRITTEN]
    last = len(carried) - 1 if read_at < 0 else read_at
    low, high = sorted((written_at, last))
    span = carried[low : high + 1] if written_at <= last else carried[low : high + 1][::-1]  # in processing order
    later, others = span[1:], [unit for unit in range(carried.shape[1]) if unit not in written]
    peaks = later.max(axis=0, initial=0.0)
    found = sorted((unit for unit in others if peaks[unit] >= CARRIED_SHARE), key=lambda unit: -peaks[unit])
    handed = sorted(
        found[:MAX_HANDED], key=lambda unit: (int((later[:, unit] >= CARRIED_SHARE).argmax()), -peaks[unit])
    )
    if not written:
        start = f"written into many units, each with less than {CARRIED_SHARE:.0%},"
    else:
        start = f"written into {'unit' if len(written) == 1 else 'units'} {_listed(written)}"
    if handed:
        return f"{name} is {start.removesuffix(',')}, handed to {_listed(handed)}, and {at}"
    return f"{name} is {start} and {at}"


def _listed(units: Sequence[int]) -> str:
    """Return numbers as words: "1, 2 and 3"."""
    *first, last = map(str, units)
    return f"{', '.join(first)} and {last}" if first else last
