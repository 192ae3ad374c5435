"""Implement ``glasscell runs``: list runs of training commands, finished or not."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasscell.cli.continuation import resume_words
from glasscell.cli.fit_runs import FitRun, is_fit_run
from glasscell.cli.outputs import path_argument
from glasscell.cli.resuming import SWEEP
from glasscell.cli.run_files import CHECKPOINTS, is_locked, newest_checkpoint
from glasscell.cli.run_history import HISTORY_FILE, last_and_best
from glasscell.cli.run_list import RunFacts, lines_of_run, state_of_run
from glasscell.cli.run_manifest import MANIFEST_FILE, Manifest, checksum, launcher_words, moment
from glasscell.cli.sweep_folder import rows_in
from glasscell.cli.terminal import program_name
from glasscell.escaping import escape
from glasscell.manifest_files import finite_or_none

if TYPE_CHECKING:
    from argparse import _SubParsersAction

DEFAULT_FOLDER = Path("runs")


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "runs",
        help="list runs of training commands and of fit",
        description="List runs: state, updates, duration, best score, command line, versions, and how those that were "
        "interrupted or killed go on.",
    )
    parser.add_argument(
        "folders",
        nargs="*",
        type=path_argument,
        metavar="FOLDER",
        help=f"the folder of a run, or a folder with such folders (default {DEFAULT_FOLDER})",
    )
    parser.add_argument("--json", action="store_true", help="write JSON: a list with an object for each run")
    parser.add_argument(
        "--check", action="store_true", help="compare all files with their checksums; exit status 1 if any differs"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List the runs, in order of their names."""
    runs: list[ListedRun | FitRun] = []
    for folder in options.folders or [DEFAULT_FOLDER]:
        if options.folders and not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        runs += [(FitRun if is_fit_run(path) else ListedRun).read(path) for path in run_folders(folder)]
    damaged = {listed.folder: listed.damaged_files() for listed in runs} if options.check else {}
    if options.json:
        entries = [listed.as_json() | ({"damaged": damaged[listed.folder]} if options.check else {}) for listed in runs]
        print(json.dumps(finite_or_none(entries), indent=1, allow_nan=False))
    elif not runs:
        print(f"No runs in {escape(', '.join(map(str, options.folders or [DEFAULT_FOLDER])))}.")
    else:
        print("\n\n".join("\n".join(listed.lines(damaged.get(listed.folder, []))) for listed in runs))
    return int(any(damaged.values()))


def run_folders(folder: Path) -> list[Path]:
    """Return the folder, if it is that of a run, or those in it that are, by name."""
    if folder.name == CHECKPOINTS and _is_run(folder.parent):
        return [folder.parent]
    if _is_run(folder):
        return [folder]
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.name[0] != "." and _is_run(path))


def _is_run(folder: Path) -> bool:
    return (folder / MANIFEST_FILE).is_file() or is_fit_run(folder)


@dataclass
class ListedRun:
    """A run in a list.

    Attributes
    ----------
    folder : Path
    state : str
        "running", "interrupted", "killed", "finished", "failed", or "unreadable".
    manifest : Manifest or None
        None: it cannot be read.
    updates : int
    seconds : float
    best : dict
        As in the manifest.
    checkpoint : int or None
        Updates of the newest checkpoint.
    message : str
        Error of a run that failed, or of a manifest that cannot be read.
    """

    folder: Path
    state: str
    manifest: Manifest | None
    updates: int = 0
    seconds: float = 0.0
    best: dict[str, Any] | None = None
    checkpoint: int | None = None
    message: str = ""

    @classmethod
    def read(cls, folder: Path) -> ListedRun:
        """Read the run in a folder."""
        try:
            manifest = Manifest.read(folder)
        except (OSError, ValueError) as error:
            return cls(folder, "unreadable", None, message=str(error))
        is_running = is_locked(folder)
        state = state_of_run(manifest.state, is_running=is_running)
        seconds = manifest.elapsed(folder, is_running=is_running)
        updates, best = manifest.updates, manifest.best
        if manifest.command.startswith(SWEEP):
            updates = rows_in(folder)
        elif state in ("running", "killed"):
            updates, best = last_and_best(folder / HISTORY_FILE)
        checkpoint = None if state == "finished" else newest_checkpoint(folder)
        updates = max(updates, checkpoint or 0)  # the history is written every second
        return cls(folder, state, manifest, updates, seconds, best or None, checkpoint, manifest.message or "")

    def damaged_files(self) -> list[str]:
        """Return the names of files that are missing, or are not those that were written."""
        damaged = []
        for name, expected in ({} if self.manifest is None else self.manifest.files).items():
            file = self.folder / Path(name).name
            try:
                is_damaged = checksum(file) != expected
            except OSError:
                is_damaged = True
            damaged += [name] * is_damaged
        return damaged

    @property
    def resume_command(self) -> str | None:
        """Command line that continues the run; None if it is in progress, finished, or has no checkpoint."""
        if self.manifest is None or self.state in ("running", "finished"):
            return None
        if self.manifest.command.startswith(SWEEP):
            return shlex.join([*self.manifest.command.split(), "--resume", str(self.folder)])
        if self.checkpoint is None:
            return None
        words = resume_words(self.manifest.command, self.folder, self.folder)
        return None if words is None else shlex.join(words)

    def as_json(self) -> dict[str, Any]:
        """Return the entries of the run as JSON."""
        manifest = self.manifest
        entry: dict[str, Any] = {"folder": str(self.folder), "state": self.state}
        if manifest is not None:
            entry |= {"command": manifest.command, "arguments": manifest.arguments, "updates": self.updates}
            entry |= {"best": self.best, "seconds": round(self.seconds, 3), "started": moment(manifest.started)}
            entry |= {"versions": manifest.versions, "checkpoint": self.checkpoint, "resume": self.resume_command}
        return entry | {"message": self.message or None}

    def lines(self, damaged: list[str]) -> list[str]:
        """Return the run as lines of text."""
        facts, manifest = None, self.manifest
        if manifest is not None:
            resume = self.resume_command
            is_sweep = manifest.command.startswith(SWEEP)
            goes_on = (
                None if resume is None else " ".join([*launcher_words(manifest.num_ranks), program_name(), resume])
            )
            facts = RunFacts(
                manifest.command_line,
                self.updates,
                self.seconds,
                self.best,
                moment(manifest.started),
                manifest.versions,
                goes_on if goes_on is None or is_sweep else f"{self.checkpoint}: {goes_on}",
                "run" if is_sweep else "update",
            )
        return lines_of_run(self.folder, self.state, self.message, facts, damaged)
