"""Property: tensors, storages and archives that do not fit together are refused."""

import io
import struct
import warnings
import zipfile

import numpy as np
import pytest
from case_loops import loop_over
from torch_file_builders import SIX, archive, both, integer, name, peak, refusal, stream, tensor, text

from glasscell.convert.torch.files import read


@loop_over(
    ("opcodes", "part"),
    [
        (tensor([7], [1]), "shape (7,), strides (1,) and offset 0 outside its storage '0' of 6"),
        (tensor([6], [1], offset=1), "offset 1 outside"),
        (tensor([2, 3], [4, 1]), "strides (4, 1)"),
        (tensor([3], [3]), "strides (3,)"),
        (tensor([2**62], [1]), "outside"),
        (tensor([2], [2**62]), "outside"),
        (tensor([], [], offset=6), "shape (), strides () and offset 6"),
        (tensor([], [], offset=2**62), "outside"),
        (tensor([3], [-1], offset=2), "invalid size, stride or offset"),
        (tensor([-3], [1]), "invalid size, stride"),
        (tensor([-1, -6], [1, 1]), "invalid size, stride"),
        (tensor([6], [1], offset=-1), "invalid size, stride or offset"),
        (tensor([2**63], [0]), "invalid size, stride"),
        (tensor([2**2000], [0]), "invalid size, stride"),
        (tensor([6], [1, 1]), "an invalid tensor"),
        (tensor([1] * 65, [1] * 65), "an invalid tensor"),
        (tensor([2**40], [0]), "needs more memory than 3 times"),
        (tensor([2**20, 2**20, 2**20], [0, 0, 0]), "needs more memory than 3 times"),
        (tensor([0, 2**62, 2**62], [1, 1, 1]), "damaged"),
        (tensor([6], [1], count=-6), "an invalid storage"),
        (tensor([6], [1], count=2**60), f"{2**62}"),
        (tensor([6], [1], count=7), "28"),
        (tensor([6], [1], count=6, kind="DoubleStorage"), "48"),
        (tensor([2], [1], key="1"), "storage"),
        (tensor([2], [1], key="../data/0"), "storage"),
        (b"(" + tensor([6], [1]) + tensor([3], [1], count=5) + b"t", "two sizes"),
        (b"(" + tensor([6], [1]) + tensor([3], [1], kind="DoubleStorage") + b"t", "two sizes"),
        (tensor([2], [1], view=b"(" + text("1") + integer(5) + integer(2) + b"t"), "a range outside its storage"),
        (tensor([2], [1], view=b"(" + text("1") + integer(-1) + integer(2) + b"t"), "a range outside its storage"),
        (tensor([2], [1], view=b"(" + text("1") + integer(2) + integer(-1) + b"t"), "a range outside its storage"),
        (tensor([4], [1], view=b"(" + text("1") + integer(2) + integer(3) + b"t"), "outside its storage"),
        (tensor([2], [1], rest=b"}" + text("neg") + b"\x88s"), "complex"),
        (name("torch._utils", "_rebuild_tensor_v2") + b"(KKK" + b"tR", "damaged"),
        (name("torch._utils", "_rebuild_tensor_v2") + b"(tR", "damaged"),
        (name("torch._utils", "_rebuild_parameter") + b"(K\x01\x89NtR", "a parameter without a tensor"),
        (b"(" + text("storage") + b"tQ", "an invalid storage"),
        (b"(" + text("other") + name("torch", "FloatStorage") + text("0") + b"N" + integer(6) + b"tQ", "storage"),
        (text("storage") + b"Q", "an invalid storage"),
    ],
    ids=range(38),
)
def test_a_tensor_that_does_not_fit_its_storage_is_refused(opcodes, part, file):
    for content in both(opcodes):
        file.write_bytes(content)
        message = refusal(file)
        assert part in message or (content[:2] == b"\x80\x02" and "values in its storage" in message)
        assert peak(file) < 2**20


@loop_over(
    ("storages", "part"),
    [
        ([], "does not contain its storage '0'"),
        ([("0", 7, bytes(28))], "must have 6 values in its storage '0', got 7"),
        ([("0", -1, bytes(24))], "got 18446744073709551615"),
        ([("0", 2**62, bytes(24))], "values in its storage"),
        ([("0", 6, bytes(23))], "after 23 of 24 bytes"),
        ([("0", 6, bytes(25))], "1 bytes after its end"),
        ([("0", 6, bytes(24)), ("0", 6, bytes(24))], "no tensor uses"),
        ([("0", 6, bytes(24)), ("1", 6, bytes(24))], "no tensor uses"),
        ([(0, 6, bytes(24))], "no tensor uses"),
        ([(None, 6, bytes(24))], "no tensor uses"),
    ],
)
def test_storages_of_a_stream_that_do_not_fit_are_refused(storages, part, file):
    file.write_bytes(stream(tensor([6], [1]), storages))
    assert part in refusal(file)


@loop_over(
    ("entries", "part"),
    [
        ({"storages": {}}, "does not contain its storage '0'"),
        ({"storages": {"0": bytes(23)}}, "must have 24 bytes in its storage '0', got 23"),
        ({"storages": {"0": bytes(25)}}, "got 25"),
        ({"byteorder": b"middle"}, "byte order 'little' or 'big', got b'middle'"),
        ({"prefix": ""}, "0 entries data.pkl"),
        ({"inner/data.pkl": b"N."}, "2 entries data.pkl"),
        ({"compression": zipfile.ZIP_DEFLATED}, "compressed or encrypted"),
        ({"compression": zipfile.ZIP_LZMA}, "compressed or encrypted"),
    ],
)
def test_entries_of_an_archive_that_do_not_fit_are_refused(entries, part, file):
    file.write_bytes(archive(tensor([6], [1]), **entries))
    assert part in refusal(file)


def test_bytes_behind_the_pickle_are_refused(file):
    file.write_bytes(archive(b"N.N"))
    assert "after the end of its pickle" in refusal(file)


def test_damage_is_found_wherever_it_is(file):
    """One byte of any entry, and the checksum does not match."""
    content = archive(tensor([6], [1]), version=b"3\n")
    for part in (SIX.tobytes(), b"_rebuild_tensor_v2", b"3\n"):
        damaged = bytearray(content)
        damaged[content.index(part) + 1] ^= 1
        file.write_bytes(damaged)
        assert "CRC-32" in refusal(file)


def test_swapped_entries_are_found(file):
    a, b = np.arange(6, dtype="<f4"), np.arange(6, 12, dtype="<f4")
    opcodes = b"(" + tensor([6], [1]) + tensor([6], [1], key="1") + b"t"
    content = archive(opcodes, {"0": a.tobytes(), "1": b.tobytes()})
    swapped = content.replace(a.tobytes(), b"?" * 24).replace(b.tobytes(), a.tobytes())
    file.write_bytes(swapped.replace(b"?" * 24, b.tobytes()))
    assert "CRC-32" in refusal(file)


@pytest.mark.parametrize("entry", ["archive/data/0", "archive/data.pkl", "archive/version"])
def test_a_name_twice_is_refused(entry, file):
    out = io.BytesIO(archive(tensor([6], [1]), version=b"3\n"))
    with zipfile.ZipFile(out, "a") as opened, warnings.catch_warnings(action="ignore"):
        opened.writestr(entry, bytes(24))
    file.write_bytes(out.getvalue())
    assert f"{entry!r} twice" in refusal(file)


def test_names_that_lead_out_of_the_archive_are_only_names(file):
    content = archive(tensor([6], [1]), prefix="../../archive/", **{"../evil": b"x"})
    file.write_bytes(content)
    np.testing.assert_array_equal(read(file), SIX)
    assert list(file.parent.iterdir()) == [file]


def patched(content, entry, at, value):
    """Write an archive whose directory differs from an entry."""
    place = content.rindex(entry.encode()) - 46
    assert content[place : place + 4] == b"PK\x01\x02"
    return content[: place + at] + value + content[place + at + len(value) :]


@loop_over(
    ("at", "value", "part"),
    [
        (8, b"\x01\x00", "encrypted"),
        (10, b"\x08\x00", "compressed"),
        (10, b"\x63\x00", "compressed"),
        (20, struct.pack("<II", 2**31, 2**31), "longer than the file"),
        (20, struct.pack("<II", 23, 24), "compressed"),
        (24, struct.pack("<I", 2**32 - 1), "compressed"),
        (42, struct.pack("<I", 0), "does not begin at its offset"),
        (42, struct.pack("<I", 7), "does not begin at its offset"),
        (42, struct.pack("<I", 2**32 - 1), "does not begin at its offset"),
        (6, b"\xff\x00", "not a complete zip archive"),
        (28, struct.pack("<H", 1), "not a complete zip archive"),
    ],
)
def test_a_directory_that_lies_is_refused(at, value, part, file):
    file.write_bytes(patched(archive(tensor([6], [1])), "archive/data/0", at, value))
    assert part in refusal(file)
    assert peak(file) < 2**20


def test_entries_in_one_another_are_refused(file):
    """A storage that covers the next entry: many of them could be far larger than the file."""
    content = archive(tensor([6], [1]), {"0": SIX.tobytes(), "1": bytes(400)})
    file.write_bytes(patched(content, "archive/data/0", 20, struct.pack("<II", 100, 100)))
    assert refusal(file)
    import zlib  # noqa: PLC0415

    start = content.index(SIX.tobytes())
    crc = zlib.crc32(content[start : start + 100])
    lying = patched(content, "archive/data/0", 16, struct.pack("<III", crc, 100, 100))
    file.write_bytes(lying)
    assert "'archive/data/1' does not begin at its offset" in refusal(file)


@pytest.mark.parametrize("garbage", [b"MZ garbage", b"PK\x03\x04 garbage", archive(b"N")])
def test_an_archive_behind_something_else_is_refused(garbage, file):
    file.write_bytes(garbage + archive(tensor([6], [1])))
    refusal(file)


def test_a_compressed_bomb_takes_no_memory(file):
    file.write_bytes(archive(b"N", {"0": bytes(2**24)}, compression=zipfile.ZIP_DEFLATED))
    assert peak(file) < 2**20
