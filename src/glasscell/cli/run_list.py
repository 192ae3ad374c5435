"""A run in a list: its state, and its lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from glasscell.cli.terminal import counted, format_seconds
from glasscell.escaping import escape


class RunFacts(NamedTuple):
    """What a manifest states about a run.

    Attributes
    ----------
    command : str
        Command line, or another description.
    updates : int
    seconds : float
    best : mapping or None
        "score", "value" and "update" of the best evaluation.
    started : str
    versions : mapping of str to str
    goes_on : str or None
        From which update and how the run goes on, if it can; of a sweep, how.
    unit : str
        What `updates` counts: "update" or, of a sweep, "run".
    """

    command: str
    updates: int
    seconds: float
    best: Mapping[str, Any] | None
    started: str
    versions: Mapping[str, str]
    goes_on: str | None
    unit: str = "update"


def state_of_run(recorded: str, *, is_running: bool) -> str:
    """Return the state of a run: that of its manifest, unless a process uses its folder, or has been killed."""
    if is_running:
        return "running"
    return "killed" if recorded == "running" else recorded


def lines_of_run(folder: Path, state: str, message: str, facts: RunFacts | None, damaged: Iterable[str]) -> list[str]:
    """Return the lines of a run; those of one whose manifest cannot be read are folder, state and message."""
    if facts is None:
        return [escape(f"{folder}: {state}"), escape(f"  {message}")]
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    lines = [_summary(folder, state, facts), f"  {facts.command}", f"  started {facts.started}; {versions}"]
    lines += [f"  error: {message}"] * bool(message)
    place = " from update " if facts.unit == "update" else ": "
    lines += [f"  to go on{place}{facts.goes_on}"] * (facts.goes_on is not None)
    lines += [f"  damaged: {name} is missing, or is not the file that was written" for name in damaged]
    return [escape(line) for line in lines]


def _summary(folder: Path, state: str, facts: RunFacts) -> str:
    """Return the first line: folder, state, updates, duration and best score."""
    line = f"{folder}: {state}, {counted(facts.updates, facts.unit)} in {format_seconds(facts.seconds)}"
    best = facts.best
    if best and isinstance(best.get("value"), int | float):
        at = f" at update {best.get('update')}" if best.get("update") != facts.updates else ""
        line += f", {best.get('score')} {best['value']:.4g}{at}"
    return line
