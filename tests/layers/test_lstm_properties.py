"""Law: with all options, an LSTM has correct gradients, independent sequences, ignored padding and specified noise.

Hypothesis draws options, sizes and a seed; the numbers are NumPy's, of that seed.
"""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from glasscell import LSTM, LSTMState
from glasscell.core.buffers import BufferPool

FORWARD, REVERSE, BOTH = "forward", "reverse", "both"
BOUNDED = ["Sigmoid", "Tanh", ("ScaledTanh", 0.9, 1.2)]
SMOOTH = [*BOUNDED, ("Affine", 0.8, 0.1), "Softplus"]
KINKED = ["HardSigmoid", "Softsign", "Relu", ("LeakyRelu", 0.2), ("ThresholdedRelu", 0.3), ("Elu", 0.7)]
RATES = ("dropout", "input_dropout", "recurrent_dropout", "zoneout", "zoneout_cell")


def law(max_examples=60):
    return settings(derandomize=True, deadline=None, max_examples=max_examples)


class Problem:
    """An LSTM without parameters of 0, and the arguments of its forward and backward passes."""

    def __init__(self, options, B, T, steps, given_state, seed, dtype=np.float64):
        self.arguments = (options, B, T, steps, given_state, seed)
        self.options, self.B, self.T, self.dtype = options, B, T, np.dtype(dtype)
        self.noisy = any(options.get(rate) for rate in RATES)
        rng = np.random.default_rng(seed)
        self.lstm = random_lstm(options, rng, dtype)
        config = self.lstm.options

        def normal(*shape):
            return rng.normal(size=shape).astype(dtype)

        def state():
            directions = len(config.directions)
            return LSTMState(normal(directions, B, config.state_size), normal(directions, B, config.hidden_size))

        self.x, self.dy = normal(B, T, config.input_size), normal(B, T, config.output_size)
        self.dstate, self.state = state(), state() if given_state else None
        self.mask, self.given = np.ones((B, T), np.bool_), {}
        if steps == "lengths":
            self.given["lengths"] = rng.integers(0, T + 1, B)
            self.mask = np.arange(T) < self.given["lengths"][:, None]
        elif steps == "mask":
            self.given["mask"] = self.mask = rng.random((B, T)) < 0.6

    def __repr__(self):
        return f"Problem{self.arguments}"

    def replace(self, dtype=None, **changes):
        """Return the problem with other options; arrays whose shapes do not change keep their values."""
        _, *rest = self.arguments
        return Problem(self.options | changes, *rest, dtype=dtype or self.dtype)

    def noise(self):
        return np.random.default_rng(1) if self.noisy else None

    def forward(self):
        return self.lstm.forward(self.x, self.state, **self.given, rng=self.noise())

    def results(self):
        """Return outputs, final state, and the gradients on inputs, initial state and parameters."""
        y, final, tape = self.forward()
        return collected(y, final, *self.lstm.backward(tape, self.dy, self.dstate))

    def in_time(self, y):
        """Return outputs in time order."""
        return y[:, ::-1] if self.options.get("outputs_in") == "processing" else y


def random_lstm(options, rng, dtype=np.float64):
    lstm = LSTM(**options, dtype=dtype)
    for name, parameter in lstm.parameters.items():
        parameter[:] = rng.normal(loc=float(name.startswith("gain")), scale=0.4, size=parameter.shape)
    return lstm


def collected(y, final, dx, dstart, gradients):
    return [y, *final, dx, *dstart, gradients.vector]


@st.composite
def lstm_options(draw, directions=(FORWARD, REVERSE, BOTH), noise=True, layers=3, kinked=True):
    """Sizes of an LSTM, and options, each drawn or omitted."""

    def draw_some(**choices):
        for name, choice in choices.items():
            if draw(st.booleans()):
                drawn[name] = draw(choice)

    drawn = {
        "input_size": draw(st.integers(1, 3)),
        "hidden_size": draw(st.integers(1, 4)),
        "num_layers": draw(st.integers(1, layers)),
    }
    direction = draw(st.sampled_from(directions))
    if direction == BOTH:
        drawn["bidirectional"] = True
        draw_some(merge=st.sampled_from(["sum", "average", "multiply"]))
    elif direction == REVERSE:
        drawn["reverse"] = True
    draw_some(bias=st.just(False), learn_initial_state=st.just(True), masked_outputs=st.just("repeat"))
    if draw(st.booleans()):  # otherwise the standard layer
        if kinked:
            draw_some(clip=st.just(0.6))
        activations = SMOOTH + KINKED * kinked
        gates = activations if "clip" in drawn else BOUNDED + KINKED[:2] * kinked  # bounded: otherwise states grow
        gates, activations = st.sampled_from(gates), st.sampled_from(activations)
        draw_some(proj_size=st.integers(1, 5))
        if "proj_size" in drawn:
            draw_some(projection_bias=st.just(True))
        draw_some(
            peepholes=st.just(True),
            coupled=st.sampled_from(["input", "forget"]),
            gate_activation=gates,
            candidate_activation=activations,
            output_activation=activations,
            layer_norm=st.sampled_from(["haste", "tflite", "contrib"]),
        )
        if "coupled" not in drawn:
            draw_some(forget_gate=st.just(False))
        if "layer_norm" in drawn:
            draw_some(epsilon=st.just(0.1))
    if noise and draw(st.booleans()):
        draw_some(**dict.fromkeys(RATES, st.just(0.4)))
    return drawn


@st.composite
def problems(draw, steps=("all", "lengths", "mask"), B=(1, 4), T=(1, 6), **options):
    return Problem(
        draw(lstm_options(**options)),
        draw(st.integers(*B)),
        draw(st.integers(*T)),
        draw(st.sampled_from(steps)),
        draw(st.booleans()),
        draw(st.integers(0, 2**32 - 1)),
    )


def assert_near(result, expected, tolerance=1e-10, least=0.0):
    """Compare norm-wise: the largest difference, relative to the largest value or `least`."""
    assert result.shape == expected.shape
    assert np.abs(result - expected).max(initial=0) <= tolerance * max(least, np.abs(expected).max(initial=0))


def assert_all_near(results, references, tolerance=1e-10):
    """Compare relative to the largest value of all arrays, since gradients may cancel in sums."""
    largest = max(np.abs(array).max(initial=0) for array in references)
    for result, expected in zip(results, references, strict=True):
        assert_near(result, expected, tolerance, least=largest)


def assert_equal(results, references):
    for result, expected in zip(results, references, strict=True):
        np.testing.assert_array_equal(result, expected)


def select_rows(state, rows):
    return None if state is None else LSTMState(state.h[:, rows], state.c[:, rows])


# Calculus


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


# Sequences in time


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


def state_of_directions(state, directions):
    return LSTMState(state.h[directions], state.c[directions])


# Shapes


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


# Precision


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
        assert_near(a, b, 5e-6, least=1)
    assert_all_near(got[3:], expected[3:], 5e-5)


# Noise


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


# Options


@law(60)
@given(lstm_options())
@example({"input_size": 2, "hidden_size": 3})
def test_options_that_are_not_the_default_define_the_same_lstm(options):
    lstm = LSTM(**options, seed=1)
    again = LSTM(**lstm.options.non_default(), seed=1)
    assert again.options == lstm.options
    np.testing.assert_array_equal(again.parameters.vector, lstm.parameters.vector)
    assert again.parameters.shapes == LSTM.shapes(**options)
