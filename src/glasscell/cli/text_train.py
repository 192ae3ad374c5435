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
from glasscell.cli.interrupts import Interrupted, Interrupts
from glasscell.cli.run_folder import RunFolder
from glasscell.cli.sizes import check_layers, check_memory, training_bytes
from glasscell.cli.terminal import program_name
from glasscell.cli.text import DEFAULT_FOLDER
from glasscell.cli.training_run import reserve_space, written_files
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
from glasscell.validation import positive_integer

HISTORY_FILE = "history.csv"
FILES = {  # names of the files of a run, and predicates of their first bytes
    MODEL_FILE: KINDS[".safetensors"],
    HISTORY_FILE: lambda head: head.startswith(b"update,"),
}
SECONDS_BETWEEN_LINES = {True: 0.5, False: 15.0}  # of progress, on a terminal and elsewhere


def run(options: argparse.Namespace) -> int:
    """Train, write the best model whenever there is a better one, and print the scores."""
    _check(options)
    interrupts: Interrupts = options.interrupts
    out = None if options.out is None else Path(options.out)
    with RunFolder(out, Path(DEFAULT_FOLDER), FILES, overwrite=options.overwrite) as folder:
        keeper: ModelKeeper | None = None
        try:
            data, model = _make_training(options, folder)
            reserve_space(folder, model)
            print(data.description)
            print(f"{model}: {model.parameters.vector.size:,} weights", flush=True)
            keeper = ModelKeeper(model, data, folder, interrupts, options.epochs * data.num_batches)
            with interrupts.finishing():
                history = fit(model, data, callbacks=[keeper], **_training_options(options, data))
            keeper.finish(history)
            _show(model, data, history, keeper, folder.display_path)
        except KeyboardInterrupt:
            raise Interrupted(_kept(folder, keeper)) from None
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}; {_kept(folder, keeper)}") from None
    for failure in keeper.failures:
        print(f"glasscell: {failure}; the model is kept in {folder.display_path}", file=sys.stderr)
    if interrupts.finish:
        raise Interrupted(_kept(folder, keeper))
    return int(bool(keeper.failures))


def _check(options: argparse.Namespace) -> None:
    """Raise an error for numbers out of range, before the files are read."""
    for name in ("streams", "steps", "hidden_size", "num_layers", "epochs"):
        positive_integer(f"--{name.replace('_', '-')}", getattr(options, name))
    if options.embedding_size is None:
        options.embedding_size = options.hidden_size if options.tied else 64
    positive_integer("--embedding-size", options.embedding_size)
    if options.patience is not None and not options.validation_fraction:
        raise ValueError("--patience needs a validation part, got --validation-fraction 0")
    check_layers("--num-layers", options.num_layers)
    I, H, L = options.embedding_size, options.hidden_size, options.num_layers
    check_memory("this training", training_bytes(I, H, L, options.steps, options.streams))


def _make_training(options: argparse.Namespace, folder: RunFolder) -> tuple[TextData, LanguageModel]:
    data = TextData.from_files(
        options.files,
        options.unit,
        vocabulary_size=options.vocabulary_size,
        normalize=not options.keep_line_ends,
        folder=folder.stage.parent,  # not in the stage: on Windows a folder with an open file cannot be renamed
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
    folder : RunFolder
        Published with the first model that has been evaluated, or without validation part after the first epoch.
    interrupts : Interrupts
    updates : int
        Expected number of updates.

    Attributes
    ----------
    update : int
        Updates of the model in the folder; 0: none is there.
    failures : list of str
    """

    def __init__(
        self, model: LanguageModel, data: TextData, folder: RunFolder, interrupts: Interrupts, updates: int
    ) -> None:
        self._model, self._data, self._folder, self._interrupts = model, data, folder, interrupts
        self._updates = updates
        self._unit = data.vocabulary.unit.removesuffix("s")
        self._start = self._shown = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._losses: list[float] = []  # since the last line
        self.update = 0
        self.failures: list[str] = []

    def __call__(self, state: TrainingState) -> bool:
        """Write the model if it is the best one, and return whether the training ends."""
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
        return self._interrupts.finish

    def finish(self, history: History) -> None:
        """Write the model if none is in the folder, or it is another one, and the history."""
        kept = history.best_update or history.updates
        if self.update != kept or self.failures:
            self.failures = []
            self._write(kept, final=True)
        try:
            history.save(self._folder.folder / HISTORY_FILE)
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is kept
            self.failures.append(f"{HISTORY_FILE} could not be written: {error}")

    def _write(self, update: int, *, final: bool = False) -> None:
        """Write the model to the folder; an error ends the training at its end only."""
        folder = self._folder
        try:
            if folder.published:
                self._model.save(folder.folder / MODEL_FILE)
            else:
                (folder.stage / MODEL_FILE).unlink(missing_ok=True)  # the untrained model: its space is needed
                self._model.save(folder.stage / MODEL_FILE)
                folder.publish(replace=not self._interrupts.finish)
            self.update, self.failures = update, []
        except (OSError, ValueError) as error:
            if final and not folder.published:
                raise
            self.failures = [f"the model of update {update} could not be written: {error}"]

    def _line(self, row: dict[str, float], ending: str) -> None:
        mean = math.fsum(self._losses) / len(self._losses)
        width, seconds = len(str(self._updates)), time.monotonic() - self._start
        numbers = f"update {int(row['update']):>{width}} of {self._updates}   {seconds:5.0f} s"
        text = f"{numbers}   nats per {self._unit}: training {mean:.4f}{ending}"
        sys.stderr.write(f"\r{text}" if self._is_terminal else text)
        sys.stderr.flush()
        self._shown, self._losses = time.monotonic(), []


def _kept(folder: RunFolder, keeper: ModelKeeper | None) -> str:
    """Return which model is kept."""
    if keeper is None or not folder.published:
        return "nothing is kept"
    return f"the model of update {keeper.update} is kept in {folder.display_path}"


def _show(model: LanguageModel, data: TextData, history: History, keeper: ModelKeeper, folder: Path) -> None:
    """Print the scores of the model that is kept, and what can be done with it."""
    unit, loss = data.vocabulary.unit.removesuffix("s"), loss_function("categorical_cross_entropy")
    print(f"\n{history.updates} updates; the model of update {keeper.update} is kept.")
    for name in ("validation", "test"):
        part = data.parts.get(name)
        if part is not None:
            nats = evaluate(model, part, loss, {}, BufferPool())["loss"]
            print(f"{name}: {_scores(nats, unit)}")
    print(written_files(folder, FILES))
    command, quoted = program_name(), shlex.quote(str(folder))
    print(f"Sample it: {command} text sample {quoted}")
    print(f"Score a text: {command} text score {quoted} FILE")


def _scores(nats: float, unit: str) -> str:
    perplexity = math.exp(min(nats, 700.0))
    return f"{nats:.4f} nats per {unit}, {nats / math.log(2):.4f} bits, perplexity {perplexity:.4g}"
