"""Property: no file runs code; objects that are not weights are read as names only."""

import argparse
import os
import pickle
import warnings
import zipfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from case_loops import loop_over
from torch_file_builders import (
    FORMATS,
    ORDERED,
    SIX,
    archive,
    assert_same,
    both,
    name,
    refusal,
    saved,
    storage,
    stream,
    tensor,
    text,
)

from glasscell.convert.torch.files import read
from glasscell.convert.torch.pickle_reader import Unread
from glasscell.convert.torch.state_dicts import describe_unread, state_dict


class Attack:
    """Makes a folder where it is unpickled by Python's own pickle."""

    def __init__(self, path, how):
        self.path, self.how = str(path), how

    def __reduce__(self):
        return {
            "mkdir": (os.mkdir, (self.path,)),
            "system": (os.system, (f"mkdir {self.path}",)),
            "eval": (eval, (f"__import__('os').mkdir({self.path!r})",)),
        }[self.how]


@pytest.mark.parametrize("how", ["mkdir", "system", "eval"])
@pytest.mark.parametrize("protocol", range(6))
def test_no_code_runs(protocol, how, tmp_path, file):
    victim = tmp_path / "victim"
    attack = pickle.dumps({"weights": [Attack(victim, how)]}, protocol)
    asked_for = f"{'builtins' if how == 'eval' else os.name}.{how}"
    for content in [archive(attack[:-1]), stream(attack[:-1], []), attack]:
        file.write_bytes(content)
        if protocol == 0 or content == attack:  # text, and no file of torch.save's
            refusal(file)
        else:
            [made] = read(file)["weights"]
            assert type(made) is Unread
            assert made.name.replace("__builtin__", "builtins") == asked_for
        assert not victim.exists()
    pickle.loads(attack)  # noqa: S301 - the attack works
    assert victim.exists()


@loop_over(
    ("opcodes", "part"),
    [
        (text("torch") + b"N\x930N", "a name that is not text"),
        (b"(" + name("collections", "OrderedDict") + b"o", "an instance of an object that is not a class"),
        (name("collections", "OrderedDict") + b")\x81", "an instance of an object that is not a class"),
        (name("collections", "OrderedDict") + b")}\x92", "an instance of an object that is not a class"),
        (name("copyreg", "_reconstructor") + name("torch", "Size") + b"\x85R", "an instance of an object that is not"),
        (b"\x82\x01", "opcode EXT1"),
        (b"\x83\x01\x00", "opcode EXT2"),
        (b"\x84\x01\x00\x00\x00", "opcode EXT4"),
        (b"\x97", "opcode NEXT_BUFFER"),
        (b"Pstorage\n", "opcode PERSID"),
        (b"\xff", "opcode 0xff"),
        (text("os.system") + text("true") + b"\x85R", "calls an object that is not a function"),
        (ORDERED + text("true") + b"\x85R", "calls an object that is not a function"),
        (name("torch", "FloatStorage") + b")R", "calls an object that is not a function"),
        (name("torch", "Size") + text("12") + b"R", "calls an object that is not a function"),
        (name("torch", "Size") + b"}b", "sets attributes of a dict, list, number or text"),
        (b"}}b", "sets attributes of a dict, list, number or text"),
        (tensor([6], [1]) + b"}" + text("data") + b"Nsb", "sets attributes of a dict, list, number or text"),
        (name("torch", "Size"), "contains a function or storage"),
        (b"](" + name("torch", "FloatStorage") + b"e", "contains a function or storage"),
        (storage(6), "contains a function or storage"),
    ],
    ids=range(21),
)
def test_what_is_not_data_is_refused_by_name(opcodes, part, file):
    for content in both(opcodes):
        file.write_bytes(content)
        assert part in refusal(file)


@pytest.mark.parametrize(
    ("opcodes", "class_name"),
    [
        (name("os", "system") + b"(" + text("true") + b"tR", "os.system"),
        (name("os", "system"), "os.system"),
        (name("builtins", "eval") + b"(" + text("1") + b"tR", "builtins.eval"),
        (name("torch", "os.system"), "torch.os.system"),
        (text("torch.os") + text("system") + b"\x93", "torch.os.system"),
        (text("collections") + text("OrderedDict.__init__.__globals__") + b"\x93", "collections.OrderedDict.__init__"),
        (name("numpy", "load") + b"}b", "numpy.load"),
        (name("torch.storage", "_load_from_bytes") + b"C\x01x\x85R", "torch.storage._load_from_bytes"),
        (name("os", "system\x1b[31m"), "os.system\\x1b[31m"),
        (name("os", "x" * 10_000), "os.xxx"),
        (b"(" + text("true") + b"ios\nsystem\n", "os.system"),
        (b"(" + name("os", "system") + text("true") + b"o", "os.system"),
        (name("os", "system") + b"(" + text("true") + b"t\x81", "os.system"),
        (name("os", "system") + b"(" + text("true") + b"t}\x92", "os.system"),
        (name("copyreg", "_reconstructor") + b"(" + name("a", "B") + name("builtins", "object") + b"NtR", "a.B"),
        (name("a", "B") + b")\x81}" + text("data") + name("os", "system") + text("x") + b"\x85Rsb", "a.B"),
        (name("a", "B") + b")R(" + name("os", "system") + b")Re", "a.B"),
        (name("a", "B") + b")R(K\x01" + name("os", "system") + b")Ru", "a.B"),
        (tensor([6], [1], kind="ComplexFloatStorage"), "torch.ComplexFloatStorage"),
    ],
    ids=range(19),
)
def test_what_is_not_data_is_only_a_name(opcodes, class_name, file):
    """An object next to the weights is no obstacle, and no part of it is made; alone it is no model."""
    six = SIX.tobytes()
    with_tensor = b"}" + text("w") + tensor([6], [1], key="1") + b"s"
    storages = {"0": bytes(48), "1": six}, [("0", 6, bytes(48)), ("1", 6, six)]
    for write_file, held in zip((archive, stream), storages, strict=True):
        used = held if b"Complex" in opcodes else dict([*held.items()][1:]) if type(held) is dict else held[1:]
        file.write_bytes(write_file(with_tensor + text("more") + opcodes + b"s", used))
        content = read(file)
        np.testing.assert_array_equal(content["w"], SIX)
        assert type(content["more"]) is Unread
        assert content["more"].name.startswith(class_name)
        assert len(content["more"].name) <= 200
        file.write_bytes(write_file(opcodes, used[:-1] if type(used) is list else used))
        assert f"an object of the class {class_name}" in refusal(file)


OTHER_OBJECTS = {
    "number": lambda _: np.float64(0.3),
    "array": lambda _: np.zeros(3),
    "namespace": lambda _: argparse.Namespace(lr=0.1, path=Path("a")),
    "function": lambda torch: torch.nn.functional.binary_cross_entropy,
    "path": lambda _: PurePosixPath("a/b"),
    "key": lambda _: {PurePosixPath: 1},
    "datetime": lambda _: datetime(2024, 1, 2, tzinfo=UTC),
    "module": lambda torch: torch.nn.Linear(1, 1),
    "schedule": lambda torch: torch.optim.lr_scheduler.MultiStepLR(torch.optim.SGD([torch.ones(1)]), [5]).state_dict(),
}


@loop_over("legacy", FORMATS)
@loop_over("protocol", [2, 4])
@loop_over("kind", OTHER_OBJECTS)
def test_objects_beside_the_weights_do_not_hinder(kind, protocol, legacy, torch, file):
    weights = torch.nn.LSTM(1, 2).state_dict()
    content = {"state_dict": weights, "more": OTHER_OBJECTS[kind](torch), "lists": [defaultdict(list, a=[1])]}
    with warnings.catch_warnings(action="ignore"):
        saved(torch, content, file, legacy, pickle_protocol=protocol)
    with warnings.catch_warnings(action="error"):
        assert_same(state_dict(read(file)), dict(weights))
    assert read(file)["lists"] == [{"a": [1]}]


def test_tensors_of_a_subclass_are_tensors(torch, file):
    weights = {"w": torch.ones(2).as_subclass(type("Image", (torch.Tensor,), {"__module__": "builtins"}))}
    import builtins  # noqa: PLC0415

    builtins.Image = type(weights["w"])
    try:
        saved(torch, weights, file, False)
    finally:
        del builtins.Image
    np.testing.assert_array_equal(read(file)["w"], [1, 1])


def test_attributes_of_an_ordered_dict_change_nothing(file):
    """PyTorch sets _metadata; another file might set whatever the next call uses."""
    state = b"}(" + text("_metadata") + b"}" + text("__class__") + b"N" + text("keys") + b"N" + text("items") + b"Nu"
    file.write_bytes(archive(ORDERED + text("w") + tensor([6], [1]) + b"s" + state + b"b"))
    content = read(file)
    assert vars(content) == {}
    assert list(content.keys()) == ["w"]


@pytest.mark.parametrize("legacy", FORMATS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_whole_model_is_refused_by_the_name_of_its_class(protocol, legacy, torch, file):
    for content in (torch.nn.Linear(1, 1), {"epoch": 1, "model": torch.nn.LSTM(1, 1)}):
        with warnings.catch_warnings(action="ignore"):
            saved(torch, content, file, legacy, pickle_protocol=protocol)
        with pytest.raises(ValueError, match=r"save model\.state_dict\(\)") as caught:
            state_dict(read(file))
        of_class = f"torch.nn.modules.{'rnn.LSTM' if isinstance(content, dict) else 'linear.Linear'}"
        assert of_class in str(caught.value)


def test_a_module_in_the_old_format(file):
    file.write_bytes(stream(b"(" + text("module") + b"q\x00" + name("__main__", "Model") + b"NNtQ)R", []))
    assert "class __main__.Model" in refusal(file)


UNREADABLE = {
    "complex": (lambda torch: torch.zeros(2, dtype=torch.complex64), "complex"),
    "negated part": (lambda torch: torch.zeros(2, dtype=torch.complex64).conj().imag, "complex"),
    "quantized": (lambda torch: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "quantized"),
    "sparse": (lambda torch: torch.eye(2).to_sparse(), "sparse"),
    "float8": (lambda torch: torch.zeros(2).to(torch.float8_e4m3fn), "float8"),
    "meta": (lambda torch: torch.zeros(2, device="meta"), "without values"),
}


@pytest.mark.parametrize("legacy", FORMATS)
@pytest.mark.parametrize(("make", "part"), UNREADABLE.values(), ids=UNREADABLE)
def test_tensors_that_cannot_be_read_keep_their_names(make, part, legacy, torch, file):
    with warnings.catch_warnings(action="ignore"):
        saved(torch, {"v": make(torch), "w": torch.ones(2)}, file, legacy)
    weights = state_dict(read(file))
    assert list(weights) == ["v", "w"]
    assert part in describe_unread(weights["v"])
    np.testing.assert_array_equal(weights["w"], [1, 1])
    with warnings.catch_warnings(action="ignore"):
        saved(torch, {"v": make(torch)}, file, legacy)
    with pytest.raises(ValueError, match=f"must be a dict of arrays, or contain one; 'v'.*{part}"):
        state_dict(read(file))


def test_a_storage_by_itself_is_refused(torch, file):
    with warnings.catch_warnings(action="ignore"):
        saved(torch, torch.ones(2).untyped_storage(), file, False)
    assert "contains a function or storage" in refusal(file)


def test_torchscript_is_refused(file):
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # its code is compressed
        file.write_bytes(archive(b"N", compression=compression, **{"constants.pkl": b"", "code/a.py": bytes(99)}))
        assert "TorchScript" in refusal(file)
        assert "state_dict()" in refusal(file)
