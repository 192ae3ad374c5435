"""Manifest of a run folder: what was run, in which state it is, and which files belong to it, with checksums.

The manifest is written when the run begins, with the state "running", and again when it ends, after all other files.
A run whose manifest says "running", but whose folder no process has locked, was killed.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from glasscell.atomic_files import sync_folder, write_atomically
from glasscell.manifest_files import decode_floats, encode_json, parse_manifest, size_and_checksum

MANIFEST_FILE = "manifest.json"
MARK, FORMAT = "glasscell_run", 1  # the first entry, by which a manifest is recognised
MAX_BYTES = 1 << 24
MAX_INTEGER = 1 << 63  # larger ones are no numbers of a run, and may not be converted to float
State: TypeAlias = Literal["running", "interrupted", "finished", "failed"]
STATES = ("running", "interrupted", "finished", "failed")


def is_manifest(head: bytes) -> bool:
    """Return whether a file with these first bytes is the manifest of a run."""
    return head.removeprefix(b"{").lstrip().startswith(f'"{MARK}"'.encode())


def versions_in_use() -> dict[str, str]:
    """Return the versions of the library, NumPy and Python, and of Numba if it is used."""
    import sys  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    from glasscell import __version__  # noqa: PLC0415

    found = {"glasscell": __version__, "numpy": np.__version__, "python": platform.python_version()}
    numba = sys.modules.get("numba")
    return found if numba is None else {**found, "numba": str(numba.__version__)}


def process_of_run(num_ranks: int) -> dict[str, Any]:
    """Return the entry of this process, which runs a command, with that of further ones or without."""
    process: dict[str, Any] = {"id": os.getpid(), "host": socket.gethostname()}
    return process if num_ranks == 1 else {**process, "ranks": num_ranks}


@dataclass
class Manifest:
    """What is known about a run.

    Attributes
    ----------
    command : str
        Such as "text train".
    arguments : list of str
        Command line after the command.
    folder : str
        Working directory, to which paths among the arguments are relative.
    state : {"running", "interrupted", "finished", "failed"}
    started, continued : float
        Seconds since 1970 when the run began, and when it was last continued.
    seconds : float
        Duration of the run until it was last continued; of a run that has ended, of all of it.
    updates : int
    best : dict
        "score", "value" and "update" of the best evaluation, or of the last update if nothing was evaluated.
    versions : dict of str to str
    process : dict
        "id" and "host" of the process; "ranks", the number of processes, if there are several.
    inputs : dict of str to dict
        "bytes" and "crc32" of each file of data.
    replaces : str, optional
        Folder of an earlier run that this one replaces once it is finished.
    message : str, optional
        Error of a run that failed.
    files : dict of str to dict
        "bytes" and "crc32" of each file, once the run has ended.
    """

    command: str
    arguments: list[str]
    folder: str = field(default_factory=os.getcwd)
    state: State = "running"
    started: float = field(default_factory=time.time)
    continued: float = field(default_factory=time.time)
    seconds: float = 0.0
    updates: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions_in_use)
    process: dict[str, Any] = field(default_factory=lambda: process_of_run(1))
    inputs: dict[str, dict[str, int]] = field(default_factory=dict)
    replaces: str | None = None
    message: str | None = None
    files: dict[str, dict[str, int]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the manifest of a folder; see :func:`glasscell.atomic_files.write_atomically`."""
        content = {MARK: FORMAT, **asdict(self)}
        write_atomically(folder / MANIFEST_FILE, encode_json(content), (".json",))
        sync_folder(folder)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a folder.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it is damaged, of a newer format, or of something else.
        """
        file = folder / MANIFEST_FILE
        if not file.is_file():
            raise FileNotFoundError(f"there is no run in {folder}: it has no {MANIFEST_FILE}")
        with file.open("rb") as opened:
            text = opened.read(MAX_BYTES)
        try:
            content = decode_floats(parse_manifest(text))
        except ValueError:
            content = None
        if not isinstance(content, dict) or MARK not in content:
            raise ValueError(f"{file} must be the manifest of a run, got another or a damaged file")
        if content.pop(MARK) != FORMAT:
            raise ValueError(f"{file} must be in format {FORMAT}, which this version reads, got another one")
        declared = {entry.name: str(entry.type) for entry in fields(cls)}
        if content.keys() != declared.keys() or not all(
            isinstance(value, TYPES[declared[name]]) for name, value in content.items()
        ):
            raise ValueError(f"{file} must have the entries of a manifest, got others")
        if content["state"] not in STATES or not all(isinstance(word, str) for word in content["arguments"]):
            raise ValueError(f"{file} must have the entries of a manifest, got others")
        if any(isinstance(value, int) and abs(value) > MAX_INTEGER for value in _numbers(content)):
            raise ValueError(f"{file} must have the entries of a manifest, got others")
        return cls(**content)

    def continue_run(self, seconds: float, num_ranks: int = 1) -> None:
        """Begin another part of the run, after `seconds` of the earlier ones."""
        self.state, self.seconds, self.continued, self.message = "running", seconds, time.time(), None
        self.versions, self.files = versions_in_use(), {}
        self.process = process_of_run(num_ranks)

    def end(self, state: State, folder: Path, names: Iterable[str], message: str | None = None) -> None:
        """End the run, and add the checksums of its files to the manifest."""
        self.state, self.message = state, message
        now = time.time()
        self.seconds, self.continued = self.seconds + now - self.continued, now
        self.files = {name: checksum(folder / name) for name in names}

    def elapsed(self, folder: Path, *, is_running: bool = False) -> float:
        """Return the seconds of the run until now or, if it was killed, until it last wrote to its folder."""
        if self.state != "running":
            return self.seconds
        if is_running:
            return self.seconds + max(0.0, time.time() - self.continued)
        times = [self.continued]
        for path in (
            folder,
            *folder.glob("*"),
            *folder.glob("checkpoints/*"),
            *folder.glob("training-*/checkpoints/*"),
        ):
            with suppress(OSError):
                times.append(path.stat().st_mtime)
        return self.seconds + max(times) - self.continued

    @property
    def num_ranks(self) -> int:
        """Number of processes that train together."""
        found = self.process.get("ranks")
        return found if type(found) is int and found > 0 else 1

    @property
    def command_line(self) -> str:
        """The command that was run."""
        import shlex  # noqa: PLC0415

        words = ["glasscell", *self.command.split(), *self.arguments]
        return shlex.join([*launcher_words(self.num_ranks), *words])


def launcher_words(num_ranks: int) -> list[str]:
    """Return the words before a command line that start several processes; none for one."""
    return [] if num_ranks == 1 else ["mpiexec", "-n", str(num_ranks)]


def _numbers(content: dict[str, Any]) -> list[Any]:
    """Return the values of a manifest with which is computed."""
    return [content[name] for name in ("started", "continued", "seconds", "updates")] + [content["best"].get("value")]


# Types of the entries by the annotations above.
TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "list[str]": list,
    "State": str,
    "float": (float, int),
    "int": int,
    "str | None": (str, type(None)),
    "dict[str, Any]": dict,
    "dict[str, str]": dict,
    "dict[str, dict[str, int]]": dict,
}


def checksum(file: Path) -> dict[str, int]:
    """Return size and CRC-32 of a file."""
    size, crc = size_and_checksum(file)
    return {"bytes": size, "crc32": crc}


def moment(seconds: float) -> str:
    """Return a point in time, in UTC and ISO 8601."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return "at an unknown time"
