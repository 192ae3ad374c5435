"""Implement ``glasscell text train``: train a language model on text files, and keep the best one."""

import argparse
import math
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from glasscell.atomic_files import KINDS
from glasscell.checkpoint import MODEL_FILE
from glasscell.cli.run_history import HISTORY_FILE
from glasscell.cli.sizes import check_layers, check_memory, training_bytes
from glasscell.cli.terminal import counted, program_name
from glasscell.cli.text import DEFAULT_FOLDER
from glasscell.cli.training_run import TrainingRun
from glasscell.core.buffers import BufferPool
from glasscell.core.optimizers import Adam
from glasscell.data.metrics import loss_function
from glasscell.data.text.text_data import TextData
from glasscell.models.language_model import LanguageModel
from glasscell.training import schedules
from glasscell.training.callbacks import TrainingState
from glasscell.training.evaluation import evaluate
from glasscell.training.fitting import fit
from glasscell.training.history import History
from glasscell.validation import positive_integer, positive_number

FILES = {  # names of the files of a run, and predicates of their first bytes
    MODEL_FILE: KINDS[".safetensors"],
    HISTORY_FILE: lambda head: head.startswith(b"update,"),
}
SECONDS_BETWEEN_LINES = {True: 0.5, False: 15.0}  # of progress, on a terminal and elsewhere


def run(options: argparse.Namespace) -> int:
    """Train, write the best model whenever there is a better one, and print the scores."""
    _check(options)
    with TrainingRun(options, FILES, Path(DEFAULT_FOLDER), options.files) as training_run:
        data, model = _make_training(options, training_run.folder.folder.parent)
        training_run.reserve_space(model)
        print(data.description)
        print(f"{model}: {model.parameters.vector.size:,} weights", flush=True)
        keeper = ModelKeeper(model, data, training_run, options.epochs * data.num_batches)
        arguments = _training_options(options, data)
        history = training_run.train(fit, model, data, callbacks=[keeper], **arguments)
        keeper.finish(history)
        _show(model, data, history, keeper, training_run)
        return training_run.end()


def _check(options: argparse.Namespace) -> None:
    """Raise an error for numbers out of range, before the files are read."""
    for name in ("streams", "steps", "hidden_size", "num_layers", "epochs"):
        positive_integer(f"--{name.replace('_', '-')}", getattr(options, name))
    if options.embedding_size is None:
        options.embedding_size = options.hidden_size if options.tied else 64
    positive_integer("--embedding-size", options.embedding_size)
    for name in ("evaluate_every", "patience"):
        if getattr(options, name) is not None:
            positive_integer(f"--{name.replace('_', '-')}", getattr(options, name))
    positive_number("--learning-rate", options.learning_rate)
    positive_number("--clip-norm", options.clip_norm)
    if options.patience is not None and not options.validation_fraction:
        raise ValueError("--patience needs a validation part, got --validation-fraction 0")
    check_layers("--num-layers", options.num_layers)
    I, H, L = options.embedding_size, options.hidden_size, options.num_layers
    check_memory("this training", training_bytes(I, H, L, options.steps, options.streams))


def _make_training(options: argparse.Namespace, folder: Path) -> tuple[TextData, LanguageModel]:
    """Return data and model. The ids of a large text are in a file in `folder`."""
    ranks = getattr(options, "ranks", None)
    data = (TextData.from_files if ranks is None else ranks.read_text)(
        options.files,
        options.unit,
        vocabulary_size=options.vocabulary_size,
        normalize=not options.keep_line_ends,
        folder=folder,
        steps=options.steps,
        streams=options.streams,
        split=options.split,
        validation=options.validation_fraction,
        test=options.test_fraction,
    )
    model = LanguageModel(
        data.vocabulary,
        options.embedding_size,
        options.hidden_size,
        options.num_layers,
        dropout=options.dropout,
        tied=options.tied,
        seed=options.seed,
    )
    V, steps = len(data.vocabulary), options.steps * options.streams
    check_memory("this training", 4 * (3 * V * steps + 4 * model.parameters.vector.size))
    return data, model


def _training_options(options: argparse.Namespace, data: TextData) -> dict[str, Any]:
    """Return the arguments of `fit`."""
    updates = options.epochs * data.num_batches
    schedule = {
        "cosine": schedules.cosine(updates),
        "linear": schedules.linear(updates),
        "constant": schedules.constant(),
    }[options.schedule]
    return {
        "epochs": options.epochs,
        "optimizer": Adam(options.learning_rate),
        "schedule": schedule,
        "clip_norm": options.clip_norm,
        "evaluate_every": options.evaluate_every,
        "patience": options.patience,
        "keep": "best" if options.validation_fraction else "last",
        "seed": options.seed,
    }


class ModelKeeper:
    """Callback that writes the best model, reports progress, and ends the training after an interrupt.

    Parameters
    ----------
    model : LanguageModel
    data : TextData
    training_run : TrainingRun
        Gets the first model that has been evaluated, or without validation part that of the first epoch.
    updates : int
        Expected number of updates.

    Attributes
    ----------
    update : int
        Updates of the model in the folder; 0: none is there.
    """

    def __init__(self, model: LanguageModel, data: TextData, training_run: TrainingRun, updates: int) -> None:
        self._model, self._data, self._run = model, data, training_run
        self._updates = updates
        self._unit = data.vocabulary.unit.removesuffix("s")
        self._start = self._shown = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._losses: list[float] = []  # since the last line
        self.update = 0

    def __call__(self, state: TrainingState) -> None:
        """Write the model if it is the best one."""
        history = state.history
        row, updates = history.rows[-1], history.updates
        self._losses.append(row["loss"])
        loss = row.get("validation_loss")
        is_best = history.best_update == updates
        if is_best or (self._data.parts.get("validation") is None and updates % self._data.num_batches == 0):
            self._write(updates)
        if loss is not None:
            self._line(row, f"   validation {loss:.4f}{'   best so far' if is_best else ''}\n")
        elif time.monotonic() - self._shown > SECONDS_BETWEEN_LINES[self._is_terminal]:
            self._line(row, "" if self._is_terminal else "\n")

    def finish(self, history: History) -> None:
        """Write the model if none is in the folder, or it is another one, and the history."""
        error = self._run.error
        kept = history.best_update or (history.updates if error is None else error.model_update)
        if self.update != kept:
            self._run.save_model(self._model, f"the model of update {kept}")
            self.update = kept
        self._run.write_history(history)

    def _write(self, update: int) -> None:
        """Write the model to the folder; after an error the training goes on, and the model is written at its end."""
        folder = self._run.folder
        folder.release_space()  # it was reserved for the model
        try:
            self._model.save(folder.folder / MODEL_FILE)
        except (OSError, ValueError) as error:
            self.update = 0
            print(f"\nglasscell: the model of update {update} could not be written: {error}", file=sys.stderr)
        else:
            self.update, self._run.kept = update, f"the model of update {update}"

    def _line(self, row: dict[str, float], ending: str) -> None:
        mean = math.fsum(self._losses) / len(self._losses)
        width, seconds = len(str(self._updates)), time.monotonic() - self._start
        numbers = f"update {int(row['update']):>{width}} of {self._updates}   {seconds:5.0f} s"
        text = f"{numbers}   nats per {self._unit}: training {mean:.4f}{ending}"
        sys.stderr.write(f"\r{text}" if self._is_terminal else text)
        sys.stderr.flush()
        self._shown, self._losses = time.monotonic(), []


def _show(
    model: LanguageModel, data: TextData, history: History, keeper: ModelKeeper, training_run: TrainingRun
) -> None:
    """Print the scores of the model that is kept, and what can be done with it."""
    unit, loss = data.vocabulary.unit.removesuffix("s"), loss_function("categorical_cross_entropy")
    print(f"\n{counted(history.updates, 'update')}; the model of update {keeper.update} is kept.")
    for name in ("validation", "test"):
        part = data.parts.get(name)
        if part is not None:
            nats = evaluate(model, part, loss, {}, BufferPool())["loss"]
            print(f"{name}: {_scores(nats, unit)}")
    print(training_run.finish())
    command, quoted = program_name(), shlex.quote(str(training_run.folder.display_path))
    print(f"Sample it: {command} text sample {quoted}")
    print(f"Score a text: {command} text score {quoted} FILE")


def _scores(nats: float, unit: str) -> str:
    perplexity = math.exp(min(nats, 700.0))
    return f"{nats:.4f} nats per {unit}, {nats / math.log(2):.4f} bits, perplexity {perplexity:.4g}"
