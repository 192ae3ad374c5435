"""Experiments 2a, 4 and 5 of Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", with its network and its rule.

Each function trains one network from a seed and returns its scores. The set-up follows the paper: one sequence at a
time, an update at each step that has a target, the network of :class:`~glasscell.online.MemoryBlocks` with the paper's
number of weights and its criterion to stop. docs/online_learning.md has results, and what differs.

Learning rates are those of :meth:`MemoryBlocks.train <glasscell.online.MemoryBlocks.train>`, for half the squared
error. The paper has two rules: its equations (16) and (17) are α times the gradient of the squared error, which is the
rate 2α here; its equations (19) to (28) are α times that of half of it, the rate α.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections import deque
from typing import Any, NamedTuple

import numpy as np

from glasscell.core.types import Array
from glasscell.online.memory_blocks import MemoryBlocks

SEQUENCES_PER_CHECK = 100  # trained between two looks at the criterion
RECENT = 2000  # sequences, of which the criteria of experiments 4 and 5 count the incorrect ones
TOLERANCE = 0.04  # largest absolute error of a correct sequence, experiments 4 and 5
MAX_ERROR, SUCCESSIVE = 0.25, 10_000  # experiment 2a: largest error of any output, in successive sequences

Scores = dict[str, float | int | bool]


def adding(
    seed: int,
    *,
    min_length: int = 100,
    input_gate_bias: tuple[float, float] | None = (-3.0, -6.0),
    learning_rate: float = 0.5,
    max_sequences: int = 500_000,
) -> Scores:
    """Train on the adding problem, experiment 4.

    Two blocks of two cells, 93 weights, all in [-0.1, 0.1] except the biases of the input gates, -3 and -6. Training
    stops if the 2000 most recent sequences were correct, with a mean absolute error below 0.01.

    Parameters
    ----------
    seed : int
        Of the weights and the sequences.
    min_length : int
        T; 100, 500 and 1000 in the paper.
    input_gate_bias : (float, float), optional
        First biases of the input gates of both blocks; None: random, as the other weights.
    learning_rate : float
        Default: the paper's.
    max_sequences : int
        After which training stops without success.

    Returns
    -------
    dict
        ``solved`` and ``sequences``; ``sequences_to_90_percent`` and ``…_99_percent``, after which this share of the
        2000 most recent ones was correct, -1 if never; of 2560 test sequences ``wrong``, ``squared_error`` and
        ``absolute_error``.
    """
    from glasscell.tasks import Adding  # noqa: PLC0415 - only where it is used

    run = _Run(Adding(min_length, seed=seed), learning_rate, input_gate_bias, max_incorrect=0, max_mean_error=0.01)
    return run.scores(seed, max_sequences)


def multiplication(
    seed: int,
    *,
    max_incorrect: int = 139,
    input_gate_bias: tuple[float, float] | None = None,
    learning_rate: float = 0.2,
    max_sequences: int = 3_000_000,
) -> Scores:
    """Train on the multiplication problem with T = 100, experiment 5.

    The network of :func:`adding`, with all biases in [-0.1, 0.1], as in the paper's table 10.

    Parameters
    ----------
    seed : int
        Of the weights and the sequences.
    max_incorrect : int
        Training stops if at most this number of the 2000 most recent sequences are incorrect; fewer than 140, and
        fewer than 13, in the paper.
    input_gate_bias : (float, float), optional
        First biases of the input gates of both blocks. Default: random, as the other weights.
    learning_rate : float
        Default: twice the paper's 0.1.
    max_sequences : int
        After which training stops without success.

    Returns
    -------
    dict
        As of :func:`adding`.
    """
    from glasscell.tasks import Multiplication  # noqa: PLC0415 - only where it is used

    task = Multiplication(100, seed=seed)
    run = _Run(task, learning_rate, input_gate_bias, max_incorrect=max_incorrect, max_mean_error=np.inf)
    return run.scores(seed, max_sequences)


def noise_free_lag(
    seed: int,
    *,
    lag: int = 100,
    learning_rate: float = 1.0,
    cell_after: int | None = None,
    lower_input_gate: float = 3.0,
    max_sequences: int = 200_000,
) -> Scores:
    """Train on experiment 2a: predict each symbol of (x, a_1 … a_{p-1}, x) or (y, a_1 … a_{p-1}, y).

    The outputs read the inputs, without biases. Once the error stops to decrease, a cell with an input gate is added,
    which read the inputs; g is the logistic function, h the identity. Weights are in [-0.2, 0.2], but from those of the
    input gate 3 is subtracted: if it is half open, the state drifts to 25 within a sequence, outputs of the wrong
    symbols become 1, and at the learning rate 1 remain there.
    A run is successful if the error of every output stays below 0.25 in 10,000 successive sequences of the training.

    Parameters
    ----------
    seed : int
        Of the weights and the sequences.
    lag : int
        p, the number of steps between the first symbol and its repetition.
    learning_rate : float
        Default: the paper's.
    cell_after : int, optional
        Sequences after which the cell is added, a multiple of 100. Default: once the error stops to decrease.
    lower_input_gate : float
        Subtracted from the first weights of the input gate.
    max_sequences : int
        After which training stops without success; 5 million in the paper.

    Returns
    -------
    dict
        ``solved``; ``sequences`` before the 10,000; ``sequences_before_cell``, after which the cell was added;
        ``sequences_to_test``, after which the errors of both sequences were first below 0.25 if the weights do not
        change, looked at every 100 sequences, -1 if never.
    """
    from glasscell.tasks import NoiseFreeLag  # noqa: PLC0415 - only where it is used

    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"cells": 1, "output_gate": False, "reads": "none", "bias": False}
    options |= {"input_to_output": True, "g_range": (0, 1), "h_range": None, "weight_range": 0.2, "seed": rng}
    task = NoiseFreeLag(lag, seed=seed)
    network = MemoryBlocks(lag + 1, lag + 1, 0, **options)
    both = np.eye(lag + 1)[[[lag - 1, *range(lag - 1), lag - 1], [lag, *range(lag - 1), lag]]]  # x … x and y … y
    count, correct, before_cell, to_test = 0, 0, 0, -1
    previous = np.inf
    while count < max_sequences:
        inputs, ids, *_ = task.batch(SEQUENCES_PER_CHECK, rng, np.float64)
        targets = np.eye(lag + 1)[ids]
        errors = network.train(inputs, targets, learning_rate) - targets
        count += SEQUENCES_PER_CHECK
        is_wrong = np.abs(errors).max(axis=(1, 2)) >= MAX_ERROR
        correct = int(is_wrong[::-1].argmax()) if is_wrong.any() else correct + SEQUENCES_PER_CHECK
        if to_test < 0 and np.abs(network.run(both[:, :-1], every_step=True) - both[:, 1:]).max() < MAX_ERROR:
            to_test = count
        if correct >= SUCCESSIVE:
            break
        mean = float(np.square(errors).mean())
        if not network.blocks and (mean >= previous if cell_after is None else count >= cell_after):
            with_cell = MemoryBlocks(lag + 1, lag + 1, 1, **options)
            with_cell.parameters["output"][:, 1:] = network.parameters["output"]
            with_cell.parameters["hidden"][with_cell.rows["input"]] -= lower_input_gate
            network, before_cell = with_cell, count
        previous = mean
    return {
        "solved": correct >= SUCCESSIVE,
        "sequences": count - correct,
        "sequences_before_cell": before_cell,
        "sequences_to_test": to_test,
    }


class _Run(NamedTuple):
    """A training of experiment 4 or 5 with its criterion."""

    task: Any
    learning_rate: float
    input_gate_bias: tuple[float, float] | None
    max_incorrect: int  # of the most recent sequences
    max_mean_error: float

    def scores(self, seed: int, max_sequences: int) -> Scores:
        """Train until the most recent sequences meet the criterion, and test."""
        rng = np.random.default_rng(seed)
        network = MemoryBlocks(2, 1, 2, 2, input_gate_bias=self.input_gate_bias, weight_range=0.1, seed=rng)
        recent: deque[Array] = deque(maxlen=RECENT // SEQUENCES_PER_CHECK)
        count, solved, first = 0, False, {90: -1, 99: -1}
        while not solved and count < max_sequences:
            inputs, targets, _, lengths, *_ = self.task.batch(SEQUENCES_PER_CHECK, rng, np.float64)
            recent.append(np.abs(network.train(inputs, targets, self.learning_rate, lengths) - targets))
            count += SEQUENCES_PER_CHECK
            if len(recent) < RECENT // SEQUENCES_PER_CHECK:
                continue
            errors = np.concatenate(recent)
            incorrect = int((errors >= TOLERANCE).sum())
            for percent, reached in first.items():
                if reached < 0 and incorrect <= RECENT * (100 - percent) // 100:
                    first[percent] = count
            solved = incorrect <= self.max_incorrect and float(errors.mean()) < self.max_mean_error
        inputs, targets, _, lengths, *_ = self.task.test_batch(dtype=np.float64)
        errors = np.abs(network.run(inputs, lengths) - targets)
        return {
            "solved": solved,
            "sequences": count,
            **{f"sequences_to_{percent}_percent": reached for percent, reached in first.items()},
            "wrong": int((errors >= TOLERANCE).sum()),
            "squared_error": float(np.square(errors).mean()),
            "absolute_error": float(errors.mean()),
        }
