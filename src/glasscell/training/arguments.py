"""Arguments of a training run: defaults, checks, and the objects that they stand for."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, TypeAlias, TypeVar

from numpy.typing import DTypeLike

from glasscell.atomic_files import StrPath
from glasscell.core.losses import categorical_cross_entropy
from glasscell.core.optimizers import Adam, Optimizer
from glasscell.data.arrays import ArrayData
from glasscell.data.batch import Batch, Data, check_batch
from glasscell.data.continuous import ContinuousData
from glasscell.data.metrics import Loss, Metric, loss_function, metric_functions
from glasscell.data.text.text_data import TextData
from glasscell.layers import Seed
from glasscell.layers.recurrent_layer import RecurrentLayer
from glasscell.models.layer_model import LayerModel
from glasscell.models.protocol import Trainable
from glasscell.training.divergence import FACTOR
from glasscell.training.schedules import Schedule, cosine, linear, warmup
from glasscell.training.sources import NumbersPerStep, attribute, is_arrays, source_of, training_part
from glasscell.validation import boolean, choice, finite_number, positive_integer, positive_number

T = TypeVar("T")
OnFailure: TypeAlias = Literal["raise", "skip", "restore_best_and_halve_lr"]
TrainingData: TypeAlias = "Data | tuple[Any, ...] | Iterable[Any]"

# Defaults for arguments that neither the call nor the model sets.
DEFAULTS: dict[str, Any] = {"batch_size": 32, "clip_norm": 1.0, "optimizer": Adam(0.003)}
ON_FAILURE: tuple[OnFailure, ...] = ("raise", "skip", "restore_best_and_halve_lr")
WARMUP_FRACTION = 10  # a tenth of the updates
EVALUATE_EVERY = 25  # updates between evaluations of data without epochs


@dataclass(frozen=True)
class TrainingOptions:
    """Keyword arguments of :func:`glasscell.fit`, which describes them."""

    updates: int | None = None
    epochs: int | None = None
    loss: str | Loss | None = None
    metrics: Sequence[str | Metric] | Mapping[str, Metric] = ()
    validation: Any = None
    batch_size: int | None = None
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    clip_norm: float | Literal["default"] | None = "default"
    clip_value: float | None = None
    tbptt_steps: int | None = None
    accumulate: int = 1
    trainable: Sequence[str] | None = None
    learning_rates: Mapping[str, float] | None = None
    stop_at: Mapping[str, float] | None = None
    monitor: str = "loss"
    patience: int | None = None
    keep: Literal["last", "best"] | None = None
    evaluate_every: int | None = None
    callbacks: Sequence[Callable[..., bool | None]] = ()
    on_failure: OnFailure = "raise"
    divergence_factor: float | None = FACTOR
    progress: bool = False
    checkpoint: StrPath | None = None
    checkpoint_every: int | None = None
    keep_checkpoints: int = 2
    resume: bool | StrPath = False
    seed: Seed = 0
    comm: Any = None
    change_ranks: bool = False
    compare_ranks_every: int | None = 100

    def __post_init__(self) -> None:
        choice("keep", self.keep, (None, "last", "best"))
        choice("on_failure", self.on_failure, ON_FAILURE)
        callbacks: Any = self.callbacks
        if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
            raise TypeError(f"callbacks must be a list of functions, got {callbacks!r}")
        if self.stop_at is not None and not isinstance(self.stop_at, Mapping):
            raise TypeError(f"stop_at must be a mapping such as {{'loss': 0.01}}, got {self.stop_at!r}")
        if self.stop_at is not None and not self.stop_at:
            raise ValueError("stop_at must name at least one score, such as {'loss': 0.01}, got {}")
        boolean("change_ranks", self.change_ranks)
        optional(positive_integer, "compare_ranks_every", self.compare_ranks_every)

    def value(self, name: str, defaults: Mapping[str, Any]) -> Any:
        """Return an option. Default: that of the model, or that of the library."""
        value = getattr(self, name)
        is_default = value == "default" if name == "clip_norm" else value is None
        return defaults.get(name, DEFAULTS.get(name)) if is_default else value


class Setup:
    """All of a training that is decided once: its arguments, checked, with the defaults of model and data.

    Parameters
    ----------
    model, data
        As in :func:`glasscell.fit`.
    options : TrainingOptions

    Attributes
    ----------
    expected_updates : int or None
        Number of updates that the limits on updates and epochs allow; None: unknown.
    overwrites_outputs : bool
        Whether the gradient of the loss is written in the place of the outputs.
    """

    def __init__(self, model: Any, data: TrainingData, options: TrainingOptions) -> None:
        self.options, self.model = options, trainable_model(model)
        self.dtype = self.model.dtype
        self.data = training_source(data, options, self.model)
        self.endless, defaults = is_endless(self.data), training_defaults(self.model, self.data)
        self.updates, self.epochs = training_length(options, defaults, self.data)
        self.batch_size = positive_integer("batch_size", options.value("batch_size", defaults))
        self.accumulate = positive_integer("accumulate", options.accumulate)
        self.tbptt_steps = optional(positive_integer, "tbptt_steps", options.tbptt_steps)
        self.patience = optional(positive_integer, "patience", options.patience)
        self.clip_norm = optional(positive_number, "clip_norm", options.value("clip_norm", defaults))
        self.clip_value = optional(positive_number, "clip_value", options.clip_value)
        self.expected_updates = expected_updates(self.data, self.updates, self.epochs, options, self.batch_size)
        self.evaluate_every = evaluation_interval(options, defaults, self.data)
        self.loss = training_loss(options.loss, self.data, defaults)
        keeps_outputs = getattr(self.model, "keeps_outputs", True)
        self.overwrites_outputs = self.loss is categorical_cross_entropy and not keeps_outputs
        self.metrics = training_metrics(options.metrics, self.data, defaults)
        self.optimizer = training_optimizer(options, defaults)
        self.schedule = training_schedule(options, defaults, self.expected_updates)


def optional(check: Callable[[str, T], T], name: str, value: T | None) -> T | None:
    """Return a checked value, or None."""
    return None if value is None else check(name, value)


def check_comm(options: TrainingOptions, *, accepts_ranks: bool) -> None:
    """Raise an error for a communicator of several processes, which would be ignored, or what is none."""
    if options.comm is None or accepts_ranks:
        return
    from glasscell.training.parallel.ranks import Ranks  # noqa: PLC0415 - only where it is used

    size = Ranks(options.comm).size
    if size > 1:
        raise ValueError(f"comm must have one process for a Training, got {size}: ParallelTraining takes more")


def trainable_model(model: Any) -> Trainable:
    """Return a model with the methods that training needs; a single recurrent layer becomes one."""
    if isinstance(model, RecurrentLayer):
        return LayerModel(model)
    methods = ("parameters", "train_forward", "train_backward", "infer")
    if isinstance(model, type) or not all(hasattr(model, name) for name in methods):
        raise TypeError(
            f"model must be a Sequential, an LSTM, a CopyLSTM, another recurrent layer or Trainable, got {model!r:.200}"
        )
    return model  # type: ignore[no-any-return] # it has the methods of the protocol


def training_defaults(model: Trainable, data: Data) -> Mapping[str, Any]:
    """Return the defaults of the model, which may depend on the data, with the batch size of the data, if any."""
    defaults_for = getattr(model, "training_defaults_for", None)
    defaults: Mapping[str, Any] = model.training_defaults if defaults_for is None else defaults_for(training_part(data))
    size = attribute(data, "batch_size")
    return defaults if size is None else {**defaults, "batch_size": size}


def training_length(options: TrainingOptions, defaults: Mapping[str, Any], data: Data) -> tuple[int | None, int | None]:
    """Return the largest numbers of updates and of epochs; None: no limit."""
    updates = optional(positive_integer, "updates", options.updates)
    epochs = optional(positive_integer, "epochs", options.epochs)
    if epochs is not None and is_endless(data):
        raise ValueError("epochs must be None for a task that generates batches without end: pass updates")
    if updates is None and epochs is None:
        updates, epochs = defaults.get("updates"), None if is_endless(data) else defaults.get("epochs")
        if updates is None and epochs is None:
            raise ValueError("updates or epochs must be passed, got neither")
    return updates, epochs


def evaluation_interval(options: TrainingOptions, defaults: Mapping[str, Any], data: Data) -> int | None:
    """Return the number of updates between evaluations; None: one evaluation per epoch."""
    interval = options.value("evaluate_every", defaults)
    if interval is None and is_endless(data):
        return EVALUATE_EVERY
    return optional(positive_integer, "evaluate_every", interval)


def training_source(data: Any, options: TrainingOptions, model: Trainable) -> Data:
    """Return the source of batches, after the model has accepted a task or encoded the targets, and adapted to them."""
    bind_task = getattr(model, "bind_task", None)
    if bind_task is not None:
        bind_task(data)
    if getattr(model, "runs_backward", False) and (options.tbptt_steps or isinstance(data, ContinuousData | TextData)):
        raise ValueError("tbptt_steps, ContinuousData and TextData need a model that runs forward in time only")
    source = source_of(*_encoded(data, options.validation, model))
    adapt = getattr(model, "adapt", None)
    if adapt is not None:
        adapt(training_part(source))
    return NumbersPerStep(source) if getattr(model, "gives_numbers", False) else source


def _encoded(data: Any, validation: Any, model: Trainable) -> tuple[Any, Any]:
    """Return data and validation, in which the model has encoded the targets of (x, y), such as labels."""
    encode = getattr(model, "encode_targets", None)
    if encode is None:
        return data, validation
    return tuple(
        (entry[0], encode(entry[1]), *entry[2:]) if is_arrays(entry) else entry for entry in (data, validation)
    )  # type: ignore[return-value] # two entries


def validation_batches(data: Data, size: int, dtype: DTypeLike) -> Iterable[Batch] | None:
    """Return the validation batches; None if there are none. Batches of a list are checked."""
    batches = data.validation(size, dtype)
    for batch in batches if isinstance(batches, list | tuple) else ():
        check_batch(batch)
    return batches


def training_loss(loss: str | Loss | None, data: Data, defaults: Mapping[str, Any]) -> Loss:
    """Return the loss of the call, of the task, or of the model."""
    loss = attribute(data, "loss") if loss is None else loss
    loss = defaults.get("loss") if loss is None else loss
    if loss is None:
        raise ValueError("loss must be passed for data without one, such as loss='squared_error'")
    return loss_function(loss)


def training_metrics(metrics: Any, data: Data, defaults: Mapping[str, Any]) -> dict[str, Metric]:
    """Return the metrics of the model, of the task, and of the call."""
    by_default = metric_functions(defaults.get("metrics", ()))
    return {**by_default, **metric_functions(attribute(data, "metrics", ())), **metric_functions(metrics)}


def training_optimizer(options: TrainingOptions, defaults: Mapping[str, Any]) -> Optimizer:
    """Return the optimiser."""
    optimizer: Optimizer = options.value("optimizer", defaults)
    if isinstance(optimizer, type) or not hasattr(optimizer, "init_state"):
        raise TypeError(f"optimizer must be an optimiser such as Adam(0.003), got {optimizer!r}")
    return optimizer


def training_schedule(options: TrainingOptions, defaults: Mapping[str, Any], updates: int | None) -> Schedule | None:
    """Return the schedule for this number of updates, if it is known; None for a constant learning rate."""
    schedule = options.value("schedule", defaults)
    if isinstance(schedule, str) and schedule in SCHEDULES:
        return SCHEDULES[schedule](updates) if updates else None
    if schedule is not None and not callable(schedule):
        raise TypeError(f"schedule must be a function such as schedules.linear(3000), got {schedule!r}")
    return schedule  # type: ignore[no-any-return] # callable


def _warmup_cosine(updates: int) -> Schedule:
    return warmup(max(1, updates // WARMUP_FRACTION), cosine(updates))


SCHEDULES: dict[str, Callable[[int], Schedule]] = {  # of the defaults of models
    "linear": linear,
    "cosine": cosine,
    "warmup_cosine": _warmup_cosine,
}


def check_scores(options: TrainingOptions, metrics: Iterable[str], *, has_validation: bool) -> None:
    """Raise an error for scores that evaluations do not have."""
    compared = bool(options.patience) or options.keep == "best"
    names = [("stop_at", name) for name in options.stop_at or ()] + [("monitor", options.monitor)] * compared
    if names and not has_validation:
        raise ValueError("validation must be passed for stop_at, patience and keep='best', got none")
    scores = ["loss", *metrics]
    for argument, name in names:
        if name not in scores:
            prefix = " without the prefix validation_," if str(name).removeprefix("validation_") in scores else ""
            raise ValueError(
                f"{argument} must name scores of the evaluation, {', '.join(scores)},{prefix} got {name!r}"
            )
    for name, value in (options.stop_at or {}).items():
        finite_number(f"stop_at[{name!r}]", value)


def expected_updates(
    data: Data, updates: int | None, epochs: int | None, options: TrainingOptions, batch_size: int
) -> int | None:
    """Return the number of updates that the limits on updates and epochs allow; None if unknown."""
    data = training_part(data)
    batches: int | None = getattr(data, "num_batches", None)
    if isinstance(data, ArrayData):
        batches = ceil(len(data) / batch_size)
    if epochs is None or options.tbptt_steps is not None or batches is None:
        return updates
    in_epochs = epochs * ceil(batches / options.accumulate)
    return in_epochs if updates is None else min(updates, in_epochs)


def is_endless(data: Data) -> bool:
    """Return whether the data have no epochs, because batches are generated."""
    return bool(attribute(data, "endless", False))
