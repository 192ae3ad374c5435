"""Failures of a training, and the policies for them: numbers that are not finite, and divergence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.core.norms import all_finite
from glasscell.core.types import Array
from glasscell.data.not_finite import NotFiniteError
from glasscell.training.arguments import OnFailure
from glasscell.training.diagnosis import Window, find_cause_in_data, first_name
from glasscell.training.divergence import FACTOR, LossWatch
from glasscell.training.groups import init_states

if TYPE_CHECKING:
    from glasscell.training.history import History

POLICIES: dict[OnFailure, frozenset[str]] = {  # with the kinds of failures that each can mend
    "raise": frozenset(),
    "skip": frozenset({"data", "state", "outputs", "loss", "gradient", "update"}),
    "restore_best_and_halve_lr": frozenset({"state", "outputs", "loss", "gradient", "update", "divergence"}),
}
ADVICE = {
    "data": "; correct the data, or pass on_failure='skip'",
    "rate": "; the schedule must return finite numbers",
    "loss": "; check the loss function, or lower the learning rate",
    "weights": "",
}
DEFAULT_ADVICE = "; lower the learning rate, or clip the gradient"
SMALL_NORM = 1e10  # of a gradient: sums of squares cannot overflow
LARGE_NORM = 1e-3  # times the root of the largest number: sums of squares may overflow
MAX_IN_SUCCESSION = 10  # skipped updates in succession
MAX_SKIPPED_FRACTION = 0.1  # of the updates made, beyond the first 10
MAX_HALVINGS = 10


class TrainingError(FloatingPointError):
    """A training that cannot continue: a number is not finite, or the loss diverges.

    Attributes
    ----------
    kind : str
        Kind of the :class:`Failure`.
    update : int
        Number of the update that was not made.
    history : History
        Of the updates that were made.
    model_update : int
        After :func:`glasscell.fit`, number of the update of the weights that the model has; 0: before the first one.
    """

    kind: str
    update: int
    history: History
    model_update: int = 0


class TrainingDataError(TrainingError, ValueError):
    """A training that cannot continue because of a batch of its data."""


class TrainingWarning(RuntimeWarning):
    """A failure of a training that continues by its policy."""


@dataclass
class Failure:
    """A failure of an update, which is not made.

    Attributes
    ----------
    kind : str
        "data", "state", "outputs", "loss", "gradient", "update" (weights or optimiser state after it), "weights"
        (before it), "rate" or "divergence".
    message : str
        With the number of the update and the cause.
    """

    kind: str
    message: str


class FailureError(ValueError):
    """A failure of an update that was found already, such as on another rank."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Failures:
    """The failures of a training: what a policy has done, and what it needs.

    Parameters
    ----------
    policy : str
    divergence_factor : float or None
        See :class:`~glasscell.training.divergence.LossWatch`.

    Attributes
    ----------
    skipped, in_succession, halvings : int
        Skipped updates, those since the last update, and how often the learning rate was halved.
    watch : LossWatch
    has_best : bool
        Whether an evaluation had a loss of at most 10 times the first one: its weights are restored.
    weights : array or None
        Before that: the weights after the best mean loss of 100 updates, or the first ones.
    weights_update : int
        Number of the update of these weights.
    """

    def __init__(self, policy: OnFailure, divergence_factor: float | None) -> None:
        self.policy, self.watch = policy, LossWatch(divergence_factor)
        self.skipped = self.in_succession = self.halvings = self.weights_update = 0
        self.weights: Array | None = None
        self.has_best = False

    def state(self) -> dict[str, Any]:
        """Return everything that changes, for :meth:`restore`."""
        return {name: value for name, value in vars(self).items() if name not in ("policy", "watch")} | {
            "watch": self.watch.state()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set everything that changes."""
        for name, value in state.items():
            if name == "watch":
                vars(self.watch).update(value)
            else:
                setattr(self, name, value)


def failure_of_numbers(training: Any, loss: float, norm: float, rate: float) -> Failure:
    """Return the failure of an update of which loss, norm of the gradient or learning rate is not finite."""
    update = training.history.updates + 1
    if math.isfinite(loss) and math.isfinite(norm):
        return Failure("rate", f"learning rate {rate} at update {update}")
    symptom = f"gradient norm {norm}" if math.isfinite(loss) else f"loss {loss}"
    cause = training.find_cause()
    if cause is None:
        return Failure("loss", f"{symptom} at update {update}")
    return Failure(cause.kind, f"{symptom} at update {update}: {cause.text}")


def failure_of_error(training: Any, error: ValueError) -> Failure | None:
    """Return the failure that an error of the data or of the loss stands for; None for any other error."""
    update = training.history.updates + 1
    if isinstance(error, FailureError):
        return error.failure
    if isinstance(error, NotFiniteError):
        return Failure("data", f"{error}, at update {update}")
    cause = find_cause_in_data(training.attempt)
    rule = str(error).partition(", got ")[0]
    return None if cause is None else Failure("data", f"{rule} at update {update}: {cause.text}")


def failure_of_update(training: Any, norm: float, before: Array) -> Failure | None:
    """Return a failure if an update has made a weight, or a number of the optimiser's state, infinite or NaN.

    The state is checked after gradients alone whose squares may overflow: called if a weight is not finite, or the norm
    is not below `SMALL_NORM`.

    Parameters
    ----------
    training : Training
    norm : float
        Of the gradient.
    before : array
        Weights before the update.
    """
    vector = training.model.parameters.vector
    update = training.history.updates + 1
    if not all_finite(vector):
        kind, where = "update", "weights that are not finite after update"
        if not all_finite(before):
            kind, where = "weights", "weights that are not finite before update"
        name = first_name(training.model.parameters)
        return Failure(kind, f"{where} {update}: {name}")
    if norm < LARGE_NORM * math.sqrt(np.finfo(vector.dtype).max):
        return None
    for state in training.optimizer_states:
        for name, array in state.items():
            if not np.isfinite(array).all():
                text = (
                    f"gradient norm {norm:.3g} at update {update}: {name!r} of the optimiser overflows {vector.dtype}"
                )
                return Failure("update", text)
    return None


def check_end(training: Any) -> None:
    """Raise an error for weights that something else than an update has made NaN, and if no update was made.

    Raises
    ------
    TrainingError
    """
    name, updates = first_name(training.model.parameters), training.history.updates
    if name is not None:
        raise _error(training, Failure("weights", f"weights that are not finite after update {updates}: {name}"), "")
    if training.history.failures and not updates:
        last = training.history.failures[-1]
        what = "all updates were skipped" if training.failures.skipped else "no update was made"
        raise _error(training, Failure(last.get("kind", "data"), f"{last['message']}; {what}"), "")


def handle(training: Any, failure: Failure) -> None:
    """Apply the policy to a failure.

    Raises
    ------
    TrainingError
        If the policy is to raise, cannot mend this failure, or has reached its limit.
    """
    failures, update = training.failures, training.history.updates + 1
    limit = _limit(failures, update)
    if failure.kind not in POLICIES[failures.policy] or limit:
        raise _error(training, failure, f"{limit}{ADVICE.get(failure.kind, DEFAULT_ADVICE)}")
    action = _skip(training) if failures.policy == "skip" else _restore_best_and_halve(training)
    training.clear_attempt()
    entry = {"update": update, "kind": failure.kind, "message": failure.message, "action": action}
    training.history.failures.append(entry)
    training.warn(f"{failure.message}; {action}")


def _error(training: Any, failure: Failure, advice: str) -> TrainingError:
    training.clear_attempt()
    kind = TrainingDataError if failure.kind == "data" else TrainingError
    error = kind(failure.message + advice)
    error.kind, error.update, error.history = failure.kind, training.history.updates + 1, training.history
    return error


def _limit(failures: Failures, update: int) -> str:
    """Return a clause if the policy has reached its limit, otherwise an empty text."""
    if failures.policy == "skip":
        if failures.in_succession >= MAX_IN_SUCCESSION:
            return f"; {failures.in_succession} updates in succession were skipped before"
        if failures.skipped >= MAX_IN_SUCCESSION + MAX_SKIPPED_FRACTION * update:
            return f"; {failures.skipped} updates were skipped before"
    if failures.policy == "restore_best_and_halve_lr" and failures.halvings >= MAX_HALVINGS:
        return f"; the learning rate was halved {failures.halvings} times before"
    return ""


def _skip(training: Any) -> str:
    failures = training.failures
    failures.skipped, failures.in_succession = failures.skipped + 1, failures.in_succession + 1
    training.restore_finite_states()
    return "the update is skipped"


def _restore_best_and_halve(training: Any) -> str:
    weights = weights_of(restore_best(training))
    training.optimizer_states = init_states(training.optimizer, training.model.parameters.vector, training.groups)
    training.states = None
    training.failures.halvings += 1
    training.failures.watch.restart()
    return f"{weights} are restored, and the learning rate is halved"


def restore_best(training: Any) -> int:
    """Restore the best weights that are known; return the number of their update."""
    failures, vector = training.failures, training.model.parameters.vector
    update: int = training.history.updates
    if failures.has_best:
        vector[:] = training.best_weights
        update = training.history.best_update
    elif failures.weights is not None:
        vector[:], update = failures.weights, failures.weights_update
    return update


def weights_of(update: int) -> str:
    """Return words for the weights after an update."""
    return f"the weights of update {update}" if update else "the weights before the first update"


def with_weights(training: Any, error: TrainingError) -> TrainingError:
    """Restore the best weights, and return the error with a clause that names those that the model has.

    Without an evaluation these are those of the last whole update; after divergence, those with the best mean loss.
    """
    update = training.history.updates
    if training.failures.has_best or error.kind == "divergence":
        update = restore_best(training)
    complete = type(error)(f"{error}; the model has {weights_of(update)}")
    vars(complete).update(vars(error) | {"model_update": update})
    return complete


def check_scores(training: Any, scores: Mapping[str, float]) -> None:
    """Note whether the best weights may be restored, and warn of a loss that is not finite, which is no failure."""
    failures, best, loss = training.failures, training.history.best_update, scores.get("loss", 0.0)
    if best is not None and not failures.has_best:
        limit = (failures.watch.factor or FACTOR) * failures.watch.first
        best_loss = training.history.rows[best - 1].get("validation_loss", math.nan)
        if not best_loss > limit > 0:
            failures.has_best, failures.weights = True, None
    if math.isfinite(loss) or not training.validation:
        return
    cause = find_cause_in_data([Window(batch, None, 0) for batch in training.validation])
    text = "" if cause is None else f": {cause.text}"
    training.warn(f"validation loss {loss} at update {training.history.updates}{text}; it counts as no improvement")
