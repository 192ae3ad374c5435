"""Train a model: check the arguments, run the loop."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from glasscell.core.blas_threads import with_one_blas_thread
from glasscell.core.optimizers import Adam, Optimizer
from glasscell.data.arrays import ArrayData
from glasscell.data.batch import Data
from glasscell.data.continuous import ContinuousData
from glasscell.data.metrics import Loss, Metric, loss_function, metric_functions
from glasscell.layers import LSTM, Seed
from glasscell.models.layer_model import LayerModel
from glasscell.models.protocol import Trainable
from glasscell.training.groups import parameter_groups
from glasscell.training.history import History
from glasscell.training.loop import Callback, Training, TrainingState, is_endless, lower_is_better
from glasscell.training.progress import no_progress, progress_bar
from glasscell.training.schedules import Schedule, constant, linear
from glasscell.training.sources import source_of
from glasscell.validation import as_generator, choice, finite_number, positive_integer, positive_number

TrainingData: TypeAlias = "Data | tuple[Any, Any] | Iterable[Any]"

SMALL_STEP = 1 << 21  # multiplications: up to here one core is about as fast as two, and far faster on a busy machine
# Used where neither the call nor the model says otherwise.
DEFAULTS: dict[str, Any] = {"batch_size": 32, "clip_norm": 1.0, "optimizer": Adam(0.003)}
EVALUATE_EVERY = 25  # updates between evaluations of data without epochs


def fit(
    model: Trainable,
    data: TrainingData,
    updates: int | None = None,
    *,
    epochs: int | None = None,
    loss: str | Loss | None = None,
    metrics: Sequence[str | Metric] | Mapping[str, Metric] = (),
    validation: Any = None,
    batch_size: int | None = None,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
    clip_norm: float | Literal["default"] | None = "default",
    clip_value: float | None = None,
    tbptt_steps: int | None = None,
    accumulate: int = 1,
    trainable: Sequence[str] | None = None,
    learning_rates: Mapping[str, float] | None = None,
    stop_at: Mapping[str, float] | None = None,
    monitor: str = "loss",
    patience: int | None = None,
    keep: Literal["last", "best"] | None = None,
    evaluate_every: int | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    seed: Seed = 0,
) -> History:
    """Train a model, in place.

    Parameters
    ----------
    model : Trainable
        A Sequential, an LSTM, a CopyLSTM, or any model with the methods of
        :class:`glasscell.models.protocol.Trainable`.
    data : Task, Data, (x, y), or iterable of (x, y) or (x, y, lengths)
        A task such as ``tasks.Copy``; arrays or lists of sequences, see :class:`glasscell.data.ArrayData`; or anything
        that can be iterated once per epoch, such as a PyTorch DataLoader.
    updates : int, optional
        Largest number of updates. Default: that of the model or, with `epochs`, no limit.
    epochs : int, optional
        Largest number of passes over the data, each sequence once per pass.
    loss : str or callable, optional
        "squared_error", "binary_cross_entropy", "categorical_cross_entropy", or a function
        ``loss, d_outputs = f(outputs, targets, weights)``. Default: that of the task.
    metrics : sequence of str or callable, or mapping of name to callable
        Further scores of evaluations: "accuracy", "sequence_accuracy", "mean_absolute_error", "mean_squared_error", or
        functions ``f(outputs, batch)`` that return a number, or (sum, count).
    validation : (x, y), Data, iterable, or float, optional
        What to evaluate on; a number is the fraction taken off the end of (x, y). Default: that of the data.
    batch_size : int, optional
        Sequences per batch. Default: that of the model, or 32.
    optimizer : Optimizer, optional
        Default: that of the model, or ``Adam(0.003)``.
    schedule : callable, optional
        From the number of updates done to a factor on the learning rate: one of :mod:`glasscell.training.schedules`,
        or a function. Default: that of the model, or constant.
    clip_norm : float or None
        Largest global norm of the gradient (Pascanu et al. 2013); None: no clipping. Default: that of the model, or 1.
    clip_value : float, optional
        Largest absolute value of each component of the gradient; applied before `clip_norm`.
    tbptt_steps : int, optional
        Truncated backpropagation through time: cut sequences into windows of this many steps. Each window is an update;
        the state is carried from one to the next, the gradient is not (Williams & Peng 1990).
    accumulate : int
        Batches, or windows, whose gradients are averaged for one update.
    trainable : sequence of str, optional
        Names of parameters to train, ``*`` for anything; all others are frozen. Default: all are trained.
    learning_rates : mapping of name to float, optional
        Factors on the learning rate of some parameters, ``*`` for anything.
    stop_at : mapping of score to value, optional
        Stop when an evaluation reaches all of these values: ``{"loss": 0.01, "accuracy": 1.0}``.
    monitor : str
        The score of evaluations that `patience` and ``keep="best"`` compare.
    patience : int, optional
        Stop after this many evaluations without a better score, and restore the best weights unless ``keep="last"``.
    keep : "last" or "best", optional
        Which weights the model has in the end. Default: "best" with `patience`, otherwise "last".
    evaluate_every : int, optional
        Updates between evaluations. Default: that of the model, or one per epoch. The last update is always evaluated.
    callbacks : sequence of callables
        Called with a :class:`TrainingState` after every update. True ends the training; None and False are the only
        other values: a callback that returns, say, a loss would end the training at once.
    progress : bool
        Show progress on standard error: a bar on a terminal, if tqdm is installed; otherwise lines.
    seed : int or numpy.random.Generator
        For batches, dropout and zoneout; evaluations draw nothing.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        An argument out of range, or arguments that do not fit together.
    FloatingPointError
        If loss or gradient stop being finite; the update is not made.

    Notes
    -----
    After any error, and after Ctrl-C, the weights are those of the last whole update.

    A small model, of at most 2²¹ multiplications per step (weights times sequences), is trained with one thread of
    NumPy's BLAS, callbacks included: its products are too small to be divided, and on a busy machine a divided one
    takes ten times as long or more. Afterwards BLAS has as many threads as before.

    Examples
    --------
    >>> import glasscell as gc
    >>> from glasscell.layers import FinalState
    >>> x, y = np.random.default_rng(0).normal(size=(64, 10, 3)), np.arange(64) % 2
    >>> model = gc.Sequential([gc.LSTM(3, 8), FinalState(), gc.Linear(8, 2)])
    >>> history = gc.fit(model, (x, y), loss="categorical_cross_entropy", metrics=["accuracy"], epochs=2)
    >>> history.updates
    4
    """
    model = _trainable(model)
    training, plan = prepare(
        model,
        data,
        updates,
        epochs=epochs,
        loss=loss,
        metrics=metrics,
        validation=validation,
        batch_size=batch_size,
        optimizer=optimizer,
        schedule=schedule,
        clip_norm=clip_norm,
        clip_value=clip_value,
        tbptt_steps=tbptt_steps,
        accumulate=accumulate,
        trainable=trainable,
        learning_rates=learning_rates,
        stop_at=stop_at,
        monitor=monitor,
        patience=patience,
        keep=keep,
        evaluate_every=evaluate_every,
        callbacks=callbacks,
        progress=progress,
        seed=seed,
    )

    def train() -> History:
        return run(training, plan)

    small = model.parameters.vector.size * training.batch_size <= SMALL_STEP
    return with_one_blas_thread(train) if small else train()


class Plan(NamedTuple):
    """When a training evaluates and ends, and what it does then."""

    updates: int | None
    epochs: int | None
    stop_at: Mapping[str, float]
    patience: int | None
    keep: str
    evaluate_every: int | None  # None: at the end of each epoch
    callbacks: tuple[Callback, ...]
    total: int | None  # updates, for the progress bar
    progress: bool


def prepare(
    model: Trainable,
    data: TrainingData,
    updates: int | None = None,
    *,
    epochs: int | None,
    loss: str | Loss | None,
    metrics: Any,
    validation: Any,
    batch_size: int | None,
    optimizer: Optimizer | None,
    schedule: Schedule | None,
    clip_norm: float | Literal["default"] | None,
    clip_value: float | None,
    tbptt_steps: int | None,
    accumulate: int,
    trainable: Sequence[str] | None,
    learning_rates: Mapping[str, float] | None,
    stop_at: Mapping[str, float] | None,
    monitor: str,
    patience: int | None,
    keep: str | None,
    evaluate_every: int | None,
    callbacks: Sequence[Callback],
    progress: bool,
    seed: Seed,
) -> tuple[Training, Plan]:
    """Check the arguments of :func:`fit`, and make the training."""
    defaults = {**DEFAULTS, **model.training_defaults}
    batch_size = positive_integer("batch_size", defaults["batch_size"] if batch_size is None else batch_size)
    for name, count in (("patience", patience), ("tbptt_steps", tbptt_steps), ("evaluate_every", evaluate_every)):
        if count is not None:
            positive_integer(name, count)
    clip_norm = defaults["clip_norm"] if clip_norm == "default" else clip_norm
    for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if limit is not None:
            positive_number(name, limit)
    choice("keep", keep, (None, "last", "best"))
    updates, epochs = _length(updates, epochs, defaults)
    bind = getattr(model, "bind_task", None)
    if bind is not None:
        bind(data)
    source = source_of(data, validation)
    if epochs is not None and is_endless(source):
        raise ValueError("epochs must be None for a task that generates batches without end: pass updates")
    if getattr(model, "runs_backward", False) and (tbptt_steps or isinstance(data, ContinuousData)):
        raise ValueError("tbptt_steps and ContinuousData need a model that runs forward in time only")
    optimizer = defaults["optimizer"] if optimizer is None else optimizer
    if schedule is None:
        schedule = linear(updates) if updates and defaults.get("schedule") == "linear" else constant()
    _check_arguments(optimizer, schedule, callbacks)
    training = Training(
        model,
        source,
        loss=_loss(source, loss),
        metrics=_metrics(source, metrics),
        batch_size=batch_size,
        optimizer=optimizer,
        schedule=schedule,
        clip_norm=clip_norm,
        clip_value=clip_value,
        tbptt_steps=tbptt_steps,
        accumulate=positive_integer("accumulate", accumulate),
        groups=parameter_groups(model.parameters, trainable, learning_rates),
        monitor=monitor,
        rng=as_generator(seed),
    )
    if evaluate_every is None:
        evaluate_every = defaults.get("evaluate_every", EVALUATE_EVERY if is_endless(source) else None)
    keep = keep or ("best" if patience else "last")
    _check_scores(training, stop_at, monitor, compared=bool(patience) or keep == "best")
    total = updates
    if total is None and isinstance(source, ArrayData) and tbptt_steps is None and epochs:
        total = ceil(epochs * ceil(len(source) / batch_size) / accumulate)
    plan = Plan(updates, epochs, stop_at or {}, patience, keep, evaluate_every, tuple(callbacks), total, bool(progress))
    return training, plan


def run(training: Training, plan: Plan) -> History:
    """Make updates until something ends the training."""
    history, waiting, vector = training.history, 0, training.model.parameters.vector
    overflow = np.errstate(over="ignore", invalid="ignore")  # found, and reported, where the loss is checked
    with overflow, progress_bar(plan.total) if plan.progress else no_progress() as show:
        while True:
            row = training.step()
            last = history.updates == plan.updates
            ended = (plan.epochs is not None or plan.evaluate_every is None) and training.epoch_ended()
            last |= ended and plan.epochs is not None and training.epoch >= plan.epochs
            due = ended if plan.evaluate_every is None else history.updates % plan.evaluate_every == 0
            if due or last:
                scores = training.score()
                history.target_reached = bool(plan.stop_at) and _meets_target(scores, plan.stop_at)
                waiting = 0 if history.best_update == history.updates else waiting + 1
                history.stopped_early = plan.patience is not None and waiting >= plan.patience
            state = TrainingState(training.model, history, training.gradients)
            stop = [_is_true(callback(state)) for callback in plan.callbacks]
            show(row)
            if last or history.target_reached or history.stopped_early or any(stop):
                break
    if plan.keep == "best" and training.best_weights is not None:
        vector[:] = training.best_weights
    if not np.isfinite(vector).all():
        raise FloatingPointError(f"weights that are not finite after update {history.updates}: lower the learning rate")
    return history


def _trainable(model: Any) -> Trainable:
    """Return a model with the methods that training needs."""
    if isinstance(model, LSTM):
        return LayerModel(model)
    if isinstance(model, type) or not all(
        hasattr(model, name) for name in ("parameters", "train_forward", "train_backward", "infer")
    ):
        kind = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise TypeError(
            "model must be a Sequential, an LSTM, a CopyLSTM, or have the methods train_forward, train_backward and "
            f"infer, got {kind}"
        )
    return model  # type: ignore[no-any-return] # it has the methods


def _is_true(returned: object) -> bool:
    """Return whether a callback ends the training."""
    if returned is None or isinstance(returned, bool | np.bool_):
        return bool(returned)
    raise TypeError(f"a callback must return True, which ends the training, False or None, got {returned!r:.200}")


def _length(updates: int | None, epochs: int | None, defaults: Mapping[str, Any]) -> tuple[int | None, int | None]:
    if updates is not None:
        updates = positive_integer("updates", updates)
    if epochs is not None:
        return updates, positive_integer("epochs", epochs)
    if updates is None and "updates" not in defaults:
        raise ValueError("updates or epochs must be passed: how long to train")
    return updates or defaults["updates"], None


def _loss(source: Data, loss: str | Loss | None) -> Loss:
    found = getattr(source, "loss", None) if loss is None else loss
    if found is None:
        raise ValueError("loss must be passed for data without one, such as loss='squared_error'")
    return loss_function(found)


def _metrics(source: Data, metrics: Any) -> dict[str, Metric]:
    """Return the metrics of the task, and those of the call."""
    return {**metric_functions(getattr(source, "metrics", ())), **metric_functions(metrics)}


def _check_arguments(optimizer: object, schedule: object, callbacks: object) -> None:
    if isinstance(optimizer, type) or not hasattr(optimizer, "init_state"):
        raise TypeError(f"optimizer must be an optimiser such as Adam(0.003), got {optimizer!r}")
    if not callable(schedule):
        raise TypeError(f"schedule must be a function such as schedules.linear(3000), got {schedule!r}")
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise TypeError(f"callbacks must be a list of functions, got {callbacks!r}")


def _check_scores(training: Training, stop_at: Mapping[str, float] | None, monitor: str, *, compared: bool) -> None:
    """Refuse scores that evaluations do not have."""
    if stop_at is not None and not isinstance(stop_at, Mapping):
        raise TypeError(f"stop_at must be a mapping such as {{'loss': 0.01}}, got {stop_at!r}")
    if stop_at is not None and not stop_at:
        raise ValueError("stop_at must name at least one score, such as {'loss': 0.01}, got {}")
    watched = [("stop_at", name) for name in stop_at or ()] + [("monitor", monitor)] * compared
    known = ["loss", *training.metrics]
    if watched and training.validation is None:
        raise ValueError("validation must be passed for stop_at, patience and keep='best', got data without it")
    for argument, name in watched:
        if name not in known:
            raise ValueError(f"{argument} must name scores of the evaluation, {', '.join(known)}, got {name!r}")
    for name, value in (stop_at or {}).items():
        finite_number(f"stop_at[{name!r}]", value)


def _meets_target(scores: Mapping[str, float], stop_at: Mapping[str, float]) -> bool:
    return all(
        scores[name] <= value if lower_is_better(name) else scores[name] >= value for name, value in stop_at.items()
    )
