"""Law: layers other than LSTMs are written, read and run as ONNX with equal outputs, also as PyTorch exports them."""

import importlib
import logging
import warnings

import numpy as np
import pytest

from glasscell.layers import (
    LSTM,
    AveragePooling1D,
    BatchNorm,
    Conv1D,
    Dropout,
    Embedding,
    FinalState,
    Flatten,
    Function,
    GaussianDropout,
    GaussianNoise,
    LayerNorm,
    Linear,
    MaxPooling1D,
    Normalization,
    RepeatVector,
    Rescaling,
    SpatialDropout1D,
)
from glasscell.layers.kinds import STATELESS, WITH_PARAMETERS
from glasscell.models import Sequential

ATOL = 2e-6
I, H, B, T = 3, 4, 3, 6


@pytest.fixture(scope="module")
def writer(onnx):
    return importlib.import_module("glasscell.convert.onnx.exporter.model")


@pytest.fixture(scope="module")
def reader(onnx):
    return importlib.import_module("glasscell.convert.onnx.importer.graph")


@pytest.fixture(scope="module")
def run(onnx, onnxruntime):
    def run(model, *inputs):
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return session.run(None, {one.name: x for one, x in zip(session.get_inputs(), inputs, strict=True)})[0]

    return run


def filled(model, rng):
    """The same with random weights and statistics."""
    model.parameters.vector[:] = rng.uniform(-0.7, 0.7, model.parameters.vector.size)
    for layer in model.layers:
        if isinstance(layer, BatchNorm):
            layer.statistics["running_mean"][:] = rng.normal(size=layer.size)
            layer.statistics["running_var"][:] = rng.uniform(0.2, 2, layer.size)
    return model


FEATURES = (1.0, -2.0, 0.5, 3.0)
BETWEEN = {
    "LayerNorm": [LayerNorm(H, epsilon=0.01)],
    "LayerNorm without shift": [LayerNorm(H, shift=False)],
    "BatchNorm": [BatchNorm(H, epsilon=0.01)],
    "Rescaling": [Rescaling(FEATURES, FEATURES[::-1])],
    "Rescaling without offset": [Rescaling(FEATURES)],
    "Conv1D": [Conv1D(H, H, 3, padding="causal", dilation=2), Function("Relu")],
    "Conv1D in groups": [Conv1D(H, 6, 2, stride=2, groups=2, bias=False), Linear(6, H)],
    "Conv1D, same": [Conv1D(H, H, 3, stride=2, padding="same")],
    "Conv1D, padded": [Conv1D(H, H, 3, padding=(1, 2))],
    "MaxPooling1D": [MaxPooling1D(2)],
    "MaxPooling1D, same": [MaxPooling1D(3, 2, "same")],
    "AveragePooling1D": [AveragePooling1D(3, 2, (1, 1))],
    "AveragePooling1D, counted": [AveragePooling1D(3, 2, (1, 1), count_padding=True)],
    "RepeatVector": [FinalState(), RepeatVector(5)],
    "Dropout": [Dropout(0.5)],
    **{name: [Function(name)] for name in ("Silu", "Gelu", "GeluTanh", "Selu")},
}


def as_read(model):
    """What a graph says of layers: a final state is the last step; which one it was of a stack is not said."""
    config = model.config
    for entry in config["layers"]:
        entry.pop("masked_outputs", None)
    return config


@pytest.mark.parametrize("name", BETWEEN)
def test_a_layer_is_the_same_in_onnxruntime_and_when_it_is_read_again(name, writer, reader, run, rng):
    model = filled(Sequential([LSTM(I, H), *BETWEEN[name], LSTM(H, 2), LayerNorm(2), Linear(2, 2)]), rng)
    written = writer.to_model(model)
    again = reader.from_model(written)
    for batch, steps in ((B, T), (1, 9)):
        x = rng.standard_normal((batch, steps, I)).astype(np.float32)
        np.testing.assert_allclose(run(written, x), model(x), rtol=0, atol=ATOL)
        np.testing.assert_array_equal(again(x), model(x))
    assert as_read(again) == as_read(model)


def test_a_flatten_is_of_one_number_of_steps(writer, reader, run, rng):
    x = rng.standard_normal((B, T, I)).astype(np.float32)
    for layers, size in (([LSTM(I, H)], T * H), ([LSTM(I, H), MaxPooling1D(2)], T // 2 * H)):
        model = filled(Sequential([*layers, Flatten(), Linear(size, 2)]), rng)
        written = writer.to_model(model)
        np.testing.assert_allclose(run(written, x), model(x), rtol=0, atol=ATOL)
        again = reader.from_model(written)
        np.testing.assert_array_equal(again(x), model(x))
        assert as_read(again) == as_read(model)


def test_a_normalization_is_read_as_what_it_computes(writer, reader, run, rng):
    """As a difference and a factor; with one number for all, as two functions."""
    x = rng.standard_normal((B, T, I)).astype(np.float32)
    for layer in (
        Normalization(FEATURES[:I], (1.0, 2.0, 3.0)),
        Normalization(FEATURES[:I], (1.0, 2.0, 3.0), invert=True),
        Normalization(0.5, 4.0),
        Rescaling(0.1, 0.5),
        Rescaling(1.0, FEATURES[:I]),
    ):
        model = Sequential([layer, LSTM(I, H, seed=1)])
        written = writer.to_model(model)
        np.testing.assert_allclose(run(written, x), model(x), rtol=0, atol=ATOL)
        np.testing.assert_allclose(reader.from_model(written)(x), model(x), rtol=0, atol=ATOL)


def test_noise_is_not_written(writer, reader, run, rng):
    x = rng.standard_normal((B, T, I)).astype(np.float32)
    noisy = [SpatialDropout1D(0.5), GaussianNoise(1.0), GaussianDropout(0.5)]
    model = Sequential([LSTM(I, H, input_dropout=0.5, recurrent_dropout=0.3, seed=1), *noisy, Linear(H, 2)])
    written = writer.to_model(model)
    np.testing.assert_allclose(run(written, x), model(x), rtol=0, atol=ATOL)
    assert [type(layer).__name__ for layer in reader.from_model(written).layers] == ["LSTM", "Linear"]


def test_lengths_reach_no_further_than_a_repeat_vector(writer, onnxruntime, rng):
    """The decoder's steps are all valid."""
    model = filled(Sequential([LSTM(I, H), FinalState(), RepeatVector(4), LSTM(H, 2)]), rng)
    written = writer.to_model(model, lengths=True)
    x, lengths = rng.standard_normal((B, T, I)).astype(np.float32), np.array([1, 3, 6], np.int32)
    session = onnxruntime.InferenceSession(written.SerializeToString())
    [y] = session.run(None, {"x": x, "lengths": lengths})
    np.testing.assert_allclose(y, model(x, lengths=lengths), rtol=0, atol=ATOL)
    for layer in (Conv1D(H, H, 2), MaxPooling1D(2), Flatten()):
        with pytest.raises(ValueError, match="the layer '1' combines steps, and ONNX ignores lengths there"):
            writer.to_model(Sequential([LSTM(I, H), layer]), lengths=True)


def test_every_kind_of_layer_is_written_or_refused_by_name(writer):
    kinds = {type(layer).__name__ for layers in BETWEEN.values() for layer in layers}
    kinds |= {"LSTM", "Embedding", "Linear", "Normalization", "Flatten", "Pool", "Step", "SwapHalves", "FinalState"}
    kinds |= {"SpatialDropout1D", "GaussianNoise", "GaussianDropout", "Unsqueeze", "Squeeze"}
    refused = {"GRU", "Masking", "RNN"}
    assert kinds | refused == {*STATELESS, *WITH_PARAMETERS}
    assert {kind.__name__ for kind in writer.EXPORTERS} == kinds


# As PyTorch's two exporters write them


def net(t, forward, **parts):
    class Net(t.nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, x):
            return forward(self, x)

    return Net()


def between(t, layer, *, turned=False):
    """A layer between an LSTM and a linear map, perhaps on (B, F, T)."""

    def forward(m, x):
        y = m.lstm(x)[0]
        return m.fc(m.layer(y.transpose(1, 2)).transpose(1, 2) if turned else m.layer(y))

    return net(t, forward, lstm=t.nn.LSTM(I, H, batch_first=True), layer=layer, fc=t.nn.Linear(H, 2))


def convolved(t, *layers):
    """Layers on (B, F, T) before an LSTM, of which the last step is taken."""

    def forward(m, x):
        return m.fc(m.lstm(m.layers(x.transpose(1, 2)).transpose(1, 2))[0][:, -1])

    parts = {"layers": t.nn.Sequential(*layers), "lstm": t.nn.LSTM(H, H, batch_first=True), "fc": t.nn.Linear(H, 2)}
    return net(t, forward, **parts)


def decoder(t, repeat):
    def forward(m, x):
        return m.fc(m.second(repeat(m.first(x)[1][0][-1]))[0])

    parts = {"first": t.nn.LSTM(I, H, batch_first=True), "second": t.nn.LSTM(H, H, batch_first=True)}
    return net(t, forward, **parts, fc=t.nn.Linear(H, 2))


def everything(t):
    """Of each kind one."""

    def forward(m, x):
        y = m.bn(m.conv(x.transpose(1, 2))).relu()
        y = m.lstm(t.nn.functional.max_pool1d(y, 2).transpose(1, 2))[0]
        return m.fc(t.nn.functional.gelu(m.norm(y)).flatten(1))

    parts = {"conv": t.nn.Conv1d(I, H, 3, padding=1), "bn": t.nn.BatchNorm1d(H), "norm": t.nn.LayerNorm(H)}
    return net(t, forward, **parts, lstm=t.nn.LSTM(H, H, batch_first=True), fc=t.nn.Linear(T // 2 * H, 2))


def flat(t, order):
    return net(
        t,
        lambda m, x: m.fc(order(m.lstm(x)[0]).flatten(1)),
        lstm=t.nn.LSTM(I, H, batch_first=True),
        fc=t.nn.Linear(T * H, 2),
    )


def standardised(t):
    module = net(t, lambda m, x: m.lstm((x - m.mean) / m.deviation)[0] * m.gain + m.shift)
    module.lstm = t.nn.LSTM(I, H, batch_first=True)
    for name, size in (("mean", I), ("deviation", I), ("gain", H), ("shift", H)):
        module.register_buffer(name, t.rand(size) + 0.5)
    return module


def squeezed(t, forward):
    return net(t, forward, lstm=t.nn.LSTM(I, H, batch_first=True), fc=t.nn.Linear(H, 1))


MODULES = {
    "LayerNorm": lambda t: between(t, t.nn.LayerNorm(H)),
    "LayerNorm without weights": lambda t: between(t, t.nn.LayerNorm(H, elementwise_affine=False)),
    "BatchNorm": lambda t: between(t, t.nn.BatchNorm1d(H), turned=True),
    "BatchNorm of the last step": lambda t: net(
        t, lambda m, x: m.bn(m.lstm(x)[0][:, -1]), lstm=t.nn.LSTM(I, H, batch_first=True), bn=t.nn.BatchNorm1d(H)
    ),
    "GELU": lambda t: between(t, t.nn.GELU()),
    "GELU, tanh": lambda t: between(t, t.nn.GELU("tanh")),
    "SiLU": lambda t: between(t, t.nn.SiLU()),
    "SELU": lambda t: between(t, t.nn.SELU()),
    "Softsign": lambda t: between(t, t.nn.Softsign()),
    "SiLU of a ReLU": lambda t: between(t, t.nn.Sequential(t.nn.ReLU(), t.nn.SiLU())),
    "Conv1d": lambda t: convolved(t, t.nn.Conv1d(I, H, 3, padding=1), t.nn.ReLU(), t.nn.MaxPool1d(2)),
    "Conv1d and BatchNorm": lambda t: convolved(
        t, t.nn.Conv1d(I, 2 * H, 2, stride=2, bias=False), t.nn.BatchNorm1d(2 * H), t.nn.Conv1d(2 * H, H, 1, groups=2)
    ),
    "AvgPool1d": lambda t: convolved(t, t.nn.Conv1d(I, H, 2), t.nn.AvgPool1d(2, stride=1)),
    "repeated": lambda t: decoder(t, lambda h: h.unsqueeze(1).repeat(1, 5, 1)),
    "expanded": lambda t: decoder(t, lambda h: h.unsqueeze(1).expand(-1, 5, -1)),
    "flattened": lambda t: flat(t, lambda y: y),
    "flattened, time last": lambda t: flat(t, lambda y: y.transpose(1, 2)),
    "standardised": standardised,
    "squeezed": lambda t: squeezed(t, lambda m, x: m.fc(m.lstm(x)[0][:, -1]).squeeze(-1)),
    "squeezed steps": lambda t: squeezed(t, lambda m, x: m.fc(m.lstm(x)[0]).squeeze(2)),
    "a view": lambda t: squeezed(t, lambda m, x: m.fc(m.lstm(x)[1][0][-1]).view(-1)),
    "everything": everything,
}


def exported(torch, module, x, path, *, dynamo, opset):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both exporters warn of much
        if dynamo:
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            torch.onnx.export(module, (x,), dynamo=True, opset_version=opset, verbose=False).save(path)
        else:
            axes = {"x": {0: "batch"}}
            torch.onnx.export(
                module, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes, opset_version=opset
            )
    return path


DECOMPOSED = ("LayerNorm", "LayerNorm without weights", "GELU")  # in opset 13
OTHER_EXPORTER = ("everything", "repeated", "GELU, tanh", "standardised")  # each takes it a second


@pytest.mark.parametrize(
    ("name", "dynamo", "opset"),
    [
        *[(name, False, 17) for name in MODULES],
        *[(name, False, 13) for name in DECOMPOSED],
        *[(name, True, 18) for name in OTHER_EXPORTER],
    ],
)
def test_an_export_computes_what_pytorch_does(torch, reader, tmp_path, name, dynamo, opset):
    torch.manual_seed(1)
    module = MODULES[name](torch).eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.3, 2)
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.LayerNorm) and part.weight is not None:
            torch.nn.init.normal_(part.weight)
            torch.nn.init.normal_(part.bias)
    x = torch.randn(B, T, I)
    with torch.no_grad():
        expected = module(x).numpy()
    model = reader.load(exported(torch, module, x, tmp_path / "m.onnx", dynamo=dynamo, opset=opset))
    np.testing.assert_allclose(model(x.numpy()), expected, rtol=0, atol=ATOL, strict=True)
    kinds = [type(layer).__name__ for layer in model.layers]
    expected_kind = {"LayerNorm": "LayerNorm", "BatchNorm": "BatchNorm", "repeated": "RepeatVector"}
    assert expected_kind.get(name, kinds[0]) in kinds


NUMBERS = {
    "an LSTM": lambda m, x: m.fc(m.lstm(x.unsqueeze(-1))[0]),
    "an LSTM of scaled numbers": lambda m, x: m.fc(m.lstm((x * 0.5 + 1).unsqueeze(2))[0]),
    "a convolution": lambda m, x: m.fc(m.inner(m.conv(x.unsqueeze(1)).transpose(1, 2))[0]),
    "both ends": lambda m, x: m.fc(m.lstm(x.unsqueeze(-1))[0][:, -1]).squeeze(-1),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_an_export_that_takes_numbers_without_features(torch, reader, writer, run, tmp_path, name):
    """(B, T), and not (B, T, 1); so does what is written again."""
    t = torch
    torch.manual_seed(1)
    parts = {"lstm": t.nn.LSTM(1, H, batch_first=True), "inner": t.nn.LSTM(H, H, batch_first=True)}
    module = net(t, NUMBERS[name], **parts, conv=t.nn.Conv1d(1, H, 3), fc=t.nn.Linear(H, 1)).eval()
    x = torch.randn(B, T)
    with torch.no_grad():
        expected = module(x).numpy()
    model = reader.load(exported(torch, module, x, tmp_path / "m.onnx", dynamo=False, opset=17))
    np.testing.assert_allclose(model(x.numpy()), expected, rtol=0, atol=ATOL, strict=True)
    written = writer.to_model(model)
    np.testing.assert_allclose(run(written, x.numpy()), expected, rtol=0, atol=ATOL, strict=True)
    assert [type(one) for one in reader.from_model(written).layers] == [type(one) for one in model.layers]


# As others write them


def graph_of(onnx, nodes, tensors, inputs, axes=3):
    """A model of nodes (operator, inputs, outputs, attributes), with one output "y"."""
    helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
    made = helper.make_graph(
        [helper.make_node(op, given.split(), gives.split(), **attributes) for op, given, gives, attributes in nodes],
        "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", FLOAT, [None] * axes)],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def weights(rng):
    shapes = {"W": (1, 4 * H, I), "R": (1, 4 * H, H), "B": (1, 8 * H), "table": (7, I), "v": (H,), "u": (H,)}
    arrays = {name: rng.normal(scale=0.5, size=shape).astype(np.float32) for name, shape in shapes.items()}
    return arrays | {"0": np.array([0]), "1": np.array([1]), "one": np.array(1), "half": np.float32(0.5)}


TURN = ("Transpose", "e", "X", {"perm": [1, 0, 2]})
TIME_LAST = ("Transpose", "z", "t", {"perm": [1, 2, 0]})
POOL = {"kernel_shape": [3], "strides": [2]}
STEPS = [TURN, ("LSTM", "X W R B", "Y h c", {"hidden_size": H}), ("Squeeze", "Y 1", "z", {})]


def test_ids_that_are_floats(onnx, reader, run, rng, weights):
    """As tf2onnx writes an Embedding."""
    nodes = [("Cast", "x", "k", {"to": 6}), ("Gather", "table k", "e", {}), *STEPS, ("Squeeze", "h 0", "y", {})]
    model = graph_of(onnx, nodes, weights, {"x": ["n", T]}, axes=2)
    ids = rng.integers(0, 7, (B, T))
    ours = reader.from_model(model)
    assert isinstance(ours.layers[0], Embedding)
    np.testing.assert_allclose(ours(ids), run(model, ids.astype(np.float32)), rtol=0, atol=ATOL)


def test_an_affine_map_of_each_feature(onnx, reader, run, rng, weights):
    """Before and behind, on either side of the operator, and along the axis where the features are."""
    of_input = np.float32([1.0, -2.0, 0.5])
    turned = [("Transpose", "z", "zt", {"perm": [1, 2, 0]}), ("Transpose", "t", "y", {"perm": [2, 0, 1]})]
    by_columns = {"vt": weights["v"][:, None], "ut": weights["u"][None, :, None]}
    for before, after in (
        ([("Div", "x w", "e", {})], [("Mul", "z v", "a", {}), ("Add", "u a", "y", {})]),
        ([("Sub", "w x", "e", {})], [("Sub", "z v", "a", {}), ("Mul", "u a", "y", {})]),
        ([("Identity", "x", "e", {})], [turned[0], ("Mul", "vt zt", "a", {}), ("Add", "a ut", "t", {}), turned[1]]),
    ):
        model = graph_of(onnx, [*before, *STEPS, *after], weights | {"w": of_input} | by_columns, {"x": ["n", "t", I]})
        x = rng.standard_normal((B, T, I)).astype(np.float32)
        theirs = run(model, x)
        np.testing.assert_allclose(reader.from_model(model)(x).swapaxes(0, 1), theirs, rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([("Mul", "z table", "y", {})], r"\(Mul\) has an array of shape \(7, 3\), which is not one number per feature"),
        ([("Mul", "z w", "y", {})], r"\(Mul\) has 3 numbers for an axis of size 4"),
        ([("Div", "z u0", "y", {})], r"\(Div\) divides by 0"),
        ([TIME_LAST, ("Add", "t b", "y", {})], "an axis that is not the features"),
        ([("BatchNormalization", "z v v v v", "y", {})], "an axis that is not the features"),
        ([("Exp", "z", "e1", {}), ("LeakyRelu", "e1", "y", {})], "a function with parameters, inside another"),
        ([("Mul", "z z", "y", {})], "the output 'y' is an intermediate value of a function, which no layer computes"),
        ([("Selu", "z", "y", {"alpha": 1.5})], r"\(Selu\) has alpha = 1\.5"),
        ([("Conv", "z k", "y", {})], "an axis that is not the features"),
        (
            [TIME_LAST, ("MaxPool", "t", "y", POOL | {"dilations": [2]})],
            "has dilations, which pooling layers do not support",
        ),
        ([TIME_LAST, ("MaxPool", "t", "y", POOL | {"ceil_mode": 1})], "a last window of fewer steps"),
        ([("Tile", "z two", "y", {})], r"\(Tile\) repeats values that no sequential model repeats"),
    ],
)
def test_what_is_no_layer_is_refused_by_name(onnx, reader, weights, nodes, words):
    tensors = weights | {"w": np.ones(3, np.float32), "u0": np.float32([1, 0, 1, 1]), "b": np.ones(T, np.float32)}
    tensors |= {"k": np.ones((2, B, 1), np.float32), "two": np.array([2, 1, 1])}
    model = graph_of(onnx, [("Identity", "x", "e", {}), *STEPS, *nodes], tensors, {"x": [B, T, I]})
    with pytest.raises(ValueError, match=words):
        reader.from_model(model)


def test_a_branch_whose_condition_is_known(onnx, reader, run, rng, weights):
    """PyTorch squeezes an axis of open size in this way."""
    helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
    value = [helper.make_tensor_value_info("inner", FLOAT, [None] * 3)]
    branches = {
        f"{name}_branch": helper.make_graph([helper.make_node(op, given, ["inner"])], name, [], value)
        for name, op, given in (("then", "Squeeze", ["z", "one"]), ("else", "Relu", ["z"]))
    }
    condition = [("Shape", "z", "s", {}), ("Gather", "s 1", "n", {}), ("Equal", "n 1", "is", {})]
    nodes = [("Identity", "x", "e", {}), *STEPS, *condition, ("If", "is", "y", branches)]
    model = graph_of(onnx, nodes, weights | {"one": np.array([1])}, {"x": ["n", "t", I]})
    ours = reader.from_model(model)
    x = rng.standard_normal((B, T, I)).astype(np.float32)
    np.testing.assert_allclose(ours(x).swapaxes(0, 1), run(model, x), rtol=0, atol=ATOL)
    assert ours.layers[-1] == Function("Relu")


@pytest.mark.parametrize(
    ("op", "words"),
    [
        ("GRU", r"the model has another recurrent layer than an LSTM \(GRU\), which cannot be represented: the node"),
        ("RNN", r"the model has another recurrent layer than an LSTM \(RNN\)"),
        ("DynamicQuantizeLSTM", r"the model is quantised \(DynamicQuantizeLSTM\)"),
        ("MatMulInteger", r"the model is quantised \(MatMulInteger\)"),
        ("Scan", r"the model has loops \(Scan\)"),
    ],
)
def test_a_refusal_says_what_the_model_is(onnx, reader, weights, op, words):
    """Also where the first node that stops the reader is another one."""
    nodes = [
        ("Identity", "x", "e", {}),
        *STEPS,
        ("Exp", "z", "e1", {}),
        ("MatMul", "e1 W", "y", {}),
        (op, "z W R", "q", {}),
    ]
    with pytest.raises(ValueError, match=words):
        reader.from_model(graph_of(onnx, nodes, weights, {"x": ["n", "t", I]}))


def test_a_graph_of_functions_is_read_in_time_that_grows_with_it(onnx, reader, weights):
    """Each node of a function that is no layer costs what the one before costs."""
    work = []
    for count in (100, 200, 400):
        nodes = [("Identity", "x", "e", {}), *STEPS, ("Exp", "z", "f0", {})]
        nodes += [("Mul", f"f{k} f{k}" if k % 2 else f"f{k} z", f"f{k + 1}", {}) for k in range(count)]
        nodes += [("Identity", f"f{count}", "y", {})]
        calls = []
        pointwise = importlib.import_module("glasscell.convert.onnx.importer.pointwise")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                pointwise, "_evaluate", lambda f, *a, of=pointwise._evaluate, to=calls: to.append(1) or of(f, *a)
            )
            with pytest.raises(ValueError, match="an intermediate value of a function"):
                reader.from_model(graph_of(onnx, nodes, weights, {"x": [B, T, I]}))
        work.append(len(calls))
    assert work[2] - work[1] <= 2.3 * (work[1] - work[0])


@pytest.mark.parametrize("op", ["Squeeze", "Sigmoid", "Conv", "Softmax"])
def test_an_attribute_that_is_not_known_is_refused(onnx, reader, weights, op):
    """A later version of the operator may give it a meaning."""
    model = graph_of(
        onnx, [("Identity", "x", "e", {}), *STEPS, (op, "z", "y", {"gentle": 1})], weights, {"x": [B, T, I]}
    )
    with pytest.raises(ValueError, match=rf"\({op}\) has the attribute 'gentle', which is not supported"):
        reader.from_model(model)


def test_every_operator_that_is_read_is_known_by_its_attributes(onnx, reader):
    """Those that the operators have in the newest version of ONNX that is installed, and no others but of old ones."""
    attributes = importlib.import_module("glasscell.convert.onnx.importer.attributes")
    folding = importlib.import_module("glasscell.convert.onnx.importer.constant_folding")
    old = {"axes", "ratio", "spatial", "starts", "ends", "steps", "split"}
    unread = {"value_string", "value_strings", "sparse_value"}
    operators = {*reader.HANDLERS, *folding.FOLDED, "If"} - {"LSTM"}
    for op in operators:
        known = attributes.ATTRIBUTES.get(op, set())
        theirs = set(onnx.defs.get_schema(op).attributes) if onnx.defs.has(op) else known
        assert theirs - unread <= known, op
        assert known - theirs <= old, op
    assert attributes.ATTRIBUTES.keys() <= operators
