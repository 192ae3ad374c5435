"""Laws of the rules that keep one unit's derivatives: when they are exact, and what they leave out."""

import numpy as np
import pytest
from case_loops import loop_over
from layer_examples import lstm_options
from online_cases import (
    BACKWARD,
    NOISE,
    H,
    I,
    assert_near,
    bptt,
    forward_in_time,
    lstm,
    random_state,
    sequence,
    with_random_weights,
)

import glasscell as gc
from glasscell.core import variants
from glasscell.online.lstm_step import weights_of
from glasscell.online.unit_traces import SUFFIX

ONE_LAYER = {
    name: value for name, value in lstm_options(proj_size=2).items() if name not in NOISE | BACKWARD | {"num_layers"}
}
ONE_LAYER |= {
    "standard": {},
    "i = 1 - f": {"coupled": "forget", "peepholes": True},
    "f = 1": {"forget_gate": False, "peepholes": True, "recurrent_bias": True},
    "everything": {"peepholes": True, "clip": 1.5, "recurrent_bias": True, "learn_initial_state": True},
}
WITHOUT_PROJECTION = {name: value for name, value in ONE_LAYER.items() if "proj_size" not in value}
CELLS = {
    "RNN": lambda H: gc.RNN(I, H, dtype=np.float64),
    "RNN, relu": lambda H: gc.RNN(I, H, nonlinearity="relu", bias=False, dtype=np.float64),
    "GRU": lambda H: gc.GRU(I, H, dtype=np.float64),
    "GRU without biases": lambda H: gc.GRU(I, H, bias=False, dtype=np.float64),
}
CELLS |= {
    f"LSTM, {name}": lambda H, options=options: gc.LSTM(I, H, dtype=np.float64, engine="numpy", **options)
    for name, options in WITHOUT_PROJECTION.items()
}


def gradients_of(rule, layer, x, dy, batch=None, state=None):
    learner = rule(layer, batch)
    learner.reset(state)
    forward_in_time(learner, x, dy)
    return learner.gradients


def set_recurrent(layer, keep):
    """Multiply the recurrent matrix of each gate by a matrix (H, P)."""
    kernel = layer.parameters["kernel_l0"]
    columns = kernel[:, : keep.shape[1]]
    for start in range(0, len(kernel), len(keep)):
        columns[start : start + len(keep)] *= keep


@loop_over("batch", [None, 2])
@loop_over("name", CELLS)
def test_snap1_is_exact_for_one_unit(name, batch, rng):
    layer = with_random_weights(CELLS[name](1), rng)
    x, dy = sequence(layer, rng, batch)
    for state in (None, random_state(layer, rng, batch)):
        exact = gradients_of(gc.online.RTRL, layer, x, dy, batch, state)
        assert_near(gradients_of(gc.online.SnAp1, layer, x, dy, batch, state).vector, exact.vector)


@loop_over("name", CELLS)
def test_snap1_is_exact_for_units_that_do_not_read_each_other(name, rng):
    layer = with_random_weights(CELLS[name](H), rng)
    x, dy = sequence(layer, rng, 2)
    exact = bptt(layer, x, dy)[2]
    approximate = gradients_of(gc.online.SnAp1, layer, x, dy, 2)
    assert np.abs(approximate.vector - exact.vector).max() > 1e-3  # units that read each other
    set_recurrent(layer, np.eye(H))
    # The weights outside the diagonal are 0; their gradients are those of other units' h, and are exact as well.
    exact = bptt(layer, x, dy)[2]
    assert_near(gradients_of(gc.online.SnAp1, layer, x, dy, 2).vector, exact.vector)


def rtrl_with_less(layer, x, dy, batch, omit):
    """Return the gradient of RTRL if `omit` sets some of its derivatives to 0 after each step, in place."""
    learner = gc.online.RTRL(layer, batch)
    for x_t, dy_t in zip(np.moveaxis(x, -2, 0), np.moveaxis(dy, -2, 0), strict=True):
        learner.push(x_t)
        omit(learner._layers[0].tangents, before_learning=True)
        learner.learn(dy_t)
        omit(learner._layers[0].tangents, before_learning=False)
    return learner.gradients.vector


@loop_over("name", CELLS)
def test_snap1_is_rtrl_without_what_a_weight_does_to_other_units(name, rng):
    layer = with_random_weights(CELLS[name](H), rng)
    x, dy = sequence(layer, rng, 2)
    units = np.concatenate([np.arange(view.size) // (view.size // len(view)) % H for view in layer.parameters.values()])
    assert len(units) == layer.parameters.vector.size

    def omit(tangents, *, before_learning):
        if before_learning:
            for d in tangents.values():
                np.multiply(d, (units == np.arange(H)[:, None])[:, None], out=d)

    snap = gradients_of(gc.online.SnAp1, layer, x, dy, 2).vector
    assert_near(snap, rtrl_with_less(layer, x, dy, 2, omit))


@loop_over(
    "name", [name for name, options in ONE_LAYER.items() if not {"peepholes", "learn_initial_state"} & set(options)]
)
def test_truncated1997_is_rtrl_without_the_derivatives_of_h_after_each_step(name, rng):
    layer = lstm(rng, **ONE_LAYER[name])
    x, dy = sequence(layer, rng, 2)

    def omit(tangents, *, before_learning):
        tangents["h"] *= before_learning

    truncated = gradients_of(gc.online.Truncated1997, layer, x, dy, 2).vector
    assert_near(truncated, rtrl_with_less(layer, x, dy, 2, omit))


@loop_over("name", ONE_LAYER)
def test_truncated1997_is_exact_if_nothing_reads_h_or_a_cell(name, rng):
    layer = lstm(rng, **ONE_LAYER[name])
    set_recurrent(layer, np.zeros((H, layer.output_size)))
    if "peepholes_l0" in layer.parameters:
        layer.parameters["peepholes_l0"][:] = 0
    x, dy = sequence(layer, rng, 2)
    state = random_state(layer, rng, 2)
    exact, truncated = bptt(layer, x, dy, state)[2], gradients_of(gc.online.Truncated1997, layer, x, dy, 2, state)
    assert_near(truncated.vector, exact.vector)
    if layer.options.proj_size is None:
        assert_near(truncated.vector, gradients_of(gc.online.SnAp1, layer, x, dy, 2, state).vector)


def truncated_loss(layer, x, dy, frozen, state):
    """Return Σ dy · h of a sequence, in which the gates and the candidate read the frozen h and cells.

    `frozen` has for each step h_prev, c_prev and ĉ as z reads them; it is extended if it is empty.
    """
    options = layer.options
    weights = weights_of(options, layer.parameters, SUFFIX)
    h, c = (np.asarray(field)[0][:, None] for field in state)
    record, loss = [], 0.0
    for t in range(len(x)):
        x_t = x[t][:, None]
        live = variants.forward(options.cell_config, weights, x_t[None], h, c)
        record.append((h, c, live.new_c[0]))
        h_read, c_read, new_c_read = frozen[t] if frozen else record[t]
        read = variants.forward(options.cell_config, weights, x_t[None], h_read, c_read)
        f, i, g = read.f[0], read.i[0], read.g[0]
        c = f * c + i * g
        o = output_gate(read, c_read=new_c_read)
        m = o * options.cell_config.output.function(c)
        h = m
        if "projection" in weights:
            h = weights["projection"] @ m
            if "projection_bias" in weights:
                h = h + weights["projection_bias"][:, None]
        loss += float(dy[t] @ h[:, 0])
    return loss, record


def output_gate(tape, c_read):
    """Return o, whose peephole reads `c_read`."""
    z = tape.kernel[tape.gate_rows("o")] @ np.concatenate([tape.h_with_initial[0], tape.x[0], np.ones_like(c_read[:1])])
    p = tape.peephole("o")
    z = z if p is None else z + p * c_read
    if tape.config.clip is not None:
        z = np.clip(z, -tape.config.clip, tape.config.clip)
    return tape.config.gate.function(z)


@loop_over("name", ONE_LAYER)
def test_truncated1997_is_the_gradient_in_which_h_and_the_cells_that_z_reads_are_constants(name, rng):
    """By differences of the loss, with those values frozen: in every weight at once, in five random directions."""
    layer = lstm(rng, **ONE_LAYER[name])
    layer.parameters.vector *= 0.5  # away from the kinks of some activations
    x, dy = sequence(layer, rng)
    learned = layer.options.learn_initial_state
    state = random_state(layer, rng, None)
    if learned:
        layer.parameters["initial_h_l0"][:], layer.parameters["initial_c_l0"][:] = state.h[0], state.c[0]
    gradient = gradients_of(gc.online.Truncated1997, layer, x, dy, None, None if learned else state).vector.copy()
    _, frozen = truncated_loss(layer, x, dy, [], state)
    first, step = layer.parameters.vector.copy(), 1e-5

    def loss(direction, scale):
        layer.parameters.vector[:] = first + scale * direction
        moved = state
        if learned:
            moved = layer.state_type(layer.parameters["initial_h_l0"][None], layer.parameters["initial_c_l0"][None])
        return truncated_loss(layer, x, dy, frozen, moved)[0]

    for _ in range(5):
        d = rng.normal(size=first.shape)
        # A difference of fourth order.
        difference = (8 * (loss(d, step) - loss(d, -step)) - (loss(d, 2 * step) - loss(d, -2 * step))) / (12 * step)
        assert gradient @ d == pytest.approx(difference, rel=1e-7, abs=1e-8)


def test_truncated1997_differs_from_the_exact_gradient_in_general(rng):
    layer = lstm(rng)
    x, dy = sequence(layer, rng)
    exact, truncated = bptt(layer, x, dy)[2].vector, gradients_of(gc.online.Truncated1997, layer, x, dy).vector
    cosine = exact @ truncated / np.linalg.norm(exact) / np.linalg.norm(truncated)
    assert 0.3 < cosine < 0.999


@pytest.mark.parametrize("rule", [gc.online.SnAp1, gc.online.Truncated1997])
def test_all_rules_agree_on_the_first_step(rule, rng):
    """Before a step back in time, nothing is left out."""
    layer = lstm(rng, peepholes=False)
    x, dy = sequence(layer, rng, None, 1)
    assert_near(gradients_of(rule, layer, x, dy).vector, bptt(layer, x, dy)[2].vector)


def test_layers_in_which_a_weight_acts_on_all_units_at_once_are_refused():
    with pytest.raises(ValueError, match="layer must have no proj_size=2: SnAp1 does not support it"):
        gc.online.SnAp1(gc.LSTM(I, H, proj_size=2))
    with pytest.raises(ValueError, match="layer must have no reset_after=False: SnAp1"):
        gc.online.SnAp1(gc.GRU(I, H, reset_after=False))
    for rule in (gc.online.SnAp1, gc.online.Truncated1997):
        with pytest.raises(ValueError, match="layer must have no num_layers=2"):
            rule(gc.LSTM(I, H, 2))
    with pytest.raises(TypeError, match="layer must be an LSTM, got a GRU"):
        gc.online.Truncated1997(gc.GRU(I, H))


def test_memory_and_shapes_of_traces_are_those_of_the_weights(rng):
    layer = lstm(rng, peepholes=True)
    learner = gc.online.SnAp1(layer, 2)
    learner.push(np.ones((2, I)))
    numbers = sum(trace.size for group in learner._traces.groups.values() for trace in group.traces.values())
    assert numbers == 2 * 2 * layer.parameters.vector.size
