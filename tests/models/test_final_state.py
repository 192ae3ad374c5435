"""Law: FinalState takes the state at the end of each direction's way, whatever the directions of the LSTM before it."""

import copy

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.layers import BatchNorm, Dropout, FinalState, Function, LSTMState, Step, SwapHalves
from glasscell.layers.base import Features
from glasscell.models import Sequential

B, T, I, H = 3, 6, 2, 4
LSTMS = {
    "forward": {},
    "reverse": {"reverse": True},
    "both": {"bidirectional": True},
    "stack": {"bidirectional": True, "num_layers": 2},
    "projected": {"bidirectional": True, "proj_size": 3},
    "processing": {"reverse": True, "outputs_in": "processing"},
}
EXPECTED = {"forward": "forward", "processing": "forward", "reverse": "reverse"}


def random(model, rng):
    model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    return model


@loop_over("between", [[], [Dropout(0.5)], [Function("Affine", 1.0, 0.0), Dropout(0.5)]], ids=len)
@loop_over("name", LSTMS)
def test_it_is_the_final_hidden_state(name, between, rng):
    lstm = gc.LSTM(I, H, dtype=np.float64, **LSTMS[name])
    model = random(Sequential([lstm, *between, FinalState()]), rng)
    x, lengths = rng.normal(size=(B, T, I)), None if name == "processing" else [6, 2, 4]
    _, (state,), _ = model.forward(x, lengths=lengths)
    expected = np.concatenate(state.h[-lstm.options.num_directions :], axis=-1)
    np.testing.assert_allclose(model(x, lengths=lengths), expected, rtol=0, atol=1e-15)
    assert model.layers[-1].directions == EXPECTED.get(name, "both")


@pytest.mark.parametrize(
    ("options", "part"), [({"keep": "forward"}, 0), ({"keep": "reverse"}, 1), ({"merge": "sum"}, None)]
)
def test_one_of_two_or_their_sum(options, part, rng):
    lstm = gc.LSTM(I, H, bidirectional=True, dtype=np.float64)
    model = random(Sequential([lstm, FinalState(**options), gc.Linear(H, 1, dtype=np.float64)]), rng)
    x = rng.normal(size=(B, T, I))
    h = model.forward(x)[1][0].h
    expected = h.sum(axis=0) if part is None else h[part]
    np.testing.assert_allclose(model(x), model.layers[2].forward(expected)[0], rtol=0, atol=1e-14)


def test_the_gradient_goes_back_to_both_ends(rng):
    model = random(Sequential([gc.LSTM(I, H, bidirectional=True, dtype=np.float64), FinalState()]), rng)
    x, dy = rng.normal(size=(B, T, I)), rng.normal(size=(B, 2 * H))
    y, _, tape = model.forward(x)
    dx = model.backward(tape, dy)[0]
    for at in [(0, 0, 0), (1, 3, 1), (2, 5, 0)]:
        moved = x.copy()
        moved[at] += 1e-6
        slope = ((model(moved) - y) * dy).sum() / 1e-6
        assert dx[at] == pytest.approx(slope, rel=1e-4)


@loop_over(
    ("lstm", "final", "own"),
    [
        ({"bidirectional": True}, "forward", "both"),
        ({"bidirectional": True}, "reverse", "both"),
        ({"reverse": True}, "forward", "reverse"),
        ({}, "reverse", "forward"),
        ({}, "both", "forward"),
        ({"reverse": True, "outputs_in": "processing"}, "reverse", "forward"),
    ],
)
def test_other_directions_than_those_of_the_lstm_are_refused(lstm, final, own):
    words = rf"'end' must have directions='{own}', as the LSTM before it, got '{final}'"
    with pytest.raises(ValueError, match=words):
        Sequential([gc.LSTM(I, H, **lstm), Dropout(0.1), FinalState(final)], ["lstm", "drop", "end"])


@pytest.mark.parametrize("merge", ["sum", "average", "multiply"])
def test_directions_that_are_merged_already_have_no_final_states(merge):
    with pytest.raises(
        ValueError, match=rf"'1' must have both directions side by side.*merge='{merge}'.*FinalState\(merge"
    ):
        Sequential([gc.LSTM(I, H, bidirectional=True, merge=merge), FinalState()])


def test_where_there_is_no_lstm_it_is_what_it_says(rng):
    x = rng.normal(size=(T, 4))
    for layers in (
        [],
        [gc.LSTM(4, 4, bidirectional=True), gc.Linear(8, 4)],
        [gc.LSTM(4, 4), SwapHalves()],
    ):
        model = Sequential([*layers, FinalState()])
        assert model.layers[-1] == FinalState("forward")
    np.testing.assert_array_equal(FinalState().forward(x)[0], x[-1])
    np.testing.assert_array_equal(FinalState("reverse").forward(x)[0], x[0])
    np.testing.assert_array_equal(FinalState(keep="reverse").forward(x)[0], x[0, 2:])
    np.testing.assert_array_equal(FinalState(merge="sum").forward(x)[0], x[-1, :2] + x[0, 2:])


def test_exchanged_directions_are_refused():
    """The first half is then that of the reverse direction."""
    lstm = gc.LSTM(4, 2, bidirectional=True)
    for options in ({}, {"directions": "both"}, {"directions": "forward"}, {"keep": "reverse"}):
        with pytest.raises(ValueError, match="'2' must be before the SwapHalves behind a bidirectional LSTM"):
            Sequential([lstm, SwapHalves(), FinalState(**options)])
    model = Sequential([gc.LSTM(4, 2, bidirectional=True), SwapHalves(), Dropout(0.1), SwapHalves(), FinalState()])
    assert model.layers[-1].directions == "both"


def test_the_final_state_in_processing_order_with_masks(rng, tmp_path):
    """Outputs in processing order begin with the last step, and masks with the first."""
    lstm = gc.LSTM(I, H, reverse=True, outputs_in="processing", dtype=np.float64)
    model = random(Sequential([lstm, FinalState()]), rng)
    x, mask = rng.normal(size=(B, T, I)), np.array([[1, 1, 1, 1, 0, 0], [0, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]], bool)
    model.save(tmp_path / "model.safetensors")
    for other in (model, gc.load(tmp_path / "model.safetensors"), copy.deepcopy(model)):
        y, (state,), tape = other.forward(x, mask=mask)
        np.testing.assert_allclose(y, state.h[0], rtol=0, atol=1e-15)
    dy = rng.normal(size=y.shape)
    dx, expected = (
        model.backward(tape, dy)[0],
        lstm.backward(tape.layers[0], None, LSTMState(dy[None], 0 * dy[None]))[0],
    )
    np.testing.assert_allclose(dx, expected, rtol=0, atol=1e-15)


def test_files_say_the_directions(tmp_path, rng):
    model = random(
        Sequential([gc.LSTM(I, H, bidirectional=True), BatchNorm(2 * H), FinalState(), gc.Linear(2 * H, 1)]), rng
    )
    model.save(tmp_path / "m.safetensors")
    other = gc.load(tmp_path / "m.safetensors")
    assert other.layers[2] == FinalState("both")
    x = rng.normal(size=(B, T, I))
    np.testing.assert_array_equal(other(x), model(x))


def test_other_layers_apply_the_mask_in_the_order_of_time(rng):
    """As in Keras: outputs in processing order and the mask are not brought into one order."""
    lstm = gc.LSTM(I, H, reverse=True, outputs_in="processing", dtype=np.float64)
    x, lengths = rng.normal(size=(B, T, I)), [6, 2, 4]
    outputs = lstm(x, lengths=lengths)
    y = Sequential([lstm, Step(-1)])(x, lengths=lengths)
    np.testing.assert_array_equal(y, outputs[np.arange(B), np.array(lengths) - 1])


@pytest.mark.parametrize("directions", ["forward", "reverse", "both"])
@pytest.mark.parametrize("processing_order", [False, True])
def test_the_end_of_reversed_outputs_is_the_last_one_if_they_begin_with_the_last_step(directions, processing_order):
    layer = FinalState().behind(Features(directions, processing_order=processing_order))
    changes = directions == "reverse" and processing_order
    assert layer.directions == ("forward" if changes else directions)
