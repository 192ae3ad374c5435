"""Law: with all options, sequences of an LSTM are independent, padding is ignored, and directions are exchangeable."""

import numpy as np
import pytest
from comparison import assert_equal, assert_near
from hypothesis import given
from hypothesis import strategies as st
from lstm_problems import (
    BOTH,
    FORWARD,
    REVERSE,
    Problem,
    assert_all_near,
    collected,
    law,
    problems,
    select_rows,
    state_of_directions,
)

from glasscell import LSTM, LSTMState
from glasscell.core.time_order import TimeOrder


@law()
@given(problems(directions=[FORWARD], noise=False, T=(0, 8)), st.lists(st.integers(0, 8), max_size=4))
def test_chunks_with_a_carried_state_equal_the_whole_sequence(problem, cuts):
    """The gradient on the state is carried backwards; lengths and masks are cut into chunks, too."""
    if problem.options.get("masked_outputs") == "repeat" and problem.given:
        problem = problem.replace(masked_outputs="zero")  # a chunk has no step to repeat before its first valid one
    expected = problem.results()
    ends = sorted(min(cut, problem.T) for cut in cuts)
    state, outputs, tapes = problem.state, [], []
    for chunk in np.split(np.arange(problem.T), ends):
        first = chunk[0] if len(chunk) else 0
        steps = {}
        if "lengths" in problem.given:
            steps = {"lengths": np.clip(problem.given["lengths"] - first, 0, len(chunk))}
        elif problem.given:
            steps = {"mask": problem.mask[:, chunk]}
        y, state, tape = problem.lstm.forward(problem.x[:, chunk], state, **steps)
        outputs.append(y)
        tapes.append((chunk, tape))
    d_state, d_inputs, total = problem.dstate, [], 0
    for chunk, tape in tapes[::-1]:
        d_input, d_state, gradients = problem.lstm.backward(tape, problem.dy[:, chunk], d_state)
        d_inputs.insert(0, d_input)
        total = total + gradients.vector
    got = [np.concatenate(outputs, axis=1), *state, np.concatenate(d_inputs, axis=1), *d_state, total]
    assert_all_near(got, expected)


@law()
@given(problems(noise=False, B=(0, 5)), st.randoms(use_true_random=False))
def test_a_permuted_batch_gives_permuted_results(problem, random):
    rows = np.array(random.sample(range(problem.B), problem.B), int)
    y, h, c, dx, dh, dc, gradients = problem.results()
    problem.x, problem.dy = problem.x[rows], problem.dy[rows]
    problem.state, problem.dstate = select_rows(problem.state, rows), select_rows(problem.dstate, rows)
    problem.given = {name: value[rows] for name, value in problem.given.items()}
    expected = [y[rows], h[:, rows], c[:, rows], dx[rows], dh[:, rows], dc[:, rows], gradients]
    assert_all_near(problem.results(), expected)


@law()
@given(problems(noise=False, steps=["lengths", "mask"]))
def test_a_ragged_batch_equals_its_sequences_without_invalid_steps(problem):
    """Padding and gaps are removed from each sequence; their inputs have gradients of 0."""
    problem.dy[~problem.in_time(problem.mask)] = 0
    y, h, c, dx, dh, dc, gradients = problem.results()
    y, dy = problem.in_time(y), problem.in_time(problem.dy)
    total = np.zeros_like(gradients)
    for b, valid in enumerate(problem.mask):
        state, dstate = select_rows(problem.state, b), select_rows(problem.dstate, b)
        y_b, final, tape = problem.lstm.forward(problem.x[b, valid], state)
        dx_b, dstart, gradients_b = problem.lstm.backward(tape, problem.in_time(dy[None, b, valid])[0], dstate)
        alone = [problem.in_time(y_b[None])[0], *final, dx_b, *dstart]
        assert_all_near([y[b, valid], h[:, b], c[:, b], dx[b, valid], dh[:, b], dc[:, b]], alone)
        total += gradients_b.vector
        assert not dx[b, ~valid].any()
        if problem.options.get("masked_outputs") != "repeat":
            assert not y[b, ~valid].any()
    assert_all_near([total], [gradients])


@law(40)
@given(problems(noise=False, steps=["lengths", "mask"]))
def test_repeated_outputs_equal_those_of_the_last_valid_step(problem):
    """In each direction; 0 before the first valid step. Their gradients are added to those of the repeated step."""
    if problem.options.get("merge"):
        problem = problem.replace(merge="concat")
    repeat, zero = problem.replace(masked_outputs="repeat"), problem.replace(masked_outputs="zero")
    y, dy = repeat.in_time(repeat.results()[0]), repeat.in_time(repeat.dy)
    y_zero, dy_zero = zero.in_time(zero.results()[0]), np.zeros_like(dy)
    directions = [reverse for _, _, reverse in zero.lstm.options.directions[-zero.lstm.options.num_directions :]]
    for half, reverse in zip(np.split(np.arange(y.shape[2]), len(directions)), directions, strict=True):
        for b, valid in enumerate(problem.mask):
            last, times = None, range(problem.T)
            for t in reversed(times) if reverse else times:
                last = t if valid[t] else last
                expected = 0 if last is None else y_zero[b, last, half]
                np.testing.assert_array_equal(y[b, t, half], expected)
                if last is not None:
                    dy_zero[b, last, half] += dy[b, t, half]
    zero.dy = zero.in_time(dy_zero)
    assert_all_near(repeat.results()[1:], zero.results()[1:])


@law(40)
@given(problems(noise=False, steps=["all", "lengths"]), st.integers(1, 4))
def test_padding_is_ignored(problem, more):
    """For all amounts and values of padding."""
    problem.dy[~problem.in_time(problem.mask)] = 0
    problem.given = {"lengths": problem.mask.sum(axis=1)}
    y, *expected = problem.results()
    x, dy = problem.x, problem.in_time(problem.dy)
    longer = np.pad(problem.mask, [(0, 0), (0, more)])
    for filling in (0.0, np.nan, np.inf, -np.inf, 1e308):
        problem.x = np.where(longer[:, :, None], np.pad(x, [(0, 0), (0, more), (0, 0)]), filling)
        problem.dy = problem.in_time(np.pad(dy, [(0, 0), (0, more), (0, 0)]))
        got = problem.results()
        assert_near(problem.in_time(got[0])[:, : problem.T], problem.in_time(y))
        assert not got[3][~longer].any()
        got[3] = got[3][:, : problem.T]
        assert_all_near(got[1:], expected)


def test_cell_states_do_not_grow_after_the_end_of_a_sequence(rng):
    """Forget gates of 1.5 would overflow within 300 steps of padding."""
    lstm = LSTM(2, 3, gate_activation=("Affine", 1.0, 1.5), bidirectional=True, dtype=np.float32, seed=1)
    x, dy, dstate = (
        rng.normal(size=(1, 300, 2)),
        rng.normal(size=(1, 300, 6)),
        LSTMState(*rng.normal(size=(2, 2, 1, 3))),
    )
    y, final, tape = lstm.forward(x, lengths=[2])
    padded = collected(y[:, :2], final, *lstm.backward(tape, dy, dstate))
    padded[3] = padded[3][:, :2]
    y, final, tape = lstm.forward(x[:, :2])
    assert_all_near(padded, collected(y, final, *lstm.backward(tape, dy[:, :2], dstate)), 1e-5)


@law(40)
@given(problems(steps=["all", "lengths"], T=(0, 6), B=(0, 4)))
def test_lengths_equal_a_mask(problem):
    lengths = problem.given.get("lengths", np.full(problem.B, problem.T))
    expected = problem.results()
    for steps in ({"lengths": lengths}, {"lengths": lengths.tolist()}, {"mask": problem.mask}):
        problem.given = steps
        assert_equal(problem.results(), expected)
    if problem.mask.all():
        problem.given = {}
        assert_equal(problem.results(), expected)


@law(40)
@given(problems(directions=[BOTH], noise=False))
def test_exchanged_directions_process_reversed_sequences_alike(problem):
    """With exchanged weights, the outputs of the reversed sequence are reversed, and their halves exchanged."""
    y, h, c, dx, dh, dc, _ = problem.results()
    concat = "merge" not in problem.options
    P, exchange = problem.lstm.options.state_size, np.arange(len(h)) ^ 1
    mirrored = problem.replace()
    for name, parameter in mirrored.lstm.parameters.items():
        other = name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"
        parameter[:] = problem.lstm.parameters[other]
        if name.startswith("kernel") and "_l0" not in name and concat:  # the halves of its inputs are exchanged, too
            parameter[:, P : 3 * P] = np.roll(parameter[:, P : 3 * P], P, axis=1)

    def exchanged(outputs):
        return np.roll(outputs[:, ::-1], P, axis=2) if concat else outputs[:, ::-1]

    mirrored.x, mirrored.dy, mirrored.given = problem.x[:, ::-1], exchanged(problem.dy), {"mask": problem.mask[:, ::-1]}
    mirrored.dstate = LSTMState(*(part[exchange] for part in problem.dstate))
    mirrored.state = problem.state and LSTMState(*(part[exchange] for part in problem.state))
    expected = [exchanged(y), h[exchange], c[exchange], dx[:, ::-1], dh[exchange], dc[exchange]]
    assert_all_near(mirrored.results()[:-1], expected)


@law(40)
@given(problems(directions=[REVERSE], noise=False))
def test_reverse_equals_forward_on_the_reversed_sequence(problem):
    y, h, c, dx, dh, dc, gradients = problem.results()
    forward = problem.replace(reverse=False)
    forward.x, forward.dy, forward.given = problem.x[:, ::-1], problem.dy[:, ::-1], {"mask": problem.mask[:, ::-1]}
    assert_all_near(forward.results(), [y[:, ::-1], h, c, dx[:, ::-1], dh, dc, gradients])


@law(30)
@given(problems(directions=[REVERSE], layers=1))
def test_outputs_in_processing_order_are_reversed_in_time(problem):
    y, *expected = problem.results()
    processing = problem.replace(outputs_in="processing")
    processing.dy = problem.dy[:, ::-1]
    got = processing.results()
    assert_equal(got, [y[:, ::-1], *expected])


def test_several_layers_in_processing_order_are_refused():
    """Each layer would reverse the outputs of the layer below."""
    with pytest.raises(ValueError, match="outputs_in='processing' must have num_layers=1, got 2"):
        LSTM(2, 3, 2, reverse=True, outputs_in="processing")


@pytest.mark.parametrize("options", [{}, {"peepholes": True}])
def test_the_gradient_on_inputs_is_omitted_on_request(options):
    problem = Problem({"input_size": 2, "hidden_size": 3, **options}, 4, 5, "all", False, 0)
    y, _, _, tape = problem.lstm.forward_feature_major(problem.x.transpose(1, 2, 0))
    dx = problem.lstm.backward_feature_major(tape, y, problem.lstm.parameters.zeros_like(), need_dx=False)
    assert dx.shape == (0, 2, 4)


@law(40)
@given(problems(noise=False))
def test_a_stack_equals_its_single_layers_and_directions(problem):
    """Layers run one after another; the outputs of directions are merged."""
    options, lstm = problem.lstm.options, problem.lstm
    y, final, _ = problem.forward()
    single = {k: v for k, v in problem.options.items() if k not in ("num_layers", "bidirectional", "merge", "reverse")}
    x, final_states = problem.x, []
    for k in range(0, len(options.directions), options.num_directions):
        outputs = []
        for suffix, I, reverse in options.directions[k : k + options.num_directions]:
            layer = LSTM(**single | {"input_size": I, "reverse": reverse}, dtype=np.float64)
            for name, parameter in layer.parameters.items():
                parameter[:] = lstm.parameters[name.removesuffix("_l0") + suffix]
            start = None if problem.state is None else state_of_directions(problem.state, [len(final_states)])
            output, end, _ = layer.forward(x, start, **problem.given)
            outputs.append(output)
            final_states.append(end)
        merged = {
            "concat": lambda outputs: np.concatenate(outputs, axis=2),
            "sum": sum,
            "multiply": np.prod,
            "average": np.mean,
        }
        merge = merged[options.merge]
        x = merge(outputs, axis=0) if options.merge in ("multiply", "average") else merge(outputs)
    assert_all_near([x, *(np.concatenate(part) for part in zip(*final_states, strict=True))], [y, *final])


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_the_compiled_engine_reads_sequences_with_ascending_lengths_where_they_are(engine, rng, monkeypatch):
    """It reads no step after the end of a sequence: nothing has to be set to 0 or moved before it runs."""
    pytest.importorskip("numba")
    moved = []

    def watched(name, method):
        def call(*arguments, **options):
            moved.append(name)
            return method(*arguments, **options)

        return call

    for name in ("is_in_order", "to_processing_order", "to_time_order_backward"):
        monkeypatch.setattr(TimeOrder, name, watched(name, getattr(TimeOrder, name)))
    layer = LSTM(2, 3, engine=engine)
    x, dy = (rng.normal(size=(3, 6, size)).astype(np.float32) for size in (2, 3))
    *_, tape = layer.forward(x, lengths=[2, 4, 6])
    layer.backward(tape, dy)
    assert bool(moved) == (engine == "numpy")
