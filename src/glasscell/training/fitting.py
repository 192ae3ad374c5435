"""Train a model with one call."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from glasscell.atomic_files import StrPath
from glasscell.core.optimizers import Optimizer
from glasscell.data.metrics import Loss, Metric
from glasscell.layers import Seed
from glasscell.layers.recurrent_layer import RecurrentLayer
from glasscell.models.protocol import Trainable
from glasscell.training.arguments import OnFailure, TrainingData, TrainingOptions
from glasscell.training.callbacks import Callback
from glasscell.training.divergence import FACTOR
from glasscell.training.history import History
from glasscell.training.loop import Training
from glasscell.training.schedules import Schedule


def fit(
    model: Trainable | RecurrentLayer,
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
    on_failure: OnFailure = "raise",
    divergence_factor: float | None = FACTOR,
    progress: bool = False,
    checkpoint: StrPath | None = None,
    checkpoint_every: int | None = None,
    keep_checkpoints: int = 2,
    resume: bool | StrPath = False,
    seed: Seed = 0,
    comm: Any = None,
    change_ranks: bool = False,
    compare_ranks_every: int | None = 100,
) -> History:
    """Train a model, in place.

    Parameters
    ----------
    model : Trainable
        A Sequential, an LSTM, RNN or GRU, a CopyLSTM, or any model with the methods of
        :class:`glasscell.models.protocol.Trainable`.
    data : Task, Data, (x, y) or (x, y, lengths), or iterable of these
        A task such as ``tasks.Copy``; arrays or lists of sequences, see :class:`glasscell.data.ArrayData`; or batches
        from anything that can be iterated once per epoch, such as a PyTorch DataLoader.
    updates : int, optional
        Largest number of updates. Default: that of the model or, with `epochs`, no limit. With both, the first
        limit ends the training.
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
        Batches, or windows, whose gradients are averaged for one update; fewer for the last update of an epoch if
        their number is not divisible.
    trainable : sequence of str, optional
        Names of parameters to train, ``*`` for anything; all others are frozen. Default: all are trained. An array that
        is shared by ties has several names, of which one is enough.
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
        Updates between evaluations. Default: that of the model, or one evaluation per epoch; 25 for endless data. The
        last update is always evaluated.
    callbacks : sequence of callables
        Called with a :class:`TrainingState` after every update. Must return True (ends the training), False or
        None; anything else is a TypeError, so that a returned loss does not end the training.
    on_failure : "raise", "skip" or "restore_best_and_halve_lr"
        After a loss, gradient or weight that is not finite, or divergence: raise an error; skip the update, and raise
        after 10 in succession, or more than a tenth of all; or restore the best weights, with a new optimiser state and
        half the learning rate, and raise after 10 times. Inputs and targets that are not finite can be skipped only,
        divergence cannot be skipped.
    divergence_factor : float or None
        The training has diverged after about 100 updates with a loss above the first one, and above this many times the
        best mean of 100 updates; or after 10 with a loss above 100 times as much of the first one: see
        :class:`glasscell.training.divergence.LossWatch`. None: only numbers that are not finite are failures.
    progress : bool
        Show progress on standard error: a bar on a terminal, if tqdm is installed; otherwise lines.
    checkpoint : path, optional
        Folder of the run, whose folder ``checkpoints`` gets the state of the training: before the first update, during
        the training and at its end; see docs/checkpoints.md. Default: no checkpoints.
    checkpoint_every : int, optional
        Updates between checkpoints. Default: a checkpoint at evaluations, at most so often that they take 1 % of the
        time, and at least every ten minutes.
    keep_checkpoints : int
        Number of checkpoints to keep; the one with the best monitored score is kept in addition.
    resume : bool or path
        Go on from the newest complete checkpoint: of `checkpoint`, if True, or of the folder of another run. Model,
        data and options must be those of that run, except the limits `updates` and `epochs`. Weights and history end
        with the same bits as without an interruption.
    seed : int or numpy.random.Generator
        For batches, dropout and zoneout; evaluations draw nothing.
    comm : communicator of mpi4py, optional
        Train with all its processes, such as MPI.COMM_WORLD: each makes this call with the same arguments, and computes
        its share of every batch; see docs/parallel.md. Default: this process alone.
    change_ranks : bool
        Whether `resume` may go on with another number of processes than the checkpoint has; results then agree to
        rounding only.
    compare_ranks_every : int or None
        Updates between comparisons of the weights of all processes; None: only at checkpoints, and at the end.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        An argument out of range, or arguments that do not fit together.
    FileNotFoundError, FileExistsError, BlockingIOError
        If `resume` finds no checkpoint, `checkpoint` has those of a run that does not go on, or another process uses
        it.
    CheckpointError
        An OSError, at the end: the last checkpoint could not be written. The model is trained.
    TrainingError
        A FloatingPointError: loss, gradient or weights stop being finite, or the training diverges; the update is not
        made. :attr:`glasscell.training.TrainingError.history` has the updates before. An error of the data is a
        ValueError, too.
    RankError
        A RuntimeError: another process of `comm` has failed, or the processes differ.

    Notes
    -----
    After a TrainingError the weights are the best of the evaluations, if there were any; otherwise those of the last
    whole update or, after divergence, those with the best mean loss. After any other error, and after Ctrl-C, they are
    those of the last whole update. With `checkpoint`, Ctrl-C ends the training after the update and its checkpoint; a
    second Ctrl-C ends it at once.

    If Numba is installed and faster for the recurrent layers, its threads run the whole update, the products of other
    layers, the loss and the optimiser included, and the evaluations. NumPy's BLAS has one thread meanwhile: its waiting
    threads would occupy the cores.

    Any other small model, of at most 2²¹ multiplications per step (weights times sequences), is trained with one thread
    of NumPy's BLAS, callbacks included: its products are too small to be divided, and on a busy machine a divided one
    takes ten times as long or more. Afterwards BLAS has as many threads as before.

    Examples
    --------
    >>> import numpy as np
    >>> import glasscell as gc
    >>> from glasscell.layers import FinalState
    >>> x, y = np.random.default_rng(0).normal(size=(64, 10, 3)), np.arange(64) % 2
    >>> model = gc.Sequential([gc.LSTM(3, 8), FinalState(), gc.Linear(8, 2)])
    >>> history = gc.fit(model, (x, y), loss="categorical_cross_entropy", metrics=["accuracy"], epochs=2)
    >>> history.updates
    4
    """
    arguments: dict[str, Any] = {
        "updates": updates,
        "epochs": epochs,
        "loss": loss,
        "metrics": metrics,
        "validation": validation,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "schedule": schedule,
        "clip_norm": clip_norm,
        "clip_value": clip_value,
        "tbptt_steps": tbptt_steps,
        "accumulate": accumulate,
        "trainable": trainable,
        "learning_rates": learning_rates,
        "stop_at": stop_at,
        "monitor": monitor,
        "patience": patience,
        "keep": keep,
        "evaluate_every": evaluate_every,
        "callbacks": callbacks,
        "on_failure": on_failure,
        "divergence_factor": divergence_factor,
        "progress": progress,
        "checkpoint": checkpoint,
        "checkpoint_every": checkpoint_every,
        "keep_checkpoints": keep_checkpoints,
        "resume": resume,
        "seed": seed,
        "comm": comm,
        "change_ranks": change_ranks,
        "compare_ranks_every": compare_ranks_every,
    }
    if comm is None:
        return Training(model, data, TrainingOptions(**arguments)).run()
    from glasscell.training.parallel.training import fit_on_ranks  # noqa: PLC0415 - only where it is used

    return fit_on_ranks(model, data, arguments)
