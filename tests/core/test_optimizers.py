"""Each optimiser follows its algorithm, and 25 steps follow PyTorch's losses."""

from dataclasses import FrozenInstanceError
from math import sqrt
from typing import NamedTuple

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core import blocking, optimizers
from glasscell.core.losses import binary_cross_entropy
from glasscell.core.norms import clip_by_global_norm, clip_by_value, global_norm
from glasscell.core.optimizers import SGD, Adam, AdamW, RMSProp
from glasscell.core.parameters import Parameters
from glasscell.layers import LSTM, Linear

# The algorithms, for one parameter θ and its gradients d, in Python's own numbers. λ is the weight decay


def sgd(theta, gradients, rate, momentum=0.0, nesterov=False, decay=0.0):
    v = 0.0
    for gradient in gradients:
        d = gradient + decay * theta
        v = momentum * v + d
        theta -= rate * (d + momentum * v if nesterov else v)
    return theta


def rmsprop(theta, gradients, rate, alpha, epsilon, momentum=0.0, centered=False, decay=0.0):
    s = m = v = 0.0
    for gradient in gradients:
        d = gradient + decay * theta
        s = alpha * s + (1 - alpha) * d**2
        m = alpha * m + (1 - alpha) * d
        v = momentum * v + d / (sqrt(s - m**2 if centered else s) + epsilon)
        theta -= rate * v
    return theta


def adam(theta, gradients, rate, beta1, beta2, epsilon, decay=0.0, decoupled=0.0):
    m = s = 0.0
    for t, gradient in enumerate(gradients, start=1):
        theta -= rate * decoupled * theta
        d = gradient + decay * theta
        m = beta1 * m + (1 - beta1) * d
        s = beta2 * s + (1 - beta2) * d**2
        theta -= rate * (m / (1 - beta1**t)) / (sqrt(s / (1 - beta2**t)) + epsilon)
    return theta


class Case(NamedTuple):
    """An optimiser, the same by hand, and the same in PyTorch."""

    optimizer: object
    by_hand: tuple
    torch_optimizer: tuple


CASES = {
    "SGD": Case(SGD(0.5), (sgd, {"rate": 0.5}), ("SGD", {"lr": 0.5})),
    "SGD, weight decay": Case(
        SGD(0.5, weight_decay=0.1), (sgd, {"rate": 0.5, "decay": 0.1}), ("SGD", {"lr": 0.5, "weight_decay": 0.1})
    ),
    "momentum": Case(
        SGD(0.1, momentum=0.9, weight_decay=0.01),
        (sgd, {"rate": 0.1, "momentum": 0.9, "decay": 0.01}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ),
    "Nesterov": Case(
        SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        (sgd, {"rate": 0.1, "momentum": 0.9, "nesterov": True, "decay": 0.01}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ),
    "RMSProp": Case(
        RMSProp(),
        (rmsprop, {"rate": 0.01, "alpha": 0.99, "epsilon": 1e-8}),
        ("RMSprop", {}),
    ),
    "RMSProp, momentum": Case(
        RMSProp(1e-3, decay=0.9, momentum=0.9, weight_decay=0.01),
        (rmsprop, {"rate": 1e-3, "alpha": 0.9, "epsilon": 1e-8, "momentum": 0.9, "decay": 0.01}),
        ("RMSprop", {"lr": 1e-3, "alpha": 0.9, "momentum": 0.9, "weight_decay": 0.01}),
    ),
    "RMSProp, centered": Case(
        RMSProp(1e-3, decay=0.95, epsilon=1e-4, centered=True, weight_decay=0.01),
        (rmsprop, {"rate": 1e-3, "alpha": 0.95, "epsilon": 1e-4, "centered": True, "decay": 0.01}),
        ("RMSprop", {"lr": 1e-3, "alpha": 0.95, "eps": 1e-4, "centered": True, "weight_decay": 0.01}),
    ),
    "RMSProp, centered, momentum": Case(
        RMSProp(1e-3, decay=0.95, epsilon=1e-4, centered=True, momentum=0.9),
        (rmsprop, {"rate": 1e-3, "alpha": 0.95, "epsilon": 1e-4, "centered": True, "momentum": 0.9}),
        ("RMSprop", {"lr": 1e-3, "alpha": 0.95, "eps": 1e-4, "centered": True, "momentum": 0.9}),
    ),
    "Adam": Case(
        Adam(),
        (adam, {"rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}),
        ("Adam", {}),
    ),
    "Adam, weight decay": Case(
        Adam(1e-2, beta1=0.8, beta2=0.99, epsilon=1e-4, weight_decay=0.01),
        (adam, {"rate": 1e-2, "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-4, "decay": 0.01}),
        ("Adam", {"lr": 1e-2, "betas": (0.8, 0.99), "eps": 1e-4, "weight_decay": 0.01}),
    ),
    "AdamW": Case(
        AdamW(),
        (adam, {"rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "decoupled": 0.01}),
        ("AdamW", {}),
    ),
    "AdamW, weight decay": Case(
        AdamW(1e-2, weight_decay=0.3),
        (adam, {"rate": 1e-2, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "decoupled": 0.3}),
        ("AdamW", {"lr": 1e-2, "weight_decay": 0.3}),
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def run(optimizer, vector, gradients):
    state = optimizer.init_state(vector)
    for gradient in gradients:
        optimizer.update(vector, gradient, state)
    return vector


@each_case
@loop_over("steps", [0, 1, 2, 5])
def test_updates_match_the_algorithm(case, steps, rng):
    vector, gradients = rng.normal(size=7), rng.normal(size=(steps, 7))
    algorithm, hyperparameters = case.by_hand
    by_hand = [algorithm(theta, d, **hyperparameters) for theta, d in zip(vector.tolist(), gradients.T, strict=True)]
    np.testing.assert_allclose(run(case.optimizer, vector, gradients), by_hand, rtol=0, atol=1e-13)


@each_case
def test_a_rate_for_one_update_overrides_the_configured_rate(case, rng):
    start, gradient = rng.normal(size=(2, 7))
    quiet, moved = start.copy(), start.copy()
    case.optimizer.update(quiet, gradient, case.optimizer.init_state(quiet), learning_rate=0.0)
    np.testing.assert_array_equal(quiet, start)
    case.optimizer.update(moved, gradient, case.optimizer.init_state(moved), learning_rate=0.7)
    algorithm, hyperparameters = case.by_hand
    by_hand = [
        algorithm(theta, [d], **hyperparameters | {"rate": 0.7}) for theta, d in zip(start, gradient, strict=True)
    ]
    np.testing.assert_allclose(moved, by_hand, rtol=0, atol=1e-13)


@each_case
@loop_over("dtype", [np.float32, np.float64])
def test_updates_are_in_place_and_preserve_the_gradient(case, dtype, rng):
    vector, gradient = rng.normal(size=(2, 7)).astype(dtype)
    gradient.flags.writeable = False
    state = case.optimizer.init_state(vector)
    arrays, before = dict(state), vector.copy()
    with np.errstate(all="raise"):
        for _ in range(3):
            assert case.optimizer.update(vector, gradient, state) is None
    assert (vector != before).all()
    assert all(state[name] is array for name, array in arrays.items())
    assert {array.dtype for name, array in state.items() if name != "updates"} <= {np.dtype(dtype)}


@each_case
def test_states_of_two_runs_are_independent(case, rng):
    vector, gradients = rng.normal(size=7), rng.normal(size=(3, 7))
    first = run(case.optimizer, vector.copy(), gradients)
    np.testing.assert_array_equal(run(case.optimizer, vector.copy(), gradients), first)


@each_case
def test_a_zero_gradient_is_no_error(case):
    """No division by 0; and tiny gradients are let go to 0 in silence."""
    for size in (0.0, 1e-44):
        vector = np.ones(3, np.float32)
        with np.errstate(all="raise"):
            run(case.optimizer, vector, np.full((3, 3), size, np.float32))
        assert np.isfinite(vector).all()


@loop_over(
    ("kind", "name", "value"),
    [
        *((kind, "learning_rate", value) for kind in (SGD, RMSProp, Adam, AdamW) for value in (-0.1, np.inf, np.nan)),
        *((kind, "weight_decay", -1e-3) for kind in (SGD, RMSProp, Adam, AdamW)),
        *((kind, "momentum", value) for kind in (SGD, RMSProp) for value in (-0.1, 1.0)),
        *((RMSProp, name, value) for name, value in [("decay", 1.0), ("decay", -0.1), ("epsilon", -1e-8)]),
        *((kind, name, 1.0) for kind in (Adam, AdamW) for name in ("beta1", "beta2")),
        (Adam, "epsilon", -1e-8),
    ],
)
def test_invalid_hyperparameters_are_refused_by_name(kind, name, value):
    with pytest.raises(ValueError, match=rf"{kind.__name__}: {name} must be in .*{value!r}"):
        kind(**{name: value})


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="momentum must be above 0 for nesterov=True, got 0"):
        SGD(nesterov=True)


def test_hyperparameters_are_frozen():
    with pytest.raises(AttributeError):
        SGD().learning_rate = 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("step", [1, 2])
def test_compiled_updates_are_bit_identical(kind, step, dtype, rng):
    """Also of vectors with gaps, that cannot be written to or are of no length."""
    pytest.importorskip("numba")
    for size in (0, 1, 1003):
        vector = rng.normal(size=size).astype(dtype)
        gradients = rng.normal(size=(4, size)) * 10 ** rng.uniform(-6, 2, size=(4, size))

        def updated(engine, vector=vector, gradients=gradients, size=size):
            optimizer, memory = kind(0.1, weight_decay=0.01, engine=engine), np.zeros(size * step, dtype)
            weights = memory[::step]
            weights[:] = vector
            state = optimizer.init_state(weights)
            for gradient in gradients.astype(dtype):
                gradient.flags.writeable = False
                optimizer.update(weights, gradient, state)
            return [weights, *state.values()]

        for numba, numpy in zip(updated("numba"), updated("numpy"), strict=True):
            np.testing.assert_array_equal(numba, numpy)


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="got 'fortran'"):
        Adam(engine="fortran")


# Clipping


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [0.0, 0.3, 5.0, 1e3])
def test_clipping_by_norm(max_norm, dtype, rng):
    gradient = rng.normal(size=50).astype(dtype)
    before, norm = gradient.copy(), sqrt(sum(float(d) ** 2 for d in gradient))
    assert clip_by_global_norm(gradient, max_norm) == pytest.approx(norm, rel=1e-6)
    factor = min(1, max_norm / (norm + 1e-6))
    np.testing.assert_allclose(gradient, before * factor, rtol=1e-6)
    assert global_norm(gradient) <= max_norm


@pytest.mark.parametrize("excess", [-2e-6, 0.0])
def test_clipping_by_norm_at_the_limit(excess):
    """PyTorch's 1e-6: a norm that is only just allowed is scaled down, by a millionth."""
    gradient = np.array([0.6, 0.8])
    clip_by_global_norm(gradient, 1 - excess)
    np.testing.assert_allclose(gradient, np.array([0.6, 0.8]) * min(1, (1 - excess) / (1 + 1e-6)), rtol=1e-15)


def test_clipping_a_gradient_of_0():
    gradient = np.zeros(3)
    with np.errstate(all="raise"):
        assert clip_by_global_norm(gradient, 1.0) == 0
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_clipping_by_value():
    gradient = np.array([-3.0, -0.5, 0.0, 0.4, 2.0])
    assert clip_by_value(gradient, 0.5) is None
    np.testing.assert_array_equal(gradient, [-0.5, -0.5, 0, 0.4, 0.5])


# A real problem, compared with PyTorch

B, T, I, H, O = 4, 6, 3, 5, 2
TORCH_NAMES = ("weight_ih", "weight_hh", "bias_ih")


class SmallNetwork:
    """Two LSTM layers and a linear readout, binary cross-entropy, in float64."""

    def __init__(self, rng):
        shapes = {f"lstm.{name}": shape for name, shape in LSTM.shapes(I, H, 2).items()}
        shapes |= {f"readout.{name}": shape for name, shape in Linear.shapes(H, O).items()}
        self.parameters = Parameters(shapes, np.dtype(np.float64))
        self.lstm = LSTM(I, H, 2, dtype=np.float64, parameters=self.parameters.subset("lstm."))
        self.readout = Linear(H, O, dtype=np.float64, parameters=self.parameters.subset("readout."))
        self.parameters.vector[:] = rng.uniform(-0.5, 0.5, size=self.parameters.vector.size)
        self.x, self.targets = rng.normal(size=(B, T, I)), rng.integers(2, size=(B, T, O)).astype(float)

    def loss_and_gradient(self):
        h, _, lstm_tape = self.lstm.forward(self.x)
        logits, readout_tape = self.readout.forward(h)
        loss, dlogits = binary_cross_entropy(logits, self.targets)
        dh, of_readout = self.readout.backward(readout_tape, dlogits)
        _, _, of_lstm = self.lstm.backward(lstm_tape, dh)
        return loss, np.concatenate([of_lstm.vector, of_readout.vector])

    def losses(self, optimizer, steps, max_norm=None):
        state = optimizer.init_state(self.parameters.vector)
        losses = []
        for _ in range(steps):
            loss, gradient = self.loss_and_gradient()
            if max_norm is not None:
                clip_by_global_norm(gradient, max_norm)
            optimizer.update(self.parameters.vector, gradient, state)
            losses.append(loss)
        return losses

    def torch_modules(self, torch):
        """The same network in PyTorch, whose second bias is fixed at 0."""
        lstm = torch.nn.LSTM(I, H, 2, batch_first=True, dtype=torch.float64)
        readout = torch.nn.Linear(H, O, dtype=torch.float64)
        for layer, kernel in enumerate(self.lstm.parameters.values()):
            rows = kernel[np.r_[0 : 2 * H, 3 * H : 4 * H, 2 * H : 3 * H]]  # i f g o
            for name, weight in zip(TORCH_NAMES, (rows[:, H:-1], rows[:, :H], rows[:, -1]), strict=True):
                getattr(lstm, f"{name}_l{layer}").data = torch.tensor(weight)
            second_bias = getattr(lstm, f"bias_hh_l{layer}")
            second_bias.data = torch.zeros(4 * H, dtype=torch.float64)
            second_bias.requires_grad = False
        readout.weight.data = torch.tensor(self.readout.parameters["weight"])
        readout.bias.data = torch.tensor(self.readout.parameters["bias"])
        return lstm, readout

    def torch_losses(self, torch, name, hyperparameters, steps, max_norm=None):
        lstm, readout = self.torch_modules(torch)
        trained = [p for p in (*lstm.parameters(), *readout.parameters()) if p.requires_grad]
        optimizer = getattr(torch.optim, name)(trained, **hyperparameters)
        x, targets = torch.tensor(self.x), torch.tensor(self.targets)
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(readout(lstm(x)[0]), targets)
            loss.backward()
            if max_norm is not None:
                torch.nn.utils.clip_grad_norm_(trained, max_norm)
            optimizer.step()
            losses.append(loss.item())
        return losses


@each_case
def test_25_steps_follow_pytorchs_losses(case, torch, rng):
    network = SmallNetwork(rng)
    expected = network.torch_losses(torch, *case.torch_optimizer, steps=25)
    result = network.losses(case.optimizer, steps=25)
    assert abs(expected[-1] - expected[0]) > 1e-4
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["momentum", "Adam", "AdamW"])
def test_25_clipped_steps_follow_pytorchs_losses(name, torch, rng):
    network, case = SmallNetwork(rng), CASES[name]
    expected = network.torch_losses(torch, *case.torch_optimizer, steps=25, max_norm=0.05)
    result = network.losses(case.optimizer, steps=25, max_norm=0.05)
    assert abs(expected[-1] - expected[0]) > 1e-4
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_the_norm_of_very_small_and_very_large_gradients(size, dtype):
    gradient = np.full(10, size, dtype)
    with np.errstate(all="raise"):
        assert global_norm(gradient) == pytest.approx(size * 10**0.5, rel=1e-6)
        assert clip_by_global_norm(gradient, size) == pytest.approx(size * 10**0.5, rel=1e-6)


@pytest.mark.parametrize("optimizer", [Adam(0.1, weight_decay=0.1), AdamW(0.1), SGD(0.1, 0.9), RMSProp(0.1)])
def test_an_underflowing_gradient_is_no_error(optimizer):
    vector, gradient = np.full(3, 1e-38, np.float32), np.full(3, 1e-38, np.float32)
    with np.errstate(all="raise"):
        optimizer.update(vector, gradient, optimizer.init_state(vector))
    assert np.isfinite(vector).all()


BY_BLOCKS = [
    *(SGD(0.1), SGD(0.1, 0.9, weight_decay=0.1), SGD(0.1, 0.9, nesterov=True, weight_decay=0.1)),
    *(RMSProp(0.1, weight_decay=0.1), RMSProp(0.1, momentum=0.9, centered=True, weight_decay=0.1)),
]


@pytest.mark.parametrize("piece", [1, 3, 7, 8])
@pytest.mark.parametrize("optimizer", [Adam(0.1, weight_decay=0.1), AdamW(0.1), *BY_BLOCKS])
def test_updates_by_blocks_change_no_bit(optimizer, piece, monkeypatch, rng):
    vector, *gradients = rng.normal(size=(4, 7))

    def updated():
        weights, norms = vector.copy(), []
        state = optimizer.init_state(weights)
        for gradient in gradients:
            optimizer.update(weights, gradient, state)
            norms.append(global_norm(gradient))
        return weights, norms

    at_once = updated()
    monkeypatch.setattr("glasscell.core.norms.BLOCK_SIZE", piece)
    monkeypatch.setattr(blocking, "ELEMENTWISE_BLOCK_SIZE", piece)
    monkeypatch.setattr(optimizers, "ELEMENTWISE_BLOCK_SIZE", piece)
    weights, norms = updated()
    np.testing.assert_array_equal(weights, at_once[0])
    np.testing.assert_allclose(norms, at_once[1], rtol=1e-14)


@pytest.mark.parametrize("size", [5, 40])
def test_an_update_by_blocks_needs_memory_for_two_of_them(size, monkeypatch, rng):
    monkeypatch.setattr(optimizers, "ELEMENTWISE_BLOCK_SIZE", 16)
    vector, gradient = rng.normal(size=(2, size))
    shapes, empty = [], np.empty

    def watched(shape, *arguments):
        shapes.append(shape)
        return empty(shape, *arguments)

    monkeypatch.setattr(np, "empty", watched)
    SGD(0.1, weight_decay=0.1).update(vector, gradient, {})
    assert shapes == [(2, min(size, 16))]


@pytest.mark.parametrize("optimizer", [SGD(), RMSProp(), Adam(), AdamW()])
def test_optimizers_are_not_modified(optimizer):
    with pytest.raises(FrozenInstanceError):
        optimizer.learning_rate = 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_norm_of_an_empty_vector_is_0(dtype):
    assert global_norm(np.zeros(0, dtype)) == clip_by_global_norm(np.zeros(0, dtype), 1.0) == 0


def test_a_negative_variance_by_rounding_is_treated_as_0():
    """A gradient that is always the same has none: its mean square and its squared mean differ by rounding alone."""
    optimizer, gradient = RMSProp(0.0, decay=0.5, centered=True), np.linspace(0.1, 1e3, 997).astype(np.float32)
    vector = np.zeros_like(gradient)
    state = optimizer.init_state(vector)
    for _ in range(60):
        optimizer.update(vector, gradient, state)
    assert (state["square"] - state["mean"] * state["mean"] < 0).any()
    assert np.isfinite(vector).all()


def test_a_gradient_is_clipped_by_a_factor_that_float32_has_no_digits_for():
    gradient = np.array([3e38, -1e38, 2.0], np.float32)
    clip_by_global_norm(gradient, 1e-6)
    assert abs(np.linalg.norm(gradient) - 1e-6) < 1e-12
