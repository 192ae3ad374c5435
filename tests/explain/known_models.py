"""Models whose answers are known: cells that latch a bit."""

from typing import NamedTuple

import numpy as np

import glasscell as gc

OPEN, SHUT = 100.0, -100.0  # σ(100) is 1 in float64, and σ(-100) is 4e-44
LATCHED, T = 2, 6  # the step whose bit is latched, and the number of steps


class Latch(NamedTuple):
    """Unit 0 holds the bit of step 2, unit 1 that of the current step; the output at each step is 3 h of unit 0."""

    model: gc.Sequential
    x: np.ndarray  # (2^T, T, 2): bits as -1 and +1, and a flag at the latched step
    bits: np.ndarray  # (2^T, T)


def set_gate(lstm: gc.LSTM, gate: str, unit: int, bias: float, **weights: float) -> None:
    """Set the row of a gate of a unit: `x0` is the weight of input 0, `h1` that of h of unit 1."""
    row = lstm.parameters["kernel_l0"]["ifog".index(gate) * lstm.hidden_size + unit]
    row[:] = 0
    row[-1] = bias
    for name, weight in weights.items():
        row[int(name[1:]) + (lstm.hidden_size if name[0] == "x" else 0)] = weight


def make_latch() -> Latch:
    """Return a model that latches one bit."""
    lstm, readout = gc.LSTM(2, 2, dtype=np.float64), gc.Linear(2, 1, dtype=np.float64)
    set_gate(lstm, "i", 0, SHUT, x1=2 * OPEN)
    set_gate(lstm, "f", 0, OPEN, x1=2 * SHUT)
    set_gate(lstm, "i", 1, OPEN)
    set_gate(lstm, "f", 1, SHUT)
    for unit in (0, 1):
        set_gate(lstm, "o", unit, OPEN)
        set_gate(lstm, "g", unit, 0.0, x0=1.0)
    readout.parameters["weight"][:] = [[3.0, 0.0]]
    readout.parameters["bias"][:] = 0
    bits = (np.arange(1 << T)[:, None] >> np.arange(T)) & 1
    x = np.zeros((1 << T, T, 2))
    x[..., 0] = 2 * bits - 1
    x[:, LATCHED, 1] = 1
    return Latch(gc.Sequential([lstm, readout], seed=None), x, bits)
