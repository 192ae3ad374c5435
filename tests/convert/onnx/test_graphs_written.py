"""Law: a model written as ONNX is the same model in ONNX Runtime, and when it is read again."""

import importlib
import warnings

import numpy as np
import pytest

from glasscell.layers import LSTM, Dropout, Embedding, FinalState, Function, Linear, Masking, Pool, Step, SwapHalves
from glasscell.models import Sequential

ATOL = 2e-6  # float32
I, H, V = 3, 4, 9
FUNCTIONS = [
    *[("Sigmoid",), ("Tanh",), ("Relu",), ("Softsign",), ("Softplus",), ("Affine", 0.4, 0.1), ("LeakyRelu", 0.3)],
    *[("ThresholdedRelu", 0.2), ("ScaledTanh", 0.8, 0.9), ("HardSigmoid", 0.25, 0.45), ("Elu", 0.7)],
]


@pytest.fixture(scope="module")
def writer(onnx):
    return importlib.import_module("glasscell.convert.onnx.exporter.model")


@pytest.fixture(scope="module")
def reader(onnx):
    return importlib.import_module("glasscell.convert.onnx.importer.graph")


@pytest.fixture(scope="module")
def run(onnx, onnxruntime):
    """The outputs of a model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def run(model, x, lengths=None, **states):
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        feeds = {"x": x} if lengths is None else {"x": x, "lengths": np.asarray(lengths, np.int32)}
        return session.run(None, feeds | states)

    return run


def filled(model, rng):
    """The same with other weights, biases too."""
    model.parameters.vector[:] = rng.uniform(-0.7, 0.7, model.parameters.vector.size)
    return model


def sequences(model, rng, B=3, T=5):
    """Inputs of a model."""
    layers = model.layers if isinstance(model, Sequential) else [model]
    if isinstance(layers[0], Embedding):
        return rng.integers(0, V, (B, T))
    features = next(layer.input_size for layer in layers if isinstance(layer, LSTM | Linear))
    return rng.standard_normal((B, T, features)).astype(model.dtype)


def one_of(rng, *choices):
    return choices[rng.integers(len(choices))]


def some_lstm(rng, inputs, *, with_lengths):
    """An LSTM of any kind that ONNX Runtime runs."""
    options = {"num_layers": int(rng.integers(1, 4))}
    direction = rng.integers(3)
    if direction == 0:
        options |= {"bidirectional": True, "merge": one_of(rng, "concat", "concat", "sum", "average", "multiply")}
    elif direction == 1:
        alone = not with_lengths and options["num_layers"] == 1
        options |= {"reverse": True, "outputs_in": one_of(rng, "time", "processing" if alone else "time")}
    choices = {
        "bias": False,
        "peepholes": True,
        "coupled": "input",
        "clip": float(one_of(rng, 0.3, 0.5, 1.0)),
        "learn_initial_state": True,
        "dropout": 0.3 if options["num_layers"] > 1 else 0.0,
        "masked_outputs": "zero" if with_lengths else "repeat",
    }
    options |= {name: value for name, value in choices.items() if rng.random() < 0.3}
    if rng.random() < 0.5:
        for name in ("gate_activation", "candidate_activation", "output_activation"):
            options[name] = one_of(rng, *FUNCTIONS)
    return LSTM(inputs, int(rng.integers(1, 6)), **options)


def one_vector(rng, lstm, *, with_lengths):
    """A layer that makes one vector of the outputs of an LSTM."""
    options = lstm.options
    in_time = options.merge == "concat" and options.outputs_in == "time"
    directions = "both" if options.bidirectional else "reverse" if options.reverse else "forward"
    keep = one_of(rng, "both", "both", "forward", "reverse") if directions == "both" else "both"
    merges = ("sum", "average", "multiply") if (directions, keep) == ("both", "both") else ()
    final = FinalState(directions, keep, one_of(rng, "concat", *merges))
    if with_lengths:
        return [final] if in_time else []
    others = [Step(-1), Step(0), Step(-2), Pool("mean"), Pool("max")]
    return [one_of(rng, *others, *[final] * 4)] if in_time else [one_of(rng, *others)]


def some_model(rng, *, with_lengths):
    """A random chain, of random weights."""
    F = int(rng.integers(1, 5))
    layers = one_of(rng, [], [Embedding(V, F)], [Linear(F, F), Function("Tanh")])
    for _ in range(rng.integers(1, 3)):
        layers.append(some_lstm(rng, F, with_lengths=with_lengths))
        F = layers[-1].output_size
    if rng.random() < 0.5:
        vector = one_vector(rng, layers[-1], with_lengths=with_lengths)
        F = F // 2 if vector and getattr(vector[0], "halves", False) else F
        layers += vector
    if rng.random() < 0.2 and F % 2 == 0:
        layers.append(SwapHalves())
    if rng.random() < 0.6:
        layers += [Dropout(0.2), Linear(F, 3, bias=bool(rng.integers(2)))]
        layers.append(Function(*one_of(rng, *FUNCTIONS, ("Softmax",), ("LogSoftmax",))))
    names = [f"layer{k}" if rng.random() < 0.5 else f"net.part{k}" for k in range(len(layers))]
    return filled(Sequential(layers, names), rng)


def as_read(model):
    """What a graph says of the layers: not how outputs were masked, and which step a final state was."""
    config = model.config
    for entry, layer in zip(config["layers"], model.layers, strict=True):
        entry.pop("masked_outputs", None)
        if layer in (FinalState("forward"), FinalState("reverse")):
            entry |= {"kind": "Step", "index": -1 if layer.directions == "forward" else 0}
            entry.pop("directions")
            entry.pop("keep")
            entry.pop("merge")
    return config


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("trial", range(35))
def test_any_model_is_the_same_in_onnxruntime_and_when_it_is_read_again(writer, reader, run, rng, trial, with_lengths):
    model = some_model(rng, with_lengths=with_lengths)
    written = writer.to_model(model, lengths=with_lengths)
    again = reader.from_model(written)
    for B, T in ((3, 5), (1, 2)):
        x = sequences(model, rng, B, T)
        lengths = rng.integers(1, T + 1, B) if with_lengths else None
        ours = model(x, lengths=lengths)
        [theirs] = run(written, x, lengths)
        assert theirs.dtype == ours.dtype
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=ATOL)
        np.testing.assert_array_equal(again(x, lengths=lengths), ours)
    assert as_read(again) == as_read(model)
    assert again.parameters.shapes == model.parameters.shapes
    np.testing.assert_array_equal(again.parameters.vector, model.parameters.vector)


KINDS = {
    "plain": {},
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
def test_an_lstm_alone(writer, reader, run, rng, name):
    """Its final states are outputs as well, as those of PyTorch's exports."""
    lstm = filled(LSTM(**{"input_size": I, "hidden_size": H, **KINDS[name]}), rng)
    written = writer.to_model(lstm)
    x = sequences(lstm, rng)
    y, state, _ = lstm.forward(x)
    for ours, theirs in zip((y, *state), run(written, x), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=ATOL)
    again = reader.from_model(written)
    assert (again.names, again.layers[0].options) == (("lstm",), lstm.options)
    np.testing.assert_array_equal(again.parameters.vector, lstm.parameters.vector)


@pytest.mark.parametrize("name", [name for name in KINDS if "processing" not in name])
def test_an_lstm_alone_on_sequences_of_several_lengths(writer, run, rng, name):
    lstm = filled(LSTM(**{"input_size": I, "hidden_size": H, **KINDS[name]}), rng)
    x, lengths = sequences(lstm, rng, 4, 6), [6, 1, 3, 5]
    y, state, _ = lstm.forward(x, lengths=lengths)
    for ours, theirs in zip((y, *state), run(writer.to_model(lstm, lengths=True), x, lengths), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=ATOL)


def random_states(rng, lstm, B):
    return [
        rng.uniform(-0.9, 0.9, (len(lstm.options.directions), B, lstm.hidden_size)).astype(np.float32) for _ in "hc"
    ]


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("name", [name for name in KINDS if name != "learned states"])
def test_an_lstm_that_begins_with_states(writer, reader, run, rng, name, with_lengths):
    if with_lengths and "processing" in name:
        return  # ONNX has none
    lstm = filled(LSTM(**{"input_size": I, "hidden_size": H, **KINDS[name]}), rng)
    x, (h, c), lengths = sequences(lstm, rng, 4, 6), random_states(rng, lstm, 4), [6, 1, 3, 5] if with_lengths else None
    written = writer.to_model(lstm, lengths=with_lengths, states=True)
    y, state, _ = lstm.forward(x, (h, c), lengths=lengths)
    for ours, theirs in zip((y, *state), run(written, x, lengths, h_0=h, c_0=c), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=ATOL)
    [again] = reader.from_model(written).layers
    assert again.options == lstm.options
    assert writer.to_model(again, lengths=with_lengths, states=True) == written


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("trial", range(20))
def test_any_model_that_begins_with_states(writer, reader, run, rng, trial, with_lengths):
    model = some_model(rng, with_lengths=with_lengths)
    lstms = {name: layer for name, layer in zip(model.names, model.layers, strict=True) if isinstance(layer, LSTM)}
    if any(lstm.options.learn_initial_state for lstm in lstms.values()):
        with pytest.raises(ValueError, match="has learned initial states, which states=True replaces by inputs"):
            writer.to_model(model, lengths=with_lengths, states=True)
        return
    written = writer.to_model(model, lengths=with_lengths, states=True)
    again = reader.from_model(written)
    assert as_read(again) == as_read(model)
    np.testing.assert_array_equal(again.parameters.vector, model.parameters.vector)
    for B, T in ((3, 5), (1, 2)):
        x, states = sequences(model, rng, B, T), [random_states(rng, lstm, B) for lstm in lstms.values()]
        lengths = rng.integers(1, T + 1, B) if with_lengths else None
        y, finals, _ = model.forward(x, states, lengths=lengths)
        np.testing.assert_array_equal(again.forward(x, states, lengths=lengths)[0], y)
        named = {f"{name}.h_0": h for name, (h, _) in zip(lstms, states, strict=True)}
        named |= {f"{name}.c_0": c for name, (_, c) in zip(lstms, states, strict=True)}
        theirs = run(written, x, lengths, **named)
        for ours, their in zip((y, *(array for final in finals for array in final)), theirs, strict=True):
            np.testing.assert_allclose(their, ours, rtol=0, atol=ATOL)


@pytest.mark.parametrize("final", [FinalState(), FinalState("both"), FinalState("both", merge="sum")], ids=repr)
def test_a_final_state_beside_all_of_them(writer, reader, rng, final):
    """All that the graph gives are states, and the one that is a vector is what the model gives."""
    lstm = LSTM(I, H, 2, bidirectional=final.directions == "both")
    model = filled(Sequential([lstm, final], ["lstm", "final"]), rng)
    again = reader.from_model(writer.to_model(model, states=True))
    x = sequences(model, rng)
    np.testing.assert_array_equal(again(x), model(x))
    assert again.config == model.config


@pytest.mark.parametrize("function", [*FUNCTIONS, ("Softmax",), ("LogSoftmax",)])
def test_functions(writer, reader, run, rng, function):
    model = filled(Sequential([Linear(I, 6), Function(*function)], ["fc", "act"]), rng)
    x = 3 * sequences(model, rng)
    np.testing.assert_allclose(run(writer.to_model(model), x)[0], model(x), rtol=0, atol=ATOL)
    assert reader.from_model(writer.to_model(model)).config == model.config


FINALS = [FinalState("both", keep) for keep in ("both", "forward", "reverse")]
FINALS += [FinalState("both", merge=merge) for merge in ("sum", "average", "multiply")]


@pytest.mark.parametrize("between", [[], [Dropout(0.5)], [Function("Relu"), Dropout(0.5)]])
@pytest.mark.parametrize("final", FINALS, ids=repr)
def test_final_states_behind_other_layers(writer, reader, run, rng, between, final):
    layers = [LSTM(I, H, bidirectional=True), *between, final, Linear(H if final.halves else 2 * H, 2)]
    model = filled(Sequential(layers), rng)
    x = sequences(model, rng)
    written = writer.to_model(model)
    np.testing.assert_allclose(run(written, x)[0], model(x), rtol=0, atol=ATOL)
    np.testing.assert_allclose(reader.from_model(written)(x), model(x), rtol=0, atol=1e-7)


def test_nothing_but_functions(writer, reader, run, rng):
    """No layer says how many features there are."""
    model = Sequential([Dropout(0.1), Function("Tanh")])
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(writer.to_model(model), x)[0], model(x), rtol=0, atol=ATOL)
    assert reader.from_model(writer.to_model(model)).config == model.config


def test_what_a_graph_says(onnx, writer):
    model = Sequential([Embedding(V, I), LSTM(I, H, 2), FinalState(), Linear(H, 2)], ["emb", "net.lstm", "last", "fc"])
    written = writer.to_model(model, lengths=True)
    graph = written.graph
    assert (written.ir_version, written.opset_import[0].version) == (8, 17)

    def described(values):
        for value in values:
            of = value.type.tensor_type
            shape = [dim.dim_param or dim.dim_value for dim in of.shape.dim]
            yield value.name, shape, onnx.helper.tensor_dtype_to_np_dtype(of.elem_type)

    assert list(described(graph.input)) == [("x", ["batch", "time"], np.int64), ("lengths", ["batch"], np.int32)]
    assert list(described(graph.output)) == [("y", ["batch", 2], np.float32)]
    names = {tensor.name for tensor in graph.initializer if not tensor.name.startswith("/")}
    of_lstm = {f"net.lstm.{kind}_l{layer}" for kind in "WRB" for layer in (0, 1)}
    assert names == {"emb.weight", "fc.weight", "fc.bias", *of_lstm}
    lstms = [node for node in graph.node if node.op_type == "LSTM"]
    assert [node.name for node in lstms] == ["/net.lstm/LSTM", "/net.lstm/LSTM_1"]
    assert all(node.input[4] == "lengths" for node in lstms)


def test_names_with_slashes(writer, reader, rng):
    model = filled(Sequential([LSTM(I, H), Linear(H, 2)], ["a/b", "c"]), rng)
    assert reader.from_model(writer.to_model(model)).names == ("a.b", "c")


def test_float64(onnx, writer, reader, rng):
    """ONNX's own evaluator runs it; ONNX Runtime's LSTM has float32 alone."""
    evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator
    layers = [LSTM(I, H, 2, dtype=np.float64), Step(), Linear(H, 2, dtype=np.float64), Function("Tanh")]
    model = filled(Sequential(layers), rng)
    written = writer.to_model(model)
    onnx.checker.check_model(written, full_check=True)
    x = sequences(model, rng)
    np.testing.assert_allclose(evaluator(written).run(None, {"x": x})[0], model(x), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(reader.from_model(written)(x), model(x))


@pytest.mark.parametrize("cast", [False, True])
def test_half_precision_is_read_as_its_twin_in_single(onnx, writer, reader, run, rng, cast):
    """Of float16 alone, or with inputs and outputs of float32 that are cast on the way."""
    layers = [LSTM(I, H, 2, bidirectional=True), FinalState("both"), Linear(2 * H, 2), Function("Affine", 0.25, 0.5)]
    model = filled(Sequential(layers), rng)
    model.parameters.vector[:] = model.parameters.vector.astype(np.float16)
    twin = writer.to_model(model)
    half = writer.to_model(model)
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
    ours = reader.from_model(half)
    assert ours.dtype == np.float32
    assert ours.config == model.config
    np.testing.assert_array_equal(ours.parameters.vector, model.parameters.vector)
    x = sequences(model, rng)
    np.testing.assert_allclose(run(twin, x)[0], ours(x), rtol=0, atol=ATOL)


LSTM_HAS_NOT = {
    "proj_size": {"proj_size": 2},
    "layer_norm": {"layer_norm": "tflite"},
    "zoneout": {"zoneout": 0.1},
    "zoneout_cell": {"zoneout_cell": 0.1},
    "coupled": {"coupled": "forget"},
}


@pytest.mark.parametrize("name", LSTM_HAS_NOT)
def test_an_lstm_that_onnx_has_not_is_refused_by_name(writer, name):
    model = Sequential([Linear(I, I), LSTM(I, H, **LSTM_HAS_NOT[name])], ["fc", "encoder"])
    with pytest.raises(ValueError, match=f"the layer 'encoder' has {name}="):
        writer.to_model(model)


@pytest.mark.parametrize(
    ("layers", "lengths", "words"),
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
def test_what_onnx_cannot_say_is_refused_by_name(writer, layers, lengths, words):
    with pytest.raises(ValueError, match=words):
        writer.to_model(Sequential(layers), lengths=lengths)


def test_states_of_no_lstm(writer):
    with pytest.raises(ValueError, match="states must be False for a model without an LSTM, got True"):
        writer.to_model(Sequential([Linear(I, 2)]), states=True)


def test_no_model(writer):
    with pytest.raises(TypeError, match="model must be a Sequential or an LSTM, got Linear"):
        writer.to_model(Linear(2, 2))


def test_files(writer, reader, rng, tmp_path):
    """A file is replaced once the new one is complete, and the same model gives the same bytes."""
    path = tmp_path / "m.onnx"
    model = filled(LSTM(I, H), rng)
    writer.save(model, path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match="proj_size"):
        writer.save(LSTM(I, H, proj_size=2), path)
    assert path.read_bytes() == content
    writer.save(model, path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(reader.load(path).parameters.vector, model.parameters.vector)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        writer.save(model, tmp_path / "none" / "m.onnx")


# PyTorch


@pytest.mark.parametrize(("layers", "both", "bias"), [(1, False, True), (2, True, True), (3, False, False)])
def test_pytorchs_lstm_by_way_of_ours_in_onnxruntime(torch, writer, run, layers, both, bias):
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(I, H, layers, bidirectional=both, bias=bias, batch_first=True)
    x = torch.randn(3, 5, I)
    with torch.no_grad():
        y, (h, c) = theirs(x)
    written = writer.to_model(LSTM.from_torch(theirs.state_dict()))
    for ours, their in zip(run(written, x.numpy()), (y, h, c), strict=True):
        np.testing.assert_allclose(ours, their.numpy(), rtol=0, atol=ATOL)


def test_an_export_of_pytorchs_read_and_written_and_read(torch, writer, reader, run, tmp_path):
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
    model = reader.load(tmp_path / "a.onnx")
    writer.save(model, tmp_path / "b.onnx")
    again = reader.load(tmp_path / "b.onnx")
    assert again.config == model.config
    np.testing.assert_array_equal(again.parameters.vector, model.parameters.vector)
    x = torch.randint(0, V, (3, 7))
    with torch.no_grad():
        theirs = module(x).numpy()
    np.testing.assert_allclose(again(x.numpy()), theirs, rtol=0, atol=1e-6)
    np.testing.assert_allclose(run(writer.to_model(again), x.numpy())[0], theirs, rtol=0, atol=ATOL)
