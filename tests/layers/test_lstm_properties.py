"""Law: with all options, an LSTM has correct gradients, its dtype, and results that share no memory."""

import numpy as np
import pytest
from comparison import assert_equal, assert_near
from hypothesis import assume, example, given
from hypothesis import strategies as st
from lstm_problems import Problem, assert_all_near, collected, law, lstm_options, problems, select_rows

from glasscell import LSTM, LSTMState
from glasscell.core.buffers import BufferPool


def kinks(activation):
    name, alpha, beta = activation.spec
    if name == "HardSigmoid":
        return [-beta / alpha, (1 - beta) / alpha]
    return {"Relu": [0], "LeakyRelu": [0], "Elu": [0], "Softsign": [0], "ThresholdedRelu": [alpha]}.get(name, [])


def sides(tape):
    """Return the side of each kink for all values; the function is smooth between points with equal sides."""
    masks = []
    for layer in tape.layers:
        if not hasattr(layer, "config"):  # the standard layer has no kinks
            continue
        config = layer.config
        for gate in config.gates:
            z = layer.z[:, layer.gate_rows(gate)]
            masks += [z > kink for kink in kinks(config.activation_for(gate))]
            masks += [np.abs(z) < config.clip] if config.clip else []
        masks += [layer.output_activation_input > kink for kink in kinks(config.output)]
    return masks


STEP_SIZES = (5e-6, 1e-6)  # the smaller one for layer normalisation of almost equal values: high fourth derivatives


def directional_derivative(problem, direction, step):
    """Return the derivative of the loss along a direction, by fourth-order finite differences."""
    variables = variables_of(problem)
    values = {name: variable.copy() for name, variable in variables.items()}

    def loss(k):
        for name, d in direction.items():
            variables[name][...] = values[name] + k * step * d
        y, final, tape = problem.forward()
        for name in direction:
            variables[name][...] = values[name]
        assume(all(np.array_equal(a, b) for a, b in zip(sides(tape), here, strict=True)))
        return np.vdot(problem.dy, y) + np.vdot(problem.dstate.h, final.h) + np.vdot(problem.dstate.c, final.c)

    here = sides(problem.forward()[2])
    return (8 * (loss(1) - loss(-1)) - (loss(2) - loss(-2))) / (12 * step)


def variables_of(problem):
    states = {} if problem.state is None else {"h0": problem.state.h, "c0": problem.state.c}
    return {"x": problem.x, **states, **problem.lstm.parameters}


@law(150)
@given(problems(), st.booleans(), st.integers(0, 2**16))
def test_backward_is_the_derivative(problem, training, pick):
    """Check one direction in all arrays at once, and one in a single array."""
    problem.noisy &= training
    dx, dstart, gradients = problem.lstm.backward(problem.forward()[2], problem.dy, problem.dstate)
    gradient = {"x": dx, "h0": dstart.h, "c0": dstart.c, **gradients}
    rng = np.random.default_rng(pick)
    all_directions = {name: rng.normal(size=array.shape) for name, array in variables_of(problem).items()}
    alone = sorted(all_directions)[pick % len(all_directions)]
    whole = np.sqrt(sum(np.vdot(gradient[name], gradient[name]) for name in all_directions))
    for direction in (all_directions, {alone: all_directions[alone]}):
        predicted = sum(np.vdot(gradient[name], d) for name, d in direction.items())
        scale = np.sqrt(sum(np.vdot(gradient[name], gradient[name]) for name in direction))
        tolerance = 1e-7 * max(scale, 1e-2 * whole)
        assert any(abs(directional_derivative(problem, direction, h) - predicted) <= tolerance for h in STEP_SIZES)


@law(30)
@given(problems())
def test_the_gradient_is_linear_in_the_incoming_gradients(problem):
    """Gradients on the outputs and on the final state add up; without either, all gradients are 0."""
    lstm, tape = problem.lstm, problem.forward()[2]
    both = collected(np.zeros(1), (), *lstm.backward(tape, problem.dy, problem.dstate))
    outputs = collected(np.zeros(1), (), *lstm.backward(tape, problem.dy))
    state = collected(np.zeros(1), (), *lstm.backward(tape, d_final_state=problem.dstate))
    assert_all_near([a + b for a, b in zip(outputs, state, strict=True)], both)
    assert not any(array.any() for array in collected(np.zeros(1), (), *lstm.backward(tape)))


@law(30)
@given(problems(T=(0, 5), B=(0, 3)))
def test_the_tape_may_be_used_twice_and_results_are_copies(problem):
    y, final, tape = problem.forward()
    first = collected(y, final, *problem.lstm.backward(tape, problem.dy, problem.dstate))
    kept = [array.copy() for array in first]
    assert_equal(collected(y, final, *problem.lstm.backward(tape, problem.dy, problem.dstate)), kept)
    for array in (*first, problem.x, problem.lstm.parameters.vector, *(problem.state or ())):
        array[...] = np.nan
    again = problem.lstm.backward(tape, problem.dy, problem.dstate)
    assert_equal(collected(np.zeros(1), (), *again)[1:], kept[3:])


@law(30)
@given(problems())
def test_arguments_are_not_modified(problem):
    given_arrays = [problem.x, problem.dy, *problem.dstate, *(problem.state or ()), *problem.given.values()]
    for array in (*given_arrays, problem.lstm.parameters.vector, *problem.lstm.parameters.values()):
        array.flags.writeable = False
    problem.results()


@law(40)
@given(problems(B=(1, 1), T=(0, 6)))
def test_a_single_sequence_equals_a_batch_of_one(problem):
    expected = problem.results()
    state, dstate = select_rows(problem.state, 0), select_rows(problem.dstate, 0)
    steps = {name: value[0] for name, value in problem.given.items()}
    y, final, tape = problem.lstm.forward(problem.x[0], state, **steps, rng=problem.noise())
    got = collected(y, final, *problem.lstm.backward(tape, problem.dy[0], dstate))
    assert [array.ndim for array in got[:-1]] == [2] * 6
    assert_equal([array.ravel() for array in got], [array.ravel() for array in expected])


@law(40)
@given(problems(B=(0, 3), T=(0, 3), steps=["all", "lengths", "mask"]))
def test_sequences_without_valid_steps_return_the_state_and_its_gradient(problem):
    y, h, c, dx, dh, dc, gradients = problem.results()
    config, empty = problem.lstm.options, ~problem.mask.any(axis=1)
    assert y.shape == (problem.B, problem.T, config.output_size)
    assert dx.shape == problem.x.shape
    assert h.shape == dh.shape == (len(config.directions), problem.B, config.state_size)
    assert c.shape == dc.shape == (len(config.directions), problem.B, config.hidden_size)
    for k, (suffix, _, _) in enumerate(config.directions):
        for name, end, start, d_end, d_start in (
            ("h", h, problem.state and problem.state.h, problem.dstate.h, dh),
            ("c", c, problem.state and problem.state.c, problem.dstate.c, dc),
        ):
            learned = problem.lstm.parameters[f"initial_{name}{suffix}"] if config.learn_initial_state else 0
            first = np.broadcast_to(learned, end[k].shape) if start is None else start[k]
            np.testing.assert_array_equal(end[k][empty], first[empty])
            np.testing.assert_array_equal(d_start[k][empty], d_end[k][empty])
    assert not dx[empty].any()
    if empty.all():
        assert not y.any()
        learned = problem.lstm.parameters.zeros_like()
        learned.vector[:] = gradients
        for name, gradient in learned.items():
            if name.startswith("initial"):
                k = [suffix for suffix, _, _ in config.directions].index(name[len("initial_h") :])
                d = getattr(problem.dstate, name[len("initial_")])[k].sum(axis=0)
                assert_near(gradient, d if problem.state is None else 0 * d)
            else:
                assert not gradient.any()


BUFFER_OPTIONS = [
    {"bidirectional": True, "merge": "multiply", "num_layers": 2, "engine": "numpy"},
    {"bidirectional": True, "merge": "multiply", "num_layers": 2, "engine": "numba"},
    {"reverse": True, "masked_outputs": "repeat", "learn_initial_state": True, "engine": "numpy"},
    {"reverse": True, "masked_outputs": "repeat", "learn_initial_state": True, "engine": "numba"},
    {"peepholes": True, "proj_size": 2, "layer_norm": "haste", "num_layers": 2, "dropout": 0.3},
    {"reverse": True, "masked_outputs": "repeat", "recurrent_dropout": 0.3, "bias": False},
]


@pytest.mark.parametrize("options", BUFFER_OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_feature_major_passes_read_nothing_of_an_earlier_pass_in_the_same_buffers(options, poison):
    """All memory is NaN before every pass, except the tape before a backward pass; shapes and masks differ."""
    if options.get("engine") == "numba":
        pytest.importorskip("numba")
    sizes = [(3, 5, "mask"), (3, 5, "all"), (3, 5, "all"), (2, 7, "lengths"), (3, 5, "mask"), (1, 1, "all")]
    buffers = BufferPool()
    for seed, (B, T, steps) in enumerate([*sizes, (3, 0, "all"), (1, 6, "lengths"), (2, 7, "lengths")]):
        problem = Problem({"input_size": 2, "hidden_size": 3, **options}, B, T, steps, seed % 2 == 0, 5)
        x, dy = (array.transpose(1, 2, 0).copy() for array in (problem.x, problem.dy))
        x *= problem.mask.T[:, None, :]
        valid = problem.mask.T if steps != "all" else None
        state = problem.state and LSTMState(*(part.swapaxes(1, 2) for part in problem.state))
        dstate = LSTMState(*(part.swapaxes(1, 2) for part in problem.dstate))
        got = []
        for memory in (buffers, None):
            poison(buffers)
            y, _, _, tape = problem.lstm.forward_feature_major(x, valid, state, problem.noise(), memory)
            y = y.copy()
            gradients = problem.lstm.parameters.zeros_like()
            gradients.vector[:] = np.nan  # all are written
            poison(buffers, tape)
            dx, dstart = problem.lstm.backward_with_state(tape, dy, dstate, gradients, memory)
            got.append([y, dx.copy(), *(np.array(part) for part in dstart), gradients.vector])
            other = gradients.zeros_like()
            poison(buffers, tape)
            problem.lstm.backward_with_state(tape, dy, dstate, other, memory, need_dx=False)
            np.testing.assert_array_equal(other.vector, gradients.vector)
            poison(buffers)
            inferred = problem.lstm.forward_feature_major(x, valid, state, None, memory, keep_tape=False)
            got[-1] += [inferred.outputs.copy(), *(np.array(part) for part in inferred.state)]
        assert_equal(*got)
        y, _, _, dx, dh, dc, gradients = problem.results()
        expected = [y.transpose(1, 2, 0), dx.transpose(1, 2, 0), dh.swapaxes(1, 2), dc.swapaxes(1, 2), gradients]
        assert_equal(got[0][:5], expected)


def arrays_in(record):
    """Return all arrays of floating-point numbers that can be reached from a record."""
    if isinstance(record, np.ndarray):
        return [record] if record.dtype.kind == "f" else []
    if isinstance(record, dict):
        parts = record.values()
    elif isinstance(record, tuple):
        parts = record
    else:
        parts = vars(record).values() if hasattr(record, "__dict__") and not callable(record) else ()
    return [array for part in parts for array in arrays_in(part)]


@law(60)
@given(problems())
def test_all_results_and_records_of_float32_are_float32(problem):
    single = problem.replace(dtype=np.float32)
    y, final, tape = single.forward()
    results = collected(y, final, *single.lstm.backward(tape, single.dy, single.dstate))
    assert {array.dtype for array in (*results, *arrays_in(tape))} == {np.dtype(np.float32)}
    assert len(arrays_in(tape)) >= 3 * len(tape.layers)
    assert all(np.isfinite(array).all() for array in results)


@law(60)
@given(problems(kinked=False))
def test_float32_is_close_to_float64(problem):
    """An epsilon of 0.1 bounds the amplification of rounding errors by layer normalisation."""
    if "layer_norm" in problem.options:
        problem = problem.replace(epsilon=0.1)
    single = problem.replace(dtype=np.float32)
    double = problem.replace(dtype=np.float64)
    double.lstm.parameters.vector[:] = single.lstm.parameters.vector
    double.x, double.dy = (array.astype(np.float64) for array in (single.x, single.dy))
    double.dstate = LSTMState(*(part.astype(np.float64) for part in single.dstate))
    double.state = single.state and LSTMState(*(part.astype(np.float64) for part in single.state))
    got, expected = single.results(), double.results()
    for a, b in zip(got[:3], expected[:3], strict=True):
        assert_near(a, b, 5e-6, least=1, same_dtype=False)
    assert_all_near(got[3:], expected[3:], 5e-5, same_dtype=False)


@law(60)
@given(lstm_options())
@example({"input_size": 2, "hidden_size": 3})
def test_options_that_are_not_the_default_define_the_same_lstm(options):
    lstm = LSTM(**options, seed=1)
    again = LSTM(**lstm.options.non_default(), seed=1)
    assert again.options == lstm.options
    np.testing.assert_array_equal(again.parameters.vector, lstm.parameters.vector)
    assert again.parameters.shapes == LSTM.shapes(**options)
