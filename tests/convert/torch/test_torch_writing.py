"""Property: written files are read by PyTorch, with the same bytes each time."""

import os
from collections import OrderedDict

import numpy as np
import pytest
from case_loops import loop_over
from torch_file_builders import FORMATS, assert_same, contents, saved

from glasscell.convert.torch.files import read, write


@pytest.mark.parametrize("legacy", FORMATS)
def test_what_is_written_is_read(legacy, file, rng):
    content = contents(rng)
    write(content, file, legacy=legacy)
    assert_same(read(file), content)


@pytest.mark.parametrize("legacy", FORMATS)
def test_what_is_written_pytorch_reads(legacy, torch, file, rng):
    content = contents(rng)
    write(content, file, legacy=legacy)
    torch_content = torch.load(file, weights_only=True)
    assert type(torch_content) is OrderedDict
    assert torch_content["float32"].is_contiguous()
    assert_same(read(file), torch_content)
    for name in ("transposed", "strided"):
        content[name] = content[name].copy()
    assert_same(content, torch_content)


@pytest.mark.parametrize("legacy", FORMATS)
def test_pytorch_loads_the_weights_into_a_model(legacy, torch, file, rng):
    model = torch.nn.LSTM(2, 3)
    weights = {name: rng.normal(size=p.shape).astype(np.float32) for name, p in model.state_dict().items()}
    write(weights, file, legacy=legacy)
    model.load_state_dict(torch.load(file, weights_only=True))
    assert_same(weights, dict(model.state_dict()))


def test_pytorch_maps_an_archive_into_memory(torch, file, rng):
    weights = OrderedDict((f"w{k}", rng.normal(size=k)) for k in range(5))
    write(weights, file)
    torch_content = torch.load(file, weights_only=True, mmap=True)
    assert all(tensor.data_ptr() % 8 == 0 for tensor in torch_content.values())
    assert_same(weights, torch_content)


@pytest.mark.parametrize("legacy", FORMATS)
def test_files_of_pytorch_survive_a_round_trip(legacy, torch, tmp_path):
    model = torch.nn.LSTM(2, 3, bidirectional=True)
    saved(torch, model.state_dict(), tmp_path / "torch.pt", legacy)
    write(read(tmp_path / "torch.pt"), tmp_path / "glasscell.pt", legacy=legacy)
    assert_same(dict(read(tmp_path / "glasscell.pt")), dict(model.state_dict()))


@pytest.mark.parametrize("legacy", FORMATS)
def test_the_same_weights_are_the_same_bytes(legacy, tmp_path, rng):
    content = contents(rng)
    write(content, tmp_path / "a.pt", legacy=legacy)
    write(content, tmp_path / "b.pt", legacy=legacy)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("legacy", FORMATS)
def test_other_byte_orders_are_written_as_they_should_be(legacy, file):
    write({"w": np.arange(3, dtype=">f4"), "n": np.arange(3, dtype=">i8")}, file, legacy=legacy)
    assert_same(read(file), OrderedDict(w=np.arange(3, dtype=np.float32), n=np.arange(3)))


def test_scalars_of_numpy_are_tensors(file):
    write({"a": np.float32(2), "b": np.float64(3), "c": np.bool_(True)}, file)
    assert_same(read(file), OrderedDict(a=np.array(2, np.float32), b=np.array(3.0), c=np.array(True)))


@loop_over(
    ("value", "part"),
    [
        (np.zeros(2, complex), "weights['a'][1] must have a dtype that PyTorch's files support, got complex128"),
        (np.zeros(2, np.uint16), "support, got uint16"),
        (np.array(["x"]), "support, got <U1"),
        (np.array([None]), "support, got object"),
        ({1, 2}, "weights['a'][1] must be an array or plain data, got a set"),
        (b"x", "got a bytes"),
        (len, "got a builtin_function_or_method"),
        (2**3000, "got a int"),
    ],
)
def test_what_has_no_place_in_a_file_is_named(value, part, file):
    with pytest.raises(TypeError) as caught:
        write({"a": [0, value]}, file)
    assert part in str(caught.value)
    assert not file.exists()


def test_what_holds_itself_is_not_written(file):
    content = []
    content.append(content)
    with pytest.raises(ValueError, match="nested more than"):
        write({"a": content}, file)


def test_a_write_into_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        write({"w": np.ones(1)}, tmp_path / "nowhere" / "m.pt")


def test_a_failed_write_leaves_the_old_file(file, monkeypatch):
    write({"w": np.ones(1)}, file)
    before = file.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write({"w": np.zeros(1)}, file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]
