"""Law: tied parameters are one array; its gradient is the sum of those of its uses, everywhere a model goes."""

import copy
import pickle

import numpy as np
import pytest

import glasscell as gc
from glasscell.core.buffers import BufferPool
from glasscell.data.batch import Batch

V, E, B, T = 5, 4, 3, 6
TIES = {"decode.weight": "encode.weight"}


def tied_model(rng, dtype=np.float64, *, bias=True, ties=TIES):
    layers = [
        gc.Embedding(V, E, dtype=dtype),
        gc.LSTM(E, E, dtype=dtype, seed=1),
        gc.Linear(E, V, bias=bias, dtype=dtype),
    ]
    model = gc.Sequential(layers, ["encode", "lstm", "decode"], ties=ties)
    model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    return model


def untied_copy(model):
    """The same model with two separate arrays."""
    encode, lstm, decode = (copy.deepcopy(layer) for layer in untied_layers(model))
    return gc.Sequential([encode, lstm, decode], model.names, seed=None)


def untied_layers(model):
    layers = [
        gc.Embedding(V, E, dtype=model.dtype, seed=None),
        gc.LSTM(E, E, dtype=model.dtype, seed=None),
        gc.Linear(E, V, bias=model.layers[2].bias, dtype=model.dtype, seed=None),
    ]
    for layer, original in zip(layers, model.layers, strict=True):
        for name, view in layer.parameters.items():
            view[...] = original.parameters[name]
    return layers


def test_tied_parameters_are_one_array(rng):
    model = tied_model(rng)
    assert "decode.weight" not in model.parameters
    assert model.parameters.vector.size == untied_copy(model).parameters.vector.size - V * E
    ids = rng.integers(V, size=(B, T))
    np.testing.assert_array_equal(model(ids), untied_copy(model)(ids))
    model.parameters["encode.weight"][2] += 1
    assert model.layers[2].parameters["weight"] is model.layers[0].parameters["weight"]
    np.testing.assert_array_equal(model(ids), untied_copy(model)(ids))
    np.testing.assert_array_equal(model.layers[2](np.eye(E)[None]), untied_copy(model).layers[2](np.eye(E)[None]))


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_add_up_and_are_those_of_finite_differences(bias, rng):
    model, ids = tied_model(rng, bias=bias), rng.integers(V, size=(B, T))
    y, _, tape = model.forward(ids)
    dy = rng.normal(size=y.shape)
    for _ in range(2):  # the tape may be used again
        _, _, gradients = model.backward(tape, dy)
    trained = model.parameters.zeros_like()
    buffers = BufferPool()
    for _ in range(2):  # memory that is used again is overwritten
        trained.vector[:] = np.nan
        result = model.train_forward(Batch(ids, np.zeros_like(dy)), None, buffers, None)
        model.train_backward(result.tape, dy, trained, buffers)
    np.testing.assert_allclose(trained.vector, gradients.vector, rtol=1e-13, atol=1e-13)
    _, _, separate = untied_copy(model).backward(untied_copy(model).forward(ids)[2], dy)
    np.testing.assert_allclose(
        gradients["encode.weight"], separate["encode.weight"] + separate["decode.weight"], atol=1e-13
    )
    vector, step = model.parameters.vector, 1e-4

    def loss(k, change):
        before = vector[k]
        vector[k] = before + change
        value = (model(ids) * dy).sum()
        vector[k] = before
        return value

    measured = [
        (8 * (loss(k, step) - loss(k, -step)) - (loss(k, 2 * step) - loss(k, -2 * step))) / (12 * step)
        for k in range(vector.size)
    ]
    np.testing.assert_allclose(gradients.vector, measured, rtol=0, atol=1e-8)


def test_a_tied_model_trains_with_one_state_of_the_optimizer(rng):
    ids = rng.integers(V, size=(40, T + 1))
    model, optimizer = tied_model(rng, np.float32), gc.Adam(0.02)
    state = optimizer.init_state(model.parameters.vector)
    assert all(array.shape == model.parameters.vector.shape for array in state.values() if np.ndim(array))
    history = gc.fit(
        model, (ids[:, :-1], ids[:, 1:]), epochs=5, batch_size=8, loss="categorical_cross_entropy", optimizer=optimizer
    )
    losses = [row["loss"] for row in history.rows]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert model.layers[2].parameters["weight"] is model.layers[0].parameters["weight"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301 - its own
def test_copies_stay_tied_and_are_independent(copied, rng):
    model, ids = tied_model(rng), rng.integers(V, size=(B, T))
    model.backward(model.forward(ids)[2], np.ones((B, T, V)))
    before, other = model(ids), copied(model)
    np.testing.assert_array_equal(other(ids), before)
    other.parameters["encode.weight"][:] *= 2
    np.testing.assert_array_equal(model(ids), before)
    np.testing.assert_array_equal(other(ids), untied_copy(other)(ids))
    dy = rng.normal(size=before.shape)
    gradients = other.backward(other.forward(ids)[2], dy)[2]
    separate = untied_copy(other).backward(untied_copy(other).forward(ids)[2], dy)[2]
    np.testing.assert_allclose(
        gradients["encode.weight"], separate["encode.weight"] + separate["decode.weight"], atol=1e-13
    )


def test_files_keep_ties_and_other_formats_have_both_arrays(rng, tmp_path):
    model, ids = tied_model(rng), rng.integers(V, size=(B, T))
    model.save(tmp_path / "m.safetensors")
    for loaded in (gc.load(tmp_path / "m.safetensors"), gc.Sequential.load(tmp_path / "m.safetensors")):
        assert loaded.ties == TIES
        assert loaded.config == model.config
        np.testing.assert_array_equal(loaded.parameters.vector, model.parameters.vector)
        np.testing.assert_array_equal(loaded(ids), model(ids))
        assert loaded.layers[2].parameters["weight"] is loaded.layers[0].parameters["weight"]
    weights = model.to_torch()
    np.testing.assert_array_equal(weights["encode.weight"], weights["decode.weight"])
    assert not np.shares_memory(weights["encode.weight"], weights["decode.weight"])
    gc.convert.save(model, tmp_path / "m.pt")
    other = gc.convert.load(tmp_path / "m.pt", architecture="encode:embedding,lstm,decode")
    np.testing.assert_allclose(other(ids), model(ids), rtol=0, atol=1e-12)
    damaged = weights | {"decode.weight": weights["decode.weight"] + 1}
    with pytest.raises(ValueError, match="must equal those with which they are tied"):
        gc.Sequential.from_weights(model.config, damaged)


def test_a_stream_and_a_nested_model_use_the_shared_array(rng):
    model, ids = tied_model(rng), rng.integers(V, size=T)
    stream = model.stream()
    np.testing.assert_allclose([stream.push(symbol).copy() for symbol in ids], model(ids), rtol=0, atol=1e-13)
    before = model(ids)
    outer = gc.Sequential([model, gc.layers.Function("Tanh")], ["inner", "end"], seed=None)
    assert outer.ties == {"inner.decode.weight": "inner.encode.weight"}
    np.testing.assert_allclose(outer(ids), np.tanh(before), rtol=0, atol=1e-14)
    outer.parameters["inner.encode.weight"][:] += 0.1
    np.testing.assert_allclose(outer(ids), np.tanh(untied_copy(model)(ids)), rtol=0, atol=1e-13)
    y, _, tape = outer.forward(ids)
    dy = rng.normal(size=y.shape)
    inner = model.backward(model.forward(ids)[2], dy * (1 - y**2))[2]
    np.testing.assert_allclose(outer.backward(tape, dy)[2].vector, inner.vector, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("ties", "words"),
    [
        ({"decode.weight": "table.weight"}, "'table.weight'"),
        ({"decode.kernel": "encode.weight"}, "'decode.kernel'"),
        ({"decode.bias": "encode.weight"}, r"must have shape \(5, 4\)"),
        ({"decode.weight": "decode.weight"}, "another layer"),
        ({"lstm.kernel_l0": "encode.weight"}, "without a state"),
    ],
)
def test_ties_that_cannot_be_are_refused(ties, words, rng):
    with pytest.raises(ValueError, match=words):
        tied_model(rng, ties=ties)


def gradient_error(model, x, rng):
    """The largest difference of the gradients from central differences."""
    y, _, tape = model.forward(x)
    dy = rng.normal(size=y.shape)
    gradients, vector = model.backward(tape, dy)[2].vector, model.parameters.vector
    differences = np.empty_like(vector)
    for k, value in enumerate(vector.copy()):
        sums = []
        for step in (1e-6, -1e-6):
            vector[k] = value + step
            sums.append((model(x) * dy).sum())
        vector[k] = value
        differences[k] = (sums[0] - sums[1]) / 2e-6
    return np.abs(differences - gradients).max()


@pytest.mark.parametrize("order", [1, -1])
def test_a_source_may_be_in_a_layer_that_is_tied_itself(order, rng):
    ties = dict([("2.weight", "0.weight"), ("1.bias", "2.bias")][::order])
    model = gc.Sequential([gc.Linear(3, 3, dtype="float64") for _ in range(3)], ties=ties)
    assert model.layers[1].parameters["bias"] is model.layers[2].parameters["bias"]
    assert gradient_error(model, rng.normal(size=(2, 4, 3)), rng) < 1e-7
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 - our own
        assert copied.layers[1].parameters["bias"] is copied.layers[2].parameters["bias"]


@pytest.mark.parametrize(
    ("kind", "arguments", "name"),
    [
        (gc.layers.LayerNorm, (3,), "gain"),
        (gc.layers.BatchNorm, (3,), "shift"),
        (gc.layers.Conv1D, (3, 3, 1), "weight"),
    ],
)
def test_every_layer_with_parameters_can_be_tied(kind, arguments, name, rng):
    first, second = (kind(*arguments, dtype="float64") for _ in range(2))
    model = gc.Sequential([first, gc.Linear(3, 3, dtype="float64"), second], ties={f"2.{name}": f"0.{name}"})
    assert gradient_error(model, rng.normal(size=(2, 4, 3)), rng) < 1e-7


def test_a_copy_of_a_tied_layer_is_a_layer_of_its_own(rng):
    model = tied_model(rng)
    layer, h = model.layers[2], rng.normal(size=(B, T, E))
    other = gc.Sequential([copy.deepcopy(layer)], seed=None)
    np.testing.assert_array_equal(other(h), layer(h))
    assert other.parameters.vector.size == V * E + V
    other.parameters.vector[:] = 0
    assert not other(h).any()
    assert layer(h).any()
    with pytest.raises(ValueError, match="in no other model"):
        gc.Sequential([layer])


def test_a_layer_of_an_inner_model_can_be_a_source_only(rng):
    def models(ties):
        inner = gc.Sequential(
            [gc.Linear(3, 3, dtype="float64") for _ in range(2)], ["p", "q"], ties={"q.bias": "p.bias"}
        )
        return gc.Sequential([inner, gc.Linear(3, 3, dtype="float64")], ["a", "b"], ties=ties), inner

    outer, inner = models({"b.weight": "a.q.weight"})
    assert outer.layers[2].parameters["weight"] is inner.layers[1].parameters["weight"]
    assert gradient_error(outer, rng.normal(size=(2, 4, 3)), rng) < 1e-7
    with pytest.raises(ValueError, match="exchange the sides"):
        models({"a.q.weight": "b.weight"})
    with pytest.raises(ValueError, match="not tied itself"):
        models({"b.bias": "a.q.bias"})


@pytest.mark.parametrize(
    ("options", "moved"),
    [
        ({"trainable": ["decode.*"]}, {"encode.weight", "decode.bias"}),
        ({"trainable": ["decode.weight"]}, {"encode.weight"}),
        ({"trainable": ["encode.*"]}, {"encode.weight"}),
        ({"trainable": ["*"], "learning_rates": {"decode.weight": 0, "lstm.*": 0}}, {"decode.bias"}),
    ],
)
def test_both_names_of_a_shared_array_select_it_in_training(options, moved, rng):
    ids, model = rng.integers(V, size=(8, T)), tied_model(rng)
    before = {name: view.copy() for name, view in model.parameters.items()}
    gc.fit(model, (ids, ids), 2, loss="categorical_cross_entropy", **options)
    assert {name for name, view in model.parameters.items() if (view != before[name]).any()} == moved


def test_a_factor_for_both_names_of_a_shared_array_counts_once(rng):
    ids = rng.integers(V, size=(8, T))
    model, other = (tied_model(np.random.default_rng(2)) for _ in range(2))
    for each, pattern in ((model, "*code.weight"), (other, "encode.weight")):
        gc.fit(each, (ids, ids), 2, loss="categorical_cross_entropy", learning_rates={pattern: 0.5})
    np.testing.assert_array_equal(model.parameters.vector, other.parameters.vector)


def test_an_unknown_pattern_lists_the_tied_names_too(rng):
    ids = rng.integers(V, size=(8, T))
    with pytest.raises(ValueError, match=r"encode\.weight.*decode\.bias, decode\.weight, got 'head\.\*'"):
        gc.fit(tied_model(rng), (ids, ids), 1, loss="categorical_cross_entropy", trainable=["head.*"])
