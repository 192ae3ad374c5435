"""Options of commands that read sequences from a file of the user."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from glasscell.data.csv_tables import CsvTable
    from glasscell.data.labelled.sequences import LabelledSequences

TABLE_OPTIONS = (
    *("id", "time", "column", "ignore_column", "rows", "features_per_step", "ragged", "delimiter", "header"),
    *("decimal", "fill"),
)

# Arguments of the readers in their messages, and the options for them.
REPLACED = {
    r"fill='linear' or fill='previous' replaces": "--fill linear or --fill previous replaces",
    "label, id, time, features and ignore must": "--label, --id, --time, --column and --ignore-column must",
    r"\bragged=True\b": "--ragged",
    r"\bper_step=True\b": "--per-step",
    r"(?<![\w'-])(label|id|time|delimiter|fill|features_per_step)(?= must\b)": r"--\1",
    r"(?<![\w'-])features(?= must name\b)": "--column",
    r"(?<![\w'-])ignore(?= must\b)": "--ignore-column",
    r"(?<![\w'-])y(?= must name\b)": "--label",
}


def add_sequence_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`read_sequences_of`."""
    group = parser.add_argument_group("sequences in a file: .csv and other tables, .npz or .ts")
    group.add_argument("--label", metavar="NAME", help="column or array of the labels or targets")
    group.add_argument("--id", metavar="NAME", help="column whose value is the same in all rows of a sequence")
    group.add_argument(
        "--rows",
        choices=("sequences", "steps"),
        help="what a row of a table is: a whole sequence, or one step of a sequence (default: steps with --id, "
        "otherwise sequences)",
    )
    group.add_argument("--time", metavar="NAME", help="column of times, which must increase within each sequence")
    group.add_argument(
        "--column", action="append", metavar="NAME", help="column of a feature; repeatable (default: all others)"
    )
    group.add_argument(
        "--ignore-column", action="append", default=[], metavar="NAME", help="column that is not read; repeatable"
    )
    group.add_argument(
        "--features-per-step",
        type=int,
        metavar="N",
        help="features of each step in a row (default: those of the model)",
    )
    group.add_argument("--ragged", action="store_true", help="sequences may end before the last column")
    group.add_argument("--delimiter", metavar="C", help="delimiter of a table (default: detected)")
    group.add_argument(
        "--header", action=argparse.BooleanOptionalAction, help="whether the first row has names (default: detected)"
    )
    group.add_argument(
        "--decimal", choices=(".", ","), default=".", metavar="MARK", help="decimal mark, '.' or ',' (default '.')"
    )
    add_fill(group)


def add_fill(group: argparse._ArgumentGroup) -> None:
    """Add --fill."""
    group.add_argument("--fill", choices=("previous", "linear"), help="how missing values are filled (default: error)")


def read_sequences_of(
    path: Path, options: argparse.Namespace, input_size: int | None, *, per_step: bool = False
) -> LabelledSequences:
    """Read sequences for a model.

    Parameters
    ----------
    path : Path
    options : Namespace
        Of :func:`add_sequence_options`.
    input_size : int, optional
        I of the model; None: any.
    per_step : bool
        Whether there is one label per step.

    Raises
    ------
    OSError, ValueError
        If there is no such file, it does not fit the options, or its number of features is not that of the model.
    """
    try:
        data = _read(path, options, input_size, per_step=per_step)
    except ValueError as error:
        message = for_command_line(str(error))
        if options.id is None and re.search(r", line [12], column .*: must be a number, got '", message):
            message += "; --id names a column of ids, --ignore-column one that is not a feature"
        raise ValueError(message) from None
    if input_size is not None and data.input_size != input_size:
        raise ValueError(
            f"{data.source}: must have {input_size} features, as the model, got {data.input_size}"
            f" ({', '.join(map(repr, data.feature_names[:6]))}{', …' if data.input_size > 6 else ''})"
        )
    return data


def _read(path: Path, options: argparse.Namespace, input_size: int | None, *, per_step: bool) -> LabelledSequences:
    """Read a file of any kind."""
    from glasscell.data.labelled.reading import file_kind, read_sequences  # noqa: PLC0415 - only where it is used

    kind = file_kind(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if kind != "csv":
        allowed = {"fill"} if kind == "ts" else set()
        for name in TABLE_OPTIONS:
            if name not in allowed and not is_unset(name, getattr(options, name)):
                raise ValueError(f"{option_of(name)} is for tables such as .csv, got {path}")
    if kind == "ts":
        if options.label is not None:
            raise ValueError(
                f"--label must be left out for a .ts file, which declares its labels, got {options.label!r}"
            )
        return read_sequences(path, fill=options.fill)
    if kind == "npz":
        return read_sequences(path, y=options.label)
    return _read_table(path, options, input_size, per_step=per_step)


def _read_table(
    path: Path, options: argparse.Namespace, input_size: int | None, *, per_step: bool
) -> LabelledSequences:
    """Read a table, in which each row is a sequence or a step."""
    from glasscell.data.labelled.csv_sequences import read_csv, read_one_sequence  # noqa: PLC0415

    common: dict[str, Any] = {
        "label": options.label,
        "features": options.column,
        "ignore": options.ignore_column,
        "delimiter": options.delimiter,
        "header": options.header,
        "decimal": options.decimal,
        "fill": options.fill,
    }
    rows = options.rows or ("sequences" if options.id is None else "steps")
    if rows == "steps":
        for name in ("features_per_step", "ragged"):
            if getattr(options, name):
                raise ValueError(
                    f"{option_of(name)} must be left out if each row is a step, got {getattr(options, name)}"
                )
        if options.id is None and not (per_step and options.label is not None):
            if options.label is not None:
                raise ValueError("--id must name the sequences for one label per sequence, got none")
            del common["label"]
            return read_one_sequence(path, time=options.time, **common)
        with_labels = per_step and options.label is not None
        return read_csv(path, id=options.id, time=options.time, per_step=with_labels, **common)
    if options.id is not None or per_step:
        reason = "--id" if options.id is not None else "a model with one label per step"
        raise ValueError(f"--rows must be steps with {reason}, got sequences")
    if options.time is not None:
        raise ValueError(f"--time must be left out if each row is a sequence, got {options.time!r}")
    size = options.features_per_step or input_size or 1
    if options.features_per_step is None:
        _check_columns(path, options, size)
    data = read_csv(path, features_per_step=size, ragged=options.ragged, **common)
    if options.rows is None and max(map(len, data.x)) == 1 and len(data) > 1:
        raise ValueError(
            f"{data.source}: each row is one step. Pass --rows steps if the file is one sequence, --id COLUMN if it "
            "has several, or --rows sequences if each row is a sequence of one step"
        )
    return data


def _check_columns(path: Path, options: argparse.Namespace, size: int) -> None:
    """Raise ValueError unless the columns of a table can be divided into steps of this many features."""
    table = table_of(path, options)
    others = {"--label": [] if options.label is None else [options.label], "--ignore-column": options.ignore_column}
    left_out = {table.index(flag, name) for flag, names in others.items() for name in names}
    chosen = options.column or [name for k, name in enumerate(table.names) if k not in left_out]
    if len(chosen) % size:
        named = ", ".join(map(repr, chosen[:6])) + (", …" if len(chosen) > 6 else "")
        raise ValueError(
            f"{table.description}: must have a multiple of the model's {size} features in a row, got {len(chosen)} "
            f"columns, {named}: --label, --ignore-column and --column select columns"
        )


def table_of(path: Path, options: argparse.Namespace) -> CsvTable:
    """Return a table, read with the options."""
    from glasscell.data.csv_tables import CsvTable  # noqa: PLC0415

    named = [options.label, options.id, options.time, *(options.column or ()), *options.ignore_column]
    return CsvTable(
        path,
        delimiter=options.delimiter,
        header=options.header,
        requested=[name for name in named if name is not None],
        ragged=options.ragged,
        decimal=options.decimal,
    )


def class_names(labels: Sequence[Any]) -> dict[str, str]:
    """Return the texts that stand for the classes of a model in a file, with the names of the classes."""
    names = {f"{label:g}": str(label) for label in labels if isinstance(label, float)}
    return names | {str(label): str(label) for label in labels}


def check_labels(path: Path, options: argparse.Namespace, data: LabelledSequences, known: Mapping[str, str]) -> None:
    """Raise ValueError for a label that the model does not have, with its file, line and column."""
    from glasscell.data.labelled.reading import file_kind  # noqa: PLC0415

    labels = data.labels or []
    for name, entry in zip(data.names, labels, strict=bool(labels)):
        unknown = [label for label in (entry if isinstance(entry, list) else [entry]) if str(label) not in known]
        if unknown:
            classes = ", ".join(dict.fromkeys(known.values()))
            problem = f"must be one of the classes of the model, {classes}, got {unknown[0]!r}"
            if file_kind(path) == "csv":
                table = table_of(path, options)
                k = table.index("--label", options.label)
                for row in table.rows():
                    if row.cells[k].strip() == unknown[0]:
                        table.refuse(row, k, problem)
            raise ValueError(f"{path}, {name}: the label {problem}")


def check_range(data: LabelledSequences, dtype: np.dtype[np.floating]) -> None:
    """Raise ValueError for a value that is infinite in the dtype of a model."""
    import numpy as np  # noqa: PLC0415

    for name, sequence in zip(data.names, data.x, strict=True):
        largest = np.abs(sequence).max(initial=0.0)
        if largest > np.finfo(dtype).max:
            raise ValueError(
                f"{data.source}: features must be finite in {dtype}, got {largest:.3g} in {name}: change its unit"
            )


def for_command_line(message: str) -> str:
    """Return an error message of a reader with the options of the command line in place of arguments."""
    for pattern, replacement in REPLACED.items():
        message = re.sub(pattern, replacement, message)
    return message.replace("--features_per_step", "--features-per-step")


def option_of(name: str) -> str:
    """Return the option of an attribute."""
    return f"--{name.replace('_', '-')}"


def is_unset(name: str, value: Any) -> bool:
    """Return whether an option of a table has its default."""
    return value is None or (name != "header" and value in (False, [], "."))
