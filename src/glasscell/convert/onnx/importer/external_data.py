"""Load ONNX external data, such as the ``model.onnx.data`` that PyTorch's exporter writes."""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx
from onnx import helper

from glasscell.convert.onnx.importer.constants import FIELDS, TYPES


def load_external_data(model: onnx.ModelProto, folder: Path) -> None:
    """Put the numbers of the weights that lie in other files into the model itself.

    Such a file lies in the same folder, and is no link out of it; what a tensor says that it has there is checked
    against the size of the file, and all tensors together have no more bytes there than it.
    """
    left: dict[str, int] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != TYPES.EXTERNAL:
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        name, place = f"the tensor {tensor.name!r}", said.get("location", "")
        file = _file(name, folder, place)
        left.setdefault(place, file.stat().st_size)
        start, size = _number(name, said.get("offset", "0")), _size(name, tensor)
        if _number(name, said.get("length", str(size))) != size or start + size > file.stat().st_size:
            raise ValueError(f"{name} is {size} bytes from byte {start} of {place!r}, which has {file.stat().st_size}")
        left[place] -= size
        if left[place] < 0:
            raise ValueError(f"{name} and those before it have more bytes in {place!r} than it has")
        with file.open("rb") as content:
            content.seek(start)
            tensor.raw_data = content.read(size)
        tensor.ClearField("external_data")
        tensor.data_location = TYPES.DEFAULT


def _file(name: str, folder: Path, place: str) -> Path:
    if not place or Path(place).name != place or "\\" in place or "\0" in place:
        raise ValueError(f"{name} keeps its numbers in {place[:200]!r}; read are only files in the model's own folder")
    file = folder / place
    if file.is_symlink() or not file.is_file():
        raise ValueError(
            f"{name} keeps its numbers in {place[:200]!r}, and there is no such file in the folder of the model"
        )
    return file


def _size(name: str, tensor: onnx.TensorProto) -> int:
    if tensor.data_type not in FIELDS or any(size < 0 for size in tensor.dims):
        raise ValueError(f"{name} has a type or shape that cannot be read from another file")
    size: int = prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return size


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"{name} says {text[:40]!r} where a number of bytes should be")
    return int(text)
