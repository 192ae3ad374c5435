"""Gradient checkpointing: the tape of a forward pass that keeps little, and the lengths of its segments.

A forward pass keeps the state before each segment of the sequence. The backward pass runs the segments once more, from
the last to the first. It takes the memory of one segment and of the states between them, and the time of one more
forward pass (Chen et al. 2016, Training deep nets with sublinear memory cost).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil, sqrt
from typing import TYPE_CHECKING, Literal

import numpy as np

from glasscell.core.time_order import Index
from glasscell.core.types import Array
from glasscell.core.variants import DropoutMasks

if TYPE_CHECKING:
    from glasscell.recurrent.config import LSTMConfig
    from glasscell.recurrent.step_interventions import PassHook

InitialState = Array | float

NO_GATES = "gates are not kept with recompute_every or memory_limit; run it again without"


class CheckpointedTape:
    """Inputs, outputs, and the state before each segment of a forward pass.

    Attributes
    ----------
    x : array (T, I, B)
    h : array (T, P, B)
        The outputs.
    initial_states : list of (h, c)
        The state before each segment.
    final : (h, c)
        After each sequence's last step.
    weights : dict
        A copy.
    hooks : list of PassHook or None
        The interventions on each segment.
    """

    def __init__(
        self,
        weights: Mapping[str, Array],
        x: Array,
        initial: tuple[InitialState, InitialState],
        noise: DropoutMasks,
        lengths: Index | None,
        segment_steps: int,
    ) -> None:
        (self.T, self.I, self.B), self.dtype = x.shape, x.dtype
        self.weights = {name: weight.copy() for name, weight in weights.items()}
        self.x, self.noise, self.lengths, self.segment_steps = x.copy(), noise, lengths, segment_steps
        self.initial_states = [initial]
        self.hooks: list[PassHook | None] = []

    def finish(self, h: Array, final: tuple[Array, Array]) -> None:
        """Set the results."""
        self.h, self.final = h, final
        self.H = final[1].shape[0]

    def segments(self) -> list[tuple[slice, DropoutMasks, Index | None]]:
        """Return the steps of each segment, its masks, and the number of steps that each sequence has in it."""
        return list(split_segments(self.T, self.segment_steps, self.noise, self.lengths))


def split_segments(
    T: int, length: int, noise: DropoutMasks, lengths: Index | None
) -> Iterator[tuple[slice, DropoutMasks, Index | None]]:
    """Yield the steps of each segment of T, its masks, and the number of steps that each sequence has in it."""
    for start in range(0, T, length):
        segment = slice(start, min(start + length, T))
        new_h, new_c = (mask if isinstance(mask, float) else mask[segment] for mask in noise[1:])
        segment_lengths = None if lengths is None else np.clip(lengths - start, 0, segment.stop - start)
        yield segment, DropoutMasks(noise.recurrent, new_h, new_c), segment_lengths


def segment_steps(
    options: LSTMConfig,
    kernel: Array,
    recompute_every: int | Literal["auto"] | None,
    memory_limit: float | None,
    T: int,
    B: int,
    *,
    is_standard: bool,
) -> int | None:
    """Return the number of steps in a segment; None if all steps are kept.

    `is_standard`: whether an engine of the standard LSTM runs them, whose tapes are smaller.
    """
    if T == 0 or (recompute_every is None and memory_limit is None):
        return None
    if memory_limit is not None:
        steps = _largest_segment_within(options, kernel, memory_limit, T, B, is_standard=is_standard)
    else:
        steps = ceil(sqrt(T)) if recompute_every == "auto" else int(recompute_every or T)
    return steps if steps < T else None


def _largest_segment_within(
    options: LSTMConfig, kernel: Array, limit: float, T: int, B: int, *, is_standard: bool
) -> int:
    """Return the longest segment with which the tape of one, and the states between all, fit into the limit."""
    H, P, R = options.hidden_size, options.state_size, len(kernel)
    I = max(inputs for _, inputs, _ in options.directions)
    rows = 9 * H + I + 1 if is_standard else I + 8 * H + P + R * (3 if options.layer_norm else 1)
    steps = np.arange(1, T + 1)
    needed = (steps * rows + np.ceil(T / steps) * (P + H)) * B * kernel.itemsize * len(options.directions)
    fitting = steps[needed <= limit]
    if not len(fitting):
        raise ValueError(
            f"memory_limit={limit:.0f} is too small for {B} sequences of {T} steps: they need "
            f"{needed.min():.0f} bytes at least, in segments of {steps[needed.argmin()]} steps"
        )
    return int(fitting[-1])
