"""Law: models from PyTorch's exporters have equal outputs, however the graph moves axes."""

import functools
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from case_loops import loop_over

GOLDEN = Path(__file__).parents[3].parent / "shared" / "conformance" / "formats"
ATOL = 1e-6  # float32
I, H, V = 3, 4, 7
RATES = {"num_layers": 2, "dropout": 0.5}


def lstm(t, inputs=I, size=H, **options):
    return t.nn.LSTM(inputs, size, **{"batch_first": True, **options})


def linear(t, inputs=H, outputs=2, **options):
    return t.nn.Linear(inputs, outputs, **options)


def net(t, forward, **parts):
    """Return a module with these submodules, whose forward pass is a function of it and its inputs."""

    class Net(t.nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, *inputs):
            return forward(self, *inputs)

    return Net()


def head(t, vector, **options):
    """Return an LSTM and a linear map on one vector per sequence."""
    D = 2 if options.get("bidirectional") else 1
    return net(t, lambda m, x: m.fc(vector(*m.lstm(x))), lstm=lstm(t, **options), fc=linear(t, D * H))


def activated(t, function):
    """Return an LSTM and a function of each step between two linear maps."""
    parts = {"lstm": lstm(t), "fc1": linear(t, H, 6), "act": function, "fc2": linear(t, 6, 2)}
    return net(t, lambda m, x: m.fc2(m.act(m.fc1(m.lstm(x)[0]))), **parts)


def from_start(t, layers):
    """Return an LSTM whose initial states are inputs."""
    return net(t, lambda m, x, h, c: m.lstm(x, (h, c)), lstm=lstm(t, **layers))


def from_zeros(t):
    def forward(m, x):
        start = t.zeros(2, x.size(0), H)
        return m.fc(m.lstm(x, (start, start))[0][:, -1, :])

    return net(t, forward, lstm=lstm(t, num_layers=2), fc=linear(t))


def from_learned(t):
    def forward(m, x):
        h, c = (start.expand(-1, x.size(0), -1).contiguous() for start in (m.h0, m.c0))
        return m.lstm(x, (h, c))[0]

    starts = {name: t.nn.Parameter(t.randn(2, 1, H)) for name in ("h0", "c0")}
    return net(t, forward, lstm=lstm(t, num_layers=2), **starts)


def packed(t, **options):
    rnn = t.nn.utils.rnn

    def forward(m, x, lengths):
        y, (h, c) = m.lstm(rnn.pack_padded_sequence(x, lengths, batch_first=True))
        return rnn.pad_packed_sequence(y, batch_first=True)[0], h, c

    return net(t, forward, lstm=lstm(t, **options))


def language_model(t):
    parts = {"emb": t.nn.Embedding(V, I), "lstm": lstm(t, num_layers=2), "out": linear(t, H, V)}
    return net(t, lambda m, x: t.log_softmax(m.out(m.lstm(m.emb(x))[0]).view(-1, V), dim=1), **parts)


def classifier(t):
    layers = t.nn.Sequential(linear(t, H, 6), t.nn.ReLU(), t.nn.Dropout(0.5), linear(t, 6, 2))
    return net(t, lambda m, x: m.head(m.lstm(x)[0][:, -1]), lstm=lstm(t), head=layers)


def added(y):
    return y[..., :H] + y[..., H:]


def time_major(t, **options):
    return t.nn.LSTM(I, H, **options)


BOTH = {"bidirectional": True}
MODULES = {
    # an LSTM alone
    "an LSTM": lambda t: lstm(t),
    "time major": lambda t: time_major(t),
    "time major, both directions": lambda t: time_major(t, **BOTH),
    "two layers": lambda t: lstm(t, num_layers=2),
    "three layers, both directions": lambda t: lstm(t, num_layers=3, **BOTH),
    "no bias": lambda t: lstm(t, bias=False),
    "dropout between layers": lambda t: lstm(t, **RATES),
    "given states": lambda t: from_start(t, {}),
    "given states of two layers": lambda t: from_start(t, {"num_layers": 2}),
    "given states of two layers, both directions": lambda t: from_start(t, {"num_layers": 2, **BOTH}),
    "zeros as states": from_zeros,
    "learned states": from_learned,
    "outputs alone": lambda t: net(t, lambda m, x: m.lstm(x)[0], lstm=lstm(t, num_layers=2)),
    "h_n[-1] alone": lambda t: net(t, lambda m, x: m.lstm(x)[1][0][-1], lstm=lstm(t, num_layers=2)),
    "states alone": lambda t: net(t, lambda m, x: m.lstm(x)[1], lstm=lstm(t, num_layers=2)),
    "packed": lambda t: packed(t),
    "packed, two layers, both directions": lambda t: packed(t, num_layers=2, **BOTH),
    "float64": lambda t: net(t, lambda m, x: m.fc(m.lstm(x)[0]), lstm=lstm(t), fc=linear(t)).double(),
    # several
    "an embedding": lambda t: net(t, lambda m, x: m.lstm(m.emb(x))[0], emb=t.nn.Embedding(V, I), lstm=lstm(t)),
    "a language model": language_model,
    "two LSTMs": lambda t: net(t, lambda m, x: m.b(m.a(x)[0])[0], a=lstm(t), b=lstm(t, H, 6)),
    "two LSTMs of a kind": lambda t: net(t, lambda m, x: m.b(m.a(x)[0])[0], a=lstm(t), b=lstm(t, H, H)),
    "two LSTMs of two kinds": lambda t: net(
        t, lambda m, x: m.b(m.a(x)[0])[0], a=lstm(t, **BOTH), b=lstm(t, 2 * H, H, num_layers=2)
    ),
    "a linear map before": lambda t: net(
        t, lambda m, x: m.lstm(m.fc(x).relu())[0], fc=linear(t, I, 5), lstm=lstm(t, 5)
    ),
    "a linear map between": lambda t: net(
        t, lambda m, x: m.b(m.fc(m.a(x)[0]).tanh())[0], a=lstm(t), fc=linear(t, H, 5), b=lstm(t, 5)
    ),
    "a linear map at every step": lambda t: net(t, lambda m, x: m.fc(m.lstm(x)[0]), lstm=lstm(t), fc=linear(t)),
    "a linear map without bias": lambda t: net(
        t, lambda m, x: m.fc(m.lstm(x)[0]), lstm=lstm(t), fc=linear(t, bias=False)
    ),
    "a linear map over flat steps": lambda t: net(
        t, lambda m, x: m.fc(m.lstm(x)[0].reshape(-1, H)).reshape(x.shape[0], -1, 2), lstm=lstm(t), fc=linear(t)
    ),
    "one output, squeezed": lambda t: net(
        t, lambda m, x: m.fc(m.lstm(x)[0]).squeeze(-1).sigmoid(), lstm=lstm(t), fc=linear(t, H, 1)
    ),
    "a Sequential": classifier,
    "nested": lambda t: net(
        t,
        lambda m, x: m.net.fc(m.net.rnn(x)[0]),
        net=t.nn.ModuleDict({"rnn": lstm(t), "fc": linear(t)}),
    ),
    # one vector of a sequence
    "y[:, -1]": lambda t: head(t, lambda y, _: y[:, -1]),
    "y[:, 0]": lambda t: head(t, lambda y, _: y[:, 0]),
    "y[:, -2]": lambda t: head(t, lambda y, _: y[:, -2]),
    "y[:, -1] of both directions": lambda t: head(t, lambda y, _: y[:, -1], **BOTH),
    "h_n[-1]": lambda t: head(t, lambda _, state: state[0][-1], num_layers=2),
    "h_n.squeeze(0)": lambda t: head(t, lambda _, state: state[0].squeeze(0)),
    "h_n[-2], h_n[-1]": lambda t: head(
        t, lambda _, state: t.cat((state[0][-2], state[0][-1]), 1), num_layers=2, **BOTH
    ),
    "h_n[-1], h_n[-2]": lambda t: head(t, lambda _, state: t.cat((state[0][-1], state[0][-2]), 1), **BOTH),
    "h_n transposed": lambda t: head(t, lambda _, state: state[0].transpose(0, 1).reshape(-1, 2 * H), **BOTH),
    "h_n unbound": lambda t: head(t, lambda _, state: t.cat(state[0].unbind(0), 1), **BOTH),
    "both ends": lambda t: head(t, lambda y, _: t.cat((y[:, -1, :H], y[:, 0, H:]), 1), **BOTH),
    "the mean": lambda t: head(t, lambda y, _: y.mean(1)),
    "the mean, kept": lambda t: head(t, lambda y, _: y.mean(1, keepdim=True).squeeze(1), **BOTH),
    "the maximum": lambda t: head(t, lambda y, _: y.max(1).values),
    "amax": lambda t: head(t, lambda y, _: y.amax(1)),
    "adaptive_avg_pool1d": lambda t: head(
        t, lambda y, _: t.nn.functional.adaptive_avg_pool1d(y.transpose(1, 2), 1).squeeze(-1)
    ),
    # both directions as one, and time the other way round
    "directions added": lambda t: net(t, lambda m, x: added(m.lstm(x)[0]), lstm=lstm(t, **BOTH)),
    "directions summed": lambda t: net(
        t,
        lambda m, x: m.fc(m.lstm(x)[0].view(x.shape[0], x.shape[1], 2, H).sum(2)),
        lstm=lstm(t, **BOTH),
        fc=linear(t),
    ),
    "flipped": lambda t: net(t, lambda m, x: m.lstm(x.flip(1))[0].flip(1), lstm=lstm(t)),
    "the end of the flipped": lambda t: net(
        t, lambda m, x: m.fc(m.lstm(x.flip(1))[0][:, -1]), lstm=lstm(t), fc=linear(t)
    ),
    # functions
    "relu": lambda t: activated(t, t.nn.ReLU()),
    "tanh": lambda t: activated(t, t.nn.Tanh()),
    "sigmoid": lambda t: activated(t, t.nn.Sigmoid()),
    "softmax": lambda t: activated(t, t.nn.Softmax(-1)),
    "log_softmax": lambda t: activated(t, t.nn.LogSoftmax(-1)),
    "leaky_relu": lambda t: activated(t, t.nn.LeakyReLU(0.2)),
    "elu": lambda t: activated(t, t.nn.ELU(0.7)),
    "softplus": lambda t: activated(t, t.nn.Softplus()),
    "softsign": lambda t: activated(t, t.nn.Softsign()),
    "hardsigmoid": lambda t: activated(t, t.nn.Hardsigmoid()),
    "dropout": lambda t: activated(t, t.nn.Dropout(0.3)),
    "scaled": lambda t: net(t, lambda m, x: m.fc(m.lstm(x)[0]) * 0.5 + 1.5, lstm=lstm(t), fc=linear(t)),
}
TIME_MAJOR = {"time major", "time major, both directions"}
IDS = {"an embedding", "a language model"}
# The dynamo exporter takes seconds for each, and fixes the number of steps.
DYNAMO = {
    "two layers": False,
    "given states of two layers": True,
    "learned states": True,
    "a language model": False,
    "a Sequential": False,
    "h_n[-2], h_n[-1]": True,
    "both ends": False,
    "adaptive_avg_pool1d": False,
    "flipped": False,
    "softplus": False,
}


def example(torch, name, B=2, T=5):
    """Return inputs of a module, and the names of their axes."""
    axes = [{0: "batch", 1: "time"}]
    if name in IDS:
        return (torch.randint(0, V, (B, T)),), axes
    if name in TIME_MAJOR:
        return (torch.randn(T, B, I),), [{0: "time", 1: "batch"}]
    x = torch.randn(B, T, I, dtype=torch.float64 if name == "float64" else torch.float32)
    if name.startswith("given"):
        n = (2 if "two layers" in name else 1) * (2 if "both" in name else 1)
        return (x, torch.randn(n, B, H), torch.randn(n, B, H)), [*axes, {1: "batch"}, {1: "batch"}]
    if name.startswith("packed"):
        return (x, torch.tensor([T, *[T - 2] * (B - 1)])), [*axes, {0: "batch"}]
    return (x,), axes


def build(torch, name):
    torch.manual_seed(0)
    return MODULES[name](torch).eval()


def export(torch, module, inputs, axes, path, *, dynamo):
    """Export a module to a file; `axes` are dynamic."""
    names = ["x", "h", "c"][: len(inputs)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both exporters emit many
        if dynamo:
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            shapes = None
            if axes is not None:  # time is never dynamic there
                batch = torch.export.Dim("batch")
                shapes = tuple(
                    {k: batch for k, axis in names_of_axes.items() if axis == "batch"} for names_of_axes in axes
                )
                shapes = shapes if isinstance(module, torch.nn.LSTM) else (shapes,)
            torch.onnx.export(module, inputs, dynamo=True, dynamic_shapes=shapes, verbose=False).save(path)
        else:
            dynamic_axes = None if axes is None else dict(zip(names, axes, strict=True))
            torch.onnx.export(module, inputs, path, dynamo=False, input_names=names, dynamic_axes=dynamic_axes)
    return path


@pytest.fixture(scope="module")
def dynamic(torch, tmp_path_factory):
    """Function that returns a module, its inputs, and its file with dynamic axes, which is exported once."""
    folder = tmp_path_factory.mktemp("dynamic")

    @functools.cache
    def dynamic(name):
        module, (inputs, axes) = build(torch, name), example(torch, name)
        path = folder / f"{list(MODULES).index(name)}.onnx"
        return module, inputs, export(torch, module, inputs, axes, path, dynamo=False)

    return dynamic


def assert_computes_the_same(model, torch, module, name, inputs):
    """Compare outputs on the inputs of the module; Glasscell's are batch first."""
    with torch.no_grad():
        torch_outputs = module(*inputs)
    x, *others = (tensor.numpy() for tensor in inputs)
    x = x.swapaxes(0, 1) if name in TIME_MAJOR else x
    states = [tuple(others)] if name.startswith("given") else None
    y, finals, _ = model.forward(x, states, lengths=others[0] if name.startswith("packed") else None)
    if name == "states alone":
        torch_outputs = (None, *torch_outputs)
    elif isinstance(torch_outputs, tuple) and isinstance(torch_outputs[1], tuple):
        torch_outputs = (torch_outputs[0], *torch_outputs[1])
    expected, *states = torch_outputs if isinstance(torch_outputs, tuple) else (torch_outputs,)
    if expected is not None:
        expected = expected.numpy().swapaxes(0, 1) if name in TIME_MAJOR else expected.numpy()
        assert y.dtype == expected.dtype
        np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=0, atol=ATOL)
    if states:
        for state, torch_state in zip(finals[0], states, strict=True):
            np.testing.assert_allclose(state, torch_state.numpy(), rtol=0, atol=ATOL)


@loop_over("sizes", ["fixed", "dynamic"])
@loop_over("name", MODULES)
def test_export_has_equal_outputs(torch, importer, dynamic, tmp_path, name, sizes):
    if sizes == "dynamic":
        module, inputs, path = dynamic(name)
    else:
        module, (inputs, _) = build(torch, name), example(torch, name)
        path = export(torch, module, inputs, None, tmp_path / "m.onnx", dynamo=False)
    model = importer.load(path)
    assert_computes_the_same(model, torch, module, name, inputs)
    if sizes == "dynamic":
        assert_computes_the_same(model, torch, module, name, example(torch, name, 3, 7)[0])


@pytest.mark.parametrize("name", DYNAMO)
def test_export_of_the_dynamo_exporter_has_equal_outputs(torch, importer, tmp_path, name):
    pytest.importorskip("onnxscript", reason="onnxscript, which the exporter needs, is not installed")
    module = build(torch, name)
    inputs, axes = example(torch, name)
    path = export(torch, module, inputs, axes if DYNAMO[name] else None, tmp_path / "m.onnx", dynamo=True)
    model = importer.load(path)
    assert_computes_the_same(model, torch, module, name, inputs)
    if DYNAMO[name]:
        assert_computes_the_same(model, torch, module, name, example(torch, name, 3)[0])


def test_weights_in_a_separate_file(torch, importer, tmp_path):
    """The exporter's default."""
    pytest.importorskip("onnxscript", reason="onnxscript, which the exporter needs, is not installed")
    torch.manual_seed(0)
    module, inputs = torch.nn.LSTM(I, 64, batch_first=True).eval(), (torch.randn(2, 5, I),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, inputs, tmp_path / "m.onnx", dynamo=True, external_data=True, verbose=False)
    assert (tmp_path / "m.onnx.data").stat().st_size > 0
    assert_computes_the_same(importer.load(tmp_path / "m.onnx"), torch, module, "large", inputs)


def test_reshape_with_the_fixed_size_of_a_dynamic_axis(torch, importer, tmp_path):
    """Time is dynamic, and a Reshape in the same file has the number of steps of the example."""
    pytest.importorskip("onnxscript", reason="onnxscript, which the exporter needs, is not installed")
    torch.manual_seed(0)
    module = torch.nn.LSTM(I, H, bidirectional=True).eval()
    auto = torch.export.Dim.AUTO
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = ({0: auto, 1: auto},)
        program = torch.onnx.export(module, (torch.randn(6, 3, I),), dynamo=True, dynamic_shapes=shapes, verbose=False)
    program.save(tmp_path / "m.onnx")
    x = torch.randn(9, 2, I)
    y = importer.load(tmp_path / "m.onnx")(x.numpy().swapaxes(0, 1)).swapaxes(0, 1)
    np.testing.assert_allclose(y, module(x)[0].detach().numpy(), rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    ("name", "layers"),
    {
        "three layers, both directions": ["lstm: LSTM"],
        "dropout between layers": ["lstm: LSTM"],
        "learned states": ["lstm: LSTM"],
        "two LSTMs of a kind": ["a: LSTM", "b: LSTM"],
        "nested": ["rnn: LSTM", "net.fc: Linear"],
        "a Sequential": ["lstm: LSTM", "step: Step", "head.0: Linear", "head.1: Function", "head.3: Linear"],
        "a language model": ["emb: Embedding", "lstm: LSTM", "out: Linear", "logsoftmax: Function"],
        "h_n[-1]": ["lstm: LSTM", "finalstate: FinalState", "fc: Linear"],
        "h_n[-1], h_n[-2]": ["lstm: LSTM", "finalstate: FinalState", "swaphalves: SwapHalves", "fc: Linear"],
        "both ends": ["lstm: LSTM", "finalstate: FinalState", "fc: Linear"],
        "directions added": ["lstm: LSTM"],
        "leaky_relu": ["lstm: LSTM", "fc1: Linear", "act: Function", "fc2: Linear"],
        "scaled": ["lstm: LSTM", "fc: Linear", "affine: Function", "affine_3: Function"],
    }.items(),
)
def test_layers_are_named_after_modules(importer, dynamic, name, layers):
    model = importer.load(dynamic(name)[2])
    assert layers == [
        f"{layer_name}: {type(layer).__name__}" for layer_name, layer in zip(model.names, model.layers, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    {
        "three layers, both directions": {"num_layers": 3, "bidirectional": True},
        "learned states": {"num_layers": 2, "learn_initial_state": True},
        "zeros as states": {"num_layers": 2},
        "no bias": {"bias": False},
        "directions added": {"bidirectional": True, "merge": "sum"},
        "directions summed": {"bidirectional": True, "merge": "sum"},
        "flipped": {"reverse": True},
        "the end of the flipped": {"reverse": True, "outputs_in": "processing"},
    }.items(),
)
def test_options_of_an_lstm_follow_the_graph(importer, dynamic, name, options):
    model = importer.load(dynamic(name)[2])
    assert model.layers[0].options.non_default() == {"input_size": I, "hidden_size": H, **options}


def test_float32_parameters_are_read_as_decimal_literals(torch, importer, tmp_path):
    """The file has 0.2 as a float32."""
    inputs, _ = example(torch, "leaky_relu")
    model = importer.load(export(torch, build(torch, "leaky_relu"), inputs, None, tmp_path / "m.onnx", dynamo=False))
    assert (model.layers[2].name, model.layers[2].alpha) == ("LeakyRelu", 0.2)


def test_weights_equal_those_of_the_module(importer, dynamic):
    module, _, path = dynamic("a Sequential")
    imported_weights = importer.load(path).to_torch()
    torch_weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    torch_weights["lstm.bias_ih_l0"] = torch_weights["lstm.bias_ih_l0"] + torch_weights["lstm.bias_hh_l0"]
    torch_weights["lstm.bias_hh_l0"] = 0 * torch_weights["lstm.bias_hh_l0"]
    assert imported_weights.keys() == torch_weights.keys()
    for name, array in torch_weights.items():
        np.testing.assert_array_equal(imported_weights[name], array)


@pytest.mark.parametrize(
    ("file", "expected"),
    {
        "torch_export_lstm_bi2": ("torch", "y"),
        "torch_export_dynamo_lstm_bi2": ("torch", "y"),
        "torch_export_clf": ("torch_checkpoint", "logits"),
        "cntk_bidirectional": ("cntk_bidirectional", "y"),
    }.items(),
)
def test_golden_files(importer, file, expected):
    if not GOLDEN.is_dir():
        pytest.skip(f"golden files are missing: {GOLDEN}")
    numbers = np.load(GOLDEN / f"{expected[0]}_expected.npz")
    model = importer.load(GOLDEN / f"{file}.onnx")
    time_first = file.startswith("cntk")
    x = numbers["x"].swapaxes(0, 1) if time_first else numbers["x"]
    y, states, _ = model.forward(x)
    np.testing.assert_allclose(y.swapaxes(0, 1) if time_first else y, numbers[expected[1]], rtol=0, atol=ATOL)
    if "h_n" in numbers:
        for state, name in zip(states[0], ("h_n", "c_n"), strict=True):
            np.testing.assert_allclose(state, numbers[name], rtol=0, atol=ATOL)


def test_missing_file_is_an_error(importer, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no model at"):
        importer.load(tmp_path / "none.onnx")
