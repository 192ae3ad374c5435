"""Read sequences from a file, by its extension."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glasscell.data.labelled.sequences import LabelledSequences

TEXT_TABLES = (".csv", ".tsv", ".txt", ".dat")
COMPRESSED = ".gz"


def file_kind(path: str | Path) -> str:
    """Return "csv", "npz" or "ts", by the extension of a file.

    Raises
    ------
    ValueError
        If the extension is none of those.
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    suffix = suffixes[-2] if suffixes[-1:] == [COMPRESSED] and len(suffixes) > 1 else (suffixes or [""])[-1]
    if suffix in TEXT_TABLES:
        return "csv"
    if suffix == ".ts" or (suffix == ".npz" and suffixes[-1] != COMPRESSED):
        return suffix[1:]
    kinds = ", ".join((*TEXT_TABLES, ".ts"))
    raise ValueError(f"{path} must be a {kinds} file, each also compressed as {COMPRESSED}, or .npz")


def read_sequences(path: str | Path, **options: Any) -> LabelledSequences:
    """Read sequences, with labels if the file has any, from a table, ``.npz`` or ``.ts`` file.

    Parameters
    ----------
    path : path
        By its extension: a table (``.csv``, ``.tsv``, ``.txt``, ``.dat``), ``.ts``, each also as ``.gz``, or ``.npz``.
    **options
        Those of :func:`read_csv`, :func:`read_npz` or :func:`read_ts`.

    Returns
    -------
    LabelledSequences

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it does not fit the options, or a value is missing.
    TypeError
        If an option is for another kind of file.
    """
    reader = _reader(file_kind(path))
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    from inspect import signature  # noqa: PLC0415 - only where it is used

    known = [name for name in signature(reader).parameters if name != "path"]
    for name in options:
        if name not in known:
            raise TypeError(f"options of {path} must be of {', '.join(known)}, got {name}")
    result: LabelledSequences = reader(path, **options)
    return result


def _reader(kind: str) -> Any:
    """Return the function that reads a kind of file."""
    if kind == "csv":
        from glasscell.data.labelled.csv_sequences import read_csv  # noqa: PLC0415 - only what is used

        return read_csv
    if kind == "npz":
        from glasscell.data.labelled.npz_files import read_npz  # noqa: PLC0415

        return read_npz
    from glasscell.data.labelled.ts_files import read_ts  # noqa: PLC0415

    return read_ts
