"""Law: a copy of a model, by deepcopy, pickle or another process, trains to the same bits as the original would.

The weights of a layer are views of one vector, and those of a model's layers are views of the model's. A copy must have
both again: an optimiser moves the vector, and a layer computes with the views.
"""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.core.buffers import BufferPool
from glasscell.core.parameters import Parameters
from glasscell.layers import FinalState, Function
from glasscell.models import TrainingBuffers

FLOAT64 = np.dtype(np.float64)
GENERAL = {"peepholes": True, "layer_norm": "haste", "proj_size": 2, "bidirectional": True, "learn_initial_state": True}
TASK = gc.tasks.Copy(4)


def models():
    """One of each kind, with random weights."""
    made = {
        "lstm": gc.LSTM(3, 4, 2, dtype=FLOAT64),
        "general": gc.LSTM(3, 4, **GENERAL, gate_activation=("HardSigmoid", 0.3, 0.4), dtype=FLOAT64),
        "linear": gc.Linear(3, 4, dtype=FLOAT64),
        "sequential": gc.Sequential(
            [gc.LSTM(3, 4, bias=False, dtype=FLOAT64), Function("Relu"), FinalState(), gc.Linear(4, 2, dtype=FLOAT64)]
        ),
        "copy": gc.CopyLSTM(5, task=TASK, num_layers=2, dtype=FLOAT64),
    }
    rng = np.random.default_rng(7)
    for model in made.values():
        model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    return made


KINDS = list(models())


def by_pickle(value, protocol=pickle.HIGHEST_PROTOCOL):
    return pickle.loads(pickle.dumps(value, protocol))  # noqa: S301 - our own


def by_read_only_buffers(value):
    """As between processes that share memory: the arrays of the copy cannot be written."""
    buffers = []
    data = pickle.dumps(value, 5, buffer_callback=lambda buffer: buffers.append(bytes(buffer)))
    return pickle.loads(data, buffers=buffers)  # noqa: S301 - our own


WAYS = {
    "deepcopy": copy.deepcopy,
    "pickle": by_pickle,
    "oldest pickle": lambda value: by_pickle(value, 0),
    "read-only buffers": by_read_only_buffers,
    "twice": lambda value: copy.deepcopy(by_pickle(value)),
}


def train(model, updates=5):
    """Some updates of a model; the vector after each."""
    rng, adam, state, found = np.random.default_rng(3), gc.Adam(0.05), None, []
    for _ in range(updates):
        if isinstance(model, gc.CopyLSTM):
            gradients = model.loss_and_gradients(TASK.batch(3, rng, model.dtype)).gradients
        else:
            outputs, *_, tape = model.forward(rng.normal(size=(2, 5, 3)))
            gradients = model.backward(tape, np.cos(outputs))[-1]
        state = adam.init_state(model.parameters.vector) if state is None else state
        adam.update(model.parameters.vector, gradients.vector, state)
        found.append(model.parameters.vector.copy())
    return np.array(found)


def outputs(model):
    return model(np.random.default_rng(4).normal(size=(2, 5, 2 if isinstance(model, gc.CopyLSTM) else 3)))


@loop_over("way", WAYS)
@loop_over("kind", KINDS)
def test_a_copy_trains_to_the_same_bits(kind, way):
    model = models()[kind]
    first = model.parameters.vector.copy()
    other = WAYS[way](model)
    np.testing.assert_array_equal(outputs(other), outputs(model))
    trained = train(other)
    np.testing.assert_array_equal(model.parameters.vector, first)  # the original is left alone
    np.testing.assert_array_equal(trained, train(model))
    assert not np.array_equal(trained[0], trained[-1])
    np.testing.assert_array_equal(outputs(other), outputs(model))
    assert not np.array_equal(outputs(other), outputs(models()[kind]))  # it learned: the outputs moved


@pytest.mark.parametrize("way", WAYS)
def test_a_copied_embedding_learns(way):
    table = gc.Embedding(5, 3, seed=2)
    other = WAYS[way](table)
    other.parameters.vector += 1.0
    np.testing.assert_array_equal(other([4, 0]), table([4, 0]) + 1)


@pytest.mark.parametrize("way", WAYS)
def test_the_layers_of_a_copy_are_views_of_its_vector(way):
    made = WAYS[way](models())
    for name, layers in {
        "sequential": made["sequential"].layers,
        "copy": [made["copy"].lstm, made["copy"].readout],
    }.items():
        vector = made[name].parameters.vector
        weights = [layer for layer in layers if hasattr(layer, "parameters")]
        assert vector.flags.writeable
        assert all(np.shares_memory(layer.parameters.vector, vector) for layer in weights)
        np.testing.assert_array_equal(np.concatenate([layer.parameters.vector for layer in weights]), vector)


@loop_over("way", WAYS)
@loop_over("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_what_is_copied_together_stays_together(way, order):
    """A model, its parameters and one of its layers, in any order."""
    model = models()["sequential"]
    parts = model, model.parameters, model.layers[3]
    copied = WAYS[way]([parts[k] for k in order])
    model, parameters, layer = (copied[order.index(k)] for k in range(3))
    assert model.parameters is parameters
    assert model.layers[3] is layer
    parameters.vector[:] = np.arange(parameters.vector.size)
    assert layer.parameters["bias"][-1] == parameters.vector.size - 1


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_copied_out_of_a_model_is_on_its_own(way):
    model = models()["sequential"]
    layer = WAYS[way](model.layers[0])
    assert len(pickle.dumps(model.layers[0])) < len(pickle.dumps(model))
    before = model.parameters.vector.copy()
    layer.parameters.vector[:] = 0
    np.testing.assert_array_equal(model.parameters.vector, before)
    other = gc.Sequential([layer, gc.Linear(4, 1, dtype=FLOAT64)])  # and can be put into another one
    assert np.shares_memory(other.parameters.vector, layer.parameters.vector)


@loop_over("way", WAYS)
@loop_over("kind", ["lstm", "general"])
@loop_over("segments", [None, 2])
def test_a_copied_tape_gives_the_same_gradients(kind, segments, way, rng):
    made = models()[kind]
    model = gc.LSTM(**made.options.non_default(), dtype=FLOAT64, recompute_every=segments)
    model.parameters.vector = made.parameters.vector
    y, state, tape = model.forward(rng.normal(size=(2, 5, 3)), lengths=[5, 3])
    dy, d_state = rng.normal(size=y.shape), gc.LSTMState(*(rng.normal(size=part.shape) for part in state))
    dx, d_start, gradients = model.backward(WAYS[way](tape), dy, WAYS[way](d_state))
    expected_dx, expected_start, expected = model.backward(tape, dy, d_state)
    np.testing.assert_array_equal(dx, expected_dx)
    np.testing.assert_array_equal(d_start.c, expected_start.c)
    np.testing.assert_array_equal(gradients.vector, expected.vector)


@loop_over("way", WAYS)
@loop_over("kind", ["lstm", "general", "sequential", "copy"])
def test_a_copied_trace_has_every_array(kind, way, rng):
    model = models()[kind]
    x = rng.normal(size=(5, 2 if kind == "copy" else 3))
    trace = model.trace(x, d_outputs=np.cos(model(x)))
    other = WAYS[way](trace)
    assert repr(other) == repr(trace)
    np.testing.assert_array_equal(other.d_x, trace.d_x)
    for one, expected in zip(other.layer, trace.layer, strict=True):
        assert one.names == expected.names
        for name in one.names:
            np.testing.assert_array_equal(one.value(name), expected.value(name))
            assert not one.value(name).flags.writeable
    assert str(other.equations(2, 1)) == str(trace.equations(2, 1))


def test_training_goes_on_from_a_copy():
    """Weights, the optimiser's state and schedule, the history: what a training is made of."""
    model, adam = models()["copy"], gc.AdamW(0.02)
    state = adam.init_state(model.parameters.vector)
    schedule = gc.schedules.warmup(3, gc.schedules.cosine(9, 0.1))
    history = gc.fit(model, TASK, 3, batch_size=2, schedule=gc.schedules.constant())
    together = model, adam, state, schedule, history
    for way in (copy.deepcopy, by_pickle):
        other, other_adam, other_state, other_schedule, other_history = way(together)
        assert other_adam == adam
        assert other_history == history
        assert [other_schedule(k) for k in range(12)] == [schedule(k) for k in range(12)]
        mine, its_state = copy.deepcopy((model, state))
        for one, optimizer, remembered in ((other, other_adam, other_state), (mine, adam, its_state)):
            gradients = one.loss_and_gradients(TASK.batch(3, np.random.default_rng(1), FLOAT64)).gradients
            optimizer.update(one.parameters.vector, gradients.vector, remembered)
        np.testing.assert_array_equal(other.parameters.vector, mine.parameters.vector)


def test_a_copied_workspace_computes_the_same():
    model = models()["copy"]
    workspace = TrainingBuffers(model.parameters)
    batch, other = (TASK.batch(3, np.random.default_rng(seed), FLOAT64) for seed in (1, 2))
    model.loss_and_gradients(batch, None, workspace)
    copied = copy.deepcopy(workspace)
    expected = model.loss_and_gradients(other).gradients.vector
    np.testing.assert_array_equal(model.loss_and_gradients(other, None, copied).gradients.vector, expected)


def test_copied_buffers_are_empty():
    buffers = BufferPool()
    array = buffers.get("a", (3,), FLOAT64)
    buffers.step_views("views", (array,), lambda: [(array[:1],)])
    copied = copy.deepcopy(buffers)
    other = copied.get("a", (3,), FLOAT64)
    [(view,)] = copied.step_views("views", (other,), lambda: [(other[:1],)])
    assert np.shares_memory(view, other)


def _trained(model):
    return train(model)


def test_a_model_sent_to_a_process_of_its_own_trains_to_the_same_bits():
    made = models()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_trained, list(made.values())))
    for model, trained in zip(made.values(), found, strict=True):
        np.testing.assert_array_equal(trained, train(model))


def test_joblib_keeps_a_model(tmp_path):
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    model = models()["sequential"]
    joblib.dump(model, tmp_path / "model.joblib")
    for mode in (None, "r", "c"):
        other = joblib.load(tmp_path / "model.joblib", mmap_mode=mode)
        np.testing.assert_array_equal(train(other), train(models()["sequential"]))


# No dead weights: what cannot be shared is refused


def test_values_assigned_to_the_vector_are_copied_in(rng):
    for model in models().values():
        values = rng.normal(size=model.parameters.vector.size)
        vector = model.parameters.vector
        model.parameters.vector = values
        assert model.parameters.vector is vector
        np.testing.assert_array_equal(np.concatenate([view.ravel() for view in model.parameters.values()]), values)
        values[:] = 0
        assert model.parameters.vector.any()


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (np.zeros(3), ValueError, r"vector must have shape \(16,\), got \(3,\)"),
        (0.0, ValueError, r"\(16,\)"),
        (np.zeros((4, 4)), ValueError, r"\(4, 4\)"),
        (["a"] * 16, TypeError, "real numbers"),
        (np.zeros(16, complex), TypeError, "complex"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(values, error, words):
    linear = gc.Linear(3, 4)
    before = linear.parameters.vector.copy()
    with pytest.raises(error, match=words):
        linear.parameters.vector = values
    np.testing.assert_array_equal(linear.parameters.vector, before)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_and_layers_cannot_be_replaced(kind):
    """The model would go on with those that it has."""
    model = models()[kind]
    for name in ("parameters", "layers", "lstm", "readout"):
        if hasattr(model, name):
            with pytest.raises(AttributeError, match="no setter"):
                setattr(model, name, getattr(model, name))


def test_a_layer_in_two_places_is_refused():
    lstm, linear = gc.LSTM(3, 3), gc.Linear(3, 3)
    with pytest.raises(ValueError, match=r"'b' must be a separate layer, got the same as 'a': .*deepcopy"):
        gc.Sequential([lstm, lstm], ["a", "b"])
    model = gc.Sequential([lstm, linear])
    with pytest.raises(
        ValueError, match=r"'1' must be in no other model, got weights that are a part of one: .*deepcopy"
    ):
        gc.Sequential([gc.LSTM(2, 3), linear])
    lstm.parameters.vector[:] = 5  # and the first model has lost nothing
    assert (model.parameters.vector[: lstm.parameters.vector.size] == 5).all()
    gc.Sequential([copy.deepcopy(lstm), Function("Relu"), copy.deepcopy(lstm)])


def test_a_layer_of_a_copy_lstm_is_refused_in_a_sequential():
    model = gc.CopyLSTM(4)
    with pytest.raises(ValueError, match="'0' must be in no other model"):
        gc.Sequential([model.lstm])


def test_a_failed_sequential_takes_nothing():
    lstm = gc.LSTM(3, 4)
    before = lstm.parameters.vector.copy()
    with pytest.raises(ValueError, match="takes 5 features"):
        gc.Sequential([lstm, gc.Linear(5, 2)])
    np.testing.assert_array_equal(lstm.parameters.vector, before)
    gc.Sequential([lstm, gc.Linear(4, 2)])


def test_parts_of_parts_move_together(rng):
    """As a model in a model: the vectors of both, and of the layers, stay one."""
    layers = [Parameters({"w": (2, 3)}, FLOAT64, rng.normal(size=6)) for _ in range(3)]
    values = [layer.vector.copy() for layer in layers]
    inner = Parameters.join({"a": layers[0], "b": layers[1]}, FLOAT64)
    outer = Parameters.join({"inner": inner, "c": layers[2]}, FLOAT64)
    assert list(outer) == ["inner.a.w", "inner.b.w", "c.w"]
    for whole in (outer, copy.deepcopy(outer), by_pickle(outer)):
        np.testing.assert_array_equal(whole.vector, np.concatenate(values))
    outer.vector[:] = np.arange(18)
    np.testing.assert_array_equal(inner.vector, np.arange(12))
    np.testing.assert_array_equal([layer.vector[0] for layer in layers], [0, 6, 12])
    assert all(part.is_part for part in (inner, *layers))
    with pytest.raises(ValueError, match="'again' are a part of others already"):
        Parameters.join({"again": layers[0]}, FLOAT64)
    with pytest.raises(ValueError, match="'x' must be of float32, and are of float64"):
        Parameters.join({"x": Parameters({"w": (1,)}, FLOAT64)}, np.dtype(np.float32))


def test_a_shallow_copy_of_parameters_is_on_its_own(rng):
    layer = Parameters({"w": (2,)}, FLOAT64, rng.normal(size=2))
    whole = Parameters.join({"a": layer}, FLOAT64)
    other = copy.copy(whole)
    other.vector[:] = 0
    assert layer.vector.all()
