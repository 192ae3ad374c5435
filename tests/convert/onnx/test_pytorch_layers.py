"""Law: layers in exports of PyTorch have equal outputs when they are imported."""

import logging
import warnings

import numpy as np
import pytest

ATOL = 2e-6
I, H, B, T = 3, 4, 3, 6


def net(t, forward, **modules):
    class Net(t.nn.Module):
        def __init__(self):
            super().__init__()
            for name, module in modules.items():
                setattr(self, name, module)

        def forward(self, x):
            return forward(self, x)

    return Net()


def between(t, layer, *, channels_first=False):
    """Return a layer between an LSTM and a linear map; `channels_first`: it takes (B, F, T)."""

    def forward(m, x):
        y = m.lstm(x)[0]
        return m.fc(m.layer(y.transpose(1, 2)).transpose(1, 2) if channels_first else m.layer(y))

    return net(t, forward, lstm=t.nn.LSTM(I, H, batch_first=True), layer=layer, fc=t.nn.Linear(H, 2))


def before_lstm(t, *layers):
    """Return layers on (B, F, T) before an LSTM and a linear map of its last step."""

    def forward(m, x):
        return m.fc(m.lstm(m.layers(x.transpose(1, 2)).transpose(1, 2))[0][:, -1])

    parts = {"layers": t.nn.Sequential(*layers), "lstm": t.nn.LSTM(H, H, batch_first=True), "fc": t.nn.Linear(H, 2)}
    return net(t, forward, **parts)


def decoder(t, repeat):
    def forward(m, x):
        return m.fc(m.second(repeat(m.first(x)[1][0][-1]))[0])

    parts = {"first": t.nn.LSTM(I, H, batch_first=True), "second": t.nn.LSTM(H, H, batch_first=True)}
    return net(t, forward, **parts, fc=t.nn.Linear(H, 2))


def all_layers(t):
    """Return a model with one layer of each type."""

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


def standardized(t):
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
    "BatchNorm": lambda t: between(t, t.nn.BatchNorm1d(H), channels_first=True),
    "BatchNorm of the last step": lambda t: net(
        t, lambda m, x: m.bn(m.lstm(x)[0][:, -1]), lstm=t.nn.LSTM(I, H, batch_first=True), bn=t.nn.BatchNorm1d(H)
    ),
    "GELU": lambda t: between(t, t.nn.GELU()),
    "GELU, tanh": lambda t: between(t, t.nn.GELU("tanh")),
    "SiLU": lambda t: between(t, t.nn.SiLU()),
    "SELU": lambda t: between(t, t.nn.SELU()),
    "Softsign": lambda t: between(t, t.nn.Softsign()),
    "SiLU of a ReLU": lambda t: between(t, t.nn.Sequential(t.nn.ReLU(), t.nn.SiLU())),
    "Conv1d": lambda t: before_lstm(t, t.nn.Conv1d(I, H, 3, padding=1), t.nn.ReLU(), t.nn.MaxPool1d(2)),
    "Conv1d and BatchNorm": lambda t: before_lstm(
        t, t.nn.Conv1d(I, 2 * H, 2, stride=2, bias=False), t.nn.BatchNorm1d(2 * H), t.nn.Conv1d(2 * H, H, 1, groups=2)
    ),
    "AvgPool1d": lambda t: before_lstm(t, t.nn.Conv1d(I, H, 2), t.nn.AvgPool1d(2, stride=1)),
    "repeated": lambda t: decoder(t, lambda h: h.unsqueeze(1).repeat(1, 5, 1)),
    "expanded": lambda t: decoder(t, lambda h: h.unsqueeze(1).expand(-1, 5, -1)),
    "flattened": lambda t: flat(t, lambda y: y),
    "flattened, time last": lambda t: flat(t, lambda y: y.transpose(1, 2)),
    "standardized": standardized,
    "squeezed": lambda t: squeezed(t, lambda m, x: m.fc(m.lstm(x)[0][:, -1]).squeeze(-1)),
    "squeezed steps": lambda t: squeezed(t, lambda m, x: m.fc(m.lstm(x)[0]).squeeze(2)),
    "a view": lambda t: squeezed(t, lambda m, x: m.fc(m.lstm(x)[1][0][-1]).view(-1)),
    "all layers": all_layers,
}


def export(torch, module, x, path, *, dynamo, opset):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both exporters emit many
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
DYNAMO = ("all layers", "repeated", "GELU, tanh", "standardized")  # each takes a second


@pytest.mark.parametrize(
    ("name", "dynamo", "opset"),
    [
        *[(name, False, 17) for name in MODULES],
        *[(name, False, 13) for name in DECOMPOSED],
        *[(name, True, 18) for name in DYNAMO],
    ],
)
def test_export_of_pytorch_has_equal_outputs(torch, importer, tmp_path, name, dynamo, opset):
    torch.manual_seed(1)
    module = MODULES[name](torch).eval()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.3, 2)
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.LayerNorm) and layer.weight is not None:
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.normal_(layer.bias)
    x = torch.randn(B, T, I)
    with torch.no_grad():
        expected = module(x).numpy()
    model = importer.load(export(torch, module, x, tmp_path / "m.onnx", dynamo=dynamo, opset=opset))
    np.testing.assert_allclose(model(x.numpy()), expected, rtol=0, atol=ATOL, strict=True)
    types = [type(layer).__name__ for layer in model.layers]
    expected_type = {"LayerNorm": "LayerNorm", "BatchNorm": "BatchNorm", "repeated": "RepeatVector"}
    assert expected_type.get(name, types[0]) in types


NO_FEATURES = {
    "an LSTM": lambda m, x: m.fc(m.lstm(x.unsqueeze(-1))[0]),
    "an LSTM of scaled numbers": lambda m, x: m.fc(m.lstm((x * 0.5 + 1).unsqueeze(2))[0]),
    "a convolution": lambda m, x: m.fc(m.inner(m.conv(x.unsqueeze(1)).transpose(1, 2))[0]),
    "both ends": lambda m, x: m.fc(m.lstm(x.unsqueeze(-1))[0][:, -1]).squeeze(-1),
}


@pytest.mark.parametrize("name", NO_FEATURES)
def test_export_whose_input_has_no_feature_axis(torch, importer, exporter, run, tmp_path, name):
    """Also the model exported again takes (B, T), not (B, T, 1)."""
    t = torch
    torch.manual_seed(1)
    parts = {"lstm": t.nn.LSTM(1, H, batch_first=True), "inner": t.nn.LSTM(H, H, batch_first=True)}
    module = net(t, NO_FEATURES[name], **parts, conv=t.nn.Conv1d(1, H, 3), fc=t.nn.Linear(H, 1)).eval()
    x = torch.randn(B, T)
    with torch.no_grad():
        expected = module(x).numpy()
    model = importer.load(export(torch, module, x, tmp_path / "m.onnx", dynamo=False, opset=17))
    np.testing.assert_allclose(model(x.numpy()), expected, rtol=0, atol=ATOL, strict=True)
    exported_model = exporter.to_model(model)
    np.testing.assert_allclose(run(exported_model, x.numpy())[0], expected, rtol=0, atol=ATOL, strict=True)
    assert [*map(type, importer.from_model(exported_model).layers)] == [*map(type, model.layers)]
