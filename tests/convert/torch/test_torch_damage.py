"""Property: incomplete, damaged and excessive files are refused with bounded memory."""

import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from case_loops import loop_over
from torch_file_builders import (
    FORMATS,
    ORDERED,
    archive,
    both,
    integer,
    name,
    peak,
    refusal,
    saved,
    storage,
    tensor,
    text,
)

from glasscell.convert.torch import files as torch_files
from glasscell.convert.torch import pickle_reader
from glasscell.convert.torch.files import read, write
from glasscell.limits import MemoryBudget


def memoized(depth):
    """Return nested tuples that contain a tuple twice: few bytes, and 2**depth leaves."""
    return b"N" + b"2\x86" * depth


BOMBS = {
    "memo of nothing": b"q\x00",
    "unknown memo": b"h\x07",
    "text": b"\x8d" + struct.pack("<Q", 2**40) + b"x",
    "more text than there can be": b"\x8d" + b"\xff" * 8 + b"x",
    "bytes": b"\x8e" + struct.pack("<Q", 2**62) + b"x",
    "short text": b"X\xff\xff\xff\xff",
    "text that is none": b"X\x01\x00\x00\x00\xff",
    "integer": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "decimal": b"I" + b"9" * 100_000 + b"\n",
    "line without end": b"c" + b"x" * 100_000,
    "deep": b"]" * 2_000 + b"a" * 1_999,
    "deep tuples": b"N" + b"\x85" * 2_000,
    "deep dicts": b"}" + b"K\x01}" * 2_000 + b"s" * 2_000,
    "key that takes for ever": b"}" + memoized(60) + b"Ns",
    "item that takes for ever": b"\x8f(" + memoized(60) + b"\x90",
    "key of many digits": b"}" + integer(2**1000) + b"Ns",
    "key that is a list": b"}]Ns",
    "key that is an array": b"}" + tensor([6], [1]) + b"Ns",
    "marks": b"(" * 5_000,
    "nothing": b"",
    "two things": b"NN",
    "too little": b"0",
    "too few": b"\x86",
    "no mark": b"t",
    "mark below": b"N(0t",
    "odd": b"}(Nu",
    "append to text": text("x") + b"Na",
    "append to an array": tensor([6], [1]) + b"Na",
    "set an item of an array": tensor([6], [1]) + b"K\x00K\x00s",
    "Size of a list": name("torch", "Size") + b"]\x85R",
    "device of a list": name("torch", "device") + b"]\x85R",
    "set of an array": name("builtins", "set") + tensor([6], [1]) + b"\x85R",
    "set of lists": name("builtins", "set") + b"](]e\x85R",
    "dict of text": name("collections", "OrderedDict") + text("ab") + b"\x85R",
    "dict of keys": name("collections", "OrderedDict") + b"](]e\x85R",
    "count of nothing": name("collections", "Counter") + b"N\x85R",
    "bytes of a number": name("_codecs", "encode") + b"K\x01" + text("latin1") + b"\x86R",
    "bytes in hexadecimal": name("_codecs", "encode") + text("00") + text("hex") + b"\x86R",
    "bytes of others": name("_codecs", "encode") + text("Ω") + text("latin1") + b"\x86R",
}


@loop_over("opcodes", BOMBS.values(), ids=BOMBS)
def test_a_pickle_that_is_too_much_or_too_little_is_refused(opcodes, file):
    for content in both(opcodes):
        file.write_bytes(content)
        refusal(file)
        assert peak(file) < 2**21


def test_places_in_the_memo_take_no_memory(file):
    file.write_bytes(archive(b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff"))
    tracemalloc.start()
    assert read(file) is None
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_what_is_shared_is_looked_at_once(file):
    file.write_bytes(archive(memoized(60)))
    content = read(file)
    for _ in range(60):
        assert content[0] is content[1]
        content = content[0]


def test_what_holds_itself_is_read(file):
    file.write_bytes(archive(b"]q\x00h\x00a"))
    content = read(file)
    assert content[0] is content


@pytest.mark.parametrize(
    "opcodes",
    [
        b"N0" * 600,
        b"](" + b"N" * 600 + b"eq\x00" + (name("builtins", "set") + b"h\x00\x85R0") * 2,
        (name("torch", "Size") + b")\x85R0") * 100 + b"N",
    ],
    ids=["opcodes", "copies of items", "calls"],
)
def test_the_work_for_a_pickle_is_bounded(opcodes, file, monkeypatch):
    monkeypatch.setattr(pickle_reader, "MAX_PICKLE_OPCODES", 1000)
    monkeypatch.setattr(pickle_reader, "BYTES_PER_OPCODE", 2**40)
    file.write_bytes(archive(opcodes))
    assert "more than 1000 steps" in refusal(file)


@pytest.mark.parametrize(
    "opcodes",
    [
        text("x" * 9000)
        + b"q\x00"
        + (name("_codecs", "encode") + b"h\x00" + text("latin1") + b"\x86R0") * 2000
        + b"0N",
        b"](" + b"\x8f" * 60_000 + b"e",  # sets, of one byte and 216
        b"](" + name("collections", "OrderedDict") + b"q\x00)R" + b"h\x00)R" * 40_000 + b"e",
        b"(" + (text("\U0001f600" * 250) + b"0") * 10_000 + b"t",
        b"](" + (name("a", "b" * 140)) * 40_000 + b"e",
    ],
    ids=["copies of bytes", "sets", "dicts", "characters", "names"],
)
def test_the_memory_for_a_pickle_is_bounded(opcodes, file, monkeypatch):
    monkeypatch.setattr("glasscell.limits.ALLOWANCE", 2**20)
    file.write_bytes(archive(opcodes))
    assert "needs more memory" in refusal(file)


def test_tuples_that_are_keys_are_counted(file):
    """Their hashes can be made to collide: a dict of n takes n² comparisons."""
    few, many = (
        b"}(" + b"".join(b"M" + struct.pack("<H", k) + b"K\x01\x86N" for k in range(n)) + b"u" for n in (9, 1025)
    )
    file.write_bytes(archive(few))
    assert read(file) == {(k, 1): None for k in range(9)}
    file.write_bytes(archive(many))
    assert "more than 1024 tuples as keys" in refusal(file)


def test_many_tensors_of_one_storage_are_bounded(file, monkeypatch):
    """A MiB of zeros, 100 times: expanded tensors may be larger than the file, but not without end."""
    monkeypatch.setattr("glasscell.limits.ALLOWANCE", 2**23)
    numbers = {"0": bytes(2**20)}
    few, many = (b"(" + tensor([2**18], [1], count=2**18) * n + b"t" for n in (8, 100))
    file.write_bytes(archive(few, numbers))
    assert len(read(file)) == 8
    file.write_bytes(archive(many, numbers))
    assert "needs more memory than 3 times" in refusal(file)
    assert peak(file) < 14 * 2**20


def test_no_file(tmp_path):
    for path in (tmp_path / "nothing.pt", tmp_path):
        with pytest.raises(FileNotFoundError) as caught:
            read(path)
        assert str(path) in str(caught.value)


@loop_over(
    "content",
    [
        b"",
        b"\x80",
        b"PK",
        b"PK\x03\x04",
        b"PK\x05\x06" + bytes(18),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        bytes(600),
        b"{}",
        pickle.dumps({"w": 1}, 2),
        pickle.dumps(torch_files.MAGIC, 2),
        pickle.dumps(torch_files.MAGIC, 2) + pickle.dumps(1002, 2),
        pickle.dumps(torch_files.MAGIC, 2) + pickle.dumps([1001], 2),
        bytes(257) + b"ustar" + bytes(300),
    ],
    ids=range(13),
)
def test_another_kind_of_file_is_refused(content, file):
    file.write_bytes(content)
    refusal(file)


def test_random_bytes_are_refused(file, rng):
    for k, size in enumerate(rng.integers(0, 500, 200)):
        file.write_bytes([b"", b"\x80\x02", b"PK\x03\x04"][k % 3] + rng.bytes(size))
        refusal(file)


def sample(legacy, path):
    write({"w": np.arange(3.0), "nested": {"list": [1, 2.5, None, "x"], "b": np.arange(2)}}, path, legacy=legacy)
    return path.read_bytes()


@pytest.mark.parametrize("legacy", FORMATS)
def test_every_part_of_a_file_is_refused(legacy, file):
    content = sample(legacy, file)
    for length in range(len(content)):
        file.write_bytes(content[:length])
        refusal(file)
    file.write_bytes(content + b"\0")
    refusal(file)


@pytest.mark.parametrize("legacy", FORMATS)
def test_every_part_of_a_file_of_pytorch_is_refused(legacy, torch, file):
    content = saved(torch, {"w": torch.arange(3.0), "n": 1}, file, legacy).read_bytes()
    for length in range(0, len(content), 3):
        file.write_bytes(content[:length])
        refusal(file)


def outcome(file):
    """Read a damaged file: any result, or a ValueError that names the file."""
    try:
        read(file)
    except ValueError as error:
        assert type(error) is ValueError  # noqa: PT017 - it need not be raised
        assert str(error).startswith(str(file))  # noqa: PT017
        return 1
    return 0


def damage(content, rng):
    damaged = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 4)):
        damaged[place] = rng.integers(256)
    return bytes(damaged)


@pytest.mark.parametrize("legacy", FORMATS)
def test_a_damaged_file_is_refused_or_does_no_harm(legacy, file, rng):
    content, refused = sample(legacy, file), 0
    for _ in range(400):
        file.write_bytes(damage(content, rng))
        refused += outcome(file)
    assert refused > 200


def test_a_damaged_pickle_is_refused_or_does_no_harm(file, rng):
    """In an archive whose checksums are right."""
    opcodes, refused = tensor([2, 3], [3, 1]) + b"]q\x00" + ORDERED + text("k") + b"h\x00s\x87", 0
    for _ in range(400):
        file.write_bytes(archive(damage(opcodes, rng)))
        refused += outcome(file)
    assert refused > 200


def test_opcodes_in_any_order_are_refused_or_do_no_harm(file, rng):
    """Pieces of pickles that make sense, in an order that mostly does not."""
    names = [name(*full.rsplit(".", 1)) for full in torch_files.TensorLoader(MemoryBudget(1)).names]
    pieces = [bytes([code]) for code in range(256)] + names + list(BOMBS.values())[2:3]
    pieces += [b"K\x01", b"q\x00", b"h\x00", text("storage"), text("0"), storage(6), tensor([6], [1]), ORDERED] * 20
    for _ in range(400):
        chosen = rng.integers(0, len(pieces), rng.integers(1, 40))
        file.write_bytes(archive(b"".join(pieces[k] for k in chosen)))
        outcome(file)
