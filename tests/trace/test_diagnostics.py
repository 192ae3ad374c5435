"""Laws: each measure equals its definition, computed by another method."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.trace import diagnostics

I, H, T = 3, 5, 7
KINDS = {
    "plain": {},
    "reverse": {"reverse": True},
    "peepholes and projection": {"peepholes": True, "proj_size": 3},
    "zoneout": {"zoneout": 0.2, "zoneout_cell": 0.3},
    "coupled and normalised gates": {"coupled": "input", "layer_norm": "tflite"},
    "no forget gate": {"forget_gate": False},
    "another output": {"output_activation": "Softsign"},
    "peepholes, normalised": {"peepholes": True, "layer_norm": "tflite"},
}


def layer_of(kind, rng, **options):
    lstm = gc.LSTM(I, H, dtype=np.float64, **KINDS.get(kind, {}), **options)
    lstm.parameters.vector[:] = rng.normal(size=lstm.parameters.vector.size) * 0.7
    x, y = rng.normal(size=(T, I)), rng.normal(size=(T, lstm.output_size))
    return lstm, x, y, lstm.trace(x, y).layer[0]


def test_saturation_counts_steps_below_and_above():
    gate = np.array([[0.05, 0.5, 0.95], [0.05, 0.91, 0.95], [0.2, 0.5, 0.05], [0.09, 0.1, 0.9]])
    left, right = diagnostics.saturation(gate)
    np.testing.assert_array_equal(left, [0.75, 0, 0.25])
    np.testing.assert_array_equal(right, [0, 0.25, 0.5])
    batch = np.stack([gate, np.where(np.arange(4)[:, None] < 2, gate, np.nan)])
    np.testing.assert_allclose(diagnostics.saturation(batch).left, [5 / 6, 0, 1 / 6])


@pytest.mark.parametrize("n", [0.5, 1.0, 7.0, 300.0])
def test_a_constant_gate_forgets_half_in_its_half_life(n):
    np.testing.assert_allclose(diagnostics.half_life(np.full((20, 2), 2 ** (-1 / n))), n, rtol=1e-12)


def test_half_life_is_that_of_the_running_product(rng):
    f = rng.uniform(0.3, 1, size=(T, H))
    np.testing.assert_allclose(0.5 ** (T / diagnostics.half_life(f)), f.prod(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(diagnostics.half_life(np.array([[1.0, 0.0], [1.0, 0.7]])), [np.inf, 0])
    padded = np.concatenate([f, np.full((3, H), np.nan)])
    np.testing.assert_allclose(diagnostics.half_life(padded[None]), diagnostics.half_life(f), rtol=1e-14)


def test_events_are_large_changes_of_the_cell(rng):
    layer = layer_of("plain", rng)[-1]
    write, erase = diagnostics.events(layer, threshold=0.1)
    kept = layer.f * layer.c_prev
    np.testing.assert_array_equal(write, np.abs(layer.c - kept) >= 0.1)
    np.testing.assert_array_equal(erase, np.abs(layer.c_prev - kept) >= 0.1)
    assert write.any()
    assert not write.all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_of_a_cells_gradient_add_up_and_follow_their_edges(kind, rng):
    layer = layer_of(kind, rng)[-1]
    output, cell, recurrent = diagnostics.gradient_paths(layer)
    np.testing.assert_allclose(output + cell + recurrent, layer.d_c, atol=1e-15)
    order = slice(None, None, -1 if layer.reverse else 1)
    output, cell, recurrent, d_c, f = (part[order] for part in (output, cell, recurrent, layer.d_c, layer.f))
    np.testing.assert_array_equal(cell[-1], 0)  # no step comes after the last one
    if not layer.options.peepholes:
        np.testing.assert_array_equal(recurrent[-1], 0)
        np.testing.assert_allclose(output[-1], d_c[-1], atol=1e-15)
    if not layer.options.zoneout_cell:
        np.testing.assert_allclose(cell[:-1], f[1:] * d_c[1:], atol=1e-15)


def test_the_parts_of_some_steps_are_those_of_the_whole_sequence(rng):
    trace = layer_of("plain", rng)[0].trace(rng.normal(size=(T, I)), rng.normal(size=(T, H)))
    whole, some = diagnostics.gradient_paths(trace.layer[0]), diagnostics.gradient_paths(trace[2:5].layer[0])
    for expected, part in zip(whole, some, strict=True):
        np.testing.assert_array_equal(part, expected[2:5])


def test_the_path_along_the_cell_includes_later_recurrent_gradients(rng):
    """With W_h of one unit into another, and a target at the last step alone, the first unit gets it along its cell."""
    lstm = gc.LSTM(1, 2, dtype=np.float64, forget_bias=0)
    kernel = lstm.parameters["kernel_l0"]
    kernel[:] = 0
    kernel[6:, 2], kernel[2:4, -1] = 0.3, 6.0  # candidates read x; both cells keep what they hold
    kernel[7, 0] = 0.5  # and the second one reads the h of the first
    d_outputs = np.zeros((T, 2))
    d_outputs[-1, 1] = 1.0
    output, cell, recurrent = diagnostics.gradient_paths(lstm.trace(np.ones((T, 1)), d_outputs=d_outputs).layer[0])
    assert not output[:, 0].any()  # the first unit's output is not asked for
    assert (np.abs(recurrent[:-1, 0]) > 0).all()
    assert not cell[-2:, 0].any()  # it enters the first cell at the last step but one
    assert (np.abs(cell[:-4, 0]) > np.abs(recurrent[:-4, 0])).all()  # further back, most of it comes along the cell


@pytest.mark.parametrize("kind", KINDS)
def test_with_constant_gates_the_gradient_is_that_along_the_cell(kind, rng):
    """If no gate and candidate moves, a change of a cell reaches the outputs along the cells alone."""
    lstm, _, _, layer = layer_of(kind, rng)
    output, k = diagnostics.gradient_paths(layer).output, 1 - lstm.options.zoneout_cell
    options, order = lstm.options, slice(None, None, -1 if lstm.options.reverse else 1)
    cell, later = np.empty_like(output), np.zeros(H)
    for t in reversed(range(T)):
        at = order.step * t if order.step == 1 else T - 1 - t
        cell[at] = output[at] + k * later
        later = (1 - k) * later + layer.f[at] * cell[at]
    i, f, o, g, c_prev, d_y = (getattr(layer, name)[order] for name in ("i", "f", "o", "g", "c_prev", "d_y"))
    weight = layer.weights.get("projection", np.eye(H))

    def shown(at, unit, change):
        """What the outputs add to the loss to first order, when the new cell of a step is changed."""
        c, total = c_prev[0], 0.0
        for t in range(T):
            new = f[t] * c + i[t] * g[t] + (t == at) * change * np.eye(H)[unit]
            c = options.zoneout_cell * c + (1 - options.zoneout_cell) * new
            m = (1 - options.zoneout) * o[t] * options.cell_config.output.function(new)
            total += d_y[t] @ (weight @ m)
        return total

    for t, unit in ((0, 0), (2, 3), (T - 1, 1)):
        numeric = (shown(t, unit, 1e-5) - shown(t, unit, -1e-5)) / 2e-5
        assert cell[order][t, unit] == pytest.approx(numeric, abs=1e-9)


def test_without_recurrent_weights_the_recurrent_part_is_0(rng):
    lstm = gc.LSTM(I, H, dtype=np.float64)
    lstm.parameters["kernel_l0"][:, :H] = 0
    layer = lstm.trace(rng.normal(size=(T, I)), rng.normal(size=(T, H))).layer[0]
    parts = diagnostics.gradient_paths(layer)
    np.testing.assert_array_equal(parts.recurrent, 0)
    np.testing.assert_allclose(parts.output + parts.cell, layer.d_c, rtol=1e-12)
    norms = diagnostics.gradient_norms(layer)
    assert (norms.output + norms.cell > norms.c * 1.001).any()  # norms of parts do not add up
    np.testing.assert_allclose(norms.x, np.sqrt((layer.d_x**2).sum(axis=1)), rtol=1e-14)


@pytest.mark.parametrize("norm", ["haste", "contrib"])
def test_a_normalized_cell_has_no_paths(norm, rng):
    layer = layer_of("plain", rng, layer_norm=norm)[-1]
    with pytest.raises(ValueError, match="gradient paths of a unit are not defined"):
        diagnostics.gradient_paths(layer)


@loop_over("kind", [*KINDS, "haste"])
@loop_over("t", [0, 3, -1])
def test_the_jacobian_is_finite_differences(kind, t, rng):
    lstm, x, _, layer = layer_of(kind, rng, **({"layer_norm": "haste"} if kind == "haste" else {}))
    P = layer.h.shape[1]
    state = np.concatenate([layer.h_prev[t], layer.c_prev[t]])
    epsilon = 1e-6 if state[:P].any() else 1e-8  # a state of 0 that is normalised is steep

    def after(state):
        _, end = lstm.infer(x[t][None], gc.LSTMState(state[None, :P], state[None, P:]))
        return np.concatenate([end.h[0], end.c[0]])

    columns = [(after(state + epsilon * d) - after(state - epsilon * d)) / (2 * epsilon) for d in np.eye(len(state))]
    np.testing.assert_allclose(diagnostics.jacobian(layer, t), np.array(columns).T, rtol=1e-6, atol=2e-8)


def test_the_spectral_radius_of_independent_units_is_their_forget_gate(rng):
    lstm = gc.LSTM(I, H, dtype=np.float64)
    lstm.parameters["kernel_l0"][:, :H] = 0
    layer = lstm.trace(rng.normal(size=(T, I))).layer[0]
    np.testing.assert_allclose(diagnostics.spectral_radii(layer), layer.f.max(axis=1), rtol=1e-12)


@pytest.mark.parametrize("chunk", [1, 10**9])
@pytest.mark.parametrize("kind", ["plain", "reverse", "zoneout"])
def test_the_vanishing_gradient_is_a_product_of_jacobians(kind, chunk, rng, monkeypatch):
    monkeypatch.setattr(diagnostics, "MAX_TAPE_VALUES", chunk)
    layer = layer_of(kind, rng)[-1]
    lstm_curve, rnn_curve = diagnostics.gradient_decay(layer)
    assert lstm_curve[0] == rnn_curve[0] == 1
    assert len(lstm_curve) == len(rnn_curve) == T
    assert (rnn_curve[1:] < rnn_curve[:-1]).all()  # an orthogonal matrix, and slopes below 1
    if kind != "plain":
        return
    J, norms = np.eye(2 * H)[:H], []
    for t in reversed(range(T)):
        norms.append(np.linalg.norm(J[:, H:] + J[:, :H] * (layer.o[t] * (1 - layer.tanh_c[t] ** 2))))
        J = J @ diagnostics.jacobian(layer, t)
    np.testing.assert_allclose(lstm_curve, np.array(norms) / norms[0], rtol=1e-10)


MEASURES = {
    "events": diagnostics.events,
    "gradient_paths": diagnostics.gradient_paths,
    "gradient_norms": diagnostics.gradient_norms,
    "jacobian": lambda layer: diagnostics.jacobian(layer, 0),
    "spectral_radii": diagnostics.spectral_radii,
    "vanishing": diagnostics.gradient_decay,
}


@loop_over("measure", MEASURES.values(), ids=MEASURES)
def test_a_batch_raises_an_error_with_a_remedy(measure, rng):
    lstm = gc.LSTM(I, H, seed=1)
    trace = lstm.trace(rng.normal(size=(2, T, I)), rng.normal(size=(2, T, H)), lengths=[T, 3])
    with pytest.raises(ValueError, match=r"^layer must have .* got a batch: choose trace\.sequence\(b\)$"):
        measure(trace.layer[0])
    measure(trace.sequence(1).layer[0])
    for part in (trace.sequence(0)[2].layer[0], trace.sequence(0).unit(2)):
        with pytest.raises(ValueError, match=r"^layer must have .* got one step or one unit"):
            measure(part)
