"""Law: a file holds a whole model to the last bit, or is refused by name; a failed write loses nothing."""

import json
import os
import struct
from dataclasses import asdict

import numpy as np
import pytest
from case_loops import loop_over
from safetensors.numpy import load_file, save

from glasscell import CopyLSTM, checkpoint
from glasscell.atomic_files import write_atomically
from glasscell.checkpoint import Checkpoint
from glasscell.tasks import Copy

MODELS = {
    "plain": {},
    "float64": {"dtype": np.float64},
    "two layers": {"num_layers": 2},
    "learned state": {"num_layers": 2, "learn_initial_state": True},
    "two bits a step": {"task": Copy(6, bits_per_step=2, min_width=2, noise=0.25)},
    "echo": {"task": Copy(5, "echo", held_out=0.5, seed=7)},
    "64 bits": {"task": Copy(64)},
}


def random_model(rng, **options):
    model = CopyLSTM(**({"hidden_size": 3, "task": Copy(4)} | options))
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
    return model


def header(model, **changes):
    """The header of a model's file; what is changed to None is left out."""
    config = {
        "hidden_size": model.hidden_size,
        "num_layers": model.lstm.num_layers,
        "learn_initial_state": model.lstm.learn_initial_state,
        "task": asdict(model.task),
    }
    entry = {"format": checkpoint.FORMAT_VERSION, "kind": "CopyLSTM", "config": config} | changes
    return {checkpoint.HEADER_KEY: json.dumps({name: value for name, value in entry.items() if value is not None})}


def configured(model, **changes):
    """The header with another configuration; what is changed to None is left out."""
    config = json.loads(header(model)[checkpoint.HEADER_KEY])["config"] | changes
    return header(model, config={name: value for name, value in config.items() if value is not None})


def refusal(file):
    """The message of the error with which a file is refused, which has to name it."""
    with pytest.raises(ValueError, match=r"\w+") as caught:
        CopyLSTM.load(file)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    return message


def files(folder):
    return sorted(path.name for path in folder.iterdir())


# Whole


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_load_gives_back_what_was_saved(options, tmp_path, rng):
    model = random_model(rng, **options)
    model.save(tmp_path / "m.safetensors")
    loaded = CopyLSTM.load(tmp_path / "m.safetensors")
    assert loaded.task == model.task
    assert loaded.dtype == model.dtype
    assert loaded.parameters.shapes == model.parameters.shapes
    assert loaded.parameters.vector.tobytes() == model.parameters.vector.tobytes()
    inputs = model.task.batch(5, rng, model.dtype).inputs
    np.testing.assert_array_equal(loaded.forward(inputs)[0], model.forward(inputs)[0])
    assert files(tmp_path) == ["m.safetensors"]


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_a_model_has_one_file(options, tmp_path, rng):
    random_model(rng, **options).save(tmp_path / "0.safetensors")
    for k in range(10):
        CopyLSTM.load(tmp_path / f"{k}.safetensors").save(tmp_path / f"{k + 1}.safetensors")
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1


def test_the_file_is_safetensors_in_pytorchs_names(tmp_path, rng):
    model = random_model(rng, num_layers=2)
    model.save(tmp_path / "m.safetensors")
    weights = load_file(tmp_path / "m.safetensors")
    H, I = 3, 2
    shapes = {"lstm.weight_ih_l0": (4 * H, I), "lstm.weight_ih_l1": (4 * H, H)}
    shapes |= {f"lstm.weight_hh_l{layer}": (4 * H, H) for layer in (0, 1)}
    shapes |= {f"lstm.bias_{kind}_l{layer}": (4 * H,) for layer in (0, 1) for kind in ("ih", "hh")}
    assert {name: array.shape for name, array in weights.items()} == shapes | {
        "readout.weight": (1, H),
        "readout.bias": (1,),
    }


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"task": Copy(6, bits_per_step=2)}])
def test_the_file_opens_in_pytorch(options, torch, tmp_path, rng):
    from safetensors.torch import load_file as load_in_torch  # noqa: PLC0415 - imports PyTorch

    model = random_model(rng, dtype=np.float64, **options)
    model.save(tmp_path / "m.safetensors")
    task = model.task
    torch_model = torch.nn.ModuleDict(
        {
            "lstm": torch.nn.LSTM(task.input_size, model.hidden_size, model.lstm.num_layers, batch_first=True),
            "readout": torch.nn.Linear(model.hidden_size, task.output_size),
        }
    ).to(torch.float64)
    torch_model.load_state_dict(load_in_torch(tmp_path / "m.safetensors"))
    inputs = task.batch(8, rng, np.float64).inputs
    logits = torch_model["readout"](torch_model["lstm"](torch.tensor(inputs))[0])
    np.testing.assert_allclose(model.forward(inputs)[0], logits.detach().numpy(), rtol=0, atol=1e-12)


def test_both_biases_of_a_file_count(tmp_path, rng):
    model = random_model(rng, dtype=np.float64)
    weights = model.to_torch()
    shift = rng.normal(size=12)
    weights["lstm.bias_ih_l0"] -= shift
    weights["lstm.bias_hh_l0"] += shift
    (tmp_path / "m").write_bytes(save(weights, header(model)))
    loaded = CopyLSTM.load(tmp_path / "m")
    np.testing.assert_allclose(loaded.parameters.vector, model.parameters.vector, rtol=0, atol=1e-14)


@pytest.mark.parametrize("as_text", [True, False])
def test_a_folder_stands_for_its_model(as_text, tmp_path, rng):
    model = random_model(rng)
    model.save(tmp_path / "model.safetensors")
    loaded = CopyLSTM.load(str(tmp_path) if as_text else tmp_path)
    np.testing.assert_array_equal(loaded.parameters.vector, model.parameters.vector)


def test_saving_replaces(tmp_path, rng):
    first, second = random_model(rng), random_model(rng, hidden_size=5)
    first.save(tmp_path / "m.safetensors")
    second.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(CopyLSTM.load(tmp_path / "m.safetensors").parameters.vector, second.parameters.vector)


def test_a_model_of_another_class_is_refused(tmp_path):
    checkpoint.save(Checkpoint("Other", {}, {"w": np.zeros(1)}), tmp_path / "m.safetensors")
    assert "'Other'" in refusal(tmp_path / "m.safetensors")
    assert "'CopyLSTM'" in refusal(tmp_path / "m.safetensors")
    assert checkpoint.load(tmp_path / "m.safetensors").kind == "Other"


@pytest.mark.parametrize("kind", ["Aaa", "Zzz", "CopyLST", "CopyLSTMs"])
def test_a_model_of_any_other_class_is_refused(kind, tmp_path, rng):
    model = random_model(rng)
    (tmp_path / "m").write_bytes(save(model.to_torch(), header(model, kind=kind)))
    assert repr(kind) in refusal(tmp_path / "m")


@pytest.mark.parametrize(("length", "is_kept"), [(1, True), (99, True), (100, True), (101, False)])
def test_the_name_of_a_class_has_at_most_100_characters(length, is_kept, tmp_path, rng):
    model = random_model(rng)
    (tmp_path / "m").write_bytes(save(model.to_torch(), header(model, kind="K" * length)))
    if is_kept:
        assert checkpoint.kind(tmp_path / "m") == "K" * length
    else:
        assert "without the kind" in refusal(tmp_path / "m")


def test_the_message_about_a_weight_has_200_characters_of_its_name(tmp_path, rng):
    model, name = random_model(rng), "w" * 300
    weights = {**model.to_torch(), name: np.full(1, np.nan, np.float32)}
    (tmp_path / "m").write_bytes(save(weights, header(model)))
    assert f"in the weight {name[:200]!r}" in refusal(tmp_path / "m")


@pytest.mark.parametrize("checksum", ["0" * 8, 1, None])
def test_an_entry_that_is_no_checksum_is_refused(checksum, tmp_path, rng):
    model = random_model(rng)
    entry = json.loads(header(model)[checkpoint.HEADER_KEY]) | {"checksum": checksum}
    (tmp_path / "m").write_bytes(save(model.to_torch(), {checkpoint.HEADER_KEY: json.dumps(entry)}))
    refusal(tmp_path / "m")


def test_a_file_for_which_memory_is_missing_is_named(tmp_path, rng, monkeypatch):
    def no_memory(file):
        raise MemoryError

    random_model(rng).save(tmp_path / "m.safetensors")
    monkeypatch.setattr("glasscell.tensor_files.read", no_memory)
    assert "needs more memory than there is" in refusal(tmp_path / "m.safetensors")


# Damaged


@pytest.mark.parametrize("path", ["nothing", "nothing/model.safetensors", ""])
def test_no_file(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no model at") as caught:
        CopyLSTM.load(tmp_path / path)
    assert str(tmp_path / path) in str(caught.value)


@pytest.mark.parametrize("name", ["model-1.safetensors", "model-01.safetensors"])
def test_no_file_in_the_folder_of_a_sweep(name, tmp_path, rng):
    random_model(rng).save(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=f"no model at .*model.safetensors; did you mean .*{name}"):
        CopyLSTM.load(tmp_path)


def test_every_part_of_a_file_is_refused(tmp_path, rng):
    file = tmp_path / "m.safetensors"
    random_model(rng).save(file)
    content = file.read_bytes()
    for length in [*range(0, len(content), 5), len(content) - 1]:
        file.write_bytes(content[:length])
        assert "not a complete safetensors file" in refusal(file)
    file.write_bytes(content + b"\0")
    refusal(file)


@loop_over(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        b"\x80\x04N." + bytes(20),
        b"{}",
        bytes(8),
        bytes(64),
    ],
)
def test_another_kind_of_file_is_refused(content, tmp_path):
    (tmp_path / "m").write_bytes(content)
    assert "safetensors" in refusal(tmp_path / "m")


def test_random_bytes_are_refused(tmp_path, rng):
    for size in rng.integers(0, 500, 100):
        (tmp_path / "m").write_bytes(rng.bytes(size))
        assert "not a complete safetensors file" in refusal(tmp_path / "m")


def test_a_damaged_header_is_refused_or_does_no_harm(tmp_path, rng):
    """Any few bytes of the header may be wrong: a ValueError that names the file, or a model, never anything else."""
    file, refused = tmp_path / "m.safetensors", 0
    random_model(rng).save(file)
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    for _ in range(500):
        damaged = bytearray(content)
        for place in rng.integers(0, 8 + length, rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            CopyLSTM.load(file)
        except ValueError as error:
            assert str(file) in str(error)  # noqa: PT017 - it need not be raised
            refused += 1
    assert refused > 400


# Of another kind, or not fitting together


@loop_over(
    ("changes", "part"),
    [
        ({"format": None}, "None"),
        ({"format": 999}, "999"),
        ({"kind": None}, "without the kind"),
        ({"kind": ["CopyLSTM"]}, "without the kind"),
        ({"kind": "GRU"}, "'GRU'"),
        ({"config": None}, "without the kind or the configuration"),
        ({"config": ""}, "without the kind or the configuration"),
        ({"config": [3]}, "without the kind or the configuration"),
    ],
)
def test_another_header_is_refused(changes, part, tmp_path, rng):
    model = random_model(rng)
    (tmp_path / "m").write_bytes(save(model.to_torch(), header(model, **changes)))
    assert part in refusal(tmp_path / "m")


@loop_over("entry", ["", "{", "[3]", "null", "[" * 100_000, '{"format": ' + "9" * 5000 + "}"], ids=range(6))
def test_a_header_that_is_not_an_object_is_refused(entry, tmp_path, rng):
    (tmp_path / "m").write_bytes(save(random_model(rng).to_torch(), {checkpoint.HEADER_KEY: entry}))
    assert "header that cannot be read" in refusal(tmp_path / "m")


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_a_file_of_others_is_refused(metadata, tmp_path, rng):
    (tmp_path / "m").write_bytes(save(random_model(rng).to_torch(), metadata))
    assert "not a model that Glasscell saved" in refusal(tmp_path / "m")


@loop_over(
    "changes",
    [
        {"hidden_size": 2},
        {"hidden_size": 4},
        {"hidden_size": 0},
        {"hidden_size": -3},
        {"hidden_size": 3.0},
        {"hidden_size": "3"},
        {"hidden_size": None},
        {"num_layers": 2},
        {"num_layers": 0},
        {"num_layers": None},
        {"learn_initial_state": True},
        {"task": None},
        {"task": 3},
        {"task": {"width": 0}},
        {"task": {"width": "4"}},
        {"task": {"width": 4, "mode": "foo"}},
        {"task": {"width": 4, "bits_per_step": 2}},
        {"task": {"width": 4, "unknown": 2}},
        {"unknown": 1},
    ],
    ids=json.dumps,
)
def test_a_configuration_that_does_not_fit_is_refused(changes, tmp_path, rng):
    model = random_model(rng)
    (tmp_path / "m").write_bytes(save(model.to_torch(), configured(model, **changes)))
    assert "does not fit together" in refusal(tmp_path / "m")


def no_parameters(*_):
    """Fail where memory for parameters is allocated."""
    raise AssertionError("parameters are allocated before the configuration is checked")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("hidden_size", 10**n) for n in (5, 9, 18, 30)],
        ("num_layers", 10**5),
        ("num_layers", 10**9),
    ],
)
def test_a_huge_configuration_is_refused_before_memory_is_asked_for(name, value, tmp_path, rng, monkeypatch):
    model = random_model(rng)
    (tmp_path / "m").write_bytes(save(model.to_torch(), configured(model, **{name: value})))
    for module in ("lstm", "linear"):
        monkeypatch.setattr(f"glasscell.layers.{module}.Parameters", no_parameters)
    assert str(value) in refusal(tmp_path / "m")


def changed(weights, name, array):
    return weights | {name: array}


def without(weights, name, _):
    return {key: array for key, array in weights.items() if key != name}


@loop_over(
    ("change", "name", "array"),
    [
        (changed, "lstm.weight_hh_l0", np.full((12, 3), np.nan, np.float32)),
        (changed, "readout.bias", np.full(1, np.inf, np.float32)),
        (changed, "lstm.weight_ih_l0", np.zeros((12, 3), np.float32)),
        (changed, "lstm.bias_hh_l0", np.zeros(11, np.float32)),
        (changed, "readout.weight", np.zeros((3, 1), np.float32)),
        (changed, "readout.extra", np.zeros(1, np.float32)),
        (changed, "lstm.weight_ih_l1", np.zeros((12, 3), np.float32)),
        (without, "lstm.bias_hh_l0", None),
        (without, "lstm.weight_hh_l0", None),
        (without, "readout.bias", None),
    ],
)
def test_a_bad_weight_is_named(change, name, array, tmp_path, rng):
    model = random_model(rng)
    (tmp_path / "m").write_bytes(save(change(model.to_torch(), name, array), header(model)))
    assert repr(name) in refusal(tmp_path / "m")


@pytest.mark.parametrize("dtype", [np.float16, np.int32, bool])
def test_another_dtype_is_named(dtype, tmp_path, rng):
    model = random_model(rng)
    of_dtype = {name: array.astype(dtype) for name, array in model.to_torch().items()}
    (tmp_path / "m").write_bytes(save(of_dtype, header(model)))
    assert np.dtype(dtype).name in refusal(tmp_path / "m")


def test_a_mix_of_dtypes_is_refused(tmp_path, rng):
    model = random_model(rng)
    mixed = model.to_torch() | {"readout.bias": np.zeros(1)}
    (tmp_path / "m").write_bytes(save(mixed, header(model)))
    assert "float32 and float64" in refusal(tmp_path / "m")


def test_no_weights_are_refused(tmp_path, rng):
    (tmp_path / "m").write_bytes(save({}, header(random_model(rng))))
    refusal(tmp_path / "m")


def test_a_dtype_that_numpy_lacks_is_refused(tmp_path, rng):
    weight = {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}
    text = json.dumps({"__metadata__": header(random_model(rng)), "w": weight}).encode()
    text += b" " * (-len(text) % 8)
    (tmp_path / "m").write_bytes(struct.pack("<Q", len(text)) + text + bytes(2))
    refusal(tmp_path / "m")


# Writing


@pytest.mark.parametrize("old", [None, b"old content"])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(old, tmp_path, monkeypatch):
    file = tmp_path / "m"
    if old is not None:
        file.write_bytes(old)
    before = files(tmp_path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, b"new content")
    assert files(tmp_path) == before
    assert old is None or file.read_bytes() == old


def test_until_the_write_is_complete_the_old_content_stands(tmp_path, monkeypatch):
    file, seen = tmp_path / "m", []
    file.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(file.read_bytes()))
    write_atomically(file, b"new")
    assert seen == [b"old"]
    assert file.read_bytes() == b"new"
    assert files(tmp_path) == ["m"]


def test_who_reads_the_old_file_reads_it_to_the_end(tmp_path):
    (tmp_path / "m").write_bytes(b"old content")
    with (tmp_path / "m").open("rb", buffering=0) as reader:
        assert reader.read(3) == b"old"
        write_atomically(tmp_path / "m", b"new")
        assert reader.read() == b" content"


def test_a_missing_folder_is_named(tmp_path, rng):
    with pytest.raises(FileNotFoundError) as caught:
        random_model(rng).save(tmp_path / "nowhere" / "m.safetensors")
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert files(tmp_path) == []


def test_a_folder_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "content").write_bytes(b"x")
    with pytest.raises(OSError, match="is a folder"):
        write_atomically(tmp_path / "m", b"new")
    assert files(tmp_path) == ["m"]
    assert files(tmp_path / "m") == ["content"]


def test_weights_that_are_not_finite_are_not_written(tmp_path, rng):
    model = random_model(rng)
    model.save(tmp_path / "m.safetensors")
    before = (tmp_path / "m.safetensors").read_bytes()
    model.parameters.vector[3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        model.save(tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == before
