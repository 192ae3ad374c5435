"""Files of a training command: the model is written before anything optional, and failures are noted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glasscell.atomic_files import write_atomically
from glasscell.checkpoint import MODEL_FILE
from glasscell.cli.interrupts import Interrupts
from glasscell.cli.outputs import error_reason
from glasscell.cli.run_folder import RunFolder
from glasscell.cli.run_history import HISTORY_FILE
from glasscell.cli.terminal import counted
from glasscell.training.failures import TrainingError
from glasscell.training.history import History


class RunOutput:
    """The files that a run of a training command writes.

    Attributes
    ----------
    folder : RunFolder
    interrupts : Interrupts
    failures : list of str
        What could not be written, and why.
    kept : str
        The model that is in the folder, such as "the model of 7 updates"; empty: none of this run.
    error : TrainingError or None
        The error that ended the training.
    """

    folder: RunFolder

    def __init__(self, interrupts: Interrupts) -> None:
        self.interrupts = interrupts
        self.failures: list[str] = []
        self.kept = ""
        self.error: TrainingError | None = None
        self._failed_number = 0  # of the training that the error ended

    def save_model(self, model: Any, description: str) -> None:
        """Write the model to the folder or, if that fails, to another one, which is printed."""
        reason = self.folder.save(model.save, MODEL_FILE)
        self.kept = description
        if reason is not None:
            print(f"glasscell: {reason}; {self.kept} is kept in {self.folder.display_path}", file=sys.stderr)

    def save(self, model: Any, history: History, others: Mapping[str, Callable[[Path], object]]) -> None:
        """Write the model, and the other files of a run if possible.

        Parameters
        ----------
        model : model
        history : History
        others : mapping of str to callable
            Names of the other files, with functions that write one of a path.
        """
        updates = counted(history.updates, "update")
        if self.error is not None and self._failed_number == 1:
            updates = f"update {self.error.model_update}"
        self.save_model(model, f"the model of {updates}")
        self.write_history(history)
        for name, write in others.items():
            self._try(name, write)

    def write_history(self, history: History) -> None:
        """Write the history if possible."""
        self._try(HISTORY_FILE, history.save)

    def write_results(self, contents: Mapping[str, Callable[[], bytes]]) -> None:
        """Write further files, each if possible."""
        for name, make in contents.items():
            self._try(name, lambda file, make=make: write_atomically(file, make(), (file.suffix,)))  # type: ignore[misc]

    def _try(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file, and note why it could not be written."""
        try:
            write(self.folder.folder / name)
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is kept
            self.interrupts.check()
            self.failures.append(f"{name} could not be written: {error_reason(error)}")

    def finish(self) -> str:
        """Complete the folder, unless the run was interrupted; return a line that lists its files."""
        folder = self.folder
        self.interrupts.check()
        try:
            if self.interrupts.finish:
                folder.end("interrupted")
            elif self.error is not None:
                folder.end("failed", self.error)
            else:
                folder.finish()
        except (OSError, ValueError) as error:
            self.failures.append(error_reason(error))
        names = [name for name in folder.kinds if name != "manifest.json" and (folder.folder / name).exists()]
        return f"Written to {folder.display_path}: {', '.join(names)}"
