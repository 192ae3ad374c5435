"""Laws of the network of 1997: its rule is the gradient with constant reads, on NumPy and compiled."""

import numpy as np
import pytest
from case_loops import loop_over
from online_cases import assert_near, forward_in_time

import glasscell as gc
from glasscell.core.packages import is_installed
from glasscell.online import MemoryBlocks

I, O, T = 3, 2, 6
NETWORKS = {
    "1997": {},
    "cells read": {"reads": "cells", "cells": 1},
    "2000": {"forget_gate": True, "input_to_output": True, "blocks": 3},
    "2a": {"output_gate": False, "reads": "none", "bias": False, "input_to_output": True, "h_range": None, "cells": 1},
    "no output gate": {"output_gate": False, "forget_gate": True, "g_range": (0, 1)},
    "no cell bias": {"forget_gate": True, "input_to_output": True, "blocks": 3, "cell_bias": False},
    "no block": {"blocks": 0, "input_to_output": True},
}
each_network = pytest.mark.parametrize("name", NETWORKS)


def network_of(name, rng, **options):
    network = MemoryBlocks(I, O, **{"seed": rng, "weight_range": 1.5, **NETWORKS[name], **options})
    assert network.parameters.vector.std() > 0.5
    return network


def loss(network, x, dy, reads=None):
    """Return Σ dy · y of a sequence, and what each step read; `reads`: the outputs of hidden units that it reads."""
    network.reset()
    total, record = 0.0, []
    for t in range(len(x)):
        if reads is not None:
            network.hidden_outputs = reads[t]
        record.append(network.hidden_outputs)
        total += float(dy[t] @ network.push(x[t]))
    return total, record


@each_network
def test_the_gradient_is_that_of_the_network_whose_reads_are_constants(name, rng):
    network = network_of(name, rng)
    x, dy = rng.normal(size=(T, I)), rng.normal(size=(T, O))
    forward_in_time(network, x, dy)
    gradient = network.gradients.vector.copy()
    _, reads = loss(network, x, dy)
    first, step = network.parameters.vector.copy(), 1e-4

    def at(direction, scale):
        network.parameters.vector[:] = first + scale * direction
        return loss(network, x, dy, reads)[0]

    for d in (*np.eye(len(first))[:: len(first) // 8], *rng.normal(size=(8, len(first)))):
        difference = (8 * (at(d, step) - at(d, -step)) - (at(d, 2 * step) - at(d, -2 * step))) / (12 * step)
        assert gradient @ d == pytest.approx(difference, rel=1e-8, abs=1e-9)
    assert gradient.all()


@each_network
def test_the_gradient_is_exact_if_nothing_is_read(name, rng):
    """By differences, and in what it computes: outputs do not depend on the outputs of the step before."""
    network = network_of(name, rng, reads="none")
    x, dy = rng.normal(size=(T, I)), rng.normal(size=(T, O))
    forward_in_time(network, x, dy)
    gradient = network.gradients.vector.copy()
    first, step, d = network.parameters.vector.copy(), 1e-4, rng.normal(size=network.parameters.vector.shape)

    def at(scale):
        network.parameters.vector[:] = first + scale * d
        return loss(network, x, dy)[0]

    difference = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
    assert gradient @ d == pytest.approx(difference, rel=1e-8)


@pytest.mark.parametrize("forget_gate", [False, True])
def test_with_one_cell_in_a_block_it_is_truncated1997_of_an_lstm(forget_gate, rng):
    """4 σ(z) - 2 = 2 tanh(z/2) and 2 σ(z) - 1 = tanh(z/2); the readout is a logistic layer."""
    H = 4
    network = MemoryBlocks(I, O, H, 1, forget_gate=forget_gate, reads="cells", weight_range=1.5, seed=rng)
    options = {"candidate_activation": ("ScaledTanh", 2.0, 0.5), "output_activation": ("ScaledTanh", 1.0, 0.5)}
    layer = gc.LSTM(I, H, forget_gate=forget_gate, dtype=np.float64, **options)
    rows = {"i": "input", "f": "forget", "o": "output", "g": "cells"}

    def to_lstm(parameters):
        return np.concatenate([parameters["hidden"][network.rows[rows[gate]]] for gate in layer.options.gates])

    layer.parameters["kernel_l0"][:] = to_lstm(network.parameters)
    learner = gc.online.Truncated1997(layer)
    V = network.parameters["output"]
    for x, dy in zip(rng.normal(size=(T, I)), rng.normal(size=(T, O)), strict=True):
        h = learner.push(x)
        y = 1 / (1 + np.exp(-V @ [*h, 1]))
        assert_near(network.push(x), y)
        network.learn(dy)
        learner.learn((V.T @ (dy * y * (1 - y)))[:H])
    assert_near(to_lstm(network.gradients), learner.gradients["kernel_l0"])


@each_network
@loop_over("every_step", [False, True])
@pytest.mark.skipif(not is_installed("numba"), reason="pip install -e '.[jit]'")
def test_compiled_training_is_the_definition(name, every_step, rng):
    x, lengths = rng.normal(size=(9, T, I)), rng.integers(1, T, 9, endpoint=True)
    x[rng.random(x.shape) < 0.3] = 0  # whose weights are passed over
    targets = rng.uniform(size=(9, T, O) if every_step else (9, O))
    seed = int(rng.integers(1000))
    numpy, compiled = (network_of(name, np.random.default_rng(seed), engine=engine) for engine in ("numpy", "numba"))
    first = numpy.parameters.vector.copy()
    assert_near(compiled.train(x, targets, 0.5, lengths), numpy.train(x, targets, 0.5, lengths))
    assert_near(compiled.parameters.vector, numpy.parameters.vector)
    assert np.abs(numpy.parameters.vector - first).max() > 0.01
    expected = numpy.run(x, lengths, every_step=every_step)
    assert_near(compiled.run(x, lengths, every_step=every_step), expected)
    assert_near(compiled.parameters.vector, numpy.parameters.vector)  # a run does not change them


@each_network
def test_training_is_a_loop_of_push_learn_and_update(name, rng):
    seed = int(rng.integers(1000))
    network, other = (network_of(name, np.random.default_rng(seed)) for _ in range(2))
    x, targets = rng.normal(size=(4, T, I)), rng.uniform(size=(4, T, O))
    outputs = network.train(x, targets, 0.3)
    for n in range(4):
        other.reset()
        for t in range(T):
            y = other.push(x[n, t])
            assert_near(outputs[n, t], y)
            other.learn(y - targets[n, t]).update(0.3)
    assert_near(network.parameters.vector, other.parameters.vector)


@each_network
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_training_on_a_stream_is_a_loop_that_continues_until_the_first_error(name, engine, rng):
    if engine == "numba" and not is_installed("numba"):
        pytest.skip("pip install -e '.[jit]'")
    seed = int(rng.integers(1000))
    network, other = (network_of(name, np.random.default_rng(seed), engine=engine) for _ in range(2))
    x, targets = rng.normal(size=(20, I)), rng.uniform(size=(20, O))
    rate, errors = 0.3, []
    for t in range(20):
        y = other.push(x[t])
        errors.append(np.abs(y - targets[t]).max())
        if t == 7:  # without an update
            continue
        other.learn(y - targets[t]).update(rate)
        rate *= 0.9
    tolerance = float(np.sort(errors[10:])[-2])  # the error of one step at least is larger
    end = 10 + int((np.array(errors[10:]) >= tolerance).argmax())

    assert network.train_stream(x[:7], targets[:7], 0.3, decay=0.9) == 7
    assert network.train_stream(x[7:8], targets[7:8], None) == 1
    assert network.train_stream(x[8:10], targets[8:10], 0.3 * 0.9**7, decay=0.9) == 2
    limits = {"decay": 0.9, "tolerance": tolerance}
    assert network.train_stream(x[10:], targets[10:], 0.3 * 0.9**9, **limits) == end - 10
    assert network.train_stream(x[end + 1 :], targets[end + 1 :], 0.3 * 0.9**end, decay=0.9) == 19 - end
    assert_near(network.parameters.vector, other.parameters.vector)
    assert_near(network.s, other.s)
    assert_near(network.hidden_outputs[: network.read], other.hidden_outputs[: network.read])
    for trace, expected in other.traces.items():
        assert_near(network.traces[trace], expected)
    with pytest.raises(RuntimeError, match=r"learn\(\) must follow a push\(\)"):
        network.learn(np.ones(O))
    network.reset()
    with pytest.raises(ValueError, match=r"targets must have shape \(T, O\) = \(20, 2\), got \(19, 2\)"):
        network.train_stream(x, targets[1:], 0.3)
    with pytest.raises(ValueError, match="decay must be at most 1, got 2"):
        network.train_stream(x, targets, 0.3, decay=2)
    with pytest.raises(ValueError, match=r"inputs must have shape \(T, I\) with I = 3, got \(20, 2\)"):
        network.train_stream(targets, targets, 0.3)


def test_numbers_of_weights_are_those_of_the_paper():
    """Experiment 2a of 1997 has 10,504 weights, experiments 4 and 5 have 93; the network of 2000 has 424."""
    lag = MemoryBlocks(101, 101, 1, 1, output_gate=False, reads="none", bias=False, input_to_output=True, h_range=None)
    assert lag.parameters.vector.size == 10_504
    assert MemoryBlocks(2, 1).parameters.vector.size == 93
    options = {"forget_gate": True, "reads": "cells", "cell_bias": False, "input_to_output": True}
    assert MemoryBlocks(7, 7, 4, 2, **options).parameters.vector.size == 424


def test_cells_without_a_bias(rng):
    """Law: it is the network with biases whose cells' biases are 0 and stay 0; gates and outputs keep theirs."""
    options = {"forget_gate": True, "input_to_output": True, "weight_range": 1.5, "forget_gate_bias": [1, 2]}
    network, other = (MemoryBlocks(I, O, **options, cell_bias=cell_bias, seed=rng) for cell_bias in (False, True))
    W, M = other.parameters["hidden"], 4
    W[:M, -1] = 0
    assert W[other.rows["forget"], -1].tolist() == [1, 2]
    network.parameters["hidden"][:] = W[:, :-1]
    network.parameters["gate_bias"][:] = W[M:, -1]
    network.parameters["output"][:] = other.parameters["output"]
    x, dy = rng.normal(size=(T, I)), rng.normal(size=(T, O))
    for x_t, dy_t in zip(x, dy, strict=True):
        np.testing.assert_array_equal(network.push(x_t), other.push(x_t))
        network.learn(dy_t)
        other.learn(dy_t)
    gradient = other.gradients["hidden"]
    assert gradient.all()
    assert_near(network.gradients["hidden"], gradient[:, :-1])
    assert_near(network.gradients["gate_bias"], gradient[M:, -1])
    assert_near(network.gradients["output"], other.gradients["output"])
    assert network.parameters.vector.size == other.parameters.vector.size - M
    assert MemoryBlocks(I, O, bias=False, cell_bias=False).parameters.keys() == {"hidden", "output"}


def test_first_weights():
    network = MemoryBlocks(2, 1, forget_gate=True, weight_range=0.2, input_gate_bias=[-3, -6], forget_gate_bias=[1, 2])
    W = network.parameters["hidden"]
    assert W[network.rows["input"], -1].tolist() == [-3, -6]
    assert W[network.rows["forget"], -1].tolist() == [1, 2]
    assert 0.1 < np.abs(W[network.rows["output"]]).max() <= 0.2
    assert np.abs(W[network.rows["input"], :-1]).max() <= 0.2
    np.testing.assert_array_equal(
        MemoryBlocks(2, 1, seed=3).parameters.vector, MemoryBlocks(2, 1, seed=3).parameters.vector
    )
    assert (MemoryBlocks(2, 1, seed=3).parameters.vector != MemoryBlocks(2, 1, seed=4).parameters.vector).all()


def test_bad_arguments_are_one_clear_error():
    for arguments, message in (
        ({"reads": "gates"}, "reads must be one of 'all', 'cells', 'none', got 'gates'"),
        ({"blocks": -1}, "blocks must be at least 0, got -1"),
        ({"cells": 0}, "cells must be at least 1, got 0"),
        ({"g_range": (1, -1)}, r"g_range must be from a lower to a higher number, got \(1, -1\)"),
        ({"h_range": (1, 2, 3)}, r"h_range must be two numbers, got \(1, 2, 3\)"),
        ({"weight_range": -1}, "weight_range must be finite and at least 0, got -1"),
        ({"input_gate_bias": [1]}, r"input_gate_bias must have one number for each of 2 blocks, got \[1\]"),
        ({"forget_gate_bias": [1, 1]}, "forget_gate_bias must be None for a network without that gate"),
        ({"bias": False, "input_gate_bias": [1, 1]}, "input_gate_bias must be None for a network without that gate or"),
        ({"engine": "c"}, "engine must be one of 'numpy', 'numba' or None"),
    ):
        with pytest.raises(ValueError, match=message):
            MemoryBlocks(2, 1, **arguments)
    network = MemoryBlocks(2, 1)
    with pytest.raises(RuntimeError, match=r"learn\(\) must follow a push\(\)"):
        network.learn([1.0])
    with pytest.raises(ValueError, match=r"x must have shape \(I,\) = \(2,\), got \(3,\)"):
        network.push([1, 2, 3])
    with pytest.raises(ValueError, match="learning_rate must be finite and above 0, got 0"):
        network.update(0)
    x = np.zeros((3, 4, 2))
    for arguments, message in (
        ((x[0], np.zeros((3, 1)), 1), r"inputs must have shape \(N, T, I\) with I = 2, got \(4, 2\)"),
        ((x, np.zeros((3, 2)), 1), r"targets must have shape \(N, O\) = \(3, 1\) or \(N, T, O\) = \(3, 4, 1\), got"),
        ((x[:, :0], np.zeros((3, 1)), 1), r"inputs must have at least one step, got shape \(3, 0, 2\)"),
        ((x, np.zeros((3, 1)), 1, [1, 2]), r"lengths must be 3 integers, got shape \(2,\)"),
        ((x, np.zeros((3, 1)), 1, [1, 2, 5]), "lengths must be from 1 to T = 4, got 1 to 5"),
        ((x, np.zeros((3, 1)), 1, [0, 2, 4]), "lengths must be from 1 to T = 4, got 0 to 4"),
        ((x * np.nan, np.zeros((3, 1)), 1), "inputs must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            network.train(*arguments)
    assert network.run(np.zeros((0, 4, 2))).shape == (0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"g_range": None}, "g_range must be two numbers, got None"),
        ({"h_range": 5}, "h_range must be two numbers, got 5"),
        ({"g_range": (-1e308, 1e308)}, "g_range must be from a lower to a higher number"),
        ({"weight_range": 1e308}, "weight_range must be at most half the largest number"),
    ],
    ids=str,
)
def test_ranges_that_are_no_ranges_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MemoryBlocks(2, 1, **options)
