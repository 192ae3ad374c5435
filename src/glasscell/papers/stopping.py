"""The stopping criterion of Hochreiter & Schmidhuber (1997): the most recent training sequences are correct."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.data.batch import Batch
from glasscell.data.metrics import loss_function
from glasscell.papers.experiment import Outcome, Row, scores_of

RECENT = 2000  # training sequences of the paper's criterion


class CountedTask:
    """A task whose training sequences are judged, each by the weights before its update; and a callback of `fit`.

    Parameters
    ----------
    task : GeneratedTask
    is_correct : callable
        ``is_correct(outputs, targets)`` returns (B,).
    limit : float
        The mean of the absolute errors must be below it. The paper has an "average error", and does not define it.
    recent : int
        Number of the most recent sequences that the criterion of the paper is about.
    most_wrong : int
        How many of them may be wrong.
    stop_after : int, optional
        Training ends when this number of most recent sequences meets the criterion. Default: `recent`.

    Attributes
    ----------
    criterion, stopped : int or None
        Number of training sequences until the criterion of the paper was met, and until training ended.
    """

    metrics: tuple[str, ...] = ()
    endless = True

    def __init__(
        self,
        task: Any,
        is_correct: Callable[..., Any],
        limit: float,
        *,
        recent: int = RECENT,
        most_wrong: int = 0,
        stop_after: int | None = None,
    ) -> None:
        self.task, self.is_correct, self.limit, self.recent, self.most_wrong = (
            task,
            is_correct,
            limit,
            recent,
            most_wrong,
        )
        self.stop_after = recent if stop_after is None else stop_after
        self.loss = self.counted_loss
        self.correct: list[bool] = []
        self.errors: list[float] = []
        self.criterion: int | None = None
        self.stopped: int | None = None

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield the batches of the task."""
        batches: Iterator[Batch] = self.task.batches(size, rng, dtype)
        return batches

    def validation(self, size: int, dtype: DTypeLike) -> None:
        """Return None: the criterion is that of the training sequences."""

    def counted_loss(self, outputs: Any, targets: Any, weights: Any) -> tuple[float, Any]:
        """Return the loss of the task, and record which sequences are correct."""
        self.correct.extend(self.is_correct(outputs, targets).tolist())
        self.errors.extend(absolute_errors(outputs, targets).tolist())
        return loss_function(self.task.loss)(outputs, targets, weights)

    def meets(self, recent: int) -> bool:
        """Return whether enough of the most recent sequences are correct, with a small error on average."""
        correct, errors = self.correct[-recent:], self.errors[-recent:]
        enough = len(correct) == recent and correct.count(False) <= self.most_wrong
        return enough and float(np.mean(errors)) < self.limit

    def __call__(self, _: Any) -> bool:
        """Return whether training ends."""
        if self.criterion is None and self.meets(self.recent):
            self.criterion = len(self.correct)
        if self.meets(self.stop_after):
            self.stopped = len(self.correct)
        return self.stopped is not None


def absolute_errors(outputs: Any, targets: Any) -> NDArray[np.floating]:
    """Return the mean absolute error of the outputs for each sequence; for logits that of the probabilities."""
    if targets.ndim == outputs.ndim:
        errors = np.abs(outputs - targets)
    else:
        odds = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        errors = np.abs(odds / odds.sum(axis=-1, keepdims=True) - np.eye(outputs.shape[-1])[targets])
    mean: NDArray[np.floating] = errors.reshape(len(errors), -1).mean(axis=1)
    return mean


def outcome_of_counts(
    rows: Sequence[Row], *, unit: str, median: float, most: float = np.inf, wrong: int | None, expected: bool = True
) -> Outcome:
    """Return the outcome of scores "criterion", "stopped", "wrong" and "tested".

    Parameters
    ----------
    rows : sequence of mapping
    unit : str
        What is counted: "sequences" or "strings".
    median, most : float
        Largest median, and largest number of any seed, until training stops.
    wrong : int or None
        Largest number of errors in the test of any seed. None: no limit.
    expected : bool
        False: the criterion is that no seed meets the criterion of the paper.
    """
    criterion, stopped, errors = (scores_of(rows, name) for name in ("criterion", "stopped", "wrong"))
    reached, ended = ([count for count in counts if count is not None] for counts in (criterion, stopped))
    text = f"{len(reached)} of {len(rows)} seeds"
    if reached:
        text += f" after {statistics.median(reached):,.0f} {unit} ({min(reached):,} to {max(reached):,})"
    tested = rows[0]["scores"]["tested"]
    between = f"{min(errors)} to {max(errors)}" if min(errors) < max(errors) else f"{min(errors)}"
    text += f"; {between} of {tested} wrong in the test"
    if not expected:
        return Outcome(text, not reached)
    met = len(ended) == len(rows) and statistics.median(ended) <= median and max(ended) <= most
    return Outcome(text, met and (wrong is None or max(errors) <= wrong))
