"""Properties: only finite floating-point weights are read and written; errors name the layer, file and option."""

import importlib.util
import os
import re

import numpy as np
import pytest
from case_loops import loop_over
from safetensors.numpy import save_file

import glasscell as gc
from glasscell.cli import main
from glasscell.convert.option_names import for_command_line
from glasscell.convert.torch import write
from glasscell.layers import BatchNorm, Function, Squeeze

needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="the onnx package is not installed")
needs_h5py = pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="h5py is not installed")


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def lstm_weights(rng):
    return gc.LSTM(3, 5, seed=rng).to_torch()


@loop_over("dtype", ["int8", "uint8", "int32", "int64", "bool"])
@loop_over("only", ["", "weight_hh_l0"])
def test_weights_that_are_not_floating_point_are_refused(tmp_path, rng, dtype, only):
    weights = {name: (10 * array).astype(dtype) if only in name else array for name, array in lstm_weights(rng).items()}
    write(weights, tmp_path / "m.pt")
    save_file(weights, tmp_path / "m.safetensors")
    for name in ("m.pt", "m.safetensors"):
        for read in (gc.convert.load, gc.convert.weights, gc.convert.lstms):
            with pytest.raises(ValueError, match=f"'\\w+_l0' must have a floating-point dtype, got {dtype}"):
                read(tmp_path / name)
    with pytest.raises(ValueError, match="quantized weights are not supported"):
        gc.LSTM.from_torch(weights)
    linear = {"weight": np.ones((2, 3), dtype), "bias": np.ones(2, np.float32)}
    write(linear, tmp_path / "fc.pt")
    with pytest.raises(ValueError, match=f"must have a floating-point dtype, got {dtype}"):
        gc.convert.load(tmp_path / "fc.pt")


@needs_h5py
@pytest.mark.parametrize("dtype", ["int8", "int32", "bool"])
def test_keras_weights_that_are_not_floating_point_are_refused(tmp_path, rng, dtype):
    h5py = importlib.import_module("h5py")
    gc.convert.save(gc.LSTM(3, 5, seed=rng), tmp_path / "m.keras")
    gc.convert.save(gc.LSTM(3, 5, seed=rng), tmp_path / "m.h5")
    gc.convert.save(gc.LSTM(3, 5, seed=rng), tmp_path / "m.weights.h5")
    for name in ("m.h5", "m.weights.h5"):
        with h5py.File(tmp_path / name, "r+") as file:
            items: list[str] = []
            file.visit(items.append)
            for path in [path for path in items if isinstance(file[path], h5py.Dataset)]:
                values = file[path][()]
                del file[path]
                file[path] = (10 * values).astype(dtype)
        with pytest.raises(ValueError, match=f"float|{dtype}"):
            gc.convert.load(tmp_path / name)
    with pytest.raises(ValueError, match="floating-point"):
        gc.LSTM.from_keras([(10 * array).astype(dtype) for array in gc.LSTM(3, 5, seed=rng).to_keras()])


@needs_onnx
@pytest.mark.parametrize("dtype", ["int8", "int32"])
@pytest.mark.parametrize("kind", ["lstm", "linear"])
def test_onnx_weights_that_are_not_floating_point_are_refused(tmp_path, rng, dtype, kind):
    onnx = importlib.import_module("onnx")
    numpy_helper = importlib.import_module("onnx.numpy_helper")
    layer = gc.LSTM(3, 5, seed=rng) if kind == "lstm" else gc.Linear(3, 5, seed=rng)
    gc.convert.save(gc.Sequential([layer]), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array((10 * array).astype(dtype), tensor.name))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=f"of dtype {dtype}; expected float32 or float64"):
        gc.convert.load(tmp_path / "m.onnx")


ENDINGS = [
    "safetensors",
    "pt",
    pytest.param("onnx", marks=needs_onnx),
    *(pytest.param(ending, marks=needs_h5py) for ending in ("keras", "h5", "weights.h5")),
]


@loop_over("value", [np.nan, -np.inf])
@pytest.mark.parametrize("ending", ENDINGS)
def test_weights_that_are_not_finite_are_not_written(tmp_path, rng, ending, value):
    model = gc.Sequential([gc.LSTM(3, 5, seed=rng), gc.Linear(5, 2, seed=rng)], ["lstm", "fc"])
    model.layers[1].parameters["weight"][1, 2] = value
    path = tmp_path / f"m.{ending}"
    with pytest.raises(ValueError, match=r"NaN or infinite values in .*'fc\.weight'"):
        gc.convert.save(model, path)
    assert not path.exists()


@pytest.mark.parametrize("ending", ENDINGS)
def test_statistics_that_are_not_finite_are_not_written(tmp_path, rng, ending):
    model = gc.Sequential([gc.LSTM(3, 5, seed=rng), BatchNorm(5)], ["lstm", "norm"])
    model.layers[1].statistics["running_var"][2] = np.inf
    with pytest.raises(ValueError, match=r"'norm\.\w*(running_)?var\w*'"):
        gc.convert.save(model, tmp_path / f"m.{ending}", **({"weights_only": True} if ending == "pt" else {}))
    assert not list(tmp_path.iterdir())


@needs_onnx
@pytest.mark.parametrize("before", [[], ["lstm"]])
def test_a_final_squeeze_is_kept_by_onnx(tmp_path, rng, before):
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    model = gc.Sequential([*(gc.LSTM(3, 3, seed=rng) for _ in before), gc.Linear(3, 1, seed=rng), Squeeze()])
    gc.convert.save(model, tmp_path / "m.onnx")
    loaded = gc.convert.load(tmp_path / "m.onnx")
    assert loaded(x).shape == model(x).shape == (2, 4)
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6, atol=1e-7)


def test_a_layer_that_a_file_of_weights_cannot_hold_is_named_with_its_kind(tmp_path, rng):
    model = gc.Sequential([gc.LSTM(3, 5, seed=rng), Function("Relu"), gc.Linear(5, 2, seed=rng)])
    with pytest.raises(ValueError, match=r"without layer '1' \(Relu\); weights_only=True writes"):
        gc.convert.save(model, tmp_path / "m.pt")


@needs_onnx
def test_refusals_of_onnx_show_no_stand_in_sizes(tmp_path, rng):
    onnx = importlib.import_module("onnx")
    gc.convert.save(gc.Sequential([gc.Linear(3, 2, seed=rng)]), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "features"
    model.graph.node[0].op_type = "MatMul"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"for 3 features, and an input of shape \(\?, \?, \?\)") as caught:
        gc.convert.load(tmp_path / "m.onnx")
    assert not re.search(r"10\d\d|15\d\d", str(caught.value).replace(str(tmp_path), ""))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m.onnx", "m.keras", "pipe"])
def test_a_fifo_is_refused_as_one_and_a_missing_file_as_missing(tmp_path, name):
    for read in (gc.convert.load, gc.convert.weights, gc.convert.lstms):
        with pytest.raises(FileNotFoundError, match="there is no model at"):
            read(tmp_path / name)
    os.mkfifo(tmp_path / name)
    for read in (gc.convert.load, gc.convert.weights, gc.convert.lstms):
        with pytest.raises(ValueError, match="must be a regular file, got a device, FIFO or socket"):
            read(tmp_path / name)


def test_a_key_of_a_bare_state_dict(tmp_path, rng):
    write(lstm_weights(rng), tmp_path / "m.pt")
    with pytest.raises(ValueError, match="key must be left out, got 'q'"):
        gc.convert.load(tmp_path / "m.pt", key="q")


def test_messages_about_an_architecture(tmp_path, rng):
    weights = {f"rnn.{name}": array for name, array in lstm_weights(rng).items()}
    weights |= {f"fc.{key}": array for key, array in gc.Linear(5, 2, seed=rng).parameters.items()}
    path = tmp_path / "m.pt"
    write(weights, path)
    cases = {
        "lstm,last,linear": "did you mean 'rnn'?",
        "rnn,last,linear": "did you mean 'fc'?",
        "rnn,last,fc,": "an item before and after each comma, got 'rnn,last,fc,'",
        "rnn,last,head": "NAME:embedding, NAME:linear, NAME:layernorm:EPSILON, NAME:batchnorm:EPSILON",
    }
    for architecture, part in cases.items():
        with pytest.raises(ValueError, match=re.escape(part)):
            gc.convert.load(path, architecture=architecture)


@pytest.mark.parametrize(
    ("item", "name"), [("gelu", "Gelu"), ("silu", "Silu"), ("selu", "Selu"), ("gelutanh", "GeluTanh")]
)
def test_architectures_contain_every_activation(tmp_path, rng, item, name):
    write(lstm_weights(rng), tmp_path / "m.pt")
    model = gc.convert.load(tmp_path / "m.pt", architecture=f"lstm,{item}")
    assert model.layers[1] == Function(name)


def test_the_command_line_names_its_own_options(tmp_path, rng, capsys):
    weights = {f"rnn.{name}": array for name, array in lstm_weights(rng).items()}
    weights |= {f"fc.{key}": array for key, array in gc.Linear(5, 2, seed=rng).parameters.items()}
    path, glasscell_path = str(tmp_path / "m.pt"), str(tmp_path / "m.safetensors")
    write(weights, path)
    gc.LSTM(3, 5, seed=rng).save(glasscell_path)
    cases = [
        ([path], "--architecture rnn,fc if", "architecture="),
        ([path, "--architecture", "rnn"], "--ignore fc", "ignore="),
        ([glasscell_path, "--architecture", "lstm"], "--architecture is for weights alone", "architecture="),
        ([path, "--key", "q"], "--key must be left out", " key must"),
    ]
    for arguments, flag, option in cases:
        assert main(["verify", *arguments]) == 2
        line = capsys.readouterr().err
        assert flag in line
        assert option not in line
    with pytest.raises(ValueError, match="architecture='rnn,fc'"):
        gc.convert.load(path)
    assert main(["verify", str(tmp_path / "nofile")]) == 2
    assert "there is no model at" in capsys.readouterr().err


def test_option_names_in_messages():
    message = "m.pt: State it: architecture='a,b' or ignore=['a', 'b'], key=, weights_only=True; key must be"
    assert (
        for_command_line(message)
        == "m.pt: State it: --architecture a,b or --ignore a,b, --key, --weights-only; --key must be"
    )
    assert for_command_line("a key, the prefix of config.json") == "a key, the prefix of config.json"


def test_names_with_a_prefix_point_to_the_argument(rng):
    weights = {f"rnn.{name}": array for name, array in lstm_weights(rng).items()}
    with pytest.raises(ValueError, match=r"pass prefix='rnn\.'"):
        gc.LSTM.from_torch(weights)


@pytest.mark.parametrize("count", [4000, 8000])
def test_a_state_dict_of_many_small_tensors_is_read(tmp_path, count):
    write({f"layer{k}.weight": np.full(1, k, np.float32) for k in range(count)}, tmp_path / "m.pt")
    found = gc.convert.torch.read(tmp_path / "m.pt")
    assert len(found) == count
    assert found[f"layer{count - 1}.weight"] == count - 1


@needs_onnx
def test_a_file_that_states_its_computation_is_no_file_of_weights(tmp_path, rng):
    gc.convert.save(gc.LSTM(3, 5, seed=rng), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="must be a file of weights"):
        gc.convert.weights(tmp_path / "m.onnx")
    (tmp_path / "m.tflite").write_bytes(b"TFL3")
    with pytest.raises(ValueError, match="no known format; known are"):
        gc.convert.load(tmp_path / "m.tflite")
