"""Divergence of a training: a loss that stays far above its best and above the one that the training began with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from glasscell.validation import positive_number

FACTOR = 10.0  # default of divergence_factor
UPDATES = 100  # of a mean, and above the limit until the training has diverged
CANCELLED = 5  # of these, by each update below the limit
FAR_FACTOR, FAR_UPDATES = 100, 10  # a loss that is higher by this factor has diverged after fewer updates
ZERO_UPDATES = 16  # at the beginning, of which the loss of outputs that are all 0 is computed


@dataclass
class LossWatch:
    """Compare the loss of every update with the first one, and with the best mean of earlier ones.

    A training has diverged after 100 updates whose loss is above the first one, and above `factor` times the smallest
    mean of 100 updates, where each update below cancels five of them; or after 10 updates in succession whose loss is
    above 100 · `factor` times the first one. The loss of a validation part is not compared: it rises if a model
    overfits. Losses of 0 or less are not compared.

    Parameters
    ----------
    factor : float or None
        None: nothing is compared.

    Attributes
    ----------
    first_loss : float
        Loss of the first update; NaN before.
    zeros, num_zeros : float, int
        Sum and number of the losses of outputs that are all 0, of the first updates. For a loss of the user they are
        not computed: updates below the limit then cancel all others, and only 100 others are a divergence.
    first : float
        Loss at the beginning: of the first update or, if they are higher, the mean of outputs that are all 0, or for a
        loss of the user the first mean of 100 updates.
    best : float
        Smallest mean of 100 updates; NaN before there is one.
    total, count : float, int
        Sum and number of the losses of the current mean.
    above, far : int
        Updates above the limits.
    """

    factor: float | None
    first_loss: float = math.nan
    zeros: float = 0.0
    num_zeros: int = 0
    first: float = math.nan
    best: float = math.nan
    total: float = 0.0
    count: int = 0
    above: int = 0
    far: int = 0

    def __post_init__(self) -> None:
        if self.factor is not None and positive_number("divergence_factor", self.factor) <= 1:
            raise ValueError(f"divergence_factor must be above 1, or None, got {self.factor}")

    @property
    def begins(self) -> bool:
        """Whether :meth:`begin` is to be called before the next loss is added."""
        return self.num_zeros < ZERO_UPDATES and (math.isnan(self.first_loss) or self.num_zeros > 0)

    def begin(self, loss: float, zero_loss: float) -> None:
        """Set the first loss, or raise it to the mean loss of outputs that are all 0; -inf: unknown."""
        if math.isnan(self.first_loss):
            self.first_loss = self.first = loss
        if zero_loss > -math.inf:
            self.zeros, self.num_zeros = self.zeros + zero_loss, self.num_zeros + 1
            self.first = max(self.first_loss, self.zeros / self.num_zeros)

    def add(self, loss: float) -> None:
        """Add the loss of an update."""
        best = self.first if math.isnan(self.best) else self.best
        if self.factor is not None and best > 0 and loss > max(self.factor * best, self.first):
            self.above += 1
            is_far = self.num_zeros and loss > FAR_FACTOR * self.factor * self.first
            self.far = self.far + 1 if is_far else 0
        else:
            self.above, self.far = max(0, self.above - CANCELLED) if self.num_zeros else 0, 0
        self.total += loss
        self.count += 1

    def ends_mean(self) -> bool:
        """Return whether the last loss completes a mean that is the best so far, and begin another one at its end."""
        if self.count < UPDATES:
            return False
        mean, self.total, self.count = self.total / self.count, 0.0, 0
        if self.num_zeros:
            diverges = self.factor is not None and mean > self.factor * self.first > 0
        else:  # the first loss may be low by chance
            diverges = 2 * self.above >= UPDATES
            self.first = max(self.first, mean) if math.isnan(self.best) and not diverges else self.first
        if diverges or mean >= self.best:
            return False
        self.best = mean
        return True

    @property
    def diverged(self) -> bool:
        """Whether the loss is too high for too long."""
        return self.far >= FAR_UPDATES or self.above >= UPDATES

    def describe(self) -> str:
        """Return a clause that compares the last updates."""
        if self.factor is None:
            return ""
        if self.far >= FAR_UPDATES:
            return f"{self.far} updates are above {FAR_FACTOR * self.factor:g} times the first loss, {self.first:.4g}"
        best, name = (self.first, "first") if math.isnan(self.best) else (self.best, "best mean")
        return f"{self.above} updates are above {self.factor:g} times the {name} loss, {best:.4g}"

    def restart(self) -> None:
        """Begin to count again."""
        self.total, self.count, self.above, self.far = 0.0, 0, 0, 0

    def state(self) -> dict[str, float]:
        """Return everything that changes."""
        return {name: value for name, value in vars(self).items() if name != "factor"}


def find_divergence(training: Any, loss: float) -> str:
    """Add the finite loss of an update that is about to be made; return a message if the training has diverged."""
    failures, updates = training.failures, len(training.history.rows)
    watch: LossWatch = failures.watch
    is_best = watch.ends_mean()
    if not failures.has_best and (is_best or (failures.weights is None and not updates)):
        failures.weights, failures.weights_update = training.model.parameters.vector.copy(), updates
    if watch.begins:
        watch.begin(loss, training.loss_of_zeros())
    watch.add(loss)
    if not watch.diverged:
        return ""
    zero_loss = training.loss_of_zeros()
    if loss <= zero_loss:  # the targets have become larger, not the errors
        watch.first = max(watch.first, zero_loss)
        watch.restart()
        return ""
    return f"loss {loss:.6g} at update {updates + 1}: the training diverges, {watch.describe()}"


def loss_of_zeros(training: Any) -> float:
    """Return the loss of outputs that are all 0 for the last window, which a trained model undercuts.

    -inf for a loss of the user, whose value there may mean nothing.
    """
    loss, like = training.loss, training.d_outputs
    module = getattr(loss, "__module__", None) or type(loss).__module__
    if like is None or module.partition(".")[0] != __name__.partition(".")[0]:
        return -math.inf
    batch = training.attempt[-1].batch
    value: float = loss(np.zeros(like.shape, like.dtype), batch.targets, batch.weights)[0]
    return value
