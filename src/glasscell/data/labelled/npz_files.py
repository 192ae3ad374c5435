"""Read sequences from a ``.npz`` file of NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from glasscell.data.labelled.labels import plain_label
from glasscell.data.labelled.sequences import LabelledSequences
from glasscell.data.numpy_files import ArrayArchive
from glasscell.escaping import one_line


def read_npz(path: str | Path, *, x: str = "x", y: str | None = "y", lengths: str = "lengths") -> LabelledSequences:
    """Read sequences and their labels from arrays.

    Parameters
    ----------
    path : path
    x : str
        Name of the inputs: (N, T, I), or (N, T) for one feature per step.
    y : str, optional
        Name of the labels: (N,), or (N, T) for one per step; text, integers or truth values. None: no labels.
    lengths : str
        Name of the lengths (N,), if the file has an array of this name. Default of the lengths: T.

    Returns
    -------
    LabelledSequences

    Raises
    ------
    ValueError
        If the file is damaged, lacks an array, or an array does not fit or has NaN.
    """
    path = Path(path)
    archive = ArrayArchive(path)
    for argument, name in (("x", x), ("y", y)):
        if name is not None and name not in archive.names:
            known = one_line(", ".join(archive.names) or "none")
            raise ValueError(f"{argument} must name an array of {path}, {known}, got {name!r}")
    values = archive.read(x)
    if values.ndim not in (2, 3) or values.dtype.kind not in "biuf" or not values.size:
        raise ValueError(f"{path}: {x} must be numbers (N, T, I) or (N, T), got {values.dtype} of shape {values.shape}")
    numbers = values.astype(np.float64)[..., None] if values.ndim == 2 else values.astype(np.float64)
    ends = _ends(path, lengths, archive.read(lengths) if lengths in archive.names else None, numbers)
    sequences = [numbers[n, :end] for n, end in enumerate(ends)]
    for n, sequence in enumerate(sequences):
        if not np.isfinite(sequence).all():
            step, feature = np.argwhere(~np.isfinite(sequence))[0]
            raise ValueError(f"{path}: {x}[{n}, {step}, {feature}] must be finite, got {sequence[step, feature]}")
    labels = None if y is None else _labels(path, y, archive.read(y), numbers.shape, ends)
    names = [f"{x}[{n}]" for n in range(len(sequences))]
    features = [f"feature {k}" for k in range(numbers.shape[2])]
    described = f"{path}: arrays {x}{'' if y is None else f', {y}'}{f', {lengths}' if lengths in archive.names else ''}"
    return LabelledSequences(sequences, labels, features, names, described)


def array_names(path: str | Path) -> list[str]:
    """Return the names of the arrays of a file."""
    return ArrayArchive(Path(path)).names


def _ends(path: Path, name: str, lengths: Any, numbers: Any) -> list[int]:
    N, T = numbers.shape[:2]
    if lengths is None:
        return [T] * N
    valid = lengths.shape == (N,) and lengths.dtype.kind in "iu"
    if not valid or (lengths < 1).any() or (lengths > T).any():
        wrong = f"{lengths[(lengths < 1) | (lengths > T)][0]}" if valid else f"{lengths.dtype} of shape {lengths.shape}"
        raise ValueError(f"{path}: {name} must be {N} integers from 1 to T = {T}, got {wrong}")
    result: list[int] = lengths.tolist()
    return result


def _labels(path: Path, name: str, labels: Any, shape: tuple[int, ...], ends: list[int]) -> list[Any]:
    N, T = shape[:2]
    if labels.shape not in ((N,), (N, T)):
        raise ValueError(
            f"{path}: {name} must have shape ({N},), or ({N}, {T}) for one label per step, got {labels.shape}"
        )
    try:
        if labels.ndim == 1:
            return [plain_label(label) for label in labels]
        return [[plain_label(label) for label in row[:end]] for row, end in zip(labels, ends, strict=True)]
    except ValueError as error:
        raise ValueError(f"{path}: {name}: {error}") from None
