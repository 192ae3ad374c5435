"""Options of a run that goes on: those with which it began, and none that contradict them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from glasscell.cli.run_folder import RunFolder
from glasscell.cli.run_manifest import Manifest

PATHS = {"text train": ["files"], "classify": ["train", "test"], "forecast": ["file"]}  # options with files of data
PATHS |= {"sweep text": ["files"], "sweep classify": ["train", "test"], "sweep forecast": ["file"]}

CHANGEABLE = ("on_failure", "change_ranks")  # options that may be others when a run goes on
CHANGEABLE_OF_SWEEPS = ("processes", "score", "retry_failed")
SWEEP = "sweep "  # with which the commands of sweeps begin


def read_run(folder: Path, command: str) -> Manifest:
    """Return the manifest of a run of a command.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder has none.
    """
    manifest = Manifest.read(folder)
    if manifest.command != command:
        other = f"glasscell {manifest.command} --resume {shlex.quote(str(folder))}"
        raise ValueError(f"--resume must be the folder of a run of this command, got {folder}: try {other}")
    return manifest


def apply(
    options: argparse.Namespace, passed: Mapping[str, Any], manifest: Manifest, labels: Mapping[str, str]
) -> None:
    """Complete the options of a run that goes on.

    Parameters
    ----------
    options : argparse.Namespace
        Those with which the run began.
    passed : mapping of str to value
        Those of the command line, which must be the same.
    manifest : Manifest
    labels : mapping of str to str
        Names of options, as on the command line.

    Raises
    ------
    ValueError
        If an option contradicts the run.
    """
    folder, is_sweep = Path(passed["resume"]), manifest.command.startswith(SWEEP)
    changeable = CHANGEABLE_OF_SWEEPS if is_sweep else CHANGEABLE
    grid = _options_of_grid(options) if is_sweep else ()
    extended = dict[str, Any]()
    for name, value in passed.items():
        expected = getattr(options, name)
        is_same = value == expected or (name == "out" and Path(value).resolve() == folder.resolve())
        is_same = is_same or (name in grid and _have_equal_values(value, expected))
        if name in (*changeable, "resume", "ascii") or is_same:
            continue
        rule = _rule_of_extension(name, expected, grid) if is_sweep else ""
        if not rule or not _extends(value, expected):
            raise ValueError(
                f"{labels[name]} must {rule or 'be'} {_text(expected)}, as in {folder}, got {_text(value)}"
            )
        extended[name] = value
    options.resume, options.ascii = folder, options.ascii or "ascii" in passed
    vars(options).update({name: passed[name] for name in changeable if name in passed})
    if is_sweep:
        options.extensions = [f"{labels[name]} {_text(getattr(options, name))}" for name in extended]
        vars(options).update(extended)
        values = {labels[name]: value if isinstance(value, list) else [value] for name, value in extended.items()}
        words = [word for label, entries in values.items() for word in (label, *map(str, entries))]
        options.arguments = _with_options(options.arguments, words)
    _set_paths(options, manifest)
    if manifest.state == "finished" and not getattr(options, "retry_failed", False) and not extended:
        options.run = complete


def _options_of_grid(options: argparse.Namespace) -> set[str]:
    """Return the names of the options of a sweep that can have several values: not its files, nor repeated options."""
    return {action.dest for action in options.actions if action.option_strings and action.nargs == "+"}


def _have_equal_values(value: Any, expected: Any) -> bool:
    """Return whether two lists of different values differ in their order alone."""
    return expected is not None and len(value) == len(expected) and all(entry in value for entry in expected)


def _rule_of_extension(name: str, expected: Any, grid: Collection[str]) -> str:
    """Return how the value of an option of a sweep may differ from that with which it began; "" if it must not."""
    if name == "seeds":
        return "be at least"
    return "include" if name in grid and expected is not None and len(expected) > 1 else ""


def _extends(value: Any, expected: Any) -> bool:
    """Return whether a number of seeds is larger, or values include all others and further ones."""
    if not isinstance(expected, list):
        return bool(value > expected)
    return len(value) > len(expected) and all(entry in value for entry in expected)


def _with_options(arguments: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return arguments with further options, which replace earlier values: before "--", behind which no options are."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [*arguments[:end], *words, *arguments[end:]]


def complete(options: argparse.Namespace) -> int:
    """Complete the folder of a run that was finished, but may have been killed before it was in its place."""
    manifest = Manifest.read(options.resume)
    if options.command.startswith(SWEEP):
        kinds = import_module("glasscell.cli.sweep").kinds_of_options(options)
    else:
        kinds = import_module(f"glasscell.cli.{options.command.replace(' ', '_')}").FILES
    with RunFolder(options.resume, options.resume, kinds, manifest, resume=True) as folder:
        folder.complete()
        print(f"{folder.display_path} is finished: nothing is left to do")
    return 0


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "set" if value else "not set"
    return "its default" if value is None else str(value)


def _set_paths(options: argparse.Namespace, manifest: Manifest) -> None:
    """Relate relative paths to the working directory in which the run began."""
    if Path(manifest.folder) == Path.cwd():
        return
    grid = _options_of_grid(options) if manifest.command.startswith(SWEEP) else ()
    for name in PATHS.get(manifest.command, []):
        value = getattr(options, name)
        if isinstance(value, list):
            paths = [str(Path(manifest.folder, path)) for path in value]
            if name in grid and len(value) > 1 and paths != value:  # they are in the rows as they were typed
                raise ValueError(f"--resume with several values of --{name} must be run in {manifest.folder}")
            setattr(options, name, paths)
        elif value is not None:
            setattr(options, name, Path(manifest.folder, value))
