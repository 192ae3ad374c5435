"""Property: weights alone are layers by name; with an architecture, the outputs equal those of PyTorch."""

import argparse

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.cli import main
from glasscell.convert import architecture
from glasscell.convert import torch as torch_files
from glasscell.convert.layer_set import LayerSet, Matrix
from glasscell.layers import BatchNorm, Dropout, FinalState, Function, LayerNorm, Pool, Step

F = np.float32


def linear(rng, I, O, name):
    return {f"{name}.weight": rng.normal(size=(O, I)).astype(F), f"{name}.bias": rng.normal(size=O).astype(F)}


def lstm(rng, I, H, name, **options):
    layer = gc.LSTM(I, H, **options)
    layer.parameters.vector[:] = rng.normal(scale=0.6, size=layer.parameters.vector.size)
    return {f"{name}.{key}": array for key, array in layer.to_torch().items()}


@pytest.fixture
def written(tmp_path):
    """Write weights in a format, and return the path."""

    def write(weights, suffix=".pt"):
        path = tmp_path / f"m{suffix}"
        if suffix == ".safetensors":
            from safetensors.numpy import save_file  # noqa: PLC0415

            save_file(weights, path)
        else:
            torch_files.write(weights, tmp_path / "m.pt")
            (tmp_path / "m.pt").replace(path)
        return path

    return write


def refusal(call):
    with pytest.raises(ValueError, match=r"\w") as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tensors(torch, weights, prefix):
    return {
        name.removeprefix(f"{prefix}."): torch.as_tensor(array)
        for name, array in weights.items()
        if name.startswith(f"{prefix}.")
    }


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".ckpt"])
def test_several_modules_are_no_model_until_the_computation_is_stated(suffix, torch, rng, written):
    """fc comes before lstm by the alphabet, the order of safetensors; relu, sigmoid and last have no names there."""
    weights = lstm(rng, 3, 5, "lstm") | linear(rng, 5, 4, "fc1") | linear(rng, 4, 1, "fc2")
    path = written(weights, suffix)
    words = refusal(lambda: gc.convert.load(path))
    for part in (
        str(path),
        "lstm (LSTM 3 → 5)",
        "fc1 (Linear 5 → 4)",
        "fc2 (Linear 4 → 1)",
        "architecture='",
    ):
        assert part in words
    model = gc.convert.load(path, architecture="lstm,last,fc1,relu,fc2,sigmoid")
    assert model.names == ("lstm", "last", "fc1", "relu", "fc2", "sigmoid")
    x = rng.normal(size=(2, 6, 3)).astype(F)
    torch_lstm = torch.nn.LSTM(3, 5, batch_first=True)
    torch_lstm.load_state_dict(tensors(torch, weights, "lstm"))
    fc1, fc2 = torch.nn.Linear(5, 4), torch.nn.Linear(4, 1)
    fc1.load_state_dict(tensors(torch, weights, "fc1"))
    fc2.load_state_dict(tensors(torch, weights, "fc2"))
    with torch.no_grad():
        expected = torch.sigmoid(fc2(torch.relu(fc1(torch_lstm(torch.tensor(x))[0][:, -1])))).numpy()
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=1e-6)


def test_the_order_of_a_file_is_never_a_computation(rng, written):
    weights = lstm(rng, 4, 4, "b") | linear(rng, 4, 4, "a")
    for order in (list(weights), sorted(weights), sorted(weights, reverse=True)):
        path = written({name: weights[name] for name in order})
        assert list(gc.convert.weights(path)) == list(dict.fromkeys(name.partition(".")[0] for name in order))
        refusal(lambda: gc.convert.load(path))  # noqa: B023 - called at once
        assert gc.convert.load(path, architecture="b,a").names == ("b", "a")
        assert gc.convert.load(path, architecture="a,b").names == ("a", "b")


def test_one_module_is_a_model(rng, written):
    model = gc.convert.load(written(lstm(rng, 3, 4, "encoder.rnn", bidirectional=True)))
    assert isinstance(model, gc.LSTM)
    assert model.options.bidirectional
    model = gc.convert.load(written(linear(rng, 3, 4, "fc")))
    assert model.names == ("fc",)
    words = refusal(lambda: gc.convert.load(written({"table.weight": np.ones((5, 3), F)})))
    assert "table (matrix without a bias 5 × 3)" in words
    assert "architecture='table:embedding'" in words


def test_a_tensor_beside_one_module_is_no_silence(rng, written):
    path = written(lstm(rng, 3, 4, "lstm") | {"loss.weight": np.ones(2, F)})
    assert "loss is unsupported, unless they do not belong to the computation: ignore=" in refusal(
        lambda: gc.convert.load(path)
    )
    assert isinstance(gc.convert.load(path, ignore=["loss"]), gc.LSTM)
    assert isinstance(gc.convert.load(path, prefix="lstm"), gc.LSTM)
    assert isinstance(gc.convert.load(path, architecture=["lstm"], ignore=["loss"]), gc.LSTM)
    assert "prefix must be the name of a module, one of" in refusal(lambda: gc.convert.load(path, prefix="other"))


def test_layers_by_name_and_the_rest_in_words(rng, written):
    weights = {
        **lstm(rng, 3, 4, "rnn", num_layers=2, proj_size=2),
        **linear(rng, 4, 2, "head.0"),
        "emb.weight": np.ones((9, 3), F),
        "conv.weight": np.ones((8, 1, 3), F),
        "conv.bias": np.ones(8, F),
        "gru.weight_ih_l0": np.ones((12, 3), F),
        "gru.weight_hh_l0": np.ones((12, 4), F),
        "scale": np.ones((), F),
        "cell.weight_ih": np.ones((20, 3), F),
        "cell.weight_hh": np.ones((20, 5), F),
    }
    found = gc.convert.weights(written(weights))
    assert {name: type(layer) for name, layer in found.items()} == {
        "rnn": gc.LSTM,
        "head.0": gc.Linear,
        "emb": Matrix,
        "gru": gc.GRU,
        "cell": gc.LSTM,
    }
    assert {name: other.description for name, other in found.other.items()} == {
        "conv": "weight (8, 1, 3), bias (8,)",
        "weights": "scale ()",
    }
    np.testing.assert_array_equal(found["head.0"].parameters["weight"], weights["head.0.weight"])
    np.testing.assert_array_equal(found["emb"].embedding().parameters["weight"], weights["emb.weight"])
    np.testing.assert_array_equal(found["emb"].linear().parameters["weight"], weights["emb.weight"])
    assert "gru: GRU(3, 4, bias=False" in repr(found)
    assert found["cell"].options.bias is False


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_half_precision_as_pytorch_stores_it(dtype, suffix, torch, tmp_path):
    state_dict = torch.nn.LSTM(3, 4).to(getattr(torch, dtype)).state_dict()
    if suffix == ".pt":
        torch.save(state_dict, tmp_path / "m.pt")
    else:
        pytest.importorskip("safetensors.torch").save_file(state_dict, tmp_path / "m.safetensors")
    weights = gc.convert.load(tmp_path / f"m{suffix}").to_torch()
    np.testing.assert_array_equal(weights["weight_hh_l0"], state_dict["weight_hh_l0"].float().numpy())
    assert weights["weight_hh_l0"].dtype == np.float32


def test_the_work_grows_with_the_number_of_modules():
    """Counted in comparisons of their names."""

    class Name(str):
        __slots__ = ()
        compared = 0

        def __eq__(self, other):
            Name.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    counts = []
    for n in (100, 400):
        layers = LayerSet({Name(f"m{k}"): Matrix(np.ones((1, 1), F)) for k in range(n)})
        Name.compared = 0
        with pytest.raises(ValueError, match="State the computation: architecture="):
            architecture.only(layers)
        with pytest.raises(ValueError, match="must use every module"):
            architecture.build(layers, ["m0:linear"])
        counts.append(Name.compared)
    assert counts[1] <= 5 * counts[0] + 100


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_layers_of_our_own_files(suffix, rng, tmp_path):
    model = gc.Sequential([gc.LSTM(3, 4, seed=1), gc.Linear(4, 2, seed=2)], ["b", "a"])
    gc.convert.save(model, tmp_path / f"m{suffix}")
    found = gc.convert.weights(tmp_path / f"m{suffix}")
    assert list(found) == ["b", "a"]
    x = rng.normal(size=(2, 5, 3)).astype(F)
    np.testing.assert_array_equal(found["b"].infer(x)[0], model.layers[0].infer(x)[0])


ITEMS = [
    ("rnn,last,fc", [Step(-1)]),
    ("rnn,first,fc", [Step(0)]),
    ("rnn,step:-2,fc", [Step(-2)]),
    ("rnn,mean,fc", [Pool("mean")]),
    ("rnn,max,fc", [Pool("max")]),
    ("rnn,Tanh,dropout:0.5,fc", [Function("Tanh"), Dropout(0.5)]),
    ("rnn,leaky_relu:0.3,fc", [Function("LeakyRelu", 0.3)]),
    ("rnn,hardsigmoid:0.2:0.5,fc", [Function("HardSigmoid", 0.2, 0.5)]),
    ("rnn,relu,relu,fc", [Function("Relu"), Function("Relu")]),
    (" rnn , softmax, fc", [Function("Softmax")]),
    (["rnn", Function("Elu", 0.5), "fc"], [Function("Elu", 0.5)]),
    ("module:rnn,operation:last,module:fc", [Step(-1)]),
]


@pytest.mark.parametrize(("architecture", "between"), ITEMS, ids=[str(item[0]) for item in ITEMS])
def test_what_stands_between_the_modules(architecture, between, rng, written):
    path = written(lstm(rng, 3, 4, "rnn") | linear(rng, 4, 2, "fc"))
    assert list(gc.convert.load(path, architecture=architecture).layers[1:-1]) == between


FINALS = [
    ("final", FinalState("both")),
    ("final:forward", FinalState("both", keep="forward")),
    ("final:reverse", FinalState("both", keep="reverse")),
    ("final:sum", FinalState("both", merge="sum")),
    ("final:average", FinalState("both", merge="average")),
    ("final:multiply", FinalState("both", merge="multiply")),
]


@pytest.mark.parametrize(("item", "layer"), FINALS)
def test_final_states_of_both_directions(item, layer, rng, written):
    path = written(lstm(rng, 3, 4, "rnn", bidirectional=True) | linear(rng, 8 if item == "final" else 4, 2, "fc"))
    assert gc.convert.load(path, architecture=f"rnn,{item},fc").layers[1] == layer


def test_a_matrix_is_what_is_stated_or_what_alone_fits(rng, written):
    path = written({"emb.weight": rng.normal(size=(7, 3)).astype(F)} | lstm(rng, 3, 4, "rnn"))
    assert isinstance(gc.convert.load(path, architecture="emb,rnn").layers[0], gc.Embedding)
    path = written({"map.weight": rng.normal(size=(3, 7)).astype(F)} | lstm(rng, 3, 4, "rnn"))
    assert isinstance(gc.convert.load(path, architecture="map,rnn").layers[0], gc.Linear)
    path = written({"either.weight": rng.normal(size=(3, 3)).astype(F)} | lstm(rng, 3, 4, "rnn"))
    assert "either:embedding or either:linear" in refusal(lambda: gc.convert.load(path, architecture="either,rnn"))
    for kind, layer in (("embedding", gc.Embedding), ("linear", gc.Linear)):
        assert isinstance(gc.convert.load(path, architecture=f"either:{kind},rnn").layers[0], layer)
    path = written(lstm(rng, 3, 4, "rnn") | {"out.weight": rng.normal(size=(4, 4)).astype(F)})
    assert isinstance(gc.convert.load(path, architecture="rnn,out").layers[1], gc.Linear)


@pytest.mark.parametrize("kind", ["layernorm", "batchnorm"])
def test_a_normalisation_needs_its_epsilon(kind, torch, rng, written):
    norm = torch.nn.LayerNorm(4, eps=1e-2) if kind == "layernorm" else torch.nn.BatchNorm1d(4, eps=1e-2)
    for tensor in norm.state_dict().values():
        if tensor.dtype == torch.float32:
            tensor.copy_(torch.tensor(rng.uniform(0.5, 1.5, tensor.shape)))
    weights = lstm(rng, 3, 4, "rnn") | {f"norm.{name}": w.numpy() for name, w in norm.eval().state_dict().items()}
    path = written(weights)
    assert "the module 'norm' is unsupported" in refusal(lambda: gc.convert.load(path, architecture="rnn,norm"))
    assert "EPSILON" in refusal(lambda: gc.convert.load(path, architecture=f"rnn,norm:{kind}"))
    model = gc.convert.load(path, architecture=f"rnn,last,norm:{kind}:1e-2")
    assert isinstance(model.layers[2], LayerNorm if kind == "layernorm" else BatchNorm)
    x = rng.normal(size=(2, 5, 3)).astype(F)
    last = model.layers[0].infer(x)[0][:, -1]
    np.testing.assert_allclose(model(x), norm(torch.tensor(last)).detach().numpy(), rtol=0, atol=2e-6)


def test_dtypes_become_one(rng, written):
    weights = lstm(rng, 3, 4, "rnn") | {
        name: array.astype(np.float64) for name, array in linear(rng, 4, 2, "fc").items()
    }
    assert gc.convert.load(written(weights), architecture="rnn,fc").dtype == np.float64
    half = {name: array.astype(np.float16) for name, array in weights.items()}
    model = gc.convert.load(written(half), architecture="rnn,fc")
    assert model.dtype == np.float32
    np.testing.assert_array_equal(model.layers[1].parameters["bias"], half["fc.bias"].astype(F))


REFUSED = [
    ("rnn,nothing,fc", ["'nothing'", "modules are rnn, fc", "operations are", "sigmoid"]),
    ("rnn,sigmoi,fc", ["'sigmoi'", "did you mean 'sigmoid'?"]),
    ("rnn", ["fc (Linear 4 → 2)", "ignore=['fc']"]),
    ("rnn,fc,fc", ["each module once", "'fc' twice"]),
    ("rnn,,fc", ["an item before and after each comma"]),
    ([], ["at least one item"]),
    ("rnn,hardsigmoid,fc", ["hardsigmoid:ALPHA:BETA"]),
    ("rnn,leakyrelu,fc", ["leakyrelu:ALPHA"]),
    ("rnn,relu:1,fc", ["must be written relu"]),
    ("rnn,dropout:x,fc", ["dropout:RATE"]),
    ("rnn,final:up,fc", ["final:reverse", "'final:up'"]),
    ("rnn,final:reverse,fc", ["bidirectional"]),
    ("rnn,fc,final", ["'final' must follow a recurrent layer"]),
    ("final,rnn,fc", ["'final' must follow a recurrent layer", "the input"]),
    ("rnn:linear,fc", ["the kind of 'rnn' must be LSTM"]),
    ("rnn,last,last,fc", ["sequence", "vector"]),
    ("fc,rnn", ["'rnn' takes 3 features", "2"]),
    ("module:nothing,rnn,fc", ["'nothing'"]),
]


@pytest.mark.parametrize(("architecture", "words"), REFUSED, ids=[str(item[0]) for item in REFUSED])
def test_a_computation_that_cannot_be_is_refused(architecture, words, rng, written):
    path = written(lstm(rng, 3, 4, "rnn") | linear(rng, 4, 2, "fc"))
    message = refusal(lambda: gc.convert.load(path, architecture=architecture))
    assert message.startswith(str(path))
    assert all(word in message for word in words), message


@loop_over(
    ("items", "ignore", "error", "message"),
    [
        ("fc", ["fc"], ValueError, "ignore must name no module of the architecture, got 'fc'"),
        ("fc", ["fd"], ValueError, "ignore must name modules of the file, fc .*, got 'fd'"),
        ("fc", "fc", TypeError, "ignore must be a sequence of names, got 'fc'"),
        (["fc:linear", 3], (), TypeError, "architecture must consist of names and layers, got int"),
        ("fc:layernorm:1e-5", (), ValueError, "'fc:layernorm:1e-5' must be fc:embedding or fc:linear"),
        ("fc,relu", (), ValueError, "the kind of 'fc' must be stated: fc:embedding or fc:linear"),
    ],
)
def test_what_does_not_fit_one_matrix_is_refused(items, ignore, error, message):
    with pytest.raises(error, match=message):
        architecture.build(LayerSet({"fc": Matrix(np.ones((7, 3), F))}), items, ignore)


def test_the_next_layer_with_features_decides_what_a_matrix_is():
    """An operation between them does not determine the number of features."""
    layers = LayerSet({"table": Matrix(np.ones((7, 3), F)), "out": Matrix(np.ones((5, 3), F))})
    model = architecture.build(layers, "table,relu,out")
    assert [type(layer) for layer in model.layers] == [gc.Embedding, Function, gc.Linear]
    assert (model.layers[0].vocabulary_size, model.layers[2].output_size) == (7, 5)


def test_every_kind_of_layer_becomes_the_dtype_of_the_widest():
    layers = {"gru": gc.GRU(3, 4, seed=1), "a": gc.Linear(4, 4, seed=2), "b": gc.Linear(4, 2, dtype="float64", seed=3)}
    model = architecture.build(LayerSet(layers), "gru,a,b")
    assert model.dtype == np.float64
    for layer, original in zip(model.layers, layers.values(), strict=True):
        assert layer.parameters.vector.dtype == np.float64
        np.testing.assert_array_equal(layer.parameters.vector, original.parameters.vector)


def test_a_module_called_like_an_operation(rng, written):
    path = written(lstm(rng, 3, 4, "max") | linear(rng, 4, 2, "last"))
    assert "module:max or operation:max" in refusal(lambda: gc.convert.load(path, architecture="max,last"))
    model = gc.convert.load(path, architecture="module:max,operation:last,module:last")
    assert model.names == ("max", "last_1", "last")


def test_names_in_messages_are_printable(rng, written):
    path = written(lstm(rng, 3, 4, "a\x1b[31m\nb") | linear(rng, 4, 2, "fc"))
    words = refusal(lambda: gc.convert.load(path))
    assert "\\x1b[31m\\nb" in words


@pytest.mark.parametrize("start", ["module.", "_orig_mod.", "model.", "module.model.", "_orig_mod.module."])
def test_wrappers_around_the_whole_module_are_no_part_of_names(start, rng, written):
    weights = lstm(rng, 3, 4, "rnn") | linear(rng, 4, 2, "fc")
    path = written({f"{start}{name}": array for name, array in weights.items()})
    assert list(gc.convert.weights(path)) == ["rnn", "fc"]
    path = written({name.replace(".", "._orig_mod.", 1): array for name, array in weights.items()})
    assert list(gc.convert.weights(path)) == ["rnn", "fc"]


@pytest.mark.parametrize("at", ["state_dict", "model_state_dict", "model", "net", "a.b"])
def test_weights_in_a_checkpoint(at, rng, written):
    weights = lstm(rng, 3, 4, "rnn") | linear(rng, 4, 2, "fc")
    content = weights
    for key in reversed(at.split(".")):
        content = {key: content, "epoch": 3, "scores": {"a/epoch=8.ckpt": np.array(0.5)}}
    assert list(gc.convert.weights(written(content, ".ckpt"))) == ["rnn", "fc"]


@pytest.mark.parametrize("suffix", [".ckpt", ".pt"])
def test_a_checkpoint_of_lightning(suffix, torch, rng, tmp_path, capsys):
    """Weights below "model.", with those of a loss; a table of scores by path; arguments of no plain type."""
    weights = lstm(rng, 3, 4, "model.lstm") | linear(rng, 4, 2, "model.fc") | {"loss_function.weight": np.ones(2, F)}
    content = {
        "epoch": 9,
        "pytorch-lightning_version": "1.6.5",
        "state_dict": {name: torch.tensor(array) for name, array in weights.items()},
        "callbacks": {"ModelCheckpoint": {"best_k_models": {"a/epoch=8.ckpt": torch.tensor(0.5)}}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(16, 3)}}}],
        "hyper_parameters": argparse.Namespace(rate=np.float64(0.1)),
    }
    path = tmp_path / f"m{suffix}"
    torch.save(content, path)
    assert list(gc.convert.weights(path)) == ["model.lstm", "model.fc"]
    assert list(gc.convert.lstms(path)) == ["model.lstm"]
    by_prefix = gc.convert.load(path, prefix="model.", architecture="lstm,last,fc")
    by_name = gc.convert.load(path, architecture="model.lstm,last,model.fc", ignore=["loss_function"])
    torch_lstm, fc = torch.nn.LSTM(3, 4, batch_first=True), torch.nn.Linear(4, 2)
    torch_lstm.load_state_dict(tensors(torch, weights, "model.lstm"))
    fc.load_state_dict(tensors(torch, weights, "model.fc"))
    x = rng.normal(size=(2, 5, 3)).astype(F)
    with torch.no_grad():
        expected = fc(torch_lstm(torch.tensor(x))[0][:, -1]).numpy()
    for model in (by_prefix, by_name):
        np.testing.assert_allclose(model(x), expected, rtol=0, atol=1e-6)
    target = str(tmp_path / "n.safetensors")
    assert main(["convert", str(path), target, "--prefix", "model", "--architecture", "lstm,last,fc"]) == 0
    np.testing.assert_array_equal(gc.convert.load(target)(x), by_prefix(x))
    assert main(["convert", str(path), target, "--chain", "lstm,fc", "--overwrite"]) == 2
    assert "modules are model.lstm, model.fc, loss_function" in capsys.readouterr().err


@pytest.mark.parametrize("raw", ["{}.weight_hh_l0_raw", "{}.module.weight_hh_l0_raw"])
@pytest.mark.parametrize("copied", [False, True])
def test_weight_drop(raw, copied, rng, written):
    """Its recurrent weights are kept outside the module that is wrapped, or in it; what is in their place is stale."""
    weights = lstm(rng, 3, 4, "rnns.0.module")
    recurrent = weights.pop("rnns.0.module.weight_hh_l0")
    weights[raw.format("rnns.0")] = recurrent
    if copied:
        weights["rnns.0.module.weight_hh_l0"] = recurrent * 2
    weights |= linear(rng, 4, 2, "decoder")
    [found, _] = gc.convert.weights(written(weights)).values()
    np.testing.assert_array_equal(found.to_torch()["weight_hh_l0"], recurrent)
    np.testing.assert_array_equal(gc.LSTM.from_torch(weights, prefix="rnns.0.").to_torch()["weight_hh_l0"], recurrent)


def test_an_lstm_cell_is_an_lstm_of_one_layer(torch, rng, written):
    cell = torch.nn.LSTMCell(3, 4)
    path = written({f"cell.{name}": array.numpy() for name, array in cell.state_dict().items()})
    model = gc.convert.load(path)
    x, state, expected = rng.normal(size=(6, 3)).astype(F), None, []
    with torch.no_grad():
        for row in x:
            state = cell(torch.tensor(row), state)
            expected.append(state[0].numpy())
    np.testing.assert_allclose(model.infer(x)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["GRU", "RNN", "GRUCell", "RNNCell"])
def test_other_recurrent_layers_are_no_lstms(kind, torch, written):
    layer = getattr(torch.nn, kind)(3, 4)
    path = written({f"top.{name}": array.numpy() for name, array in layer.state_dict().items()})
    assert f"{kind[:3]}" in refusal(lambda: gc.LSTM.from_torch(layer.state_dict()))
    assert "must contain an LSTM" in refusal(lambda: gc.convert.lstms(path))


def test_every_lstm_of_a_model_that_is_no_chain(torch, rng, tmp_path):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv1d(3, 4, 3)
            self.norm = torch.nn.BatchNorm1d(4)
            self.attention = torch.nn.MultiheadAttention(4, 2)
            self.gru = torch.nn.GRU(4, 4)
            self.encoder = torch.nn.ModuleList([torch.nn.LSTM(4, 5, 2, bidirectional=True), torch.nn.LSTM(10, 3)])
            self.complex = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))

    models = {"net": Model().state_dict(), "ema": Model().state_dict(), "epoch": 3}
    torch.save(models, tmp_path / "m.pt")
    found = gc.convert.lstms(tmp_path / "m.pt")
    assert list(found) == [f"{key}.encoder.{k}" for key in ("net", "ema") for k in (0, 1)]
    x = rng.normal(size=(2, 6, 10)).astype(F)
    torch_lstm = torch.nn.LSTM(10, 3, batch_first=True)
    torch_lstm.load_state_dict(tensors(torch, models["ema"], "encoder.1"))
    with torch.no_grad():
        expected = torch_lstm(torch.tensor(x))[0].numpy()
    np.testing.assert_allclose(found["ema.encoder.1"].infer(x)[0], expected, rtol=0, atol=1e-6)
    torch.save(models["net"], tmp_path / "n.pt")
    assert list(gc.convert.lstms(tmp_path / "n.pt")) == ["encoder.0", "encoder.1"]


def test_an_lstm_that_does_not_fit_is_not_passed_over(rng, written):
    weights = lstm(rng, 3, 4, "rnn") | lstm(rng, 3, 4, "other")
    weights["other.bias_hh_l0"] = np.ones(15, F)
    words = refusal(lambda: gc.convert.lstms(written(weights)))
    assert "'other'" in words
    assert "bias_hh_l0" in words
