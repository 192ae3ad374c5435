"""Law: noise of an LSTM has the rate, the masks and the expectation that its options specify."""

import numpy as np
import pytest
from comparison import assert_equal, assert_near
from hypothesis import given
from lstm_problems import RATES, Problem, collected, law, problems, select_rows, state_of_directions

from glasscell import LSTM, LSTMState


@law(30)
@given(problems())
def test_passes_without_a_generator_are_deterministic(problem):
    """Evaluation is deterministic; dropout does nothing, and zoneout mixes by its rate."""
    quiet = problem.replace(dropout=0.0, input_dropout=0.0, recurrent_dropout=0.0)
    problem.noisy = quiet.noisy = False
    expected = problem.results()
    assert_equal(problem.results(), expected)
    assert_equal(quiet.results(), expected)


@law(30)
@given(problems(noise=False))
def test_rates_of_0_draw_no_random_numbers(problem):
    expected = problem.results()
    rng = np.random.default_rng(1)
    y, final, tape = problem.lstm.forward(problem.x, problem.state, **problem.given, rng=rng)
    assert_equal(collected(y, final, *problem.lstm.backward(tape, problem.dy, problem.dstate)), expected)
    assert rng.bit_generator.state == np.random.default_rng(1).bit_generator.state


@pytest.mark.parametrize("rate", RATES)
def test_noise_depends_on_the_seed_of_the_generator(rate):
    problem = Problem({"input_size": 4, "hidden_size": 5, "num_layers": 2, rate: 0.4}, 3, 6, "all", True, 0)

    def outputs(seed):
        return problem.lstm.forward(problem.x, problem.state, rng=np.random.default_rng(seed))[0]

    np.testing.assert_array_equal(outputs(1), outputs(1))
    assert not np.array_equal(outputs(1), outputs(2))
    assert not np.array_equal(outputs(1), problem.lstm.forward(problem.x, problem.state)[0])
    rng = np.random.default_rng(1)  # shared by two passes, whose noise differs
    first, second = (problem.lstm.forward(problem.x, problem.state, rng=rng)[0] for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_input_dropout_uses_one_mask_for_all_steps_of_a_sequence(bidirectional):
    """Masks differ between directions; the outputs equal those of masked inputs."""
    options = {"input_size": 3, "hidden_size": 4, "bidirectional": bidirectional}
    problem = Problem(options | {"input_dropout": 0.5}, 6, 5, "mask", True, 3)
    y, final, tape = problem.forward()
    masks = [direction.input_mask for direction in tape.directions]
    for k, mask in enumerate(masks):
        assert mask.shape == (3, 6)
        assert set(np.unique(mask)) == {0, 2}
        assert not (mask == mask[:, :1]).all()
        reverse = {"reverse": True} if k else {}
        layer = LSTM(3, 4, dtype=np.float64, **reverse)
        layer.parameters.vector[:] = problem.lstm.parameters["kernel_l0" + "_reverse" * k].ravel()
        expected = layer.forward(
            problem.x * mask.T[:, None, :], state_of_directions(problem.state, [k]), **problem.given
        )
        assert_near(y[:, :, 4 * k : 4 * k + 4], expected[0])
        assert_near(final.c[k : k + 1], expected[1].c)
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_recurrent_dropout_uses_one_mask_for_all_steps_of_a_sequence():
    """The outputs equal those of masked recurrent weights; the initial state is masked, too."""
    problem = Problem({"input_size": 3, "hidden_size": 4, "recurrent_dropout": 0.5}, 6, 5, "all", True, 3)
    y, _, tape = problem.forward()
    mask = tape.layers[0].masks.recurrent
    assert mask.shape == (4, 6)
    assert set(np.unique(mask)) == {0, 2}
    assert not (mask == mask[:, :1]).all()
    for b in range(6):
        layer = LSTM(3, 4, dtype=np.float64)
        layer.parameters.vector[:] = problem.lstm.parameters.vector
        layer.parameters["kernel_l0"][:, :4] *= mask[:, b]
        assert_near(layer.forward(problem.x[b], select_rows(problem.state, b))[0], y[b])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_noise_has_the_rate_of_its_option_and_dropout_preserves_the_mean(rate):
    """The number of zeros is within five standard deviations of n · rate; draws differ along all axes."""
    B, T, I, H = 40, 30, 20, 25
    rates = dict.fromkeys(RATES, rate)
    problem = Problem({"input_size": I, "hidden_size": H, "num_layers": 2, **rates}, B, T, "all", False, 0)
    tape = problem.forward()[2]
    drawn = [
        *tape.dropout_masks,
        *(direction.input_mask for direction in tape.directions),
        *(layer.masks.recurrent for layer in tape.layers),
    ]
    zoneout = [part for layer in tape.layers for part in (layer.masks.new_h, layer.masks.new_c)]
    assert [part.shape for part in drawn] == [(T, H, B), (I, B), (H, B), (H, B), (H, B)]
    assert [part.shape for part in zoneout] == [(T, H, B)] * 4
    for part, kept in [*((part, 1 / (1 - rate)) for part in drawn), *((part, 1.0) for part in zoneout)]:
        assert set(np.unique(part)) == {0, kept}
        for axis in range(part.ndim):
            assert not (part == part.take([0], axis)).all()
        assert abs((part == 0).mean() - rate) <= 5 * np.sqrt(rate * (1 - rate) / part.size)
    for part in drawn:
        assert abs(part.mean() - 1) <= 5 * np.sqrt(rate / (1 - rate) / part.size)
    assert len({part.tobytes() for part in (*drawn, *zoneout)}) == 9


def test_zoneout_keeps_or_replaces_the_state_of_a_unit():
    """Independently for h and c: after one step, each is the previous state or the one without zoneout."""
    options = {"input_size": 3, "hidden_size": 4}
    problem = Problem(options | {"zoneout": 0.5, "zoneout_cell": 0.5}, 50, 1, "all", True, 3)
    got, new = problem.forward()[1], problem.replace(zoneout=0.0, zoneout_cell=0.0).forward()[1]
    stayed = [after == before for after, before in zip(got, problem.state, strict=True)]
    for after, renewed, same in zip(got, new, stayed, strict=True):
        assert_near(after[~same], renewed[~same])
        assert 0.3 < same.mean() < 0.7
    assert (stayed[0] != stayed[1]).any()


@pytest.mark.parametrize("more", [{}, {"proj_size": 2, "peepholes": True}, {"coupled": "input"}], ids=str)
def test_zoneout_without_a_generator_equals_its_expectation(more):
    """The mean over sequences that differ only in their noise, after one step."""
    B = 20000
    options = {"input_size": 3, "hidden_size": 4, "zoneout": 0.3, "zoneout_cell": 0.6, **more}
    problem = Problem(options, 1, 1, "all", True, 3)
    state = LSTMState(*(np.repeat(part, B, axis=1) for part in problem.state))
    x = np.repeat(problem.x, B, axis=0)
    y, noisy, _ = problem.lstm.forward(x, state, rng=np.random.default_rng(0))
    expected_y, expected, _ = problem.lstm.forward(problem.x, problem.state)
    for part, mean in ((y.transpose(1, 0, 2), expected_y), (noisy.h, expected.h), (noisy.c, expected.c)):
        error = np.abs(part.mean(axis=1) - mean[:, 0])
        assert (error <= 5 * part.std(axis=1) / np.sqrt(B)).all()
        assert part.std(axis=1).min() > 0


def test_dropout_between_layers_does_not_drop_the_last_outputs():
    """Only the inputs of next layers are dropped: none with one layer."""
    problem = Problem({"input_size": 3, "hidden_size": 4, "dropout": 0.5}, 2, 5, "all", True, 0)
    tape = problem.forward()[2]
    assert tape.dropout_masks == ()
    assert_equal(problem.results(), problem.replace(dropout=0.0).results())
    stack = problem.replace(num_layers=3)
    y, _, tape = stack.forward()
    assert len(tape.dropout_masks) == 2
    assert y.all()
