"""A training whose batches are divided among the ranks of an MPI communicator."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.core.blas_threads import with_blas_threads
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
    batch_checksum,
    check_batch_size,
    check_first_batch,
    check_same,
    checksum,
    summarize,
)
from glasscell.training.parallel.errors import RankError, text_of
from glasscell.training.parallel.evaluation import in_order_of_batches, is_divided, share_of_batches
from glasscell.training.parallel.messages import (
    ACTIONS,
    DONE,
    END,
    ERROR,
    EVALUATION,
    FAILURE,
    STATUS,
    UPDATE,
    UpdateMessage,
)
from glasscell.training.parallel.ranks import Ranks
from glasscell.training.sources import training_part
from glasscell.training.threads import with_training_threads

T = TypeVar("T")

CAUSES = ("weights", "data", "state", "outputs", "loss", "gradient")  # the first of them is reported


class ParallelTraining(Training):
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

    Raises
    ------
    ValueError
        If the ranks differ in version, model, weights, data, arguments or seed; on every rank.
    RankError
        If another rank has raised an error.
    """

    accepts_ranks: ClassVar = True

    def __init__(self, model: Any, data: TrainingData, options: TrainingOptions) -> None:
        self.ranks = Ranks(options.comm)
        self.num_ranks = self.ranks.size
        if not self.ranks.is_first:
            options = replace(options, checkpoint=None, checkpoint_every=None, resume=False, progress=False)
        self._owners: shares.Owners | None = None
        self._joined: dict[str, Any] | None = None
        self._zero_loss = -math.inf
        self._expects_decision = self._is_running = self._in_callback = self._has_compared_batch = False
        summary = self.ranks.together(partial(self._set_up, model, data, options))
        summaries = self.ranks.gather(summary)
        self.ranks.together(partial(check_same, summaries))
        vector = self.gradients.vector
        self._message = UpdateMessage(self.ranks, len(vector), vector.dtype)
        self.noise_rng = self._new_noise_rng()
        self._divides_evaluation = is_divided(self)
        self._threads = self.ranks.threads()

    def _set_up(self, model: Any, data: TrainingData, options: TrainingOptions) -> dict[str, Any]:
        super().__init__(model, data, options)
        check_batch_size(self)
        return summarize(self)

    def _new_noise_rng(self) -> np.random.Generator:
        """Return a generator for dropout that differs from rank to rank, without a draw from the common one."""
        entropy = deepcopy(self.rng).integers(1 << 32, size=4).tolist()
        return np.random.default_rng([*entropy, self.ranks.rank])

    def source_of_batches(self) -> Data:
        """Return the source of training batches; only this rank's sequences, if the data can read them alone."""
        data = training_part(self.data)
        self._reads_rows = _reads_rows(data)
        return RowsOfRank(data, self.ranks) if self._reads_rows else self.data

    def _make_checkpoints(self) -> ParallelCheckpoints:
        self._parallel_checkpoints = ParallelCheckpoints(self)
        return self._parallel_checkpoints

    # Run

    def run(self) -> History:
        """Make updates until something ends the training; on all ranks."""
        return with_blas_threads(self._run_together, self._threads)

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
        try:
            return with_blas_threads(super().step, self._threads)
        except BaseException as error:
            if self.ranks.in_message:
                self.ranks.abort(error)
            raise

    def _leave(self, error: BaseException) -> None:
        """Let the other ranks know that this one ends with an error: it takes part in the message that they expect."""
        ranks = self.ranks
        if ranks.has_agreed:
            return
        if ranks.in_message:
            ranks.abort(error)
            return
        try:
            if self._expects_decision:
                self._share_decision(error, stopped=False)
            else:
                self._send(END, ERROR, weights=False)
                ranks.share(error)
        except BaseException:
            ranks.abort(error)
            raise

    # Messages

    def agree(self, action: int) -> None:
        """Wait until all ranks are at the same point; raise an error if one has failed."""
        self._message.clear()
        self._exchange(action, weights=True)

    def _exchange(
        self, action: int, failure: Failure | None = None, error: BaseException | None = None, *, weights: bool = False
    ) -> NDArray[Any]:
        """Send the gradient and the status of this rank, and return the status of all, (n,).

        Raises
        ------
        BaseException
            If a rank has an error, or the ranks differ.
        """
        result = ERROR if error is not None else DONE if failure is None else FAILURE
        statuses = self._send(action, result, weights=weights)
        if (statuses["result"] == ERROR).any():
            self._expects_decision = False
            self.ranks.raise_together(error)
        self._check_statuses(statuses)
        self._parallel_checkpoints.receive(statuses["flags"])
        self._expects_decision = action == UPDATE and self._is_running and bool(self.options.callbacks)
        return statuses

    def _send(self, action: int, result: int, *, weights: bool) -> NDArray[Any]:
        """Send the gradient and the status of this rank, and return the status of all, (n,), whatever it is."""
        status = self._message.status
        status["action"], status["result"], status["flags"] = action, result, self._parallel_checkpoints.flags()
        status["weights"] = checksum(self.model.parameters.vector) if weights else 0
        return self._message.exchange()

    def _check_statuses(self, statuses: NDArray[Any]) -> None:
        """Raise RankError, on all ranks, unless they do the same with the same weights and batches."""
        where = f"update {self.history.updates + 1}"
        for name, text in (("action", "be at the same point"), ("weights", "have the same weights before " + where)):
            different = np.flatnonzero(statuses[name] != statuses[name][0])
            if len(different):
                first, other = int(statuses[name][0]), int(statuses[name][different[0]])
                got = (
                    f"{ACTIONS[first]}, {ACTIONS[other]}" if name == "action" else f"checksums {first:08x}, {other:08x}"
                )
                self._differ(text, got, int(different[0]))
        different = np.flatnonzero(statuses["batch"] != statuses["batch"][0])
        if len(different) and (statuses["result"] == DONE).all():
            self._differ(f"get the same batches from their data, at {where}", "other numbers", int(different[0]))

    def _differ(self, rule: str, got: str, rank: int) -> None:
        self.ranks.raise_together(RankError(f"ranks must {rule}, got {got} on ranks 0 and {rank}"))

    # Updates

    def _compute_gradients(self) -> float:
        """Compute this rank's share of loss and gradients, exchange it, and return the loss of the whole update."""
        message, status = self._message, self._message.status
        status[...] = np.zeros((), STATUS)
        message.clear()
        failure, error = self._catch(self._add_gradients)
        every = self.options.compare_ranks_every
        compares = every is not None and self.history.updates % every == 0
        batch = None if self._reads_rows or not (compares or not self._has_compared_batch) else self.windows.batch
        status["batch"] = 0 if batch is None else batch_checksum(batch)
        statuses = self._exchange(UPDATE, failure, error, weights=compares)
        if (statuses["result"] == FAILURE).any():
            raise FailureError(self._first_failure(failure))
        self._has_compared_batch = True
        count, zero_count = float(statuses["count"].sum()), float(statuses["zero_count"].sum())
        message.finish(count, self.gradients.vector)
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
        if self._reads_rows:
            return window
        owners, whole = self._owners, self.windows.batch
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
        """Return the scores of the validation batches, which the ranks divide where that is possible."""
        if not self._divides_evaluation:
            return super().evaluate()
        own: list[Measurement] = []
        error: BaseException | None = None
        try:
            batches = share_of_batches(self)
            own += measure(self.model, batches, self.loss, self.metrics, self.evaluation_buffers)
        except BaseException as caught:  # noqa: BLE001 - raised by all ranks
            error = caught
        if not self._expects_decision:  # a rank with an error would take part in the next update
            self._message.clear()
            self._exchange(EVALUATION, error=error)
        sent = self.ranks.gather(("" if error is None else text_of(error), own))
        shared = self.ranks.error_to_raise([text for text, _ in sent], error)
        if shared is not None:
            raise shared
        return average_of(in_order_of_batches([part for _, part in sent]))

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
        if not self.options.callbacks:
            return False
        error: BaseException | None = None
        stopped = False
        if self.ranks.is_first:
            self._in_callback = True
            try:
                stopped = super()._call_callbacks(made=made)
            except BaseException as caught:  # noqa: BLE001 - raised by all ranks
                error = caught
            finally:
                self._in_callback = False
        return self._decide(error, stopped=stopped)

    def _decide(self, error: BaseException | None, *, stopped: bool) -> bool:
        """Return whether rank 0 ends the training; raise an error on all ranks if there is one on any."""
        stops, shared = self._share_decision(error, stopped=stopped)
        if shared is not None:
            raise shared
        return stops

    def _share_decision(self, error: BaseException | None, *, stopped: bool) -> tuple[bool, BaseException | None]:
        """Return whether rank 0 ends the training, and the error that this rank is to raise."""
        self._expects_decision = False
        sent = self.ranks.gather(("" if error is None else text_of(error), stopped))
        return bool(sent[0][1]), self.ranks.error_to_raise([text for text, _ in sent], error)

    # State

    def state(self, *, copy: bool = True) -> dict[str, Any]:
        """Return the state of all ranks, with all sequences, for :meth:`restore`; all ranks call it at once."""
        if self._joined is not None:
            return deepcopy(self._joined) if copy else self._joined
        if self._in_callback:
            raise RuntimeError("state() needs all ranks, got a call from a callback, which rank 0 alone makes")
        state = super().state(copy=copy)
        own_rng = self.noise_rng.bit_generator.state
        parts = self.ranks.gather((state["states"], own_rng))
        owners = self._owners
        if self._reads_rows:
            owners, state["last_batch"] = shares.divide(self.batch_size, self.num_ranks), None
        state["states"] = None if owners is None else shares.join_states([part for part, _ in parts], owners)
        state["ranks"] = {"size": self.num_ranks, "owners": owners, "rngs": [rng for _, rng in parts]}
        return state

    @contextmanager
    def joined_state(self) -> Iterator[None]:
        """Join the state of all ranks, which :meth:`state` returns on each in the context."""
        self._joined = self.state(copy=False)
        try:
            yield
        finally:
            self._joined = None

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of all ranks, of this number or, with `change_ranks`, of another one."""
        own = dict(state)
        stored = own.pop("ranks", None)
        if stored is not None and stored["size"] != self.num_ranks:
            stored = None
        owners = None if stored is None else stored["owners"]
        if self._reads_rows:
            owners, own["last_batch"] = shares.divide(self.batch_size, self.num_ranks), None
        if own["states"] is not None:
            if owners is None:
                owners = shares.divide(_num_sequences(own["states"]), self.num_ranks)
            rows = shares.rows_of(owners, self.ranks.rank)
            is_idle = isinstance(rows, np.ndarray) and not len(rows)
            own["states"] = None if is_idle else shares.take_states(own["states"], rows)
        super().restore(own)
        self._owners = None if self._reads_rows else owners
        if stored is None:
            self.noise_rng = self._new_noise_rng()
        else:
            self.noise_rng.bit_generator.state = stored["rngs"][self.ranks.rank]


class RowsOfRank:
    """The sequences of one rank, from data that can read them alone."""

    def __init__(self, data: Any, ranks: Ranks) -> None:
        self.data, self._ranks = data, ranks

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield the rank's sequences of each batch of one epoch."""
        rows = shares.in_order(size, self._ranks.size, self._ranks.rank)
        batches: Iterator[Batch] = self.data.batches_of_rows(rows, size, rng, dtype)
        return batches

    def validation(self, size: int, dtype: DTypeLike) -> Any:
        """Return the validation batches, whole."""
        return self.data.validation(size, dtype)

    @property
    def endless(self) -> bool:
        """Whether the data have no epochs."""
        return bool(getattr(self.data, "endless", False))


def _reads_rows(data: Any) -> bool:
    """Return whether data can read some sequences of a batch alone: by the class that defines its batches."""
    names = ("batches", "batches_of_rows")
    classes = [next((kind for kind in type(data).__mro__ if name in vars(kind)), None) for name in names]
    return classes[1] is not None and classes[0] is classes[1]


def _num_sequences(states: Any) -> int:
    """Return B of the states of a model."""
    if isinstance(states, np.ndarray):
        return int(states.shape[-1])
    return next(_num_sequences(item) for item in states if item is not None)


def fit_on_ranks(model: Any, data: TrainingData, arguments: Mapping[str, Any]) -> History:
    """Train on the ranks of a communicator: :func:`glasscell.fit` with `comm`."""
    ranks = Ranks(arguments["comm"])
    if ranks.size == 1:
        return Training(model, data, TrainingOptions(**arguments)).run()
    options = ranks.together(lambda: TrainingOptions(**arguments))
    return ParallelTraining(model, data, options).run()
