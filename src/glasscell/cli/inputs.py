"""Parse inputs and targets of a command line: numbers, class numbers, characters, or a file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.escaping import one_line
from glasscell.layers import Embedding, Unsqueeze
from glasscell.models import Sequential

if TYPE_CHECKING:
    from glasscell.layers import LSTM

FILES = (".npy", ".csv")


class Inputs(NamedTuple):
    """Input of a model, x (T, I) or ids (T,), and names for the views."""

    x: NDArray[Any]
    metadata: dict[str, Any]


def parse_inputs(model: LSTM | Sequential, text: str, vocabulary: str | None) -> Inputs:
    """Parse the input of a model.

    Raises
    ------
    ValueError
        If it cannot be read, has no steps, or has a character that is not in the vocabulary.
    """
    embedded = isinstance(model, Sequential) and isinstance(model.layers[0], Embedding)
    metadata: dict[str, Any] = {}
    if vocabulary is not None:
        characters = checked_vocabulary(vocabulary)
        x: NDArray[Any] = characters_to_ids("--input", text, characters)
        metadata = {"step_names": list(text)}
        if not embedded:
            x, metadata = one_hot(x, characters, model), metadata | {"input_names": list(characters)}
    else:
        x = whole_numbers("--input", text) if embedded else as_steps(numbers_of("--input", text))
    if not len(x):
        raise ValueError("--input must have at least one step, got none")
    if isinstance(model, Sequential) and isinstance(model.layers[0], Unsqueeze):
        if x.shape[1:] != (1,):
            raise ValueError(f"--input must have one number per step for this model, got {x.shape[1]}")
        x = x[:, 0]
    return Inputs(x, metadata)


def parse_targets(text: str, loss: str, vocabulary: str | None, outputs: tuple[int, ...]) -> NDArray[Any]:
    """Parse the target of a loss, for outputs (T, O), or (O,) for a whole sequence."""
    classes = loss == "categorical_cross_entropy"
    if classes and vocabulary is not None:
        y: NDArray[Any] = characters_to_ids("--target", text, checked_vocabulary(vocabulary))
    else:
        y = whole_numbers("--target", text) if classes else as_steps(numbers_of("--target", text))
    is_vector = len(outputs) == 1
    return y.reshape(outputs[:-1] if classes else outputs) if is_vector and y.size == (classes or outputs[0]) else y


def numbers_of(name: str, text: str) -> NDArray[np.float64]:
    """Read numbers from a file, or parse numbers such as ``0.1,0.2; 0.3,0.4``."""
    if Path(text).suffix.lower() in FILES:
        return _read_file(name, Path(text))
    rows = [row for row in text.strip().strip(";").split(";") if row.strip()]
    values = [[_number(name, entry) for entry in row.replace(",", " ").split()] for row in rows]
    lengths = {len(row) for row in values}
    if len(lengths) > 1:
        k = next(k for k, row in enumerate(values) if len(row) != len(values[0]))
        expected = f"{len(values[0])} numbers in step {k}, as in step 0"
        raise ValueError(f"{name} must have {expected}, got {len(values[k])}")
    return np.array(values, np.float64)


def as_steps(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers as (T, I); a file with one number per step may have one axis."""
    return numbers[:, None] if numbers.ndim == 1 else numbers


def whole_numbers(name: str, text: str) -> NDArray[np.int64]:
    """Parse class numbers such as ``3, 1, 4``."""
    numbers = numbers_of(name, text).ravel()
    if not np.array_equal(numbers, np.trunc(numbers)):
        wrong = numbers[numbers != np.trunc(numbers)][0]
        raise ValueError(f"{name} must be class numbers, integers from 0, got {wrong:g}")
    return numbers.astype(np.int64)


def checked_vocabulary(vocabulary: str) -> str:
    """Return the vocabulary; raise ValueError if a character occurs twice."""
    if not vocabulary:
        raise ValueError("--vocabulary must have at least one character, got none")
    for k, character in enumerate(vocabulary):
        if character in vocabulary[:k]:
            raise ValueError(
                f"--vocabulary must have each character once, got {character!r} at {vocabulary.index(character)}, {k}"
            )
    return vocabulary


def characters_to_ids(name: str, text: str, vocabulary: str) -> NDArray[np.int64]:
    """Return the index of each character in the vocabulary."""
    for k, character in enumerate(text):
        if character not in vocabulary:
            raise ValueError(f"{name} must consist of characters of --vocabulary, got {character!r} at position {k}")
    return np.array([vocabulary.index(character) for character in text], np.int64)


def one_hot(numbers: NDArray[np.int64], vocabulary: str, model: LSTM | Sequential) -> NDArray[np.float64]:
    """Return one-hot features, for a model without Embedding."""
    first: Any = model.layers[0] if isinstance(model, Sequential) else model
    features = getattr(first, "input_size", len(vocabulary))
    if features != len(vocabulary):
        raise ValueError(f"--vocabulary must have {features} characters, one per input feature, got {len(vocabulary)}")
    return np.eye(len(vocabulary))[numbers]


def _read_file(name: str, path: Path) -> NDArray[np.float64]:
    if not path.is_file():
        raise FileNotFoundError(f"{name}: the file {path} does not exist")
    try:
        with warnings.catch_warnings(action="error"):  # for files without numbers, or with complex ones
            numbers = _read_npy(path) if path.suffix.lower() == ".npy" else _read_csv(path)
    except (ValueError, TypeError, EOFError, Warning) as error:
        raise ValueError(f"{name}: {path} must be a table of numbers: {one_line(error)}") from None
    if numbers.ndim not in (1, 2):
        raise ValueError(f"{name}: {path} must contain one sequence, (T, I), got shape {numbers.shape}")
    return numbers


def _read_csv(path: Path) -> NDArray[np.float64]:
    """Read a table of numbers. A first line without any number has the names of the columns."""
    with path.open(encoding="utf-8-sig") as file:
        has_names = not any(_is_number(cell) for cell in file.readline().split(","))
        file.seek(0)
        numbers: NDArray[np.float64] = np.loadtxt(file, delimiter=",", ndmin=2, skiprows=int(has_names))
    return numbers


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_npy(path: Path) -> NDArray[np.float64]:
    """Read an array; raise ValueError if its header and the file's size differ."""
    from glasscell.data.numpy_files import read_array  # noqa: PLC0415 - only where it is used

    with path.open("rb") as file:
        return read_array(file, path.stat().st_size).astype(np.float64)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} must be numbers such as 0.1,0.2; 0.3,0.4, got {text!r}") from None
