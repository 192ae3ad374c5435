"""Training: one loop for every model and task.

An update is: draw a batch, loss and gradients, clip, step of the optimiser. Everything else is around it: schedules for
the learning rate, truncated backpropagation through time, evaluation, callbacks, a history, an early stop, progress.
All randomness comes from one seed: the same seed gives the same bits of the same weights.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.atomic_files import OutputFile, StrPath
from glasscell.core.blas_threads import with_one_blas_thread
from glasscell.core.gradient_clipping import clip_by_global_norm, clip_by_value, global_norm
from glasscell.core.optimizers import Adam, Optimizer, State
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.layers import LSTMState, Seed
from glasscell.models import LossAndGradients, TrainingBuffers
from glasscell.training.progress import no_progress, progress_bar
from glasscell.training.schedules import Schedule, linear
from glasscell.validation import as_generator, finite_number, positive_integer, positive_number

SMALL_STEP = 1 << 21  # multiplications: up to here one core is about as fast as two, and far faster on a busy machine


class Task(Protocol):
    """What training needs of a task."""

    def batch(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Batch:
        """Sequences to learn from."""

    def validation_batch(self, dtype: DTypeLike) -> Batch:
        """Sequences to watch the progress on, always the same ones."""


TaskT_contra = TypeVar("TaskT_contra", bound=Task, contravariant=True)


class Model(Protocol[TaskT_contra]):
    """What training needs of a model."""

    dtype: np.dtype[np.floating]

    @property
    def parameters(self) -> Parameters:
        """All weights, as views of one vector."""

    def bind_task(self, task: TaskT_contra) -> None:
        """Check that the model can learn this task."""

    def loss_and_gradients(
        self,
        batch: Batch,
        state: LSTMState | None = None,
        workspace: TrainingBuffers | None = None,
        rng: np.random.Generator | None = None,
    ) -> LossAndGradients:
        """One pass over a batch; dropout and zoneout are drawn from `rng`, if the model has them."""

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Scores on a batch: names that end in "loss" are better when lower, all others when higher."""


@dataclass
class History:
    """What happened at every update.

    Attributes
    ----------
    rows : list of dict
        One an update: ``update`` (from 1), ``loss`` of the batch, ``gradient_norm`` before clipping, ``learning_rate``,
        and at evaluations the scores of the model, as ``validation_loss``, ….
    reached : bool
        Whether training ended because the target was reached.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    reached: bool = False

    @property
    def updates(self) -> int:
        """Number of updates done."""
        return len(self.rows)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """One column, NaN where it was not measured."""
        if not any(name in row for row in self.rows):
            raise KeyError(f"{name!r} was not recorded; recorded are {self.columns}")
        return np.array([row.get(name, math.nan) for row in self.rows])

    @property
    def columns(self) -> list[str]:
        """The names of what was recorded."""
        return list({name: None for row in self.rows for name in row})

    def save(self, path: StrPath) -> None:
        """Write a file ``….csv`` with one row per update; missing values are empty. An existing one is replaced."""
        import csv  # noqa: PLC0415 - not paid for by `import glasscell`
        import io  # noqa: PLC0415

        file = OutputFile(path, (".csv",))
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        file.write(text.getvalue().encode())


class TrainingState(NamedTuple):
    """What a callback is shown after an update.

    Attributes
    ----------
    model : Model
    history : History
        Its last row is this update; the callback may add to it.
    gradients : Parameters
        After clipping; they last until the next update.
    """

    model: Model[Any]
    history: History
    gradients: Parameters


Callback: TypeAlias = Callable[[TrainingState], bool | None]
"""Called after every update. True ends the training, and nothing else does: False and None are the other values."""


def fit(
    model: Model[TaskT_contra],
    task: TaskT_contra,
    steps: int = 3000,
    *,
    batch_size: int = 64,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
    clip_norm: float | None = 0.25,
    clip_value: float | None = None,
    truncate: int | None = None,
    target: Mapping[str, float] | None = None,
    evaluate_every: int = 25,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    seed: Seed = 0,
) -> History:
    """Train a model on a task, in place.

    Parameters
    ----------
    model : CopyLSTM, or any model of the same methods
    task : Copy, or any task of the same methods
    steps : int
        Updates at most.
    batch_size : int
        Sequences an update.
    optimizer : Optimizer, optional
        Without it ``Adam(0.03)``.
    schedule : callable, optional
        From the number of updates done to a factor on the optimiser's learning rate: one of
        :mod:`glasscell.training.schedules`, or your own. Without it ``linear(steps)``: large steps find
        the way, and small ones at the end settle.
    clip_norm : float or None
        Largest global norm of the gradient. Pascanu et al. (2013).
    clip_value : float or None
        Largest absolute value of each component of the gradient; before `clip_norm`.
    truncate : int, optional
        Truncated backpropagation through time: cut sequences into windows of so many steps. Each window is an update;
        the state is carried from one to the next, the gradient is not. Williams & Peng (1990). Windows in which no
        answer is asked for only carry the state.
    target : mapping of score to value, optional
        Stop as soon as an evaluation reaches all of it: ``{"loss": 0.01, "exact": 1.0}``.
    evaluate_every : int
        Updates between evaluations on the task's validation batch; one is made after update number `steps` too.
    callbacks : sequence of callables
        Each is given a :class:`Moment` after every update, and returns True to end the training, or else None or False.
        Any other value is a TypeError: a callback that returns, say, a loss would end the training at once.
    progress : bool
        Show progress on standard error: a bar on a terminal, if tqdm is installed; else plain lines.
    seed : int or numpy.random.Generator
        Of the batches, and of dropout and zoneout, if the model has them: training draws them anew at every update,
        evaluations do not.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        An option out of range, or a target that the model does not score.
    FloatingPointError
        If loss or gradient stop being finite; the update is not made.
    TypeError
        If a callback returns anything but True, False or None.

    Notes
    -----
    Whatever is raised, also by Ctrl-C, the weights are those of the last whole update.

    A small model, of at most 2²¹ multiplications a step (weights times sequences), is trained with one thread of
    NumPy's BLAS, callbacks included: its products are too small to be divided, and on a busy machine a divided one
    takes ten times as long or more. Afterwards BLAS has as many threads as before.
    """
    _check_options(steps, batch_size, clip_norm, clip_value, truncate, evaluate_every)

    def train() -> History:
        return _fit(
            *(model, task, steps, batch_size, optimizer, schedule, clip_norm, clip_value),
            *(truncate, target, evaluate_every, callbacks, progress, seed),
        )

    return with_one_blas_thread(train) if model.parameters.vector.size * batch_size <= SMALL_STEP else train()


def _fit(
    model: Model[TaskT_contra],
    task: TaskT_contra,
    steps: int,
    batch_size: int,
    optimizer: Optimizer | None,
    schedule: Schedule | None,
    clip_norm: float | None,
    clip_value: float | None,
    truncate: int | None,
    target: Mapping[str, float] | None,
    evaluate_every: int,
    callbacks: Sequence[Callback],
    progress: bool,
    seed: Seed,
) -> History:
    """Train: see :func:`fit`, whose options have been checked."""
    model.bind_task(task)
    optimizer = Adam(0.03) if optimizer is None else optimizer
    schedule = linear(steps) if schedule is None else schedule
    _check_arguments(optimizer, schedule, callbacks)
    callbacks = tuple(callbacks)
    rng = as_generator(seed)
    vector = model.parameters.vector
    optimizer_state, before = optimizer.init_state(vector), np.empty_like(vector)
    validation = task.validation_batch(model.dtype)
    _check_stop_at(target, model.evaluate(validation) if target else {})
    workspace = TrainingBuffers(model.parameters)
    history = History()
    passes = _training_windows(model, task, batch_size, truncate, rng, workspace)

    overflow = np.errstate(over="ignore", invalid="ignore")  # it is found, and reported, below
    with overflow, progress_bar(steps) if progress else no_progress() as show:
        while history.updates < steps:
            loss, gradients, _ = next(passes)
            done = history.updates
            if clip_value is not None:
                clip_by_value(gradients.vector, clip_value)
            norm = (
                global_norm(gradients.vector) if clip_norm is None else clip_by_global_norm(gradients.vector, clip_norm)
            )
            rate = optimizer.learning_rate * schedule(done)
            if not math.isfinite(loss + norm + rate):
                _check_weights(model.parameters, done + 1)
                what = f"loss {loss}, gradient norm {norm} and learning rate {rate} at update {done + 1}"
                raise FloatingPointError(f"{what}: lower the learning rate, or clip the gradient")
            _update(optimizer, vector, gradients.vector, optimizer_state, rate, before)
            row = {"update": done + 1, "loss": loss, "gradient_norm": norm, "learning_rate": rate}
            history.rows.append(row)
            if (done + 1) % evaluate_every == 0 or done + 1 == steps:
                scores = model.evaluate(validation)
                row |= {f"validation_{name}": value for name, value in scores.items()}
                history.reached = target is not None and _meets_target(scores, target)
            stop = [_is_true(callback(TrainingState(model, history, gradients))) for callback in callbacks]
            show(row)
            if history.reached or any(stop):
                break
    if not np.isfinite(vector).all():
        raise FloatingPointError(f"weights that are not finite after update {history.updates}: lower the learning rate")
    return history


def _update(
    optimizer: Optimizer, vector: Array, gradient: Array, state: State, learning_rate: float, before: Array
) -> None:
    """Update all weights or, if anything is raised meanwhile, none; `before` is memory for the old ones."""
    before[:] = vector
    try:
        optimizer.update(vector, gradient, state, learning_rate)
    except BaseException:
        vector[:] = before
        raise


def _training_windows(
    model: Model[TaskT_contra],
    task: TaskT_contra,
    batch_size: int,
    truncate: int | None,
    rng: np.random.Generator,
    workspace: TrainingBuffers,
) -> Iterator[LossAndGradients]:
    """Batch after batch, or window after window of each, with the state carried from window to window."""
    while True:
        batch = task.batch(batch_size, rng, model.dtype)
        if truncate is None:
            yield model.loss_and_gradients(batch, None, workspace, rng)
            continue
        state = None
        for start in range(0, batch.inputs.shape[1], truncate):
            window = Batch(*(part[:, start : start + truncate] for part in batch))
            result = model.loss_and_gradients(window, state, workspace, rng)
            state = result.tape.final_state
            if window.weights.any():
                yield result


def _check_weights(parameters: Parameters, update: int) -> None:
    """Raise an error where it is the weights that are not finite."""
    try:
        parameters.check_finite()
    except ValueError as error:
        raise FloatingPointError(f"{error}, before update {update}") from None


def _is_true(returned: object) -> bool:
    """Whether a callback ends the training."""
    if returned is None or isinstance(returned, bool | np.bool_):
        return bool(returned)
    raise TypeError(f"a callback must return True, which ends the training, False or None, got {returned!r:.200}")


def _meets_target(scores: Mapping[str, float], target: Mapping[str, float]) -> bool:
    return all(
        scores[name] <= value if name.endswith("loss") else scores[name] >= value for name, value in target.items()
    )


def _check_stop_at(target: object, scores: Mapping[str, float]) -> None:
    if target is not None and not isinstance(target, Mapping):
        raise TypeError(f"target must be a mapping such as {{'exact': 1.0}}, and is {target!r}")
    for name, value in (target or {}).items():
        if name not in scores:
            raise ValueError(f"target {name!r} is not a score of this model; known are {', '.join(scores)}")
        finite_number(f"target {name!r}", value)


def _check_arguments(optimizer: object, schedule: object, callbacks: object) -> None:
    if isinstance(optimizer, type) or not hasattr(optimizer, "init_state"):
        raise TypeError(f"optimizer must be one such as Adam(0.03), and is {optimizer!r}")
    if not callable(schedule):
        raise TypeError(f"schedule must be a function such as schedules.linear(3000), and is {schedule!r}")
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise TypeError(f"callbacks must be a list of functions, and is {callbacks!r}")


def _check_options(
    steps: int,
    batch_size: int,
    clip_norm: float | None,
    clip_value: float | None,
    truncate: int | None,
    evaluate_every: int,
) -> None:
    positive_integer("steps", steps)
    positive_integer("batch_size", batch_size)
    positive_integer("evaluate_every", evaluate_every)
    if truncate is not None:
        positive_integer("truncate", truncate)
    for name, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if value is not None:
            positive_number(name, value)
