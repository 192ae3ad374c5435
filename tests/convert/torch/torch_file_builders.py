"""Build PyTorch files from opcodes and storages, and compare what is read with PyTorch."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from glasscell.convert.torch import files as torch_files
from glasscell.convert.torch.files import read

FORMATS = [False, True]  # legacy

GOLDEN = Path(__file__).parents[3].parent / "shared" / "conformance" / "formats"

DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]


def saved(torch, content, path, legacy, **options):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy, **options)
    return path


def numpy_of(tensor):
    tensor = tensor.detach()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def assert_same(result, expected):
    """Compare the content with that read by PyTorch, in values and types."""
    if hasattr(expected, "detach"):
        expected = numpy_of(expected)
    if isinstance(expected, np.ndarray):
        assert type(result) is np.ndarray
        assert result.dtype == expected.dtype
        assert result.shape == expected.shape
        assert result.tobytes() == expected.tobytes()
        assert result.flags.c_contiguous
        assert result.flags.writeable
        return
    assert type(result) is type(expected)
    if isinstance(expected, dict):
        assert list(result) == list(expected)
        for key in expected:
            assert_same(result[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(result) == len(expected)
        for item, expected_item in zip(result, expected, strict=True):
            assert_same(item, expected_item)
    else:
        assert result == expected


def numbers(rng, dtype, shape=(3, 4)):
    return rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)


def refusal(path):
    """Return the one-line message of the ValueError, which names the file."""
    with pytest.raises(ValueError, match=r"\w+") as caught:
        read(path)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < len(str(path)) + 600
    return message


def peak(path):
    """Return the peak memory of reading, in bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=str(path)):
            read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def name(module, name):
    return f"c{module}\n{name}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value):
    digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(digits)]) + digits


def integers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


ORDERED = name("collections", "OrderedDict") + b")R"


def storage(count, kind="FloatStorage", key="0", view=b""):
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + integer(count) + view + b"tQ"


def tensor(shape, strides, offset=0, count=6, kind="FloatStorage", key="0", view=b"", rest=b""):
    """Return the opcodes of one tensor."""
    place = integer(offset) + integers(shape) + integers(strides)
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + storage(count, kind, key, view)
        + place
        + b"\x89"
        + ORDERED
        + rest
        + b"tR"
    )


def archive(opcodes, storages=None, prefix="archive/", compression=zipfile.ZIP_STORED, **entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as opened:
        opened.writestr(f"{prefix}data.pkl", b"\x80\x02" + opcodes + b".")
        for entry, content in entries.items():
            opened.writestr(f"{prefix}{entry}", content)
        for key, content in ({"0": SIX.tobytes()} if storages is None else storages).items():
            opened.writestr(f"{prefix}data/{key}", content)
    return file.getvalue()


def stream(opcodes, storages=None):
    """Write a file in the legacy format; storages are (key, count, content)."""
    storages = [("0", 6, SIX.tobytes())] if storages is None else storages
    head = [pickle.dumps(value, 2) for value in (torch_files.MAGIC, 1001, {"little_endian": True})]
    keys = pickle.dumps([key for key, _, _ in storages], 2)
    contents = [struct.pack("<q", count) + content for _, count, content in storages]
    return b"".join([*head, b"\x80\x02" + opcodes + b".", keys, *contents])


def both(opcodes):
    return [archive(opcodes), stream(opcodes)]


SIX = np.arange(6, dtype="<f4")


def contents(rng):
    """Everything that can be written."""
    return OrderedDict(
        {dtype: numbers(rng, dtype) for dtype in DTYPES},
        scalar=np.array(2.5),
        empty=np.zeros((0, 3), np.float32),
        transposed=rng.normal(size=(3, 4)).T,
        strided=rng.normal(size=(9, 9))[::2, 1::3],
        many=rng.normal(size=(1, 2, 1, 3)),
        nested={"list": [1, -1, 2**31, -(2**63), 2**2000, 0.1, "ä\n", "", None, True, False], "tuple": ((), (1, (2,)))},
        ordered=OrderedDict(a=OrderedDict(), b=[np.ones(1)]),
        special=[float("inf"), -0.0],
    ) | {(0, "x"): 1, 5: 2, None: 3}
