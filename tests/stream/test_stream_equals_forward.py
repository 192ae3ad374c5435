"""Property: the outputs of a stream, step by step, equal those of ``forward`` for the whole sequence."""

import numpy as np
import pytest
from case_loops import loop_over
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import glasscell as gc
from glasscell.core.activations import ACTIVATIONS, EXTRA_ACTIVATIONS
from glasscell.layers import Dropout, Function, Masking, SwapHalves

CLOSE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 2e-5}

ACTIVATIONS = [*ACTIVATIONS, *EXTRA_ACTIVATIONS]


def scrambled(model, rng, scale=0.4):
    """Replace default values, such as gains of 1 and biases of 0, by random ones."""
    model.parameters.vector[:] = rng.normal(0, scale, model.parameters.vector.shape)
    return model


def pushed(stream, x):
    """Return the outputs of all steps: (T, O) for (T, I), or (n, T, O) for (n, T, I)."""
    if stream.batch is None:
        return np.array([stream.push(step).copy() for step in x])
    return np.stack([stream.push(x[:, t]).copy() for t in range(x.shape[1])], axis=1)


def assert_same(a, b, dtype):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE[np.dtype(dtype)] * max(1, np.abs(b).max(initial=0)))


def assert_same_states(a, b, dtype):
    for x, y in zip(a, b, strict=True):
        if isinstance(x, gc.LSTMState):
            assert_same_states(x, y, dtype)
        else:
            assert_same(x, y, dtype)


def assert_equals_forward(model, x, dtype):
    """Compare one sequence and a batch, from the initial state and from another one."""
    T = x.shape[1]
    for inputs, stream in ((x[0], model.stream()), (x, model.stream(batch=len(x)))):
        y, state, _ = model.forward(inputs)
        assert_same(pushed(stream, inputs), y, dtype)
        assert_same_states(stream.state, state, dtype)
        stream.state = state
        y_on, state_on, _ = model.forward(inputs[..., : T // 2, :] if np.ndim(x) == 3 else inputs[..., : T // 2], state)
        rest = inputs[: T // 2] if stream.batch is None else inputs[:, : T // 2]
        assert_same(pushed(stream, rest), y_on, dtype)
        assert_same_states(stream.state, state_on, dtype)


OPTIONS = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 3),
        "bias": st.booleans(),
        "proj_size": st.sampled_from([None, 1, 3]),
        "peepholes": st.booleans(),
        "coupled": st.sampled_from([None, "input", "forget"]),
        "forget_gate": st.booleans(),
        "clip": st.sampled_from([None, 0.3]),
        "gate_activation": st.sampled_from(["Sigmoid", "Sigmoid", "HardSigmoid", "Softsign"]),
        "candidate_activation": st.sampled_from(["Tanh", "Tanh", ("LeakyRelu", 0.3), ("Elu", 0.7), "Relu"]),
        "output_activation": st.sampled_from(["Tanh", "Tanh", ("ScaledTanh", 1.2, 0.7), "Softsign"]),
        "layer_norm": st.sampled_from([None, None, "haste", "tflite", "contrib"]),
        "zoneout": st.sampled_from([0, 0.3]),
        "zoneout_cell": st.sampled_from([0, 0.2]),
        "dropout": st.sampled_from([0, 0.5]),
        "recurrent_dropout": st.sampled_from([0, 0.5]),
        "learn_initial_state": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(options=OPTIONS, seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([np.float32, np.float64]))
def test_an_lstm_of_any_options(options, seed, dtype):
    rng = np.random.default_rng(seed)
    options["forget_gate"] |= options["coupled"] is not None
    options["projection_bias"] = options["proj_size"] is not None and bool(seed % 2)
    model = scrambled(gc.LSTM(2, 4, dtype=dtype, **options), rng)
    assert_equals_forward(model, rng.normal(size=(3, 5, 2)).astype(dtype), dtype)


@loop_over("option", ["gate_activation", "candidate_activation", "output_activation"])
@loop_over("name", ACTIVATIONS)
def test_every_activation_of_an_lstm(rng, name, option):
    model = scrambled(gc.LSTM(3, 4, dtype=np.float64, **{option: name}), rng)
    assert_equals_forward(model, rng.normal(size=(2, 4, 3)), np.float64)


@loop_over("name", [*ACTIVATIONS, "Softmax", "LogSoftmax"])
def test_every_function(rng, name):
    model = scrambled(gc.Sequential([gc.Linear(3, 5, dtype=np.float64), Function(name)]), rng, 2)
    assert_equals_forward(model, rng.normal(size=(2, 4, 3)), np.float64)


@loop_over("alpha", [-0.5, 0.0, 2.0])
@loop_over("name", ["LeakyRelu", "ThresholdedRelu", "Elu", "Affine", "ScaledTanh", "HardSigmoid"])
def test_every_activation_with_a_parameter(rng, name, alpha):
    model = gc.Sequential([Function(name, alpha), gc.Linear(3, 3, dtype=np.float64)])
    assert_equals_forward(model, rng.normal(size=(2, 9, 3)), np.float64)


def layer_lists(dtype):
    kinds = {"dtype": dtype}
    return {
        "readout": [gc.LSTM(3, 5, **kinds), gc.Linear(5, 2, **kinds)],
        "a linear layer first": [gc.Linear(3, 4, **kinds), gc.LSTM(4, 5, **kinds)],
        "linear layers alone": [gc.Linear(3, 4, bias=False, **kinds), Function("Relu"), gc.Linear(4, 2, **kinds)],
        "a function first": [Function("Tanh"), gc.LSTM(3, 5, **kinds), Dropout(0.5), Function("Softmax")],
        "dropout first": [Dropout(0.5), gc.LSTM(3, 5, **kinds)],
        "two LSTMs": [gc.LSTM(3, 5, peepholes=True, **kinds), Dropout(0.2), gc.LSTM(5, 4, num_layers=2, **kinds)],
        "halves": [gc.LSTM(3, 5, **kinds), SwapHalves(), gc.Linear(5, 5, **kinds), Function("LogSoftmax")],
        "projected": [gc.LSTM(3, 5, proj_size=2, **kinds), gc.LSTM(2, 4, **kinds), gc.Linear(4, 1, **kinds)],
    }


@loop_over("dtype", [np.float32, np.float64])
@loop_over("name", layer_lists(np.float32))
def test_layers_in_sequence(rng, name, dtype):
    model = scrambled(gc.Sequential(layer_lists(dtype)[name]), rng)
    assert_equals_forward(model, rng.normal(size=(3, 5, 3)).astype(dtype), dtype)


@loop_over("options", [{}, {"masked_outputs": "repeat"}, {"peepholes": True, "masked_outputs": "repeat"}])
@loop_over("learned", [False, True])
def test_masking_in_two_places(rng, options, learned):
    layers = [
        Masking(0.0),
        gc.LSTM(2, 4, num_layers=2, learn_initial_state=learned, dtype=np.float64, **options),
        Function("Relu"),
        Masking(0.0),
        gc.LSTM(4, 3, dtype=np.float64),
        gc.Linear(3, 2, dtype=np.float64),
    ]
    model = scrambled(gc.Sequential(layers), rng)
    x = rng.normal(size=(5, 9, 2)) * (rng.random((5, 9, 1)) < 0.6)
    x[0, :2] = 0  # the single sequence begins with masked steps
    assert_equals_forward(model, x, np.float64)


@pytest.mark.parametrize("mask_zero", [False, True])
def test_ids(rng, mask_zero):
    layers = [
        gc.Embedding(6, 3, mask_zero=mask_zero, dtype=np.float64),
        gc.LSTM(3, 4, dtype=np.float64),
        gc.Linear(4, 6, dtype=np.float64),
    ]
    model = scrambled(gc.Sequential(layers), rng)
    assert_equals_forward(model, rng.integers(0, 6, (3, 8)), np.float64)
    outputs = [model.stream().push(symbol) for symbol in (4, np.int8(4), np.array(4), 4.0, np.uint64(4))]
    assert all((y == outputs[0]).all() for y in outputs)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"learn_initial_state": True}])
def test_the_copy_model(rng, options):
    model = scrambled(gc.CopyLSTM(8, dtype=np.float64, **options), rng)
    x = rng.normal(size=(3, 7, model.lstm.input_size))
    assert_equals_forward(model, x, np.float64)
    assert_same_states(model.stream().state, model.as_sequential().stream().state[0], np.float64)


@pytest.mark.parametrize("batch", [None, 2])
def test_any_chunks_of_forward_and_stream_make_one_sequence(rng, batch):
    model = scrambled(gc.LSTM(3, 6, num_layers=2, dtype=np.float64), rng)
    x = rng.normal(size=(20, 3) if batch is None else (batch, 20, 3))
    whole, end, _ = model.forward(x)
    stream, chunks, t = model.stream(batch), [], 0
    while t < 20:
        n = int(rng.integers(1, 5))
        chunk = x[..., t : t + n, :]
        if rng.random() < 0.5:
            chunks.append(pushed(stream, chunk))
        else:
            y, stream.state, _ = model.forward(chunk, stream.state)
            chunks.append(y)
        t += n
    assert_same(np.concatenate(chunks, axis=-2), whole, np.float64)
    assert_same_states(stream.state, end, np.float64)


def test_all_magnitudes_of_finite_numbers(rng):
    """A sum that overflows does not count as an infinite input."""
    model = scrambled(gc.LSTM(3, 4), rng)
    x = (rng.choice([-1, 1], (40, 3)) * 10.0 ** rng.integers(-45, 39, (40, 3))).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        y, _, _ = model.forward(x)
        finite = np.isfinite(y).all(axis=1)
        t = len(finite) if finite.all() else int(finite.argmin())
        assert t > 5
        assert_same(pushed(model.stream(), x[:t]), y[:t], np.float32)


def test_a_long_sequence_does_not_drift(rng):
    model = gc.LSTM(3, 16)
    x = rng.normal(size=(5000, 3)).astype(np.float32)
    assert np.abs(pushed(model.stream(), x) - model.forward(x)[0]).max() < 1e-5
