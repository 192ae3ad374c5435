"""How a run goes on: its command line, with another policy where the same one would fail again at the same update."""

from __future__ import annotations

import re
from pathlib import Path

from glasscell.cli.run_files import checkpoint_folders

RESTORE = "restore_best_and_halve_lr"


def message_of(error: BaseException) -> str:
    """Return the message of an error of `fit` for a command: with options for arguments, without weights in memory."""
    text = re.sub(r"; the model has the weights [^;]*", "", str(error))
    return text.replace("on_failure='skip'", "--on-failure skip")


def failure_of_training(folder: Path) -> str:
    """Return type and message of the numerical failure that ended a training of the run; empty if none did."""
    from glasscell.training.checkpoint_files import read_manifest  # noqa: PLC0415 - only where it is used

    for checkpoints in checkpoint_folders(folder):
        manifest = read_manifest(checkpoints.parent)
        if manifest and manifest["state"] == "failed" and re.match("Training(Data)?Error:", manifest["reason"]):
            return str(manifest["reason"])
    return ""


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
