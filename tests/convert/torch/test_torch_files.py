"""Property: files that PyTorch saved, now and earlier, are read exactly."""

import subprocess
import sys
from collections import Counter, OrderedDict

import numpy as np
import pytest
from torch_file_builders import (
    DTYPES,
    FORMATS,
    GOLDEN,
    SIX,
    archive,
    assert_same,
    integer,
    integers,
    name,
    saved,
    storage,
    stream,
    tensor,
    text,
)

from glasscell.convert.torch.files import read, write
from glasscell.convert.torch.state_dicts import state_dict

NEWER_DTYPES = ["bfloat16", "uint16", "uint32", "uint64"]  # read, and not written


@pytest.mark.parametrize("legacy", FORMATS)
@pytest.mark.parametrize("dtype", [*DTYPES, *NEWER_DTYPES])
def test_every_dtype(dtype, legacy, torch, file, rng):
    values = torch.tensor(rng.integers(0, 100, (3, 4))).to(getattr(torch, dtype))
    saved(torch, {"w": values, "row": values[1]}, file, legacy)
    assert_same(read(file), {"w": values, "row": values[1]})


@pytest.mark.parametrize("legacy", FORMATS)
def test_bfloat16_keeps_every_value(legacy, torch, file):
    patterns = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
    values = patterns.view(torch.bfloat16)
    saved(torch, [values, values[::7]], file, legacy)
    read_back = read(file)
    np.testing.assert_array_equal(read_back[0], values.float().numpy())
    np.testing.assert_array_equal(read_back[1], values[::7].float().numpy())


LAYOUTS = {
    "transposed": lambda x: x.T,
    "permuted": lambda x: x.reshape(2, 5, 6).permute(2, 0, 1),
    "strided": lambda x: x[1::3, ::2],
    "offset": lambda x: x[4:],
    "0-d": lambda x: x[3, 2],
    "empty": lambda x: x[:0],
    "empty between": lambda x: x[:, 5:5],
    "expanded": lambda x: x[:1, :1].expand(40, 50),
    "diagonal": lambda x: x.diagonal(),
    "windows": lambda x: x.flatten().unfold(0, 5, 1),
    "ones": lambda x: x[None, :, None, 2:3],
    "many axes": lambda x: x[:2, :3].reshape((1,) * 30 + (2, 3)),
}


@pytest.mark.parametrize("legacy", FORMATS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout(layout, legacy, torch, file, rng):
    values = layout(torch.tensor(rng.normal(size=(10, 6))))
    saved(torch, values, file, legacy)
    assert_same(read(file), values)


@pytest.mark.parametrize("legacy", FORMATS)
def test_shared_storages_become_arrays_of_their_own(legacy, torch, file):
    whole = torch.arange(12.0)
    saved(torch, {"a": whole[:5], "b": whole[3:], "c": whole.view(3, 4).T}, file, legacy)
    content = read(file)
    assert_same(content, {"a": whole[:5], "b": whole[3:], "c": whole.view(3, 4).T})
    content["a"][:] = 99
    assert_same(content["b"], whole[3:])


@pytest.mark.parametrize("legacy", FORMATS)
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_a_checkpoint_of_a_model(protocol, legacy, torch, file):
    model = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(2, 3, 2), "norm": torch.nn.BatchNorm1d(3)})
    optimizer = torch.optim.AdamW(model.parameters(), amsgrad=True)
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 9])
    content = {
        "epoch": 3,
        "loss": float("inf"),
        "model_state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": {k: v for k, v in schedule.state_dict().items() if k != "milestones"},
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "list": [None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), -1, 2**31, -(2**63), 2**100, 0.1, "ä\n"],
        (0, "x"): b"",
        "bytes": b"\x00\xff",
        "long": "x" * 300,
    }
    saved(torch, content, file, legacy, pickle_protocol=protocol)
    assert_same(read(file), content)
    assert_same(state_dict(read(file)), dict(content["model_state_dict"]))


@pytest.mark.parametrize("legacy", FORMATS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_is_not_a_tensor(protocol, legacy, torch, file):
    content = {
        "size": torch.Size([2, 3]),
        "devices": [torch.device("cpu"), torch.device("cuda", 1)],
        "dtype": torch.float32,
        "counter": Counter({5: 1, 9: 2}),
        "sets": [{1, "a"}, frozenset([2]), set()],
        "attributes": torch.nn.Linear(1, 1).state_dict(),
    }
    expected = content | {
        "size": (2, 3),
        "devices": ["cpu", "cuda:1"],
        "dtype": "torch.float32",
        "counter": {5: 1, 9: 2},
    }
    saved(torch, content, file, legacy, pickle_protocol=protocol)
    assert_same(read(file), expected)


def test_parameters_with_attributes(torch, file):
    weight = torch.nn.Parameter(torch.ones(2))
    weight.note = "of the first layer"
    saved(torch, {"w": weight}, file, False)
    assert_same(read(file), {"w": weight})


@pytest.mark.parametrize("name", ["m.pt", "a name with ä.pth", "data.pkl", "archive"])
def test_the_name_of_an_archive_is_of_no_importance(name, torch, tmp_path):
    saved(torch, {"w": torch.ones(2)}, tmp_path / name, False)
    for path in (tmp_path / name, str(tmp_path / name)):
        assert_same(read(path), {"w": torch.ones(2)})


def test_the_same_tensor_twice_is_one_array(torch, file):
    one = torch.ones(2)
    saved(torch, [one, one], file, False)
    first, second = read(file)
    assert first is second


@pytest.mark.parametrize("kind", ["torch_state_dict", "torch_state_dict_legacy", "torch_checkpoint_nested"])
def test_golden_files(kind):
    if not GOLDEN.is_dir():
        pytest.skip(f"there are no golden files at {GOLDEN}")
    weights = state_dict(read(GOLDEN / f"{kind}.pt"))
    assert {array.dtype.name for array in weights.values()} == {"float32"}
    if kind.startswith("torch_state_dict"):
        with np.load(GOLDEN / "torch_expected.npz") as expected:
            assert {f"param/{name}" for name in weights} == {name for name in expected if name.startswith("param/")}
            for entry, array in weights.items():
                np.testing.assert_array_equal(array, expected[f"param/{entry}"])


def test_golden_files_as_pytorch_reads_them(torch):
    if not GOLDEN.is_dir():
        pytest.skip(f"there are no golden files at {GOLDEN}")
    for path in GOLDEN.glob("*.pt"):
        assert_same(read(path), torch.load(path, weights_only=True))


def test_pytorch_is_not_imported(file):
    write({"w": np.ones(2)}, file)
    code = "import sys; from glasscell.convert import torch as torch_files; torch_files.read(sys.argv[1])"
    code += "; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, file], check=True)


def test_a_part_of_a_storage(file):
    """As in early versions: the tensor lies in a view (key, first number, length) of its storage."""
    view = b"(" + text("1") + integer(2) + integer(3) + b"t"
    file.write_bytes(stream(tensor([2], [1], offset=1, view=view)))
    np.testing.assert_array_equal(read(file), [3, 4])


def test_python_2(file):
    """Its text is a str of bytes, and an OrderedDict gets its items as a list of lists."""
    items = b"](](U\x01w" + tensor([6], [1]) + b"e](U\x01n" + b"I123456789012\ne" + b"e"
    file.write_bytes(stream(name("collections", "OrderedDict") + b"(" + items + b"tR}U\x09_metadata}sb"))
    content = read(file)
    assert type(content) is OrderedDict
    assert content["n"] == 123456789012
    np.testing.assert_array_equal(content["w"], SIX)


def test_the_first_way_to_make_a_tensor(file):
    opcodes = name("torch._utils", "_rebuild_tensor") + b"(" + storage(6) + integer(0) + integers([6]) + integers([1])
    file.write_bytes(stream(opcodes + b"tR"))
    np.testing.assert_array_equal(read(file), SIX)


@pytest.mark.parametrize(("kind", "dtype"), [("FloatStorage", ">f4"), ("LongStorage", ">i8"), ("ByteStorage", "u1")])
def test_big_endian_archives(kind, dtype, file):
    content = archive(tensor([6], [1], kind=kind), {"0": SIX.astype(dtype).tobytes()}, byteorder=b"big")
    file.write_bytes(content)
    np.testing.assert_array_equal(read(file), SIX)
    assert read(file).dtype.isnative


def test_big_endian_bfloat16(file):
    upper = (SIX.view(np.uint32) >> 16).astype(">u2")
    file.write_bytes(archive(tensor([6], [1], kind="BFloat16Storage"), {"0": upper.tobytes()}, byteorder=b"big"))
    np.testing.assert_array_equal(read(file), SIX)


def test_bytes_that_are_no_bool_are_true(file):
    content = archive(tensor([3], [1], count=3, kind="BoolStorage"), {"0": b"\x00\x01\x07"})
    file.write_bytes(content)
    assert read(file).view(np.uint8).tolist() == [0, 1, 1]


def test_strides_of_axes_of_length_1_say_nothing(file):
    file.write_bytes(archive(tensor([1, 6, 1], [2**62, 1, 2**62])))
    np.testing.assert_array_equal(read(file), SIX[None, :, None])
