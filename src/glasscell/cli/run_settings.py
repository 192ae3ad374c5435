"""Settings of a run of ``glasscell classify`` or ``glasscell forecast``: how its files were read, for other files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasscell.atomic_files import write_atomically
from glasscell.cli.sequence_options import TABLE_OPTIONS, is_unset, option_of, table_of
from glasscell.limits import MemoryBudget, parse_json

if TYPE_CHECKING:
    from glasscell.data.labelled.sequences import LabelledSequences

SETTINGS_FILE = "settings.json"
MAX_TEXT, MAX_TEXTS = 4096, 100_000  # characters of an option, and its repetitions
NOT_STORED = (
    *("run", "interrupts", "ranks", "ascii", "command", "arguments"),
    *("checkpoint_every", "no_checkpoints", "resume", "change_ranks"),
)
SERIES_DEFAULTS: dict[str, Any] = {
    "column": None,
    "time": None,
    "known": [],
    "past": [],
    "fill": None,
    "decimal": ".",
    "delimiter": None,
}
SERIES_DEFAULTS |= {"level": None}


def options_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a command as JSON."""
    chosen = {name: value for name, value in vars(options).items() if name not in NOT_STORED}
    return {name: str(value) if isinstance(value, Path) else value for name, value in chosen.items()}


def to_json(value: dict[str, Any]) -> bytes:
    """Return the content of a JSON file."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_settings(settings: dict[str, Any], file: Path) -> None:
    """Write the settings of a run."""
    write_atomically(file, to_json(settings), (".json",))


def settings_of(model: Path, command: str = "classify") -> dict[str, Any]:
    """Return the settings in the folder of a run of a command; {} if there are none.

    Raises
    ------
    ValueError
        If the file is not one that the command wrote.
    """
    file = model / SETTINGS_FILE
    if not file.is_file():
        return {}
    try:
        content = file.read_bytes()
        settings = parse_json(content, MemoryBudget(len(content)))
    except ValueError:
        settings = None
    valid = isinstance(settings, dict) and isinstance(settings.get("options"), dict)
    valid = valid and settings.get("command") == command and all(map(_is_option, settings["options"].values()))
    if not valid or (command == "classify" and not _is_texts(settings.get("features"))):
        raise ValueError(f"{file} must be the settings of `glasscell {command}`: move the model to use it without them")
    result: dict[str, Any] = settings
    return result


def _is_option(value: Any) -> bool:
    """Return whether a value of JSON can be that of an option: nothing, a number, or one or several short texts."""
    return value is None or isinstance(value, int | float) or _is_texts(value if isinstance(value, list) else [value])


def _is_texts(value: Any) -> bool:
    """Return whether a value of JSON is a list of short texts, not too many."""
    if not isinstance(value, list) or len(value) > MAX_TEXTS:
        return False
    return all(isinstance(text, str) and len(text) <= MAX_TEXT for text in value)


def complete_options(options: argparse.Namespace, settings: dict[str, Any], path: Path) -> list[str]:
    """Set the options for a table that were not passed to those of the run; return their names.

    The label is compared with if the table has a column of its name.
    """
    used, completed = settings.get("options", {}), []
    for name in TABLE_OPTIONS:
        if is_unset(name, getattr(options, name)) and not is_unset(name, used.get(name)):
            setattr(options, name, used[name])
            completed.append(option_of(name))
    label = used.get("label")
    if options.label is None and isinstance(label, str) and label in table_of(path, options).names:
        options.label = label
        completed.append("--label")
    return completed


def complete_series_options(options: argparse.Namespace) -> str:
    """Set the options for a series that were not passed to those of the run; return a note that names them."""
    used, completed = settings_of(options.model, "forecast").get("options", {}), []
    for name, default in SERIES_DEFAULTS.items():
        if getattr(options, name) in (default, []) and used.get(name, default) not in (default, []):
            setattr(options, name, used[name])
            completed.append(option_of(name))
    return f"{', '.join(completed)} as in {options.model / SETTINGS_FILE}" if completed else ""


def check_features(settings: dict[str, Any], data: LabelledSequences) -> None:
    """Raise ValueError unless the features have the names that they had in the run."""
    for k, (name, wanted) in enumerate(zip(data.feature_names, settings.get("features", ()), strict=False)):
        if name != wanted:
            raise ValueError(
                f"{data.source}: feature {k + 1} must be {wanted!r:.100}, as in training, got {name!r:.100}"
            )
