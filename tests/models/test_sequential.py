"""Law: a chain computes what its layers compute one after another, and its backward pass is the adjoint of that."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell import LSTM, CopyLSTM, Embedding, Linear, Sequential
from glasscell.layers import Dropout, FinalState, Function, LSTMState, Masking, Pool, Step, SwapHalves

D = np.float64
B, T, I = 4, 6, 3
LENGTHS = np.array([3, 6, 1, 4])

CHAINS = {
    "LSTM": lambda: [LSTM(I, 4, dtype=D)],
    "per step": lambda: [LSTM(I, 4, 2, dtype=D), Linear(4, 2, dtype=D), Function("Sigmoid")],
    "classifier": lambda: [LSTM(I, 4, bidirectional=True, dtype=D), FinalState("both"), Linear(8, 3, dtype=D)],
    "forward half": lambda: [
        LSTM(I, 4, bidirectional=True, dtype=D),
        FinalState("both", "forward"),
        Linear(4, 3, dtype=D),
    ],
    "last step": lambda: [LSTM(I, 4, dtype=D), Step(-1), Linear(4, 3, bias=False, dtype=D), Function("LogSoftmax")],
    "second step": lambda: [LSTM(I, 4, dtype=D), Step(1), Function("Softmax")],
    "mean": lambda: [Linear(I, 5, dtype=D), Function("Tanh"), LSTM(5, 4, dtype=D), Pool("mean"), Linear(4, 2, dtype=D)],
    "max": lambda: [LSTM(I, 4, dtype=D), LSTM(4, 3, reverse=True, dtype=D), Pool("max")],
    "swapped": lambda: [LSTM(I, 4, bidirectional=True, dtype=D), SwapHalves(), Step(0)],
    "masking": lambda: [Masking(0.0), LSTM(I, 4, dtype=D), FinalState()],
}


def random_chain(name, rng):
    model = Sequential(CHAINS[name]())
    model.parameters.vector[:] = rng.normal(scale=0.6, size=model.parameters.vector.size)
    return model


@loop_over("ragged", [False, True])
@loop_over("name", CHAINS)
def test_backward_is_the_adjoint_of_forward(name, ragged, rng):
    model, x = random_chain(name, rng), rng.normal(size=(B, T, I))
    lengths = LENGTHS if ragged else None
    count = sum(isinstance(layer, LSTM) for layer in model.layers)
    y, states, tape = model.forward(x, lengths=lengths)
    dy = rng.normal(size=y.shape)
    d_states = [LSTMState(*(rng.normal(size=part.shape) for part in state)) for state in states]
    dx, d_starts, gradients = model.backward(tape, dy, d_states)
    starts = [LSTMState(*(np.zeros_like(part) for part in state)) for state in states]
    at = [model.parameters.vector.copy(), x, *(part for start in starts for part in start)]
    along = [rng.normal(size=array.shape) for array in at]

    def loss(s):
        values = [array + s * direction for array, direction in zip(at, along, strict=True)]
        model.parameters.vector[:] = values[0]
        begin = [LSTMState(*values[2 + 2 * k : 4 + 2 * k]) for k in range(count)]
        y, finals, _ = model.forward(values[1], begin, lengths=lengths)
        own = sum(
            (d * part).sum() for pair in zip(d_states, finals, strict=True) for d, part in zip(*pair, strict=True)
        )
        return (dy * y).sum() + own

    step = 1e-4
    measured = (8 * (loss(step) - loss(-step)) - (loss(2 * step) - loss(-2 * step))) / (12 * step)
    d = [gradients.vector, dx, *(part for start in d_starts for part in start)]
    expected = sum((a * b).sum() for a, b in zip(d, along, strict=True))
    np.testing.assert_allclose(measured, expected, rtol=1e-7, atol=1e-8)


@loop_over("name", CHAINS)
def test_rows_alone_give_what_they_give_in_a_padded_batch(name, rng):
    model, x = random_chain(name, rng), rng.normal(size=(B, T, I))
    padded = np.where(np.arange(T)[:, None] < LENGTHS[:, None, None], x, np.nan)
    if name == "second step":  # the third row has no second step: its first is taken
        padded, lengths = np.delete(padded, 2, axis=0), np.delete(LENGTHS, 2)
    else:
        lengths = LENGTHS
    together = model(padded, lengths=lengths)
    for b, length in enumerate(lengths):
        alone = model(padded[b, :length])
        np.testing.assert_allclose(
            together[b, :length] if together.ndim == 3 else together[b], alone, rtol=0, atol=1e-14
        )


@loop_over("name", CHAINS)
def test_save_then_load_is_the_identity(name, rng, tmp_path):
    model, x = random_chain(name, rng), rng.normal(size=(B, T, I))
    model.save(tmp_path / "m.safetensors")
    loaded = Sequential.load(tmp_path / "m.safetensors")
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded.parameters.vector, model.parameters.vector)
    np.testing.assert_array_equal(loaded(x), model(x))


def test_an_embedding_looks_up_and_its_gradient_adds_up(rng):
    model = Sequential(
        [Embedding(5, 3, mask_zero=True, dtype=D), LSTM(3, 4, dtype=D), FinalState()], ["table", "lstm", "end"]
    )
    ids = np.array([[1, 2, 2, 0], [3, 0, 0, 0], [4, 1, 3, 2]])
    y, _, tape = model.forward(ids)
    np.testing.assert_allclose(y[1], model(np.array([3])), rtol=0, atol=1e-15)  # 0 is padding
    dy = rng.normal(size=y.shape)
    dx, _, gradients = model.backward(tape, dy)
    assert dx is None
    table = model.parameters["table.weight"]
    for symbol, column in [(0, 0), (2, 1), (3, 2)]:
        step, before = 1e-6, table[symbol, column]
        values = []
        for s in (step, -step):
            table[symbol, column] = before + s
            values.append((dy * model(ids)).sum())
        table[symbol, column] = before
        assert gradients["table.weight"][symbol, column] == pytest.approx(
            (values[0] - values[1]) / (2 * step), abs=1e-8
        )
    assert not gradients["table.weight"][0].any()


def test_dropout_acts_with_a_generator_alone(rng):
    model = Sequential([Linear(I, 50, dtype=D), Dropout(0.4)])
    x = rng.normal(size=(B, T, I))
    plain = model(x)
    noisy, _, tape = model.forward(x, rng=np.random.default_rng(1))
    kept = noisy != 0
    np.testing.assert_allclose(noisy[kept], plain[kept] / 0.6)
    assert 0.5 < kept.mean() < 0.7
    dx, _, _ = model.backward(tape, np.ones_like(plain))
    np.testing.assert_allclose(dx, (kept / 0.6) @ model.parameters["0.weight"])


def test_a_sequence_without_a_step_ends_in_zero():
    model = Sequential([LSTM(I, 4, bidirectional=True, dtype=D), FinalState("both")])
    assert not model(np.ones((2, T, I)), lengths=[0, 3])[0].any()
    with pytest.raises(ValueError, match="without a step"):
        Sequential([LSTM(I, 4), Pool()])(np.ones((2, T, I)), lengths=[0, 3])


def test_the_layers_live_in_one_vector(rng):
    lstm = LSTM(I, 4)
    model = Sequential([lstm, Linear(4, 2)], ["encoder", "head"])
    assert list(model.parameters) == ["encoder.kernel_l0", "head.weight", "head.bias"]
    x = rng.normal(size=(B, T, I))
    before = model(x)
    model.parameters.vector *= 0.5
    assert np.shares_memory(lstm.parameters["kernel_l0"], model.parameters.vector)
    assert np.abs(model(x) - before).max() > 1e-3
    assert list(model.to_torch()) == [
        *("encoder.weight_ih_l0", "encoder.weight_hh_l0", "encoder.bias_ih_l0", "encoder.bias_hh_l0"),
        *("head.weight", "head.bias"),
    ]


def test_a_copy_model_as_a_chain_gives_its_logits(rng):
    model = CopyLSTM(hidden_size=6, learn_initial_state=True, dtype=D)
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
    chain, x = model.as_sequential(), rng.normal(size=(B, T, model.lstm.input_size))
    np.testing.assert_array_equal(chain.forward(x)[0], model.forward(x)[0])
    np.testing.assert_array_equal(chain(x), model(x))
    chain.parameters.vector[:] = 0
    assert model.parameters.vector.all()


@loop_over(
    ("make", "words"),
    [
        (lambda: Sequential([]), ["needs a layer"]),
        (lambda: Sequential([LSTM(I, 4), Linear(5, 2)]), ["'1'", "5 features", "'0'", "gives 4"]),
        (lambda: Sequential([LSTM(I, 4), Linear(4, 2, dtype=D)]), ["float32", "float64"]),
        (lambda: Sequential([LSTM(I, 4), "relu"]), ["'1'", "str"]),
        (lambda: Sequential([LSTM(I, 4), Embedding(3, 4)]), ["'1'", "first"]),
        (lambda: Sequential([LSTM(I, 4)], ["a", "b"]), ["1 layers", "different names"]),
        (lambda: Sequential([LSTM(I, 4), Step()], ["a", "a"]), ["different names"]),
        (lambda: Sequential([LSTM(I, 4), Step()], ["a", "a.b"]), ["'a'", "beginning"]),
        (
            lambda: Sequential([LSTM(I, 4, bidirectional=True), FinalState("both", "reverse"), Linear(8, 2)]),
            ["gives 4"],
        ),
        (lambda: Function("Swish"), ["name must be one of Sigmoid, ", "Gelu, ", ", Softmax, LogSoftmax, got 'Swish'"]),
        (lambda: Function("Relu", 0.5), ["Relu", "no alpha"]),
        (lambda: Pool("median"), ["'median'", "'mean'"]),
        (lambda: Dropout(1.0), ["rate", "below 1"]),
        (lambda: FinalState("backward"), ["'backward'"]),
        (lambda: Sequential([Embedding(3, 4)])([[0, 3]]), ["0 to 2", "0 to 3"]),
        (lambda: Sequential([Embedding(3, 4)])([[0.5, 1]]), ["integers", "float64"]),
        (lambda: Sequential([LSTM(I, 4)])(np.ones(3)), ["(3,)", "(B, T, I) or (T, I)"]),
        (lambda: Sequential([LSTM(I, 4), Step(9)])(np.ones((T, I))), ["no step 9", "6 steps"]),
        (lambda: Sequential([LSTM(I, 4)]).forward(np.ones((T, I)), [None, None]), ["2 entries", "1 recurrent"]),
        (lambda: Sequential([LSTM(I, 4)])(np.full((T, I), np.nan)), ["finite"]),
    ],
)
def test_errors_say_what_was_given_and_what_is_expected(make, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        make()
    assert all(word in str(caught.value) for word in words), caught.value


def damaged(model, change):
    config, weights = model.config, model.to_torch()
    change(config, weights)
    return config, weights


@loop_over(
    ("change", "words"),
    [
        (lambda c, w: c["layers"][0].update(kind="Attention"), ["'Attention'", "known are"]),
        (lambda c, w: c["layers"][0].update(hidden_size=10**9), ["more weights than there are"]),
        (lambda c, w: c["layers"][0].update(num_layers=10**12), ["more weights than there are"]),
        (lambda c, w: c["layers"][0].update(wings=2), ["no option 'wings'"]),
        (lambda c, w: w.pop("head.bias"), ["'head.bias'", "missing"]),
        (lambda c, w: w.update({"tail.bias": np.zeros(3)}), ["'tail.bias'", "does not belong"]),
    ],
)
def test_configurations_that_do_not_fit_the_weights_are_refused(change, words):
    model = Sequential([LSTM(I, 4), Linear(4, 2)], ["encoder", "head"])
    config, weights = damaged(model, change)
    with pytest.raises((ValueError, TypeError)) as caught:
        Sequential.from_weights(config, weights)
    assert all(word in str(caught.value) for word in words), caught.value
