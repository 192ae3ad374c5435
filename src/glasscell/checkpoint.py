"""Weights on disk: safetensors files, with a header that says what they are.

No pickle. A file is written whole or not at all: a reader never sees half of one, and a failed write loses nothing.
"""

import os
from typing import Any, NamedTuple

import numpy as np

from glasscell.atomic_files import OutputFile, StrPath
from glasscell.core.typing import Array

ENDINGS = (".safetensors",)
MODEL_FILE = "model.safetensors"
HEADER = "glasscell"  # the entry of the file's header that says what the weights are
FORMAT = 1


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
    """Write a checkpoint to a file, whose name ends in ``.safetensors``.

    An existing safetensors file is replaced, once the new one is complete; see
    :class:`glasscell.atomic_files.OutputFile`.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written, or the file is of another kind.
    ValueError
        If the name has another ending, or a weight is not finite.
    """
    import json  # noqa: PLC0415 - imports inside functions here: not paid for by `import glasscell`

    from safetensors.numpy import save as to_bytes  # noqa: PLC0415

    file = OutputFile(path, ENDINGS)
    _checked(path, checkpoint.weights)
    # One entry: safetensors would write several in an order that changes from run to run.
    entry = json.dumps({"format": FORMAT, "kind": checkpoint.kind, "config": checkpoint.config})
    file.write(to_bytes(checkpoint.weights, {HEADER: entry}))


def load(path: StrPath) -> Checkpoint:
    """Read a checkpoint from a file, or from the ``model.safetensors`` of a folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is truncated or damaged, or of another kind.
    """
    entry, weights = read(path)
    file = model_file(path)
    if entry is None:
        raise ValueError(f"{file} is a safetensors file, but not a model that Glasscell saved")
    header = _parsed(file, entry)
    if header.get("format") != FORMAT:
        raise ValueError(f"{file} is in format {header.get('format')!r}; this version reads format {FORMAT!r}")
    kind, config = header.get("kind"), header.get("config")
    if not (isinstance(kind, str) and isinstance(config, dict)):
        what = "a header without the kind or the configuration of its model"
        raise ValueError(f"{file} has {what}")  # noqa: TRY004 - of a file, not of a call
    return Checkpoint(kind, config, _checked(file, weights))


def read(path: StrPath) -> tuple[str | None, dict[str, Array]]:
    """What any safetensors file holds: our entry of its header, if there is one, and the weights.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is truncated or damaged, or has weights that NumPy cannot hold.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    file = model_file(path)
    try:
        with safe_open(file, framework="np") as content:
            entry = (content.metadata() or {}).get(HEADER)
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"{file} is not a complete safetensors file: {error}") from None
    except (TypeError, AttributeError) as error:  # such as bfloat16, which NumPy has not
        raise ValueError(f"{file} has weights of a dtype that cannot be read: {error}") from None
    return entry, weights


def model_file(path: StrPath) -> str:
    """The file itself, or the one in a folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    file = os.fspath(path)  # without pathlib: to import it takes longer than to read a model
    if os.path.isdir(file):  # noqa: PTH112
        file = os.path.join(file, MODEL_FILE)  # noqa: PTH118
    if not os.path.isfile(file):  # noqa: PTH113
        raise FileNotFoundError(f"there is no model at {file}")
    return file


def _parsed(file: StrPath, entry: str) -> dict[str, Any]:
    import json  # noqa: PLC0415

    try:
        header = json.loads(entry)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ValueError(f"{file} has a header that cannot be read")  # noqa: TRY004 - of a file, not of a call
    return header


def _checked(file: StrPath, weights: dict[str, Array]) -> dict[str, Array]:
    dtypes = {str(array.dtype) for array in weights.values()}
    if not weights:
        raise ValueError(f"{file} has no weights")
    if len(dtypes) != 1 or not dtypes <= {"float32", "float64"}:
        raise ValueError(
            f"{file} has weights of dtype {' and '.join(sorted(dtypes))}; expected float32 or float64 alone"
        )
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{file} has NaN or infinite values in the weight {name!r}")
    return weights
