"""Whole sequences and streams through a network of memory blocks, in NumPy or compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.online.block_weights import hidden_matrix, store_hidden_matrix
from glasscell.validation import finite_array

Network = Any  # MemoryBlocks, which imports this module


class Rule(NamedTuple):
    """How the steps of sequences are trained, and where they end."""

    rate: float | None  # learning rate; None: the weights do not change
    decay: float = 1.0  # factor of the rate after each step with a target
    tolerance: float = np.inf  # the first step with an error that is not below it is the last one
    every_step: bool = False  # whether each step has a target, or the last one
    continues: bool = False  # whether the first state is that of the network, or 0


def run_numpy(
    network: Network, inputs: Array, lengths: NDArray[np.int64], targets: Array, rule: Rule
) -> tuple[Array, int]:
    """Return the outputs, and the number of steps with a target before the first error."""
    outputs, rate, done = np.zeros(targets.shape), rule.rate, 0
    for n, length in enumerate(lengths):
        if not rule.continues:
            network.reset()
        for t in range(length):
            y = network.push(inputs[n, t])
            if not rule.every_step and t < length - 1:
                continue
            at = t if rule.every_step else 0
            outputs[n, at] = y
            error = y - targets[n, at]
            if rate is not None:
                network.learn(error).update(rate)
                rate = max(rate * rule.decay, np.finfo(np.float64).tiny)
            if rule.tolerance < np.inf and not np.abs(error).max() < rule.tolerance:
                return outputs, done
            done += 1
    return outputs, done


def run_compiled(
    network: Network, inputs: Array, lengths: NDArray[np.int64], targets: Array, rule: Rule
) -> tuple[Array, int]:
    """Compute :func:`run_numpy` with Numba."""
    from glasscell.core.numba_engine.memory_blocks import compiled_training  # noqa: PLC0415 - imports Numba

    outputs = np.zeros(targets.shape)
    (g_low, g_high), (h_low, h_high) = network.g_range, network.h_range or (0.0, 0.0)
    t_cell, t_in = network.traces["cells"], network.traces["input"]
    t_forget = network.traces.get("forget", t_in[:0])
    W = hidden_matrix(network.parameters)
    done = compiled_training()(
        W,
        network.parameters["output"],
        *(inputs, targets, lengths, outputs),
        *(network.s, network.hidden_outputs, t_cell, t_in, t_forget),
        *(network.cells, network.read),
        *(network.output_gate, network.forget_gate, network.bias, network.cell_bias),
        network.input_to_output,
        *(rule.every_step, rule.rate is not None, rule.continues),
        *(g_low, g_high - g_low, h_low, h_high - h_low, network.h_range is None),
        *(rule.rate or 0.0, rule.decay, rule.tolerance),
    )
    store_hidden_matrix(network.parameters, W)
    return outputs, done


def sequences_of(inputs: ArrayLike, lengths: ArrayLike | None, input_size: int) -> tuple[Array, NDArray[np.int64]]:
    """Return sequences (N, T, I) and their lengths (N,).

    Raises
    ------
    ValueError
        If a shape, a length or a value is wrong.
    """
    array = np.ascontiguousarray(finite_array("inputs", inputs, np.dtype(np.float64)))
    if array.ndim != 3 or array.shape[2] != input_size:
        raise ValueError(f"inputs must have shape (N, T, I) with I = {input_size}, got {array.shape}")
    N, T, _ = array.shape
    if not T:
        raise ValueError(f"inputs must have at least one step, got shape {array.shape}")
    counts: NDArray[Any] = np.full(N, T) if lengths is None else np.asarray(lengths)
    if counts.shape != (N,) or counts.dtype.kind not in "iu":
        raise ValueError(f"lengths must be {N} integers, got shape {counts.shape} and dtype {counts.dtype}")
    if N and not (counts.min() >= 1 and counts.max() <= T):
        raise ValueError(f"lengths must be from 1 to T = {T}, got {counts.min()} to {counts.max()}")
    return array, np.ascontiguousarray(counts, np.int64)


def stream_of(inputs: ArrayLike, targets: ArrayLike, input_size: int, output_size: int) -> tuple[Array, Array]:
    """Return the inputs (T, I) and targets (T, O) of a stream.

    Raises
    ------
    ValueError
        If a shape or a value is wrong.
    """
    x, goals = (
        finite_array("inputs", inputs, np.dtype(np.float64)),
        finite_array("targets", targets, np.dtype(np.float64)),
    )
    if x.ndim != 2 or x.shape[1] != input_size:
        raise ValueError(f"inputs must have shape (T, I) with I = {input_size}, got {x.shape}")
    if goals.shape != (len(x), output_size):
        raise ValueError(f"targets must have shape (T, O) = {(len(x), output_size)}, got {goals.shape}")
    return np.ascontiguousarray(x), np.ascontiguousarray(goals)


def vector_of(name: str, value: ArrayLike, size: int, letter: str) -> Array:
    """Return a vector of this size, which an error calls by the letter.

    Raises
    ------
    ValueError
        If the shape or a value is wrong.
    """
    array = finite_array(name, value, np.dtype(np.float64))
    if array.shape != (size,):
        raise ValueError(f"{name} must have shape ({letter},) = ({size},), got {array.shape}")
    return array
