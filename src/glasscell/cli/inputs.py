"""Parse inputs and targets of a command line: numbers, class numbers, characters, or a file."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.escaping import one_line
from glasscell.layers import Embedding, Unsqueeze
from glasscell.models import Sequential

if TYPE_CHECKING:
    from glasscell.layers import LSTM

FILES = (".npy", ".csv")


class Inputs(NamedTuple):
    """Return the input of a model, x (T, I) or class numbers (T,), and names for the views."""

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
        known = checked_vocabulary(vocabulary)
        x: NDArray[Any] = characters_to_ids("--input", text, known)
        metadata = {"step_names": list(text)}
        if not embedded:
            x, metadata = one_hot(x, known, model), metadata | {"input_names": list(known)}
    else:
        x = whole_numbers("--input", text) if embedded else as_steps(numbers_of("--input", text))
    if not len(x):
        raise ValueError("--input has no steps")
    if isinstance(model, Sequential) and isinstance(model.layers[0], Unsqueeze):
        if x.shape[1:] != (1,):
            raise ValueError(f"--input must have one number a step for this model, got {x.shape[1]}")
        x = x[:, 0]
    return Inputs(x, metadata)


def parse_targets(text: str, loss: str, vocabulary: str | None, outputs: tuple[int, ...]) -> NDArray[Any]:
    """Parse the target of a loss, for outputs (T, O), or (O,) for a whole sequence."""
    classes = loss == "categorical_cross_entropy"
    if classes and vocabulary is not None:
        y: NDArray[Any] = characters_to_ids("--target", text, checked_vocabulary(vocabulary))
    else:
        y = whole_numbers("--target", text) if classes else as_steps(numbers_of("--target", text))
    one_answer = len(outputs) == 1
    return y.reshape(outputs[:-1] if classes else outputs) if one_answer and y.size == (classes or outputs[0]) else y


def numbers_of(name: str, text: str) -> NDArray[np.float64]:
    """Read numbers from a file, or parse numbers such as ``0.1,0.2; 0.3,0.4``."""
    if Path(text).suffix.lower() in FILES:
        return _of_file(name, Path(text))
    rows = [part for part in text.strip().strip(";").split(";") if part.strip()]
    values = [[_number(name, entry) for entry in row.replace(",", " ").split()] for row in rows]
    lengths = {len(row) for row in values}
    if len(lengths) > 1:
        k = next(k for k, row in enumerate(values) if len(row) != len(values[0]))
        raise ValueError(f"{name}: step 0 has {len(values[0])} numbers, and step {k} has {len(values[k])}")
    return np.array(values, np.float64)


def as_steps(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers as (T, I); a file with one number per step may lack the second axis."""
    return numbers[:, None] if numbers.ndim == 1 else numbers


def whole_numbers(name: str, text: str) -> NDArray[np.int64]:
    """Parse class numbers such as ``3, 1, 4``."""
    numbers = numbers_of(name, text).ravel()
    if not np.array_equal(numbers, np.trunc(numbers)):
        wrong = numbers[numbers != np.trunc(numbers)][0]
        raise ValueError(f"{name} is of class numbers, whole and from 0, and has {wrong:g}")
    return numbers.astype(np.int64)


def checked_vocabulary(vocabulary: str) -> str:
    """Return the vocabulary; raise ValueError if a character occurs twice."""
    if not vocabulary:
        raise ValueError("--vocabulary has no characters")
    for k, character in enumerate(vocabulary):
        if character in vocabulary[:k]:
            raise ValueError(f"--vocabulary has {character!r} twice, at {vocabulary.index(character)} and {k}")
    return vocabulary


def characters_to_ids(name: str, text: str, vocabulary: str) -> NDArray[np.int64]:
    """Return the index of each character in the vocabulary."""
    for k, character in enumerate(text):
        if character not in vocabulary:
            raise ValueError(f"{name}: character {character!r} at position {k} is not in the vocabulary")
    return np.array([vocabulary.index(character) for character in text], np.int64)


def one_hot(numbers: NDArray[np.int64], vocabulary: str, model: LSTM | Sequential) -> NDArray[np.float64]:
    """Return one-hot features, for a model without Embedding."""
    first: Any = model.layers[0] if isinstance(model, Sequential) else model
    features = getattr(first, "input_size", len(vocabulary))
    if features != len(vocabulary):
        raise ValueError(f"--vocabulary has {len(vocabulary)} characters, and this model reads {features} features")
    return np.eye(len(vocabulary))[numbers]


def _of_file(name: str, path: Path) -> NDArray[np.float64]:
    if not path.is_file():
        raise FileNotFoundError(f"{name}: there is no file {path}")
    try:
        with warnings.catch_warnings(action="error"):  # of a file without numbers, or with complex ones
            numbers = _of_npy(path) if path.suffix.lower() == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
    except (ValueError, TypeError, EOFError, Warning) as error:
        raise ValueError(f"{name}: {path} is no table of numbers: {one_line(error)}") from None
    if numbers.ndim not in (1, 2):
        raise ValueError(f"{name}: {path} has shape {numbers.shape}; expected one sequence, (T, I)")
    return numbers


def _of_npy(path: Path) -> NDArray[np.float64]:
    """Read an array; raise ValueError if its header and the file's size differ."""
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"it is of version {version}; read are 1.0 and 2.0")  # noqa: TRY301
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, columns_first, dtype = header(file)
        except (ValueError, Warning):
            raise
        except Exception as error:  # noqa: BLE001 - the header is parsed as Python: whatever its tokens and nesting lead to
            raise ValueError(f"its header cannot be read: {error}") from None
        if dtype.kind not in "biuf" or any(size < 0 for size in shape):
            raise ValueError(f"it has the dtype {dtype} and the shape {shape}")
        size = path.stat().st_size - file.tell()
        if math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"it has {size} bytes of numbers, and the shape {shape} of {dtype}")
        order: Literal["C", "F"] = "F" if columns_first else "C"
        return np.ndarray(shape, dtype, file.read(size), order=order).astype(np.float64)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: {text!r} is no number; expected steps such as 0.1,0.2; 0.3,0.4") from None
