"""Read and write files in the safetensors format, with a checksum in files of Glasscell.

The reader does not map files into memory: rewriting a mapped file while it is read ends the process. The header is
parsed here, by the rules of the format, so that every size is checked before memory is allocated.

The checksum is a CRC-32 of all bytes of the file, header and tensors, with zeros in the place of its digits. It
guards against accidents, not against forgery: it detects every change within 32 consecutive bits and every pair of
changed bits in files of up to 512 MB, costs 0.15 ms per MB, and its module is the fastest to import.
"""

import os
import zlib
from collections.abc import Mapping
from math import prod
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.limits import BudgetError, MemoryBudget, parse_json

AnyArray = NDArray[Any]

MAX_HEADER = 100_000_000  # bytes, as in the format's own library
MAX_AXES = 32
TENSOR_BYTES = 400  # memory for the description and the array object of one tensor

DTYPES = {"BOOL": "?", "BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"} | {
    f"{kind}{8 * size}": f"<{letter}{size}" for kind, letter in (("I", "i"), ("U", "u")) for size in (1, 2, 4, 8)
}

# The entry of the header begins with the checksum. The search does not use the name of the entry, so that damage to the
# name is detected, too.
BEFORE_CHECKSUM, AFTER_CHECKSUM = rb"{\"checksum\": \"", rb"\""
NO_CHECKSUM = "00000000"


class TensorFile(NamedTuple):
    """Contents of a file of tensors.

    Attributes
    ----------
    metadata : dict of str to str
    tensors : dict of str to array
        In the order of the file.
    has_checksum : bool
        Whether the file has a checksum, which was verified.
    """

    metadata: dict[str, str]
    tensors: dict[str, AnyArray]
    has_checksum: bool


def encode(name: str, entry: Mapping[str, Any], tensors: Mapping[str, AnyArray]) -> bytes:
    """Return the bytes of a file; see :func:`encode_pieces`."""
    return b"".join(encode_pieces(name, entry, tensors))


def encode_pieces(
    name: str, entry: Mapping[str, Any], tensors: Mapping[str, AnyArray]
) -> tuple[memoryview, bytes, memoryview]:
    """Return the bytes of a file with `entry` as JSON under `name` in its header, and a checksum.

    The same arguments give the same bytes: those before the checksum, the checksum, and those behind it. Put together
    they would need the memory of the tensors once more.

    Raises
    ------
    ValueError
        If the entry has NaN or infinite numbers, which JSON does not have and :func:`read` refuses.
    """
    import json  # noqa: PLC0415 - imports inside functions here: not paid for by `import glasscell`

    from safetensors.numpy import save  # noqa: PLC0415

    try:
        header = json.dumps({"checksum": NO_CHECKSUM, **entry}, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"the content of a file must have finite numbers in its header, got an entry {name!r}: {error}"
        ) from None
    # One entry: safetensors would write several in an order that changes from run to run.
    content = save(dict(tensors), {name: header})
    digits = _find_checksum(content)
    assert digits is not None  # they have just been written  # noqa: S101
    return memoryview(content)[: digits.start], b"%08x" % zlib.crc32(content), memoryview(content)[digits.stop :]


def read(path: str) -> TensorFile:
    """Read a file.

    Raises
    ------
    OSError
        If it cannot be opened.
    ValueError
        If it is truncated or damaged, has a tensor of a dtype that NumPy cannot hold, or a wrong checksum. The message
        continues a sentence that begins with the name of the file.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - importing pathlib takes longer than reading a model
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, MAX_HEADER):
            raise ValueError("is not a complete safetensors file: it is shorter than its header")
        header = file.read(length)
        budget = MemoryBudget(size)
        metadata, places = _parse_header(header, size - 8 - length, budget)
        data = _read_data(file, size - 8 - length)
    digits = _find_checksum(header)
    if digits is not None:
        blank = b"".join((start, header[: digits.start], NO_CHECKSUM.encode(), header[digits.stop :]))
        if int(header[digits], 16) != zlib.crc32(data.data, zlib.crc32(blank)):
            raise ValueError("is damaged: its bytes are not those that were written (CRC-32)")
    del header
    tensors = {name: _tensor(name, *place, data, budget) for name, place in places.items()}
    return TensorFile(metadata, tensors, digits is not None)


def _find_checksum(header: bytes) -> slice | None:
    """Return the place of the digits of a checksum in a header; None where there are none."""
    place = header.find(BEFORE_CHECKSUM)
    start = place + len(BEFORE_CHECKSUM)
    end = start + len(NO_CHECKSUM)
    digits = header[start:end]
    whole = len(digits) == len(NO_CHECKSUM) and not digits.strip(b"0123456789abcdef")
    return slice(start, end) if place >= 0 and whole and header.startswith(AFTER_CHECKSUM, end) else None


Place = tuple[str, tuple[int, ...], int]  # of a tensor: the name of its dtype, its shape, and where it begins


def _parse_header(header: bytes, size: int, budget: MemoryBudget) -> tuple[dict[str, str], dict[str, Place]]:
    """Return the metadata, and the place of each tensor in the `size` bytes after the header, in their order."""
    try:
        content = parse_json(header, budget)
        metadata = content.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(type(value) is str for value in metadata.values()):
            raise TypeError  # noqa: TRY301 - one message for all
        entries = [(*_numbers(entry["data_offsets"]), name, entry) for name, entry in content.items()]
        entries.sort(key=lambda entry: entry[:2])
    except BudgetError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError("is not a complete safetensors file: its header cannot be read") from None
    places: dict[str, Place] = {}
    end = 0
    for start, stop, name, entry in entries:
        dtype, shape = entry.get("dtype"), entry.get("shape")
        if not isinstance(dtype, str) or not isinstance(shape, list) or len(entry) != 3 or len(shape) > MAX_AXES:
            raise ValueError(f"is not a complete safetensors file: its header describes {name[:80]!r} wrongly")
        if dtype not in DTYPES:
            raise ValueError(f"has weights of a dtype that cannot be read: {name[:80]!r} is {dtype[:20]!r}")
        sizes = _numbers(shape)
        if prod(number or 1 for number in sizes) >= 2**60:  # also where it is empty, NumPy has no such array
            raise ValueError(f"is not a complete safetensors file: {name[:80]!r} has the shape {sizes}")
        if start != end or stop - start != prod(sizes) * np.dtype(DTYPES[dtype]).itemsize:
            raise ValueError(f"is not a complete safetensors file: {name[:80]!r} does not lie where it should")
        places[name], end = (dtype, sizes, start), stop
    if end != size:
        raise ValueError(f"is not a complete safetensors file: its tensors have {end} bytes, and {size} are there")
    budget.reserve(TENSOR_BYTES * len(places))
    return metadata, places


def _numbers(values: object) -> tuple[int, ...]:
    """Return the value, if it is a list of integers of 0 or more."""
    if not isinstance(values, list) or any(type(number) is not int or not 0 <= number < 2**62 for number in values):
        raise ValueError("is not a complete safetensors file: a size or place in its header is no number")
    return tuple(values)


def _read_data(file: BinaryIO, size: int) -> AnyArray:
    data = np.empty(size, np.uint8)
    if file.readinto(data.data) != size or file.read(1):  # type: ignore[attr-defined] # a BufferedReader has it
        raise ValueError("is not a complete safetensors file: its length changed while it was read")
    return data


def _tensor(
    name: str, dtype: str, shape: tuple[int, ...], start: int, data: AnyArray, budget: MemoryBudget
) -> AnyArray:
    """Return a view of the data, or a copy if the view is not aligned or has another dtype."""
    if dtype == "BOOL" and data[start : start + prod(shape)].max(initial=0) > 1:
        raise ValueError(f"has values that are neither true nor false in {name[:80]!r}")
    tensor: AnyArray = np.ndarray(shape, DTYPES[dtype], data.data, start)
    if dtype == "BF16":  # the upper half of a float32
        budget.reserve(4 * tensor.size)
        return (tensor.astype(np.uint32) << 16).view(np.float32)
    return tensor if tensor.flags.aligned else tensor.copy()
