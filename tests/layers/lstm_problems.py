"""Draw LSTMs with all options, and problems for them, with Hypothesis; the numbers are NumPy's, of the drawn seed."""

import numpy as np
from comparison import assert_near
from hypothesis import settings
from hypothesis import strategies as st

from glasscell import LSTM, LSTMState

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


def assert_all_near(results, references, tolerance=1e-10, *, same_dtype=True):
    """Compare relative to the largest value of all arrays, since gradients may cancel in sums."""
    largest = max(np.abs(array).max(initial=0) for array in references)
    for result, expected in zip(results, references, strict=True):
        assert_near(result, expected, tolerance, least=largest, same_dtype=same_dtype)


def select_rows(state, rows):
    return None if state is None else LSTMState(state.h[:, rows], state.c[:, rows])


def state_of_directions(state, directions):
    return LSTMState(state.h[directions], state.c[directions])
