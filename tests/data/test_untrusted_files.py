"""Property: a small file of the user does not take far more memory or time, and every mistake in it is one line."""

import gzip
import io
import re
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_loops import loop_over

from glasscell import limits
from glasscell.cli.inputs import numbers_of
from glasscell.data import read_csv, read_npz, read_series, read_ts
from glasscell.data.labelled.ts_files import NAMES
from glasscell.data.numpy_files import read_array

MB = 2**20


def peak(run: Any) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refusal(read: Any, path: Path, *arguments: Any, **options: Any) -> str:
    with pytest.raises(ValueError, match=re.escape(path.name)) as caught:
        read(path, *arguments, **options)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert "\n" not in message
    assert len(message) < 1000
    return message


READERS = {"t.csv.gz": read_csv, "t.ts.gz": read_ts, "s.csv.gz": lambda path: read_series(path, ["a"])}


@pytest.mark.parametrize("text", [b"a\n" + b"\n" * 100_000, b"a\n1\n" + b" " * 100_000, b"a,b\n" + b"0," * 50_000])
@pytest.mark.parametrize("name", READERS)
def test_a_text_that_is_small_only_when_compressed(
    text: bytes, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DECOMPRESSION_ALLOWANCE", 10_000)
    path = tmp_path / name
    path.write_bytes(gzip.compress(text))
    assert path.stat().st_size * 100 + 10_000 < len(text)
    message = ""

    def read() -> None:
        nonlocal message
        message = refusal(READERS[name], path)

    assert peak(read) < 2 * len(text) + MB
    if name != "t.ts.gz":  # whose first line is no declaration
        assert "at most 100 times the compressed file's size" in message


def test_a_compressed_text_of_the_usual_kind_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress("".join(f"{k / 7:.4f},{k % 3}\n" for k in range(1000)).encode()))
    assert len(read_csv(path, header=False)) == 1000
    path.write_bytes(gzip.compress(b"0,0,0\n" * 9000, 9))  # 1,000 times as long, but below a megabyte
    assert len(read_csv(path, header=False)) == 9000


def archive(path: Path, compression: int = zipfile.ZIP_DEFLATED, **arrays: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in arrays.items():
            file.writestr(f"{name}.npy", content)
    return path


def packed(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def described(header: str, content: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + content


def test_arrays_that_are_small_only_when_compressed(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", x=packed(np.zeros((1000, 2500))), y=packed(np.arange(1000)))
    message = ""

    def read() -> None:
        nonlocal message
        message = refusal(read_npz, path)

    assert peak(read) < 4 * MB
    assert "at most 100 times the file's size and 1 MiB" in message


HEADERS = {
    "no end": "{'descr': '<f8', 'fortran_order': False, 'shape': (",
    "indented": " {'descr': '<f8'\n  x\n y: (1,)}",
    "nested": "(" * 3000,
    "long": "-" * 9000 + "1",
    "huge": "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000)}",
    "huge and empty": "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9223372036854775807, 9)}",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "fields": "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}",
    "no bytes": "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000,)}",
    "part": "{'descr': '3<f8', 'fortran_order': False, 'shape': (1,)}",
    "negative": "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
    "axes": "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1," * 70 + ")}",
    "order": "{'descr': '<f8', 'fortran_order': 1, 'shape': (1,)}",
    "more": "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'x': 1}",
    "expression": "1" + "+1" * 3000,
}


@loop_over("header", HEADERS.values(), ids=list(HEADERS))
def test_headers_of_arrays_that_cannot_be_right(header: str, tmp_path: Path) -> None:
    content = described(header, bytes(8))
    path = archive(tmp_path / "a.npz", x=content, y=packed(np.arange(3)))
    assert peak(lambda: refusal(read_npz, path)) < 4 * MB
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npy must be a table of numbers"):
        numbers_of("--input", str(tmp_path / "a.npy"))


def test_arrays_are_read_as_numpy_reads_them(rng: Any) -> None:
    arrays = [rng.normal(size=(3, 4)).astype(dtype) for dtype in ("<f8", ">f8", "f4", "f2", "<i8", "u1", "?")]
    arrays += [np.asfortranarray(arrays[0]), arrays[0][0, 0], np.zeros((0, 5)), arrays[0][:, ::2]]
    for array in arrays:
        for version in ((1, 0), (2, 0), (3, 0)):
            file = io.BytesIO()
            np.lib.format.write_array(file, np.asarray(array), version)
            size = file.tell()
            file.seek(0)
            result = read_array(file, size)
            assert (result.dtype, result.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(result, array)
    python_2 = described("{'descr': '<f8', 'fortran_order': False, 'shape': (1L, 2L), }", bytes(16))
    assert read_array(io.BytesIO(python_2), len(python_2)).shape == (1, 2)


@pytest.mark.parametrize("order", "<>")
def test_text_that_is_not_unicode(order: str, tmp_path: Path) -> None:
    codes = np.array([97, 0x110000], f"{order}u4")
    header = f"{{'descr': '{order}U1', 'fortran_order': False, 'shape': (2,)}}"
    path = archive(tmp_path / "a.npz", x=packed(np.zeros((2, 3))), y=described(header, codes.tobytes()))
    assert "Unicode" in refusal(read_npz, path)
    codes[1] = 0x10FFFF
    path = archive(tmp_path / "a.npz", x=packed(np.zeros((2, 3))), y=described(header, codes.tobytes()))
    assert read_npz(path).labels == ["a", "\U0010ffff"]


def test_an_entry_that_is_longer_than_the_directory_states(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", x=packed(np.zeros((2, 3))), y=packed(np.arange(2)))
    content = bytearray(path.read_bytes())
    place = content.rfind(b"x.npy") - 46
    struct.pack_into("<I", content, place + 24, 150)  # the size without compression
    path.write_bytes(content)
    refusal(read_npz, path)


def test_a_gap_that_would_need_far_more_memory_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("t,y\n0,1\n1,2\n1000000000,3\n")
    message = ""

    def read() -> None:
        nonlocal message
        message = refusal(lambda path: read_series(path, ["y"], time="t", fill="linear"), path)

    assert peak(read) < MB
    assert "at most 10 steps of 1 per row and 100,000 more to fill" in message
    path.write_text("t,y\n0,1\n1,2\n1000,3\n")
    assert len(read_series(path, ["y"], time="t", fill="linear")) == 1001
    path.write_text("t,y\n0,1\n1e-300,2\n1e300,3\n")
    assert "after the first" in refusal(lambda path: read_series(path, ["y"], time="t", fill="linear"), path)


def test_a_table_of_a_series_takes_memory_for_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("t,a,b,c\n" + "".join(f"{k},1,2,3\n" for k in range(10_000)))
    assert peak(lambda: read_series(path, ["b"])) < 6 * path.stat().st_size + MB // 4


def test_many_names_are_compared_once(tmp_path: Path) -> None:
    """A header or a declaration with many names, and a row for each, took a time that grew with their square."""
    table, series = tmp_path / "a.csv", tmp_path / "a.ts"
    names = [f"n{k}" for k in range(25_000)]
    table.write_text(",".join(names) + "\n" + "1," * 24_999 + "1\n")
    series.write_text("@classLabel true " + " ".join(names) + "\n@data\n" + "".join(f"1:{name}\n" for name in names))
    start = time.process_time()
    assert read_csv(table).input_size == 1
    assert len(read_ts(series)) == 25_000
    assert time.process_time() - start < 2


@pytest.mark.parametrize("declaration", ["@dimensions 9", "@seri", "@classLabel ", "@missing "])
def test_long_declarations(declaration: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    path.write_text(f"{declaration}{'9' * 5000}\n@data\n1,2\n")
    refusal(read_ts, path)


def test_long_arguments(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    assert len(refusal(read_series, path, ["x" * 5000])) < 300
    with pytest.raises(ValueError, match="delimiter must be one of") as caught:
        read_csv(path, delimiter="x" * 5000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", sorted(NAMES - {"data", "problemname", "serieslength"}))
def test_declarations_without_a_value(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    path.write_text(f"@{name}\n@data\n1,2\n")
    assert f"@{name}".lower() in refusal(read_ts, path).lower()


def test_a_label_without_values(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    path.write_text("@classLabel true a\n@data\na\n")
    assert "line 3: must have values and a label, got a" in refusal(read_ts, path)


@pytest.mark.parametrize("options", [{"label": "a"}, {"id": "zz"}, {}])
def test_long_cells(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(c * 9000 for c in "abcdef") + "\n" + "x" * 9000 + ",2,3,4,5,6\n")
    refusal(read_csv, path, **options)
