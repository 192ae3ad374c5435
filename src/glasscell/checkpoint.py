"""Save and load weights in safetensors files, with a header that describes the model.

No pickle. Files are written atomically: a reader never reads a partial file, and a failed write keeps the old one.
"""

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from glasscell.atomic_files import OutputFile, StrPath
from glasscell.core.types import Array

if TYPE_CHECKING:
    from typing import TypeGuard

    from glasscell.tensor_files import TensorFile

Loaded = TypeVar("Loaded")
ENDINGS = (".safetensors",)
MODEL_FILE = "model.safetensors"
HEADER_KEY = "glasscell"  # the entry of the file's header that describes the model
FORMAT_VERSION = 1
ENTRIES = ("format", "kind", "config")  # of the header, with a checksum that early files do not have


class Checkpoint(NamedTuple):
    """Content of a file.

    Attributes
    ----------
    kind : str
        Name of the model's class.
    config : dict
        Configuration from which the class builds the model.
    weights : dict of str to array
        In PyTorch's names and layout (gates i f g o), finite, all of one dtype.
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
    from glasscell import tensor_files  # noqa: PLC0415 - imports inside functions here: not paid for by `import glasscell`

    file = OutputFile(path, ENDINGS)
    _validate(path, checkpoint.weights)
    entry = {"format": FORMAT_VERSION, "kind": checkpoint.kind, "config": checkpoint.config}
    file.write(*tensor_files.encode_pieces(HEADER_KEY, entry, checkpoint.weights))


def load(path: StrPath) -> Checkpoint:
    """Read a checkpoint from a file, or from the ``model.safetensors`` of a folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is truncated or damaged, or of another kind.
    """
    from glasscell.escaping import one_line  # noqa: PLC0415

    file = model_file(path)
    header, weights = read_with_header(file)
    if header is None:
        raise ValueError(f"{file} is a safetensors file, but not a model that Glasscell saved")
    kind, config = header.get("kind"), header.get("config")
    if not (_is_name(kind) and isinstance(config, dict)):
        raise ValueError(f"{file} has a header without the kind or the configuration of its model")
    try:
        check_entries(header, ENTRIES)
    except ValueError as error:
        raise ValueError(f"{file}: {one_line(error)}") from None
    return Checkpoint(kind, config, _validate(file, weights))


def load_as(kind: str, build: Callable[[dict[str, Any], dict[str, Array]], Loaded], path: StrPath) -> Loaded:
    """Return what `build` makes of the configuration and the weights of a file; see :func:`load`.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is damaged, of another kind, or does not fit together.
    """
    from glasscell.escaping import one_line  # noqa: PLC0415

    found, config, weights = load(path)
    if found != kind:
        check_single(path, found)
        raise ValueError(f"{path} holds a {found!r}; expected a {kind!r}")
    try:
        return build(config, weights)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit together: {one_line(error)}") from None


def kind(path: StrPath) -> str:
    """Return the name of the class that a file holds.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file was not saved by Glasscell, or is damaged.
    """
    file = model_file(path)
    header, _ = read_with_header(file)
    if header is None:
        raise ValueError(f"{file} is a safetensors file that Glasscell did not save: try glasscell.convert.load")
    if not _is_name(header.get("kind")):
        raise ValueError(f"{file} has a header without the kind of its content")
    return str(header["kind"])


def _is_name(kind: object) -> "TypeGuard[str]":
    return isinstance(kind, str) and len(kind) <= 100


def read(path: StrPath) -> tuple[str | None, dict[str, Array]]:
    """Read any safetensors file: Glasscell's entry of its header, or None, and the weights.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is truncated or damaged, or has weights that NumPy cannot hold.
    """
    content = _read(model_file(path))
    return content.metadata.get(HEADER_KEY), content.tensors


def read_with_header(path: StrPath) -> tuple[dict[str, Any] | None, dict[str, Array]]:
    """Read the header's entry, None in files of other libraries, and the tensors.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is truncated or damaged, or of a newer format.
    """
    from glasscell.escaping import one_line  # noqa: PLC0415
    from glasscell.limits import MemoryBudget, parse_json  # noqa: PLC0415

    file = os.fspath(path)
    metadata, tensors, has_checksum = _read(file)
    if HEADER_KEY not in metadata:
        return None, tensors
    try:
        header = parse_json(metadata[HEADER_KEY].encode(), MemoryBudget(os.stat(file).st_size))  # noqa: PTH116
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise ValueError(f"{file} has a header that cannot be read")  # noqa: TRY004 - of a file, not of a call
    if header.get("format") != FORMAT_VERSION:
        written = one_line(repr(header.get("format")))
        raise ValueError(f"{file} is in format {written}; this version reads format {FORMAT_VERSION!r}")
    if has_checksum != ("checksum" in header):
        raise ValueError(f"{file} has a header with a checksum that is none")
    return header, tensors


def check_entries(header: Collection[str], entries: Collection[str]) -> None:
    """Raise an error for unknown entries of a header: one may be a damaged name of the checksum."""
    if unknown := {*header} - {"checksum", *entries}:
        raise ValueError(f"it has a header with {', '.join(sorted(unknown))}")


def _read(file: str) -> "TensorFile":
    from glasscell import tensor_files  # noqa: PLC0415
    from glasscell.escaping import one_line  # noqa: PLC0415

    if not os.path.isfile(file):  # noqa: PTH113 - importing pathlib takes longer than reading a model
        raise not_found(file)
    try:
        content = tensor_files.read(file)
    except ValueError as error:
        raise ValueError(f"{file} {one_line(error)}") from None
    except MemoryError:
        raise ValueError(f"{file} needs more memory than there is") from None
    if HEADER_KEY not in content.metadata and content.has_checksum:
        raise ValueError(f"{file} is damaged: the entry of its header is not called {HEADER_KEY!r}")
    return content


def check_single(path: StrPath, kind: str) -> None:
    """Raise ValueError if a file of this kind holds several models, where one is needed."""
    if kind in ("Ensemble", "ForecasterEnsemble"):
        article = "an" if kind == "Ensemble" else "a"
        raise ValueError(
            f"{path} holds {article} {kind} of several models: save one of them by "
            "glasscell.load(path).members[0].save(other_path)"
        )


def not_found(path: StrPath) -> FileNotFoundError:
    """Return the error for a missing model; it names a file that may be meant.

    That is the file of this name with the suffix ``.safetensors``, or the first model in the folder of a sweep.
    """
    file = os.fspath(path)
    firsts = (file.replace(MODEL_FILE, f"model-{one}.safetensors") for one in ("1", "01", "001"))
    candidates = [f"{file}.safetensors", *firsts]
    existing = [candidate for candidate in candidates if os.path.isfile(candidate)]  # noqa: PTH113
    hint = f"; did you mean {existing[0]}?" if existing else ""
    return FileNotFoundError(f"there is no model at {file}{hint}")


def model_file(path: StrPath) -> str:
    """Return the file, or the model file in a folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    file = os.fspath(path)  # not pathlib, whose import takes longer than reading a model
    if os.path.isdir(file):  # noqa: PTH112
        file = os.path.join(file, MODEL_FILE)  # noqa: PTH118
    if not os.path.isfile(file):  # noqa: PTH113
        raise not_found(file)
    return file


def _validate(file: StrPath, weights: dict[str, Array]) -> dict[str, Array]:
    dtypes = {str(array.dtype) for array in weights.values()}
    if not weights:
        raise ValueError(f"{file} has no weights")
    if len(dtypes) != 1 or not dtypes <= {"float32", "float64"}:
        raise ValueError(
            f"{file} has weights of dtype {' and '.join(sorted(dtypes))}; expected float32 or float64 alone"
        )
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{file} has NaN or infinite values in the weight {name[:200]!r}")
    return weights
