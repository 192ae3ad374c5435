"""Runs of :func:`glasscell.fit` in a list: folders that have checkpoints, and no manifest of a command."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from glasscell.cli.run_files import CHECKPOINTS, is_locked
from glasscell.cli.run_list import RunFacts, lines_of_run, state_of_run
from glasscell.cli.run_manifest import MANIFEST_FILE, checksum, moment


def is_fit_run(folder: Path) -> bool:
    """Return whether a folder has checkpoints of `fit`, and no manifest of a command."""
    return (folder / CHECKPOINTS / MANIFEST_FILE).is_file() and not (folder / MANIFEST_FILE).is_file()


@dataclass
class FitRun:
    """A run of `fit`, as the manifest of its checkpoints describes it.

    Attributes
    ----------
    folder : Path
    state : str
        "running", "interrupted", "killed", "finished", "failed", or "unreadable".
    content : dict
        See docs/checkpoints.md; empty: the manifest cannot be read.
    message : str
        Why the run failed, or why the manifest cannot be read.
    """

    folder: Path
    state: str
    content: dict[str, Any]
    message: str = ""

    @classmethod
    def read(cls, folder: Path) -> FitRun:
        """Read the run in a folder."""
        from glasscell.training.manifest import read_manifest_file  # noqa: PLC0415 - only where there is such a run

        file = folder / CHECKPOINTS / MANIFEST_FILE
        try:
            content = read_manifest_file(file)
        except (OSError, ValueError) as error:
            return cls(folder, "unreadable", {}, str(error))
        if content is None:  # removed in the meantime
            return cls(folder, "unreadable", {}, f"{file} is missing")
        state = state_of_run(content["state"], is_running=is_locked(file.with_name("lock")))
        return cls(folder, state, content, content["reason"] if state == "failed" else "")

    @property
    def updates(self) -> int:
        """Updates of the newest checkpoint."""
        return max((entry["updates"] for entry in self.content["checkpoints"]), default=0)

    @property
    def best(self) -> dict[str, Any] | None:
        """Name, value and update of the best score of a checkpoint; None if none was evaluated."""
        for entry in self.content["checkpoints"]:
            if entry["name"] == self.content["best"] and entry["score"] is not None:
                options = self.content["description"].get("options")
                monitor = options.get("monitor", "loss") if isinstance(options, dict) else "loss"
                return {"score": f"validation_{monitor}", "value": entry["score"], "update": entry["updates"]}
        return None

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the library, of NumPy and, if it is used, of Numba."""
        description = self.content["description"]
        environment = description.get("environment")
        found = {"glasscell": description.get("version")}
        if isinstance(environment, dict):
            found |= {name: environment.get(name) for name in ("numpy", "numba")}
        return {name: str(version) for name, version in found.items() if version is not None}

    @property
    def started(self) -> str:
        """When the run began, in UTC and ISO 8601."""
        try:
            return moment(datetime.strptime(self.content["start"], "%Y-%m-%dT%H:%M:%S%z").timestamp())
        except (ValueError, OverflowError):
            return moment(math.inf)

    @property
    def go_on(self) -> str | None:
        """How the run goes on; None if it is in progress, finished, or has no checkpoint."""
        if self.state in ("running", "finished") or not self.content.get("checkpoints"):
            return None
        return f"fit(..., checkpoint={str(self.folder)!r}, resume=True) in Python"

    def damaged_files(self) -> list[str]:
        """Return the names of checkpoints that are missing, or are not those that were written."""
        damaged = []
        for entry in self.content.get("checkpoints", ()):
            try:
                found = checksum(self.folder / CHECKPOINTS / Path(entry["name"]).name)
                is_damaged = (found["bytes"], f"{found['crc32']:08x}") != (entry["size"], entry["checksum"])
            except OSError:
                is_damaged = True
            damaged += [f"{CHECKPOINTS}/{entry['name']}"] * is_damaged
        return damaged

    def as_json(self) -> dict[str, Any]:
        """Return the entries of the run as JSON, as those of a command, of which it has none."""
        entry: dict[str, Any] = {"folder": str(self.folder), "state": self.state}
        if self.content:
            checkpoint = self.updates if self.state != "finished" else None
            entry |= {"command": None, "arguments": None, "updates": self.updates, "best": self.best}
            entry |= {"seconds": self.content["seconds"], "started": self.started, "versions": self.versions}
            entry |= {"checkpoint": checkpoint, "resume": None}
        return entry | {"message": self.message or None}

    def lines(self, damaged: list[str]) -> list[str]:
        """Return the run as lines of text."""
        facts = None
        if self.content:
            goes_on = None if self.go_on is None else f"{self.updates}: {self.go_on}"
            seconds = self.content["seconds"]
            facts = RunFacts(
                "a training in Python", self.updates, seconds, self.best, self.started, self.versions, goes_on
            )
        return lines_of_run(self.folder, self.state, self.message, facts, damaged)
