"""Laws of RNN and GRU: gradients, padding, masks, dropout, states, copies, files and errors."""

import copy
import pickle

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.core.buffers import BufferPool
from glasscell.recurrent.rnn_tape import RNNState

B, T, I, H = 3, 6, 2, 3
D64 = {"dtype": np.float64}
CELLS = {
    "tanh": (gc.RNN, {}),
    "relu": (gc.RNN, {"nonlinearity": "relu"}),
    "gru": (gc.GRU, {}),
    "gru of the paper": (gc.GRU, {"reset_after": False}),
}
STACKS = {
    "one": {},
    "two layers": {"num_layers": 2},
    "both directions": {"bidirectional": True},
    "two layers in both directions, dropout": {"num_layers": 2, "bidirectional": True, "dropout": 0.4},
    "no bias": {"bias": False, "num_layers": 2},
}
MASK = np.array([[1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
STEPS = {"all": {}, "lengths": {"lengths": [4, 0, T]}, "a mask with gaps": {"mask": MASK}}


def layer_of(cell, rng, **options):
    kind, cell_options = CELLS[cell]
    layer = kind(I, H, **cell_options, **options, **D64)
    layer.parameters.vector[:] = rng.normal(size=layer.parameters.vector.size)  # non-zero biases, too
    return layer


def shapes(layer):
    return (layer.num_layers * (2 if layer.bidirectional else 1), B, H)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_finite_differences(cell, stack, steps, rng):
    layer = layer_of(cell, rng, **STACKS[stack])
    x, state = rng.normal(size=(B, T, I)), RNNState(rng.normal(size=shapes(layer)))
    dy, d_end = rng.normal(size=(B, T, layer.output_size)), RNNState(rng.normal(size=shapes(layer)))
    vector = layer.parameters.vector

    def forward():
        return layer.forward(x, state, **STEPS[steps], rng=np.random.default_rng(5))

    def loss():
        y, end, _ = forward()
        return (y * dy).sum() + (end.h * d_end.h).sum()

    dx, d_start, gradients = layer.backward(forward()[2], dy, d_end)
    for array, d in ((vector, gradients.vector), (x, dx), (state.h, d_start.h)):
        direction = rng.normal(size=array.shape)  # all derivatives in one direction, and some alone
        some = [np.zeros(array.shape) for _ in range(4)]
        for one in some:
            one.reshape(-1)[rng.integers(array.size)] = 1
        before = array.copy()
        for v in (direction, *some):
            sums = []
            for k in (1, -1, 2, -2):
                array[:] = before + k * 1e-4 * v
                sums.append(loss())
            array[:] = before
            difference = (8 * (sums[0] - sums[1]) - (sums[2] - sums[3])) / (12 * 1e-4)
            assert abs(difference - (d * v).sum()) <= 1e-8 * max(1, abs(difference))


@loop_over("stack", STACKS)
@loop_over("cell", CELLS)
def test_a_batch_equals_its_sequences_and_padding_is_ignored(cell, stack, rng):
    layer = layer_of(cell, rng, **STACKS[stack])
    x, lengths = rng.normal(size=(B, T, I)), [4, 0, T]
    start = RNNState(rng.normal(size=shapes(layer)))
    y, end, tape = layer.forward(x, start, lengths=lengths)
    dy = rng.normal(size=y.shape)
    dx, d_start, gradients = layer.backward(tape, dy, end)
    other = x.copy()
    other[0, 4:], other[1] = np.nan, np.inf
    assert all(np.array_equal(a, b) for a, b in zip(layer.infer(other, start, lengths=lengths), (y, end), strict=True))
    total = np.zeros_like(gradients.vector)
    for b, length in enumerate(lengths):
        y_b, end_b, tape_b = layer.forward(x[b, :length], RNNState(start.h[:, b]))
        np.testing.assert_allclose(y[b, :length], y_b, atol=1e-12)
        np.testing.assert_allclose(end.h[:, b], end_b.h, atol=1e-12)
        assert not y[b, length:].any()
        dx_b, d_b, one = layer.backward(tape_b, dy[b, :length], RNNState(end.h[:, b]))
        np.testing.assert_allclose(dx[b, :length], dx_b, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(d_start.h[:, b], d_b.h, rtol=1e-10, atol=1e-10)
        assert not dx[b, length:].any()
        total += one.vector
    np.testing.assert_allclose(gradients.vector, total, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("cell", CELLS)
def test_masked_steps_are_skipped(cell, rng):
    layer = layer_of(cell, rng, num_layers=2, bidirectional=True)
    x = rng.normal(size=(B, T, I))
    y, end, _ = layer.forward(x, mask=MASK)
    for b in range(B):
        y_b, end_b = layer.infer(x[b, MASK[b]])
        np.testing.assert_allclose(y[b, MASK[b]], y_b, atol=1e-12)
        np.testing.assert_allclose(end.h[:, b], end_b.h, atol=1e-12)
    assert not y[~MASK].any()


@pytest.mark.parametrize("cell", CELLS)
def test_chunks_with_a_carried_state_equal_the_whole_sequence(cell, rng):
    layer = layer_of(cell, rng, num_layers=2)
    x = rng.normal(size=(B, T, I))
    first, state = layer.infer(x[:, :2])
    second, end = layer.infer(x[:, 2:], state)
    whole, whole_end = layer.infer(x)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-13)
    np.testing.assert_allclose(end.h, whole_end.h, atol=1e-13)


def test_states_of_a_relu_do_not_grow_after_the_end_of_a_sequence():
    layer = gc.RNN(1, 1, nonlinearity="relu", seed=None, **D64)
    layer.parameters["kernel_l0"][:] = [[1e3, 1, 0]]
    _, end, tape = layer.forward(np.ones((2, 400, 1)), lengths=[3, 2])
    _, _, gradients = layer.backward(tape, np.ones((2, 400, 1)), end)
    assert np.isfinite(gradients.vector).all()
    assert end.h[0, 1, 0] == 1001


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_is_drawn_only_from_a_generator(cell, rng):
    layer = layer_of(cell, rng, num_layers=2, dropout=0.5)
    x = rng.normal(size=(B, T, I))
    y, noisy = layer(x), layer.forward(x, rng=np.random.default_rng(0))[0]
    assert not np.array_equal(y, noisy)
    np.testing.assert_array_equal(noisy, layer.forward(x, rng=np.random.default_rng(0))[0])
    np.testing.assert_array_equal(y, layer.forward(x)[0])


@loop_over("stack", STACKS)
@loop_over("dtype", [np.float32, np.float64])
@loop_over("cell", CELLS)
def test_copies_pickles_and_files_compute_the_same(cell, dtype, stack, rng, tmp_path):
    kind, options = CELLS[cell]
    layer = kind(I, H, **options, **STACKS[stack], dtype=dtype, seed=3)
    layer.parameters.vector[:] = rng.normal(size=layer.parameters.vector.size)
    layer.save(tmp_path / "layer.safetensors")
    x = rng.normal(size=(B, T, I)).astype(dtype)
    unpickled = pickle.loads(pickle.dumps(layer))  # noqa: S301 - made here
    for other in (copy.deepcopy(layer), unpickled, gc.load(tmp_path / "layer.safetensors")):
        np.testing.assert_array_equal(other(x), layer(x))
        assert (other.config, other.dtype, type(other)) == (layer.config, layer.dtype, kind)
        before = layer.parameters.vector.copy()
        other.parameters.vector[:] = 0
        assert not other(x).any()
        np.testing.assert_array_equal(layer.parameters.vector, before)


@pytest.mark.parametrize("initializer", ["orthogonal", "glorot", "uniform"])
@pytest.mark.parametrize("kind", [gc.RNN, gc.GRU])
def test_first_weights(kind, initializer):
    layer = kind(4, 5, num_layers=2, initializer=initializer, seed=1, **D64)
    assert np.array_equal(
        layer.parameters.vector, kind(4, 5, 2, initializer=initializer, seed=1, **D64).parameters.vector
    )
    assert not np.array_equal(layer.parameters.vector, kind(4, 5, 2, initializer=initializer, **D64).parameters.vector)
    kernel = layer.parameters["kernel_l1"]
    if initializer == "orthogonal":
        for gate in np.split(kernel[:, :5], len(layer.gates)):
            np.testing.assert_allclose(gate @ gate.T, np.eye(5), atol=1e-12)
    assert kernel[:, -1].any() == (initializer == "uniform")
    assert abs(layer.parameters.vector).max() <= (5**-0.5 if initializer == "uniform" else 1)
    assert not kind(4, 5, seed=None).parameters.vector.any()


@pytest.mark.parametrize("kind", [gc.RNN, gc.GRU])
def test_no_steps_and_no_sequences(kind):
    layer = kind(I, H, 2, bidirectional=True)
    for shape in ((0, T, I), (B, 0, I)):
        y, state, tape = layer.forward(np.zeros(shape))
        assert y.shape == (*shape[:2], 2 * H)
        dx, d_state, gradients = layer.backward(tape, y, state)
        assert dx.shape == shape
        assert d_state.h.shape == state.h.shape
        assert not gradients.vector.any()


@loop_over(
    ("kind", "arguments", "options", "error", "message"),
    [
        (gc.GRU, (0, 3), {}, ValueError, "input_size"),
        (gc.RNN, (2, -1), {}, ValueError, "hidden_size"),
        (gc.RNN, (2, 3, 0), {}, ValueError, "num_layers"),
        (gc.RNN, (2, 3, 5000), {}, ValueError, "num_layers must be at most 1024, got 5000"),
        (gc.RNN, (2, 3), {"nonlinearity": "sigmoid"}, ValueError, "nonlinearity"),
        (gc.GRU, (2, 3), {"reset_after": "yes"}, TypeError, "reset_after"),
        (gc.GRU, (2, 3), {"dropout": 1.5}, ValueError, "dropout"),
        (gc.GRU, (2, 3), {"nonlinearity": "relu"}, TypeError, "nonlinearity"),
        (gc.GRU, (2, 3), {"peepholes": True}, TypeError, "peepholes"),
        (gc.GRU, (2, 3), {"initializer": "ones"}, ValueError, "initializer"),
        (gc.RNN, (2, 3), {"dtype": "int32"}, (TypeError, ValueError), "dtype"),
    ],
)
def test_bad_options_are_refused(kind, arguments, options, error, message):
    with pytest.raises(error, match=message):
        kind(*arguments, **options)


@pytest.mark.parametrize("kind", [gc.RNN, gc.GRU])
def test_bad_arrays_are_refused(kind):
    layer, x = kind(I, H), np.zeros((B, T, I))
    y, state, tape = layer.forward(x)
    bad = x.copy()
    bad[1, 2, 0] = np.nan
    calls = {
        "x must be finite|NaN": lambda: layer(bad),
        r"x must have shape .* got \(3, 6, 3\)": lambda: layer(np.zeros((B, T, I + 1))),
        "lengths and mask must not": lambda: layer(x, lengths=[1, 2, 3], mask=np.ones((B, T), bool)),
        "lengths must be from 0": lambda: layer(x, lengths=[1, 2, 7]),
        r"state.h must have shape \(L, B, H\) = \(1, 3, 3\), got \(1, 2, 3\)": lambda: layer(
            x, RNNState(np.zeros((1, 2, 3)))
        ),
        r"state.h must have shape .*, got \(3, 3\)": lambda: layer(x, np.zeros((1, 3, 3))),
        r"state must be a tuple \(h,\), got LSTMState": lambda: layer(x, gc.LSTMState(state.h, state.h)),
        "rng must be": lambda: layer.forward(x, rng=3),
        "d_outputs must have shape": lambda: layer.backward(tape, y[:, 1:]),
        rf"tape must be the tape of {kind.__name__}.forward": lambda: layer.backward(y, y),
        "tape must be of": lambda: kind(I, H, bias=False).backward(tape, y),
        "takes 2 features": lambda: gc.Sequential([gc.Linear(2, 3), kind(I, H)]),
        "num_layers": lambda: kind.from_config({"input_size": 1, "hidden_size": 1, "num_layers": 9}, np.float32, 5),
    }
    for message, call in calls.items():
        with pytest.raises((TypeError, ValueError), match=message):
            call()


@pytest.mark.parametrize(("kind", "foreign"), [(gc.RNN, "reset_after"), (gc.GRU, "nonlinearity"), (gc.GRU, "foo")])
def test_an_unknown_option_is_refused_with_the_list_of_options(kind, foreign):
    names = {"input_size", "hidden_size", "num_layers", "bidirectional", "bias", "dropout", "initializer", "dtype"}
    names |= {"nonlinearity" if kind is gc.RNN else "reset_after", "seed", "parameters"}
    for call in (kind, kind.shapes):
        with pytest.raises(TypeError, match=f"^{kind.__name__} has no option '{foreign}'; it has ") as caught:
            call(2, 3, **{foreign: True})
        assert set(str(caught.value).partition("it has ")[2].split(", ")) == names


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "gru.safetensors"
    gc.GRU(I, H).save(path)
    with pytest.raises(ValueError, match="holds a 'GRU'; expected a 'RNN'"):
        gc.RNN.load(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"truncated|damaged|checksum|bytes"):
        gc.load(path)


@pytest.mark.parametrize("cell", CELLS)
def test_steps_after_the_end_of_a_sequence_have_no_gradients(cell, rng):
    """Only that on the state, which stays as it is, is passed on through them."""
    layer, gradients = layer_of(cell, rng), []
    x, dy, d_end = rng.normal(size=(T, I, B)), rng.normal(size=(T, H, B)), RNNState(rng.normal(size=(1, H, B)))
    lengths = np.array([4, 0, T])
    *_, tape = layer.forward(x.transpose(2, 0, 1), lengths=lengths)
    layer.backward_with_state(tape, dy, d_end, step_gradients=gradients)
    [steps] = [compute() for compute in gradients]
    for name in {*steps} - {"h", "y"}:
        d = steps[name].transpose(2, 0, 1)
        for b, length in enumerate(lengths):
            assert d[b, :length].any() == (length > 0)
            assert not d[b, length:].any()


@pytest.mark.parametrize("kind", [gc.RNN, gc.GRU])
def test_the_configuration_has_what_differs_from_the_defaults(kind):
    assert kind(2, 3).config == {"input_size": 2, "hidden_size": 3}
    options = {"num_layers": 2, "bidirectional": True, "bias": False, "dropout": 0.5}
    assert kind(2, 3, **options).config.items() >= options.items()


@pytest.mark.parametrize("kind", [gc.RNN, gc.GRU])
def test_gradients_at_steps_are_not_overwritten_by_a_later_pass_with_the_same_buffers(kind, rng):
    layer, buffers = kind(2, 3, dtype=np.float64, seed=0), BufferPool()
    tape = layer.forward_feature_major(rng.normal(size=(4, 2, 5)), buffers=buffers).tape
    collected = []
    layer.backward_with_state(tape, rng.normal(size=(4, 3, 5)), buffers=buffers, step_gradients=collected)
    [gradients] = collected
    before = {name: value.copy() for name, value in gradients().items()}
    layer.backward_with_state(tape, rng.normal(size=(4, 3, 5)), buffers=buffers, step_gradients=[])
    for name, value in before.items():
        np.testing.assert_array_equal(gradients()[name], value)
