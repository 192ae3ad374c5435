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


WRITE, HAND, READ = 1, 3, 5  # steps of the relay


def make_relay() -> Latch:
    """Return a model in which unit 0 gets the bit of step 1 and unit 1 takes it over at step 3; it is read at step 5.

    Unit 2 holds the bit of the current step, and nothing reads it. Inputs: bits as -1 and +1, and three flags.
    """
    lstm, readout = gc.LSTM(4, 3, dtype=np.float64), gc.Linear(3, 1, dtype=np.float64)
    set_gate(lstm, "i", 0, SHUT, x1=2 * OPEN)
    set_gate(lstm, "f", 0, OPEN, x1=2 * SHUT, x2=2 * SHUT)
    set_gate(lstm, "g", 0, 0.0, x0=1.0)
    set_gate(lstm, "o", 0, OPEN)
    set_gate(lstm, "i", 1, SHUT, x2=2 * OPEN)
    set_gate(lstm, "f", 1, OPEN, x2=2 * SHUT)
    set_gate(lstm, "g", 1, 0.0, h0=2.0)
    set_gate(lstm, "o", 1, SHUT, x3=2 * OPEN)
    set_gate(lstm, "i", 2, OPEN)
    set_gate(lstm, "f", 2, SHUT)
    set_gate(lstm, "g", 2, 0.0, x0=1.0)
    set_gate(lstm, "o", 2, SHUT)
    readout.parameters["weight"][:] = [[0.0, 3.0, 5.0]]
    readout.parameters["bias"][:] = 0
    bits = (np.arange(1 << T)[:, None] >> np.arange(T)) & 1
    x = np.zeros((1 << T, T, 4))
    x[..., 0] = 2 * bits - 1
    for flag, step in enumerate((WRITE, HAND, READ), start=1):
        x[:, step, flag] = 1
    return Latch(gc.Sequential([lstm, readout], seed=None), x, bits)
