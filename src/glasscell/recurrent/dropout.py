"""Masks of dropout and zoneout."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import numpy as np

from glasscell.core.types import Array
from glasscell.core.variants import DropoutMasks
from glasscell.recurrent.config import LSTMConfig


def dropout_mask(
    rng: np.random.Generator,
    rate: float,
    shape: tuple[int, ...],
    dtype: np.dtype[np.floating],
    *,
    scaled: bool = True,
) -> Array | float:
    """Draw 0 with probability `rate`, and 1 elsewhere; scaled to mean 1. Return the number 1 for rate 0."""
    if rate == 0:
        return 1.0
    drawn = (rng.random(shape) >= rate).astype(dtype)
    return drawn / dtype.type(1 - rate) if scaled else drawn


def draw_masks(options: LSTMConfig, x: Array, rng: np.random.Generator) -> tuple[Array | float, DropoutMasks]:
    """Draw the masks of one forward pass of a direction: that of the inputs x (T, I, B), and those of the state."""
    (T, I, B), P, H = x.shape, options.state_size, options.hidden_size
    input_mask = dropout_mask(rng, options.input_dropout, (I, B), x.dtype)
    return input_mask, DropoutMasks(
        dropout_mask(rng, options.recurrent_dropout, (P, B), x.dtype),
        dropout_mask(rng, options.zoneout, (T, P, B), x.dtype, scaled=False),
        dropout_mask(rng, options.zoneout_cell, (T, H, B), x.dtype, scaled=False),
    )
