"""Property: every LSTM of a file is read with the same outputs, whatever other layers the file contains."""

import warnings

import numpy as np
import pytest

import glasscell as gc

WITHIN = 2e-6
F = np.float32


def parameters_of(torch, lstm):
    return {name: array.numpy() for name, array in lstm.state_dict().items()}


def same(lstm, torch, torch_lstm, rng):
    """Our LSTM computes what an nn.LSTM (batch first) does."""
    x = rng.normal(size=(2, 6, lstm.input_size)).astype(F)
    with torch.no_grad():
        expected = torch_lstm(torch.tensor(x))[0].numpy()
    np.testing.assert_allclose(lstm.infer(x)[0], expected, rtol=0, atol=WITHIN)


# ONNX


@pytest.fixture(scope="module")
def graph(torch):
    pytest.importorskip("onnxscript")
    from torch import nn  # noqa: PLC0415

    class Net(nn.Module):
        """A convolution, attention, a GRU, and LSTMs between them; the state of one is packed into one tensor."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(3, 4, 3, padding=1)
            self.encoder = nn.LSTM(4, 5, 2, bidirectional=True, batch_first=True)
            self.gru = nn.GRU(10, 6, batch_first=True)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.decoder = nn.LSTM(6, 4, batch_first=True)

        def forward(self, x, state):
            x, _ = self.encoder(self.conv(x.transpose(1, 2)).transpose(1, 2))
            x, _ = self.gru(x)
            x, _ = self.attention(x, x, x)
            y, (h, c) = self.decoder(x, (state[0], state[1]))
            return y.sum(1), torch.stack([h, c])

    return Net().eval()


@pytest.mark.parametrize("dynamo", [False, True])
def test_graphs_that_are_no_chain(dynamo, graph, torch, tmp_path, rng):
    pytest.importorskip("onnx")
    example = (torch.zeros(2, 6, 3), torch.zeros(2, 1, 2, 4))
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(graph, example, tmp_path / "m.onnx", dynamo=dynamo, verbose=False)
    with pytest.raises(ValueError, match=r"m\.onnx"):
        gc.convert.load(tmp_path / "m.onnx")
    first, second, decoder = gc.convert.lstms(tmp_path / "m.onnx").values()  # a node for each layer
    same(decoder, torch, graph.decoder, rng)
    x = rng.normal(size=(2, 6, 4)).astype(F)
    with torch.no_grad():
        expected = graph.encoder(torch.tensor(x))[0].numpy()
    np.testing.assert_allclose(second.infer(first.infer(x)[0])[0], expected, rtol=0, atol=WITHIN)


def node_of(onnx, lstm, name, prefix="", **attributes):
    """Return an LSTM node, and its weights as initializers."""
    model = onnx.load_from_string(lstm)
    [node] = [node for node in model.graph.node if node.op_type == "LSTM"]
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    inputs = [f"{prefix}{k}" if entry in tensors else "" for k, entry in enumerate(node.input)]
    renamed = [
        onnx.TensorProto.FromString(tensors[entry].SerializeToString()) for entry in node.input if entry in tensors
    ]
    for tensor, new in zip(renamed, [entry for entry in inputs if entry], strict=True):
        tensor.name = new
    inputs[0] = "x"
    made = onnx.helper.make_node("LSTM", inputs, [f"{prefix}y"], name=name, hidden_size=lstm_size(node), **attributes)
    return made, renamed


def lstm_size(node):
    return next(attribute.i for attribute in node.attribute if attribute.name == "hidden_size")


def drawn(rng, I, H, **options):
    lstm = gc.LSTM(I, H, **options)
    lstm.parameters.vector[:] = rng.normal(scale=0.5, size=lstm.parameters.vector.size)
    return lstm


def in_bytes(lstm, path):
    gc.convert.onnx.save(lstm, path)
    return path.read_bytes()


def test_lstms_in_the_branches_of_a_graph(tmp_path, rng):
    """As in a detector of voices: one branch for each rate of sampling, weights in the branch or around it."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    a, b = (drawn(rng, 3, 4), drawn(rng, 3, 5))
    one, of_one = node_of(onnx, in_bytes(a, tmp_path / "a.onnx"), "", "a")
    two, of_two = node_of(onnx, in_bytes(b, tmp_path / "b.onnx"), "/slow/LSTM", "b")
    weights = helper.make_node("Constant", [], ["b1"], value=next(t for t in of_two if t.name == "b1"))
    of_two = [tensor for tensor in of_two if tensor.name != "b1"]
    turned = next(tensor for tensor in of_two if tensor.name == "b2")
    flipped = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(turned).swapaxes(1, 2).copy(), "flipped")
    transposed = helper.make_node("Transpose", ["flipped"], ["b2"], perm=[0, 2, 1])
    then = helper.make_graph([one], "then", [], [helper.make_tensor_value_info("ay", 1, None)], of_one)
    rest = [tensor for tensor in of_two if tensor.name != "b2"]
    other = helper.make_graph(
        [weights, transposed, two], "else", [], [helper.make_tensor_value_info("by", 1, None)], rest
    )
    choice = helper.make_node("If", ["which"], ["y"], then_branch=then, else_branch=other)
    inputs = [helper.make_tensor_value_info("x", 1, [None, None, 3]), helper.make_tensor_value_info("which", 9, [])]
    whole = helper.make_graph([choice], "m", inputs, [helper.make_tensor_value_info("y", 1, None)], [flipped])
    onnx.save(helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    found = gc.convert.lstms(tmp_path / "m.onnx")
    assert set(found) == {"ay", "slow"}
    x = rng.normal(size=(2, 5, 3)).astype(F)
    for lstm, layer in ((a, found["ay"]), (b, found["slow"])):
        np.testing.assert_allclose(layer.infer(x)[0], lstm.infer(x)[0], rtol=0, atol=WITHIN)


def test_weights_that_depend_on_an_input_are_refused_by_node(tmp_path, rng):
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    node, tensors = node_of(onnx, in_bytes(drawn(rng, 3, 4), tmp_path / "a.onnx"), "top", "a")
    inputs = [
        helper.make_tensor_value_info("x", 1, [None, None, 3]),
        helper.make_tensor_value_info("a1", 1, [1, 16, 3]),
    ]
    rest = [tensor for tensor in tensors if tensor.name != "a1"]
    graph = helper.make_graph([node], "m", inputs, [helper.make_tensor_value_info("ay", 1, None)], rest)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    with pytest.raises(
        ValueError,
        match=r"the node 'top' \(LSTM\) has weights W that are computed from the inputs of the graph",
    ):
        gc.convert.lstms(tmp_path / "m.onnx")


def test_damaged_graphs_are_refused(tmp_path, rng):
    pytest.importorskip("onnx")
    content = in_bytes(drawn(rng, 3, 4), tmp_path / "a.onnx")
    path, refused = tmp_path / "m.onnx", 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            gc.convert.lstms(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(str(path))  # noqa: PT017 - it need not be raised
    assert refused > 30
    named, tensors = node_of(pytest.importorskip("onnx"), content, "a name", "a")
    helper = pytest.importorskip("onnx").helper
    graph = helper.make_graph([named], "m", [], [helper.make_tensor_value_info("ay", 1, None)], tensors)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    path.write_bytes(whole.replace(b"a name", b"a \xff\xfe\xfde"))  # no text
    with pytest.raises(ValueError, match=r"m\.onnx is"):
        gc.convert.lstms(path)


# Keras


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    import os  # noqa: PLC0415

    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
    with warnings.catch_warnings(action="ignore"):
        return pytest.importorskip("keras")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
def test_models_of_keras_that_are_no_chain(suffix, keras, tmp_path, rng):
    L = keras.layers
    first = keras.Input((6, 3))
    inner = keras.Sequential(
        [keras.Input((6, 4)), L.GRU(3, return_sequences=True), L.LSTM(4, name="deep")], name="inside"
    )
    shared = L.LSTM(4, return_sequences=True, use_bias=False, name="shared")
    before = L.Conv1D(4, 3, padding="same", activation="relu")(L.Bidirectional(L.GRU(2, return_sequences=True))(first))
    left = L.Bidirectional(L.LSTM(5, return_sequences=True), merge_mode="sum", name="both")(before)
    right = L.MultiHeadAttention(2, 2)(before, before)
    last = L.Concatenate()([inner(shared(before)), L.GlobalMaxPooling1D()(L.Add()([shared(right), shared(before)]))])
    model = keras.Model(first, L.Concatenate()([last, L.GlobalMaxPooling1D()(left)]))
    model.set_weights([rng.uniform(-0.8, 0.8, size=w.shape).astype(F) for w in model.get_weights()])
    path = tmp_path / f"m{suffix}"
    with warnings.catch_warnings(action="ignore"):
        (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    found = gc.convert.lstms(path)
    named = {name.rpartition(".")[2]: layer for name, layer in found.items()}
    assert sorted(named) == ["both", "deep", "shared"]
    assert suffix == ".weights.h5" or set(found) == {"both", "inside.deep", "shared"}
    x = rng.normal(size=(2, 6, 4)).astype(F)
    keras_layers = {"shared": shared, "both": model.get_layer("both"), "deep": inner.get_layer("deep")}
    for name, layer in named.items():
        if suffix == ".weights.h5" and name == "both":
            continue  # that its directions are summed is in no weights
        of_input = x if name != "deep" else rng.normal(size=(2, 6, 3)).astype(F)
        y, state = layer.infer(of_input)
        expected = keras_layers[name](of_input).detach().numpy()
        np.testing.assert_allclose(state.h[0] if name == "deep" else y, expected, rtol=0, atol=WITHIN)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_an_lstm_whose_settings_are_in_no_configuration_is_not_passed_over(keras, tmp_path):
    @keras.saving.register_keras_serializable("mine")
    class Wrapper(keras.layers.Layer):
        def __init__(self, **config):
            super().__init__(**config)
            self.lstm = keras.layers.LSTM(4, recurrent_activation="hard_sigmoid")

        def build(self, shape):
            self.lstm.build(shape)

        def call(self, x):
            return self.lstm(x)

    model = keras.Sequential([keras.Input((6, 3)), Wrapper()])
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="a weight of an LSTM in a layer whose settings are not in the file"):
        gc.convert.lstms(tmp_path / "m.keras")


# Our own


def test_our_own_files(tmp_path):
    gc.CopyLSTM(hidden_size=4).save(tmp_path / "c.safetensors")
    assert list(gc.convert.lstms(tmp_path / "c.safetensors")) == ["lstm"]
    model = gc.Sequential([gc.LSTM(3, 4), gc.layers.FinalState(), gc.Linear(4, 2)], ["a", "b", "c"])
    model.save(tmp_path / "m.safetensors")
    assert list(gc.convert.lstms(tmp_path / "m.safetensors")) == ["a"]
    gc.Sequential([gc.Linear(3, 4)]).save(tmp_path / "n.safetensors")
    with pytest.raises(ValueError, match=r"n\.safetensors must contain an LSTM"):
        gc.convert.lstms(tmp_path / "n.safetensors")
