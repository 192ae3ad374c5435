"""Law: no changed bit of a file of ours goes unnoticed; files from before the checksum still load.

GLASSCELL_FLIPS=10000 tries as many changed bits, of all kinds of files together, instead of some hundreds.
"""

import json
import os
import struct
import zlib

import numpy as np
import pytest
from case_loops import loop_over
from safetensors import safe_open
from safetensors.numpy import load_file, save

import glasscell as gc
from glasscell import checkpoint, convert
from glasscell.layers import FinalState
from glasscell.trace.trace import Trace

FLIPS = int(os.environ.get("GLASSCELL_FLIPS", "800"))
H, I, T = 3, 2, 4


def random_values(model, rng):
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
    return model


class Kind:
    """How a kind of file is written and read, and what is in it."""

    def __init__(self, write, read, content):
        self.write, self.read, self.content = write, read, content


def sequential(rng):
    layers = [gc.LSTM(I, H, peepholes=True), FinalState(), gc.Linear(H, 2)]
    return random_values(gc.Sequential(layers, ["encoder", "last", "head"]), rng)


def saved_stream(rng, path):
    stream = random_values(gc.LSTM(I, H), rng).stream()
    stream.push(rng.normal(size=I))
    stream.save(path)


def loaded_stream(path):
    stream = gc.LSTM(I, H).stream()
    stream.load(path)
    return stream


def saved_trace(rng, path):
    x, y = rng.normal(size=(T, I)), rng.normal(size=(T, H))
    random_values(gc.LSTM(I, H, coupled="input"), rng).trace(x, y, input_names=["a", "b"]).save(path)


def of_model(model):
    return model.parameters.vector.tobytes()


def of_trace(trace):
    return [layer.value(name).tobytes() for layer in trace.layer for name in sorted(layer.names)]


KINDS = {
    "CopyLSTM": Kind(lambda rng, path: random_values(gc.CopyLSTM(H), rng).save(path), gc.CopyLSTM.load, of_model),
    "Sequential": Kind(lambda rng, path: sequential(rng).save(path), gc.Sequential.load, of_model),
    "LSTM": Kind(lambda rng, path: convert.save(random_values(gc.LSTM(I, H), rng), path), convert.load, of_model),
    "stream": Kind(saved_stream, loaded_stream, lambda stream: [part.tobytes() for part in stream.state]),
    "trace": Kind(saved_trace, Trace.load, of_trace),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def changed_header(content, change):
    """The bytes of a file whose header is changed, as a function of its JSON says, and nothing else."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def without_checksum(content):
    """The file as it was written before there were checksums."""

    def change(header):
        entry = json.loads(header["__metadata__"]["glasscell"])
        del entry["checksum"]
        header["__metadata__"]["glasscell"] = json.dumps(entry)

    return changed_header(content, change)


def test_no_changed_bit_goes_unnoticed(kind, tmp_path, rng):
    """Half of them in the header, where a bit may change a name, a shape or an option."""
    file = tmp_path / "a.safetensors"
    kind.write(rng, file)
    content, noticed = bytearray(file.read_bytes()), 0
    (length,) = struct.unpack("<Q", content[:8])
    count = FLIPS // len(KINDS)
    places = [
        *rng.integers(8 * (8 + length), size=count // 2),
        *rng.integers(8 * len(content), size=count - count // 2),
    ]
    for place in map(int, places):
        content[place // 8] ^= 1 << place % 8
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"\w") as caught:
            kind.read(file)
        assert "\n" not in str(caught.value)
        content[place // 8] ^= 1 << place % 8
        noticed += 1
    assert noticed == count


def test_every_bit_of_the_words_that_say_whose_file_it_is_is_noticed(kind, tmp_path, rng):
    file = tmp_path / "a.safetensors"
    kind.write(rng, file)
    content = bytearray(file.read_bytes())
    for word in (b"__metadata__", b"glasscell", b'{\\"checksum\\": \\"'):
        start = content.index(word)
        for place in range(8 * start, 8 * (start + len(word) + 1)):
            content[place // 8] ^= 1 << place % 8
            file.write_bytes(content)
            with pytest.raises(ValueError, match=r"\w"):
                kind.read(file)
            content[place // 8] ^= 1 << place % 8


def test_files_from_before_the_checksum_load(kind, tmp_path, rng):
    new, old = tmp_path / "new.safetensors", tmp_path / "old.safetensors"
    kind.write(rng, new)
    old.write_bytes(without_checksum(new.read_bytes()))
    assert b"checksum" in new.read_bytes()
    assert b"checksum" not in old.read_bytes()
    assert kind.content(kind.read(old)) == kind.content(kind.read(new))


def test_the_writer_of_before_is_still_read(tmp_path, rng):
    """As version 0.1.0 wrote it, byte by byte."""
    model = random_values(gc.LSTM(I, H), rng)
    entry = {"format": 1, "kind": "LSTM", "config": {"input_size": I, "hidden_size": H}}
    (tmp_path / "a.safetensors").write_bytes(save(model.to_torch(), {"glasscell": json.dumps(entry)}))
    assert of_model(convert.load(tmp_path / "a.safetensors")) == of_model(model)


def test_a_header_that_is_rewritten_with_the_same_meaning_is_noticed(kind, tmp_path, rng):
    """The checksum is of the bytes: a program that changes the file drops it."""
    file = tmp_path / "a.safetensors"
    kind.write(rng, file)

    def change(header):
        header["__metadata__"]["more"] = "x"

    file.write_bytes(changed_header(file.read_bytes(), change))
    with pytest.raises(ValueError, match="CRC-32"):
        kind.read(file)


@pytest.mark.parametrize("entry", ["checksun", "Checksum", "kindd"])
def test_an_unknown_entry_is_refused(entry, tmp_path, rng):
    """It may be the word "checksum", damaged."""
    model = random_values(gc.CopyLSTM(H), rng)
    model.save(tmp_path / "a.safetensors")

    def change(header):
        said = json.loads(header["__metadata__"]["glasscell"])
        header["__metadata__"]["glasscell"] = json.dumps({entry: said.pop("checksum"), **said})

    (tmp_path / "a.safetensors").write_bytes(changed_header((tmp_path / "a.safetensors").read_bytes(), change))
    with pytest.raises(ValueError, match=f"header with {entry}"):
        gc.CopyLSTM.load(tmp_path / "a.safetensors")


def test_a_checksum_in_another_entry_of_the_header_is_none(tmp_path, rng):
    """It is right, and that of the whole file; but a header with this entry alone has none."""
    model, file = random_values(gc.CopyLSTM(H), rng), tmp_path / "a.safetensors"
    model.save(file)

    def change(header):
        said = json.loads(header["__metadata__"]["glasscell"])
        del said["checksum"]
        header["__metadata__"] |= {"glasscell": json.dumps(said), "other": json.dumps({"checksum": "00000000"})}

    content = changed_header(file.read_bytes(), change)
    digits = f"{zlib.crc32(content):08x}".encode()
    file.write_bytes(content.replace(b"00000000", digits, 1))
    with pytest.raises(ValueError, match="a header with a checksum that is none"):
        gc.CopyLSTM.load(file)


def test_a_configuration_may_speak_of_checksums(tmp_path):
    config = {"checksum": "00000000", "text": '{"checksum": "00000000"'}
    file = tmp_path / "a.safetensors"
    checkpoint.save(checkpoint.Checkpoint("Other", config, {"w": np.ones(1)}), file)
    assert checkpoint.load(file).config == config


def test_the_same_is_the_same_bytes_and_opens_with_safetensors_alone(kind, tmp_path, rng):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file in files:
        kind.write(np.random.default_rng(0), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    with safe_open(files[0], framework="np") as content:
        assert content.metadata().keys() == {"glasscell"}
    assert all(np.isfinite(array).all() for array in load_file(files[0]).values())


def test_every_dtype_is_read_as_safetensors_reads_it(tmp_path, rng):
    arrays = {
        np.dtype(dtype).name: (rng.normal(size=(2, 3)) * 100).astype(dtype)
        for dtype in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
    }
    arrays |= {"scalar": np.full((), 3.0), "empty": np.zeros((0, 5))}
    (tmp_path / "a.safetensors").write_bytes(save(arrays))
    entry, found = checkpoint.read(tmp_path / "a.safetensors")
    assert entry is None
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable


def test_bfloat16_becomes_float32(tmp_path):
    header = json.dumps({"w": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    numbers = np.array([1.0, -2.5, 3.0e38], np.float32)
    upper = (numbers.view(np.uint32) >> 16).astype("<u2")
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(header)) + header + upper.tobytes())
    [array] = checkpoint.read(tmp_path / "a")[1].values()
    np.testing.assert_array_equal(array, (upper.astype(np.uint32) << 16).view(np.float32))
    np.testing.assert_array_equal(array[:2], numbers[:2])


@loop_over(
    ("header", "size"),
    [
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, 4),  # too few bytes for the shape
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, 8),  # a hole at the beginning
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 8),  # bytes after the end
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}} | {"v": {"dtype": "F32", "shape": [1]}}, 4),
        ({k: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for k in "vw"}, 4),  # one in another
        ({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, 4),
        ({"w": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}, 4),
        ({"w": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, 4),
        ({"w": {"dtype": "F32", "shape": [0, 2**61], "data_offsets": [0, 0]}}, 0),
        ({"w": {"dtype": "F32", "shape": [1] * 33, "data_offsets": [0, 4]}}, 4),
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "x": 0}}, 4),
        ({"w": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}}, 4),
        ({"w": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}, 4),
        ({"w": {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]}}, 4),
        ({"w": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, 1),  # 7 is neither
        ({"w": [1]}, 0),
        ({"w": None}, 0),
        ({"__metadata__": {"a": 1}}, 0),
        ({"__metadata__": []}, 0),
        ([], 0),
        (3, 0),
    ],
)
def test_a_header_that_lies_is_refused(header, size, tmp_path):
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(text)) + text + b"\7" * size)
    with pytest.raises(ValueError, match=r"safetensors file|dtype|neither true") as caught:
        checkpoint.read(tmp_path / "a")
    assert str(tmp_path / "a") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sparse_file_is_refused_before_it_is_read(tmp_path):
    """Its header is four bytes, its length a terabyte."""
    with (tmp_path / "a").open("wb") as file:
        file.write(struct.pack("<Q", 4) + b"{}  ")
        file.truncate(2**40)
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        checkpoint.read(tmp_path / "a")
