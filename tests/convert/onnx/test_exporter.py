"""Law: an exported model has equal outputs in ONNX Runtime, and is equal when it is imported again."""

import importlib
import warnings

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.layers import (
    GRU,
    LSTM,
    Dropout,
    Embedding,
    FinalState,
    Function,
    Linear,
    Masking,
    Pool,
    Step,
    SwapHalves,
)
from glasscell.models import Sequential

ATOL = 2e-6  # float32
I, H, V = 3, 4, 9
FUNCTIONS = [
    *[("Sigmoid",), ("Tanh",), ("Relu",), ("Softsign",), ("Softplus",), ("Affine", 0.4, 0.1), ("LeakyRelu", 0.3)],
    *[("ThresholdedRelu", 0.2), ("ScaledTanh", 0.8, 0.9), ("HardSigmoid", 0.25, 0.45), ("Elu", 0.7)],
]


KINDS = {
    "default": {},
    "stacked": {"num_layers": 3},
    "both directions": {"bidirectional": True},
    "both directions, stacked": {"bidirectional": True, "num_layers": 2},
    "added": {"bidirectional": True, "merge": "sum", "num_layers": 2},
    "averaged": {"bidirectional": True, "merge": "average", "num_layers": 2},
    "multiplied": {"bidirectional": True, "merge": "multiply", "num_layers": 2},
    "reverse": {"reverse": True, "num_layers": 2},
    "in the order of processing": {"reverse": True, "outputs_in": "processing"},
    "without bias": {"bias": False},
    "with peepholes": {"peepholes": True},
    "coupled": {"coupled": "input"},
    "coupled, with peepholes": {"coupled": "input", "peepholes": True, "bidirectional": True},
    "clipped": {"clip": 0.3},
    "other activations": {"gate_activation": ("HardSigmoid", 0.25, 0.45), "output_activation": ("Elu", 0.7)},
    "learned states": {"learn_initial_state": True, "bidirectional": True, "num_layers": 2},
    "dropout": {"dropout": 0.25, "num_layers": 2},
    "one unit": {"hidden_size": 1, "bidirectional": True, "num_layers": 2},
}


@pytest.mark.parametrize("name", KINDS)
def test_single_lstm(exporter, importer, run, name, randomize, draw_inputs):
    """Its final states are outputs, as in PyTorch's exports."""
    lstm = randomize(LSTM(**{"input_size": I, "hidden_size": H, **KINDS[name]}))
    exported_model = exporter.to_model(lstm)
    x = draw_inputs(lstm)
    y, state, _ = lstm.forward(x)
    for glasscell_output, runtime_output in zip((y, *state), run(exported_model, x), strict=True):
        np.testing.assert_allclose(runtime_output, glasscell_output, rtol=0, atol=ATOL)
    reimported = importer.from_model(exported_model)
    assert (reimported.names, reimported.layers[0].options) == (("lstm",), lstm.options)
    np.testing.assert_array_equal(reimported.parameters.vector, lstm.parameters.vector)


@pytest.mark.parametrize("name", [name for name in KINDS if "processing" not in name])
def test_single_lstm_on_sequences_of_several_lengths(exporter, run, name, randomize, draw_inputs):
    lstm = randomize(LSTM(**{"input_size": I, "hidden_size": H, **KINDS[name]}))
    x, lengths = draw_inputs(lstm, 4, 6), [6, 1, 3, 5]
    y, state, _ = lstm.forward(x, lengths=lengths)
    for glasscell_output, runtime_output in zip(
        (y, *state), run(exporter.to_model(lstm, lengths=True), x, lengths), strict=True
    ):
        np.testing.assert_allclose(runtime_output, glasscell_output, rtol=0, atol=ATOL)


@loop_over("with_lengths", [False, True])
@loop_over("name", [name for name in KINDS if name != "learned states"])
def test_single_lstm_with_initial_states(
    exporter, importer, run, name, with_lengths, randomize, draw_inputs, draw_states
):
    if with_lengths and "processing" in name:
        return  # ONNX does not support it
    lstm = randomize(LSTM(**{"input_size": I, "hidden_size": H, **KINDS[name]}))
    x, (h, c), lengths = (
        draw_inputs(lstm, 4, 6),
        draw_states(lstm, 4),
        [6, 1, 3, 5] if with_lengths else None,
    )
    exported_model = exporter.to_model(lstm, lengths=with_lengths, states=True)
    y, state, _ = lstm.forward(x, (h, c), lengths=lengths)
    for glasscell_output, runtime_output in zip(
        (y, *state), run(exported_model, x, lengths, h_0=h, c_0=c), strict=True
    ):
        np.testing.assert_allclose(runtime_output, glasscell_output, rtol=0, atol=ATOL)
    [reimported] = importer.from_model(exported_model).layers
    assert reimported.options == lstm.options
    assert exporter.to_model(reimported, lengths=with_lengths, states=True) == exported_model


@pytest.mark.parametrize("final", [FinalState(), FinalState("both"), FinalState("both", merge="sum")], ids=repr)
def test_final_state_and_state_outputs(exporter, importer, final, randomize, draw_inputs):
    """All outputs of the graph are states; the one that is a vector is the output of the model."""
    lstm = LSTM(I, H, 2, bidirectional=final.directions == "both")
    model = randomize(Sequential([lstm, final], ["lstm", "final"]))
    reimported = importer.from_model(exporter.to_model(model, states=True))
    x = draw_inputs(model)
    np.testing.assert_array_equal(reimported(x), model(x))
    assert reimported.config == model.config


@pytest.mark.parametrize("function", [*FUNCTIONS, ("Softmax",), ("LogSoftmax",)])
def test_activation(exporter, importer, run, function, randomize, draw_inputs):
    model = randomize(Sequential([Linear(I, 6), Function(*function)], ["fc", "act"]))
    x = 3 * draw_inputs(model)
    np.testing.assert_allclose(run(exporter.to_model(model), x)[0], model(x), rtol=0, atol=ATOL)
    assert importer.from_model(exporter.to_model(model)).config == model.config


FINALS = [FinalState("both", keep) for keep in ("both", "forward", "reverse")]
FINALS += [FinalState("both", merge=merge) for merge in ("sum", "average", "multiply")]


@pytest.mark.parametrize("between", [[], [Dropout(0.5)], [Function("Relu"), Dropout(0.5)]])
@pytest.mark.parametrize("final", FINALS, ids=repr)
def test_final_states_after_other_layers(exporter, importer, run, between, final, randomize, draw_inputs):
    layers = [LSTM(I, H, bidirectional=True), *between, final, Linear(H if final.halves else 2 * H, 2)]
    model = randomize(Sequential(layers))
    x = draw_inputs(model)
    exported_model = exporter.to_model(model)
    np.testing.assert_allclose(run(exported_model, x)[0], model(x), rtol=0, atol=ATOL)
    np.testing.assert_allclose(importer.from_model(exported_model)(x), model(x), rtol=0, atol=1e-7)


def test_model_of_functions_only(exporter, importer, run, rng):
    """No layer determines the number of features."""
    model = Sequential([Dropout(0.1), Function("Tanh")])
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(exporter.to_model(model), x)[0], model(x), rtol=0, atol=ATOL)
    assert importer.from_model(exporter.to_model(model)).config == model.config


def test_names_and_types_of_a_graph(onnx, exporter):
    model = Sequential([Embedding(V, I), LSTM(I, H, 2), FinalState(), Linear(H, 2)], ["emb", "net.lstm", "last", "fc"])
    exported_model = exporter.to_model(model, lengths=True)
    graph = exported_model.graph
    assert (exported_model.ir_version, exported_model.opset_import[0].version) == (8, 17)

    def described(values):
        for value in values:
            tensor_type = value.type.tensor_type
            shape = [dim.dim_param or dim.dim_value for dim in tensor_type.shape.dim]
            yield value.name, shape, onnx.helper.tensor_dtype_to_np_dtype(tensor_type.elem_type)

    assert list(described(graph.input)) == [("x", ["batch", "time"], np.int64), ("lengths", ["batch"], np.int32)]
    assert list(described(graph.output)) == [("y", ["batch", 2], np.float32)]
    names = {tensor.name for tensor in graph.initializer if not tensor.name.startswith("/")}
    of_lstm = {f"net.lstm.{kind}_l{layer}" for kind in "WRB" for layer in (0, 1)}
    assert names == {"emb.weight", "fc.weight", "fc.bias", *of_lstm}
    lstms = [node for node in graph.node if node.op_type == "LSTM"]
    assert [node.name for node in lstms] == ["/net.lstm/LSTM", "/net.lstm/LSTM_1"]
    assert all(node.input[4] == "lengths" for node in lstms)


def test_layer_names_with_slashes(exporter, importer, randomize):
    model = randomize(Sequential([LSTM(I, H), Linear(H, 2)], ["a/b", "c"]))
    assert importer.from_model(exporter.to_model(model)).names == ("a.b", "c")


def test_float64(onnx, exporter, importer, randomize, draw_inputs):
    """Run by onnx.reference; ONNX Runtime's LSTM supports float32 only."""
    evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator
    layers = [LSTM(I, H, 2, dtype=np.float64), Step(), Linear(H, 2, dtype=np.float64), Function("Tanh")]
    model = randomize(Sequential(layers))
    exported_model = exporter.to_model(model)
    onnx.checker.check_model(exported_model, full_check=True)
    x = draw_inputs(model)
    np.testing.assert_allclose(evaluator(exported_model).run(None, {"x": x})[0], model(x), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(importer.from_model(exported_model)(x), model(x))


@pytest.mark.parametrize("cast", [False, True])
def test_half_precision_is_imported_as_float32(onnx, exporter, importer, run, cast, randomize, draw_inputs):
    """With float16 inputs and outputs, or with float32 ones that are cast."""
    layers = [LSTM(I, H, 2, bidirectional=True), FinalState("both"), Linear(2 * H, 2), Function("Affine", 0.25, 0.5)]
    model = randomize(Sequential(layers))
    model.parameters.vector[:] = model.parameters.vector.astype(np.float16)
    twin = exporter.to_model(model)
    half = exporter.to_model(model)
    graph, FLOAT16 = half.graph, onnx.TensorProto.FLOAT16
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    if cast:
        graph.node[0].input[0], graph.node[-1].output[0] = "x_half", "y_half"
        graph.node.insert(0, onnx.helper.make_node("Cast", ["x"], ["x_half"], to=FLOAT16))
        graph.node.append(onnx.helper.make_node("Cast", ["y_half"], ["y"], to=onnx.TensorProto.FLOAT))
    else:
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.elem_type = FLOAT16
    onnx.checker.check_model(half, full_check=True)
    imported = importer.from_model(half)
    assert imported.dtype == np.float32
    assert imported.config == model.config
    np.testing.assert_array_equal(imported.parameters.vector, model.parameters.vector)
    x = draw_inputs(model)
    np.testing.assert_allclose(run(twin, x)[0], imported(x), rtol=0, atol=ATOL)


LSTM_HAS_NOT = {
    "proj_size": {"proj_size": 2},
    "layer_norm": {"layer_norm": "tflite"},
    "zoneout": {"zoneout": 0.1},
    "zoneout_cell": {"zoneout_cell": 0.1},
    "coupled": {"coupled": "forget"},
}


@pytest.mark.parametrize("name", LSTM_HAS_NOT)
def test_unsupported_options_of_an_lstm_are_errors(exporter, name):
    model = Sequential([Linear(I, I), LSTM(I, H, **LSTM_HAS_NOT[name])], ["fc", "encoder"])
    with pytest.raises(ValueError, match=f"the layer 'encoder' has {name}="):
        exporter.to_model(model)


@pytest.mark.parametrize(
    ("layers", "lengths", "message"),
    [
        ([Masking(), LSTM(I, H)], False, "the layer '0' is a Masking, which the export to ONNX does not support"),
        (
            [Embedding(V, I, mask_zero=True), LSTM(I, H)],
            False,
            "the layer '0' has mask_zero=True, which ONNX does not support",
        ),
        ([LSTM(I, H), Step()], True, "the layer '1' uses all steps, and ONNX ignores lengths there"),
        ([LSTM(I, H), Pool()], True, "the layer '1' uses all steps"),
        ([LSTM(I, H), Dropout(0.5), FinalState()], True, "the layer '2' uses all steps"),
        ([LSTM(I, H), Linear(H, H), FinalState("reverse")], True, "the layer '2' uses all steps"),
        ([LSTM(I, H, masked_outputs="repeat")], True, "the layer '0' has masked_outputs='repeat'; with lengths"),
        ([LSTM(I, H, reverse=True, outputs_in="processing")], True, "the layer '0' has outputs_in='processing'"),
        ([SwapHalves()], False, "the layer '0' swaps halves of the features, whose number no layer determines"),
        ([FinalState("both")], False, "the layer '0' selects halves of the features, whose number no layer determines"),
        ([Linear(I, 2)], True, "lengths must be False for a model without an LSTM, got True"),
    ],
)
def test_unsupported_layers_are_errors(exporter, layers, lengths, message):
    with pytest.raises(ValueError, match=message):
        exporter.to_model(Sequential(layers), lengths=lengths)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([LSTM(I, H, gate_activation="Silu")], "has the activation Silu; ONNX's LSTM supports Sigmoid, Tanh, Relu"),
        ([Function("Relu"), FinalState("both")], "selects halves of the features, whose number no layer determines"),
        ([GRU(I, H)], "is a GRU, which the export to ONNX does not support"),
    ],
)
def test_what_onnx_lacks_is_named_with_its_layer(exporter, layers, message):
    model = Sequential(layers)
    with pytest.raises(ValueError, match=f"the layer '{model.names[-1]}' {message}"):
        exporter.to_model(model)


def test_weights_larger_than_a_file_of_onnx_are_an_error(exporter, monkeypatch):
    monkeypatch.setattr(exporter, "MAX_WEIGHT_BYTES", 100)
    with pytest.raises(ValueError, match="model must have at most 100 bytes of weights for ONNX, got 120"):
        exporter.to_model(Sequential([Linear(5, 5)]))


def test_states_without_an_lstm_are_an_error(exporter):
    with pytest.raises(ValueError, match="states must be False for a model without an LSTM, got True"):
        exporter.to_model(Sequential([Linear(I, 2)]), states=True)


def test_other_objects_are_errors(exporter):
    with pytest.raises(TypeError, match="model must be a Sequential or an LSTM, got Linear"):
        exporter.to_model(Linear(2, 2))


def test_files(exporter, importer, tmp_path, randomize):
    """A file is replaced when the new one is complete; equal models have equal files."""
    path = tmp_path / "m.onnx"
    model = randomize(LSTM(I, H))
    exporter.save(model, path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match="proj_size"):
        exporter.save(LSTM(I, H, proj_size=2), path)
    assert path.read_bytes() == content
    exporter.save(model, path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(importer.load(path).parameters.vector, model.parameters.vector)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        exporter.save(model, tmp_path / "none" / "m.onnx")


# PyTorch


@pytest.mark.parametrize(("layers", "both", "bias"), [(1, False, True), (2, True, True), (3, False, False)])
def test_lstm_of_pytorch_exported_to_onnxruntime(torch, exporter, run, layers, both, bias):
    torch.manual_seed(0)
    torch_lstm = torch.nn.LSTM(I, H, layers, bidirectional=both, bias=bias, batch_first=True)
    x = torch.randn(3, 5, I)
    with torch.no_grad():
        y, (h, c) = torch_lstm(x)
    exported_model = exporter.to_model(LSTM.from_torch(torch_lstm.state_dict()))
    for runtime_output, torch_output in zip(run(exported_model, x.numpy()), (y, h, c), strict=True):
        np.testing.assert_allclose(runtime_output, torch_output.numpy(), rtol=0, atol=ATOL)


def test_export_of_pytorch_imported_and_exported_again(torch, exporter, importer, run, tmp_path):
    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.lstm = torch.nn.Embedding(V, I), torch.nn.LSTM(I, H, 2, bidirectional=True, batch_first=True)
            self.head = torch.nn.Sequential(torch.nn.Linear(2 * H, 6), torch.nn.ELU(0.7), torch.nn.Linear(6, 2))

        def forward(self, x):
            h = self.lstm(self.emb(x))[1][0]
            return self.head(torch.cat((h[-2], h[-1]), 1)).log_softmax(-1)

    module, x = Net().eval(), torch.randint(0, V, (2, 5))
    axes = {"x": {0: "batch", 1: "time"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), tmp_path / "a.onnx", dynamo=False, input_names=["x"], dynamic_axes=axes)
    model = importer.load(tmp_path / "a.onnx")
    exporter.save(model, tmp_path / "b.onnx")
    reimported = importer.load(tmp_path / "b.onnx")
    assert reimported.config == model.config
    np.testing.assert_array_equal(reimported.parameters.vector, model.parameters.vector)
    x = torch.randint(0, V, (3, 7))
    with torch.no_grad():
        torch_outputs = module(x).numpy()
    np.testing.assert_allclose(reimported(x.numpy()), torch_outputs, rtol=0, atol=1e-6)
    np.testing.assert_allclose(run(exporter.to_model(reimported), x.numpy())[0], torch_outputs, rtol=0, atol=ATOL)
