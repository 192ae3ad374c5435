"""Law: a configuration that is not one sequence of supported layers raises an error that says what is wrong."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.convert import keras as files
from glasscell.convert.keras.architecture import MAX_LAYERS, parse_model

LSTM = {"class_name": "LSTM", "config": {"name": "a", "units": 2}}
DENSE = {"class_name": "Dense", "config": {"name": "d", "units": 1}}


def changed(layer, **config):
    return {**layer, "config": {**layer["config"], **config}}


def sequential(*layers):
    return {"class_name": "Sequential", "config": {"layers": list(layers)}}


def tensor(name, node=0, index=0):
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, node, index]}}


def call(layer, *arguments, **options):
    """Return a layer of a graph as Keras 3 writes it, called once."""
    return {**layer, "inbound_nodes": [{"args": list(arguments), "kwargs": options}]}


INPUT = {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, None, 3]}, "inbound_nodes": []}
CALLED = call(LSTM, tensor("x"))


def graph(*layers, output="a", inputs=("x", 0, 0)):
    config = {"layers": list(layers), "input_layers": [list(inputs)], "output_layers": [[output, 0, 0]]}
    return {"class_name": "Functional", "config": config}


def keras_2(*nodes):
    """Return a graph of one LSTM that Keras 2 writes with these calls."""
    return graph(INPUT, {**LSTM, "inbound_nodes": list(nodes)})


MODELS = {
    "another class": ({"class_name": "Custom", "config": {}}, "the model must be a Sequential, .* got a 'Custom'"),
    "no layers": (sequential(INPUT), "the model has no layers"),
    "layers of no list": ({"class_name": "Sequential", "config": {"layers": "LSTM"}}, "layers .* must be a list, got"),
    "too many layers": (sequential(*[LSTM] * (MAX_LAYERS + 1)), f"at most {MAX_LAYERS} layers, got {MAX_LAYERS + 1}"),
    "one name twice": (sequential(LSTM, LSTM), "2 layers have the name 'a'"),
    "a state that is returned": (sequential(changed(LSTM, return_state=True)), "'a' returns its state in addition"),
    "an operation on masks": (
        sequential(LSTM, {"class_name": "NotEqual", "config": {"name": "n"}}),
        "'n' is a NotEqual, which cannot be represented",
    ),
    "a layer without a name": (
        sequential({"class_name": "LSTM", "config": {"units": 2}}),
        "a layer must have a class and a name, got 'LSTM' and None",
    ),
    "a layer without a class": (sequential({"config": {"name": "a"}}), "a class and a name, got None and 'a'"),
    "a layer of Keras 1": (sequential(changed(LSTM, inner_activation="tanh")), "Keras 1 wrote it"),
    "a layer of another package": (
        sequential({**LSTM, "module": "package.layers", "registered_name": "Mine"}),
        "the layer 'a' is a Mine of package.layers, which cannot be represented",
    ),
    "sparse inputs": (sequential(changed(INPUT, sparse=True), LSTM), "the input 'x' is sparse"),
    "ragged inputs": (sequential(changed(INPUT, ragged=True), LSTM), "the input 'x' is ragged"),
    "a size that is no integer": (
        sequential(changed(INPUT, batch_shape=[None, 2.5, 3]), LSTM),
        r"the shape of the input 'x' is \[None, 2\.5, 3\]",
    ),
    "a shape that is no list": (
        sequential(changed(INPUT, batch_shape=3), LSTM),
        "shape of the input 'x' must be a list",
    ),
}
GRAPHS = {
    "one name twice": (graph(INPUT, CALLED, CALLED), "several layers have the same name"),
    "an unknown output": (graph(INPUT, CALLED, output="z"), "one sequence from the input 'x' .* and 'z' is not"),
    "a circle": (graph(INPUT, call(LSTM, tensor("a"))), "one sequence from the input 'x' .* and 'a' is not"),
    "two inputs of a layer": (
        graph(INPUT, call(LSTM, tensor("x"), tensor("x"))),
        "the inputs of the layer 'a' must be the outputs of one layer",
    ),
    "a constant as input": (
        graph(INPUT, call(LSTM, tensor("x"), 2.0)),
        "inputs of the layer 'a' must be the outputs of",
    ),
    "an input that is a layer": (
        graph(CALLED, call(DENSE, tensor("a")), output="d", inputs=("a", 0, 0)),
        "the input 'a' must be an InputLayer",
    ),
    "an input that is missing": (graph(CALLED), "the input 'x' must be an InputLayer"),
    "a layer that is not in the sequence": (
        graph(INPUT, CALLED, call(DENSE, tensor("a"))),
        "the layer 'd' must be between the input and the output, in one sequence",
    ),
    "a shared layer": (
        graph(INPUT, {**LSTM, "inbound_nodes": [*CALLED["inbound_nodes"]] * 2}),
        "the layer 'a' is called more than once",
    ),
    "a second call": (
        graph(INPUT, CALLED, call(DENSE, tensor("a", node=1)), output="d"),
        "'a' is called more than once",
    ),
    "a second output": (
        graph(INPUT, CALLED, call(DENSE, tensor("a", index=1)), output="d"),
        "the inputs of the layer 'd' must be the outputs of a layer",
    ),
    "an explicit mask": (graph(INPUT, call(LSTM, tensor("x"), mask=[True])), "the layer 'a' has an explicit mask"),
    "an initial state": (
        graph(INPUT, call(LSTM, tensor("x"), initial_state=[1.0])),
        "the layer 'a' has the argument initial_state, which cannot be represented",
    ),
    "an initial state in Keras 2": (
        keras_2([["x", 0, 0, {"initial_state": ["s", 0, 0]}]]),
        "the layer 'a' has the argument initial_state, which cannot be represented",
    ),
    "two inputs in Keras 2": (
        keras_2([["x", 0, 0, {}], ["x", 0, 0, {}]]),
        "inputs of the layer 'a' must be the outputs",
    ),
    "two calls in Keras 2": (keras_2([["x", 0, 0, {}]], [["x", 0, 0, {}]]), "the layer 'a' is called more than once"),
    "an input in Keras 2 that is none": (keras_2(["x"]), "an input of 'a' must be a list, got 'x'"),
}
REFUSED = {**MODELS, **{f"a graph with {name}": entry for name, entry in GRAPHS.items()}}


@loop_over("name", REFUSED)
def test_what_is_no_sequence_of_layers_is_refused_by_name(name):
    model, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        parse_model(model)


OPTIONAL = {"mask": None, "initial_state": None, "training": False}  # Keras writes what has no effect


@pytest.mark.parametrize(
    "model",
    [
        {"layers": [INPUT, LSTM, DENSE]},  # get_config() of a Sequential
        graph(INPUT, CALLED, call(DENSE, tensor("a")), output="d")["config"],  # and of a Functional
        sequential({"class_name": "Sequential", "config": {"name": "s", "layers": [INPUT, LSTM]}}, DENSE),
        graph(INPUT, call(LSTM, tensor("x"), **OPTIONAL), call(DENSE, tensor("a")), output="d"),
        graph(
            INPUT,
            {**LSTM, "inbound_nodes": [[["x", 0, 0, OPTIONAL]]]},
            {**DENSE, "inbound_nodes": [[["a", 0, 0, {}]]]},
            output="d",
        ),
    ],
    ids=["settings", "settings of a graph", "a model in a model", "arguments of Keras 3", "arguments of Keras 2"],
)
def test_one_model_in_many_configurations(model):
    """The order of the layers, and the shape of their input, are the same."""
    chain = parse_model(model)
    inner = [layer for outer in chain.layers for layer in outer.layers or (outer,)]
    assert [(layer.kind, layer.name) for layer in inner] == [("LSTM", "a"), ("Dense", "d")]
    assert chain.input_shape == (None, None, 3)


def test_a_model_in_a_model_without_an_input_has_no_shape():
    chain = parse_model(sequential({"class_name": "Sequential", "config": {"name": "s", "layers": [LSTM]}}, DENSE))
    assert chain.input_shape is None


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        (3, TypeError, "config must be a path, JSON, a dict or a Sequential, got int"),
        (sequential(), ValueError, "config: the model has no layers"),
        ('{"class_name": ', ValueError, "config: it is not valid JSON"),
    ],
)
def test_the_configuration_of_weights_alone_is_checked_before_these(config, error, words, tmp_path):
    (tmp_path / "m.weights.h5").write_bytes(b"")
    with pytest.raises(error, match=words):
        files.load(tmp_path / "m.weights.h5", config=config)


def test_the_configuration_of_weights_alone_as_a_dict(h5py, tmp_path, rng):
    """The file holds the weights of the Dense in the order kernel, bias."""
    kernel, bias = rng.normal(size=(3, 2)).astype(np.float32), rng.normal(size=2).astype(np.float32)
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file["layers/dense/vars/0"], file["layers/dense/vars/1"] = kernel, bias
    model = files.load(tmp_path / "m.weights.h5", config=sequential(changed(DENSE, units=2)))
    np.testing.assert_array_equal(model.layers[0].parameters["weight"], kernel.T)
    np.testing.assert_array_equal(model.layers[0].parameters["bias"], bias)
    with pytest.raises(ValueError, match=r"weights\.h5: it must contain a model, got only weights"):
        files.load(tmp_path / "m.weights.h5", config=tmp_path / "m.weights.h5")
    with pytest.raises(FileNotFoundError, match=r"missing\.json does not exist"):
        files.load(tmp_path / "m.weights.h5", config=tmp_path / "missing.json")
