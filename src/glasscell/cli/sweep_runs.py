"""A run of ``glasscell sweep``: the training command with one setting and seed, in a temporary folder."""

from __future__ import annotations

import argparse
import csv
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from glasscell.checkpoint import MODEL_FILE
from glasscell.cli.interrupts import Interrupts
from glasscell.cli.run_history import HISTORY_FILE
from glasscell.cli.run_manifest import Manifest
from glasscell.cli.sweep_options import TRAININGS, words_of
from glasscell.cli.training_run import CheckPassed
from glasscell.sweeps.rows import key_of
from glasscell.training.history import History


class CommandRun:
    """The training function of a sweep: runs a command, and returns its scores and history.

    Parameters
    ----------
    name : str
        Of a sweep, such as "text".
    arguments : sequence of str
        The same in all runs.
    models : mapping of str to Path
        Files of the models of runs, by key. Empty: no model is kept.
    work : Path
        Folder of the folders of runs in progress.
    """

    def __init__(self, name: str, arguments: Sequence[str], models: Mapping[str, Path], work: Path) -> None:
        self.name, self.arguments, self.models, self.work = name, tuple(arguments), dict(models), work

    def __call__(self, seed: int, **setting: Any) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=self.work) as temporary:
            folder = Path(temporary, "run")
            run_command(self.name, [*words_of(setting), f"--seed={seed}", *self.arguments], folder)
            manifest = Manifest.read(folder)
            if manifest.state == "failed":
                raise RuntimeError(manifest.message or "the training failed")
            scores = _scores(self.name, folder)
            if model := self.models.get(key_of(setting, seed)):
                _publish(folder / MODEL_FILE, model)
                scores["model"] = model.name
        return scores


def check_command(name: str, arguments: Sequence[str]) -> None:
    """Raise the errors that a command raises before its training."""
    with tempfile.TemporaryDirectory(prefix="glasscell-sweep-") as temporary, suppress(CheckPassed):
        run_command(name, arguments, Path(temporary, "run"), check_only=True)


def run_command(name: str, arguments: Sequence[str], folder: Path, *, check_only: bool = False) -> None:
    """Run a training command without output.

    Raises
    ------
    ValueError
        For a mistake in the arguments, and all errors of the command.
    """
    from glasscell.cli.command_line import parser  # noqa: PLC0415 - it imports the module of this one

    words = [*TRAININGS[name].split(), f"--out={folder}", "--no-checkpoints", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            options: argparse.Namespace = parser(words).parse_args(words)
        except SystemExit:
            raise ValueError(err.getvalue().removeprefix("glasscell: ").strip()) from None
        options.interrupts, options.check_only = Interrupts(process=False), check_only
        options.run(options)


def _scores(name: str, folder: Path) -> dict[str, Any]:
    """Return the scores of a finished run, and its history."""
    history = _read_history(folder / HISTORY_FILE)
    last: dict[str, float] = {}
    for row in history.rows:
        last |= row
    kept = {score: value for score, value in last.items() if score == "loss" or score.startswith("validation_")}
    best = Manifest.read(folder).best
    if name == "text" and best.get("score") == "validation_loss":
        kept["validation_loss"] = best["value"]  # of the model that is kept
    scores: dict[str, Any] = {"updates": history.updates, **kept, "history": history}
    if name == "classify":
        scores["accuracy"] = json.loads((folder / "scores.json").read_text("utf-8"))["accuracy"]
    if name == "forecast" and (folder / "evaluation.csv").is_file():
        with (folder / "evaluation.csv").open(newline="", encoding="utf-8") as file:
            found = next(line for line in csv.DictReader(file) if line["method"] == "LSTM")
        scores |= {score: float(found[score]) for score in ("mase", "mae", "coverage", "width") if found[score]}
    return scores


def _read_history(file: Path) -> History:
    with file.open(newline="", encoding="utf-8") as opened:
        read: list[dict[str, str]] = list(csv.DictReader(opened))
    rows: list[dict[str, float]] = [{name: float(value) for name, value in row.items() if value} for row in read]
    return History(rows)


def _publish(model: Path, target: Path) -> None:
    """Copy a model into the folder of the sweep."""
    from glasscell.atomic_files import write_atomically  # noqa: PLC0415

    write_atomically(target, model.read_bytes(), (".safetensors",))
