"""Weights on disk: safetensors files, with a header that says what they are.

No pickle. A file is written whole or not at all: a reader never sees half of one, and a failed write loses nothing.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from glasscell.core.typing import Array

MODEL_FILE = "model.safetensors"
FORMAT = "1"

StrPath = str | os.PathLike[str]


class Checkpoint(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    kind : str
        Name of the model's class.
    config : dict
        What the class needs to build the model.
    weights : dict of str to array
        In PyTorch's names and layout, finite, all of one dtype.
    """

    kind: str
    config: dict[str, Any]
    weights: dict[str, Array]


def save(checkpoint: Checkpoint, path: StrPath) -> None:
    """Write a checkpoint. An existing file is replaced, once the new one is complete.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written.
    """
    from safetensors.numpy import save as to_bytes  # noqa: PLC0415 - not paid for by `import glasscell`

    header = {
        "format": "pt",  # the layout is PyTorch's: the custom among safetensors files
        "glasscell": FORMAT,
        "kind": checkpoint.kind,
        "config": json.dumps(checkpoint.config),
    }
    write_atomically(path, to_bytes(checkpoint.weights, header))


def load(path: StrPath) -> Checkpoint:
    """Read a checkpoint from a file, or from the ``model.safetensors`` of a folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is truncated or damaged, or of another kind.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - not paid for by `import glasscell`

    file = Path(path)
    if file.is_dir():
        file /= MODEL_FILE
    if not file.is_file():
        raise FileNotFoundError(f"there is no model at {file}")
    try:
        with safe_open(file, framework="np") as content:
            header = content.metadata() or {}
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"{file} is not a complete safetensors file: {error}") from None
    if "glasscell" not in header:
        raise ValueError(f"{file} is a safetensors file, but not a model that Glasscell saved")
    if header["glasscell"] != FORMAT:
        raise ValueError(f"{file} is in format {header['glasscell']!r}; this version reads format {FORMAT!r}")
    return Checkpoint(header.get("kind", ""), _config(file, header), _checked(file, weights))


def write_atomically(path: StrPath, content: bytes) -> None:
    """Write a file so that at every moment the path holds the old content or the new, never a part."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _config(file: Path, header: Mapping[str, str]) -> dict[str, Any]:
    try:
        config = json.loads(header.get("config", ""))
    except json.JSONDecodeError:
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{file} has a header without a configuration")  # noqa: TRY004 - of a file, not of a call
    return config


def _checked(file: Path, weights: dict[str, Array]) -> dict[str, Array]:
    dtypes = {str(array.dtype) for array in weights.values()}
    if len(dtypes) != 1 or not dtypes <= {"float32", "float64"}:
        raise ValueError(
            f"{file} has weights of dtype {' and '.join(sorted(dtypes))}; expected float32 or float64 alone"
        )
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{file} has NaN or infinite values in the weight {name!r}")
    return weights
