"""The model, and its training, that experiments on long time lags share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glasscell.core.optimizers import Adam
from glasscell.layers import LSTM, FinalState, Linear
from glasscell.models import Sequential
from glasscell.training import fit, schedules

BATCH_SIZE, HIDDEN_SIZE = 20, 32
SOURCE = "Hochreiter & Schmidhuber (1997), experiment"
ONE_LAYER = f"One layer of {HIDDEN_SIZE} LSTM units with forget gates, against a few memory cells without forget gates."
CHRONO = "Chrono initialisation of the biases (Tallec & Ollivier 2018), for sequences of up to {} steps."
TRAINING = (
    "Backpropagation through the whole sequence with Adam and a decreasing learning rate, in batches of "
    f"{BATCH_SIZE} sequences, against truncated gradients after each sequence."
)
DIFFERENCES = (ONE_LAYER, CHRONO.format("T + T/10"), TRAINING)


def train_on_lag(
    task: Any,
    callback: Callable[[Any, Sequential], bool],
    *,
    data: Any = None,
    rate: float,
    sequences: int,
    longest: int,
    chrono: bool = True,
    per_step: bool = False,
) -> Sequential:
    """Train an LSTM on at most this number of sequences, and return the model.

    Parameters
    ----------
    task : GeneratedTask
        Its seed is that of the weights and of the training sequences.
    callback : callable
        ``callback(state, model)`` after each update returns whether training ends.
    data : optional
        What training draws batches from. Default: the task.
    rate : float
        First learning rate; it decreases linearly to 0 at the last sequence.
    sequences : int
    longest : int
        Steps of the longest sequences, for chrono initialisation.
    chrono : bool
        False: a forget bias of 1 instead.
    per_step : bool
        Whether each step has a target, and not the last one alone.
    """
    initial: dict[str, Any] = {"forget_bias": "chrono", "chrono_steps": longest} if chrono else {"forget_bias": 1.0}
    lstm, readout = LSTM(task.input_size, HIDDEN_SIZE, **initial), Linear(HIDDEN_SIZE, task.output_size)
    model = Sequential([lstm, readout] if per_step else [lstm, FinalState(), readout], seed=task.seed)
    updates = sequences // BATCH_SIZE
    fit(
        model,
        task if data is None else data,
        updates,
        batch_size=BATCH_SIZE,
        optimizer=Adam(rate),
        schedule=schedules.linear(updates),
        callbacks=[lambda state: callback(state, model)],
        evaluate_every=updates,
        seed=task.seed,
    )
    return model
