"""How a run goes on: from which checkpoints, and with which command line.

The command line has another policy where the same one would fail again at the same update.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from glasscell.cli.run_files import CHECKPOINTS, checkpoint_folders, newest_checkpoint
from glasscell.cli.run_history import HISTORY_FILE
from glasscell.cli.run_manifest import Manifest
from glasscell.training.checkpoint_errors import CheckpointWarning
from glasscell.training.failures import DEFAULT_ADVICE
from glasscell.training.training_state import stored_ranks

if TYPE_CHECKING:
    from glasscell.training.checkpoint_files import StoredTraining

RESTORE = "restore_best_and_halve_lr"
ADVICE = {"text train": "; lower --learning-rate, or --clip-norm"}  # of commands that have more than the first one


def message_of(error: BaseException, command: str) -> str:
    """Return the message of an error of `fit` for a command: with its options, and without weights in memory."""
    text = re.sub(r"; the model has the weights [^;]*", "", str(error))
    text = text.replace("on_failure='skip'", "--on-failure skip")
    return text.replace(DEFAULT_ADVICE, ADVICE.get(command, "; lower --learning-rate"))


def failure_of_training(folder: Path) -> str:
    """Return type and message of the numerical failure that ended a training of the run; empty if none did."""
    from glasscell.training.checkpoint_files import read_manifest  # noqa: PLC0415 - only where it is used

    for checkpoints in checkpoint_folders(folder):
        manifest = read_manifest(checkpoints.parent)
        if manifest and manifest["state"] == "failed" and re.match("Training(Data)?Error:", manifest["reason"]):
            return str(manifest["reason"])
    return ""


def check_inputs(manifest: Manifest, checksums: Mapping[str, Mapping[str, int]]) -> None:
    """Raise ValueError if a file of data is another one than when the run began."""
    present = {Path(path).resolve(): found for path, found in checksums.items()}
    for path, expected in manifest.inputs.items():  # relative to the working directory in which the run began
        if present.get(Path(manifest.folder, path).resolve(), expected) != expected:
            raise ValueError(f"{path} must be the file with which the run began, got a changed one")


def starting_points(folder: Path, num_ranks: int | None = None) -> dict[int, str]:
    """Read the checkpoints from which the trainings of a run go on.

    Parameters
    ----------
    folder : Path
    num_ranks : int, optional
        Number of processes of the checkpoints. Default: any.

    Returns
    -------
    dict of int to str
        Numbers of the trainings that have a checkpoint, with words such as "after update 40".

    Raises
    ------
    ValueError
        If no training has a checkpoint, or one has damaged ones only, or those of another number of processes.
    """
    from glasscell.training.checkpoint_files import read_newest  # noqa: PLC0415 - only where it is used

    numbers = {training_number(path.parent, folder): path.parent for path in checkpoint_folders(folder)}
    points: dict[int, str] = {}
    for number, training in sorted(numbers.items()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CheckpointWarning)  # `fit` reads it again, and warns
                stored = read_newest(training)
        except ValueError as error:
            raise ValueError(f"--{error}; {_how_to_begin_again(training, folder, len(numbers))}") from None
        if stored is not None:
            if num_ranks is not None:
                _check_ranks(folder, stored, num_ranks)
            points[number] = f"after update {stored.updates}" if stored.updates else "from its beginning"
            if stored.updates != (newest := newest_checkpoint(training)):
                points[number] += f": the newest checkpoint, of update {newest}, is damaged"
    if not points:
        raise ValueError(f"{folder} has no checkpoint from which the run can go on")
    return points


def _check_ranks(folder: Path, stored: StoredTraining, num_ranks: int) -> None:
    """Raise ValueError if a checkpoint is that of another number of processes; one that is damaged is for `fit`."""
    try:
        before = stored_ranks(stored.state)
    except ValueError:
        return
    if before != num_ranks:
        processes = "1 process" if before == 1 else f"{before} processes (mpiexec -n {before})"
        raise ValueError(
            f"{folder} must go on with {processes}, as until now, got {num_ranks}: "
            "--change-ranks allows another number; results then agree to rounding only"
        )


def _how_to_begin_again(training: Path, folder: Path, trainings: int) -> str:
    """Return what to do about a training of which all checkpoints are damaged."""
    if trainings == 1:
        return "begin the run again, with --overwrite"
    removed = folder / CHECKPOINTS if training == folder else training
    return f"remove {removed}, and only this training begins again"


def first_kept(folder: Path) -> str:
    """Return what a training that failed before its first evaluation leaves."""
    if (folder / HISTORY_FILE).exists():
        return f"no model is kept, but history and first checkpoint are in {folder}"
    return f"no model is kept, but the first checkpoint is in {folder}"


def earlier_place(folder: Path, number: int, updates: int) -> str:
    """Return where a training of a run goes on, such as " from update 20"; "" if its last checkpoint was written."""
    update = newest_checkpoint(training_folder(folder, number))
    if update == updates:
        return ""
    place = f"update {update}" if update else "the beginning"
    return f" from {place} of training {number}" if number > 1 else f" from {place}"


def training_folder(folder: Path, number: int) -> Path:
    """Return the folder of a training of a run, in which its checkpoints are."""
    return folder if number == 1 else folder / f"training-{number}"


def training_number(training: Path, folder: Path) -> int:
    """Return the number of the training with this folder."""
    return 1 if training == folder else int(training.name.partition("-")[2])


def resume_words(command: str, folder: Path, shown: Path) -> list[str] | None:
    """Return the command line that continues a run, without the program; None if every policy would fail again.

    Parameters
    ----------
    command : str
    folder, shown : Path
        The folder of the run, and how it is written.
    """
    words = [*command.split(), "--resume", str(shown)]
    reason = failure_of_training(folder)
    if not reason:
        return words
    is_of_data = reason.startswith("TrainingDataError")
    if ("skipped before" if is_of_data else "was halved") in reason:  # that policy has reached its limit
        return None
    return [*words, "--on-failure", "skip" if is_of_data else RESTORE]
