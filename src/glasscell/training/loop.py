"""The training loop, for every model and every source of data.

An update is: take a batch, loss and gradients, clip, one step of the optimiser. Around it: schedules for the learning
rate, truncated backpropagation through time, gradient accumulation, evaluation, early stopping, callbacks, a history.
All randomness comes from one seed: the same seed gives the same bits of the same weights.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.gradient_clipping import clip_by_global_norm, clip_by_value, global_norm
from glasscell.core.optimizers import Optimizer
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Batch, Data
from glasscell.data.metrics import Average, Loss, Metric, loss_count
from glasscell.models.protocol import ForwardPass, States, Trainable
from glasscell.training.groups import Group, init_states, update_groups, zero_frozen
from glasscell.training.history import History
from glasscell.training.schedules import Schedule


class TrainingState(NamedTuple):
    """Argument of a callback, after each update.

    Attributes
    ----------
    model : Trainable
    history : History
        Its last row is this update; the callback may add to it.
    gradients : Parameters
        After clipping; valid until the next update.
    """

    model: Any
    history: History
    gradients: Parameters


Callback: TypeAlias = Callable[[TrainingState], bool | None]
"""Called after every update. True ends the training; False and None are the only other values."""


class Training:
    """A training run: the model, its data, and everything that changes from update to update.

    Made by :func:`glasscell.training.fitting.prepare`, which checks the arguments.

    Attributes
    ----------
    model, data, loss, metrics, optimizer, schedule
    groups, optimizer_states
        The parameter groups, and the optimiser state of each.
    rng : numpy.random.Generator
        Batches and dropout are drawn from it.
    epoch, batches_done : int
        Epochs begun, and batches taken of this one.
    states : tuple or None
        State of the recurrent layers, carried to the next window or batch.
    history : History
    best_score : float
    best_weights : array or None
    """

    def __init__(
        self,
        model: Trainable,
        data: Data,
        *,
        loss: Loss,
        metrics: Mapping[str, Metric],
        batch_size: int,
        optimizer: Optimizer,
        schedule: Schedule,
        clip_norm: float | None,
        clip_value: float | None,
        tbptt_steps: int | None,
        accumulate: int,
        groups: Sequence[Group],
        monitor: str,
        rng: np.random.Generator,
    ) -> None:
        self.model, self.data, self.loss, self.metrics = model, data, loss, metrics
        self.batch_size, self.optimizer, self.schedule = batch_size, optimizer, schedule
        self.clip_norm, self.clip_value, self.tbptt_steps, self.accumulate = (
            clip_norm,
            clip_value,
            tbptt_steps,
            accumulate,
        )
        self.groups, self.monitor, self.rng = groups, monitor, rng
        self.optimizer_states = init_states(optimizer, model.parameters.vector, groups)
        self.gradients = model.parameters.zeros_like()
        self.buffers, self.evaluation_buffers = BufferPool(), BufferPool()
        self.epoch = self.batches_done = 0
        self.states: States | None = None
        self.history = History()
        self.best_score = math.nan
        self.best_weights: Array | None = None
        self.validation: Iterable[Batch] | None = data.validation(batch_size, model.dtype)
        self._windows: Iterator[Batch] = iter(())
        self._upcoming: Batch | None = None
        self._sum = model.parameters.zeros_like().vector if accumulate > 1 else None
        self._before = np.empty_like(model.parameters.vector)

    # Updates

    def step(self) -> dict[str, float]:
        """Make one update, and return its row of the history.

        Raises
        ------
        FloatingPointError
            If loss or gradient are not finite; the update is not made.
        """
        loss = self._pass()[0] if self._sum is None else self._accumulated(self._sum)
        gradient, update = self.gradients.vector, self.history.updates
        zero_frozen(gradient, self.groups)
        if self.clip_value is not None:
            clip_by_value(gradient, self.clip_value)
        norm = global_norm(gradient) if self.clip_norm is None else clip_by_global_norm(gradient, self.clip_norm)
        rate = self.optimizer.learning_rate * self.schedule(update)
        if not math.isfinite(loss + norm + rate):
            _check_weights(self.model.parameters, update + 1)
            values = f"loss {loss}, gradient norm {norm} and learning rate {rate} at update {update + 1}"
            raise FloatingPointError(f"{values}: lower the learning rate, or clip the gradient")
        self._update(gradient, rate)
        row = {"update": update + 1, "loss": loss, "gradient_norm": norm, "learning_rate": rate}
        if not is_endless(self.data):
            row["epoch"] = self.epoch
        self.history.rows.append(row)
        return row

    def _update(self, gradient: Array, rate: float) -> None:
        """Update all weights or, if anything is raised meanwhile, none."""
        vector = self.model.parameters.vector
        self._before[:] = vector
        try:
            update_groups(self.optimizer, vector, gradient, self.optimizer_states, self.groups, rate)
        except BaseException:
            vector[:] = self._before
            raise

    def _pass(self) -> tuple[float, float]:
        """Compute loss and gradients of the next window with targets; return the loss and how much it counts."""
        window = self._next()
        result = self._forward(window)
        loss, d_outputs = self.loss(result.outputs, window.targets, window.weights)
        self.model.train_backward(result.tape, d_outputs, self.gradients, self.buffers)
        return loss, 1.0 if self._sum is None else loss_count(window)

    def _forward(self, window: Batch) -> ForwardPass:
        states = self.states if window.continues else None
        result = self.model.train_forward(window, states, self.buffers, self.rng)
        self.states = result.states
        return result

    def _accumulated(self, total: Array) -> float:
        """Average the gradients of several windows, each weighted with its number of targets."""
        total[:] = 0
        losses, counts = 0.0, 0.0
        for _ in range(self.accumulate):
            loss, count = self._pass()
            losses, counts = losses + loss * count, counts + count
            total += self.gradients.vector * total.dtype.type(count)
        np.divide(total, total.dtype.type(counts), out=self.gradients.vector)
        return losses / counts

    def _next(self) -> Batch:
        """Return the next window with targets, of this epoch or the next one."""
        window, self._upcoming = self._upcoming, None
        if window is None:
            window = self._next_of_epoch()
        if window is None:
            self.epoch, self.batches_done = self.epoch + 1, 0
            self._windows = self._windows_of_epoch()
            window = self._next_of_epoch()
        if window is None:
            raise ValueError("the data must have at least one batch with targets, got none")
        return window

    def _next_of_epoch(self) -> Batch | None:
        for window in self._windows:
            if window.weights is None or window.weights.any():
                return window
            self._forward(window)  # a window without targets only carries the state
        return None

    def _windows_of_epoch(self) -> Iterator[Batch]:
        for batch in self.data.batches(self.batch_size, self.rng, self.model.dtype):
            self.batches_done += 1
            T, n = batch.inputs.shape[1], self.tbptt_steps
            if n is None or n >= T:
                yield batch
                continue
            if batch.targets.ndim < 2 or batch.targets.shape[1] != T:
                raise ValueError(
                    f"tbptt_steps must be None for targets without one entry per step, got {batch.targets.shape}"
                )
            for start in range(0, T, n):
                yield batch.window(start, min(start + n, T))

    def epoch_ended(self) -> bool:
        """Return whether the next update begins another epoch; takes the next batch from the data for that."""
        if self._upcoming is None:
            self._upcoming = self._next_of_epoch()
        return self._upcoming is None

    # Evaluation

    def score(self) -> dict[str, float]:
        """Evaluate, add the scores to the last row of the history, and remember the weights if they are the best."""
        scores = self.evaluate()
        self.history.rows[-1] |= {f"validation_{name}": value for name, value in scores.items()}
        value = scores.get(self.monitor, math.nan)
        if is_better(self.monitor, value, self.best_score):
            self.best_score, self.history.best_update = value, self.history.updates
            self.best_weights = self.model.parameters.vector.copy()
        return scores

    def evaluate(self) -> dict[str, float]:
        """Return loss and metrics on the validation data, averaged exactly over its batches; {} if there are none."""
        average, states = Average(), None
        for batch in self.validation or ():
            result = self.model.infer(batch, states if batch.continues else None, self.evaluation_buffers)
            states = result.states
            loss, _ = self.loss(result.outputs, batch.targets, batch.weights)
            average.add_mean("loss", loss, loss_count(batch))
            for name, metric in self.metrics.items():
                average.add(name, metric(result.outputs, batch), len(batch.inputs))
        return average.means()


def is_endless(data: Data) -> bool:
    """Return whether the data have no epochs, because batches are generated."""
    return bool(getattr(data, "endless", False))


def is_better(name: str, value: float, best: float) -> bool:
    """Return whether a score beats the best one: losses and errors are better when lower, all others when higher."""
    if math.isnan(value) or math.isnan(best):
        return not math.isnan(value)
    return value < best if lower_is_better(name) else value > best


def lower_is_better(name: str) -> bool:
    """Return whether a score of this name is better when lower."""
    return name.endswith(("loss", "error"))


def _check_weights(parameters: Parameters, update: int) -> None:
    """Raise an error if the weights are not finite."""
    try:
        parameters.check_finite()
    except ValueError as error:
        raise FloatingPointError(f"{error}, before update {update}") from None
