"""Load ONNX external data, such as the ``model.onnx.data`` that PyTorch's exporter writes."""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx
from onnx import helper

from glasscell.convert.onnx.importer.constants import FIELDS, TYPES


def load_external_data(model: onnx.ModelProto, folder: Path) -> None:
    """Copy weights that are in other files into the model.

    Such a file must be in the model's folder and not be a link. Offsets and lengths are checked against the file's
    size, and all tensors together have no more bytes than the file.
    """
    remaining: dict[str, int] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != TYPES.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name, location = f"the tensor {tensor.name!r}", entries.get("location", "")
        file = _file(name, folder, location)
        file_size = file.stat().st_size
        remaining.setdefault(location, file_size)
        offset, size = _number(name, entries.get("offset", "0")), _size(name, tensor)
        if _number(name, entries.get("length", str(size))) != size or offset + size > file_size:
            raise ValueError(f"{name} is {size} bytes at byte {offset} of {location!r}, which has {file_size}")
        remaining[location] -= size
        if remaining[location] < 0:
            raise ValueError(f"{name} and the tensors before it have more bytes in {location!r} than the file")
        with file.open("rb") as content:
            content.seek(offset)
            tensor.raw_data = content.read(size)
        tensor.ClearField("external_data")
        tensor.data_location = TYPES.DEFAULT


def _file(name: str, folder: Path, location: str) -> Path:
    if not location or Path(location).name != location or "\\" in location or "\0" in location:
        raise ValueError(f"{name} is in the file {location[:200]!r}; expected a file in the model's folder")
    file = folder / location
    if file.is_symlink() or not file.is_file():
        raise ValueError(f"{name} is in the file {location[:200]!r}, which is not a regular file in the model's folder")
    return file


def _size(name: str, tensor: onnx.TensorProto) -> int:
    if tensor.data_type not in FIELDS or any(size < 0 for size in tensor.dims):
        raise ValueError(f"{name} has a type or shape that cannot be read from another file")
    size: int = prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return size


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"{name} has {text[:40]!r} as a number of bytes")
    return int(text)
