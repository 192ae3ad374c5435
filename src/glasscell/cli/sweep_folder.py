"""Folder of a sweep of the command line: rows, tables, plot and models."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from glasscell.atomic_files import KINDS
from glasscell.cli.run_files import Kinds
from glasscell.cli.run_folder import RunFolder
from glasscell.sweeps.grid import Grid
from glasscell.sweeps.row_file import BEGINNING, ROWS_FILE, count_rows, parse

TABLE_FILE, CSV_FILE, PICTURE_FILE = "table.md", "table.csv", "plot.png"
MODEL = re.compile(r"model-[0-9]{1,9}\.safetensors")  # names of the files of models
WORK_FOLDER = ".runs"  # of the runs in progress
FILES = {  # names of the files of a sweep, and predicates of their first bytes
    ROWS_FILE: lambda head: head.startswith(BEGINNING),
    TABLE_FILE: lambda head: head.startswith(b"| "),
    CSV_FILE: KINDS[".csv"],
    PICTURE_FILE: KINDS[".png"],
}


def model_files(grid: dict[str, list[Any]], seeds: Sequence[int], folder: Path | None = None) -> dict[str, str]:
    """Return the names of the files of models, by the key of the run.

    Parameters
    ----------
    grid : dict of str to list
    seeds : sequence of int
    folder : Path, optional
        Of a sweep that goes on, and may have had fewer runs: its models keep their names.

    Raises
    ------
    ValueError
        If its rows are damaged.
    """
    runs = Grid("", tuple(seeds), {name: tuple(values) for name, values in grid.items()}).runs
    present = {} if folder is None else _models_in(folder / ROWS_FILE)
    digits, used = len(str(len(runs))), {*map(_number, present.values())}
    free = (number for number in itertools.count(1) if number not in used)
    return {key: present.get(key) or f"model-{next(free):0{digits}}.safetensors" for key in runs}


def _models_in(file: Path) -> dict[str, str]:
    """Return the names of the models of the rows in a file, by the key of the run."""
    if not file.is_file():
        return {}
    found = {key: row["scores"].get("model") for key, row in parse(file.read_bytes(), file).rows.items()}
    return {key: name for key, name in found.items() if isinstance(name, str) and MODEL.fullmatch(name)}


def _number(name: str) -> int:
    return int(name.partition("-")[2].partition(".")[0])


def kinds_of(models: Sequence[str]) -> Kinds:
    """Return the names of all files of a sweep, with predicates of their first bytes."""
    return FILES | dict.fromkeys(models, KINDS[".safetensors"])


def rows_in(folder: Path) -> int:
    """Return the number of rows in the folder of a sweep."""
    with suppress(OSError):
        return count_rows(folder / ROWS_FILE)
    return 0


class SweepFolder(RunFolder):
    """The folder of a sweep; it is kept if it has a row."""

    @property
    def keeps_something(self) -> bool:
        """Whether the folder has a row."""
        return self.rows > 0

    @property
    def rows(self) -> int:
        """Number of rows in the folder."""
        return rows_in(self.folder)

    def make_work_folder(self) -> Path:
        """Make an empty folder for the runs in progress; remove what a killed sweep left in it."""
        self.remove_work_folder()
        work = self.folder / WORK_FOLDER
        work.mkdir()
        return work

    def remove_work_folder(self) -> None:
        """Remove the folder for the runs in progress, if it is there."""
        work = self.folder / WORK_FOLDER
        if not work.is_symlink():
            shutil.rmtree(work, ignore_errors=True)

    def _occupied(self, folder: Path, names: list[str]) -> str:
        if self._is_unfinished(folder) and ROWS_FILE in names:
            return f"{folder} contains an unfinished sweep: --resume {folder} continues it, --overwrite replaces it"
        return super()._occupied(folder, names)
