"""The training loop, for every model and every source of data.

An update is: take a batch, loss and gradients, clip, one step of the optimiser. Around it: schedules for the learning
rate, truncated backpropagation through time, gradient accumulation, evaluation, early stopping, callbacks, a history.
All randomness comes from one seed: the same seed gives the same bits of the same weights.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import math
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from typing import Any, cast

import numpy as np

from glasscell.core.blocking import SHORT_VECTOR
from glasscell.core.buffers import BufferPool
from glasscell.core.cached import cached_property
from glasscell.core.losses import categorical_cross_entropy
from glasscell.core.norms import all_finite, clip_by_global_norm, clip_by_value, global_norm
from glasscell.core.products import copy_vector
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.metrics import loss_count
from glasscell.models.protocol import ForwardPass, States
from glasscell.training import arguments, failures
from glasscell.training.arguments import TrainingData, TrainingOptions
from glasscell.training.checkpointing import check_options
from glasscell.training.diagnosis import Window
from glasscell.training.divergence import find_divergence
from glasscell.training.evaluation import meets_target, score, try_metrics
from glasscell.training.failures import SMALL_NORM, Failure, Failures, TrainingError
from glasscell.training.groups import init_states, parameter_groups, update_groups, zero_frozen
from glasscell.training.history import History
from glasscell.training.progress import progress_bar
from glasscell.training.schedules import tabulate
from glasscell.training.single_process import SingleProcess
from glasscell.training.threads import with_training_threads
from glasscell.training.training_state import restore_state, state_of
from glasscell.training.windows import Windows
from glasscell.validation import as_generator


class Training(SingleProcess):
    """A training run: the model, its data, and everything that changes from update to update.

    Parameters
    ----------
    model, data
        As in :func:`glasscell.fit`.
    options : TrainingOptions
        The keyword arguments of :func:`glasscell.fit`.

    Attributes
    ----------
    windows : Windows
        Batches of the data, and the position among them.
    states : tuple or None
        State of the recurrent layers, carried to the next window or batch.
    optimizer_states : list
        State of the optimiser for each parameter group.
    rng, noise_rng : numpy.random.Generator
        Batches are drawn from the first, dropout and zoneout from the second: the same one, unless several processes
        train together.
    history : History
    best_score : float
    best_weights : array or None
    failures : Failures
        What `on_failure` has done, and what it needs.
    attempt : list of Window
        Windows of the update that is being made.
    d_outputs : array or None
        Gradient of the loss on the outputs of the last of them.

    Raises
    ------
    TypeError, ValueError
        An argument out of range, or arguments that do not fit together.
    """

    def __init__(self, model: Any, data: TrainingData, options: TrainingOptions) -> None:
        check_options(options)
        arguments.check_comm(options, accepts_ranks=self.accepts_ranks)
        super().__init__(model, data, options)
        parameters = self._parameters = self.model.parameters
        self._user_model = model  # a single layer, of which the model is a wrapper
        self._factors = tabulate(self.schedule, self.expected_updates)
        ties = getattr(self.model, "ties", None)
        self.groups = parameter_groups(parameters, options.trainable, options.learning_rates, ties)
        self.optimizer_states = init_states(self.optimizer, parameters.vector, self.groups)
        self.rng = self.noise_rng = as_generator(options.seed)
        self.gradients = parameters.zeros_like()
        self.buffers, self.evaluation_buffers = BufferPool(), BufferPool()
        self.windows = Windows(self.source_of_batches(), self.batch_size, self.dtype, self.rng, self.tbptt_steps)
        self.states, self.history = cast("States | None", None), History()
        self.best_score, self.best_weights = math.nan, cast("Array | None", None)
        self._evaluations_without_gain, self._was_evaluated = 0, False
        self.d_outputs: Array | None = None
        self.failures, self.attempt = Failures(options.on_failure, options.divergence_factor), list[Window]()
        self._gradient_sum = np.zeros_like(parameters.vector) if self.accumulate > 1 else None
        self._weights_before = np.empty_like(parameters.vector)
        self.validation = arguments.validation_batches(self.data, self.batch_size, self.dtype)
        arguments.check_scores(options, self.metrics, has_validation=self.validation is not None)
        try_metrics(self.model, self.validation or (), self.loss, self.metrics, self.evaluation_buffers)
        self._checkpoints = self.make_checkpoints()

    # Updates

    def run(self) -> History:
        """Make updates until something ends the training; see :func:`glasscell.fit` on threads."""
        with self._checkpoints:
            return with_training_threads(self._run, self.model, self.batch_size)

    def _run(self) -> History:
        history, vector = self.history, self.model.parameters.vector
        keep = self.options.keep or ("best" if self.patience else "last")
        # Overflow is not reported here: step() raises an error if loss or gradient are not finite.
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                if not self.has_finished():
                    self._make_updates()
            failures.check_end(self)
        except TrainingError as error:
            raise failures.with_weights(self, error) from None
        if keep == "best" and self.best_weights is not None:
            vector[:] = self.best_weights
        return history

    def _make_updates(self) -> None:
        """Make updates until one of them ends the training, and report their progress."""
        bar: Any = progress_bar(self.expected_updates) if self.options.progress else nullcontext()
        with bar as report:
            ended = False
            while not ended:
                row = self._try_update()
                ended = self._finish_update(made=row is not None)
                if row is None and not ended:
                    continue
                if self._checkpoints.is_active:
                    self._checkpoints.after_update(evaluated=self._was_evaluated, ended=ended)
                if report is not None and row is not None:
                    report(row)

    def step(self) -> dict[str, float]:
        """Make one update, and return its row of the history.

        Raises
        ------
        TrainingError
            If loss, gradient or weights are not finite, or the training diverges, and `on_failure` does not mend it;
            the update is not made.
        """
        return with_training_threads(self._step, self.model, self.batch_size)

    def _step(self) -> dict[str, float]:
        with np.errstate(over="ignore", invalid="ignore"):
            while True:
                row = self._try_update()
                if row is not None:
                    return row

    def _try_update(self) -> dict[str, float] | None:
        """Make one update and return its row of the history; None if it failed, and `on_failure` has mended that."""
        done, gradient = len(self.history.rows), self.gradients.vector
        try:
            loss = self._compute_gradients()
        except ValueError as error:
            failure = failures.failure_of_error(self, error)
            if failure is None:
                raise
            failures.handle(self, failure)
            return None
        if len(self.groups) != 1:
            zero_frozen(gradient, self.groups)
        if self.clip_value is not None and all_finite(gradient):
            clip_by_value(gradient, self.clip_value)
        norm = global_norm(gradient) if self.clip_norm is None else clip_by_global_norm(gradient, self.clip_norm)
        rate = self.optimizer.learning_rate
        if self.schedule is not None:
            rate *= self._factors[done] if done < len(self._factors) else self.schedule(done)
        rate *= 0.5**self.failures.halvings
        if not (math.isfinite(loss) and math.isfinite(norm) and math.isfinite(rate)):
            failure = failures.failure_of_numbers(self, loss, norm, rate)
        elif diverges := find_divergence(self, loss):
            failure = Failure("divergence", diverges)
        else:
            failure = self._update(gradient, rate, norm)
        if failure is not None:
            failures.handle(self, failure)
            return None
        self.failures.in_succession = 0
        self.clear_attempt()
        row = {"update": done + 1, "loss": loss, "gradient_norm": norm, "learning_rate": rate}
        if not self.endless:
            row["epoch"] = self.epoch
        self.history.rows.append(row)
        return row

    def _compute_gradients(self) -> float:
        """Compute loss and gradients of the next windows with targets, and return the loss.

        With `accumulate`, gradients of several windows of one epoch are averaged, each weighted with its number of
        targets.
        """
        total = self._gradient_sum
        if total is None:
            return self._compute_window_gradients(self.windows.next(self.carry))
        total[:], losses, counts = 0, 0.0, 0.0
        for done in range(self.accumulate):
            if done and self.epoch_ended():
                break
            window = self.windows.next(self.carry)
            loss, count = self._compute_window_gradients(window), loss_count(window)
            losses, counts = losses + loss * count, counts + count
            total += self.gradients.vector * total.dtype.type(count)
        np.divide(total, total.dtype.type(counts), out=self.gradients.vector)
        return losses / counts

    def _compute_window_gradients(self, window: Batch) -> float:
        """Compute the gradients of a window, and return its loss."""
        result = self.forward(window)
        loss, self.d_outputs = self.compute_loss(result.outputs, window)
        self.model.train_backward(result.tape, self.d_outputs, self.gradients, self.buffers)
        return loss

    def compute_loss(self, outputs: Array, window: Batch) -> tuple[float, Array]:
        """Return the loss of a window, and its gradient on the outputs, perhaps in their place."""
        if self.overwrites_outputs:
            return categorical_cross_entropy(outputs, window.targets, window.weights, out=outputs)
        return self.loss(outputs, window.targets, window.weights)

    def clear_attempt(self) -> None:
        """Forget the windows of an update that is made, or given up."""
        self.attempt.clear()
        self.d_outputs = None

    def _update(self, gradient: Array, rate: float, norm: float) -> Failure | None:
        """Update all weights or, if anything is raised meanwhile or a weight is not finite afterwards, none."""
        vector = self._parameters.vector
        if len(vector) < SHORT_VECTOR:
            np.copyto(self._weights_before, vector)
        else:
            copy_vector(vector, self._weights_before)
        try:
            if len(self.groups) != 1:
                update_groups(self.optimizer, vector, gradient, self.optimizer_states, self.groups, rate)
            else:
                self.optimizer.update(vector, gradient, self.optimizer_states[0], rate * self.groups[0].factor)
        except BaseException:
            vector[:] = self._weights_before
            raise
        clipped_norm = norm if self.clip_norm is None else min(norm, self.clip_norm)
        if all_finite(vector) and clipped_norm < SMALL_NORM:
            return None
        failure = failures.failure_of_update(self, clipped_norm, self._weights_before)
        if failure is not None:  # the state of the optimiser has the gradient of this update in it
            vector[:] = self._weights_before
            self.optimizer_states = init_states(self.optimizer, vector, self.groups)
        return failure

    def forward(self, window: Batch) -> ForwardPass:
        """Run a window with a tape, from the state that is carried if it continues, and carry its final state."""
        states = self.states if window.continues else None
        before = None if states is None else deepcopy(states)  # later passes change them
        self.attempt.append(Window(window, before, self.windows.first_step))
        result = self.model.train_forward(window, states, self.buffers, self.noise_rng)
        self.states = result.states
        return result

    def carry(self, window: Batch) -> None:
        """Run a window without targets, which only carries the state."""
        self.forward(window)

    @property
    def epoch(self) -> int:
        """Number of epochs begun."""
        return self.windows.epoch

    def epoch_ended(self) -> bool:
        """Return whether the next update begins another epoch; takes the next batch from the data for that."""
        return self.windows.epoch_ended(self.carry)

    # Evaluation, and the end

    def _reached_limit(self) -> bool:
        """Return whether all updates or epochs have been made."""
        if self.updates is not None and len(self.history.rows) >= self.updates:
            return True
        return self.epochs is not None and self.epoch >= self.epochs and self.epoch_ended()

    def has_finished(self) -> bool:
        """Return whether a limit, `stop_at` or `patience` has ended the training."""
        return self._reached_limit() or self.history.target_reached or self.history.stopped_early

    def _finish_update(self, *, made: bool) -> bool:
        """Evaluate if it is time to, call the callbacks after an update, and return whether the training ends."""
        history, updates = self.history, len(self.history.rows)
        ended = (self.epochs is not None or self.evaluate_every is None) and self.epoch_ended()
        last = self._reached_limit()
        due = last or (ended if self.evaluate_every is None else updates % self.evaluate_every == 0)
        self._was_evaluated = due and (made or (updates > 0 and not history.was_evaluated))
        if self._was_evaluated:
            scores, stop_at = score(self), self.options.stop_at
            history.target_reached = stop_at is not None and meets_target(scores, stop_at)
            waited = 0 if history.best_update == updates else self._evaluations_without_gain + 1
            history.stopped_early = self.patience is not None and waited >= self.patience
            self._evaluations_without_gain = waited
        stopped = self._call_callbacks(made=made)
        return last or history.target_reached or history.stopped_early or stopped

    # All that a checkpoint holds

    @cached_property
    def description(self) -> dict[str, Any]:
        """Model, data, options and environment, as checkpoints store them; see :mod:`.description`."""
        from glasscell.training.description import describe  # noqa: PLC0415 - only where it is used

        return describe(self)

    def state(self, *, copy: bool = True) -> dict[str, Any]:
        """Return everything that changes from update to update, for :meth:`restore`.

        Parameters
        ----------
        copy : bool
            Whether to copy it. If False, it is that of the training, which changes with the next update.
        """
        return state_of(self, copy=copy)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where another training with the same model, data and options was when it returned its state.

        The batches that the epoch has had are taken from the data again, and dropped.

        Raises
        ------
        ValueError
            If the state is that of another model, or the data yield another batch than the last one before the state;
            the weights are unchanged.

        Warns
        -----
        CheckpointWarning
            If an iterable yields another batch, of the same shapes.
        """
        restore_state(self, state)
