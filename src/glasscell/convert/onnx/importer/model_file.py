"""Read an ONNX file as a protobuf message within a memory budget."""

from pathlib import Path

import onnx

from glasscell.atomic_files import StrPath
from glasscell.convert.onnx.importer.constants import UnsupportedNode
from glasscell.convert.onnx.importer.external_data import load_external_data
from glasscell.convert.onnx.importer.wire import reserve_messages
from glasscell.escaping import one_line
from glasscell.limits import MemoryBudget


def read_model(path: StrPath) -> tuple[onnx.ModelProto, MemoryBudget]:
    """Return the model in a file, with its external data, and the memory budget for the rest of the import."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no model at {file}")
    content = file.read_bytes()
    budget = MemoryBudget(len(content), UnsupportedNode)
    try:
        reserve_messages(content, budget)
        model = onnx.ModelProto.FromString(content)
    except UnsupportedNode as error:
        raise ValueError(f"{file} {error}") from None
    except Exception as error:  # noqa: BLE001 - protobuf's own kinds of error
        raise ValueError(f"{file} is not a complete ONNX file: {one_line(error)}") from None
    del content
    try:
        load_external_data(model, file.parent)
    except ValueError as error:
        raise ValueError(f"{file}: {one_line(error)}") from None
    return model, budget
