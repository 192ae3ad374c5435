"""A training whose batches are divided among the ranks of an MPI communicator."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np

from glasscell.core.blas_threads import with_max_threads
from glasscell.data.batch import Batch, Data
from glasscell.data.metrics import loss_count
from glasscell.training import failures
from glasscell.training.arguments import TrainingData, TrainingOptions
from glasscell.training.diagnosis import Cause, find_cause, states_are_finite
from glasscell.training.divergence import FAR_UPDATES, UPDATES, loss_of_zeros
from glasscell.training.evaluation import Measurement, average_of, measure
from glasscell.training.failures import Failure, FailureError
from glasscell.training.history import History
from glasscell.training.loop import Training
from glasscell.training.parallel import shares
from glasscell.training.parallel.checkpoints import ParallelCheckpoints
from glasscell.training.parallel.comparison import (
    ComparedBatches,
    check_batch_size,
    check_first_batch,
    check_same,
    summarize,
)
from glasscell.training.parallel.evaluation import common_scores, in_order_of_batches, is_divided, share_of_batches
from glasscell.training.parallel.exchanges import Decision
from glasscell.training.parallel.lost_ranks import reported_losses
from glasscell.training.parallel.messages import (
    END,
    EVALUATION,
    FAILURE,
    STATUS,
    UPDATE,
    UpdateMessage,
)
from glasscell.training.parallel.ranks import Ranks, alone, check_all_call, is_alone
from glasscell.training.parallel.rows import RowsOfRank, reads_rows
from glasscell.training.parallel.states import RankStates
from glasscell.training.sources import NumbersPerStep, training_part
from glasscell.training.threads import with_training_threads

T = TypeVar("T")

CAUSES = ("weights", "data", "state", "outputs", "loss", "gradient")  # the first of them is reported


class ParallelTraining(RankStates):
    """A training run of several ranks: each has the same model and data, and computes its share of every batch.

    All ranks call the same methods at the same time. See :func:`glasscell.fit` and docs/parallel.md.

    Parameters
    ----------
    model, data
        As in :func:`glasscell.fit`.
    options : TrainingOptions
        With a communicator of at least two processes.

    Attributes
    ----------
    ranks : Ranks
    num_ranks : int
    asks_for : dict of str to bool
        Which of the arguments that rank 0 alone uses this rank has.

    Raises
    ------
    ValueError
        If the ranks differ in version, model, weights, data, arguments or seed; on every rank.
    RankError
        If another rank has raised an error.
    """

    accepts_ranks: ClassVar = True

    def __init__(self, model: Any, data: TrainingData, options: TrainingOptions) -> None:
        check_all_call("a training with comm")
        self.ranks = Ranks(options.comm)
        self.num_ranks = self.ranks.size
        self.asks_for = {"checkpoint": options.checkpoint is not None, "resume": options.resume is not False}
        self.asks_for["callbacks"] = bool(options.callbacks)
        if not self.ranks.is_first:
            options = replace(options, checkpoint=None, checkpoint_every=None, resume=False, progress=False)
        self._zero_loss, self._has_compared_batch = -math.inf, False
        with self.ranks.or_abort(), self.ranks.message():
            summaries = self.ranks.gather(self.ranks.together(partial(self._set_up, model, data, options)))
            self.ranks.together(partial(check_same, summaries))
            self._threads = self.ranks.threads()
        self._has_callbacks = summaries[0]["asks_for"]["callbacks"]

    def _set_up(self, model: Any, data: TrainingData, options: TrainingOptions) -> dict[str, Any]:
        super().__init__(model, data, options)
        check_batch_size(self)
        vector = self.gradients.vector
        self._message = UpdateMessage(self.ranks, len(vector), vector.dtype)
        self.noise_rng = self._new_noise_rng()
        self._divides_evaluation = is_divided(self)
        self._batches = ComparedBatches(self)
        return summarize(self)

    def source_of_batches(self) -> Data:
        """Return the source of training batches; only this rank's sequences, if the data can read them alone."""
        data = training_part(self.data)
        self.reads_rows = reads_rows(data) and not isinstance(self.data, NumbersPerStep)
        return RowsOfRank(data, self.ranks) if self.reads_rows else self.data

    def make_checkpoints(self) -> ParallelCheckpoints:
        """Return the checkpoints of the run."""
        self._parallel_checkpoints = ParallelCheckpoints(self)
        return self._parallel_checkpoints

    # Run

    def run(self) -> History:
        """Make updates until something ends the training; on all ranks."""
        check_all_call("run()")
        with self.ranks.or_abort():
            return with_max_threads(self._run_together, self._threads)

    def _run_together(self) -> History:
        self.ranks.has_agreed = self._expects_decision = False
        with self._checkpoints:
            self._is_running = True
            try:
                history = with_training_threads(self._run, self.model, self.batch_size)
                self.agree(END)
            except BaseException as error:
                self._leave(error)
                raise
            finally:
                self._is_running = False
        return history

    def step(self) -> dict[str, float]:
        """Make one update, on all ranks, and return its row of the history."""
        check_all_call("step()")
        self.ranks.has_agreed = False
        with self.ranks.or_abort():
            try:
                return with_max_threads(super().step, self._threads)
            except BaseException as error:
                self._leave(error)
                raise

    # Updates

    def _compute_gradients(self) -> float:
        """Compute this rank's share of loss and gradients, exchange it, and return the loss of the whole update."""
        message, status = self._message, self._message.status
        status[...] = np.zeros((), STATUS)
        message.clear()
        failure, error = self._catch(self._add_gradients)
        every = self.options.compare_ranks_every
        compares = every is not None and self.history.updates % every == 0
        status["batch"] = self._batches.checksum(compares=compares or not self._has_compared_batch)
        with self.ranks.message():
            statuses = self._exchange(UPDATE, failure, error, weights=compares)
            count, zero_count = float(statuses["count"].sum()), float(statuses["zero_count"].sum())
            shared = self._first_failure(failure) if (statuses["result"] == FAILURE).any() else None
            if shared is None:
                message.finish(count, self.gradients.vector)
        if shared is not None:
            raise FailureError(shared)
        self._has_compared_batch = True
        self._zero_loss = float(statuses["zero_loss"].sum()) / zero_count if zero_count else -math.inf
        return float(statuses["loss"].sum()) / count

    def _catch(self, function: Callable[[], None]) -> tuple[Failure | None, BaseException | None]:
        """Call a function; return a failure that `on_failure` may mend, and any other error."""
        try:
            try:
                function()
            except ValueError as error:
                failure = failures.failure_of_error(self, error)
                return failure, None if failure is not None else error
        except BaseException as error:  # noqa: BLE001 - raised by all ranks
            return None, error
        return None, None

    def _add_gradients(self) -> None:
        """Compute loss and gradients of this rank's share of the next windows, into the message."""
        status, count = self._message.status, 0.0
        for done in range(self.accumulate):
            if done and self.epoch_ended():
                break
            window = self._take_share(self.windows.next(self.carry))
            count = 0.0 if window is None else loss_count(window)
            if window is None:
                continue
            if not count:  # of the targets none are in the share of this rank
                self.forward(window)
                continue
            loss = self._compute_window_gradients(window)
            self._message.add(self.gradients.vector, count)
            status["loss"] += loss * count
            status["count"] += count
        watch = self.failures.watch
        if count and (watch.begins or watch.above >= UPDATES - 1 or watch.far >= FAR_UPDATES - 1):
            status["zero_loss"], status["zero_count"] = loss_of_zeros(self) * count, count

    def _take_share(self, window: Batch) -> Batch | None:
        """Return this rank's sequences of a window, of which some belong to each rank; None if none does."""
        if self.reads_rows:
            return window
        owners, whole = self._owners, self.windows.batch
        self._batches.add()
        if not self._has_compared_batch:
            check_first_batch(self, window)
        if owners is None or not window.continues:
            lengths = None if whole is None or whole.lengths is None else np.asarray(whole.lengths)
            owners = self._owners = shares.divide(len(window.inputs), self.num_ranks, lengths)
        if len(owners) != len(window.inputs):
            raise ValueError(
                f"a batch that continues must have the {len(owners)} sequences of the one before, "
                f"got {len(window.inputs)}"
            )
        rows = shares.rows_of(owners, self.ranks.rank)
        if isinstance(rows, np.ndarray) and not len(rows):
            self.states = None
            return None
        return shares.take_rows(window, rows)

    def carry(self, window: Batch) -> None:
        """Run this rank's share of a window without targets."""
        share = self._take_share(window)
        if share is not None:
            self.forward(share)

    # Evaluation

    def evaluate(self) -> dict[str, float]:
        """Return the scores of the validation batches, which the ranks divide where that is possible.

        In a callback, which rank 0 alone calls, this rank evaluates all of them.
        """
        if self.validation is None or is_alone():
            return super().evaluate()
        own: list[Measurement] = []
        scores: dict[str, float] = {}
        error: BaseException | None = None
        try:
            batches = share_of_batches(self) if self._divides_evaluation else self.validation
            own += measure(self.model, batches, self.loss, self.metrics, self.evaluation_buffers)
            if not self._divides_evaluation:
                scores = average_of(own)
                own.clear()
        except BaseException as caught:  # noqa: BLE001 - raised by all ranks
            error = caught
        with self.ranks.message():
            if not self._expects_decision:  # a rank with an error takes part in the next exchange
                self._message.clear()
                self._exchange(EVALUATION, error=error)
            sent, shared = self._gather_with_errors(own if self._divides_evaluation else scores, error)
            if shared is not None:
                raise shared
        return average_of(in_order_of_batches(sent)) if self._divides_evaluation else common_scores(sent)

    # Failures

    def _first_failure(self, own: Failure | None) -> Failure:
        """Return the first failure of the ranks, on all of them."""
        found = self.ranks.gather(own and (own.kind, own.message))
        rank, (kind, message) = next((rank, failure) for rank, failure in enumerate(found) if failure)
        is_common = all(failure == (kind, message) for failure in found)
        return Failure(kind, message if is_common else f"{message}, on rank {rank}")

    def find_cause(self) -> Cause | None:
        """Return the first cause that a rank finds in its share."""
        own = find_cause(self.model, self.loss, self.attempt, self.d_outputs, self.gradients)
        found = [(cause, rank) for rank, cause in enumerate(self.ranks.gather(own and tuple(own))) if cause]
        if not found:
            return None
        (kind, text), rank = min(found, key=lambda entry: CAUSES.index(entry[0][0]))
        return Cause(kind, text if kind in ("weights", "gradient") else f"{text}, on rank {rank}")

    def loss_of_zeros(self) -> float:
        """Return the loss of outputs that are all 0 for the last window of all ranks; -inf if it is unknown."""
        return self._zero_loss

    def restore_finite_states(self) -> None:
        """Replace a carried state that is not finite on any rank by the last one that was finite on all."""
        own = [states_are_finite(window.states) and window.states is not None for window in self.attempt]
        found = self.ranks.gather((states_are_finite(self.states), own, self.states is None and not own))
        if all(finite for finite, _, _ in found):
            return
        windows = [flags for _, flags, is_idle in found if not is_idle]
        finite = [index for index, flags in enumerate(zip(*windows, strict=False)) if all(flags)]
        self.states = self.attempt[finite[-1]].states if finite and finite[-1] < len(self.attempt) else None

    def warn(self, message: str) -> None:
        """Warn of a failure after which the training continues; on rank 0."""
        if self.ranks.is_first:
            super().warn(message)

    # Decisions of rank 0

    def _call_callbacks(self, *, made: bool) -> bool:
        """Call the callbacks on rank 0, and return on all ranks whether one of them ends the training."""
        if not self._has_callbacks:
            return False
        own, rows = Decision(), self.history.rows
        if self.ranks.is_first:
            before = dict(rows[-1]) if made else {}
            try:
                with alone():
                    stopped = super()._call_callbacks(made=made)
                own = Decision(stopped, dict(rows[-1]) if made and rows[-1] != before else None)
            except BaseException as caught:  # noqa: BLE001 - raised by all ranks
                own = Decision(error=caught)
        decision = self._share_decision(own)
        if decision.error is not None:
            raise decision.error
        if decision.row is not None and not self.ranks.is_first:
            rows[-1] = decision.row
        return decision.stopped


def fit_on_ranks(model: Any, data: TrainingData, arguments: Mapping[str, Any]) -> History:
    """Train on the ranks of a communicator: :func:`glasscell.fit` with `comm`."""
    ranks = Ranks(arguments["comm"])
    if ranks.size == 1:
        return Training(model, data, TrainingOptions(**arguments)).run()
    check_all_call("fit with comm")
    with ranks.or_abort(), ExitStack() as stack:
        with ranks.message():  # also what lies between: an error there is not shared
            options = ranks.together(lambda: TrainingOptions(**arguments))
            stack.enter_context(reported_losses(ranks, options.checkpoint))
        return ParallelTraining(model, data, options).run()
